//! `watchfire ack`.

use super::Global;
use super::client::Client;
use super::find;
use super::screen::Screen;
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;
use watchfire_engine::model::{format_duration, parse_duration};

/// Options of `ack`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// Fingerprints, their beginnings (4 digits at least), or names as `watchfire alerts` prints them; the name
    /// of a rule means all its firing alerts
    #[arg(required = true, value_name = "ALERT")]
    alerts: Vec<String>,
    /// Who acknowledges [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// It holds so long at most [default: until the alert gets worse or resolves]
    #[arg(long = "for", value_name = "DURATION", value_parser = |text: &str| parse_duration(text))]
    lasts: Option<Duration>,
}

pub(super) fn ack(args: &Args, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let by = args.by.clone().unwrap_or_else(find::user);
    let screen = Screen::of_stdout(global.json);
    let mut body = json!({ "by": by });
    if let Some(lasts) = args.lasts {
        body["for"] = format_duration(lasts).into();
    }
    let mut done: Vec<Value> = Vec::new();
    let mut failures = String::new();
    Client::block_on(async {
        for text in &args.alerts {
            match meant(&client, text).await {
                Ok(alerts) => {
                    for alert in alerts {
                        let fingerprint = alert["fingerprint"].as_str().unwrap_or_default();
                        let path = format!("/api/v1/alerts/{fingerprint}/ack");
                        match client.post(&path, &body).await {
                            Ok(_) => done.push(alert),
                            Err(failure) => add(&mut failures, &failure),
                        }
                    }
                }
                Err(failure) => add(&mut failures, &failure),
            }
        }
        Ok(())
    })?;
    if global.json {
        let done: Vec<Value> = done
            .iter()
            .map(|a| json!({ "alert": a["alert"], "fingerprint": a["fingerprint"], "acknowledged_by": by }))
            .collect();
        screen.print_json(&done.into())?;
    } else {
        let lines = done.iter().map(|alert| {
            let name = printable(alert["alert"].as_str().unwrap_or("-"));
            let end = args.lasts.map(|lasts| format!(", for {} at most", format_duration(lasts)));
            let end = end.unwrap_or_default();
            format!("acknowledged {name}: no repeats, escalation and automation until it gets worse or resolves{end}\n")
        });
        screen.print(&lines.collect::<String>())?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(failures))
    }
}

fn add(failures: &mut String, failure: &Failure) {
    let line = if failures.is_empty() { "" } else { "\n" };
    // A text takes all that is written to it.
    let _ = write!(failures, "{line}{}", failure.text);
}

/// A rule's name stands for all its alerts that fire; anything else for one alert.
async fn meant(client: &Client, text: &str) -> Result<Vec<Value>, Failure> {
    let candidates = find::candidates(client, text).await?;
    let of_rule = |candidate: &&Value| {
        let name = candidate["alert"].as_str().unwrap_or_default();
        name.split('{').next() == Some(text) && fires(candidate)
    };
    let firing: Vec<Value> = candidates.iter().filter(of_rule).cloned().collect();
    if !firing.is_empty() {
        return Ok(firing);
    }
    Ok(vec![find::one(text, &candidates)?])
}

fn fires(candidate: &Value) -> bool {
    let state = candidate["state"].as_str().unwrap_or_default();
    state.starts_with("firing:") || state.starts_with("recovering:")
}
