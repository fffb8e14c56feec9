//! `watchfire explain`: from the sample to the verification of what was done about it, with times; and why
//! nobody heard, where nobody did.

use super::Global;
use super::client::Client;
use super::find;
use super::screen::{Paint, Screen, ago, number};
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;
use watchfire_engine::model::format_duration;

/// Lines of history that are printed; `--json` has all of them.
const STORY_MAX: usize = 40;

/// Options of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// A fingerprint, its beginning (4 digits at least), a name as `watchfire alerts` prints it, or a rule
    #[arg(value_name = "ALERT")]
    alert: String,
}

pub(super) fn explain(args: &Args, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let screen = Screen::of_stdout(global.json);
    let shown = Client::block_on(async {
        let candidates = find::candidates(&client, &args.alert).await?;
        if candidates.is_empty() {
            // A rule of which nothing ever left ok.
            let path = format!("/api/v1/rules/{}/explain", find::encoded(&args.alert));
            return match client.get(&path).await {
                Ok(rule) => Ok(rule),
                Err(_) => find::one(&args.alert, &candidates),
            };
        }
        let alert = find::one(&args.alert, &candidates)?;
        let fingerprint = alert["fingerprint"].as_str().unwrap_or_default();
        client.get(&format!("/api/v1/alerts/{fingerprint}")).await
    })?;
    if global.json {
        return screen.print_json(&shown);
    }
    screen.print(&render(&shown, screen))
}

/// Stage, time, words.
struct Page {
    screen: Screen,
    out: String,
    last: String,
}

impl Page {
    fn line(&mut self, stage: &str, words: &str) {
        let shown = if self.last == stage { "" } else { stage };
        self.last = stage.to_owned();
        let stage = self.screen.paint(Paint::Dim, &format!("{shown:<11}"));
        // A text takes all that is written to it.
        let _ = writeln!(self.out, "{stage} {}", printable(words));
    }
}

fn render(shown: &Value, screen: Screen) -> String {
    let mut page = Page {
        screen,
        out: String::new(),
        last: String::new(),
    };
    let live = &shown["live"];
    let name = text(&shown["alert"]).or(text(&shown["rule"]["id"]));
    let state = text(&live["state"]).unwrap_or("ok");
    let _ = writeln!(
        page.out,
        "{}  {}{}",
        screen.paint(Paint::Bold, &printable(name.unwrap_or("-"))),
        screen.paint(Paint::of(state), state),
        text(&live["since"]).map_or_else(String::new, |since| {
            format!(" since {since} ({})", ago(&live["since"]))
        }),
    );
    if let Some(fingerprint) = text(&shown["fingerprint"]) {
        let _ = writeln!(page.out, "{}\n", screen.paint(Paint::Dim, fingerprint));
    }
    inputs(&mut page, shown);
    verdict(&mut page, shown);
    routes(&mut page, shown);
    story(&mut page, shown);
    conclusion(&mut page, shown);
    page.out
}

fn inputs(page: &mut Page, shown: &Value) {
    for input in list(&shown["inputs"]) {
        let metric = text(&input["metric"]).unwrap_or("-");
        let latest = list(&input["latest"]);
        if latest.is_empty() {
            page.line("sample", &format!("{metric}: no value now"));
        }
        for sample in latest {
            let series = text(&sample["series"]).unwrap_or("-");
            page.line(
                "sample",
                &format!("{series} = {}", number(&sample["value"])),
            );
        }
    }
    for probe in list(&shown["probes"]) {
        let every = seconds(&probe["every_seconds"]);
        let mut words = format!(
            "probe {} every {every}, last run {}",
            text(&probe["id"]).unwrap_or("-"),
            text(&probe["last_run"]).unwrap_or("never"),
        );
        if let Some(error) = text(&probe["error"]) {
            let _ = write!(words, ", failed: {error}");
        }
        page.line("sample", &words);
    }
    for input in list(&shown["inputs"]) {
        let over = match input["over_seconds"].is_null() {
            true => String::new(),
            false => format!(" over {}", seconds(&input["over_seconds"])),
        };
        page.line(
            "input",
            &format!(
                "{} = {} of {}{over}",
                text(&input["name"]).unwrap_or("value"),
                text(&input["aggregate"]).unwrap_or("last"),
                text(&input["metric"]).unwrap_or("-"),
            ),
        );
    }
}

