//! The machine: numbers, processes, services. Grant `system`.
//!
//! One snapshot a round, shared by all probes.

use crate::{Pairs, Result, calls};

/// A number of the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Full metric name: `cpu_usage_ratio`, `node_load1` …
    pub metric: String,
    /// Labels of the series.
    pub labels: Pairs,
    /// The value, in the unit of the name.
    pub value: f64,
}

/// A running process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Process id. With `started_at` it names one process for good.
    pub pid: u32,
    /// Process id of the parent.
    pub parent: Option<u32>,
    /// Short name.
    pub name: String,
    /// Command line.
    pub command: String,
    /// systemd unit it belongs to.
    pub unit: Option<String>,
    /// `running`, `sleeping`, `zombie` …
    pub run_state: String,
    /// How many threads.
    pub threads: u32,
    /// Share of one CPU since the last round; above 1 with several threads.
    pub cpu_ratio: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Open files; `None` where they are not for us to see.
    pub open_files: Option<u32>,
    /// Start, seconds since 1970.
    pub started_at: u64,
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Name with its suffix: `nginx.service`.
    pub unit: String,
    /// `active`, `failed`, `inactive` …
    pub active_state: String,
    /// `running`, `exited`, `dead` …
    pub sub_state: String,
    /// How often systemd started it anew.
    pub restarts: u32,
    /// Last change of state, seconds since 1970.
    pub since: u64,
}

/// The host's name, as configured.
pub fn hostname() -> String {
    calls::system_hostname()
}

/// The readings of these families: `cpu`, `memory`, `disk`, `network`, `load` …
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant; [`Config`](crate::Error::Config) for an unknown family.
pub fn read(families: &[&str]) -> Result<Vec<Reading>> {
    let families: Vec<String> = families.iter().map(|family| (*family).to_owned()).collect();
    calls::system_read(&families)
}

/// The processes called `name`, all where it is empty.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant.
pub fn processes(name: &str) -> Result<Vec<Process>> {
    calls::system_processes(name)
}

/// The units that match `pattern`: `nginx.service`, `*.timer`.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant, [`Unavailable`](crate::Error::Unavailable) where there is no
/// systemd.
pub fn services(pattern: &str) -> Result<Vec<Service>> {
    calls::system_services(pattern)
}
