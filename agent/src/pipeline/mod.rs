//! The running pipeline, in flow order.
//!
//! ```text
//!             Batch             Judged                    committed first: state.db
//!   collect --------> evaluate --------> alert ---+---------> deliver ---> notifier components
//!   (probes)  2       (rules)     1      owns the +---------> recover ---> action components
//!             ^                   |      engine   <------------ reports (drained first)
//!             +--- worried -------+
//!   Generation ---- watch ----> every stage              latest value wins
//!   every stage --- watch ----> view ----> api           nobody reads another's state
//! ```
//!
//! The numbers are the channels' bounds. When `batches` is full, collect skips turns and counts them;
//! nothing behind it is ever dropped. Shutdown starts at the source: collect stops, senders drop, each
//! stage drains and ends.

// In flow order, kept from sorting by these comments.
// The one way into a component.
mod called;
mod collect;
// When which probe is due.
mod timetable;
// Columns of numbers for the rules.
mod inputs;
// One component's calls, and its memory.
mod calls;
mod remembered;
// Rules at work; tests and replays drive them too.
pub(crate) mod judges;
// Rules.
mod evaluate;
mod refused;
// The engine's owner, and what it shows.
mod alert;
mod note;
mod report;
mod shown;
// Hands.
mod deliver;
mod recorded;
mod recover;
// Words for people.
pub mod render;
// What everybody may see.
pub mod view;

pub(crate) use alert::conditions_of_removed_probes;

use crate::clock::Clock;
use crate::plugin::{Generation, Notice};
use crate::store::history::{History, Limits, PastOf};
use crate::store::{MetricsHealth, Recorder, StateStore};
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;
use watchfire_engine::{Effects, State};

/// Batches between collect and evaluate. Two: one being judged, one waiting; more would only make
/// old samples wait.
const ROUNDS_IN_FLIGHT: usize = 2;

/// Messages between alert and deliver. A storm of 5,000 alerts, ungrouped, fits.
const SENDS_IN_FLIGHT: usize = 8_192;

/// Attempts between alert and recover; the engine runs at most `[recover] concurrency` at once.
const ATTEMPTS_IN_FLIGHT: usize = 64;

/// Reports back to the alert stage, which drains them before anything else.
const REPORTS_IN_FLIGHT: usize = 256;

/// Commands of operators and questions of the API that wait; more are refused by the API with 503.
const REQUESTS_WAITING: usize = 32;

/// How long the hands wait at a stop for what is under way: longer than a service that answers takes, and short
/// enough for the alert stage to take in what they report within the time the agent gives all stages.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Everything the pipeline starts from.
#[derive(Debug)]
pub struct Parts {
    /// The agent's timeline.
    pub clock: Clock,
    /// What is configured and live; every stage follows it.
    pub generation: watch::Receiver<Arc<Generation>>,
    /// The engine's state as it was restored, with the effects of the restart.
    pub engine: (State, Effects),
    /// Where decisions become durable.
    pub store: StateStore,
    /// Conditions and events of other parts of the agent.
    pub notices: mpsc::Receiver<Notice>,
    /// Keeps the samples on disk; None: it could not be started.
    pub recording: Option<(Recorder, mpsc::Receiver<PastOf>)>,
    /// Own metrics.
    pub metrics: Arc<Metrics>,
}

/// The running stages, in flow order, and the ways to see and to tell.
#[derive(Debug)]
pub struct Running {
    /// Names for whoever is late at shutdown.
    pub stages: Vec<(&'static str, JoinHandle<()>)>,
    /// For the API.
    pub views: view::Views,
    /// True stops the source; the rest follows.
    pub stop: watch::Sender<bool>,
}

/// Starts all stages.
pub fn spawn(parts: Parts) -> Running {
    let Parts {
        clock,
        generation,
        engine,
        store,
        notices,
        recording,
        metrics,
    } = parts;
    let mut history = History::new(Limits::default());
    let (recorder, pasts) = match recording {
        Some((recorder, pasts)) => {
            history.has_past();
            (Some(recorder), pasts)
        }
        // Of a sender that is gone nothing is heard.
        None => (None, mpsc::channel(1).1),
    };
    let (state, boot) = engine;
    let (stop, stopped) = watch::channel(false);
    let (batches_in, batches) = mpsc::channel(ROUNDS_IN_FLIGHT);
    let (judged_in, judged) = mpsc::channel(1);
    let (sends_in, sends) = mpsc::channel(SENDS_IN_FLIGHT);
    let (attempts_in, attempts) = mpsc::channel(ATTEMPTS_IN_FLIGHT);
    let (reports_in, reports) = mpsc::channel(REPORTS_IN_FLIGHT);
    let (commands_in, commands) = mpsc::channel(REQUESTS_WAITING);
    let (series_in, series) = mpsc::channel(REQUESTS_WAITING);
    let (worried_in, worried) = watch::channel(Arc::new(BTreeSet::new()));
    let (probes_in, probes) = watch::channel(Arc::default());
    let (rules_in, rules) = watch::channel(Arc::default());
    let (alerts_in, alerts) = watch::channel(Arc::default());
    let (notifiers_in, notifiers) = watch::channel(Arc::default());
    let (recovery_in, recovery) = watch::channel(Arc::default());
    let (pipeline_in, pipeline) = watch::channel(Arc::default());

    let first = generation.borrow().clone();
    let memories = first
        .config
        .policy
        .rules
        .iter()
        .map(|rule| (rule.id.clone(), state.memories(&rule.id)))
        .collect();
    let active = judges::Active::of(&state, &first.config.policy.rules);
    let collect = collect::Collect {
        clock: clock.clone(),
        generation: generation.clone(),
        worried,
        batches: batches_in,
        views: probes_in,
        metrics: metrics.clone(),
        stop: stopped,
    };
    let evaluate = evaluate::Evaluate {
        judges: judges::Judges::new(history, memories, active),
        refusals: refused::Refusals::default(),
        values: recorded::Recorded::default(),
        recorder,
        pasts,
        recorded: MetricsHealth::default(),
        batches,
        judged: judged_in,
        series,
        worried: worried_in,
        views: rules_in,
        metrics: metrics.clone(),
    };
    let alert = alert::Alert {
        state,
        clock: clock.clone(),
        store,
        generation: generation.clone(),
        judged,
        reports,
        commands,
        notices,
        sends: sends_in,
        attempts: attempts_in,
        alerts: alerts_in,
        recovery: recovery_in,
        pipeline: pipeline_in,
        metrics: metrics.clone(),
        boot,
    };
    let deliver = deliver::Deliver {
        sends,
        reports: reports_in.clone(),
        generation,
        clock,
        views: notifiers_in,
        metrics: metrics.clone(),
    };
    let recover = recover::Recover {
        attempts,
        reports: reports_in,
        metrics,
    };

    let stages = vec![
        (
            "collect",
            tokio::spawn(collect.run().instrument(tracing::info_span!("collect"))),
        ),
        (
            "evaluate",
            tokio::spawn(evaluate.run().instrument(tracing::info_span!("evaluate"))),
        ),
        (
            "alert",
            tokio::spawn(alert.run().instrument(tracing::info_span!("alert"))),
        ),
        (
            "deliver",
            tokio::spawn(deliver.run().instrument(tracing::info_span!("deliver"))),
        ),
        (
            "recover",
            tokio::spawn(recover.run().instrument(tracing::info_span!("recover"))),
        ),
    ];
    Running {
        stages,
        views: view::Views {
            probes,
            rules,
            alerts,
            notifiers,
            recovery,
            pipeline,
            series: series_in,
            commands: commands_in,
        },
        stop,
    }
}
