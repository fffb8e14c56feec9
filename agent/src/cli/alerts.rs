//! `watchfire alerts`.

use super::Global;
use super::client::Client;
use super::screen::{Screen, ago, number};
use super::table::{Table, cell, word};
use crate::error::Failure;
use serde_json::Value;

/// Options of `alerts`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// Also those that are pending
    #[arg(long)]
    all: bool,
}

pub(super) fn alerts(args: &Args, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let mut answer = Client::block_on(client.get("/api/v1/alerts"))?;
    if let Some(alerts) = answer["alerts"].as_array_mut() {
        alerts.retain(|alert| args.all || !alert["severity"].is_null());
    }
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&answer["alerts"]);
    }
    screen.print(&render(&answer, screen))
}

fn render(answer: &Value, screen: Screen) -> String {
    let mut table = Table::new(&[
        "alert", "state", "since", "value", "limit", "notes", "summary",
    ]);
    for alert in answer["alerts"].as_array().into_iter().flatten() {
        let mut notes: Vec<String> = Vec::new();
        if let Some(by) = alert["acknowledged_by"].as_str() {
            notes.push(format!("acknowledged by {by}"));
        }
        let mutes = alert["muted_by"].as_array().into_iter().flatten();
        notes.extend(
            mutes
                .filter_map(Value::as_str)
                .map(|by| format!("muted by {by}")),
        );
        if alert["flapping"] == true {
            notes.push("flapping".to_owned());
        }
        if alert["stale"] == true {
            notes.push("stale".to_owned());
        }
        table.row([
            cell(alert["alert"].as_str().unwrap_or("-")),
            word(alert["state"].as_str().unwrap_or("-")),
            cell(ago(&alert["since"])),
            cell(number(&alert["value"])),
            cell(number(&alert["limit"])),
            cell(notes.join(", ")),
            cell(alert["summary"].as_str().unwrap_or("")),
        ]);
    }
    if table.is_empty() {
        "nothing fires\n".to_owned()
    } else {
        table.render(screen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_alert_is_one_line() {
        assert_eq!(
            render(&json!({ "alerts": [] }), Screen::plain()),
            "nothing fires\n"
        );
        let answer = json!({ "alerts": [{
            "alert": "disk{mountpoint=\"/\"}", "state": "firing:high", "since": null,
            "value": 0.97, "limit": 0.95, "summary": "full\u{1b}[31m", "flapping": true,
            "stale": false, "acknowledged_by": "anna", "muted_by": ["s1"],
        }] });
        assert_eq!(
            render(&answer, Screen::plain()),
            "ALERT                 STATE        SINCE  VALUE  LIMIT  NOTES                                        SUMMARY\n\
             disk{mountpoint=\"/\"}  firing:high  -      0.97   0.95   acknowledged by anna, muted by s1, flapping  full\\u{1b}[31m\n"
        );
    }
}
