//! Secrets never leave: canaries in files and in the environment, plugins that show them on purpose, services that
//! echo them, then a search through everything that the agent writes, answers and keeps.

use crate::support::{Agent, Answer, Folder, Received, Server, command, hostile, wait_for};
use std::ffi::OsStr;
use std::fs;

/// Filled in by the host, never shown to a guest. With signs that URLs, JSON and TOML write in their own ways.
const FILLED: &str = "c4nary-f1lled+/=&\"\\ 0123456789";
/// From the environment; shown to a guest, which tells it on.
const SHOWN: &str = "c4nary-sh0wn-abcdefghijk";
/// What each of them would look like somewhere, in pieces that no escaping changes, and as base64 of their start.
const TRACES: [&str; 4] = ["f1lled", "sh0wn", "YzRuYXJ5LWYxbGxlZC", "YzRuYXJ5LXNoMHdu"];

fn config(sink: &Server, source: &Server, dead: u16, level: &str, format: &str) -> String {
    format!(
        r#"
[log]
level = "{level}"
format = "{format}"

[secrets]
filled = {{ file = "canary" }}
shown = {{ env = "CANARY" }}

[command.shout]
argv = ["/bin/sh", "-c", "echo $CANARY; env"]

[[probe]]
id = "teller"
plugin = "hostile"
# Not a whole second: the guest's turns go by tenths of one, and all four have to come.
every = "1100ms"
timeout = "900ms"
config = {{ do = "tell secrets", at = "shown" }}
grant = {{ secrets = {{ shown = {{ to = "127.0.0.1:1", reveal = true }} }} }}

[[probe]]
id = "echoed"
plugin = "probe-json"
every = "1s"
timeout = "900ms"
grant = {{ http = ["http://{source}"], secrets = {{ filled = "{source}" }} }}
config = {{ url = "http://{source}/{{{{secret:filled}}}}", headers = {{ authorization = "Bearer {{{{secret:filled}}}}" }}, samples = [{{ metric = "m", pointer = "/no" }}] }}

[[probe]]
id = "dead"
plugin = "probe-json"
every = "1s"
timeout = "900ms"
grant = {{ http = ["http://127.0.0.1:{dead}"], secrets = {{ filled = "127.0.0.1:{dead}" }} }}
config = {{ url = "http://127.0.0.1:{dead}/{{{{secret:filled}}}}", samples = [{{ metric = "n", pointer = "/no" }}] }}

[[probe]]
id = "elsewhere"
plugin = "probe-json"
every = "1s"
timeout = "900ms"
grant = {{ http = ["http://{source}"], secrets = {{ filled = "hooks.example.org" }} }}
config = {{ url = "http://{source}/{{{{secret:filled}}}}", samples = [{{ metric = "o", pointer = "/no" }}] }}

[[rule]]
id = "told"
metric = "told"
keep = "0s"
config = {{ above = {{ critical = 0 }} }}
summary = "{{{{ labels.secret }}}} is {{{{ value }}}}"

[[notifier]]
id = "hook"
plugin = "notifier-webhook"
grant = {{ http = ["http://{sink}"], secrets = {{ filled = "{sink}" }} }}
config = {{ url = "http://{sink}/{{{{secret:filled}}}}", headers = {{ authorization = "Bearer {{{{secret:filled}}}}" }} }}

[[route]]
notify = ["hook"]
group_by = []
group_wait = "0s"
"#,
        sink = sink.address(),
        source = source.address(),
    )
}

/// Everything that somebody may read, by where it was found.
fn outputs(agent: &Agent, folder: &Folder) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let paths = [
        "/health",
        "/health/live",
        "/health/ready",
        "/health/detailed",
        "/health/events",
        "/health/metrics",
        "/metrics",
        "/recovery/status",
        "/events?limit=500",
        "/event-store/stats",
        "/api/v1/probes",
        "/api/v1/rules",
        "/api/v1/notifiers",
        "/api/v1/recoveries",
        "/api/v1/plugins",
        "/api/v1/config",
        "/api/v1/alerts",
        "/api/v1/alerts/find?q=told",
        "/api/v1/rules/told/explain",
        "/api/v1/incidents",
        "/api/v1/incidents/1",
        "/api/v1/silences",
        "/api/v2/alerts",
        "/api/v2/alerts/groups",
        "/api/v2/status",
        "/api/v2/receivers",
        "/api/v2/silences",
        "/no/such/path",
    ];
    for path in paths {
        let text = agent.text(path).unwrap_or_else(|| panic!("{path}"));
        all.push((path.to_owned(), text.into_bytes()));
    }
    let socket = folder.path("data/watchfire.sock");
    let file = folder.path("watchfire.toml");
    let (socket, file) = (socket.to_str().unwrap(), file.to_str().unwrap());
    let plugin = folder.path("data/plugins/hostile.wasm");
    for words in [
        vec!["status", "--socket", socket],
        vec!["status", "--json", "--socket", socket],
        vec!["alerts", "--socket", socket],
        vec!["events", "--socket", socket],
        vec!["events", "--json", "--socket", socket],
        vec!["explain", "told", "--socket", socket],
        vec!["incident", "--socket", socket],
        vec!["incident", "told", "--socket", socket],
        vec!["plugin", "list", "--socket", socket],
        vec!["plugin", "inspect", plugin.to_str().unwrap()],
        vec!["check", "--config", file],
    ] {
        let output = command()
            .args(&words)
            .env("CANARY", SHOWN)
            .current_dir(folder.path(""))
            .output()
            .unwrap();
        all.push((words.join(" "), [output.stdout, output.stderr].concat()));
    }
    for name in [
        "log",
        "data/state.db",
        "data/state.db-wal",
        "data/metrics.db",
        "data/metrics.db-wal",
    ] {
        // A log of the write-ahead kind comes and goes.
        if let Ok(bytes) = fs::read(folder.path(name)) {
            all.push((name.to_owned(), bytes));
        }
    }
    all
}

