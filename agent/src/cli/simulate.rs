//! `watchfire simulate`: what happens in tests, whatever they expect.

use super::Global;
use super::screen::{Paint, Screen};
use super::test::run_all;
use crate::config;
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::path::PathBuf;
use watchfire_simulate::{Entry, Outcome};

/// Options of `simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Test files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only tests whose id, title or file fits: a part of it, or a regular expression
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Show each change of an alert's state too
    #[arg(long)]
    states: bool,
}

pub(super) fn simulate(args: &Args, global: &Global) -> Result<(), Failure> {
    let screen = Screen::of_stdout(global.json);
    let ran = run_all(&args.paths, args.filter.as_deref(), None)?;
    // A single test needs no name on each line.
    let several = ran.reports.len() > 1;
    let mut text = String::new();
    let mut mistakes = ran.mistakes;
    for report in ran.reports {
        if several && !global.json {
            let head = screen.paint(Paint::Bold, &printable(&report.id));
            text.push_str(&format!("{head} {}\n", printable(&report.title)));
        }
        match report.result {
            Ok((outcome, _)) => {
                for entry in in_order(outcome, args.states) {
                    let line = if global.json {
                        let mut line = json!(entry);
                        if several {
                            line["test"] = Value::from(&*report.id);
                        }
                        line.to_string()
                    } else {
                        let indent = if several { "  " } else { "" };
                        format!("{indent}{}", printable(&entry.to_string()))
                    };
                    text.push_str(&line);
                    text.push('\n');
                }
            }
            Err(findings) => mistakes.extend(findings),
        }
    }
    screen.print(&text)?;
    if mistakes.is_empty() {
        return Ok(());
    }
    eprint!("{}", config::render(&mistakes, false));
    Err(Failure::config(""))
}

/// What happened, with the changes of states among it where they are wanted: of one second first the
/// state, then what it led to.
fn in_order(outcome: Outcome, states: bool) -> Vec<Entry> {
    let mut all = if states { outcome.states } else { Vec::new() };
    all.extend(outcome.timeline);
    all.sort_by_key(|entry| entry.t);
    all
}
