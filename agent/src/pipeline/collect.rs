//! First stage: runs the probes at their turns and hands on one [`Batch`] a round.
//!
//! Owns the timetable. In come generations (which probes there are) and the set of probes that a rule
//! worries about (for adaptive intervals); out go batches. It never judges a sample.
//!
//! A round is what falls due together. It closes when all its probes have answered, or [`GRACE`] after
//! it opened; whoever answers later makes a batch of its own, so that a slow target delays nobody.

use super::view::ProbeView;
use crate::clock::Clock;
use crate::plugin::{Generation, LiveProbe};
use crate::sandbox::types::{CallError, Collection, Cost, Kind};
use crate::telemetry::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use watchfire_engine::model::{Now, ProbeId};
use watchfire_engine::pace::Pace;

/// How long a round waits for its slower probes. Long enough for any local answer, short against the
/// five seconds in which a breach has to become a transition. A probe whose last run took longer is
/// not waited for at all.
const GRACE: Duration = Duration::from_millis(100);

/// One round's answers.
#[derive(Debug)]
pub(super) struct Batch {
    /// What the probes were run under.
    pub generation: Arc<Generation>,
    /// One a probe.
    pub runs: Vec<Run>,
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

/// One probe in the timetable.
#[derive(Debug)]
struct Turn {
    live: Arc<LiveProbe>,
    /// Current interval; differs from the configured one where it is adaptive.
    pace: Pace,
    /// When it is due next.
    next: Instant,
    /// A run is under way.
    busy: bool,
    /// The last run took longer than [`GRACE`].
    slow: bool,
    view: ProbeView,
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
        table.take_up(&generation, Instant::now());
        self.publish(&table);
        let mut running: JoinSet<Run> = JoinSet::new();
        let mut open: Option<Open> = None;
        let mut missed = 0;
        loop {
            let next_turn = table.next_turn();
            let closes = open.as_ref().map(|round| round.closes);
            tokio::select! {
                biased;
                _ = self.stop.changed() => break,
                changed = self.generation.changed() => {
                    if changed.is_err() { break }
                    generation = self.generation.borrow_and_update().clone();
                    table.take_up(&generation, Instant::now());
                    self.publish(&table);
                }
                Some(joined) = running.join_next() => {
                    // The run is a plain await of a sandbox call, which reports panics as its own errors.
                    let Ok(run) = joined else { continue };
                    let worried = self.worried.borrow().contains(&run.live.config.id);
                    let before = table.error_of(&run.live.config.id);
                    table.finish(&run, worried);
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
                () = sleep_until(next_turn) => {
                    let now = Instant::now();
                    let room = self.batches.capacity() > 0;
                    let due = table.due(now, room);
                    missed += due.missed;
                    for probe in &due.skipped {
                        self.metrics.probe_skipped.with([probe.as_str()]).inc();
                    }
                    for (live, every, lateness, waited_for) in due.start {
                        self.metrics.probe_lateness.observe_time(lateness);
                        if waited_for {
                            open.get_or_insert_with(|| Open {
                                waits_for: BTreeSet::new(),
                                runs: Vec::new(),
                                closes: now + GRACE,
                            })
                            .waits_for
                            .insert(live.config.id.clone());
                        }
                        let clock = self.clock.clone();
                        running.spawn(async move {
                            let (result, cost) = live.probe.collect().await;
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
        let batch = Batch {
            generation: generation.clone(),
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
        metrics.plugin_call(&run.live.config.plugin, Kind::Probe, id, outcome, &run.cost);
        match &run.result {
            // An error that repeats unchanged is logged once; the metric counts on.
            Err(error) if before == Some(error.to_string().as_str()) => {}
            Err(error) => tracing::warn!(probe = id, outcome, %error, "probe failed"),
            Ok(_) if before.is_some() => tracing::info!(probe = id, "probe works again"),
            Ok(_) => {}
        }
    }

    fn publish(&self, table: &Timetable) {
        let views = table.turns.values().map(|turn| turn.view.clone()).collect();
        self.views.send_replace(Arc::new(views));
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Who is due when. Plain state: all decisions of the stage are made here, without awaiting.
#[derive(Debug, Default)]
struct Timetable {
    turns: BTreeMap<ProbeId, Turn>,
}

/// What falls due at one instant.
#[derive(Debug, Default)]
struct Due {
    /// Probe, interval, lateness, and whether the round waits for it.
    start: Vec<(Arc<LiveProbe>, Duration, Duration, bool)>,
    /// Still busy with the run before.
    skipped: Vec<ProbeId>,
    /// Turns nobody took.
    missed: u32,
}

impl Timetable {
    /// Takes up a generation: new probes get their first turn at once, gone ones lose theirs, changed
    /// ones keep their place on the grid unless their interval changed.
    fn take_up(&mut self, generation: &Generation, now: Instant) {
        let mut old = std::mem::take(&mut self.turns);
        for live in &generation.probes {
            let config = &live.config;
            let turn = match old.remove(&config.id) {
                Some(mut turn) => {
                    let same_pace = turn.live.config.every == config.every
                        && turn.live.config.adaptive == config.adaptive;
                    if !same_pace {
                        turn.pace = Pace::new(config.every);
                        turn.next = turn.next.min(now + config.every);
                    }
                    turn.live = live.clone();
                    turn.view.plugin = config.plugin.clone();
                    turn.view.every = turn.pace.every;
                    turn
                }
                None => Turn {
                    pace: Pace::new(config.every),
                    next: now
                        + spread(
                            config.id.as_str(),
                            &generation.config.agent.host,
                            config.jitter,
                        ),
                    busy: false,
                    slow: false,
                    view: ProbeView {
                        id: config.id.clone(),
                        plugin: config.plugin.clone(),
                        every: config.every,
                        last_run: None,
                        last_success: None,
                        error: None,
                        duration: None,
                        samples: 0,
                        skipped: 0,
                    },
                    live: live.clone(),
                },
            };
            self.turns.insert(config.id.clone(), turn);
        }
    }

    fn next_turn(&self) -> Option<Instant> {
        self.turns.values().map(|turn| turn.next).min()
    }

    /// Why the probe's last run failed.
    fn error_of(&self, id: &ProbeId) -> Option<String> {
        self.turns.get(id)?.view.error.clone()
    }

    /// Takes everything that is due at `now` and sets its next turn on its grid. `room`: whether the
    /// next stage can take a round at all.
    fn due(&mut self, now: Instant, room: bool) -> Due {
        let mut due = Due::default();
        for (id, turn) in &mut self.turns {
            if turn.next > now {
                continue;
            }
            let lateness = now - turn.next;
            let passed = lateness.as_nanos() / turn.pace.every.as_nanos().max(1);
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            turn.next += turn.pace.every * passed.saturating_add(1);
            due.missed = due.missed.saturating_add(passed);
            if turn.busy {
                turn.view.skipped += 1;
                due.skipped.push(id.clone());
            } else if room {
                turn.busy = true;
                due.start
                    .push((turn.live.clone(), turn.pace.every, lateness, !turn.slow));
            } else {
                due.missed = due.missed.saturating_add(1);
            }
        }
        due
    }

    /// Takes the end of a run: the probe is free again, its view and its adaptive interval follow.
    fn finish(&mut self, run: &Run, worried: bool) {
        let Some(turn) = self.turns.get_mut(&run.live.config.id) else {
            return;
        };
        turn.busy = false;
        turn.slow = run.cost.wall > GRACE;
        turn.view.last_run = Some(run.at.wall);
        turn.view.duration = Some(run.cost.wall);
        match &run.result {
            Ok(collection) => {
                turn.view.last_success = Some(run.at.wall);
                turn.view.error = None;
                turn.view.samples = collection.families.iter().map(|f| f.points.len()).sum();
            }
            Err(error) => {
                turn.view.error = Some(error.to_string());
                turn.view.samples = 0;
            }
        }
        let config = &turn.live.config;
        let Some(adaptive) = &config.adaptive else {
            return;
        };
        let before = turn.pace.every;
        turn.pace
            .adapt(adaptive, config.every, run.result.is_err(), worried);
        let every = turn.pace.every;
        if every != before {
            turn.next = turn.next - before + every;
            turn.view.every = every;
        }
    }
}

/// A delay in `[0, jitter)` that is always the same for this probe on this host.
fn spread(probe: &str, host: &str, jitter: Duration) -> Duration {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(host)
        .chain_update([0])
        .chain_update(probe)
        .finalize();
    let mut first = [0; 4];
    first.copy_from_slice(&digest[..4]);
    jitter.mul_f64(f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX).next_up())
}
