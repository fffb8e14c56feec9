//! The rules at work: their inputs read from the history, their components asked, their memory kept.
//!
//! No stage and no task: the running agent drives it in `evaluate`, tests and replays drive it on a
//! virtual clock in `simulate`. So what was tested is what runs. Who calls the component decides what
//! a call is ([`Ask`]).
//!
//! Invariant: round n+1 is judged knowing what fires after round n; otherwise a value between the
//! clear and the raise threshold would resolve an alert that has just begun. [`Judges::settle`] is
//! called between two rounds.

use super::calls::{all_of, observations};
use super::collect::IDLE_EVERY;
use super::inputs::RuleInputs;
use super::remembered::Remembered;
use crate::plugin::LiveRule;
use crate::sandbox::types::Collection;
use crate::store::history::{Absorbed, History, Need};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::State;
use watchfire_engine::input::{Observation, RuleRound, Seen};
use watchfire_engine::model::{
    ByFingerprint, Fingerprint, Instance, Labels, Moment, Now, ProbeId, RuleId, Severities,
};
use watchfire_engine::policy::RulePolicy;

pub(crate) use super::calls::Ask;

/// What the engine says after a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Active {
    /// Severities at which instances fire, by rule.
    pub(crate) firing: HashMap<RuleId, ByFingerprint<Severities>>,
    /// Instances that wait for an observation, by rule ([`State::awaited`]).
    pub(crate) awaited: HashMap<RuleId, Vec<Arc<Instance>>>,
    /// Rules with an alert that is not ok, meta-alerts and composites included.
    pub(crate) not_ok: BTreeSet<RuleId>,
}

impl Active {
    /// Reads it off the engine.
    pub(crate) fn of(state: &State, rules: &[RulePolicy]) -> Active {
        let mut active = Active::default();
        for rule in rules {
            let firing = state.active(&rule.id);
            if !firing.is_empty() {
                active
                    .firing
                    .insert(rule.id.clone(), firing.into_iter().collect());
            }
            let awaited = state.awaited(&rule.id);
            if !awaited.is_empty() {
                active.awaited.insert(rule.id.clone(), awaited);
            }
        }
        active.not_ok = state.not_ok();
        active
    }
}

/// One rule's own memory, per instance.
pub(crate) type Memories = Vec<(Fingerprint, Arc<[u8]>)>;

/// One rule's running state.
#[derive(Debug)]
struct Judge {
    live: Arc<LiveRule>,
    inputs: RuleInputs,
    memory: Remembered,
}

/// All rules that a component judges, and what they read.
#[derive(Debug)]
pub(crate) struct Judges {
    history: History,
    judges: BTreeMap<RuleId, Judge>,
    /// In the order of the file.
    order: Vec<RuleId>,
    /// The rules' own memory as it was stored, for rules that are not taken up yet.
    memories: HashMap<RuleId, Memories>,
    active: Active,
    /// Windows that are kept whether a rule wants them now or not.
    keep: Vec<Need>,
    /// Probes that are configured, and how each one's last run ended; none: it has not run yet.
    probes: HashMap<ProbeId, Option<bool>>,
}

impl Judges {
    /// Knows no rule yet. `memories` and `active`: what the engine was restored with.
    pub(crate) fn new(
        history: History,
        memories: HashMap<RuleId, Memories>,
        active: Active,
    ) -> Self {
        Judges {
            history,
            judges: BTreeMap::new(),
            order: Vec::new(),
            memories,
            active,
            keep: Vec::new(),
            probes: HashMap::new(),
        }
    }

