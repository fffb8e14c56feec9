//! `watchfire incident`: a list of episodes, or a document of one, filled in from the record as far as it goes.

use super::Global;
use super::client::Client;
use super::explain::told;
use super::find;
use super::screen::{Screen, count, number};
use super::table::{Table, cell, word};
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;
use watchfire_engine::model::format_duration;

/// Options of `incident`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// Its number, or an alert: then the newest incident of it [default: a list]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// At most so many in the list
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Of the list: older than this one
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
}

pub(super) fn incident(args: &Args, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let screen = Screen::of_stdout(global.json);
    let Some(id) = &args.id else {
        let mut path = format!("/api/v1/incidents?limit={}", args.limit);
        if let Some(before) = args.before {
            let _ = write!(path, "&before={before}");
        }
        let answer = Client::block_on(client.get(&path))?;
        if global.json {
            return screen.print_json(&answer["incidents"]);
        }
        return screen.print(&render_list(&answer["incidents"], screen));
    };
    let incident = Client::block_on(async {
        let number = match id.parse::<u64>() {
            Ok(number) => number,
            Err(_) => newest_of(&client, id).await?,
        };
        client.get(&format!("/api/v1/incidents/{number}")).await
    })?;
    if global.json {
        return screen.print_json(&incident);
    }
    screen.print(&document(&incident))
}

