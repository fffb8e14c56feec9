//! `watchfire plugin list`.

use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::{Paint, Screen, ago, bytes, count};
use crate::cli::table::{Table, cell, word};
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::Value;

/// Part of a limit at which a use is named: from half of it on, a busy day or twice the data reaches it.
const CLOSE: f64 = 0.5;

pub(super) fn list(global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let plugins = Client::block_on(client.get("/api/v1/plugins"))?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&plugins);
    }
    screen.print(&render(&plugins, screen))
}

fn render(plugins: &Value, screen: Screen) -> String {
    let mut table = Table::new(&[
        "plugin", "version", "kinds", "state", "origin", "calls", "failed", "time", "cpu",
        "memory", "size", "sha256", "used by",
    ]);
    let mut notes = String::new();
    for plugin in plugins.as_array().into_iter().flatten() {
        let text = |key: &str| plugin[key].as_str().unwrap_or("-");
        let words = |value: &Value, key: Option<&str>| {
            let all = value.as_array().into_iter().flatten();
            let all = all.filter_map(|v| key.map_or(v, |key| &v[key]).as_str());
            all.collect::<Vec<_>>().join(",")
        };
        let burden = Burden::of(plugin);
        let paint = |heavy: bool| if heavy { Paint::Warning } else { Paint::Plain };
        let failures = plugin["failures"].as_u64().unwrap_or(0);
        table.row([
            cell(text("name")),
            cell(text("version")),
            cell(words(&plugin["kinds"], None)),
            word(state(plugin)),
            cell(origin(plugin)),
            cell(plugin["calls"].to_string()),
            (failures.to_string(), paint(failures > 0)),
            (
                per_call(plugin, "wall_seconds"),
                paint(!burden.slow.is_empty()),
            ),
            (
                per_call(plugin, "cpu_seconds"),
                paint(!burden.busy.is_empty()),
            ),
            (
                size(&plugin["memory_bytes_max"]),
                paint(!burden.fat.is_empty()),
            ),
            cell(size(&plugin["size_bytes"])),
            cell(text("sha256").get(..12).unwrap_or("-")),
            cell(words(&plugin["uses"], Some("id"))),
        ]);
        tell(plugin, &burden, &mut notes);
    }
    if table.is_empty() {
        return "no plugins\n".to_owned();
    }
    let mut out = table.render(screen);
    if !notes.is_empty() {
        out.push('\n');
        out.push_str(&notes);
    }
    out
}

fn state(plugin: &Value) -> &'static str {
    if !plugin["quarantined"].is_null() {
        "quarantined"
    } else if plugin["running"] == true {
        if !plugin["rejected"].is_null() {
            "running, file refused"
        } else if plugin["file_removed"] == true {
            "running, file removed"
        } else {
            "running"
        }
    } else if !plugin["rejected"].is_null() {
        "rejected"
    } else {
        "waiting"
    }
}

/// `stock`, or `file` and whether the lock has it; the path is in `--json`.
fn origin(plugin: &Value) -> &'static str {
    match (plugin["origin"].as_str(), plugin["locked"].as_bool()) {
        (Some("stock"), _) => "stock",
        (None | Some(""), _) => "-",
        (Some(_), Some(true)) => "file, locked",
        (Some(_), Some(false)) => "file, unlocked",
        (Some(_), None) => "file",
    }
}

/// The mean of one call.
fn per_call(plugin: &Value, key: &str) -> String {
    let calls = plugin["calls"].as_f64().filter(|calls| *calls > 0.0);
    let (Some(calls), Some(seconds)) = (calls, plugin[key].as_f64()) else {
        return "-".to_owned();
    };
    time(seconds / calls)
}

/// A time of any size in three letters or so.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.01 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

fn size(value: &Value) -> String {
    let known = value.as_u64().filter(|size| *size > 0);
    known.map_or_else(|| "-".to_owned(), bytes)
}

/// Uses that came close to what a call of theirs may spend, in words.
#[derive(Default)]
struct Burden {
    slow: Vec<String>,
    busy: Vec<String>,
    fat: Vec<String>,
}