fn verdict(page: &mut Page, shown: &Value) {
    let (live, rule, judged) = (&shown["live"], &shown["rule"], &shown["judged"]);
    if rule.is_null() {
        page.line("verdict", "no rule of this agent judges it");
    } else {
        let mut words = format!("rule {}", text(&rule["id"]).unwrap_or("-"));
        if let Some(origin) = text(&rule["origin"]) {
            let _ = write!(words, " ({origin})");
        }
        if let Some(at) = text(&judged["at"]) {
            let _ = write!(words, ", judged {at}");
        }
        page.line("verdict", &words);
        if let Some(error) = text(&judged["error"]) {
            page.line("verdict", &format!("the rule failed: {error}"));
        }
        for (key, what) in [("for_seconds", "for"), ("keep_seconds", "keep")] {
            if let Some(words) = per_severity(&rule[key]) {
                page.line("verdict", &format!("{what} {words}"));
            }
        }
    }
    if live.is_null() {
        let worst = &judged["worst"];
        if !worst.is_null() {
            page.line(
                "verdict",
                &format!(
                    "{} instances, {} breach; the worst has {} against a limit of {}",
                    judged["instances"],
                    judged["breaching"],
                    number(&worst["value"]),
                    number(&worst["limit"])
                ),
            );
        }
        return;
    }
    if !live["value"].is_null() {
        let limit = match live["limit"].is_null() {
            true => String::new(),
            false => format!(" against a limit of {}", number(&live["limit"])),
        };
        page.line("verdict", &format!("{}{limit}", number(&live["value"])));
    }
    if let Some(summary) = text(&live["summary"]) {
        page.line("verdict", summary);
    }
    for (key, words) in [
        (
            "stale",
            "stale: its last observation is too old, so it is held as it was",
        ),
        (
            "flapping",
            "flapping: it changes too often, and nothing is said until it settles",
        ),
    ] {
        if live[key] == true {
            page.line("verdict", words);
        }
    }
}

fn routes(page: &mut Page, shown: &Value) {
    let live = &shown["live"];
    if live.is_null() {
        return;
    }
    if let Some(by) = text(&live["acknowledged_by"]) {
        page.line(
            "route",
            &format!("acknowledged by {by}: no repeats, no escalation, no automation"),
        );
    }
    let known = list(&shown["silences"]);
    for by in list(&live["muted_by"]) {
        let by = text(by).unwrap_or("-");
        let silence = known
            .iter()
            .find(|s| by.strip_prefix("silence ").is_some_and(|id| s["id"] == id));
        let more = silence.map_or_else(String::new, |s| {
            format!(
                ", of {} until {}: {}",
                text(&s["owner"]).unwrap_or("-"),
                text(&s["until"]).unwrap_or("-"),
                text(&s["reason"]).unwrap_or("-")
            )
        });
        page.line("route", &format!("muted by {by}{more}"));
    }
    let routes = list(&shown["routes"]);
    let meta = text(&live["rule"]).is_some_and(|rule| rule.starts_with("watchfire_"));
    if routes.is_empty() {
        page.line("route", "no [[route]] takes it: nobody hears of it");
    }
    for route in routes {
        let mut words = format!("route {} to {}", route["place"], names(&route["notify"]));
        if !meta {
            let by = names(&route["group_by"]);
            let wait = route["group_wait_seconds"].as_f64().unwrap_or(0.0);
            if !by.is_empty() {
                let _ = write!(words, ", grouped by {by}");
            }
            if wait > 0.0 {
                let _ = write!(words, ", after {}", seconds(&route["group_wait_seconds"]));
            }
            if route["repeat_seconds"].as_f64() > Some(0.0) {
                let _ = write!(words, ", again every {}", seconds(&route["repeat_seconds"]));
            }
            for step in list(&route["escalate"]) {
                let _ = write!(
                    words,
                    ", to {} after {} without acknowledgement",
                    names(&step["notify"]),
                    seconds(&step["after_seconds"])
                );
            }
        }
        page.line("route", &words);
    }
    for procedure in list(&shown["procedures"]) {
        let mut words = format!(
            "recovery {} (mode {})",
            text(&procedure["id"]).unwrap_or("-"),
            text(&procedure["mode"]).unwrap_or("-")
        );
        if let Some(until) = text(&procedure["held_until"]) {
            let _ = write!(
                words,
                ", held until {until}: the record of attempts was lost"
            );
        }
        page.line("recovery", &words);
    }
}

/// Events of the last episode, or the last ones.
fn story(page: &mut Page, shown: &Value) {
    let events = last_episode(list(&shown["events"]));
    let from = events.len().saturating_sub(STORY_MAX);
    if from > 0 {
        page.line("", &format!("({from} earlier events: --json shows them)"));
    }
    for event in &events[from..] {
        let (stage, words) = told(event);
        page.line(stage, &format!("{} {words}", super::incident::clock(event)));
    }
}

