//! `watchfire silence`.

use super::Global;
use super::client::Client;
use super::find;
use super::screen::{Screen, ago};
use super::table::{Table, cell, word};
use crate::error::{Failure, USAGE};
use crate::matcher;
use serde_json::{Value, json};
use std::time::Duration;
use watchfire_engine::model::{format_duration, parse_duration};

/// What is to be done.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Mute alerts for a time
    Add(Add),
    /// Silences that hold or will hold
    List(List),
    /// End silences before their time
    Expire(Expire),
}

/// Options of `silence add`.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    #[command(flatten)]
    config: super::ConfigArg,
    /// Which alerts, all of them to hold: a rule (`cpu-high`, `disk-*`), or LABEL=VALUE, !=, =~, !~
    #[arg(required = true, value_name = "MATCHER")]
    matchers: Vec<String>,
    /// For so long: 30m, 2h, 3d
    #[arg(
        long = "for",
        value_name = "TIME",
        conflicts_with = "until",
        required_unless_present = "until"
    )]
    length: Option<String>,
    /// Until then: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// From then on [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Why
    #[arg(long, short)]
    reason: String,
    /// Whose it is [default: $USER]
    #[arg(long)]
    owner: Option<String>,
    /// It recurs: it holds only while this [[schedule]] is open
    #[arg(long, value_name = "ID")]
    schedule: Option<String>,
    /// End with the resolve of what it covered
    #[arg(long)]
    expire_on_resolve: bool,
    /// End when it covered nothing for so long
    #[arg(long, value_name = "TIME")]
    expire_when_idle: Option<String>,
    /// What it stops
    #[arg(long, value_delimiter = ',', default_value = "notify", value_parser = ["notify", "recover"])]
    scope: Vec<String>,
}

/// Options of `silence list`.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    config: super::ConfigArg,
    /// Also those that are over
    #[arg(long)]
    all: bool,
}

/// Options of `silence expire`.
#[derive(Debug, clap::Args)]
pub(super) struct Expire {
    #[command(flatten)]
    config: super::ConfigArg,
    /// Their ids, or unique beginnings of them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Who ends them [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Command {
    pub(super) fn config(&self) -> &super::ConfigArg {
        match self {
            Command::Add(args) => &args.config,
            Command::List(args) => &args.config,
            Command::Expire(args) => &args.config,
        }
    }
}

pub(super) fn silence(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Add(args) => add(args, global),
        Command::List(args) => list(args, global),
        Command::Expire(args) => expire(args, global),
    }
}

fn usage(text: impl Into<String>) -> Failure {
    Failure {
        code: USAGE,
        text: text.into(),
    }
}

