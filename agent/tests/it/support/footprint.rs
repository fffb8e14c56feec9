//! What a running agent holds of the machine.

use super::Agent;
use std::fs;

/// Memory, mappings and descriptors of a process at one time.
///
/// Not the proportional share of all its pages (PSS): that depends on how many agents other tests run beside this
/// one, whose binary is the same.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Memory that is no file's: `RssAnon`, bytes.
    pub memory_bytes: u64,
    /// Lines of `/proc/PID/maps`.
    pub mappings: u64,
    /// Entries of `/proc/PID/fd`.
    pub descriptors: u64,
}

impl Footprint {
    /// As it is now.
    pub fn of(agent: &Agent) -> Self {
        let own = |name: &str| format!("/proc/{}/{name}", agent.pid());
        let status = fs::read_to_string(own("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kibibytes: u64 = line
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap();
        let maps = fs::read_to_string(own("maps")).unwrap();
        Footprint {
            memory_bytes: kibibytes << 10,
            mappings: maps.lines().count() as u64,
            descriptors: fs::read_dir(own("fd")).unwrap().count() as u64,
        }
    }
}
