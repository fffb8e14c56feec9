//! `watchfire status`.

use super::Global;
use super::client::Client;
use super::screen::{Paint, Screen, ago, count, number};
use super::table::{Table, cell, word};
use crate::error::Failure;
use serde_json::{Value, json};
use std::time::Duration;
use watchfire_engine::model::format_duration;

/// Options of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// Show every part, not only those at fault
    #[arg(long)]
    all: bool,
}

pub(super) fn status(args: &Args, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let (detailed, events) = Client::block_on(async {
        let detailed = client.get("/health/detailed").await?;
        Ok((detailed, client.get("/health/events").await?))
    })?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&json!({ "health": detailed, "pipeline": events }));
    }
    screen.print(&render(&detailed, &events, args.all, screen))
}

fn render(detailed: &Value, events: &Value, all: bool, screen: Screen) -> String {
    let text = |value: &Value| crate::telemetry::printable(value.as_str().unwrap_or("-"));
    let verdict = text(&detailed["status"]);
    let uptime = detailed["uptime_seconds"].as_f64().unwrap_or(0.0).max(0.0);
    let uptime = Duration::try_from_secs_f64(uptime.floor()).unwrap_or_default();
    let counted = |number: &Value, thing: &str| {
        let number = number.as_u64().unwrap_or(0);
        count(usize::try_from(number).unwrap_or(usize::MAX), thing)
    };
    let handlers = &events["handlers"];
    let idle = match handlers["not_running"].as_u64().unwrap_or(0) {
        0 => String::new(),
        idle => format!(" ({idle} more do not run)").replace("(1 more do", "(1 more does"),
    };
    let mut out = format!(
        "{}  watchfire {}, up {}\n{}, {}, {}, {}{idle}; last round {}, {} missed; {} waiting\n",
        screen.paint(Paint::of(&verdict), &verdict),
        text(&detailed["version"]),
        format_duration(uptime),
        counted(&handlers["probes"], "probe"),
        counted(&handlers["rules"], "rule"),
        counted(&handlers["notifiers"], "notifier"),
        counted(&handlers["recoveries"], "recovery procedure"),
        ago(&events["rounds"]["last"]),
        events["rounds"]["missed"],
        counted(&events["queue"]["outbox_pending"], "notification"),
    );
    let mut table = Table::new(&["part", "kind", "status", "value", "limit", "message"]);
    let mut hidden = 0;
    for part in detailed["components"].as_array().into_iter().flatten() {
        let status = part["status"].as_str().unwrap_or("-");
        if status == "healthy" && part["message"].is_null() && !all {
            hidden += 1;
            continue;
        }
        table.row([
            cell(part["name"].as_str().unwrap_or("-")),
            cell(part["kind"].as_str().unwrap_or("-")),
            word(status),
            cell(number(&part["value"])),
            cell(number(&part["threshold"])),
            cell(part["message"].as_str().unwrap_or("")),
        ]);
    }
    if !table.is_empty() {
        out.push('\n');
        out.push_str(&table.render(screen));
    }
    if hidden > 0 {
        let rest = if table.is_empty() { "all" } else { "the other" };
        let hidden = count(hidden, "part");
        out.push_str(&format!("\nhealthy: {rest} {hidden} (--all shows them)\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_out() {
        let detailed = json!({
            "status": "degraded", "version": "1.0.0", "uptime_seconds": 3725.5,
            "components": [
                { "name": "cpu", "kind": "rule", "status": "degraded", "value": 0.91, "threshold": 0.85, "message": "CPU\nhigh" },
                { "name": "host", "kind": "probe", "status": "healthy", "value": null, "threshold": null, "message": null },
            ],
        });
        let events = json!({
            "handlers": { "probes": 1, "rules": 1, "notifiers": 0, "recoveries": 0 },
            "rounds": { "last": null, "missed": 0 },
            "queue": { "outbox_pending": 2 },
        });
        assert_eq!(
            render(&detailed, &events, false, Screen::plain()),
            "degraded  watchfire 1.0.0, up 1h2m5s\n\
             1 probe, 1 rule, 0 notifiers, 0 recovery procedures; last round -, 0 missed; 2 notifications waiting\n\n\
             PART  KIND  STATUS    VALUE  LIMIT  MESSAGE\n\
             cpu   rule  degraded  0.91   0.85   CPU\\nhigh\n\n\
             healthy: the other 1 part (--all shows them)\n"
        );
        let mut events = events;
        events["handlers"]["not_running"] = 2.into();
        let all = render(&detailed, &events, true, Screen::plain());
        assert!(
            all.contains(" procedures (2 more do not run); last"),
            "{all}"
        );
        assert!(all.contains("\nhost  probe  healthy"), "{all}");
    }
}
