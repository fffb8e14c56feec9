//! Changes to the machine. Grants `services`, `signals`, `delete`; actions only, and never in a dry run.

use std::time::Duration;

use crate::{Result, calls};

/// What to do to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Let it read its configuration anew.
    Reload,
}

impl Verb {
    /// The lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
            Verb::Reload => "reload",
        }
    }
}

/// Does it to a granted unit, and waits until systemd has done it.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant or in a dry run, [`Rejected`](crate::Error::Rejected) where
/// systemd refused.
pub fn service(unit: &str, verb: Verb) -> Result<()> {
    calls::control_service(unit, verb)
}

/// Sends a signal (`TERM`, without SIG) to the process with this id and start, seconds since 1970: another process that
/// got the same id since then is left alone.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant or in a dry run, [`Rejected`](crate::Error::Rejected) where the
/// process is gone.
pub fn signal_process(pid: u32, started_at: u64, signal: &str) -> Result<()> {
    calls::control_signal_process(pid, started_at, signal)
}

/// Deletes the files under a granted glob that are older than `age`; answers how many bytes that freed.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant or in a dry run.
pub fn delete_older(glob: &str, age: Duration) -> Result<u64> {
    calls::control_delete_older(glob, age.as_secs())
}
