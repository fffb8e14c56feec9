//! Second stage: keeps the history, computes the rules' inputs, asks the rule components.
//!
//! Owns the [`Judges`]. In come batches; out goes one [`Judged`] for each. It waits for the alert
//! stage's answer before it takes the next batch.

use super::called::Caller;
use super::collect::{Batch, Run};
use super::judges::{Active, Ask, Judges};
use super::recorded::{Recorded, kept_as};
use super::refused::Refusals;
use super::view::{FamilyView, RuleView};
use crate::plugin::{Generation, LiveRule};
use crate::sandbox::types::{self, CallError, Kind, Verdicts};
use crate::store::history::{FamilyView as Remembered, PastOf, Presence};
use crate::store::{MetricsHealth, Recorder};
use crate::telemetry::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use watchfire_engine::input::{Condition, Observation, ProbeRun, Round, RuleRound, Seen};
use watchfire_engine::model::{Now, ProbeId, RuleId, Severities};

/// One judged round.
#[derive(Debug)]
pub(super) struct Judged {
    /// What it was judged under.
    pub generation: Arc<Generation>,
    /// For the engine.
    pub round: Round,
    /// What of the answers could not be taken, where that is news.
    pub conditions: Vec<Condition>,
    /// When the newest run of the round ended: the time of the step.
    pub at: Now,
    /// When collection closed, for the latency figures.
    pub closed: Instant,
    /// What fires now; sent as soon as the engine has decided, before anything is written.
    pub answer: oneshot::Sender<Active>,
}

/// The stage.
pub(super) struct Evaluate {
    pub(super) judges: Judges,
    pub(super) refusals: Refusals,
    /// Values of rules that are series too.
    pub(super) values: Recorded,
    /// Bounded at [`super::ROUNDS_IN_FLIGHT`].
    pub(super) batches: mpsc::Receiver<Batch>,
    /// Bounded at one: the stage waits for the answer anyway.
    pub(super) judged: mpsc::Sender<Judged>,
    /// Questions of the API; bounded, answered between rounds.
    pub(super) series: mpsc::Receiver<oneshot::Sender<Vec<FamilyView>>>,
    pub(super) worried: watch::Sender<Arc<BTreeSet<ProbeId>>>,
    pub(super) views: watch::Sender<Arc<Vec<RuleView>>>,
    /// Keeps the samples on disk and knows those of before; None: it could not be started.
    pub(super) recorder: Option<Recorder>,
    /// Its answers; bounded, the recorder waits.
    pub(super) pasts: mpsc::Receiver<PastOf>,
    /// What was counted of it so far.
    pub(super) recorded: MetricsHealth,
    pub(super) metrics: Arc<Metrics>,
}

/// Calls the components for real, and counts.
struct Counted<'a>(&'a Metrics);

impl Ask for Counted<'_> {
    async fn ask(&self, live: &LiveRule, batch: types::Batch) -> Result<Verdicts, CallError> {
        let id = live.config.id.as_str();
        let caller = Caller {
            kind: Kind::Rule,
            plugin: live.config.plugin.as_deref().unwrap_or_default(),
            id,
            quarantine: &live.quarantine,
            metrics: self.0,
        };
        let (result, _) = caller.call(live.rule.evaluate(batch)).await;
        let outcome = result.as_ref().map_or_else(CallError::name, |_| "ok");
        self.0.rule_evaluations.with([id, outcome]).inc();
        result
    }
}

impl Evaluate {
    /// Runs until nobody sends batches, then lets the alert stage end.
    pub(super) async fn run(mut self) {
        let mut views: BTreeMap<RuleId, RuleView> = BTreeMap::new();
        let mut number = None;
        loop {
            tokio::select! {
                biased;
                batch = self.batches.recv() => {
                    let Some(batch) = batch else { break };
                    let mut conditions = Vec::new();
                    if number != Some(batch.generation.number) {
                        number = Some(batch.generation.number);
                        conditions = self.take_up(&batch.generation, &mut views);
                    }
                    let started = Instant::now();
                    let (judged, answer) = self.judge(batch, conditions, &mut views).await;
                    self.metrics.stage_duration.with(["evaluate"]).observe_time(started.elapsed());
                    if self.judged.send(judged).await.is_err() { break }
                    let Ok(active) = answer.await else { break };
                    self.judges.settle(active);
                    self.publish(&views);
                    self.ask_for_the_past();
                    self.show_history();
                }
                Some(past) = self.pasts.recv() => {
                    self.judges.history_mut().fill(past);
                    self.ask_for_the_past();
                }
                Some(reply) = self.series.recv() => {
                    let mut families = self.judges.history().families().map(latest).collect();
                    self.values.add_to(&mut families);
                    // A reader that went away needs no answer.
                    let _ = reply.send(families);
                }
            }
        }
    }

