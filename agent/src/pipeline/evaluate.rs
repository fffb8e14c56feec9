//! Second stage: keeps the history, computes the rules' inputs, asks the rule components.
//!
//! Owns the history and each rule's instances. In come batches; out goes one [`Judged`] for each. It
//! waits for the alert stage's answer before it takes the next batch.
//!
//! Invariant: round n+1 is judged knowing what fires after round n; otherwise a value between the
//! clear and the raise threshold would resolve an alert that has just begun.

use super::collect::{Batch, Run};
use super::inputs::{Columns, RuleInputs};
use super::view::{FamilyView, RuleView};
use crate::plugin::{Generation, LiveRule};
use crate::sandbox::types::{self, CallError, Kind, Verdicts};
use crate::store::history::{FamilyView as Remembered, History, Presence};
use crate::telemetry::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use watchfire_engine::State;
use watchfire_engine::input::{Observation, ProbeRun, Round, RuleRound, Seen};
use watchfire_engine::model::{Fingerprint, Now, ProbeId, RuleId, Severities};

/// Instances in one guest call. Bounds what crosses the boundary at once (4 MiB of hostcall fuel)
/// with room for labels of 400 bytes an instance.
const INSTANCES_A_CALL: usize = 5_000;

/// One judged round.
#[derive(Debug)]
pub(super) struct Judged {
    /// What it was judged under.
    pub generation: Arc<Generation>,
    /// For the engine.
    pub round: Round,
    /// When the newest run of the round ended: the time of the step.
    pub at: Now,
    /// When collection closed, for the latency figures.
    pub closed: Instant,
    /// What fires now; sent as soon as the engine has decided, before anything is written.
    pub answer: oneshot::Sender<Active>,
}

/// What the engine says after a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Active {
    /// Severities at which instances fire, by rule.
    pub firing: HashMap<RuleId, HashMap<Fingerprint, Severities>>,
    /// Rules with an alert that is not ok, pending ones included.
    pub not_ok: BTreeSet<RuleId>,
}

impl Active {
    /// Reads it off the engine.
    pub(super) fn of(state: &State, generation: &Generation) -> Active {
        let mut active = Active::default();
        for rule in &generation.config.policy.rules {
            let firing = state.active(&rule.id);
            if !firing.is_empty() {
                active
                    .firing
                    .insert(rule.id.clone(), firing.into_iter().collect());
            }
        }
        active.not_ok = state.not_ok();
        active
    }
}

/// One rule's own memory, per instance.
pub(super) type Memories = Vec<(Fingerprint, Arc<[u8]>)>;

/// One rule's running state.
#[derive(Debug)]
struct Judge {
    live: Arc<LiveRule>,
    inputs: RuleInputs,
    memory: HashMap<Fingerprint, Arc<[u8]>>,
}

/// The stage.
pub(super) struct Evaluate {
    pub(super) history: History,
    /// Bounded at [`super::ROUNDS_IN_FLIGHT`].
    pub(super) batches: mpsc::Receiver<Batch>,
    /// Bounded at one: the stage waits for the answer anyway.
    pub(super) judged: mpsc::Sender<Judged>,
    /// Questions of the API; bounded, answered between rounds.
    pub(super) series: mpsc::Receiver<oneshot::Sender<Vec<FamilyView>>>,
    pub(super) worried: watch::Sender<Arc<BTreeSet<ProbeId>>>,
    pub(super) views: watch::Sender<Arc<Vec<RuleView>>>,
    /// The rules' own memory as it was stored, for a start.
    pub(super) memories: HashMap<RuleId, Memories>,
    /// What fired when the agent started.
    pub(super) active: Active,
    pub(super) metrics: Arc<Metrics>,
}

