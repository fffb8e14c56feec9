//! First stage: runs the probes at their turns and hands on one [`Batch`] a round.
//!
//! Keeps the [`Timetable`]. In come generations (which probes there are) and the set of probes that a rule
//! worries about (for adaptive intervals); out go batches. It never judges a sample.
//!
//! A round is what falls due together. It closes when all its probes have answered, or [`GRACE`] after
//! it opened; whoever answers later makes a batch of its own, so that a slow target delays nobody.

use super::called::Caller;
use super::timetable::{Ended, Start, Timetable};
use super::view::ProbeView;
use crate::clock::Clock;
use crate::plugin::{Generation, LiveProbe};
use crate::sandbox::types::{CallError, Collection, Cost, Kind};
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use watchfire_engine::model::{Now, ProbeId};

/// How long a round waits for its slower probes. Long enough for any local answer, short against the
/// five seconds in which a breach has to become a transition. A probe whose last run took longer is
/// not waited for at all.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// Time between two rounds of an agent that has no probe. Alerts that are pushed to it repeat, escalate and
/// leave their groups at rounds too; the same as the default interval of probes.
pub(super) const IDLE_EVERY: Duration = Duration::from_secs(10);

/// One round's answers.
#[derive(Debug)]
pub(super) struct Batch {
    /// What the probes were run under.
    pub generation: Arc<Generation>,
    /// One a probe; none: there are no probes.
    pub runs: Vec<Run>,
    /// When the newest of the runs ended: the time of the round.
    pub at: Now,
    /// Turns that nobody took since the last batch, because the pipeline was late.
    pub missed: u32,
    /// When the last of the runs ended.
    pub closed: Instant,
}

/// One probe's turn.
#[derive(Debug)]
pub(super) struct Run {
    /// Which probe.
    pub live: Arc<LiveProbe>,
    /// Its current interval.
    pub every: Duration,
    /// When it ended: the time of its samples.
    pub at: Now,
    /// What it said.
    pub result: Result<Collection, CallError>,
    /// What it cost.
    pub cost: Cost,
}

/// A round that is still open.
#[derive(Debug)]
struct Open {
    waits_for: BTreeSet<ProbeId>,
    runs: Vec<Run>,
    closes: Instant,
}

