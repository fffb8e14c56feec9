//! What goes into and comes out of a guest call, as plain Rust. `convert.rs` maps it to the contract.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Severities, Severity};

pub use super::grants::{Grants, SecretGrant};

/// The four kinds of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Collects samples.
    Probe,
    /// Judges inputs.
    Rule,
    /// Sends messages.
    Notifier,
    /// Repairs.
    Action,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Probe, Kind::Rule, Kind::Notifier, Kind::Action];

    /// `probe`, `rule`, `notifier`, `action`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Probe => "probe",
            Kind::Rule => "rule",
            Kind::Notifier => "notifier",
            Kind::Action => "action",
        }
    }

    /// The name of the tables that use it: `probe`, `rule`, `notifier`, `recovery`.
    pub fn table(self) -> &'static str {
        match self {
            Kind::Action => "recovery",
            kind => kind.name(),
        }
    }
}

/// Bounds of one call.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Limits {
    /// Linear memories of the store together, bytes.
    pub memory_bytes: usize,
    /// CPU time inside the guest.
    pub cpu: Duration,
    /// From the start of the call to its answer, host calls included.
    pub wall: Duration,
    /// Samples of one collection; more is refused as a whole.
    pub samples: usize,
}

impl Limits {
    /// The defaults of a kind (decisions.md 9): wall 5 s, 1 s, 15 s, 60 s; CPU 500 ms; 64 MiB; 10,000 samples.
    pub fn of(kind: Kind) -> Self {
        Limits {
            memory_bytes: 64 << 20,
            cpu: Duration::from_millis(500),
            wall: Duration::from_secs(match kind {
                Kind::Probe => 5,
                Kind::Rule => 1,
                Kind::Notifier => 15,
                Kind::Action => 60,
            }),
            samples: 10_000,
        }
    }

    /// Those of a component of `bytes`: a large one brings a run time of its own (Python) and gets 128 MiB.
    pub fn of_component(kind: Kind, bytes: usize) -> Self {
        let mut limits = Limits::of(kind);
        if bytes > LARGE_COMPONENT_BYTES {
            limits.memory_bytes = LARGE_MEMORY_BYTES;
        }
        limits
    }
}

/// Components above this size bring a run time of their own ...
const LARGE_COMPONENT_BYTES: usize = 8 << 20;

/// ... which needs this memory.
const LARGE_MEMORY_BYTES: usize = 128 << 20;

/// One configured use of a component: everything a call needs beside its arguments.
#[derive(Clone, Debug)]
pub struct Use {
    /// `id` of the probe, rule, notifier or recovery: the name space of `state`, the name in logs and metrics.
    pub id: Arc<str>,
    /// The plugin's table as JSON.
    pub config: Arc<str>,
    /// What it may reach.
    pub grants: Arc<Grants>,
    /// What it may spend.
    pub limits: Limits,
}

/// What a component says of itself. Text of a stranger: escape before printing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Description {
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One line.
    pub summary: String,
    /// JSON Schema of its table.
    pub config_schema: Option<String>,
    /// Grants it asks for.
    pub wants: Vec<String>,
    /// Whatever else.
    pub extra: Vec<(String, String)>,
}

/// Prometheus types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FamilyKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up; resets to zero.
    Counter,
    /// `_bucket`, `_sum`, `_count`.
    Histogram,
    /// Quantiles, `_sum`, `_count`.
    Summary,
    /// Not told.
    Untyped,
}

/// The answer of a probe, checked: names follow the data model, bounds hold, no series stands twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collection {
    /// Families in the probe's order.
    pub families: Vec<Family>,
    /// What went wrong on the way: a partial answer is an answer.
    pub failures: Vec<CallError>,
}

/// One metric with its points.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Name without suffix.
    pub metric: Arc<str>,
    /// Its type.
    pub kind: FamilyKind,
    /// One line.
    pub help: Arc<str>,
    /// Points.
    pub points: Vec<Point>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// `metric` with the suffix.
    pub series: watchfire_engine::model::Series,
    /// NaN is kept: it means unknown.
    pub value: f64,
}