impl Evaluate {
    /// Runs until nobody sends batches, then lets the alert stage end.
    pub(super) async fn run(mut self) {
        let mut judges: BTreeMap<RuleId, Judge> = BTreeMap::new();
        let mut views: BTreeMap<RuleId, RuleView> = BTreeMap::new();
        let mut number = None;
        loop {
            tokio::select! {
                biased;
                batch = self.batches.recv() => {
                    let Some(batch) = batch else { break };
                    if number != Some(batch.generation.number) {
                        number = Some(batch.generation.number);
                        self.take_up(&batch.generation, &mut judges, &mut views);
                    }
                    let started = Instant::now();
                    let (judged, answer) = self.judge(batch, &mut judges, &mut views).await;
                    self.metrics.stage_duration.with(["evaluate"]).observe_time(started.elapsed());
                    remember(&judged.round, &mut judges);
                    if self.judged.send(judged).await.is_err() { break }
                    let Ok(active) = answer.await else { break };
                    self.active = active;
                    self.publish(&judges, &views);
                }
                Some(reply) = self.series.recv() => {
                    // A reader that went away needs no answer.
                    let _ = reply.send(self.history.families().map(latest).collect());
                }
            }
        }
    }

    /// Takes up a generation: rules that did not change keep their instances and memory.
    fn take_up(
        &mut self,
        generation: &Generation,
        judges: &mut BTreeMap<RuleId, Judge>,
        views: &mut BTreeMap<RuleId, RuleView>,
    ) {
        let mut old = std::mem::take(judges);
        for live in &generation.rules {
            let id = live.config.id.clone();
            let judge = match old.remove(&id) {
                Some(judge) if Arc::ptr_eq(&judge.live, live) => judge,
                before => Judge {
                    inputs: RuleInputs::new(&live.config),
                    memory: match before {
                        Some(judge) => judge.memory,
                        None => self
                            .memories
                            .remove(&id)
                            .unwrap_or_default()
                            .into_iter()
                            .collect(),
                    },
                    live: live.clone(),
                },
            };
            judges.insert(id, judge);
        }
        views.retain(|id, _| judges.contains_key(id));
        let windows = judges
            .values()
            .flat_map(|judge| judge.inputs.windows(&judge.live.needs))
            .collect::<Vec<_>>();
        self.history.declare(windows);
        let probes = generation
            .probes
            .iter()
            .map(|live| live.config.id.clone())
            .collect();
        self.history.retain_probes(&probes);
    }

    async fn judge(
        &mut self,
        batch: Batch,
        judges: &mut BTreeMap<RuleId, Judge>,
        views: &mut BTreeMap<RuleId, RuleView>,
    ) -> (Judged, oneshot::Receiver<Active>) {
        let at = batch
            .runs
            .iter()
            .map(|run| run.at)
            .max_by_key(|now| now.at)
            .unwrap_or_else(|| unreachable!("collect sends no batch without a run"));
        for run in &batch.runs {
            self.absorb(run);
        }
        let touched: BTreeMap<ProbeId, Duration> = batch
            .runs
            .iter()
            .map(|run| (run.live.config.id.clone(), run.every))
            .collect();

        let mut due = BTreeMap::new();
        for (id, judge) in judges.iter_mut() {
            if let Some(every) = judge.inputs.touched(&mut self.history, &touched) {
                due.insert(id.clone(), every);
            }
        }
        let judges = &*judges;
        let mut rules = Vec::new();
        for live in &batch.generation.rules {
            let id = &live.config.id;
            let (Some(judge), Some(every)) = (judges.get(id), due.get(id)) else {
                continue;
            };
            let columns = judge
                .inputs
                .columns(&self.history, &judge.live.needs, &touched, at);
            rules.push((judge, *every, columns));
        }
        let asked = rules
            .iter()
            .map(|(judge, _, columns)| self.ask(judge, columns, at));
        let answers = futures_util::future::join_all(asked).await;

        let mut round = Round {
            probes: batch.runs.iter().map(probe_run).collect(),
            rules: Vec::with_capacity(rules.len()),
            missed: batch.missed,
        };
        for ((judge, every, columns), answer) in rules.into_iter().zip(answers) {
            let id = &judge.live.config.id;
            let result = match answer {
                Ok(verdicts) => Ok(observations(columns, verdicts)),
                Err(error) => {
                    tracing::warn!(rule = %id, outcome = error.name(), %error, "rule failed");
                    Err(error.to_string().into())
                }
            };
            views.insert(id.clone(), view(&judge.live, &result, at));
            round.rules.push(RuleRound {
                rule: id.clone(),
                every,
                result,
            });
        }
        let (answer, active) = oneshot::channel();
        let judged = Judged {
            generation: batch.generation,
            round,
            at,
            closed: batch.closed,
            answer,
        };
        (judged, active)
    }