/// From the last beginning on; what pended before it, too.
fn last_episode(events: &[Value]) -> &[Value] {
    let fires = |state: &Value| {
        let state = state.as_str().unwrap_or_default();
        state.starts_with("firing:") || state.starts_with("recovering:")
    };
    let opens = |event: &Value| {
        event["type"] == "transition" && fires(&event["to"]) && !fires(&event["from"])
    };
    let Some(mut at) = events.iter().rposition(opens) else {
        return events;
    };
    if at > 0 && events[at - 1]["to"] == "pending" {
        at -= 1;
    }
    &events[at..]
}

/// One event in words, and where in the pipeline it belongs.
pub(super) fn told(event: &Value) -> (&'static str, String) {
    let word = |key: &str| text(&event[key]).unwrap_or("-");
    let severity = text(&event["severity"]).map_or_else(String::new, |s| format!(" {s}"));
    match word("what") {
        "transition" => {
            let mut words = format!("{} -> {}", word("from"), word("to"));
            if !event["value"].is_null() {
                let _ = write!(words, ", value {}", number(&event["value"]));
            }
            if word("cause") != "threshold" {
                let _ = write!(words, " ({})", word("cause"));
            }
            if let Some(by) = text(&event["suppressed_by"]) {
                let _ = write!(words, ", muted by {by}");
            }
            ("transition", words)
        }
        "queued" => (
            "delivery",
            format!(
                "{}{severity} to {} decided",
                word("reason"),
                word("notifier")
            ),
        ),
        "suppressed" => (
            "delivery",
            format!(
                "{}{severity} to {} NOT SENT: {}",
                word("reason"),
                text(&event["notifier"]).unwrap_or("nobody"),
                word("by")
            ),
        ),
        "delivered" => {
            let mut words = format!(
                "{}{severity} to {} {} at attempt {}, {} after the decision",
                word("reason"),
                word("notifier"),
                word("outcome"),
                event["attempt"],
                format_duration(Duration::from_millis(
                    event["delay_ms"].as_u64().unwrap_or(0)
                )),
            );
            if word("outcome") != "accepted"
                && let Some(message) = text(&event["message"])
            {
                let _ = write!(words, ": {message}");
            }
            ("delivery", words)
        }
        "superseded" => (
            "delivery",
            format!(
                "an undelivered message to {} gave way to {}",
                word("notifier"),
                word("by")
            ),
        ),
        "dead_letter" => (
            "delivery",
            format!("given up on {}: {}", word("notifier"), word("message")),
        ),
        "action" => {
            let stage = if word("step").starts_with("verified") {
                "verify"
            } else {
                "action"
            };
            let words = format!(
                "{} #{} {}: {}",
                word("procedure"),
                event["attempt"],
                word("step"),
                word("message")
            );
            (stage, words)
        }
        "operator" => ("operator", format!("{} {}", word("by"), word("did"))),
        other => ("event", other.to_owned()),
    }
}

