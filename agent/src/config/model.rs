//! The configuration after everything in it was checked: what the rest of the agent works with.

use super::lock::Lock;
use crate::sandbox::types::{CommandSpec, Grants, Kind, Limits, MailServer, SecretSource};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::Policy;
use watchfire_engine::model::{Labels, NotifierId, ProbeId, ProcedureId, RuleId};
pub use watchfire_engine::pace::Adaptive;
use watchfire_engine::policy::LabelMatcher;

/// All of it, valid as a whole. Cheap to share; replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it came from.
    pub source: Source,
    /// `[agent]`.
    pub agent: AgentConfig,
    /// `[api]`.
    pub api: ApiConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[engine]`.
    pub engine: EngineConfig,
    /// `[retention]`.
    pub retention: Retention,
    /// `[secrets]`.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `[command.NAME]`.
    pub commands: BTreeMap<String, CommandSpec>,
    /// `[mail]`.
    pub mail: Option<MailServer>,
    /// `[heartbeat]`.
    pub heartbeat: Option<HeartbeatConfig>,
    /// `[plugin.NAME]`: per component.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// `watchfire.lock`; none: there is none, and every file of the plugin folder may run.
    pub lock: Option<Arc<Lock>>,
    /// `[defaults]`: for dropped-in probes without a table.
    pub defaults: ProbeDefaults,
    /// `[[probe]]`.
    pub probes: Vec<ProbeConfig>,
    /// `[[rule]]`, packs included; in the order of the files.
    pub rules: Vec<RuleConfig>,
    /// `[[notifier]]`.
    pub notifiers: Vec<NotifierConfig>,
    /// `[[recovery]]`.
    pub recoveries: Vec<RecoveryConfig>,
    /// Everything the engine needs: rules, routes, inhibitions, procedures, timers.
    pub policy: Arc<Policy>,
}

impl Config {
    /// Limits of a call into the component `plugin`: those of its kind, with what `[plugin.NAME]`
    /// overrides. A use's own `timeout` bounds the wall time further.
    pub fn limits(&self, plugin: &str, kind: Kind) -> Limits {
        let mut limits = Limits::of(kind);
        if let Some(own) = self.plugins.get(plugin) {
            limits.memory_bytes = own.memory_bytes.unwrap_or(limits.memory_bytes);
            limits.cpu = own.cpu.unwrap_or(limits.cpu);
            limits.wall = own.wall.unwrap_or(limits.wall);
            limits.samples = own.samples.unwrap_or(limits.samples);
        }
        limits
    }
}

/// Where a configuration came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The main file; none: built in.
    pub main: Option<PathBuf>,
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
    /// Folders to watch for files that an `include` glob would take up.
    pub watch: Vec<PathBuf>,
    /// SHA-256 over names and contents of all files: equal means nothing changed.
    pub digest: [u8; 32],
    /// The texts themselves, to persist as the last good configuration.
    pub texts: Vec<(PathBuf, Arc<str>)>,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// Default: the host's name.
    pub host: Arc<str>,
    /// On every sample and alert; `host` is among them.
    pub labels: Labels,
    /// State lives here.
    pub data_dir: PathBuf,
    /// Folder of drop-in components.
    pub plugins_dir: PathBuf,
}

/// `[api]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiConfig {
    /// Socket address; none: no TCP listener (`listen = ""`).
    pub listen: Option<std::net::SocketAddr>,
    /// Further names accepted in `Host` beside localhost and the bound address.
    pub hosts: Vec<String>,
    /// The unix socket.
    pub socket: PathBuf,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Text for people or JSON lines with ECS names.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: tracing::Level,
    /// Default: stderr.
    pub file: Option<PathBuf>,
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// `[engine]`: how guests run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineConfig {
    /// None: chosen at start by a trial.
    pub small_address_space: Option<bool>,
    /// None: only where memory cannot be made executable.
    pub interpreter: Option<bool>,
}

/// `[retention]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    /// Alert events.
    pub alerts: Duration,
    /// Other events.
    pub events: Duration,
    /// Samples.
    pub metrics: Duration,
    /// 5-minute roll-ups of samples.
    pub rollups: Duration,
    /// Bytes of samples and roll-ups on disk; the oldest go first.
    pub metrics_bytes_max: u64,
}

/// `[heartbeat]`.
#[derive(Clone, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// Where; with `{{secret:NAME}}` in it, perhaps as all of it.
    pub url: Arc<str>,
    /// How often.
    pub every: Duration,
}

