//! Parsers of what the kernel says. Pure: text in, readings out; a line that is not understood is left out.

use super::Reading;

/// Ticks a second in /proc/stat. Linux tells userland 100 on every processor, whatever it runs at.
pub(super) const USER_HZ: f64 = 100.0;
/// Modes of CPU time in the order of /proc/stat.
const MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];

/// CPU time of all cores together and of each, in ticks by mode.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CpuTimes {
    all: [u64; 8],
    cores: Vec<(u32, [u64; 8])>,
    context_switches: Option<u64>,
    forks: Option<u64>,
}

/// One resource of /proc/pressure.
pub(super) struct Pressure {
    pub(super) name: &'static str,
    some: [&'static str; 2],
    full: Option<[&'static str; 2]>,
}

/// `full` of the CPU is not defined for the whole system.
pub(super) const PRESSURES: [Pressure; 3] = [
    Pressure {
        name: "cpu",
        some: ["pressure_cpu_some_ratio", "pressure_cpu_some_seconds_total"],
        full: None,
    },
    Pressure {
        name: "io",
        some: ["pressure_io_some_ratio", "pressure_io_some_seconds_total"],
        full: Some(["pressure_io_full_ratio", "pressure_io_full_seconds_total"]),
    },
    Pressure {
        name: "memory",
        some: [
            "pressure_memory_some_ratio",
            "pressure_memory_some_seconds_total",
        ],
        full: Some([
            "pressure_memory_full_ratio",
            "pressure_memory_full_seconds_total",
        ]),
    },
];

pub(super) fn plain(metric: &'static str, value: f64) -> Reading {
    Reading {
        metric,
        labels: Vec::new(),
        value,
    }
}

pub(super) fn labelled(
    metric: &'static str,
    label: &'static str,
    of: impl Into<String>,
    value: f64,
) -> Reading {
    Reading {
        metric,
        labels: vec![(label, of.into())],
        value,
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

impl CpuTimes {
    /// Of /proc/stat.
    pub(super) fn parse(stat: &str) -> Self {
        let mut times = CpuTimes {
            all: [0; 8],
            cores: Vec::new(),
            context_switches: None,
            forks: None,
        };
        for line in stat.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next() else { continue };
            let mut next = || words.next().and_then(|word| word.parse().ok());
            match name {
                "ctxt" => times.context_switches = next(),
                "processes" => times.forks = next(),
                _ => {
                    let Some(core) = name.strip_prefix("cpu") else {
                        continue;
                    };
                    let ticks = std::array::from_fn(|_| next().unwrap_or(0));
                    match core.parse() {
                        Ok(core) => times.cores.push((core, ticks)),
                        Err(_) => times.all = ticks,
                    }
                }
            }
        }
        times
    }

    pub(super) fn cores(&self) -> usize {
        self.cores.len()
    }

    /// The ratios need an earlier reading; where nothing passed since, they are left out.
    pub(super) fn readings(&self, before: Option<&CpuTimes>) -> Vec<Reading> {
        let mut readings = vec![plain("cpu_count", self.cores.len() as f64)];
        for (mode, ticks) in MODES.iter().zip(self.all) {
            let seconds = ticks as f64 / USER_HZ;
            readings.push(labelled("cpu_seconds_total", "mode", *mode, seconds));
        }
        for (metric, count) in [
            ("context_switches_total", self.context_switches),
            ("forks_total", self.forks),
        ] {
            readings.extend(count.map(|count| plain(metric, count as f64)));
        }
        let Some(before) = before else {
            return readings;
        };
        if let Some(busy) = busy_ratio(&before.all, &self.all) {
            readings.push(plain("cpu_usage_ratio", busy));
        }
        for (core, ticks) in &self.cores {
            let old = before.cores.iter().find(|(number, _)| number == core);
            if let Some(busy) = old.and_then(|(_, old)| busy_ratio(old, ticks)) {
                readings.push(labelled(
                    "cpu_core_usage_ratio",
                    "cpu",
                    core.to_string(),
                    busy,
                ));
            }
        }
        readings
    }
}

/// Waiting for a disk is idle time: another task could run.
fn busy_ratio(before: &[u64; 8], now: &[u64; 8]) -> Option<f64> {
    // iowait may go backwards, by the kernel's own documentation.
    let passed: [u64; 8] = std::array::from_fn(|mode| now[mode].saturating_sub(before[mode]));
    let all: u64 = passed.iter().sum();
    let idle = passed[3] + passed[4];
    (all > 0).then(|| ratio((all - idle) as f64, all as f64))
}

/// Of /proc/meminfo.
pub(super) fn memory(meminfo: &str) -> Vec<Reading> {
    let of = |name: &str| -> Option<f64> {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kib * 1024.0)
    };
    let mut readings = Vec::new();
    if let (Some(total), Some(available)) = (of("MemTotal"), of("MemAvailable")) {
        let used = total - available;
        readings.extend([
            plain("memory_total_bytes", total),
            plain("memory_available_bytes", available),
            plain("memory_used_bytes", used),
            plain("memory_used_ratio", ratio(used, total)),
        ]);
    }
    for (metric, name) in [
        ("memory_free_bytes", "MemFree"),
        ("memory_buffers_bytes", "Buffers"),
        ("memory_cached_bytes", "Cached"),
        ("memory_slab_bytes", "Slab"),
    ] {
        readings.extend(of(name).map(|bytes| plain(metric, bytes)));
    }
    if let (Some(total), Some(free)) = (of("SwapTotal"), of("SwapFree")) {
        readings.extend([
            plain("swap_total_bytes", total),
            plain("swap_used_bytes", total - free),
            plain("swap_used_ratio", ratio(total - free, total)),
        ]);
    }
    readings
}

/// Of /proc/net/dev.
pub(super) fn network(dev: &str) -> Vec<Reading> {
    const COLUMNS: [(usize, &str); 8] = [
        (0, "network_receive_bytes_total"),
        (1, "network_receive_packets_total"),
        (2, "network_receive_errs_total"),
        (3, "network_receive_drop_total"),
        (8, "network_transmit_bytes_total"),
        (9, "network_transmit_packets_total"),
        (10, "network_transmit_errs_total"),
        (11, "network_transmit_drop_total"),
    ];
    let mut readings = Vec::new();
    for line in dev.lines() {
        let Some((device, counts)) = line.rsplit_once(':') else {
            continue;
        };
        let counts: Vec<f64> = counts
            .split_ascii_whitespace()
            .map_while(|count| count.parse().ok())
            .collect();
        for (column, metric) in COLUMNS {
            if let Some(count) = counts.get(column) {
                readings.push(labelled(metric, "device", device.trim(), *count));
            }
        }
    }
    readings
}

/// Of /proc/loadavg.
pub(super) fn load(loadavg: &str, cpus: usize) -> Vec<Reading> {
    let mut words = loadavg.split_ascii_whitespace();
    let mut next = || words.next()?.parse::<f64>().ok();
    let mut readings = Vec::new();
    for metric in ["load1", "load5", "load15"] {
        let Some(load) = next() else { break };
        readings.push(plain(metric, load));
        if metric == "load5" {
            readings.push(plain("load5_per_cpu_ratio", load / cpus as f64));
        }
    }
    readings
}

/// Of /proc/uptime and the boot time in seconds since 1970.
pub(super) fn uptime(uptime: &str, boot_time: u64) -> Vec<Reading> {
    let seconds = uptime
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    let mut readings: Vec<Reading> = seconds
        .map(|seconds| plain("uptime_seconds", seconds))
        .into_iter()
        .collect();
    if boot_time > 0 {
        readings.push(plain("boot_time_seconds", boot_time as f64));
    }
    readings
}

impl Pressure {
    /// Of /proc/pressure/NAME.
    pub(super) fn read(&self, text: &str, readings: &mut Vec<Reading>) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let metrics = match words.next() {
                Some("some") => Some(self.some),
                Some("full") => self.full,
                _ => None,
            };
            let Some([ratio, seconds]) = metrics else {
                continue;
            };
            for word in words {
                let value = |key: &str| word.strip_prefix(key)?.parse::<f64>().ok();
                if let Some(percent) = value("avg10=") {
                    readings.push(plain(ratio, percent / 100.0));
                } else if let Some(micros) = value("total=") {
                    readings.push(plain(seconds, micros / 1e6));
                }
            }
        }
    }
}