/// Whether anybody heard, and if not, why.
fn conclusion(page: &mut Page, shown: &Value) {
    let live = &shown["live"];
    let events = last_episode(list(&shown["events"]));
    let accepted: Vec<&str> = events
        .iter()
        .filter(|e| e["what"] == "delivered" && e["outcome"] == "accepted")
        .filter_map(|e| text(&e["notifier"]))
        .collect();
    let words = if live["severity"].is_null() {
        return;
    } else if !accepted.is_empty() {
        let mut heard = accepted;
        heard.dedup();
        format!("{} heard of it", heard.join(", "))
    } else if let Some(last) = events.iter().rfind(|e| e["what"] == "suppressed") {
        format!("nobody heard of it: {}", text(&last["by"]).unwrap_or("-"))
    } else if let Some(failed) = events.iter().rfind(|e| e["what"] == "delivered") {
        format!(
            "nobody heard of it yet: {} does not take it ({}); it is tried again",
            text(&failed["notifier"]).unwrap_or("-"),
            text(&failed["message"]).unwrap_or("no reason")
        )
    } else if list(&shown["routes"]).is_empty() {
        "nobody heard of it: no [[route]] takes it".to_owned()
    } else {
        "nobody heard of it yet: it waits for group_wait or hold, or is on its way".to_owned()
    };
    page.line("so", &words);
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn names(value: &Value) -> String {
    let all: Vec<&str> = list(value).iter().filter_map(Value::as_str).collect();
    all.join(", ")
}

fn seconds(value: &Value) -> String {
    let time = value
        .as_f64()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    time.map_or_else(|| "-".to_owned(), format_duration)
}

/// `5m`, or each severity where they differ; none where all are zero.
fn per_severity(value: &Value) -> Option<String> {
    let all = value.as_object()?;
    if all.values().all(|time| time.as_f64() == Some(0.0)) {
        return None;
    }
    let first = all.values().next()?;
    if all.values().all(|time| time == first) {
        return Some(seconds(first));
    }
    let each = ["low", "warning", "high", "critical"].iter();
    let each = each.filter_map(|name| Some(format!("{name} {}", seconds(all.get(*name)?))));
    Some(each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(events: Value) -> Value {
        json!({
            "alert": "queue", "fingerprint": "ab", "rule": { "id": "queue", "origin": "a.toml:3",
                "for_seconds": { "low": 0.0, "warning": 300.0, "high": 0.0, "critical": 60.0 },
                "keep_seconds": { "low": 60.0, "warning": 60.0, "high": 60.0, "critical": 60.0 } },
            "live": { "state": "firing:high", "severity": "high", "since": "2023-11-14T22:13:20Z", "value": 250,
                "limit": 100, "muted_by": ["silence s1"], "rule": "queue", "summary": "queue is long\u{1b}" },
            "silences": [{ "id": "s1", "owner": "anna", "until": "2023-11-15T00:00:00Z", "reason": "deploy" }],
            "inputs": [{ "name": "value", "metric": "q", "aggregate": "avg", "over_seconds": 60.0,
                "latest": [{ "series": "q{a=\"b\"}", "value": 250.0 }] }],
            "probes": [{ "id": "p", "every_seconds": 10.0, "last_run": "2023-11-14T22:13:20Z", "error": null }],
            "judged": { "at": "2023-11-14T22:13:20Z" },
            "routes": [{ "place": 1, "notify": ["ops"], "group_by": ["rule"], "group_wait_seconds": 10.0,
                "repeat_seconds": 3600.0, "escalate": [{ "after_seconds": 900.0, "notify": ["boss"] }] }],
            "events": events,
        })
    }

    #[test]
    fn the_whole_way_is_told_and_why_nobody_heard() {
        let events = json!([
            { "type": "transition", "what": "transition", "wall_ms": 1_700_000_000_000_u64, "from": "firing:low", "to": "ok" },
            { "type": "transition", "what": "transition", "wall_ms": 1_700_000_001_000_u64, "from": "ok", "to": "firing:high",
              "value": 250.0, "cause": "threshold", "suppressed_by": "silence s1" },
            { "type": "notification", "what": "suppressed", "wall_ms": 1_700_000_001_000_u64, "notifier": "ops", "reason": "fire",
              "severity": "high", "by": "silence s1" },
        ]);
        let page = render(&shown(events), Screen::plain());
        for line in [
            "sample      q{a=\"b\"} = 250",
            "            probe p every 10s, last run 2023-11-14T22:13:20Z",
            "input       value = avg of q over 1m",
            "verdict     rule queue (a.toml:3), judged 2023-11-14T22:13:20Z",
            "            for low 0s, warning 5m, high 0s, critical 1m",
            "            keep 1m",
            "            queue is long\\u{1b}",
            "route       muted by silence s1, of anna until 2023-11-15T00:00:00Z: deploy",
            "            route 1 to ops, grouped by rule, after 10s, again every 1h, to boss after 15m without acknowledgement",
            "transition  2023-11-14T22:13:21Z ok -> firing:high, value 250, muted by silence s1",
            "delivery    2023-11-14T22:13:21Z fire high to ops NOT SENT: silence s1",
            "so          nobody heard of it: silence s1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line:?} in\n{page}");
        }
        assert!(
            !page.contains("firing:low"),
            "only the last episode\n{page}"
        );
    }

    #[test]
    fn who_heard_is_said() {
        let delivered = |outcome: &str| {
            json!({ "type": "notification", "what": "delivered", "wall_ms": 0, "notifier": "ops", "reason": "fire",
                "severity": "high", "outcome": outcome, "attempt": 1, "delay_ms": 1500, "message": "busy" })
        };
        let page = render(
            &shown(json!([delivered("failed"), delivered("accepted")])),
            Screen::plain(),
        );
        assert!(page.contains("so          ops heard of it\n"), "{page}");
        assert!(
            page.contains("fire high to ops accepted at attempt 1, 1s500ms after")
                || page.contains("1.5s after"),
            "{page}"
        );
        let page = render(&shown(json!([delivered("failed")])), Screen::plain());
        assert!(page.contains("ops does not take it (busy)"), "{page}");
        let page = render(&shown(json!([])), Screen::plain());
        assert!(page.contains("on its way"), "{page}");
    }
}
