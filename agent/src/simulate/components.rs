//! The judges of a test: the agent's own, fed by simulated probes.

use super::cases::Prepared;
use crate::pipeline::judges::{Active, Ask, Judges};
use crate::plugin::LiveRule;
use crate::sandbox::types::{Batch, CallError, Collection, Family, FamilyKind, Point, Verdicts};
use crate::store::history::{History, Limits};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use watchfire_engine::State;
use watchfire_engine::input::RuleRound;
use watchfire_engine::model::{Labels, Now, ProbeId, RuleId, Series};
use watchfire_simulate::Answer;

/// What a test's history keeps: everything. Tests last hours, and what counts is what the rule says, not
/// what a process of bounded memory makes of it.
const KEEP: Duration = Duration::from_secs(400 * 86_400);

/// The rules of one test.
#[derive(Debug)]
pub(super) struct Components<'t> {
    runtime: Handle,
    judges: Judges,
    prepared: &'t [Prepared],
    /// Which of them holds.
    config: usize,
    probes: HashSet<ProbeId>,
    /// Of each probe, which of its series answered at least once.
    seen: HashMap<ProbeId, Vec<bool>>,
}

impl<'t> Components<'t> {
    /// Rules over the simulated `probes`, whose calls run on `runtime`.
    pub(super) fn new(runtime: Handle, prepared: &'t [Prepared], probes: HashSet<ProbeId>) -> Self {
        let limits = Limits {
            keep_max: KEEP,
            forget_after: KEEP,
            ..Limits::default()
        };
        let history = History::new(limits);
        let mut judges = Judges::new(history, HashMap::new(), Active::default());
        // A window that a reload brings finds what was collected before it.
        judges.keep(prepared.iter().flat_map(|prepared| &prepared.rules));
        Components {
            runtime,
            judges,
            prepared,
            config: 0,
            probes,
            seen: HashMap::new(),
        }
    }
}

impl watchfire_simulate::Judges for Components<'_> {
    fn take_up(&mut self, config: usize) {
        self.config = config;
        let rules = &self.prepared[config].rules;
        self.judges.take_up(rules, &self.probes);
    }

    /// The samples outlive the process, for they are on disk; the rules' memory as far as it was
    /// committed.
    fn restart(&mut self, state: &State) {
        let rules = self.prepared[self.config].setup.policy.rules.iter();
        let memories = rules.map(|rule| (rule.id.clone(), state.memories(&rule.id)));
        self.judges.restart(memories.collect());
    }

    fn collected(&mut self, probe: &ProbeId, at: Now, answers: &[(&Series, Answer)]) {
        if answers.iter().all(|(_, answer)| *answer == Answer::Error) {
            self.judges.failed(probe, at.at);
            return;
        }
        let seen = self.seen.entry(probe.clone()).or_default();
        seen.resize(answers.len(), false);
        let mut points = Vec::with_capacity(answers.len());
        for ((series, answer), seen) in answers.iter().zip(seen) {
            let value = match answer {
                Answer::Value(value) => {
                    *seen = true;
                    *value
                }
                // Of several series one fails: that one alone is not known (decisions.md 17).
                Answer::Error if *seen => f64::NAN,
                Answer::Error | Answer::Absent => continue,
            };
            points.push(Point {
                series: (*series).clone(),
                value,
            });
        }
        let family = Family {
            metric: probe.as_str().into(),
            kind: FamilyKind::Gauge,
            help: "".into(),
            points,
        };
        let collection = Collection {
            families: vec![family],
            failures: Vec::new(),
        };
        self.judges
            .absorb(probe, at.at, &collection, &Labels::default());
    }

    fn judge(
        &mut self,
        ran: &BTreeMap<ProbeId, Duration>,
        at: Now,
        state: &State,
        trapped: &BTreeSet<RuleId>,
    ) -> Vec<RuleRound> {
        let rules = &self.prepared[self.config].setup.policy.rules;
        self.judges.settle(Active::of(state, rules));
        let called = Called { trapped };
        let mut round = self.runtime.block_on(self.judges.judge(&called, ran, at));
        // A rule that saw no series yet is asked each time; a test knows whose rounds are about it.
        round.retain(|judged| {
            let rule = rules.iter().find(|rule| rule.id == judged.rule);
            let probes = rule.map_or(&[][..], |rule| &rule.probes);
            probes.is_empty() || probes.iter().any(|probe| ran.contains_key(probe))
        });
        // A rule without an instance is not called, but one that traps does so in each of its rounds.
        for rule in &mut round {
            if rule.result.is_ok() && trapped.contains(&rule.rule) {
                rule.result = Err(simulated_trap().to_string().into());
            }
        }
        round
    }

    fn worried(&mut self, state: &State) -> BTreeSet<ProbeId> {
        let rules = &self.prepared[self.config].setup.policy.rules;
        let active = Active::of(state, rules);
        // Of a series that nobody has yielded yet, too, a test knows who would.
        let not_ok = rules.iter().filter(|rule| active.not_ok.contains(&rule.id));
        let would: Vec<ProbeId> = not_ok.flat_map(|rule| &rule.probes).cloned().collect();
        self.judges.settle(active);
        let mut worried = self.judges.worried();
        worried.extend(would);
        worried
    }
}

/// Calls the components, but for those that are said to trap.
struct Called<'a> {
    trapped: &'a BTreeSet<RuleId>,
}

impl Ask for Called<'_> {
    async fn ask(&self, live: &LiveRule, batch: Batch) -> Result<Verdicts, CallError> {
        if self.trapped.contains(&live.config.id) {
            return Err(simulated_trap());
        }
        live.rule.evaluate(batch).await.0
    }
}

fn simulated_trap() -> CallError {
    CallError::Trapped("as the test says".into())
}

/// Rules as the pipeline takes them up.
pub(super) type Rules = Vec<Arc<LiveRule>>;