impl Burden {
    fn of(plugin: &Value) -> Self {
        let mut burden = Burden::default();
        for used in plugin["uses"].as_array().into_iter().flatten() {
            let id = used["id"].as_str().unwrap_or("-");
            let limit = |key: &str| used["limits"][key].as_f64().unwrap_or(f64::INFINITY);
            let spent = |key: &str| used[key].as_f64().unwrap_or(0.0);
            let calls = spent("calls").max(1.0);
            let longest = spent("wall_seconds_max");
            if longest >= CLOSE * limit("wall_seconds") {
                let (took, may) = (time(longest), time(limit("wall_seconds")));
                let text = format!("{id}: its longest call took {took} of the {may} it may take");
                burden.slow.push(text);
            }
            let cpu = spent("cpu_seconds") / calls;
            if cpu >= CLOSE * limit("cpu_seconds") {
                let (took, may) = (time(cpu), time(limit("cpu_seconds")));
                let text = format!("{id}: it computes for {took} a call, of the {may} it may");
                burden.busy.push(text);
            }
            let memory = spent("memory_bytes_max");
            if memory >= CLOSE * limit("memory_bytes") {
                let (took, may) = (
                    size(&used["memory_bytes_max"]),
                    &used["limits"]["memory_bytes"],
                );
                let text = format!("{id}: it took {took} of the {} of memory it may", size(may));
                burden.fat.push(text);
            }
        }
        burden
    }
}

