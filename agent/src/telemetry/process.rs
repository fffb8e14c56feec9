//! The standard `process_*` metrics, read from the kernel when somebody asks.

use super::exposition::Exposition;
use crate::sandbox::types::FamilyKind;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Writes what can be read; a figure that cannot be is left out.
pub(super) fn write(to: &mut Exposition, start_time_secs: f64) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds and nanoseconds far below 2^53"
    )]
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let (open, most) = (
        std::fs::read_dir("/proc/self/fd")
            .ok()
            // The listing itself is one of them.
            .map(|all| all.count().saturating_sub(1) as f64),
        getrlimit(Resource::Nofile)
            .current
            .map_or(f64::INFINITY, |limit| limit as f64),
    );
    let all = [
        (
            "process_cpu_seconds_total",
            FamilyKind::Counter,
            "CPU time used, all threads.",
            Some(cpu),
        ),
        (
            "process_resident_memory_bytes",
            FamilyKind::Gauge,
            "Resident memory.",
            kib(&status, "VmRSS:"),
        ),
        (
            "process_virtual_memory_bytes",
            FamilyKind::Gauge,
            "Address space.",
            kib(&status, "VmSize:"),
        ),
        (
            "process_open_fds",
            FamilyKind::Gauge,
            "Open file descriptors.",
            open,
        ),
        (
            "process_max_fds",
            FamilyKind::Gauge,
            "Limit of open file descriptors.",
            Some(most),
        ),
        (
            "process_start_time_seconds",
            FamilyKind::Gauge,
            "Start of the process, seconds since 1970.",
            Some(start_time_secs),
        ),
    ];
    for (name, kind, help, value) in all {
        if let Some(value) = value
            && to.family(name, kind, help)
        {
            to.sample(name, std::iter::empty(), value);
        }
    }
}

/// Bytes of a line such as `VmRSS:     1234 kB`.
fn kib(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let number: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024.0)
}
