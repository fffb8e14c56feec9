//! One scenario in the world of `watchfire test`, with a native threshold rule in the place of rule
//! components.

use super::config::{Config, RawRule, merge};
use super::judge;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};
use watchfire_engine::State;
use watchfire_engine::input::{Observation, RuleRound, Seen};
use watchfire_engine::model::{Instance, Now, ProbeId, RuleId, Series};
use watchfire_engine::pace::Adaptive;
use watchfire_simulate::{Answer, Judges, Outcome, Scenario, Setup, Test};

/// Runs one test; `base` is the configuration that its file shares.
pub(crate) fn run(base: &Table, test: &Test<'_>) -> Outcome {
    let mut tables = test.config.map(table).unwrap_or_default();
    tables = merge(base, &tables);
    let mut configs = vec![Config::read(&tables)];
    for changed in test.reloads() {
        // Each table that is named takes the place of the running one.
        tables.extend(table(changed));
        configs.push(Config::read(&tables));
    }
    let setups: Vec<Setup> = configs.iter().map(setup).collect();
    let judges = Native {
        configs: &configs,
        config: 0,
        series: Vec::new(),
    };
    Scenario::new(test, &setups, judges).run()
}

fn setup(config: &Config) -> Setup {
    let defaults = &config.defaults;
    Setup {
        policy: Arc::new(config.policy()),
        every: defaults
            .every
            .map_or(Duration::from_secs(10), |every| every.0),
        adaptive: defaults.adaptive.as_ref().map(|adaptive| Adaptive {
            min: adaptive.min.0,
            max: adaptive.max.0,
            calm: adaptive.calm,
            grow: adaptive.grow,
            shrink: adaptive.shrink,
        }),
    }
}

/// Tables without their places.
fn table(from: &DeTable<'_>) -> Table {
    let entries = from.iter();
    entries
        .map(|(key, entry)| (key.get_ref().to_string(), value(entry.get_ref())))
        .collect()
}

fn value(from: &DeValue<'_>) -> Value {
    match from {
        DeValue::Table(inner) => Value::Table(table(inner)),
        DeValue::Array(all) => Value::Array(all.iter().map(|item| value(item.get_ref())).collect()),
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Integer(number) => Value::Integer(number.as_str().parse().expect("an integer")),
        DeValue::Float(number) => Value::Float(number.as_str().parse().expect("a number")),
        DeValue::Datetime(date) => Value::Datetime(*date),
    }
}

/// Threshold rules without a component.
struct Native<'a> {
    configs: &'a [Config],
    config: usize,
    /// Every series that ever answered, as it did last, with its history.
    series: Vec<(Series, Answer, judge::History)>,
}

impl Judges for Native<'_> {
    fn take_up(&mut self, config: usize) {
        self.config = config;
    }

    /// The history outlives the process: it is on disk.
    fn restart(&mut self, _: &State) {}

    fn collected(&mut self, _: &ProbeId, at: Now, answers: &[(&Series, Answer)]) {
        let now = at.at.0;
        for (series, answer) in answers {
            let known = self.series.iter().position(|(known, ..)| known == *series);
            let place = match (known, answer) {
                (Some(place), _) => place,
                (None, Answer::Value(_)) => {
                    self.series.push(((*series).clone(), *answer, Vec::new()));
                    self.series.len() - 1
                }
                (None, _) => continue,
            };
            let (_, last, history) = &mut self.series[place];
            *last = *answer;
            if let Answer::Value(value) = answer
                && !value.is_nan()
            {
                history.push((now, *value));
            }
        }
    }

    fn judge(
        &mut self,
        ran: &BTreeMap<ProbeId, Duration>,
        at: Now,
        state: &State,
        trapped: &BTreeSet<RuleId>,
    ) -> Vec<RuleRound> {
        let rules = self.configs[self.config].rule.iter();
        rules
            .filter_map(|rule| {
                let every = *ran.get(rule.metric.as_deref()?)?;
                let id = RuleId::new(rule.id.as_str());
                Some(RuleRound {
                    result: if trapped.contains(&id) {
                        Err("the component trapped".into())
                    } else {
                        Ok(self.observe(rule, &id, state, at.at.0))
                    },
                    rule: id,
                    every,
                })
            })
            .collect()
    }

    fn worried(&mut self, state: &State) -> BTreeSet<ProbeId> {
        let not_ok = state.not_ok();
        let rules = self.configs[self.config].rule.iter();
        rules
            .filter(|rule| not_ok.contains(rule.id.as_str()))
            .filter_map(|rule| Some(ProbeId::new(rule.metric.as_deref()?)))
            .collect()
    }
}

impl Native<'_> {
    fn observe(&self, rule: &RawRule, id: &RuleId, state: &State, now: u64) -> Vec<Observation> {
        let active: BTreeMap<_, _> = state.active(id).into_iter().collect();
        let mut observations = Vec::new();
        for (series, answer, history) in &self.series {
            let matched = rule
                .matcher
                .iter()
                .all(|(k, v)| series.labels.get(k) == Some(v));
            if Some(&*series.metric) != rule.metric.as_deref() || !matched {
                continue;
            }
            let instance = Arc::new(Instance::new(id.clone(), series.labels.clone()));
            let active = active
                .get(&instance.fingerprint)
                .copied()
                .unwrap_or_default();
            let value = judge::input(rule, history, *answer, now);
            observations.push(Observation {
                seen: match answer {
                    Answer::Value(value) if !value.is_nan() => Seen::Value,
                    Answer::Absent => Seen::Absent,
                    Answer::Value(_) | Answer::Error => Seen::Unknown,
                },
                breached: value.map(|value| judge::verdict(&rule.config, value, active)),
                value: value.unwrap_or(f64::NAN),
                limit: f64::NAN,
                note: None,
                memory: None,
                instance,
            });
        }
        // In the order of series, as the agent judges them.
        observations.sort_by(|a, b| a.instance.labels.cmp(&b.instance.labels));
        observations
    }
}
