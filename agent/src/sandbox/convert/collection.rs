//! The answer of a probe.

use super::{NAME_BYTES_MAX, cut_owned};
use crate::sandbox::bindings::probe::exports::watchfire::plugin::probe as guest;
use crate::sandbox::types::{CallError, Collection, Family, FamilyKind, Limits, Point};
use std::collections::HashSet;
use std::sync::Arc;
use watchfire_engine::model::{Labels, Series, is_metric_name};

/// Labels of one point.
const LABELS_MAX: usize = 32;
/// Bytes of a label's value.
const VALUE_BYTES_MAX: usize = 1 << 10;
/// Bytes of a help text; the rest is cut.
const HELP_BYTES_MAX: usize = 1 << 10;
/// Failures that are kept beside the samples.
const FAILURES_MAX: usize = 100;

/// Checks names, bounds, and that no series stands twice. NaN and infinities are values.
///
/// # Errors
/// `BadResult` for the whole answer: half an answer would look like series that ended.
pub(crate) fn collection(
    answer: guest::Collection,
    limits: &Limits,
) -> Result<Collection, CallError> {
    let samples: usize = answer
        .families
        .iter()
        .map(|family| family.points.len())
        .sum();
    if samples > limits.samples || answer.families.len() > limits.samples {
        return Err(bad(format!(
            "it has {samples} samples in {} families, more than {}",
            answer.families.len(),
            limits.samples
        )));
    }
    let families: Vec<Family> = answer
        .families
        .into_iter()
        .map(family)
        .collect::<Result<_, _>>()?;

    let mut names = HashSet::with_capacity(families.len());
    let mut series = HashSet::with_capacity(samples);
    for family in &families {
        if !names.insert(&*family.metric) {
            return Err(bad(format!("metric {} stands twice", family.metric)));
        }
        for point in &family.points {
            if !series.insert(&point.series) {
                return Err(bad(format!("series {} stands twice", point.series)));
            }
        }
    }
    let failures = answer.failures.into_iter().take(FAILURES_MAX);
    Ok(Collection {
        failures: failures.map(CallError::from).collect(),
        families,
    })
}

fn family(family: guest::Family) -> Result<Family, CallError> {
    let metric: Arc<str> = metric(family.metric)?;
    let points = family
        .points
        .into_iter()
        .map(|of| point(&metric, of))
        .collect::<Result<_, _>>()?;
    Ok(Family {
        kind: match family.kind {
            guest::Kind::Gauge => FamilyKind::Gauge,
            guest::Kind::Counter => FamilyKind::Counter,
            guest::Kind::Histogram => FamilyKind::Histogram,
            guest::Kind::Summary => FamilyKind::Summary,
            guest::Kind::Untyped => FamilyKind::Untyped,
        },
        help: cut_owned(family.help, HELP_BYTES_MAX).into(),
        points,
        metric,
    })
}

fn point(metric_of_family: &Arc<str>, point: guest::Point) -> Result<Point, CallError> {
    let metric = if point.suffix.is_empty() {
        Arc::clone(metric_of_family)
    } else {
        metric(format!("{metric_of_family}{}", point.suffix))?
    };
    if point.labels.len() > LABELS_MAX {
        return Err(bad(format!(
            "a point of {metric} has {} labels, more than {LABELS_MAX}",
            point.labels.len()
        )));
    }
    for (name, value) in &point.labels {
        let (what, bytes_max) = if name.len() > NAME_BYTES_MAX {
            ("name", NAME_BYTES_MAX)
        } else if value.len() > VALUE_BYTES_MAX {
            ("value", VALUE_BYTES_MAX)
        } else {
            continue;
        };
        return Err(bad(format!(
            "a label of {metric} has a {what} of more than {bytes_max} bytes"
        )));
    }
    let labels =
        Labels::new(point.labels).map_err(|error| bad(format!("a point of {metric}: {error}")))?;
    Ok(Point {
        series: Series { metric, labels },
        value: point.value,
    })
}

fn metric(name: String) -> Result<Arc<str>, CallError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(bad(format!(
            "a metric has a name of more than {NAME_BYTES_MAX} bytes"
        )));
    }
    if !is_metric_name(&name) {
        return Err(bad(format!(
            "metric name {name:?} does not follow [a-zA-Z_:][a-zA-Z0-9_:]*"
        )));
    }
    Ok(name.into())
}

