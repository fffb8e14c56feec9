//! Metrics of the host, as the host's `system` capability reads them: grouped into families, typed,
//! explained, filtered.

use std::collections::BTreeMap;
use watchfire_plugin_sdk::prelude::*;

/// What is read where the configuration names nothing.
const STOCK: [&str; 10] = [
    "cpu",
    "memory",
    "disk",
    "network",
    "load",
    "uptime",
    "processes",
    "pressure",
    "cgroup",
    "hardware",
];

/// File systems that hold no data of anybody.
const NO_STORAGE: [&str; 14] = [
    "autofs",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "fuse.lxcfs",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "ramfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// One line for each metric that the host is known to read. Others pass through without.
const HELP: [(&str, &str); 48] = [
    (
        "boot_time_seconds",
        "When the host started, in seconds since 1970",
    ),
    (
        "cgroup_cpu_usage_seconds_total",
        "CPU time used by this control group",
    ),
    (
        "cgroup_memory_limit_bytes",
        "Memory that this control group may use",
    ),
    (
        "cgroup_memory_usage_bytes",
        "Memory that this control group uses",
    ),
    (
        "cpu_core_usage_ratio",
        "Part of the time a core was busy since the last reading",
    ),
    ("cpu_count", "CPUs online"),
    ("cpu_physical_count", "Physical cores"),
    ("cpu_seconds_total", "CPU time by mode, over all CPUs"),
    (
        "cpu_usage_ratio",
        "Part of the time the CPUs were busy since the last reading",
    ),
    ("disk_io_time_seconds_total", "Time a device was busy"),
    ("disk_read_bytes_total", "Bytes read from a device"),
    (
        "disk_reads_completed_total",
        "Reads that a device completed",
    ),
    (
        "disk_writes_completed_total",
        "Writes that a device completed",
    ),
    ("disk_written_bytes_total", "Bytes written to a device"),
    (
        "filesystem_avail_bytes",
        "Bytes that an ordinary user can still write",
    ),
    ("filesystem_files", "Inodes"),
    ("filesystem_files_free", "Inodes that are free"),
    ("filesystem_files_used_ratio", "Part of the inodes in use"),
    ("filesystem_size_bytes", "Size of a file system"),
    (
        "filesystem_used_ratio",
        "Part of the space in use, as df counts it",
    ),
    ("hardware_temperature_celsius", "What a sensor says"),
    (
        "host_info",
        "Always 1; the labels tell the operating system, the kernel and the architecture",
    ),
    ("load1", "Load average over 1 minute"),
    ("load15", "Load average over 15 minutes"),
    ("load5", "Load average over 5 minutes"),
    (
        "load5_per_cpu_ratio",
        "Load average over 5 minutes for each CPU",
    ),
    (
        "memory_available_bytes",
        "Memory that programs can still get without swapping",
    ),
    ("memory_total_bytes", "Memory of the host"),
    ("memory_used_bytes", "Memory in use: total less available"),
    ("memory_used_ratio", "Part of the memory in use"),
    (
        "network_receive_bytes_total",
        "Bytes received by an interface",
    ),
    (
        "network_receive_drop_total",
        "Received packets that an interface dropped",
    ),
    (
        "network_receive_errs_total",
        "Receive errors of an interface",
    ),
    (
        "network_receive_packets_total",
        "Packets received by an interface",
    ),
    ("network_transmit_bytes_total", "Bytes sent by an interface"),
    (
        "network_transmit_drop_total",
        "Packets to send that an interface dropped",
    ),
    ("network_transmit_errs_total", "Send errors of an interface"),
    (
        "network_transmit_packets_total",
        "Packets sent by an interface",
    ),
    (
        "pressure_cpu_some_ratio",
        "Part of the last 10 s in which some task waited for a CPU",
    ),
    (
        "pressure_io_full_ratio",
        "Part of the last 10 s in which all tasks waited for I/O",
    ),
    (
        "pressure_io_some_ratio",
        "Part of the last 10 s in which some task waited for I/O",
    ),
    (
        "pressure_memory_full_ratio",
        "Part of the last 10 s in which all tasks waited for memory",
    ),
    (
        "pressure_memory_some_ratio",
        "Part of the last 10 s in which some task waited for memory",
    ),
    ("process_count", "Processes on the host"),
    ("swap_total_bytes", "Swap of the host"),
    ("swap_used_bytes", "Swap in use"),
    ("swap_used_ratio", "Part of the swap in use"),
    ("uptime_seconds", "Time since the host started"),
];

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Families of the `system` capability.
    families: Vec<String>,
    /// Mount points to leave out; a trailing `*` matches any rest.
    ignore_mounts: Vec<String>,
    /// Types of file systems to leave out; replaces the list of those that hold no data.
    ignore_filesystems: Vec<String>,
    /// Network interfaces to leave out; a trailing `*` matches any rest.
    ignore_interfaces: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            families: STOCK.map(str::to_owned).to_vec(),
            ignore_mounts: Vec::new(),
            ignore_filesystems: NO_STORAGE.map(str::to_owned).to_vec(),
            ignore_interfaces: vec!["lo".to_owned()],
        }
    }
}

