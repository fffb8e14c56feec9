//! Values of rules that are series of their own: `record = "…"` in a rule.
//!
//! They are shown and kept on disk like samples, but no rule reads them: a round has one order, and who is judged
//! by what was judged in it would have to wait for the next.

use super::view::FamilyView;
use crate::plugin::Generation;
use crate::sandbox::types::FamilyKind;
use std::collections::BTreeMap;
use std::sync::Arc;
use watchfire_engine::input::{Observation, RuleRound, Seen};
use watchfire_engine::model::{Labels, ProbeId, RuleId, Series};

/// The newest values, by rule and labels of the instance.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    rules: BTreeMap<RuleId, Rule>,
}

#[derive(Debug)]
struct Rule {
    metric: Arc<str>,
    /// Of the rule and its id, added to those of the instance.
    labels: Labels,
    /// As many as the rule may have instances.
    most: usize,
    values: BTreeMap<Labels, (Series, f64)>,
}

/// The name under which the values of a rule are kept on disk. No probe can have it: ids have no `/`.
pub(super) fn kept_as(rule: &RuleId) -> ProbeId {
    ProbeId::new(format!("rule/{rule}"))
}

impl Recorded {
    /// Takes up a generation: rules that record as before keep their values.
    pub(super) fn take_up(&mut self, generation: &Generation) {
        let mut old = std::mem::take(&mut self.rules);
        let policies = &generation.config.policy.rules;
        for live in &generation.rules {
            let Some(metric) = live.config.record.clone() else {
                continue;
            };
            let id = &live.config.id;
            let Some(policy) = policies.iter().find(|policy| policy.id == *id) else {
                continue;
            };
            let Ok(own) = Labels::new([("rule", id.as_str())]) else {
                continue;
            };
            let labels = policy.labels.with(&own);
            let values = old
                .remove(id)
                .filter(|before| before.metric == metric && before.labels == labels)
                .map_or_else(BTreeMap::new, |before| before.values);
            let rule = Rule {
                metric,
                labels,
                most: policy.max_instances,
                values,
            };
            self.rules.insert(id.clone(), rule);
        }
    }

    /// Takes in what a rule said of its instances; none: it records nothing. What it knows nothing of, or what is
    /// no longer there, has no value; an instance of which this round says nothing keeps its own.
    pub(super) fn take(&mut self, round: &RuleRound) -> Option<Vec<(Series, f64)>> {
        let rule = self.rules.get_mut(&round.rule)?;
        let Ok(observations) = &round.result else {
            rule.values.clear();
            return Some(Vec::new());
        };
        let mut new = Vec::new();
        for Observation {
            instance,
            seen,
            value,
            ..
        } in observations
        {
            if *seen != Seen::Value || value.is_nan() {
                rule.values.remove(&instance.labels);
                continue;
            }
            if rule.values.len() >= rule.most && !rule.values.contains_key(&instance.labels) {
                continue;
            }
            let series = Series {
                metric: rule.metric.clone(),
                labels: instance.labels.with(&rule.labels),
            };
            new.push((series.clone(), *value));
            rule.values
                .insert(instance.labels.clone(), (series, *value));
        }
        Some(new)
    }

    /// Adds the values to the metrics that probes yield.
    pub(super) fn add_to(&self, families: &mut Vec<FamilyView>) {
        for (id, rule) in &self.rules {
            if rule.values.is_empty() {
                continue;
            }
            let points = rule.values.values().cloned();
            match families.iter_mut().find(|f| f.metric == rule.metric) {
                Some(family) => family.points.extend(points),
                None => families.push(FamilyView {
                    metric: rule.metric.clone(),
                    kind: FamilyKind::Gauge,
                    help: format!("The value that the rule {id} judges.").into(),
                    points: points.collect(),
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_engine::model::Instance;

    fn recorded(most: usize) -> Recorded {
        let rule = Rule {
            metric: "left".into(),
            labels: Labels::new([("rule", "r"), ("team", "a")]).expect("labels"),
            most,
            values: BTreeMap::new(),
        };
        Recorded {
            rules: BTreeMap::from([(RuleId::new("r"), rule)]),
        }
    }

    fn round(of: &str, instances: &[(&str, Seen, f64)]) -> RuleRound {
        let observations = instances.iter().map(|(device, seen, value)| {
            let labels = Labels::new([("device", *device)]).expect("labels");
            Observation {
                instance: Arc::new(Instance::new(RuleId::new(of), labels)),
                seen: *seen,
                breached: None,
                value: *value,
                limit: f64::NAN,
                note: None,
                memory: None,
            }
        });
        RuleRound {
            rule: RuleId::new(of),
            every: std::time::Duration::from_secs(10),
            result: Ok(observations.collect()),
        }
    }

    fn shown(recorded: &Recorded) -> Vec<String> {
        let mut families = Vec::new();
        recorded.add_to(&mut families);
        let points = families.iter().flat_map(|family| &family.points);
        points
            .map(|(series, value)| format!("{series} {value}"))
            .collect()
    }

    #[test]
    fn an_instance_has_its_newest_value_until_it_has_none() {
        let mut recorded = recorded(9);
        let nan = f64::NAN;
        let first = [
            ("a", Seen::Value, 1.0),
            ("b", Seen::Value, 2.0),
            ("c", Seen::Value, 3.0),
        ];
        assert_eq!(
            recorded.take(&round("r", &first)).map(|new| new.len()),
            Some(3)
        );
        let next = [("a", Seen::Value, 0.5), ("b", Seen::Absent, nan)];
        assert_eq!(
            recorded.take(&round("r", &next)).map(|new| new.len()),
            Some(1)
        );
        assert_eq!(
            shown(&recorded),
            [
                "left{device=\"a\",rule=\"r\",team=\"a\"} 0.5",
                "left{device=\"c\",rule=\"r\",team=\"a\"} 3"
            ]
        );
        recorded.take(&round(
            "r",
            &[("a", Seen::Value, nan), ("c", Seen::Unknown, nan)],
        ));
        assert_eq!(shown(&recorded), [""; 0]);
    }

    #[test]
    fn there_are_no_more_values_than_the_rule_may_have_instances() {
        let mut recorded = recorded(1);
        let two = [("a", Seen::Value, 1.0), ("b", Seen::Value, 2.0)];
        assert_eq!(
            recorded.take(&round("r", &two)).map(|new| new.len()),
            Some(1)
        );
        assert_eq!(
            shown(&recorded),
            ["left{device=\"a\",rule=\"r\",team=\"a\"} 1"]
        );
        assert_eq!(recorded.take(&round("another", &two)), None);
    }

    #[test]
    fn a_rule_that_failed_has_no_values() {
        let mut recorded = recorded(9);
        recorded.take(&round("r", &[("a", Seen::Value, 1.0)]));
        let failed = RuleRound {
            result: Err("it trapped".into()),
            ..round("r", &[])
        };
        assert_eq!(recorded.take(&failed), Some(Vec::new()));
        assert_eq!(shown(&recorded), [""; 0]);
    }
}