fn bad(text: String) -> CallError {
    CallError::BadResult(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::types::Kind;

    fn point(labels: &[(&str, &str)], value: f64) -> guest::Point {
        guest::Point {
            suffix: String::new(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            value,
        }
    }

    fn family(metric: &str, points: Vec<guest::Point>) -> guest::Family {
        guest::Family {
            metric: metric.to_owned(),
            kind: guest::Kind::Gauge,
            help: "h".repeat(2000),
            points,
        }
    }

    fn check(families: Vec<guest::Family>) -> Result<Collection, String> {
        let answer = guest::Collection {
            families,
            failures: Vec::new(),
        };
        collection(answer, &Limits::of(Kind::Probe)).map_err(|error| match error {
            CallError::BadResult(text) => text,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn hostile_text_survives_in_values() {
        let hostile = "\x1b[31m<script>\"\\\n\u{202e}\0";
        let good = check(vec![family(
            "a:b",
            vec![point(&[("l", hostile)], f64::NAN)],
        )])
        .unwrap();
        let point = &good.families[0].points[0];
        assert_eq!(point.series.labels.get("l"), Some(hostile));
        assert!(point.value.is_nan());
        assert_eq!(good.families[0].help.len(), HELP_BYTES_MAX);
    }

    #[test]
    fn numbers_pass_as_they_are() {
        for value in [f64::INFINITY, -0.0, 1e308, f64::MIN_POSITIVE / 2.0] {
            let good = check(vec![family("m", vec![point(&[], value)])]).unwrap();
            assert_eq!(good.families[0].points[0].value.to_bits(), value.to_bits());
        }
    }

    #[test]
    fn answers_that_break_the_model_are_refused_whole() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let many: Vec<(String, String)> = (0..=LABELS_MAX)
            .map(|n| (format!("l{n}"), String::new()))
            .collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (&**k, &**v)).collect();
        let value = "v".repeat(VALUE_BYTES_MAX + 1);
        for (families, why) in [
            (
                vec![family("1a", vec![])],
                "metric name \"1a\" does not follow",
            ),
            (vec![family("", vec![])], "metric name \"\" does not follow"),
            (
                vec![family(&long, vec![])],
                "a metric has a name of more than 128 bytes",
            ),
            (
                vec![family("m", vec![point(&[("a:b", "")], 0.0)])],
                "label name \"a:b\"",
            ),
            (
                vec![family("m", vec![point(&[("a", ""), ("a", "")], 0.0)])],
                "label \"a\" is given twice",
            ),
            (
                vec![family("m", vec![point(&[(&long, "")], 0.0)])],
                "a name of more than 128 bytes",
            ),
            (
                vec![family("m", vec![point(&[("a", &value)], 0.0)])],
                "a value of more than 1024 bytes",
            ),
            (
                vec![family("m", vec![point(&many, 0.0)])],
                "has 33 labels, more than 32",
            ),
            (
                vec![family("m", vec![point(&[], 0.0), point(&[], 1.0)])],
                "series m stands twice",
            ),
            (
                vec![family(
                    "m",
                    vec![
                        point(&[("a", "1"), ("b", "2")], 0.0),
                        point(&[("b", "2"), ("a", "1")], 0.0),
                    ],
                )],
                "series m{a=\"1\",b=\"2\"} stands twice",
            ),
            (
                vec![family("m", vec![]), family("m", vec![])],
                "metric m stands twice",
            ),
            (
                vec![family("m", (0..10_001).map(|_| point(&[], 0.0)).collect())],
                "it has 10001 samples in 1 families, more than 10000",
            ),
        ] {
            let refused = check(families).unwrap_err();
            assert!(refused.contains(why), "{refused:?} lacks {why:?}");
        }
    }

    #[test]
    fn a_suffix_makes_a_metric_of_its_own() {
        let mut bucket = point(&[("le", "1")], 3.0);
        bucket.suffix = "_bucket".into();
        let good = check(vec![family("h", vec![bucket])]).unwrap();
        assert_eq!(
            good.families[0].points[0].series.to_string(),
            "h_bucket{le=\"1\"}"
        );
        let mut wrong = point(&[], 0.0);
        wrong.suffix = "-x".into();
        assert!(check(vec![family("h", vec![wrong])]).is_err());
    }
}