/// The probe.
pub struct Host {
    config: Config,
}

impl Probe for Host {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if let Some(unknown) = config
            .families
            .iter()
            .find(|name| !STOCK.contains(&name.as_str()))
        {
            return Err(Error::config(format!(
                "families: there is no family {unknown:?}; write some of {}",
                STOCK.join(", ")
            )));
        }
        Ok(Host { config })
    }

    fn collect(&mut self) -> Result<Collection> {
        let names: Vec<&str> = self.config.families.iter().map(String::as_str).collect();
        let readings = host::system::read(&names)?;
        Ok(group(
            readings
                .into_iter()
                .filter(|reading| self.config.wants(reading)),
        ))
    }

    fn wants() -> Vec<String> {
        vec!["system".to_owned()]
    }
}

impl Config {
    fn wants(&self, reading: &host::system::Reading) -> bool {
        let label = |name: &str| {
            let found = reading.labels.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        if reading.metric.starts_with("filesystem_") {
            let ignored_type = label("fstype")
                .is_some_and(|kind| self.ignore_filesystems.iter().any(|i| i == kind));
            let ignored_mount =
                label("mountpoint").is_some_and(|mount| any_matches(&self.ignore_mounts, mount));
            // In a container the root is an overlay, and the one that fills up.
            let root = label("mountpoint") == Some("/");
            return (root || !ignored_type) && !ignored_mount;
        }
        if reading.metric.starts_with("network_") {
            return !label("device")
                .is_some_and(|device| any_matches(&self.ignore_interfaces, device));
        }
        true
    }
}

fn any_matches(patterns: &[String], text: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => pattern == text,
        })
}

/// One family a metric, in the order in which the host first names it.
fn group(readings: impl Iterator<Item = host::system::Reading>) -> Collection {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut families: Vec<Family> = Vec::new();
    for reading in readings {
        let place = *places.entry(reading.metric).or_insert_with_key(|metric| {
            families.push(family(metric));
            families.len() - 1
        });
        families[place].push(reading.labels, reading.value);
    }
    Collection::from(families)
}

fn family(metric: &str) -> Family {
    let help = HELP
        .binary_search_by(|(name, _)| (*name).cmp(metric))
        .map_or("", |at| HELP[at].1);
    if metric.ends_with("_total") {
        Family::counter(metric, help)
    } else {
        Family::gauge(metric, help)
    }
}