/// Of the root of the control groups as this process sees it. On a host that has none of these files;
/// in a container it is the container's group.
pub(super) fn cgroup(file: &dyn Fn(&str) -> Option<String>) -> Vec<Reading> {
    let number = |text: Option<String>| text?.trim().parse::<f64>().ok();
    let mut readings = Vec::new();
    // Version 2 first, then version 1, which says "no limit" with a number near 2^63.
    let usage =
        number(file("memory.current")).or_else(|| number(file("memory/memory.usage_in_bytes")));
    let limit = number(file("memory.max"))
        .or_else(|| number(file("memory/memory.limit_in_bytes")))
        .filter(|limit| *limit < 2f64.powi(60));
    readings.extend(usage.map(|usage| plain("cgroup_memory_usage_bytes", usage)));
    readings.extend(limit.map(|limit| plain("cgroup_memory_limit_bytes", limit)));
    if let (Some(usage), Some(limit)) = (usage, limit) {
        readings.push(plain("cgroup_memory_used_ratio", ratio(usage, limit)));
    }
    // On a host the root group has a cpu.stat, too.
    if usage.is_none() {
        return readings;
    }
    if let Some(stat) = file("cpu.stat") {
        for (key, metric) in [
            ("usage_usec ", "cgroup_cpu_usage_seconds_total"),
            ("throttled_usec ", "cgroup_cpu_throttled_seconds_total"),
        ] {
            let micros = stat.lines().find_map(|line| line.strip_prefix(key));
            let micros = micros.and_then(|micros| micros.trim().parse::<f64>().ok());
            readings.extend(micros.map(|micros| plain(metric, micros / 1e6)));
        }
    } else if let Some(nanos) = number(file("cpuacct/cpuacct.usage")) {
        readings.push(plain("cgroup_cpu_usage_seconds_total", nanos / 1e9));
    }
    if let Some(max) = file("cpu.max") {
        let mut words = max.split_ascii_whitespace();
        let mut next = || words.next()?.parse::<f64>().ok();
        if let (Some(quota), Some(period)) = (next(), next()) {
            readings.push(plain("cgroup_cpu_limit_cores", quota / period));
        }
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(readings: &[Reading], metric: &str, label: Option<&str>) -> Option<f64> {
        let found = readings.iter().find(|reading| {
            reading.metric == metric && reading.labels.first().map(|(_, v)| &**v) == label
        });
        found.map(|reading| reading.value)
    }

    #[test]
    fn cpu_time_is_compared_with_the_reading_before() {
        let before = CpuTimes::parse(
            "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 100 0 100 700 100 0 0 0\nintr 1\nctxt 5\n",
        );
        let now = CpuTimes::parse(
            "cpu  160 0 120 800 90 0 0 20 0 0\ncpu0 160 0 120 800 90 0 0 20\ncpu1 0 0 0 1 0 0 0 0\nctxt 9\nprocesses 3\n",
        );
        let readings = now.readings(Some(&before));
        // 60 + 20 + 20 of 200 ticks; iowait went backwards.
        assert_eq!(value(&readings, "cpu_usage_ratio", None), Some(0.5));
        assert_eq!(
            value(&readings, "cpu_core_usage_ratio", Some("0")),
            Some(0.5)
        );
        assert_eq!(value(&readings, "cpu_core_usage_ratio", Some("1")), None);
        assert_eq!(
            value(&readings, "cpu_seconds_total", Some("user")),
            Some(1.6)
        );
        assert_eq!(value(&readings, "context_switches_total", None), Some(9.0));
        assert_eq!(
            value(&now.readings(Some(&now)), "cpu_usage_ratio", None),
            None
        );
        assert_eq!(value(&now.readings(None), "cpu_count", None), Some(2.0));
    }

    #[test]
    fn memory_is_used_where_it_is_not_available() {
        let readings = memory(
            "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nCached: 7 kB\n",
        );
        assert_eq!(value(&readings, "memory_used_ratio", None), Some(0.75));
        assert_eq!(
            value(&readings, "memory_total_bytes", None),
            Some(1_024_000.0)
        );
        assert_eq!(value(&readings, "swap_used_ratio", None), Some(0.0));
        assert_eq!(value(&readings, "memory_cached_bytes", None), Some(7168.0));
        assert!(memory("nonsense").is_empty());
    }

    #[test]
    fn network_counts_by_device() {
        let readings = network(
            "Inter-|   Receive\n face |bytes\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n eth0:1: 9\n",
        );
        assert_eq!(
            value(&readings, "network_receive_bytes_total", Some("eth0")),
            Some(1.0)
        );
        assert_eq!(
            value(&readings, "network_transmit_drop_total", Some("eth0")),
            Some(8.0)
        );
        assert_eq!(
            value(&readings, "network_receive_bytes_total", Some("eth0:1")),
            Some(9.0)
        );
    }

    #[test]
    fn load_uptime_and_pressure() {
        let readings = load("0.50 1.00 2.00 1/234 5678", 4);
        assert_eq!(value(&readings, "load5_per_cpu_ratio", None), Some(0.25));
        assert_eq!(value(&readings, "load15", None), Some(2.0));
        let readings = uptime("12.5 30.0", 99);
        assert_eq!(value(&readings, "uptime_seconds", None), Some(12.5));
        let mut readings = Vec::new();
        PRESSURES[1].read(
            "some avg10=25.00 avg60=1.00 avg300=0.00 total=1500000\nfull avg10=5.00 total=7\n",
            &mut readings,
        );
        assert_eq!(value(&readings, "pressure_io_some_ratio", None), Some(0.25));
        assert_eq!(
            value(&readings, "pressure_io_some_seconds_total", None),
            Some(1.5)
        );
        assert_eq!(value(&readings, "pressure_io_full_ratio", None), Some(0.05));
    }

    #[test]
    fn a_container_has_its_group_and_a_host_has_none() {
        let container = |name: &str| {
            Some(match name {
                "memory.current" => "500\n".to_owned(),
                "memory.max" => "1000\n".to_owned(),
                "cpu.stat" => "usage_usec 2000000\nthrottled_usec 500000\n".to_owned(),
                "cpu.max" => "50000 100000\n".to_owned(),
                _ => return None,
            })
        };
        let readings = cgroup(&container);
        assert_eq!(
            value(&readings, "cgroup_memory_used_ratio", None),
            Some(0.5)
        );
        assert_eq!(
            value(&readings, "cgroup_cpu_usage_seconds_total", None),
            Some(2.0)
        );
        assert_eq!(value(&readings, "cgroup_cpu_limit_cores", None), Some(0.5));
        let host = |name: &str| (name == "cpu.stat").then(|| "usage_usec 1\n".to_owned());
        assert!(cgroup(&host).is_empty());
        let unlimited = |name: &str| {
            Some(match name {
                "memory.current" => "500\n".to_owned(),
                "memory.max" => "max\n".to_owned(),
                _ => return None,
            })
        };
        assert_eq!(
            value(&cgroup(&unlimited), "cgroup_memory_limit_bytes", None),
            None
        );
    }
}
