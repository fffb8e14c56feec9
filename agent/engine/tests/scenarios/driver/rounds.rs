//! Rounds: when they come, what the simulated probes answer, what the native rule says.

use super::{Driver, ms};
use crate::config::{Adaptive, RawRule};
use crate::judge;
use crate::parse::Answer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::input::{Input, Observation, ProbeRun, Round, RuleRound, Seen};
use watchfire_engine::model::{Instance, ProbeId, RuleId};

impl Driver {
    pub(super) fn round(&mut self) {
        let due: Vec<String> = self
            .probes
            .iter()
            .filter(|(_, (at, ..))| *at <= self.now)
            .map(|(probe, _)| probe.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        self.rounds += 1;
        let mut round = Round::default();
        let slow = self.slow.take();
        if let Some(takes) = slow {
            self.busy_until = self.now + takes;
        }
        for probe in &due {
            let (at, every, _) = &mut self.probes.get_mut(probe).expect("a probe");
            *at = self.now + *every;
            let mut missed = 0;
            while *at < self.busy_until {
                *at += *every;
                missed += 1;
            }
            round.missed = round.missed.max(missed);
            let every = Duration::from_millis(*every);
            round.probes.push(self.collect(probe, every));
        }
        for rule in &self.config.rule {
            let Some(metric) = rule.metric.as_ref().filter(|metric| due.contains(metric)) else {
                continue;
            };
            let id = RuleId::new(rule.id.as_str());
            let every = Duration::from_millis(self.probes[metric].1);
            let trapped = self
                .traps
                .iter()
                .any(|(name, from, until)| *name == rule.id && (*from..*until).contains(&self.now));
            let result = if trapped {
                Err("the component trapped".into())
            } else {
                Ok(self.judge(rule, &id))
            };
            round.rules.push(RuleRound {
                rule: id,
                every,
                result,
            });
        }
        let failed = round.probes.iter().filter(|run| run.result.is_err());
        let failed: Vec<String> = failed.map(|run| run.probe.as_str().to_owned()).collect();
        self.feed(Input::Round(round));
        self.adapt(&due, &failed);
    }

    /// One turn of a probe: it fails where all its series do.
    fn collect(&mut self, probe: &str, every: Duration) -> ProbeRun {
        let secs = self.now as f64 / 1_000.0;
        let mut answered = false;
        for (at, series) in self.samples.iter().enumerate() {
            if series.metric != probe {
                continue;
            }
            let answer = series.at(secs);
            answered |= answer != Answer::Error;
            if let Answer::Value(value) = answer {
                self.seen.insert(at);
                if !value.is_nan() {
                    self.history[at].push((self.now, value));
                }
            }
        }
        ProbeRun {
            probe: ProbeId::new(probe),
            every,
            result: if answered {
                Ok(())
            } else {
                Err("the probe failed".into())
            },
        }
    }

    fn judge(&self, rule: &RawRule, id: &RuleId) -> Vec<Observation> {
        let secs = self.now as f64 / 1_000.0;
        let active: BTreeMap<_, _> = self.state.active(id).into_iter().collect();
        let mut observations = Vec::new();
        for (at, series) in self.samples.iter().enumerate() {
            let matched = rule
                .matcher
                .iter()
                .all(|(k, v)| series.labels.get(k) == Some(v));
            if Some(&series.metric) != rule.metric.as_ref() || !matched || !self.seen.contains(&at)
            {
                continue;
            }
            let answer = series.at(secs);
            let instance = Arc::new(Instance::new(id.clone(), series.labels.clone()));
            let active = active
                .get(&instance.fingerprint)
                .copied()
                .unwrap_or_default();
            let value = judge::input(rule, &self.history[at], answer, self.now);
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
        observations
    }

    /// Probes of rules that are not ok run faster, the others slower; one that failed as configured.
    fn adapt(&mut self, due: &[String], failed: &[String]) {
        let configured = self.config.defaults.every.map_or(10_000, ms);
        let Some(Adaptive {
            min,
            max,
            calm,
            grow,
            shrink,
        }) = self.config.defaults.adaptive.clone()
        else {
            return;
        };
        let not_ok = self.state.not_ok();
        for probe in due {
            let mut rules = self
                .config
                .rule
                .iter()
                .filter(|r| r.metric.as_ref() == Some(probe));
            let busy = rules.any(|rule| not_ok.contains(rule.id.as_str()));
            let (at, every, calm_rounds) = self.probes.get_mut(probe).expect("a probe");
            let before = *every;
            if failed.contains(probe) {
                *calm_rounds = 0;
                *every = configured;
            } else if busy {
                *calm_rounds = 0;
                *every = (*every / u64::from(shrink.max(1))).max(ms(min));
            } else {
                *calm_rounds += 1;
                if *calm_rounds > calm {
                    *every = (*every * u64::from(grow.max(1))).min(ms(max));
                }
            }
            *at = *at - before + *every;
        }
    }
}
