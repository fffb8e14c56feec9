//! What `INFO` tells, as metrics.

use std::collections::BTreeMap;

use watchfire_plugin_sdk::Family;
use watchfire_plugin_sdk::probe::Kind;

/// Databases and replicas of one server that become series: more is a misuse, and would flood the store.
const EACH_MAX: usize = 256;

/// Every metric of this probe in the order of its families: name, help.
const METRICS: [(&str, &str); 21] = [
    ("redis_up", "Whether the server answers and serves"),
    ("redis_ping_duration_seconds", "Round trip of a PING"),
    (
        "redis_certificate_seconds_left",
        "Until the certificate of the server expires",
    ),
    ("redis_uptime_seconds", "Time since the server started"),
    ("redis_memory_used_bytes", "Memory that the data takes"),
    (
        "redis_memory_max_bytes",
        "Memory that the data may take, where there is a limit",
    ),
    (
        "redis_memory_fragmentation_ratio",
        "Resident memory to memory in use",
    ),
    ("redis_keyspace_hits_total", "Look-ups that found a key"),
    ("redis_keyspace_misses_total", "Look-ups that found none"),
    (
        "redis_hit_ratio",
        "Part of the look-ups since the last look that found a key",
    ),
    (
        "redis_evicted_keys_total",
        "Keys removed because memory was full",
    ),
    (
        "redis_expired_keys_total",
        "Keys removed at the end of their life",
    ),
    ("redis_connected_clients", "Connections of clients"),
    (
        "redis_blocked_clients",
        "Clients that wait in a blocking call",
    ),
    ("redis_connected_slaves", "Replicas that are connected"),
    (
        "redis_replication_link_up",
        "Whether a replica is linked to its master",
    ),
    (
        "redis_replication_lag_seconds",
        "Since a replica last heard of its master, or its master of it",
    ),
    (
        "redis_replication_lag_bytes",
        "Bytes that a replica has not confirmed",
    ),
    ("redis_keys", "Keys of each database"),
    (
        "redis_rejected_connections_total",
        "Connections refused because there were too many",
    ),
    (
        "redis_commands_processed_total",
        "Commands that the server processed",
    ),
];

/// Fields of `INFO` that are a metric as they stand.
const PLAIN: [(&str, &str); 12] = [
    ("uptime_in_seconds", "redis_uptime_seconds"),
    ("used_memory", "redis_memory_used_bytes"),
    (
        "mem_fragmentation_ratio",
        "redis_memory_fragmentation_ratio",
    ),
    ("keyspace_hits", "redis_keyspace_hits_total"),
    ("keyspace_misses", "redis_keyspace_misses_total"),
    ("evicted_keys", "redis_evicted_keys_total"),
    ("expired_keys", "redis_expired_keys_total"),
    ("connected_clients", "redis_connected_clients"),
    ("blocked_clients", "redis_blocked_clients"),
    ("connected_slaves", "redis_connected_slaves"),
    ("rejected_connections", "redis_rejected_connections_total"),
    ("total_commands_processed", "redis_commands_processed_total"),
];

/// The families of all servers while they fill.
pub(crate) struct Report(Vec<Family>);

impl Report {
    pub(crate) fn new() -> Self {
        Report(
            METRICS
                .iter()
                .map(|(metric, help)| {
                    let kind = if metric.ends_with("_total") {
                        Kind::Counter
                    } else {
                        Kind::Gauge
                    };
                    Family::new(kind, *metric, *help)
                })
                .collect(),
        )
    }

    /// Adds a value. `metric` is one of [`METRICS`].
    pub(crate) fn add(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        let family = self.0.iter_mut().find(|family| family.metric == metric);
        if let Some(family) = family {
            family.push(labels.iter().copied(), value);
        }
    }

    /// The families that hold something.
    pub(crate) fn families(mut self) -> Vec<Family> {
        self.0.retain(|family| !family.points.is_empty());
        self.0
    }
}

/// Hits and misses at the last look, and the ratio that was told.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub(crate) struct Lookups {
    pub(crate) hits: f64,
    pub(crate) misses: f64,
    pub(crate) ratio: Option<f64>,
}

impl Lookups {
    /// What there is now, with the ratio since `before`. After a restart of the server, which sets it back to 0, and at
    /// first the ratio is that since its start; without a look-up it stands still.
    pub(crate) fn since(before: Option<Lookups>, hits: f64, misses: f64) -> Lookups {
        let before = before.filter(|b| b.hits <= hits && b.misses <= misses);
        let (found, missed) = before.map_or((hits, misses), |b| (hits - b.hits, misses - b.misses));
        let all = found + missed;
        let ratio = if all > 0.0 {
            Some(found / all)
        } else {
            before.and_then(|b| b.ratio)
        };
        Lookups {
            hits,
            misses,
            ratio,
        }
    }
}

