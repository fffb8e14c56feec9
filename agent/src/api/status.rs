//! What the program tells of itself beside the views of the stages; filled by whoever wires the parts.

use crate::plugin::generation::{Counts, UseStatus};
use crate::telemetry::accounts::Account;
use serde::{Deserialize, Serialize};
use watchfire_engine::model::WallTime;

/// State of the program as a whole.
#[derive(Clone, Debug, Default)]
pub struct AgentStatus {
    /// The probes are scheduled: the first round will come.
    pub scheduled: bool,
    /// When the running configuration was taken.
    pub config_loaded_at: WallTime,
    /// Why the configuration on disk is not the one that runs; none: it is.
    pub config_refused: Option<Refusal>,
    /// Why changes of files are found by rescans only; none: they are watched.
    pub watch_degraded: Option<String>,
    /// How many tables run.
    pub runs: Counts,
    /// Every table that uses a plugin, running or not.
    pub uses: Vec<UseStatus>,
    /// All components, by name.
    pub plugins: Vec<PluginStatus>,
}

/// Something that was not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, for people; several lines where there are several mistakes.
    pub message: String,
    /// Since when.
    pub since: WallTime,
}

/// One component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Name that tables use.
    pub name: String,
    /// What it calls its version; text of a stranger.
    pub version: Option<String>,
    /// What it says it does; text of a stranger.
    pub summary: Option<String>,
    /// `probe`, `rule`, `notifier`, `action`.
    pub kinds: Vec<String>,
    /// `stock`, or the file it came from.
    pub origin: String,
    /// Of the version that runs, hexadecimal.
    pub sha256: Option<String>,
    /// Size of the component.
    pub size_bytes: Option<u64>,
    /// What compiling it took; none: it came from the code cache.
    pub compile_ms: Option<u64>,
    /// When the version that runs was taken.
    pub loaded_at: Option<WallTime>,
    /// Whether a version of it serves calls.
    pub running: bool,
    /// Its file is gone from the plugin folder; it serves until the next restart.
    pub file_removed: bool,
    /// A newer file that was refused; the version before goes on.
    pub rejected: Option<Rejection>,
    /// Why calls are withheld for now.
    pub quarantined: Option<Refusal>,
    /// Whether `watchfire.lock` names it; none: there is no lock, or it is a stock plugin and needs none.
    pub locked: Option<bool>,
    /// Grants it asks for; text of a stranger.
    pub wants: Vec<String>,
    /// Where it is used.
    pub uses: Vec<PluginUse>,
    /// What all its uses did and cost since the start, earlier versions included; filled in when asked for.
    #[serde(flatten)]
    pub account: Account,
}

/// A file that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Of the refused file, hexadecimal; none where it could not be read.
    pub sha256: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    pub since: WallTime,
}

/// One table that uses a component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginUse {
    /// `probe`, `rule`, `notifier`, `recovery`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// What the operator granted, as one would write it.
    pub grants: Vec<String>,
    /// What the component asks for and has nothing of; it runs with what it has. Text of a stranger.
    pub not_granted: Vec<String>,
    /// What its calls may spend; none: it does not run.
    pub limits: Option<UseLimits>,
    /// Why its calls are withheld for now.
    pub quarantined: Option<Quarantine>,
    /// What it did and cost since the start; filled in when asked for.
    #[serde(flatten)]
    pub account: Account,
}

/// What one call may spend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UseLimits {
    /// From call to answer.
    pub wall_seconds: f64,
    /// Inside the component.
    pub cpu_seconds: f64,
    /// All its memories.
    pub memory_bytes: u64,
}

/// Why and how long a use is not called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The failure that began it; text of a stranger.
    pub reason: String,
    /// Since when.
    pub since: WallTime,
    /// When the next call may be made.
    pub retry_at: WallTime,
    /// Trials that failed.
    pub trials: u32,
}
