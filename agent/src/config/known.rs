//! What is known, before anything runs, about which probe yields which metric.
//!
//! Only `probe-host` yields the same names everywhere; all other probes take theirs from
//! configuration or from what they ask. So the answer is often "perhaps", and nothing may be built
//! on it but defaults and warnings.

use super::model::{ProbeConfig, RuleConfig};
use watchfire_engine::model::ProbeId;

/// Names of `probe-host` that rules are usually written on; for "did you mean".
pub(super) const HOST_METRICS: &[&str] = &[
    "cpu_usage_ratio",
    "filesystem_files_used_ratio",
    "filesystem_used_ratio",
    "load1",
    "load15",
    "load5",
    "load5_per_cpu_ratio",
    "memory_available_bytes",
    "memory_used_ratio",
    "pressure_cpu_some_ratio",
    "pressure_io_some_ratio",
    "pressure_memory_full_ratio",
    "process_count",
    "swap_used_ratio",
    "uptime_seconds",
];

/// What all names of `probe-host` begin with.
const HOST_BEGINNINGS: &[&str] = &[
    "boot_",
    "cgroup_",
    "cpu_",
    "disk_",
    "filesystem_",
    "host_",
    "load",
    "memory_",
    "network_",
    "node_",
    "pressure_",
    "process",
    "swap_",
    "system_",
    "uptime_",
];

/// Whether `probe` yields `metric`; none: nobody knows before it runs.
pub(super) fn yields(probe: &ProbeConfig, metric: &str) -> Option<bool> {
    (&*probe.plugin == "probe-host").then(|| {
        HOST_BEGINNINGS
            .iter()
            .any(|beginning| metric.starts_with(beginning))
    })
}

/// The probes that feed a rule: for each input those known to yield it, or where none is known
/// to, all that might.
pub(super) fn probes_of(rule: &RuleConfig, probes: &[ProbeConfig]) -> Vec<ProbeId> {
    let mut found: Vec<ProbeId> = Vec::new();
    for input in &rule.inputs {
        let sure = |probe: &&ProbeConfig| yields(probe, &input.metric) == Some(true);
        let known = probes.iter().any(|probe| sure(&probe));
        for probe in probes.iter().filter(|probe| match known {
            true => sure(probe),
            false => yields(probe, &input.metric).is_none(),
        }) {
            if !found.contains(&probe.id) {
                found.push(probe.id.clone());
            }
        }
    }
    found
}