/// What a rule wants beside the current values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Labels of each instance.
    pub labels: bool,
    /// Memory of its own per instance.
    pub memory: bool,
    /// Inputs of which it wants raw points.
    pub points_of: Vec<String>,
    /// How far back.
    pub back: Duration,
}

/// One round of a rule. Lists have one entry an instance, or none where [`Needs`] did not ask.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// One column an input, in the order of `configure`; NaN: not known now.
    pub columns: Vec<Vec<f64>>,
    /// Severities at which each instance fires.
    pub active: Vec<Severities>,
    /// Labels of each instance.
    pub labels: Vec<Vec<(String, String)>>,
    /// Memory of each instance.
    pub memory: Vec<Vec<u8>>,
    /// One list an input of `points_of`, in it one list an instance: `(ms since 1970, value)`, oldest first.
    pub points: Vec<Vec<Vec<(u64, f64)>>>,
}

/// What a rule answered; one entry an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// None: unknown.
    pub breached: Vec<Option<Severities>>,
    /// The judged values; NaN: nothing to say.
    pub values: Vec<f64>,
    /// The limits they were held against; NaN: nothing to say.
    pub limits: Vec<f64>,
    /// Sparse: instance and what to tell.
    pub notes: Vec<(u32, String)>,
    /// New memory, or empty.
    pub memory: Vec<Vec<u8>>,
}

/// A message for a notifier, ready to be sent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Message {
    /// Stable over retries.
    pub id: String,
    /// Identity of the alert at the service.
    pub dedup_key: String,
    /// `fire`, `resolve`, …
    pub reason: String,
    /// At least one.
    pub alerts: Vec<Alert>,
    /// One line.
    pub title: String,
    /// Several.
    pub text: String,
    /// Whatever else.
    pub extra: Vec<(String, String)>,
}

/// An alert as notifiers and actions see it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Alert {
    /// 32 hexadecimal digits.
    pub fingerprint: String,
    /// Counts its episodes.
    pub episode: u64,
    /// The rule.
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// The alert's labels, those of the host included.
    pub labels: Vec<(String, String)>,
    /// The judged value.
    pub value: Option<f64>,
    /// Its limit.
    pub limit: Option<f64>,
    /// One line for people.
    pub summary: String,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// None while it fires.
    pub ended_at_ms: Option<u64>,
    /// runbook, dashboard, metric, correlation …
    pub extra: Vec<(String, String)>,
}

/// What a service answered to a notifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// The service's own id.
    pub remote_id: Option<String>,
    /// Whatever else.
    pub extra: Vec<(String, String)>,
}

/// What an action did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// For people.
    pub did: String,
    /// Whether anything changed.
    pub changed: bool,
}

/// How a call failed. What follows depends on the case alone; texts are for people, with secrets masked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The configuration is wrong: no retry until it changes.
    #[error("{0}")]
    Config(String),
    /// A grant is missing; the text ends with the line that would allow it.
    #[error("{0}")]
    Denied(String),
    /// The other side did not answer or asked to wait.
    #[error("{message}")]
    Unavailable {
        /// What happened.
        message: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// The other side refused for good.
    #[error("{0}")]
    Rejected(String),
    /// The plugin says it has a defect.
    #[error("{0}")]
    Internal(String),
    /// A wasm trap; with the end of what it wrote to stderr (a panic message).
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// The plugin called `exit`.
    #[error("the plugin called exit({0})")]
    Exited(i32),
    /// Its CPU budget is spent.
    #[error("the plugin used up its CPU budget of {0:?}")]
    CpuLimit(Duration),
    /// Its wall limit is over.
    #[error("the plugin did not answer within {0:?}")]
    WallLimit(Duration),
    /// It wanted more memory than allowed.
    #[error("the plugin wanted more than its {0} bytes of memory")]
    MemoryLimit(usize),
    /// It made more host calls than allowed.
    #[error("the plugin made more than {0} host calls in one call")]
    HostCallLimit(u32),
    /// Its answer breaks a bound or the data model.
    #[error("the plugin's answer was refused: {0}")]
    BadResult(String),
    /// It was not called: it failed too often by its own fault.
    #[error("{message}")]
    Quarantined {
        /// Why, and the last of its failures.
        message: String,
        /// Until it is tried again.
        retry_after: Duration,
    },
}