/// The address of a dead-man's switch is a key to it: it is never printed.
impl std::fmt::Debug for HeartbeatConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeartbeatConfig")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// `[plugin.NAME]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginConfig {
    /// Pins the component.
    pub sha256: Option<[u8; 32]>,
    /// Overrides of the limits; none: the kind's default.
    pub memory_bytes: Option<usize>,
    /// CPU time of a call.
    pub cpu: Option<Duration>,
    /// Wall time of a call.
    pub wall: Option<Duration>,
    /// Samples of a collection.
    pub samples: Option<usize>,
    /// `wasi = "stub"`: link all of WASI, refusing everything.
    pub stub_wasi: bool,
}

/// `[defaults]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeDefaults {
    /// Interval.
    pub every: Duration,
    /// Deadline.
    pub timeout: Duration,
    /// Spread.
    pub jitter: Duration,
    /// Adaptive interval; none: fixed.
    pub adaptive: Option<Adaptive>,
}

/// One `[[probe]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    /// Its id.
    pub id: ProbeId,
    /// Component.
    pub plugin: Arc<str>,
    /// Interval.
    pub every: Duration,
    /// Deadline of a run.
    pub timeout: Duration,
    /// A fixed delay of this host in `[0, jitter)`, so that a fleet does not ask at once.
    pub jitter: Duration,
    /// Adaptive interval.
    pub adaptive: Option<Adaptive>,
    /// What it may reach.
    pub grant: Arc<Grants>,
    /// Its table as JSON.
    pub config: Arc<str>,
    /// Added to its samples.
    pub labels: Labels,
}

/// One `[[rule]]`. How a composite combines others stands in the policy; here it has no inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleConfig {
    /// Its id.
    pub id: RuleId,
    /// Component; none for a composite.
    pub plugin: Option<Arc<str>>,
    /// Declared inputs, by name; the order is that of the columns.
    pub inputs: Vec<InputConfig>,
    /// Labels that inputs are joined and instances told apart by; none: all labels of the series.
    pub by: Option<Vec<Arc<str>>>,
    /// Its table as JSON.
    pub config: Arc<str>,
    /// Template of the summary.
    pub summary: Option<Arc<str>>,
    /// Where to read on.
    pub runbook: Option<Arc<str>>,
    /// Where to look.
    pub dashboard: Option<Arc<str>>,
    /// Its values are samples of this metric too.
    pub record: Option<Arc<str>>,
    /// From breach to alert at most; checked against the intervals, not enforced.
    pub detect_within: Option<Duration>,
    /// `file:line` of the table, for messages.
    pub origin: String,
}

/// One input of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct InputConfig {
    /// `value` where the rule has one input.
    pub name: Arc<str>,
    /// Full series name (with suffix).
    pub metric: Arc<str>,
    /// Which series.
    pub matches: Vec<LabelMatcher>,
    /// Window; none: the last value.
    pub over: Option<Duration>,
    /// How the window becomes a number.
    pub aggregate: Aggregate,
}

/// Aggregates over a window; time-weighted where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Time-weighted mean.
    Avg,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Sum of samples.
    Sum,
    /// Newest.
    Last,
    /// Number of samples.
    Count,
    /// Of a counter, resets handled.
    Increase,
    /// `Increase` per second of the window.
    Rate,
    /// Newest minus oldest.
    Delta,
    /// Time-weighted quantile, 0 to 1.
    Quantile(u8),
    /// Time-weighted standard deviation.
    Stddev,
    /// How often the value changed.
    Changes,
}

/// One `[[notifier]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifierConfig {
    /// Its id.
    pub id: NotifierId,
    /// Component.
    pub plugin: Arc<str>,
    /// What it may reach.
    pub grant: Arc<Grants>,
    /// Its table as JSON.
    pub config: Arc<str>,
    /// Template of the title.
    pub title: Option<Arc<str>>,
    /// Template of the text.
    pub text: Option<Arc<str>>,
    /// Wall limit of an attempt.
    pub timeout: Duration,
}

/// One `[[recovery]]`; when it acts stands in the policy.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryConfig {
    /// Its id.
    pub id: ProcedureId,
    /// Component.
    pub plugin: Arc<str>,
    /// What it may reach.
    pub grant: Arc<Grants>,
    /// Its table as JSON.
    pub config: Arc<str>,
    /// For people.
    pub description: Option<Arc<str>>,
    /// Wall limit of an attempt.
    pub timeout: Duration,
}