    fn absorb(&mut self, run: &Run) {
        let probe = &run.live.config.id;
        self.history.expect(probe, run.every);
        match &run.result {
            Ok(collection) => {
                let labels = &run.live.config.labels;
                let absorbed = self.history.absorb(probe, run.at.at, collection, labels);
                self.metrics
                    .series
                    .with([probe.as_str()])
                    .set_count(absorbed.taken);
                if absorbed.over_limit + absorbed.duplicates > 0 {
                    tracing::warn!(
                        probe = %probe,
                        over_limit = absorbed.over_limit,
                        duplicates = absorbed.duplicates,
                        "samples refused: too many series of this probe, or series of another one"
                    );
                }
            }
            Err(_) => self.history.failed(probe, run.at.at),
        }
    }

    /// Asks the component, in chunks; one failed chunk fails the rule.
    async fn ask(&self, judge: &Judge, columns: &Columns, at: Now) -> Result<Verdicts, CallError> {
        let firing = self.active.firing.get(&judge.live.config.id);
        let mut all = Verdicts::default();
        let mut from = 0;
        while from < columns.instances.len() {
            let to = columns.instances.len().min(from + INSTANCES_A_CALL);
            let batch = batch_of(judge, columns, firing, at, from..to);
            let (result, cost) = judge.live.rule.evaluate(batch).await;
            let outcome = result.as_ref().map_or_else(CallError::name, |_| "ok");
            let id = judge.live.config.id.as_str();
            let plugin = judge.live.config.plugin.as_deref().unwrap_or_default();
            self.metrics
                .plugin_call(plugin, Kind::Rule, id, outcome, &cost);
            self.metrics.rule_evaluations.with([id, outcome]).inc();
            let mut part = result?;
            let first = u32::try_from(from).unwrap_or(u32::MAX);
            part.notes.iter_mut().for_each(|(at, _)| *at += first);
            all.breached.append(&mut part.breached);
            all.values.append(&mut part.values);
            all.limits.append(&mut part.limits);
            all.notes.append(&mut part.notes);
            all.memory.append(&mut part.memory);
            from = to;
        }
        Ok(all)
    }

    fn publish(&self, judges: &BTreeMap<RuleId, Judge>, views: &BTreeMap<RuleId, RuleView>) {
        let worried: BTreeSet<ProbeId> = self
            .active
            .not_ok
            .iter()
            .filter_map(|id| judges.get(id))
            .flat_map(|judge| judge.inputs.probes(&self.history))
            .collect();
        self.worried.send_if_modified(|before| {
            let differs = **before != worried;
            if differs {
                *before = Arc::new(worried);
            }
            differs
        });
        let views = judges
            .keys()
            .filter_map(|id| views.get(id))
            .cloned()
            .collect();
        self.views.send_replace(Arc::new(views));
    }
}

