//! `[test.samples]`: series names and `value@seconds` lists.

use watchfire_engine::model::{Labels, Series, is_metric_name};

/// What a series answers at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// A number, NaN among them.
    Value(f64),
    /// `_`: the probe answers, and the series is not in its answer.
    Absent,
    /// `E`: the probe fails.
    Error,
}

/// One series and what it answers when.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Which.
    pub series: Series,
    /// By time.
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Step {
    answer: Answer,
    from_secs: f64,
    /// A second.
    growth: f64,
}

impl Samples {
    /// Reads `disk{d="0"}` and `50@0 85@20+0.5 _@40 E@50`.
    ///
    /// # Errors
    /// What cannot be understood, for people.
    pub fn parse(series: &str, text: &str) -> Result<Self, String> {
        let series = parse_series(series)?;
        let mut steps: Vec<Step> = Vec::new();
        for word in text.split_whitespace() {
            let step = parse_step(word).ok_or_else(|| {
                format!(
                    "{word:?} is no `value@seconds`, such as 50@0, 85@20+0.5, _@30, E@40 or NaN@50"
                )
            })?;
            if steps
                .last()
                .is_some_and(|last| last.from_secs >= step.from_secs)
            {
                return Err(format!("{word:?} is not later than the one before it"));
            }
            steps.push(step);
        }
        Ok(Samples { series, steps })
    }

    /// What it answers `at` seconds; absent before its first step.
    pub fn at(&self, at: f64) -> Answer {
        let after = self.steps.partition_point(|step| step.from_secs <= at);
        match after.checked_sub(1).map(|last| &self.steps[last]) {
            None => Answer::Absent,
            Some(step) => match step.answer {
                Answer::Value(value) => Answer::Value(value + step.growth * (at - step.from_secs)),
                other => other,
            },
        }
    }
}

fn parse_step(text: &str) -> Option<Step> {
    let (value, when) = text.split_once('@')?;
    let (from, growth) = match when.find(['+', '-']) {
        Some(sign) => when.split_at(sign),
        None => (when, "0"),
    };
    let answer = match value {
        "_" => Answer::Absent,
        "E" => Answer::Error,
        number => Answer::Value(number.parse().ok()?),
    };
    let from_secs: f64 = from.parse().ok()?;
    let growth: f64 = growth.parse().ok()?;
    let sound = from_secs.is_finite() && growth.is_finite();
    let grows = growth == 0.0 || matches!(answer, Answer::Value(_));
    (sound && grows).then_some(Step {
        answer,
        from_secs,
        growth,
    })
}

/// `disk{d="0",m="/"}`, as the timeline writes it.
fn parse_series(text: &str) -> Result<Series, String> {
    let wrong = || format!("{text:?} is no series: write cpu, or disk{{d=\"0\"}} in single quotes");
    let (metric, labels) = match text.split_once('{') {
        None => (text, None),
        Some((metric, rest)) => (metric, Some(rest.strip_suffix('}').ok_or_else(wrong)?)),
    };
    if !is_metric_name(metric) {
        return Err(wrong());
    }
    let mut pairs = Vec::new();
    let mut rest = labels.unwrap_or_default().trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(wrong)?;
        let after = after.trim_start().strip_prefix('"').ok_or_else(wrong)?;
        let (value, after) = quoted(after).ok_or_else(wrong)?;
        pairs.push((key.trim().to_owned(), value));
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').ok_or_else(wrong)?.trim_start();
        }
    }
    let labels = Labels::new(pairs).map_err(|error| format!("{text:?}: {error}"))?;
    Ok(Series {
        metric: metric.into(),
        labels,
    })
}

/// The text up to the closing quote, with `\"`, `\\` and `\n` undone, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_hold_until_the_next_and_grow() {
        let samples = Samples::parse("disk{d=\"0\"}", "50@0 85@20+0.5 _@30 E@40 NaN@50").unwrap();
        assert_eq!(samples.series.labels.get("d"), Some("0"));
        assert_eq!(samples.at(19.0), Answer::Value(50.0));
        assert_eq!(samples.at(24.0), Answer::Value(87.0));
        assert_eq!(samples.at(30.0), Answer::Absent);
        assert_eq!(samples.at(49.0), Answer::Error);
        assert!(matches!(samples.at(50.0), Answer::Value(value) if value.is_nan()));
        let later = Samples::parse("cpu", "1@10-0.1").unwrap();
        assert_eq!(later.at(9.0), Answer::Absent);
        assert_eq!(later.at(20.0), Answer::Value(0.0));
    }

    #[test]
    fn series_are_written_as_the_timeline_shows_them() {
        for (text, labels) in [
            ("cpu", vec![]),
            ("up{}", vec![]),
            (
                "d{a=\"x,y=\", b = \"\\\"q\\\"\"}",
                vec![("a", "x,y="), ("b", "\"q\"")],
            ),
        ] {
            let series = parse_series(text).unwrap();
            assert_eq!(series.labels.iter().collect::<Vec<_>>(), labels, "{text}");
        }
        for text in [
            "",
            "a b",
            "d{",
            "d{a}",
            "d{a=1}",
            "d{a=\"1\" b=\"2\"}",
            "d{a=\"1}",
            "d{1=\"1\"}",
        ] {
            assert!(parse_series(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "50",
            "x@0",
            "5@x",
            "5@10 6@10",
            "5@10 6@5",
            "_@0+1",
            "5@inf",
        ] {
            let word = text.split(' ').next_back().unwrap();
            let error = Samples::parse("cpu", text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
