//! What the history refused of a probe's answers, told once and not once a round.
//!
//! In goes what became of each answer, out comes a condition where that is news: `watchfire_series_refused` with the
//! label `probe`, on while samples are refused and off with the first answer of which all were taken.

use crate::store::history::{Absorbed, History};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use watchfire_engine::input::Condition;
use watchfire_engine::model::{Instance, Labels, ProbeId, RuleId, Severity};

/// The meta-alert.
const META: &str = "watchfire_series_refused";

/// Why samples of a probe are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Why {
    over_limit: bool,
    duplicates: bool,
}

/// What was told of each probe.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: BTreeMap<ProbeId, Why>,
}

impl Refusals {
    /// The condition of `probe` after an answer; none: nothing new. The first answer after a start is always news,
    /// for the engine may still hold what was told before it.
    pub(super) fn take(
        &mut self,
        probe: &ProbeId,
        absorbed: &Absorbed,
        history: &History,
    ) -> Option<Condition> {
        let why = Why {
            over_limit: absorbed.over_limit > 0,
            duplicates: absorbed.duplicates > 0,
        };
        if self.told.insert(probe.clone(), why) == Some(why) {
            return None;
        }
        let summary = match words(probe, why, absorbed, history) {
            Some(words) => {
                tracing::warn!(probe = %probe, over_limit = absorbed.over_limit, duplicates = absorbed.duplicates, "{words}");
                words
            }
            None => "all series are taken".into(),
        };
        Some(condition(probe, why != Why::default(), summary.into()))
    }

    /// Ends what is on of probes that are no more.
    pub(super) fn take_up(&mut self, probes: &HashSet<ProbeId>) -> Vec<Condition> {
        let mut ended = Vec::new();
        self.told.retain(|probe, why| {
            let stays = probes.contains(probe);
            if !stays && *why != Why::default() {
                ended.push(condition(probe, false, "the probe is gone".into()));
            }
            stays
        });
        ended
    }
}

fn condition(probe: &ProbeId, active: bool, summary: Arc<str>) -> Condition {
    let labels = Labels::new([("probe", probe.as_str())]).expect("`probe` is a label name");
    Condition {
        alert: Arc::new(Instance::new(RuleId::new(META), labels)),
        severity: Severity::Warning,
        active,
        summary,
    }
}

/// What is refused, and what to do; none: nothing is. Without counts, which change every round.
fn words(probe: &ProbeId, why: Why, absorbed: &Absorbed, history: &History) -> Option<String> {
    let mut words = Vec::new();
    if why.over_limit {
        words.push(format!(
            "probe {:?} has {} series and yields new ones, which are not taken: drop the label that keeps changing (an id, a time), or split the probe",
            probe.as_str(),
            history.series_per_probe()
        ));
    }
    if why.duplicates {
        let first = absorbed.first_duplicate;
        let series = first.and_then(|id| history.series(id));
        let owner = first.and_then(|id| history.probe(id));
        words.push(match (series, owner) {
            (Some(series), Some(owner)) => format!(
                "probe {:?} yields {series}, which is probe {:?}'s: the first one's samples count; give one of them a label of its own with `labels = {{ … }}`",
                probe.as_str(),
                owner.as_str()
            ),
            _ => format!(
                "probe {:?} yields series of another probe: the first one's samples count",
                probe.as_str()
            ),
        });
    }
    (!words.is_empty()).then(|| words.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::types::{Collection, Family, FamilyKind, Point};
    use crate::store::history::Limits;
    use std::time::Duration;
    use watchfire_engine::model::{Moment, Series};

    fn answer(labels: &[&str]) -> Collection {
        let point = |label: &&str| Point {
            series: Series {
                metric: "m".into(),
                labels: Labels::new([("n", *label)]).unwrap(),
            },
            value: 1.0,
        };
        Collection {
            families: vec![Family {
                metric: "m".into(),
                kind: FamilyKind::Gauge,
                help: "".into(),
                points: labels.iter().map(point).collect(),
            }],
            failures: Vec::new(),
        }
    }

    #[test]
    fn each_reason_is_told_once_and_ends() {
        let mut history = History::new(Limits {
            series_per_probe: 2,
            ..Limits::default()
        });
        let mut refusals = Refusals::default();
        let mut at = 0;
        let mut take = |probe: &str, labels: &[&str]| {
            at += 10;
            let probe = ProbeId::new(probe);
            let at = Moment::default() + Duration::from_secs(at);
            let absorbed = history.absorb(&probe, at, &answer(labels), &Labels::default());
            let condition = refusals.take(&probe, &absorbed, &history)?;
            Some((condition.active, condition.summary.to_string()))
        };
        assert!(!take("a", &["1"]).unwrap().0, "told after a start");
        assert_eq!(take("a", &["1", "2"]), None);
        let (active, words) = take("a", &["1", "2", "3"]).unwrap();
        assert!(
            active && words.contains("has 2 series and yields new ones"),
            "{words}"
        );
        assert_eq!(
            take("a", &["1", "2", "4"]),
            None,
            "other newcomers, the same reason"
        );
        let (active, words) = take("b", &["1", "x"]).unwrap();
        assert!(active, "{words}");
        assert!(
            words.starts_with("probe \"b\" yields m{n=\"1\"}, which is probe \"a\"'s: "),
            "{words}"
        );
        assert!(!take("a", &["1"]).unwrap().0);
        let gone = refusals.take_up(&HashSet::from([ProbeId::new("a")]));
        assert_eq!(gone.len(), 1);
        assert!(!gone[0].active);
    }
}