    /// Keeps the windows of these rules too, which may be taken up later.
    pub(crate) fn keep<'r>(&mut self, rules: impl IntoIterator<Item = &'r Arc<LiveRule>>) {
        let windows = rules.into_iter().flat_map(|live| {
            let inputs = RuleInputs::new(&live.config);
            inputs.windows(&live.needs).collect::<Vec<_>>()
        });
        self.keep = windows.collect();
    }

    /// The process began anew: of the rules' memory there is what was stored.
    pub(crate) fn restart(&mut self, mut memories: HashMap<RuleId, Memories>) {
        for (id, judge) in &mut self.judges {
            judge.memory = Remembered::of(memories.remove(id).unwrap_or_default());
        }
        self.memories = memories;
    }

    /// Takes up a set of rules: those that did not change keep their instances and memory. The history
    /// forgets the series of probes that are not among `probes`.
    pub(crate) fn take_up(&mut self, rules: &[Arc<LiveRule>], probes: &HashSet<ProbeId>) {
        let mut old = std::mem::take(&mut self.judges);
        for live in rules {
            let id = live.config.id.clone();
            let judge = match old.remove(&id) {
                Some(judge) if Arc::ptr_eq(&judge.live, live) => judge,
                before => Judge {
                    inputs: RuleInputs::new(&live.config),
                    memory: match before {
                        Some(judge) => judge.memory,
                        None => Remembered::of(self.memories.remove(&id).unwrap_or_default()),
                    },
                    live: live.clone(),
                },
            };
            self.judges.insert(id, judge);
        }
        self.order = rules.iter().map(|live| live.config.id.clone()).collect();
        let windows = self
            .judges
            .values()
            .flat_map(|judge| judge.inputs.windows(&judge.live.needs))
            .chain(self.keep.iter().cloned())
            .collect::<Vec<_>>();
        self.history.declare(windows);
        self.history.retain_probes(probes);
        self.probes.retain(|probe, _| probes.contains(probe));
        for probe in probes {
            self.probes.entry(probe.clone()).or_default();
        }
    }

    /// A probe answered; `labels` are added to its series.
    pub(crate) fn absorb(
        &mut self,
        probe: &ProbeId,
        at: Moment,
        collection: &Collection,
        labels: &Labels,
    ) -> Absorbed {
        self.probes.insert(probe.clone(), Some(true));
        self.history.absorb(probe, at, collection, labels)
    }

    /// A probe failed.
    pub(crate) fn failed(&mut self, probe: &ProbeId, at: Moment) {
        self.probes.insert(probe.clone(), Some(false));
        self.history.failed(probe, at);
    }

    /// Judges the rules that read one of the probes that `ran`, each with its current interval; in the
    /// order of the file. What the rules want to remember is kept.
    pub(crate) async fn judge(
        &mut self,
        ask: &impl Ask,
        ran: &BTreeMap<ProbeId, Duration>,
        at: Now,
    ) -> Vec<RuleRound> {
        for (probe, every) in ran {
            self.history.expect(probe, *every);
        }
        let mut due = BTreeMap::new();
        for (id, judge) in &mut self.judges {
            let every = judge.inputs.touched(&mut self.history, ran);
            let awaited = self.active.awaited.get(id).map_or(&[][..], Vec::as_slice);
            let missing = missing(awaited, &judge.inputs, ran, &self.probes);
            let every = every.max(missing.iter().map(|(_, every)| *every).max());
            if let Some(every) = every {
                due.insert(id.clone(), (every, missing));
            }
        }
        let mut rules = Vec::new();
        for id in &self.order {
            let (Some(judge), Some((every, missing))) = (self.judges.get(id), due.remove(id))
            else {
                continue;
            };
            let columns = judge
                .inputs
                .columns(&self.history, &judge.live.needs, ran, at);
            rules.push((judge, every, columns, missing));
        }
        let asked = rules.iter().map(|(judge, _, columns, _)| {
            let firing = self.active.firing.get(&judge.live.config.id);
            all_of(ask, &judge.live, &judge.memory, columns, firing, at)
        });
        let answers = futures_util::future::join_all(asked).await;
        let round: Vec<RuleRound> = rules
            .into_iter()
            .zip(answers)
            .map(|((judge, every, columns, missing), answer)| {
                let id = &judge.live.config.id;
                let result = match answer {
                    Ok(verdicts) => {
                        let mut all = observations(columns, verdicts);
                        all.extend(missing.into_iter().map(|(observation, _)| observation));
                        Ok(all)
                    }
                    Err(error) => {
                        tracing::warn!(rule = %id, outcome = error.name(), %error, "rule failed");
                        Err(error.to_string().into())
                    }
                };
                RuleRound {
                    rule: id.clone(),
                    every,
                    result,
                }
            })
            .collect();
        self.remember(&round);
        round
    }

    /// Takes in what the engine decided: the next round is judged knowing it.
    pub(crate) fn settle(&mut self, active: Active) {
        self.active = active;
    }

    /// Probes that a rule which is not ok reads.
    pub(crate) fn worried(&self) -> BTreeSet<ProbeId> {
        self.active
            .not_ok
            .iter()
            .filter_map(|id| self.judges.get(id))
            .flat_map(|judge| judge.inputs.probes(&self.history))
            .collect()
    }

    /// The samples, for views.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The samples, to take in the past of long windows.
    pub(crate) fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// A rule's use, while it is taken up.
    pub(crate) fn live(&self, rule: &RuleId) -> Option<&Arc<LiveRule>> {
        self.judges.get(rule).map(|judge| &judge.live)
    }

    /// Rules that are taken up.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &RuleId> {
        self.judges.keys()
    }

    /// Keeps what the rules want to remember.
    fn remember(&mut self, round: &[RuleRound]) {
        for rule in round {
            let (Ok(observations), Some(judge)) = (&rule.result, self.judges.get_mut(&rule.rule))
            else {
                continue;
            };
            judge.memory.take(observations);
        }
    }
}

