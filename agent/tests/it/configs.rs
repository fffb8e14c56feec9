//! Configurations that several tests share, as text.

use crate::support::Server;

/// A probe that reads `queue` from `source` as `queue_size`, every 200 ms.
pub(crate) fn queue_probe(source: &Server) -> String {
    queue_probe_every("200ms", "190ms", source)
}

/// The same, slow enough that no hiccup of a shared machine costs it a turn.
pub(crate) fn patient_queue_probe(source: &Server) -> String {
    queue_probe_every("1s", "900ms", source)
}

/// The same, as often as a test wants.
pub(crate) fn queue_probe_every(every: &str, timeout: &str, source: &Server) -> String {
    format!(
        r#"
[[probe]]
id     = "queue"
plugin = "probe-json"
every  = "{every}"
timeout = "{timeout}"
grant  = {{ http = ["http://{address}"] }}
config = {{ url = "http://{address}/stats", samples = [{{ metric = "queue_size", pointer = "/queue" }}] }}
"#,
        address = source.address()
    )
}

/// A rule on it: critical above 100, no waiting.
pub(crate) const QUEUE_RULE: &str = r#"
[[rule]]
id     = "queue-long"
metric = "queue_size"
keep   = "0s"
config = { above = { critical = 100 } }
summary = "queue is {{ value }} long"
"#;

/// A webhook notifier `hook` towards `sink`, and a route that sends it everything at once.
pub(crate) fn hook(sink: &Server) -> String {
    format!(
        r#"
[[notifier]]
id     = "hook"
plugin = "notifier-webhook"
grant  = {{ http = ["http://{address}"] }}
config = {{ url = "http://{address}/hook" }}

[[route]]
notify     = ["hook"]
group_by   = []
group_wait = "0s"
"#,
        address = sink.address()
    )
}

/// Retries every 200 ms, so that an outage in a test need not last.
pub(crate) const QUICK_RETRY: &str = r#"
[delivery]
first_retry = "200ms"
factor      = 1
max_retry   = "200ms"
jitter      = 0
"#;