/// The stage.
pub(super) struct Collect {
    pub(super) clock: Clock,
    pub(super) generation: watch::Receiver<Arc<Generation>>,
    /// Probes that a rule which is not ok reads.
    pub(super) worried: watch::Receiver<Arc<BTreeSet<ProbeId>>>,
    /// Bounded at [`super::ROUNDS_IN_FLIGHT`]; when it is full, turns are skipped and counted.
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) views: watch::Sender<Arc<Vec<ProbeView>>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Collect {
    /// Runs until `stop`, or until nobody takes batches.
    pub(super) async fn run(mut self) {
        let mut table = Timetable::default();
        let mut generation = self.generation.borrow_and_update().clone();
        take_up(&mut table, &generation);
        self.publish(&table);
        let mut running: JoinSet<Run> = JoinSet::new();
        let mut open: Option<Open> = None;
        let mut missed = 0;
        let mut idle_turn = Instant::now();
        loop {
            let next_turn = table.next_turn();
            let idle = (next_turn.is_none() && running.is_empty()).then_some(idle_turn);
            let closes = open.as_ref().map(|round| round.closes);
            tokio::select! {
                biased;
                _ = self.stop.changed() => break,
                changed = self.generation.changed() => {
                    if changed.is_err() { break }
                    generation = self.generation.borrow_and_update().clone();
                    take_up(&mut table, &generation);
                    self.publish(&table);
                }
                Some(joined) = running.join_next() => {
                    // The run is a plain await of a sandbox call, which reports panics as its own errors.
                    let Ok(run) = joined else { continue };
                    let worried = self.worried.borrow().contains(&run.live.config.id);
                    let before = table.error_of(&run.live.config.id);
                    table.finish(&run.live.config.id, ended(&run), worried);
                    self.count(&run, before.as_deref());
                    self.publish(&table);
                    let of_the_open_round = open
                        .as_mut()
                        .is_some_and(|round| round.waits_for.remove(&run.live.config.id));
                    match open.as_mut() {
                        Some(round) if of_the_open_round => round.runs.push(run),
                        _ => if !self.send(&generation, vec![run], &mut missed).await { break },
                    }
                    if open.as_ref().is_some_and(|round| round.waits_for.is_empty())
                        && let Some(round) = open.take()
                        && !self.send(&generation, round.runs, &mut missed).await
                    {
                        break;
                    }
                }
                () = sleep_until(closes) => {
                    if let Some(round) = open.take()
                        && !round.runs.is_empty()
                        && !self.send(&generation, round.runs, &mut missed).await
                    {
                        break;
                    }
                }
                () = sleep_until(idle) => {
                    idle_turn = Instant::now() + IDLE_EVERY;
                    if self.batches.capacity() > 0
                        && !self.send(&generation, Vec::new(), &mut missed).await
                    {
                        break;
                    }
                }
                () = sleep_until(next_turn) => {
                    let now = Instant::now();
                    let room = self.batches.capacity() > 0;
                    let due = table.due(now, room);
                    missed += due.missed;
                    for probe in &due.skipped {
                        self.metrics.probe_skipped.with([probe.as_str()]).inc();
                    }
                    for Start { probe, every, lateness, waited_for } in due.start {
                        // The timetable was made from this very generation.
                        let Some(live) = generation.probes.iter().find(|live| live.config.id == probe) else {
                            continue;
                        };
                        let live = live.clone();
                        self.metrics.probe_lateness.observe_time(lateness);
                        if waited_for {
                            open.get_or_insert_with(|| Open {
                                waits_for: BTreeSet::new(),
                                runs: Vec::new(),
                                closes: now + GRACE,
                            })
                            .waits_for
                            .insert(probe);
                        }
                        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
                        running.spawn(async move {
                            let caller = Caller {
                                kind: Kind::Probe,
                                plugin: &live.config.plugin,
                                id: live.config.id.as_str(),
                                quarantine: &live.quarantine,
                                metrics: &metrics,
                            };
                            let (result, cost) = caller.call(live.probe.collect()).await;
                            Run { at: clock.now(), live, every, result, cost }
                        });
                    }
                }
            }
        }
        // Runs under way are dropped with the set: their samples belong to no round any more.
    }

    /// Hands on a batch; waits where evaluation is behind, which makes turns late and counted.
    async fn send(&self, generation: &Arc<Generation>, runs: Vec<Run>, missed: &mut u32) -> bool {
        let newest = runs.iter().map(|run| run.at).max_by_key(|now| now.at);
        let batch = Batch {
            generation: generation.clone(),
            at: newest.unwrap_or_else(|| self.clock.now()),
            runs,
            missed: std::mem::take(missed),
            closed: Instant::now(),
        };
        self.batches.send(batch).await.is_ok()
    }

    fn count(&self, run: &Run, before: Option<&str>) {
        let id = run.live.config.id.as_str();
        let (outcome, samples) = match &run.result {
            Ok(collection) => (
                "ok",
                collection
                    .families
                    .iter()
                    .map(|family| family.points.len() as u64)
                    .sum(),
            ),
            Err(error) => (error.name(), 0),
        };
        let metrics = &self.metrics;
        metrics.probe_runs.with([id, outcome]).inc();
        metrics
            .probe_run_duration
            .with([id])
            .observe_time(run.cost.wall);
        metrics.samples.with([id]).add_count(samples);
        let plugin_samples = metrics.plugin_samples.with([&run.live.config.plugin, id]);
        plugin_samples.add_count(samples);
        match &run.result {
            // An error that repeats unchanged is logged once; the metric counts on.
            Err(error) if before == Some(error.to_string().as_str()) => {}
            Err(error) => tracing::warn!(probe = id, outcome, %error, "probe failed"),
            Ok(_) if before.is_some() => tracing::info!(probe = id, "probe works again"),
            Ok(_) => {}
        }
    }

    fn publish(&self, table: &Timetable) {
        self.views.send_replace(Arc::new(table.views()));
    }
}

fn take_up(table: &mut Timetable, generation: &Generation) {
    let probes = generation.probes.iter().map(|live| &live.config);
    table.take_up(probes, &generation.config.agent.host, Instant::now());
}

/// What the timetable needs of a run.
fn ended(run: &Run) -> Ended {
    let samples = |collection: &Collection| {
        let families = collection.families.iter();
        families.map(|family| family.points.len()).sum()
    };
    Ended {
        at: run.at.wall,
        took: run.cost.wall,
        result: run
            .result
            .as_ref()
            .map(samples)
            .map_err(CallError::to_string),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