/// What a table has no room for.
fn tell(plugin: &Value, burden: &Burden, notes: &mut String) {
    let mut note = |what: &str, why: &str| {
        let name = printable(plugin["name"].as_str().unwrap_or("-"));
        notes.push_str(&format!("{name}: {what}: {}\n", printable(why)));
    };
    if let Some(why) = plugin["rejected"]["reason"].as_str() {
        let goes_on = if plugin["running"] != true {
            "refused"
        } else if plugin["rejected"]["sha256"] == plugin["sha256"] {
            // The lock or a pin came later than the component.
            "it may not serve any more, and does until the next restart"
        } else {
            "a newer file was refused, the version before goes on"
        };
        note(goes_on, why);
    }
    if plugin["file_removed"] == true {
        let why = "its file is gone; after a restart the stock plugin of that name serves, if there is one";
        note("it serves until the next restart", why);
    }
    if let Some(why) = plugin["quarantined"]["message"].as_str() {
        note("quarantined", why);
    } else if let Some(why) = plugin["last_failure"]["message"].as_str() {
        let id = plugin["last_failure"]["id"].as_str().unwrap_or("-");
        let when = ago(&plugin["last_failure"]["at"]);
        note(&format!("last failure, {when}"), &format!("{id}: {why}"));
    }
    for (what, all) in [
        ("slow", &burden.slow),
        ("busy", &burden.busy),
        ("fat", &burden.fat),
    ] {
        all.iter().for_each(|why| note(what, why));
    }
    for used in plugin["uses"].as_array().into_iter().flatten() {
        let asks = used["not_granted"].as_array().into_iter().flatten();
        let asks: Vec<&str> = asks.filter_map(Value::as_str).collect();
        if !asks.is_empty() {
            let id = used["id"].as_str().unwrap_or("-");
            note(
                "asks for what is not granted, and runs without",
                &format!("{id}: {}", asks.join(", ")),
            );
        }
    }
    let refusals = plugin["refusals"].as_u64().unwrap_or(0);
    if refusals > 0 {
        let times = count(usize::try_from(refusals).unwrap_or(usize::MAX), "time");
        let why = format!("calls to the host for what is not granted, {times}; the log names them");
        note("refused", &why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{PluginStatus, PluginUse, Refusal, Rejection, UseLimits};
    use crate::telemetry::accounts::{Account, LastFailure};
    use serde_json::json;

    fn plugin() -> PluginStatus {
        PluginStatus {
            name: "probe-x".to_owned(),
            version: Some("1.0\u{1b}[0m".to_owned()),
            kinds: vec!["probe".to_owned()],
            origin: "stock".to_owned(),
            sha256: Some("0123456789abcdef".to_owned()),
            size_bytes: Some(2048),
            running: true,
            uses: vec![PluginUse {
                kind: "probe".to_owned(),
                id: "x".to_owned(),
                limits: Some(UseLimits {
                    wall_seconds: 5.0,
                    cpu_seconds: 0.5,
                    memory_bytes: 64 << 20,
                }),
                account: account(),
                ..PluginUse::default()
            }],
            account: account(),
            ..PluginStatus::default()
        }
    }

    fn account() -> Account {
        Account {
            calls: 4,
            wall_seconds: 0.002,
            wall_seconds_max: 0.001,
            cpu_seconds: 0.000_1,
            memory_bytes_max: 1 << 20,
            ..Account::default()
        }
    }

    #[test]
    fn a_refused_file_and_its_reason_are_seen() {
        let plugin = PluginStatus {
            rejected: Some(Rejection {
                reason: "not a component".to_owned(),
                ..Rejection::default()
            }),
            ..plugin()
        };
        assert_eq!(
            render(&json!([plugin]), Screen::plain()),
            "PLUGIN   VERSION       KINDS  STATE                  ORIGIN  CALLS  FAILED  TIME    CPU    MEMORY   SIZE     SHA256        USED BY\n\
             probe-x  1.0\\u{1b}[0m  probe  running, file refused  stock   4      0       500 µs  25 µs  1.0 MiB  2.0 KiB  0123456789ab  x\n\n\
             probe-x: a newer file was refused, the version before goes on: not a component\n"
        );
        assert_eq!(render(&json!([]), Screen::plain()), "no plugins\n");
    }

    #[test]
    fn what_runs_and_may_not_any_more_is_seen() {
        let plugin = PluginStatus {
            rejected: Some(Rejection {
                sha256: Some("0123456789abcdef".to_owned()),
                reason: "it is not in watchfire.lock".to_owned(),
                ..Rejection::default()
            }),
            ..plugin()
        };
        let text = render(&json!([plugin]), Screen::plain());
        let note =
            "\nprobe-x: it may not serve any more, and does until the next restart: it is not in";
        assert!(text.contains(note), "{text}");
    }

    #[test]
    fn a_file_that_is_gone_is_seen_while_it_serves() {
        let plugin = PluginStatus {
            file_removed: true,
            ..plugin()
        };
        let text = render(&json!([plugin]), Screen::plain());
        assert!(text.contains("  running, file removed  "), "{text}");
        assert!(
            text.contains("\nprobe-x: it serves until the next restart: "),
            "{text}"
        );
    }

    #[test]
    fn what_is_slow_fat_or_quarantined_is_named() {
        let mut plugin = PluginStatus {
            quarantined: Some(Refusal {
                message: "probe \"x\" trapped".to_owned(),
                ..Refusal::default()
            }),
            ..plugin()
        };
        plugin.uses[0].account = Account {
            calls: 2,
            wall_seconds_max: 2.6,
            cpu_seconds: 0.6,
            memory_bytes_max: 60 << 20,
            ..Account::default()
        };
        let text = render(&json!([plugin]), Screen::plain());
        assert!(text.contains("  quarantined  "), "{text}");
        let (_, notes) = text.split_once("\n\n").unwrap();
        assert_eq!(
            notes,
            "probe-x: quarantined: probe \"x\" trapped\n\
             probe-x: slow: x: its longest call took 2.6 s of the 5.0 s it may take\n\
             probe-x: busy: x: it computes for 300 ms a call, of the 500 ms it may\n\
             probe-x: fat: x: it took 60.0 MiB of the 64.0 MiB of memory it may\n"
        );
    }

    #[test]
    fn the_last_failure_and_refusals_are_told() {
        let plugin = PluginStatus {
            account: Account {
                failures: 1,
                refusals: 3,
                last_failure: Some(LastFailure {
                    id: "x".to_owned(),
                    message: "the plugin trapped: boom".to_owned(),
                    ..LastFailure::default()
                }),
                ..account()
            },
            ..plugin()
        };
        let text = render(&json!([plugin]), Screen::plain());
        assert!(text.contains(": x: the plugin trapped: boom\n"), "{text}");
        assert!(text.contains("not granted, 3 times"), "{text}");
    }
}