fn add(args: &Add, global: &Global) -> Result<(), Failure> {
    let document = document(args, jiff::Timestamp::now())?;
    let client = Client::find(global)?;
    let screen = Screen::of_stdout(global.json);
    let (id, idle, silences) = Client::block_on(async {
        let answer = client.post("/api/v1/silences", &document).await?;
        let silences = client.get("/api/v1/silences").await?;
        let idle = answer["mutes_nothing_now"] == true;
        Ok((answer["id"].clone(), idle, silences))
    })?;
    let mut all = silences["silences"].as_array().into_iter().flatten();
    let added = all.find(|silence| silence["id"] == id);
    let mut added = added.cloned().unwrap_or_else(|| json!({ "id": id }));
    added["mutes_nothing_now"] = idle.into();
    if global.json {
        return screen.print_json(&added);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let nothing = if idle {
        "it mutes nothing now: no alert is as it says, and no rule is called so\n"
    } else {
        ""
    };
    screen.print(&format!(
        "silence {} holds until {}; `watchfire silence expire {}` ends it\n{nothing}",
        text(&added["id"]),
        text(&added["ends_at"]),
        text(&added["id"]),
    ))
}

/// What the agent is told.
fn document(args: &Add, now: jiff::Timestamp) -> Result<Value, Failure> {
    let mut rules = Vec::new();
    let mut matchers = Vec::new();
    for text in &args.matchers {
        if text.contains(['=', '!']) {
            let test = matcher::parse(text).map_err(|error| usage(error.to_string()))?;
            matchers.push(matcher::written(&test));
        } else {
            rules.push(text.clone());
        }
    }
    let from = match &args.from {
        Some(text) => time(text, "--from")?,
        None => now,
    };
    let until = match (&args.length, &args.until) {
        (Some(length), _) => from + length_of(length, "--for")?,
        (None, Some(until)) => time(until, "--until")?,
        (None, None) => return Err(usage("a silence needs --for TIME or --until TIME")),
    };
    if until <= now.max(from) {
        return Err(usage("the silence would be over before it begins"));
    }
    let idle = args.expire_when_idle.as_ref();
    let idle = idle.map(|text| length_of(text, "--expire-when-idle"));
    let scope = |word: &str| args.scope.iter().any(|s| s == word);
    let mut document = json!({
        "matchers": matchers,
        "rules": rules,
        "ends_at": until.to_string(),
        "owner": args.owner.clone().unwrap_or_else(find::user),
        "reason": args.reason,
        "expire_on_resolve": args.expire_on_resolve,
        "notify": scope("notify"),
        "recover": scope("recover"),
        "schedule": args.schedule,
        "expire_when_idle_seconds": idle.transpose()?.map(|idle| idle.as_secs_f64()),
    });
    if args.from.is_some() {
        document["starts_at"] = from.to_string().into();
    }
    Ok(document)
}

fn length_of(text: &str, option: &str) -> Result<Duration, Failure> {
    parse_duration(text).map_err(|error| usage(format!("{option}: {error}")))
}

fn time(text: &str, option: &str) -> Result<jiff::Timestamp, Failure> {
    text.parse().map_err(|_| {
        usage(format!(
            "{option}: {text:?} is no time: write one like 2026-01-31T12:00:00Z, with its zone"
        ))
    })
}

fn list(args: &List, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let mut answer = Client::block_on(client.get("/api/v1/silences"))?;
    if let Some(silences) = answer["silences"].as_array_mut() {
        silences.retain(|silence| args.all || silence["state"] != "expired");
    }
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&answer["silences"]);
    }
    screen.print(&render(&answer["silences"], screen))
}

fn render(silences: &Value, screen: Screen) -> String {
    let mut table = Table::new(&[
        "id", "state", "ends", "owner", "matchers", "mutes", "reason",
    ]);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let joined = |value: &Value| {
        let all = value.as_array().into_iter().flatten();
        let all: Vec<&str> = all.filter_map(Value::as_str).collect();
        all.join(", ")
    };
    for silence in silences.as_array().into_iter().flatten() {
        let mut ends = until(&silence["ends_at"]);
        if let Some(why) = silence["ended"].as_str() {
            ends = format!("{} ({why})", ago(&silence["ends_at"]));
        }
        let mut what = joined(&silence["matchers"]);
        if let Some(schedule) = silence["schedule"].as_str() {
            what = format!("{what} while {schedule}");
        }
        if silence["recover"] == true {
            let also = if silence["notify"] == true {
                "and"
            } else {
                "only"
            };
            what = format!("{what} ({also} recovery)");
        }
        table.row([
            cell(text(&silence["id"])),
            word(text(&silence["state"])),
            cell(ends),
            cell(text(&silence["owner"])),
            cell(what),
            cell(joined(&silence["mutes"])),
            cell(text(&silence["reason"])),
        ]);
    }
    if table.is_empty() {
        "no silences\n".to_owned()
    } else {
        table.render(screen)
    }
}

