//! `watchfire recovery`: what procedures do, and the verbs of an operator.

use super::Global;
use super::client::Client;
use super::find;
use super::screen::{Screen, ago};
use super::table::{Table, cell, word};
use crate::error::Failure;
use serde_json::{Value, json};

/// What is to be done.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Procedures, what they wait for, and what they did last
    Status(Status),
    /// No procedure starts anything until `resume`
    Pause(Verb),
    /// Procedures may start again
    Resume(Verb),
    /// Let procedures that ask for leave start, once for each alert that they ask for
    Approve(Named),
    /// Give procedures that gave up, or hold back after a loss of state, their attempts back
    Reset(Named),
}

/// Options of `recovery status`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    config: super::ConfigArg,
}

/// Options of `recovery pause` and `recovery resume`.
#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    #[command(flatten)]
    config: super::ConfigArg,
    /// Who says so [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Options of `recovery approve` and `recovery reset`.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    #[command(flatten)]
    config: super::ConfigArg,
    /// Ids of procedures, as `watchfire recovery status` prints them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Who says so [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Command {
    pub(super) fn config(&self) -> &super::ConfigArg {
        match self {
            Command::Status(args) => &args.config,
            Command::Pause(args) | Command::Resume(args) => &args.config,
            Command::Approve(args) | Command::Reset(args) => &args.config,
        }
    }
}

pub(super) fn recovery(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Status(_) => status(global),
        Command::Pause(args) => {
            let words = "recovery is paused: nothing starts until `watchfire recovery resume`\n";
            switch("pause", args, words, global)
        }
        Command::Resume(args) => {
            let words = "recovery goes on: procedures may start again from the next round on\n";
            switch("resume", args, words, global)
        }
        Command::Approve(args) => each("approve", args, global),
        Command::Reset(args) => each("reset", args, global),
    }
}

fn switch(verb: &str, args: &Verb, words: &str, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let by = args.by.clone().unwrap_or_else(find::user);
    let path = format!("/recovery/{verb}");
    Client::block_on(client.post(&path, &json!({ "by": by })))?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&json!({ "paused": verb == "pause" }));
    }
    screen.print(words)
}

/// All names are looked at before anything is done.
fn each(verb: &str, args: &Named, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let by = args.by.clone().unwrap_or_else(find::user);
    let before = Client::block_on(async {
        let before = client.get("/recovery/status").await?;
        for id in &args.ids {
            let procedure = meant(id, &before)?;
            if verb == "approve" && waits_for(procedure).is_empty() {
                return Err(Failure::failed(format!(
                    "{id:?} asks for nothing now, so there is nothing to approve: `watchfire recovery status` shows what waits"
                )));
            }
        }
        for id in &args.ids {
            let path = format!("/recovery/{}/{verb}", find::encoded(id));
            client.post(&path, &json!({ "by": by })).await?;
        }
        Ok(before)
    })?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&json!(args.ids));
    }
    let lines = args.ids.iter().map(|id| {
        let waits = meant(id, &before).map(waits_for).unwrap_or_default();
        if verb == "approve" {
            format!("{id} may start once for {}\n", waits.join(", "))
        } else {
            format!("{id} has all its attempts again\n")
        }
    });
    screen.print(&lines.collect::<String>())
}

fn meant<'v>(id: &str, status: &'v Value) -> Result<&'v Value, Failure> {
    let mut all = status["procedures"].as_array().into_iter().flatten();
    all.find(|procedure| procedure["id"] == id).ok_or_else(|| {
        Failure::failed(format!(
            "no recovery is called {id:?}: `watchfire recovery status` lists them"
        ))
    })
}

fn status(global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let answer = Client::block_on(client.get("/recovery/status"))?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&answer);
    }
    screen.print(&render(&answer, screen))
}

fn render(answer: &Value, screen: Screen) -> String {
    let mut out = String::new();
    if answer["paused"] == true {
        out.push_str("paused: nothing starts until `watchfire recovery resume`\n");
    }
    let mut procedures = Table::new(&["id", "mode", "now", "last", "rules"]);
    for procedure in answer["procedures"].as_array().into_iter().flatten() {
        let last = procedure["recent"].as_array().and_then(|all| all.first());
        let last = last.map(|attempt| {
            let (step, alert) = (text(&attempt["step"]), text(&attempt["alert"]));
            format!("{step} {}, {alert}", ago(&attempt["started_at"]))
        });
        procedures.row([
            cell(text(&procedure["id"])),
            cell(text(&procedure["mode"])),
            word(now(procedure, answer)),
            cell(last.unwrap_or_default()),
            cell(texts(&procedure["rules"]).join(", ")),
        ]);
    }
    if procedures.is_empty() {
        out.push_str("no recovery procedures: a [[recovery]] table makes one\n");
    } else {
        out.push_str(&procedures.render(screen));
    }
    out
}

/// What it does, or why it does nothing.
fn now(procedure: &Value, answer: &Value) -> String {
    let mut active = answer["active"].as_array().into_iter().flatten();
    if let Some(attempt) = active.find(|attempt| attempt["procedure"] == procedure["id"]) {
        return format!("runs for {}", text(&attempt["alert"]));
    }
    let waits = waits_for(procedure);
    if !waits.is_empty() {
        return format!("asks for leave: {}", waits.join(", "));
    }
    match procedure["held_until"].as_str() {
        Some(until) => format!("held until {until}"),
        None => String::new(),
    }
}

/// The alerts for which it waits for an approval.
fn waits_for(procedure: &Value) -> Vec<String> {
    texts(&procedure["waiting_for_approval"])
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn texts(values: &Value) -> Vec<String> {
    let all = values.as_array().into_iter().flatten();
    all.map(|value| text(value).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mut answer: Value) -> String {
        answer["active"] = json!([]);
        render(&answer, Screen::plain())
    }

    #[test]
    fn what_waits_and_what_was_done_is_shown() {
        let answer = json!({
            "paused": true,
            "procedures": [
                { "id": "restart", "mode": "approve", "rules": ["web-down", "web-slow"],
                  "waiting_for_approval": ["web-down"], "held_until": null, "recent": [] },
                { "id": "clean", "mode": "auto", "rules": ["disk"], "waiting_for_approval": [], "held_until": null,
                  "recent": [{ "step": "verified_ok", "alert": "disk{d=\"a\"}", "started_at": "2026-01-31T12:00:00Z" }] },
            ],
        });
        let shown = shown(answer);
        assert!(shown.starts_with("paused: nothing starts until `watchfire recovery resume`\n"));
        assert!(shown.contains("asks for leave: web-down"), "{shown}");
        assert!(shown.contains("web-down, web-slow\n"), "{shown}");
        let clean = shown.lines().last().expect("a line");
        assert!(clean.contains("verified_ok "), "{clean}");
        assert!(clean.contains(", disk{d=\"a\"}"), "{clean}");
    }

    #[test]
    fn nothing_to_show_says_how_to_make_one() {
        let shown = shown(json!({ "paused": false, "procedures": [] }));
        assert_eq!(
            shown,
            "no recovery procedures: a [[recovery]] table makes one\n"
        );
    }

    #[test]
    fn an_unknown_id_is_told_where_to_look() {
        let failure = meant("x", &json!({ "procedures": [{ "id": "y" }] })).unwrap_err();
        assert!(failure.text.contains("`watchfire recovery status`"));
    }
}