watchfire_plugin_sdk::probe!(Host);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The table, and what the host would read: family, metric, labels, value.
    #[derive(serde::Deserialize)]
    struct Input {
        config: Value,
        #[serde(default)]
        readings: Vec<(String, String, BTreeMap<String, String>, f64)>,
    }

    /// `{"error": …}`, or the samples by type.
    fn answer(input: &Input) -> Value {
        let host = mock::Host::new();
        for (family, metric, labels, value) in &input.readings {
            let labels: Vec<_> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
            host.reading(family, metric, &labels, *value);
        }
        let mut probe = match Host::configure(&input.config.to_string()) {
            Ok(probe) => probe,
            Err(error) => return json!({ "error": error.to_string() }),
        };
        let mut samples = serde_json::Map::new();
        for family in probe.collect().unwrap().families {
            let kind = format!("{:?}", family.kind).to_lowercase();
            for point in &family.points {
                let labels: Vec<_> = point
                    .labels
                    .iter()
                    .map(|(k, v)| format!("{k}={v}"))
                    .collect();
                let series = format!("{} {}{{{}}}", kind, family.metric, labels.join(","));
                samples.insert(series, json!(point.value));
            }
        }
        json!({ "samples": samples })
    }

    #[test]
    fn testdata_is_read_as_expected() {
        for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
            assert_eq!(
                answer(&case.json("input.json")),
                case.json::<Value>("expected.json"),
                "{}",
                case.name
            );
        }
    }

    fn host() -> mock::Host {
        let host = mock::Host::new();
        host.reading("cpu", "cpu_usage_ratio", &[], 0.25);
        host.reading("cpu", "cpu_seconds_total", &[("mode", "user")], 12.0);
        host.reading("cpu", "cpu_seconds_total", &[("mode", "idle")], 88.0);
        host.reading(
            "disk",
            "filesystem_used_ratio",
            &[("mountpoint", "/"), ("fstype", "ext4")],
            0.5,
        );
        host.reading(
            "disk",
            "filesystem_used_ratio",
            &[("mountpoint", "/proc"), ("fstype", "proc")],
            1.0,
        );
        host.reading(
            "network",
            "network_receive_bytes_total",
            &[("device", "lo")],
            1.0,
        );
        host.reading(
            "network",
            "network_receive_bytes_total",
            &[("device", "eth0")],
            2.0,
        );
        host.reading("load", "a_new_reading", &[], 3.0);
        host
    }

    fn collect(config: &str) -> Collection {
        Host::configure(config).unwrap().collect().unwrap()
    }

    #[test]
    fn readings_become_families_with_types_and_words() {
        let _host = host();
        let collection = collect("{}");
        let family = |name: &str| {
            collection
                .families
                .iter()
                .find(|f| f.metric == name)
                .unwrap()
        };
        assert_eq!(family("cpu_seconds_total").points.len(), 2);
        assert_eq!(
            family("cpu_seconds_total").kind,
            watchfire_plugin_sdk::probe::Kind::Counter
        );
        assert_eq!(
            family("cpu_usage_ratio").kind,
            watchfire_plugin_sdk::probe::Kind::Gauge
        );
        assert!(
            family("cpu_usage_ratio")
                .help
                .starts_with("Part of the time")
        );
        assert_eq!(family("a_new_reading").help, "");
    }

    #[test]
    fn what_holds_no_data_is_left_out_and_can_be_had() {
        let _host = host();
        let stock = collect("{}");
        assert_eq!(
            stock.value(
                "filesystem_used_ratio",
                &[("mountpoint", "/"), ("fstype", "ext4")]
            ),
            Some(0.5)
        );
        assert_eq!(
            stock.value(
                "filesystem_used_ratio",
                &[("mountpoint", "/proc"), ("fstype", "proc")]
            ),
            None
        );
        assert_eq!(
            stock.value("network_receive_bytes_total", &[("device", "lo")]),
            None
        );
        assert_eq!(
            stock.value("network_receive_bytes_total", &[("device", "eth0")]),
            Some(2.0)
        );
        let all = collect(
            r#"{"ignore_interfaces": [], "ignore_filesystems": [], "ignore_mounts": ["/pro*"]}"#,
        );
        assert_eq!(
            all.value("network_receive_bytes_total", &[("device", "lo")]),
            Some(1.0)
        );
        assert_eq!(
            all.value(
                "filesystem_used_ratio",
                &[("mountpoint", "/proc"), ("fstype", "proc")]
            ),
            None
        );
    }

    #[test]
    fn an_unknown_family_is_named_with_those_there_are() {
        let error = Host::configure(r#"{"families": ["cpus"]}"#)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("\"cpus\"") && error.contains("cpu, memory"),
            "{error}"
        );
    }

    #[test]
    fn the_words_stand_in_order_so_that_they_are_found() {
        assert!(HELP.is_sorted_by_key(|(name, _)| *name));
    }
}