#[track_caller]
fn silent(outputs: &[(String, Vec<u8>)]) {
    for (what, bytes) in outputs {
        let text = String::from_utf8_lossy(bytes);
        for trace in TRACES {
            let around = text.find(trace).map(|at| {
                let from = text.floor_char_boundary(at.saturating_sub(200));
                let to = text.ceil_char_boundary((at + 100).min(text.len()));
                text[from..to].to_owned()
            });
            assert_eq!(around, None, "{what} shows {trace:?}");
        }
    }
}

#[test]
fn no_secret_is_found_anywhere() {
    // Both sides fail, and say in their answers what was sent to them.
    let echo = format!("you sent {FILLED} and {SHOWN}");
    let answer = |status| Answer {
        body: echo.clone(),
        ..Answer::status(status)
    };
    let (source, sink) = (Server::start(answer(500)), Server::start(answer(400)));
    let dead = {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        port.local_addr().unwrap().port()
    };
    let folder = Folder::new("");
    fs::write(folder.path("canary"), FILLED).unwrap();
    hostile::install(&folder);
    for (level, format) in [("debug", "text"), ("trace", "json")] {
        folder.write_config(&config(&sink, &source, dead, level, format));
        // A proxy where nobody listens: the environment's are not asked, or nothing would arrive.
        let proxy = OsStr::new("http://127.0.0.1:9");
        let environment = [
            ("CANARY", OsStr::new(SHOWN)),
            ("HTTP_PROXY", proxy),
            ("http_proxy", proxy),
            ("ALL_PROXY", proxy),
        ];
        let agent = Agent::spawn_with(&folder, &environment);
        agent.wait_ready();
        // Every way of telling was taken: as an error, as a panic, as a label; and every failure was told.
        let mut seen = [false; 3];
        wait_for("all the ways of telling", || {
            let probes = agent.get("/api/v1/probes")?;
            for probe in probes.as_array()? {
                let error = probe["error"].as_str().unwrap_or("");
                seen[0] |= error.contains("in an error: ***");
                seen[1] |= error.contains("in a panic: ***");
            }
            seen[2] |= agent.text("/metrics")?.contains("told{secret=\"***\"}");
            seen.iter().all(|seen| *seen).then_some(())
        });
        wait_for("what was echoed", || {
            let probes = agent.get("/api/v1/probes")?;
            let failing = probes
                .as_array()?
                .iter()
                .filter(|probe| !probe["error"].is_null());
            (failing.count() >= 3).then_some(())
        });
        // What an agent before told already, the next one need not tell: so there is news for each.
        let news =
            format!(r#"[{{"labels":{{"alertname":"news-{level}","severity":"critical"}}}}]"#);
        assert_eq!(agent.post_json("/api/v2/alerts", &news).0, 200);
        wait_for("a refused page", || {
            let notifiers = agent.get("/api/v1/notifiers")?;
            notifiers.to_string().contains("***").then_some(())
        });
        // The canaries do fly: the services were sent them.
        let sent = |server: &Server| {
            let received = server.received();
            let sent = |request: &Received| {
                let value = request.header("authorization")?;
                value.contains(FILLED).then_some(())
            };
            received.iter().any(|request| sent(request).is_some())
        };
        assert!(sent(&source) && sent(&sink), "nothing was filled in");
        let all = outputs(&agent, &folder);
        assert!(all.len() > 40, "{}", all.len());
        silent(&all);
        agent.terminate();
        silent(&[(
            "the log to its end".into(),
            fs::read(folder.path("log")).unwrap(),
        )]);
    }
}