    fn take_up(
        &mut self,
        generation: &Generation,
        views: &mut BTreeMap<RuleId, RuleView>,
    ) -> Vec<Condition> {
        let probes = generation
            .probes
            .iter()
            .map(|live| live.config.id.clone())
            .collect();
        self.judges.take_up(&generation.rules, &probes);
        self.values.take_up(generation);
        views.retain(|id, _| self.judges.live(id).is_some());
        self.refusals.take_up(&probes)
    }

    async fn judge(
        &mut self,
        mut batch: Batch,
        mut conditions: Vec<Condition>,
        views: &mut BTreeMap<RuleId, RuleView>,
    ) -> (Judged, oneshot::Receiver<Active>) {
        let at = batch.at;
        // In the order of the configuration, not of the answers: a series of two probes has the same owner each time.
        let order: BTreeMap<&ProbeId, usize> = batch
            .generation
            .probes
            .iter()
            .enumerate()
            .map(|(at, live)| (&live.config.id, at))
            .collect();
        batch
            .runs
            .sort_by_key(|run| order.get(&run.live.config.id).copied());
        for run in &batch.runs {
            conditions.extend(self.absorb(run));
        }
        let ran: BTreeMap<ProbeId, Duration> = batch
            .runs
            .iter()
            .map(|run| (run.live.config.id.clone(), run.every))
            .collect();
        let rules = self.judges.judge(&Counted(&self.metrics), &ran, at).await;
        for round in &rules {
            if let (Some(new), Some(recorder)) = (self.values.take(round), &self.recorder) {
                let samples = new.iter().map(|(series, value)| (series, *value));
                recorder.record(&kept_as(&round.rule), at, samples);
            }
            if let Some(live) = self.judges.live(&round.rule) {
                views.insert(round.rule.clone(), view(live, round, at));
            }
        }
        let round = Round {
            probes: batch.runs.iter().map(probe_run).collect(),
            rules,
            missed: batch.missed,
        };
        let (answer, active) = oneshot::channel();
        let judged = Judged {
            generation: batch.generation,
            round,
            conditions,
            at,
            closed: batch.closed,
            answer,
        };
        (judged, active)
    }

    fn absorb(&mut self, run: &Run) -> Option<Condition> {
        let probe = &run.live.config.id;
        match &run.result {
            Ok(collection) => {
                let labels = &run.live.config.labels;
                let absorbed = self.judges.absorb(probe, run.at.at, collection, labels);
                self.metrics
                    .series
                    .with([probe.as_str()])
                    .set_count(absorbed.taken);
                if let Some(recorder) = &self.recorder {
                    let newest = self.judges.history().newest(probe);
                    let samples = newest.map(|(series, point)| (series, point.value));
                    recorder.record(probe, run.at, samples);
                }
                for (reason, samples) in [
                    ("over_limit", absorbed.over_limit),
                    ("duplicate", absorbed.duplicates),
                ] {
                    if samples > 0 {
                        let refused = self.metrics.samples_refused.with([probe.as_str(), reason]);
                        refused.add_count(samples as u64);
                    }
                }
                let history = self.judges.history();
                self.refusals.take(probe, &absorbed, history)
            }
            Err(_) => {
                self.judges.failed(probe, run.at.at);
                None
            }
        }
    }

    /// Long windows want to know what was before; what finds no room is asked for after the next answer.
    fn ask_for_the_past(&mut self) {
        if let Some(recorder) = &self.recorder {
            let history = self.judges.history_mut();
            history.questions(|question| recorder.ask(question));
        }
    }

    fn show_history(&mut self) {
        let bytes = self.judges.history().long_bytes_reserved();
        self.metrics.window_bytes.set_count(bytes);
        let Some(recorder) = &self.recorder else {
            return;
        };
        let health = recorder.view().health();
        let metrics = &self.metrics;
        metrics.history_degraded.set_flag(health.degraded.is_some());
        metrics.history_bytes.set(health.bytes as f64);
        metrics.history_series.set_count(health.series);
        let oldest = health.oldest_ms.map_or(f64::NAN, |ms| ms as f64 / 1_000.0);
        metrics.history_oldest.set(oldest);
        let before = std::mem::replace(&mut self.recorded, health);
        let now = &self.recorded;
        metrics
            .history_samples
            .add_count(now.samples.saturating_sub(before.samples));
        metrics
            .history_dropped
            .add_count(now.dropped.saturating_sub(before.dropped));
        metrics
            .history_chunk_bytes
            .add_count(now.chunk_bytes.saturating_sub(before.chunk_bytes));
    }

    fn publish(&self, views: &BTreeMap<RuleId, RuleView>) {
        let worried = self.judges.worried();
        self.worried.send_if_modified(|before| {
            let differs = **before != worried;
            if differs {
                *before = Arc::new(worried);
            }
            differs
        });
        let views = self
            .judges
            .rules()
            .filter_map(|id| views.get(id))
            .cloned()
            .collect();
        self.views.send_replace(Arc::new(views));
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

fn view(live: &LiveRule, round: &RuleRound, at: Now) -> RuleView {
    let result = &round.result;
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