/// Awaited instances without a series (after a restart, or because their probe was removed), each with
/// the longest interval of its probes: absent where the probes answered without them, unknown where one
/// of them failed or has not run yet, not mentioned while none of them ran. Where nobody can answer for
/// an instance any more, each round does.
fn missing(
    awaited: &[Arc<Instance>],
    inputs: &RuleInputs,
    ran: &BTreeMap<ProbeId, Duration>,
    probes: &HashMap<ProbeId, Option<bool>>,
) -> Vec<(Observation, Duration)> {
    // Of a dead-man rule that never saw a series the engine speaks itself, and nobody yields that one.
    let is_itself = |one: &Instance| one.labels.is_empty() && one.probes.is_empty();
    let unplanned = awaited
        .iter()
        .filter(|one| !inputs.is_planned(one) && !is_itself(one));
    unplanned
        .filter_map(|instance| {
            let owners = instance.probes.iter();
            let ends: Vec<Option<bool>> = owners.filter_map(|o| probes.get(o).copied()).collect();
            let mine = |probe: &ProbeId| ends.is_empty() || instance.probes.contains(probe);
            let every = ran.iter().filter(|(probe, _)| mine(probe));
            let idle = probes.is_empty().then_some(&IDLE_EVERY);
            let every = *every.map(|(_, every)| every).max().or(idle)?;
            let seen = if ends.iter().all(|end| *end == Some(true)) {
                Seen::Absent
            } else {
                Seen::Unknown
            };
            let observation = Observation {
                instance: instance.clone(),
                seen,
                breached: None,
                value: f64::NAN,
                limit: f64::NAN,
                note: None,
                memory: None,
            };
            Some((observation, every))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rule without any series is told of one awaited instance whose probes are `owners`, in a
    /// round of `ran`; `probes` are configured and ended as told.
    fn told(owners: &[&str], ran: &[&str], probes: &[(&str, Option<bool>)]) -> Option<(Seen, u64)> {
        let rule = RuleId::new("r");
        let owners: Vec<ProbeId> = owners.iter().copied().map(ProbeId::new).collect();
        let labels = Labels::new([("device", "a")]).expect("labels");
        let instance = Instance::new(rule.clone(), labels).yielded_by(owners);
        let every = |probe: &str| Duration::from_secs(if probe == "slow" { 60 } else { 10 });
        let ran = ran.iter().map(|probe| (ProbeId::new(*probe), every(probe)));
        let probes = probes
            .iter()
            .map(|(probe, end)| (ProbeId::new(*probe), *end));
        let inputs = RuleInputs::of_nothing(rule);
        let missing = missing(
            &[Arc::new(instance)],
            &inputs,
            &ran.collect(),
            &probes.collect(),
        );
        assert!(missing.len() <= 1);
        missing
            .first()
            .map(|(observation, every)| (observation.seen, every.as_secs()))
    }

    #[test]
    fn who_is_awaited_is_absent_once_its_own_probes_have_answered_without_it() {
        let good = Some(true);
        let absent = Some((Seen::Absent, 10));
        let unknown = Some((Seen::Unknown, 10));
        let both = [("a", good), ("b", good)];
        assert_eq!(told(&["a"], &["a"], &both), absent);
        assert_eq!(told(&["a"], &["b"], &both), None, "another probe's round");
        assert_eq!(told(&["a"], &["a"], &[("a", Some(false))]), unknown);
        assert_eq!(
            told(&["a", "b"], &["a"], &[("a", good), ("b", None)]),
            unknown,
            "b has not run yet"
        );
        assert_eq!(
            told(
                &["a", "slow"],
                &["a", "slow"],
                &[("a", good), ("slow", good)]
            ),
            Some((Seen::Absent, 60))
        );
    }

    #[test]
    fn whose_probe_was_removed_is_absent_from_every_round() {
        let good = Some(true);
        let absent = Some((Seen::Absent, 10));
        assert_eq!(told(&["gone"], &["b"], &[("b", good)]), absent);
        assert_eq!(told(&[], &["b"], &[("b", good)]), absent, "an old record");
        assert_eq!(told(&["gone"], &[], &[("b", good)]), None);
        assert_eq!(told(&["gone"], &[], &[]), absent, "no probe is left");
    }
}