async fn newest_of(client: &Client, text: &str) -> Result<u64, Failure> {
    let alert = find::one(text, &find::candidates(client, text).await?)?;
    let mut before = u64::MAX;
    // The list is of all alerts; a page is looked through at a time, ten of them at most.
    for _ in 0..10 {
        let path = format!("/api/v1/incidents?limit=200&before={before}");
        let answer = client.get(&path).await?;
        let page = answer["incidents"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let mut of_it = page
            .iter()
            .filter(|i| i["fingerprint"] == alert["fingerprint"]);
        if let Some(id) = of_it.next().and_then(|incident| incident["id"].as_u64()) {
            return Ok(id);
        }
        match page.last().and_then(|incident| incident["id"].as_u64()) {
            Some(last) => before = last,
            None => break,
        }
    }
    let name = printable(alert["alert"].as_str().unwrap_or(text));
    Err(Failure::failed(format!(
        "no incident of {name} is in the record"
    )))
}

fn render_list(incidents: &Value, screen: Screen) -> String {
    let mut table = Table::new(&[
        "id", "alert", "severity", "started", "lasted", "told", "attempts", "notes",
    ]);
    for one in incidents.as_array().into_iter().flatten() {
        let mut notes = Vec::new();
        if let Some(by) = one["acknowledged_by"].as_str() {
            notes.push(format!("acknowledged by {by}"));
        }
        if one["suppressed"].as_u64() > Some(0) {
            notes.push(format!("{} suppressed", one["suppressed"]));
        }
        if one["failed"].as_u64() > Some(0) {
            notes.push(format!("{} failed", one["failed"]));
        }
        if one["recovered"] == true {
            notes.push("recovery helped".to_owned());
        }
        table.row([
            cell(one["id"].to_string()),
            cell(one["alert"].as_str().unwrap_or("-")),
            word(one["severity"].as_str().unwrap_or("-")),
            cell(at(&one["started_at_ms"])),
            cell(lasted(one)),
            cell(one["delivered"].to_string()),
            cell(one["attempts"].to_string()),
            cell(notes.join(", ")),
        ]);
    }
    if table.is_empty() {
        "no incidents\n".to_owned()
    } else {
        table.render(screen)
    }
}

fn lasted(incident: &Value) -> String {
    match incident["duration_ms"].as_u64() {
        Some(ms) => time(ms),
        None => "still open".to_owned(),
    }
}

/// To the second; what is shorter to the millisecond.
fn time(ms: u64) -> String {
    let ms = if ms >= 1_000 { ms - ms % 1_000 } else { ms };
    format_duration(Duration::from_millis(ms))
}

fn at(ms: &Value) -> String {
    let at = ms.as_i64();
    let at = at.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}

/// When an event happened, to the second.
pub(super) fn clock(event: &Value) -> String {
    at(&event["wall_ms"])
}

/// The document, in Markdown. What only people know stands as a question.
fn document(incident: &Value) -> String {
    let text = |key: &str| printable(incident[key].as_str().unwrap_or("-"));
    let count_of = |key: &str| usize::try_from(incident[key].as_u64().unwrap_or(0)).unwrap_or(0);
    let mut out = String::new();
    let mut line = |words: &str| {
        out.push_str(words);
        out.push('\n');
    };
    line(&format!("# Incident {}: {}", incident["id"], text("alert")));
    line("");
    line("## Summary");
    line("");
    line(&format!(
        "`{}` on {} fired at severity {} from {} {}.",
        text("alert"),
        text("host"),
        text("severity"),
        at(&incident["started_at_ms"]),
        match incident["duration_ms"].as_u64() {
            Some(ms) => format!("to {} ({})", at(&incident["ended_at_ms"]), time(ms)),
            None => "on; it is still open".to_owned(),
        }
    ));
    line("");
    for (name, key) in [
        ("first message accepted after", "to_first_delivery_ms"),
        ("acknowledged after", "to_acknowledge_ms"),
        ("resolved after", "duration_ms"),
    ] {
        let value = incident[key].as_u64().map_or_else(|| "-".to_owned(), time);
        let by = match key {
            "to_acknowledge_ms" => incident["acknowledged_by"].as_str(),
            _ => None,
        };
        let by = by.map_or_else(String::new, |by| format!(" by {}", printable(by)));
        line(&format!("- {name}: {value}{by}"));
    }
    line(&format!(
        "- {} accepted, {} failed, {} suppressed; {}",
        count(count_of("delivered"), "message"),
        count_of("failed"),
        count_of("suppressed"),
        count(count_of("attempts"), "recovery attempt"),
    ));
    line("");
    line("## Symptoms");
    line("");
    if let Some(summary) = incident["summary"].as_str() {
        line(&format!("- {}", printable(summary)));
    }
    line(&format!(
        "- value at the beginning: {}; last recorded: {}",
        number(&incident["value_first"]),
        number(&incident["value_last"])
    ));
    for key in ["runbook", "dashboard"] {
        if let Some(link) = incident[key].as_str() {
            line(&format!("- {key}: {}", printable(link)));
        }
    }
    line("- _Who noticed, and what did they see?_");
    line("");
    line("## Timeline");
    line("");
    for event in incident["events"].as_array().into_iter().flatten() {
        let (_, words) = told(event);
        line(&format!("- {} {}", clock(event), printable(&words)));
    }
    line("");
    line("## Root cause");
    line("");
    let changes = incident["changes_before"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if changes.is_empty() {
        line("The agent recorded no change of itself in the hour before.");
    } else {
        line("What the agent recorded of changes in the hour before:");
        line("");
        for event in changes {
            line(&format!("- {} {}", clock(event), printable(&change(event))));
        }
    }
    line("");
    line("_What was the cause, and how is it known?_");
    line("");
    line("## Resolution");
    line("");
    let actions = incident["events"].as_array().into_iter().flatten();
    let mut acted = false;
    for event in actions.filter(|event| event["what"] == "action") {
        acted = true;
        line(&format!("- {} {}", clock(event), printable(&told(event).1)));
    }
    if !acted {
        line("- no recovery procedure ran");
    }
    line(&match (
        incident["ended_at_ms"].is_null(),
        incident["end_cause"].as_str(),
    ) {
        (true, _) => "- not resolved yet".to_owned(),
        (false, Some("threshold") | None) => format!(
            "- the condition cleared at {}",
            at(&incident["ended_at_ms"])
        ),
        (false, Some(cause)) => format!(
            "- it ended at {} ({})",
            at(&incident["ended_at_ms"]),
            printable(cause)
        ),
    });
    line("- _What was done by hand?_");
    line("");
    line("## Prevention");
    line("");
    line("- _What keeps it from coming back? Who does it, until when?_");
    line("");
    line("## Lessons");
    line("");
    for lesson in lessons(incident) {
        line(&format!("- {lesson}"));
    }
    line("- _What went well, what did not, where was luck?_");
    out
}

/// What the record itself gives reason to ask.
fn lessons(incident: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if incident["to_first_delivery_ms"].is_null() {
        all.push("nobody was told while it lasted: was that meant?".to_owned());
    }
    if incident["failed"].as_u64() > Some(0) {
        all.push(format!(
            "{} deliveries failed: is the notifier's service well?",
            incident["failed"]
        ));
    }
    if incident["suppressed"].as_u64() > Some(0) {
        all.push(
            "messages were suppressed (see the timeline): was each of them rightly so?".to_owned(),
        );
    }
    if incident["attempts"].as_u64() > Some(0) && incident["recovered"] != true {
        all.push("recovery was tried and did not help: is it the right action?".to_owned());
    }
    if incident["acknowledged_by"].is_null() && !incident["to_first_delivery_ms"].is_null() {
        all.push("nobody acknowledged it: did the right people hear?".to_owned());
    }
    all
}

fn change(event: &Value) -> String {
    let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    match event["type"].as_str() {
        Some("operator") => format!("{} {}", word("by"), word("did")),
        Some("system") => format!("the agent: {} {}", word("what"), word("from")),
        _ => format!("{} {}", word("event"), word("subject")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one() -> Value {
        json!({
            "id": 11, "alert": "disk{m=\"/\"}", "host": "web-1", "severity": "critical", "fingerprint": "ab",
            "started_at_ms": 1_700_000_000_000_u64, "ended_at_ms": 1_700_000_125_400_u64, "duration_ms": 125_400,
            "end_cause": "threshold", "value_first": 0.95, "value_last": 0.5, "acknowledged_by": "anna",
            "to_first_delivery_ms": 40, "to_acknowledge_ms": 61_000, "delivered": 2, "failed": 1, "suppressed": 0,
            "attempts": 1, "recovered": false, "runbook": "https://r/", "summary": null,
            "changes_before": [{ "type": "reload", "wall_ms": 1_699_999_999_000_u64, "event": "config_loaded", "subject": "a.toml" }],
            "events": [
                { "type": "transition", "what": "transition", "wall_ms": 1_700_000_000_000_u64, "from": "ok", "to": "firing:critical", "cause": "threshold", "value": 0.95 },
                { "type": "action", "what": "action", "wall_ms": 1_700_000_001_000_u64, "procedure": "fix", "attempt": 1, "step": "start", "message": "attempt 1 of 3" },
            ],
        })
    }

    #[test]
    fn a_document_holds_what_the_record_knows_and_asks_the_rest() {
        let text = document(&one());
        for line in [
            "# Incident 11: disk{m=\"/\"}",
            "`disk{m=\"/\"}` on web-1 fired at severity critical from 2023-11-14T22:13:20Z to 2023-11-14T22:15:25Z (2m5s).",
            "- first message accepted after: 40ms",
            "- acknowledged after: 1m1s by anna",
            "- 2 messages accepted, 1 failed, 0 suppressed; 1 recovery attempt",
            "- value at the beginning: 0.95; last recorded: 0.5",
            "- runbook: https://r/",
            "- 2023-11-14T22:13:20Z ok -> firing:critical, value 0.95",
            "- 2023-11-14T22:13:19Z config_loaded a.toml",
            "- 2023-11-14T22:13:21Z fix #1 start: attempt 1 of 3",
            "- the condition cleared at 2023-11-14T22:15:25Z",
            "- recovery was tried and did not help: is it the right action?",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
        }
        let heads: Vec<&str> = text.lines().filter(|l| l.starts_with("## ")).collect();
        assert_eq!(
            heads,
            [
                "## Summary",
                "## Symptoms",
                "## Timeline",
                "## Root cause",
                "## Resolution",
                "## Prevention",
                "## Lessons"
            ]
        );
    }

    #[test]
    fn an_open_incident_says_so() {
        let mut open = one();
        open["ended_at_ms"] = Value::Null;
        open["duration_ms"] = Value::Null;
        assert!(document(&open).contains("it is still open"));
        let list = render_list(&json!([open]), Screen::plain());
        assert!(list.contains("still open"), "{list}");
        assert_eq!(render_list(&json!([]), Screen::plain()), "no incidents\n");
    }
}