/// Adds what `INFO` tells of the server at `address`. A field that is missing is a metric that is missing: what else
/// speaks this protocol tells less. Gives back the look-ups for the next time.
pub(crate) fn add(
    report: &mut Report,
    address: &str,
    info: &str,
    before: Option<Lookups>,
) -> Option<Lookups> {
    let fields: BTreeMap<&str, &str> = info
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .collect();
    let number = |field: &str| number(fields.get(field)?);
    let server = [("address", address)];
    for (field, metric) in PLAIN {
        if let Some(value) = number(field) {
            report.add(metric, &server, value);
        }
    }
    if let Some(max) = number("maxmemory").filter(|max| *max > 0.0) {
        report.add("redis_memory_max_bytes", &server, max);
    }
    replication(report, address, &fields);
    let databases = fields.iter().filter(|(field, _)| numbered(field, "db"));
    for (database, figures) in databases.take(EACH_MAX) {
        if let Some(keys) = part(figures, "keys").and_then(self::number) {
            let labels = [("address", address), ("db", &database[2..])];
            report.add("redis_keys", &labels, keys);
        }
    }
    let now = Lookups::since(before, number("keyspace_hits")?, number("keyspace_misses")?);
    if let Some(ratio) = now.ratio {
        report.add("redis_hit_ratio", &server, ratio);
    }
    Some(now)
}

/// A replica tells of its link; a master of each of its replicas: `slave0:ip=…,port=…,state=online,offset=…,lag=0`.
fn replication(report: &mut Report, address: &str, fields: &BTreeMap<&str, &str>) {
    let number = |field: &str| number(fields.get(field)?);
    let server = [("address", address)];
    if let Some(link) = fields.get("master_link_status") {
        let up = *link == "up";
        report.add(
            "redis_replication_link_up",
            &server,
            f64::from(u8::from(up)),
        );
        let since = if up {
            number("master_last_io_seconds_ago")
        } else {
            number("master_link_down_since_seconds")
        };
        // -1 stands for a link that never was.
        if let Some(since) = since.filter(|since| *since >= 0.0) {
            report.add("redis_replication_lag_seconds", &server, since);
        }
    }
    let written = number("master_repl_offset");
    let replicas = fields.iter().filter(|(field, _)| numbered(field, "slave"));
    for (_, figures) in replicas.take(EACH_MAX) {
        let (Some(ip), Some(port)) = (part(figures, "ip"), part(figures, "port")) else {
            continue;
        };
        let replica = format!("{ip}:{port}");
        let labels = [("address", address), ("replica", &*replica)];
        if let Some(lag) = part(figures, "lag").and_then(self::number) {
            report.add("redis_replication_lag_seconds", &labels, lag);
        }
        let confirmed = part(figures, "offset").and_then(self::number);
        if let (Some(written), Some(confirmed)) = (written, confirmed) {
            let behind = (written - confirmed).max(0.0);
            report.add("redis_replication_lag_bytes", &labels, behind);
        }
    }
}

/// `db0`, `slave12`: the word and a number, nothing else (`db_hits` and `slave_priority` are other fields).
fn numbered(field: &str, word: &str) -> bool {
    field
        .strip_prefix(word)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The value of `name` in `name=value,name=value`.
fn part<'a>(figures: &'a str, name: &str) -> Option<&'a str> {
    figures
        .split(',')
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// A finite number: Redis writes `-nan` and `inf` for ratios of nothing.
fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_ratio_is_that_since_the_last_look() {
        let first = Lookups::since(None, 90.0, 10.0);
        assert_eq!(first.ratio, Some(0.9));
        let second = Lookups::since(Some(first), 91.0, 13.0);
        assert_eq!(second.ratio, Some(0.25));
        let quiet = Lookups::since(Some(second), 91.0, 13.0);
        assert_eq!(quiet.ratio, Some(0.25));
        let restarted = Lookups::since(Some(quiet), 1.0, 1.0);
        assert_eq!(restarted.ratio, Some(0.5));
        assert_eq!(Lookups::since(None, 0.0, 0.0).ratio, None);
    }

    #[test]
    fn every_metric_that_is_added_is_in_the_list() {
        let known = |metric: &str| METRICS.iter().any(|(name, _)| *name == metric);
        assert!(PLAIN.iter().all(|(_, metric)| known(metric)));
    }

    #[test]
    fn garbage_is_no_sample_and_no_panic() {
        let mut report = Report::new();
        let info = "used_memory:-nan\r\nmem_fragmentation_ratio:inf\r\ndb0:keys=x\r\nslave0:ip=,port\r\ndb:\r\n:\r\n\u{1}";
        assert_eq!(add(&mut report, "a:1", info, None), None);
        assert!(report.families().is_empty());
    }
}