impl CallError {
    /// Whether it counts against the plugin (quarantine), not against its surroundings.
    pub fn is_plugins_fault(&self) -> bool {
        !matches!(
            self,
            CallError::Config(_)
                | CallError::Denied(_)
                | CallError::Unavailable { .. }
                | CallError::Rejected(_)
                | CallError::Quarantined { .. }
        )
    }

    /// The value of the label `outcome` in own metrics.
    pub fn name(&self) -> &'static str {
        match self {
            CallError::Config(_) => "config",
            CallError::Denied(_) => "denied",
            CallError::Unavailable { .. } => "unavailable",
            CallError::Rejected(_) => "rejected",
            CallError::Internal(_) => "internal",
            CallError::Trapped(_) => "trapped",
            CallError::Exited(_) => "exited",
            CallError::CpuLimit(_) => "cpu_limit",
            CallError::WallLimit(_) => "wall_limit",
            CallError::MemoryLimit(_) => "memory_limit",
            CallError::HostCallLimit(_) => "host_call_limit",
            CallError::BadResult(_) => "bad_result",
            CallError::Quarantined { .. } => "quarantined",
        }
    }
}

/// What one call cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Cost {
    /// From start to answer.
    pub wall: Duration,
    /// Epoch ticks of 10 ms that passed inside the guest.
    pub cpu_ticks: u32,
    /// Part of `wall` in which the call held a thread: the component's own computing, and host functions as
    /// far as they do not wait. What `cpu_ticks` cannot see of short calls is in here.
    pub busy: Duration,
    /// Part of `wall` spent in host calls.
    pub host: Duration,
    /// Host calls made.
    pub host_calls: u32,
    /// Peak of the linear memories.
    pub memory_bytes: usize,
    /// Bytes sent to the network.
    pub bytes_out: u64,
    /// Requests and connections made.
    pub requests: u32,
    /// Requests that a service answered, well or not, to the end or not.
    pub answers: u32,
    /// Refusals for want of a grant.
    pub refusals: u32,
}

/// One secret's place of origin, resolved at each use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `{ env = "NAME" }`.
    Env(String),
    /// `{ file = "/run/credentials/slack" }`; one trailing newline is cut.
    File(std::path::PathBuf),
}

/// `[command.NAME]`: an argument vector the operator wrote down.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSpec {
    /// Program and fixed arguments.
    pub argv: Vec<String>,
    /// Run as this user, where the agent may.
    pub user: Option<String>,
    /// Working directory; default `/`.
    pub cwd: Option<std::path::PathBuf>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Whether the plugin may hand in standard input.
    pub stdin: bool,
    /// Wall limit; the process group is killed.
    pub timeout: Duration,
    /// Bytes kept of stdout and of stderr each.
    pub max_output_bytes: usize,
}

/// `[mail]`: the server of the `mail` capability.
#[derive(Clone, Debug, PartialEq)]
pub struct MailServer {
    /// Host name.
    pub host: String,
    /// 587 with STARTTLS, 465 with TLS, 25 without.
    pub port: u16,
    /// How it is encrypted.
    pub tls: MailTls,
    /// Login; may hold `{{secret:name}}`.
    pub user: Option<String>,
    /// Password; may hold `{{secret:name}}`.
    pub password: Option<String>,
    /// Sender.
    pub from: String,
}

/// Encryption of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the start (465).
    Wrapped,
    /// STARTTLS, required (587).
    StartTls,
    /// None: loopback only.
    None,
}
