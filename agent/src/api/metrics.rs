//! `/metrics`: our own metrics, then the latest values of all series.

use super::Api;
use crate::pipeline::view::FamilyView;
use crate::sandbox::types::FamilyKind;
use crate::telemetry::exposition::{CONTENT_TYPE, Exposition};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use watchfire_engine::model::Series;

/// How long the evaluate stage may take to hand out its values: it answers between two rounds. A
/// scraper waits 10 s; an answer without the series is better than none.
const SERIES_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /metrics`, `GET /health/metrics`.
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let families = latest(&api).await;
    let mut out = Exposition::default();
    api.metrics.write(&mut out);
    let hidden = write_families(families, &mut out);
    // Shown at the next scrape: our own come first, so that no plugin can take their names.
    api.metrics.families_hidden.set_count(hidden);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], out.finish())
}

async fn latest(api: &Api) -> Vec<FamilyView> {
    let (reply, answer) = oneshot::channel();
    let ask = async {
        api.views.series.send(reply).await.ok()?;
        answer.await.ok()
    };
    let got = tokio::time::timeout(SERIES_TIMEOUT, ask).await;
    got.ok().flatten().unwrap_or_else(|| {
        tracing::warn!(
            "the evaluate stage did not hand out its series: /metrics shows our own only"
        );
        Vec::new()
    })
}

/// A family as the text shows it.
struct Shown {
    kind: FamilyKind,
    help: Arc<str>,
    points: Vec<(Series, f64)>,
}

/// Writes them by name; returns how many had to be left out because their name is taken.
fn write_families(families: Vec<FamilyView>, out: &mut Exposition) -> usize {
    // Two probes may yield one metric: its samples must stand together. The first one's type and help hold.
    let mut by_name: BTreeMap<String, Shown> = BTreeMap::new();
    for family in families {
        for (series, value) in family.points {
            let (name, kind) = place(&family.metric, family.kind, &series);
            by_name
                .entry(name)
                .or_insert_with(|| Shown {
                    kind,
                    help: family.help.clone(),
                    points: Vec::new(),
                })
                .points
                .push((series, value));
        }
    }
    let mut hidden = 0;
    for (name, mut shown) in by_name {
        if !out.family(&name, shown.kind, &shown.help) {
            hidden += 1;
            continue;
        }
        // Samples of one histogram must stand together, and no series twice.
        shown
            .points
            .sort_by(|(a, _), (b, _)| group(a).cmp(&group(b)));
        let mut seen = HashSet::new();
        for (series, value) in &shown.points {
            if seen.insert(series) {
                out.sample(&series.metric, series.labels.iter(), *value);
            }
        }
    }
    hidden
}

/// The family under which a sample is shown. The text format wants a sample to be named like its
/// family, but for the parts of histograms and summaries.
fn place(metric: &str, kind: FamilyKind, series: &Series) -> (String, FamilyKind) {
    let suffix = series.metric.strip_prefix(metric);
    let part = |label: &str| series.labels.get(label).is_some();
    let belongs = match (kind, suffix) {
        (FamilyKind::Histogram, Some("_bucket")) => part("le"),
        (FamilyKind::Histogram | FamilyKind::Summary, Some("_sum" | "_count")) => true,
        (FamilyKind::Summary, Some("")) => part("quantile"),
        (FamilyKind::Histogram | FamilyKind::Summary, _) => false,
        (_, _) => return (series.metric.to_string(), kind),
    };
    if belongs {
        (metric.to_owned(), kind)
    } else {
        (series.metric.to_string(), FamilyKind::Untyped)
    }
}

/// Sorts samples of one histogram or summary together: by labels without `le` and `quantile`, then
/// parts, then buckets upwards.
fn group(series: &Series) -> (watchfire_engine::model::Labels, &str, u64) {
    let rest = series.labels.without(&["le", "quantile"]);
    let bound = series.labels.get("le").or(series.labels.get("quantile"));
    let bound: f64 = bound
        .and_then(|b| b.parse().ok())
        .unwrap_or(f64::NEG_INFINITY);
    // Maps floats to integers of the same order.
    let bits = bound.to_bits();
    let order = if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    (rest, &series.metric, order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_engine::model::Labels;

    /// Name, labels, value.
    type Point<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

    fn family(metric: &str, kind: FamilyKind, points: &[Point<'_>]) -> FamilyView {
        FamilyView {
            metric: metric.into(),
            kind,
            help: "Help.".into(),
            points: points
                .iter()
                .map(|(name, labels, value)| {
                    let labels = Labels::new(labels.iter().copied()).unwrap();
                    let metric = (*name).into();
                    (Series { metric, labels }, *value)
                })
                .collect(),
        }
    }

    #[test]
    fn names_are_unique_parts_stand_together_and_ours_win() {
        let mut out = Exposition::default();
        assert!(out.family("watchfire_up", FamilyKind::Gauge, "Ours."));
        out.sample("watchfire_up", std::iter::empty(), 1.0);
        let hidden = write_families(
            vec![
                family(
                    "watchfire_up",
                    FamilyKind::Gauge,
                    &[("watchfire_up", &[], 0.0)],
                ),
                family("b", FamilyKind::Counter, &[("b_total", &[("x", "2")], 2.0)]),
                family("a", FamilyKind::Gauge, &[("a", &[], 1.0), ("a", &[], 9.0)]),
                family("b", FamilyKind::Gauge, &[("b_total", &[("x", "1")], 1.0)]),
                family(
                    "h",
                    FamilyKind::Histogram,
                    &[
                        ("h_count", &[], 2.0),
                        ("h_bucket", &[("le", "+Inf")], 2.0),
                        ("h_bucket", &[("le", "10")], 1.0),
                        ("h_bucket", &[("le", "9")], 1.0),
                        ("h_created", &[], 7.0),
                        ("h_sum", &[], 3.0),
                    ],
                ),
                family("h_sum", FamilyKind::Gauge, &[("h_sum", &[], 8.0)]),
            ],
            &mut out,
        );
        assert_eq!(hidden, 2, "watchfire_up and the gauge h_sum");
        assert_eq!(
            out.finish(),
            "# HELP watchfire_up Ours.\n# TYPE watchfire_up gauge\nwatchfire_up 1\n\
             # HELP a Help.\n# TYPE a gauge\na 1\n\
             # HELP b_total Help.\n# TYPE b_total counter\nb_total{x=\"1\"} 1\nb_total{x=\"2\"} 2\n\
             # HELP h Help.\n# TYPE h histogram\n\
             h_bucket{le=\"9\"} 1\nh_bucket{le=\"10\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\n\
             # HELP h_created Help.\n# TYPE h_created untyped\nh_created 7\n"
        );
    }
}
