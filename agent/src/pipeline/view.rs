//! What the stages show of themselves. Each stage publishes its own view; the API only reads.

use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use watchfire_engine::effect::AlertView;
use watchfire_engine::input::{CommandKind, Pushed};
use watchfire_engine::model::{Labels, NotifierId, ProbeId, ProcedureId, RuleId, Series, WallTime};
use watchfire_engine::silence::KeptSilence;

/// Intervals of the slowest probe without a round before the pipeline counts as standing.
const SILENT_INTERVALS: u32 = 3;

/// Added to them: a probe may use its deadline, and a machine may be busy.
const SILENT_GRACE: Duration = Duration::from_secs(10);

/// How long without a round the pipeline counts as turning, where a round is due every `longest`.
pub fn standing_after(longest: Duration) -> Duration {
    longest.saturating_mul(SILENT_INTERVALS) + SILENT_GRACE
}

/// Read ends of all views, and the ways to ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Views {
    /// Probes, in the order of the configuration.
    pub probes: watch::Receiver<Arc<Vec<ProbeView>>>,
    /// Rules, likewise.
    pub rules: watch::Receiver<Arc<Vec<RuleView>>>,
    /// Alerts that are not plainly ok.
    pub alerts: watch::Receiver<Arc<AlertsView>>,
    /// Notifiers.
    pub notifiers: watch::Receiver<Arc<Vec<NotifierView>>>,
    /// Recovery.
    pub recovery: watch::Receiver<Arc<RecoveryView>>,
    /// The pipeline itself.
    pub pipeline: watch::Receiver<Arc<PipelineView>>,
    /// Asks the evaluate stage for all latest values; bounded, answers within a round.
    pub series: mpsc::Sender<oneshot::Sender<Vec<FamilyView>>>,
    /// Tells the alert stage what an operator wants.
    pub commands: mpsc::Sender<CommandRequest>,
}

/// One command of an operator with the way back.
#[derive(Debug)]
pub struct CommandRequest {
    /// Who.
    pub by: Arc<str>,
    /// What.
    pub what: Order,
    /// `Ok` once it is committed; else why it cannot be done, for people.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// What comes in from outside the pipeline.
#[derive(Clone, Debug)]
pub enum Order {
    /// An operator wants something.
    Command(CommandKind),
    /// A sender says which alerts hold.
    Push(Vec<Pushed>),
}

/// One probe.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeView {
    /// Its id.
    pub id: ProbeId,
    /// Component.
    pub plugin: Arc<str>,
    /// Current interval.
    pub every: Duration,
    /// When the last run ended.
    pub last_run: Option<WallTime>,
    /// When it last succeeded.
    pub last_success: Option<WallTime>,
    /// Why the last run failed; none: it succeeded, or there was none.
    pub error: Option<String>,
    /// How long the last run took.
    pub duration: Option<Duration>,
    /// Samples of the last run.
    pub samples: usize,
    /// Turns skipped because the run before was still busy.
    pub skipped: u64,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct RuleView {
    /// Its id.
    pub id: RuleId,
    /// Component; none for a composite.
    pub plugin: Option<Arc<str>>,
    /// Instances judged in its last round.
    pub instances: usize,
    /// Breaching ones.
    pub breaching: usize,
    /// The worst instance of the last round: labels, value, limit.
    pub worst: Option<(Labels, Option<f64>, Option<f64>)>,
    /// Why it could not judge.
    pub error: Option<String>,
    /// When it was last judged.
    pub last_round: Option<WallTime>,
}

/// All alerts.
#[derive(Clone, Debug, Default)]
pub struct AlertsView {
    /// Ordered by rule, then labels; meta-alerts included.
    pub alerts: Vec<AlertView>,
    /// Silences, by id; those that are over for some days, too.
    pub silences: Vec<KeptSilence>,
    /// Undelivered notifications.
    pub outbox_pending: usize,
    /// Sequence number of the newest event.
    pub last_seq: u64,
    /// Whether the state is durable, and if not, why.
    pub store_error: Option<String>,
}

/// One notifier.
#[derive(Clone, Debug, Serialize)]
pub struct NotifierView {
    /// Its id.
    pub id: NotifierId,
    /// Component.
    pub plugin: Arc<str>,
    /// Messages accepted since the start.
    pub delivered: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Attempts under way.
    pub running: usize,
    /// When it last accepted one.
    pub last_success: Option<WallTime>,
    /// Why the last attempt failed; none: it succeeded.
    pub error: Option<String>,
}

/// Recovery as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecoveryView {
    /// Whether an operator paused it.
    pub paused: bool,
    /// Procedures in the order of the configuration.
    pub procedures: Vec<ProcedureView>,
    /// Attempts under way.
    pub running: Vec<AttemptView>,
    /// The newest ended attempts, newest first; at most 50.
    pub recent: Vec<AttemptView>,
    /// Verified attempts that helped, of all verified ones; none before the first.
    pub success_ratio: Option<f64>,
}

/// One procedure.
#[derive(Clone, Debug, Serialize)]
pub struct ProcedureView {
    /// Its id.
    pub id: ProcedureId,
    /// Component.
    pub plugin: Arc<str>,
    /// `observe`, `approve`, `auto`.
    pub mode: &'static str,
    /// For people.
    pub description: Option<Arc<str>>,
    /// Rules that trigger it.
    pub rules: Vec<RuleId>,
    /// At or above.
    pub severity: watchfire_engine::model::Severity,
    /// Attempts allowed in the window.
    pub max_attempts: u32,
    /// The window.
    pub window: Duration,
    /// Least time between attempts.
    pub cooldown: Duration,
    /// Alerts for which it waits for approval.
    pub waiting_for_approval: Vec<String>,
    /// The state was lost, and with it the record of attempts: it starts nothing by itself before.
    pub held_until: Option<WallTime>,
}

/// One attempt.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    /// Which procedure.
    pub procedure: ProcedureId,
    /// For which alert.
    pub alert: String,
    /// Its number.
    pub attempt: u32,
    /// The last step known: `start`, `end`, `timeout`, `verified_ok`, …
    pub step: &'static str,
    /// What it did or why it failed.
    pub message: String,
    /// When it started.
    pub started_at: WallTime,
}

/// The pipeline's own figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PipelineView {
    /// Rounds since the start.
    pub rounds: u64,
    /// Rounds skipped.
    pub missed: u64,
    /// When the last round was fully decided; none before the first.
    pub last_round: Option<WallTime>,
    /// From the end of collection to the decision.
    pub last_latency: Option<Duration>,
    /// The longest interval of any probe: liveness is judged by it.
    pub longest_interval: Duration,
}

/// One metric with its latest values, for `/metrics`.
#[derive(Clone, Debug)]
pub struct FamilyView {
    /// Name without suffix.
    pub metric: Arc<str>,
    /// `gauge`, `counter`, …
    pub kind: crate::sandbox::types::FamilyKind,
    /// One line.
    pub help: Arc<str>,
    /// Latest values, base labels included.
    pub points: Vec<(Series, f64)>,
}