/// `in 2h5m`, or how long ago.
fn until(time: &Value) -> String {
    let at = time
        .as_str()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok());
    let left = at.map(|at| at.duration_since(jiff::Timestamp::now()));
    match left.map(Duration::try_from) {
        Some(Ok(left)) => format!(
            "in {}",
            format_duration(Duration::from_secs(left.as_secs()))
        ),
        _ => ago(time),
    }
}

fn expire(args: &Expire, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let by = args.by.clone().unwrap_or_else(find::user);
    let screen = Screen::of_stdout(global.json);
    let ended = Client::block_on(async {
        let answer = client.get("/api/v1/silences").await?;
        let mut ids = Vec::new();
        for text in &args.ids {
            ids.push(meant(text, &answer["silences"])?);
        }
        for id in &ids {
            let path = format!("/api/v1/silences/{}", find::encoded(id));
            client.delete(&path, &json!({ "by": by })).await?;
        }
        Ok(ids)
    })?;
    if global.json {
        return screen.print_json(&json!(ended));
    }
    let lines = ended.iter().map(|id| format!("silence {id} is over\n"));
    screen.print(&lines.collect::<String>())
}

fn meant(text: &str, silences: &Value) -> Result<String, Failure> {
    let all = silences.as_array().into_iter().flatten();
    let all: Vec<&str> = all
        .filter(|silence| silence["state"] != "expired")
        .filter_map(|silence| silence["id"].as_str())
        .collect();
    if all.contains(&text) {
        return Ok(text.to_owned());
    }
    let mut fits = all.iter().filter(|id| id.starts_with(text));
    match (fits.next(), fits.next()) {
        (Some(one), None) => Ok((*one).to_owned()),
        (None, _) => Err(Failure::failed(format!(
            "no silence that is not over has the id {text:?}: `watchfire silence list` shows them"
        ))),
        (Some(_), Some(_)) => Err(Failure::failed(format!(
            "several silences begin with {text:?}: write more of the id"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(matchers: &[&str]) -> Add {
        Add {
            config: crate::cli::ConfigArg::default(),
            matchers: matchers.iter().map(|m| (*m).to_owned()).collect(),
            length: Some("2h".to_owned()),
            until: None,
            from: None,
            reason: "deploy".to_owned(),
            owner: Some("anna".to_owned()),
            schedule: None,
            expire_on_resolve: false,
            expire_when_idle: None,
            scope: vec!["notify".to_owned()],
        }
    }

    fn now() -> jiff::Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_silence_is_what_the_words_say() {
        let made = document(
            &args(&["disk-*", "severity!=critical", "host=~\"a.*\""]),
            now(),
        )
        .unwrap();
        assert_eq!(made["rules"], json!(["disk-*"]));
        assert_eq!(
            made["matchers"],
            json!(["severity!=\"critical\"", "host=~\"a.*\""])
        );
        assert_eq!(made["ends_at"], "2026-01-31T14:00:00Z");
        assert_eq!(made.get("starts_at"), None, "the agent's own now");
        assert_eq!(
            (&made["notify"], &made["recover"]),
            (&json!(true), &json!(false))
        );
    }

    #[test]
    fn what_cannot_be_meant_is_a_mistake_of_usage() {
        let mut backwards = args(&["a"]);
        backwards.length = None;
        backwards.until = Some("2026-01-31T11:00:00Z".to_owned());
        let mut vague = args(&["a"]);
        vague.length = Some("soon".to_owned());
        for wrong in [backwards, vague, args(&["a=~("])] {
            assert_eq!(document(&wrong, now()).unwrap_err().code, USAGE);
        }
    }

    #[test]
    fn an_id_may_be_cut_short_but_not_into_doubt() {
        let all = json!([
            { "id": "ab12", "state": "active" }, { "id": "ab34", "state": "pending" },
            { "id": "cd", "state": "expired" },
        ]);
        assert_eq!(meant("ab1", &all).unwrap(), "ab12");
        assert!(meant("ab", &all).unwrap_err().text.contains("several"));
        assert!(meant("cd", &all).is_err());
    }
}