fn batch_of(
    judge: &Judge,
    columns: &Columns,
    firing: Option<&HashMap<Fingerprint, Severities>>,
    at: Now,
    part: std::ops::Range<usize>,
) -> types::Batch {
    let needs = &judge.live.needs;
    let instances = &columns.instances[part.clone()];
    types::Batch {
        now_ms: at.wall.0,
        columns: columns
            .values
            .iter()
            .map(|column| column[part.clone()].to_vec())
            .collect(),
        active: instances
            .iter()
            .map(|instance| {
                firing
                    .and_then(|all| all.get(&instance.fingerprint))
                    .copied()
                    .unwrap_or_default()
            })
            .collect(),
        labels: if needs.labels {
            instances
                .iter()
                .map(|instance| {
                    let labels = instance.labels.iter();
                    labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
                })
                .collect()
        } else {
            Vec::new()
        },
        memory: if needs.memory {
            instances
                .iter()
                .map(|i| {
                    judge
                        .memory
                        .get(&i.fingerprint)
                        .map_or_else(Vec::new, |m| m.to_vec())
                })
                .collect()
        } else {
            Vec::new()
        },
        points: columns
            .points
            .iter()
            .map(|input| input[part.clone()].to_vec())
            .collect(),
    }
}

fn observations(columns: Columns, verdicts: Verdicts) -> Vec<Observation> {
    let mut notes: HashMap<u32, String> = verdicts.notes.into_iter().collect();
    let mut memory = verdicts.memory.into_iter();
    columns
        .instances
        .into_iter()
        .zip(columns.seen)
        .enumerate()
        .map(|(at, (instance, seen))| Observation {
            instance,
            seen,
            breached: verdicts.breached.get(at).copied().flatten(),
            value: verdicts.values.get(at).copied().unwrap_or(f64::NAN),
            limit: verdicts.limits.get(at).copied().unwrap_or(f64::NAN),
            note: u32::try_from(at)
                .ok()
                .and_then(|at| notes.remove(&at))
                .map(Into::into),
            memory: memory.next().filter(|m| !m.is_empty()).map(Into::into),
        })
        .collect()
}

/// Keeps what the rules want to remember.
fn remember(round: &Round, judges: &mut BTreeMap<RuleId, Judge>) {
    for rule in &round.rules {
        let (Ok(observations), Some(judge)) = (&rule.result, judges.get_mut(&rule.rule)) else {
            continue;
        };
        for observation in observations {
            if let Some(memory) = &observation.memory {
                judge
                    .memory
                    .insert(observation.instance.fingerprint, memory.clone());
            }
        }
    }
}

fn probe_run(run: &Run) -> ProbeRun {
    ProbeRun {
        probe: run.live.config.id.clone(),
        every: run.every,
        result: run
            .result
            .as_ref()
            .map(|_| ())
            .map_err(|error| error.to_string().into()),
    }
}

fn view(live: &LiveRule, result: &Result<Vec<Observation>, Arc<str>>, at: Now) -> RuleView {
    let observations = result.as_ref().map_or(&[][..], Vec::as_slice);
    let breaching = |o: &&Observation| o.breached.is_some_and(|severities| !severities.is_empty());
    let worst = observations
        .iter()
        .filter(|o| o.seen == Seen::Value)
        .max_by(|a, b| {
            let severity = |o: &Observation| o.breached.and_then(Severities::highest);
            let by_severity = severity(a).cmp(&severity(b));
            by_severity.then(a.value.total_cmp(&b.value))
        });
    let known = |value: f64| (!value.is_nan()).then_some(value);
    RuleView {
        id: live.config.id.clone(),
        plugin: live.config.plugin.clone(),
        instances: observations.len(),
        breaching: observations.iter().filter(breaching).count(),
        worst: worst.map(|o| (o.instance.labels.clone(), known(o.value), known(o.limit))),
        error: result.as_ref().err().map(|error| error.to_string()),
        last_round: Some(at.wall),
    }
}

/// What `/metrics` shows: values of the newest run; a series that is no longer there is not shown.
fn latest(family: Remembered<'_>) -> FamilyView {
    let now = family
        .series
        .iter()
        .filter(|(_, _, presence)| *presence == Presence::Now);
    FamilyView {
        metric: family.metric.into(),
        kind: family.kind,
        help: family.help.into(),
        points: now
            .map(|(series, point, _)| ((*series).clone(), point.value))
            .collect(),
    }
}
