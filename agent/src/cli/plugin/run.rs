//! `watchfire plugin run`: real calls in the real sandbox, with what they cost.

use super::grant::{self, ID};
use super::load::{Ready, load};
use super::project::KindName;
use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::{Paint, Screen, bytes, count};
use crate::error::Failure;
use crate::sandbox::types::{Alert, Batch, CallError, Cost, Kind, Limits, Message, Needs, Use};
use crate::sandbox::{HostConfig, Probe, Rule};
use crate::telemetry::exposition;
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Severities, Severity, parse_duration};

/// Options of `plugin run`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A component, a folder in which one was built, or the name of a stock plugin
    file: PathBuf,
    /// The plugin's table
    #[arg(
        long = "config",
        id = "table",
        value_name = "JSON",
        default_value = "{}"
    )]
    table: String,
    /// What it may reach, such as system=true, http=https://example.org:443, secrets.NAME=HOST; may stand several times
    #[arg(long, value_name = "KEY=VALUE")]
    grant: Vec<String>,
    /// Take [secrets], [command.NAME] and [mail] from this configuration
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// As which kind, where it is several
    #[arg(long)]
    kind: Option<KindName>,
    /// An input of a rule; may stand several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = Input::from_str)]
    input: Vec<Input>,
    /// Let an action change something; without, whatever would is refused
    #[arg(long)]
    act: bool,
    /// How many calls; `state` and a rule's memory are kept from one to the next
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: u32,
    /// Wall limit of a call, in the place of the kind's
    #[arg(long, value_name = "DURATION", value_parser = |text: &str| parse_duration(text))]
    timeout: Option<Duration>,
    /// Fail where a call used more CPU time than this; it is counted in ticks of 10 ms
    #[arg(long, value_name = "DURATION", value_parser = |text: &str| parse_duration(text))]
    fail_if_cpu_over: Option<Duration>,
    /// Link all of WASI, refusing everything
    #[arg(long)]
    stub_wasi: bool,
}

/// CPU time that one tick stands for.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
struct Input {
    name: String,
    value: f64,
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("write NAME=VALUE, such as value=0.9")?;
        let value = value
            .parse()
            .map_err(|_| format!("{value:?} is no number"))?;
        let name = name.to_owned();
        Ok(Input { name, value })
    }
}

/// What one call gave.
struct Call {
    /// For people, each line with its end; for programs.
    answer: Result<(String, Value), CallError>,
    cost: Cost,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let table: Value = serde_json::from_str(&args.table)
        .map_err(|error| Failure::failed(format!("--config is no JSON: {error}")))?;
    if !table.is_object() {
        return Err(Failure::failed(
            "--config must be a JSON object, such as {\"url\": \"…\"}",
        ));
    }
    let screen = Screen::of_stdout(global.json);
    let calls = Client::block_on(call(args, screen))?;
    let failed = calls.iter().any(|call| call.answer.is_err());
    if global.json {
        let calls: Vec<Value> = calls.iter().map(document).collect();
        screen.print_json(&json!({ "calls": calls }))?;
    } else {
        screen.print(&words(&calls, screen))?;
    }
    if let Some(limit) = args.fail_if_cpu_over {
        let used = calls.iter().map(|call| TICK * call.cost.cpu_ticks).max();
        if let Some(used) = used.filter(|used| *used > limit) {
            return Err(Failure::failed(format!(
                "a call used {used:?} of CPU time; --fail-if-cpu-over allows {limit:?}"
            )));
        }
    }
    if failed { Err(Failure::said()) } else { Ok(()) }
}

async fn call(args: &Args, screen: Screen) -> Result<Vec<Call>, Failure> {
    // The component comes first: what it is decides which grants make sense.
    let from = args.from.as_deref();
    let (_, config) = grant::resolve(Kind::Rule, "none", &[], from, screen.color())?;
    let host = HostConfig {
        secrets: config.secrets,
        commands: config.commands,
        mail: config.mail,
    };
    let ready = load(&args.file, args.stub_wasi, host).await?;
    let kind = kind(args.kind, &ready)?;
    let (grants, _) = grant::resolve(kind, &ready.name, &args.grant, from, screen.color())?;
    let mut limits = Limits::of_component(kind, ready.bytes);
    limits.wall = args.timeout.unwrap_or(limits.wall);
    let settings = Use {
        id: ID.into(),
        config: Arc::from(&*args.table),
        grants,
        limits,
    };
    let component = &ready.component;
    let wrong = |error: CallError| {
        Failure::failed(format!(
            "its configure failed: {}",
            printable(&error.to_string())
        ))
    };
    let mut calls = Vec::new();
    match kind {
        Kind::Probe => {
            let probe = component.probe(settings)?;
            probe.configure().await.map_err(wrong)?;
            for _ in 0..args.repeat {
                calls.push(collect(&probe).await);
            }
        }
        Kind::Rule => {
            let rule = component.rule(settings)?;
            let names: Vec<String> = args.input.iter().map(|input| input.name.clone()).collect();
            let needs = rule.configure(&names).await.map_err(|error| {
                let mut failure = wrong(error);
                if names.is_empty() {
                    failure
                        .text
                        .push_str("; give the rule what it judges: --input NAME=VALUE");
                }
                failure
            })?;
            let mut kept = Kept::default();
            for _ in 0..args.repeat {
                calls.push(evaluate(&rule, &args.input, &needs, &mut kept).await);
            }
        }
        Kind::Notifier => {
            let notifier = component.notifier(settings)?;
            notifier.configure().await.map_err(wrong)?;
            for number in 1..=args.repeat {
                let (answer, cost) = notifier.notify(message(number)).await;
                let answer = answer.map(|receipt| {
                    let id = receipt.remote_id.as_deref().unwrap_or("no id given");
                    let text = format!("accepted ({})\n", printable(id));
                    (
                        text,
                        json!({ "remote_id": receipt.remote_id, "extra": receipt.extra }),
                    )
                });
                calls.push(Call { answer, cost });
            }
        }
        Kind::Action => {
            let action = component.action(settings)?;
            action.configure().await.map_err(wrong)?;
            for number in 1..=args.repeat {
                let (answer, cost) = action.act(alert(), number, !args.act).await;
                let answer = answer.map(|outcome| {
                    let changed = if outcome.changed {
                        "changed something"
                    } else {
                        "changed nothing"
                    };
                    let text = format!("{} ({changed})\n", printable(&outcome.did));
                    (
                        text,
                        json!({ "did": outcome.did, "changed": outcome.changed }),
                    )
                });
                calls.push(Call { answer, cost });
            }
        }
    }
    Ok(calls)
}

/// As which kind a component is called.
pub(super) fn kind(wanted: Option<KindName>, ready: &Ready) -> Result<Kind, Failure> {
    match (wanted.map(KindName::kind), ready.component.kinds()) {
        // Another kind than it is gives the sandbox's own message.
        (Some(kind), _) | (None, &[kind]) => Ok(kind),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|kind| kind.name()).collect();
            Err(Failure::failed(format!(
                "it is {}: say with --kind as which it is to run",
                names.join(" and ")
            )))
        }
    }
}

async fn collect(probe: &Probe) -> Call {
    let (answer, cost) = probe.collect().await;
    let answer = answer.map(|collection| {
        let mut text = String::new();
        let mut samples = Vec::new();
        for family in &collection.families {
            for point in &family.points {
                let series = point.series.to_string();
                let value = exposition::number(point.value);
                text.push_str(&format!("{} {value}\n", printable(&series)));
                samples.push(json!({
                    "metric": point.series.metric,
                    "labels": point.series.labels,
                    "kind": family.kind,
                    "value": point.value,
                }));
            }
        }
        let failures: Vec<String> = collection
            .failures
            .iter()
            .map(ToString::to_string)
            .collect();
        for failure in &failures {
            text.push_str(&format!("failed in part: {}\n", printable(failure)));
        }
        text.push_str(&format!(
            "{} of {}\n",
            count(samples.len(), "sample"),
            count(collection.families.len(), "metric")
        ));
        (text, json!({ "samples": samples, "failures": failures }))
    });
    Call { answer, cost }
}

/// What the engine would keep between two rounds of a rule.
#[derive(Default)]
struct Kept {
    active: Severities,
    memory: Vec<u8>,
    points: Vec<(u64, f64)>,
}

async fn evaluate(rule: &Rule, inputs: &[Input], needs: &Needs, kept: &mut Kept) -> Call {
    let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let newest = |input: &String| {
        inputs
            .iter()
            .find(|i| i.name == *input)
            .map(|i| (now_ms, i.value))
    };
    let batch = Batch {
        now_ms,
        columns: inputs.iter().map(|input| vec![input.value]).collect(),
        active: vec![kept.active],
        labels: if needs.labels {
            vec![Vec::new()]
        } else {
            Vec::new()
        },
        memory: if needs.memory {
            vec![kept.memory.clone()]
        } else {
            Vec::new()
        },
        points: needs
            .points_of
            .iter()
            .map(|input| {
                let mut points = kept.points.clone();
                points.extend(newest(input));
                vec![points]
            })
            .collect(),
    };
    let (answer, cost) = rule.evaluate(batch).await;
    let answer = answer.map(|verdicts| {
        let breached = verdicts.breached.first().copied().flatten();
        kept.active = breached.unwrap_or(kept.active);
        if let Some(memory) = verdicts.memory.first() {
            kept.memory.clone_from(memory);
        }
        let names: Option<Vec<&str>> = breached.map(|all| all.iter().map(Severity::name).collect());
        let said = match names.as_deref() {
            None => "unknown".to_owned(),
            Some([]) => "healthy".to_owned(),
            Some(names) => format!("breach: {}", names.join(", ")),
        };
        let figure = |all: &[f64]| all.first().copied().filter(|value| !value.is_nan());
        let (value, limit) = (figure(&verdicts.values), figure(&verdicts.limits));
        let mut text = said;
        for (name, figure) in [("value", value), ("limit", limit)] {
            if let Some(figure) = figure {
                text.push_str(&format!(", {name} {figure}"));
            }
        }
        let notes: Vec<&str> = verdicts.notes.iter().map(|(_, note)| &**note).collect();
        for note in &notes {
            text.push_str(&format!(", {}", printable(note)));
        }
        text.push('\n');
        let document = json!({ "breached": names, "value": value, "limit": limit, "notes": notes });
        (text, document)
    });
    Call { answer, cost }
}

/// An alert that says what it is.
pub(super) fn alert() -> Alert {
    let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    Alert {
        fingerprint: "0".repeat(32),
        episode: 1,
        rule: "watchfire-test".to_owned(),
        severity: Severity::Warning,
        labels: vec![("test".to_owned(), "true".to_owned())],
        value: Some(1.0),
        limit: Some(0.5),
        summary: "this is a test by `watchfire plugin run`".to_owned(),
        started_at_ms: now_ms,
        ended_at_ms: None,
        extra: Vec::new(),
    }
}

pub(super) fn message(number: u32) -> Message {
    Message {
        id: format!("{number:032x}"),
        dedup_key: "wf1:watchfire-test".to_owned(),
        reason: "fire".to_owned(),
        alerts: vec![alert()],
        title: "[TEST] watchfire".to_owned(),
        text: "This is a test by `watchfire plugin run`: nothing is wrong.".to_owned(),
        extra: Vec::new(),
    }
}

fn document(call: &Call) -> Value {
    let (answer, error) = match &call.answer {
        Ok((_, document)) => (Some(document), None),
        Err(error) => (
            None,
            Some(json!({ "kind": error.name(), "message": error.to_string() })),
        ),
    };
    let cost = &call.cost;
    json!({
        "answer": answer,
        "error": error,
        "cost": {
            "wall_seconds": cost.wall.as_secs_f64(),
            "host_seconds": cost.host.as_secs_f64(),
            "cpu_ticks": cost.cpu_ticks,
            "host_calls": cost.host_calls,
            "memory_bytes": cost.memory_bytes,
            "bytes_out": cost.bytes_out,
            "requests": cost.requests,
            "refusals": cost.refusals,
        },
    })
}

/// The last answer, then what the calls cost.
fn words(calls: &[Call], screen: Screen) -> String {
    let Some(last) = calls.last() else {
        return String::new();
    };
    let mut out = match &last.answer {
        Ok((text, _)) => text.clone(),
        Err(error) => format!(
            "{} ({}): {}\n",
            screen.paint(Paint::Critical, "failed"),
            error.name(),
            printable(&error.to_string())
        ),
    };
    let failed = calls.iter().filter(|call| call.answer.is_err()).count();
    if calls.len() > 1 {
        out.push_str(&format!(
            "{}, {failed} failed\n",
            count(calls.len(), "call")
        ));
    }
    let mut walls: Vec<Duration> = calls.iter().map(|call| call.cost.wall).collect();
    walls.sort_unstable();
    let wall = match &walls[..] {
        [only] => format!("{only:.1?}"),
        walls => format!(
            "{:.1?} at best, {:.1?} in the middle, {:.1?} at worst",
            walls[0],
            walls[walls.len() / 2],
            walls[walls.len() - 1]
        ),
    };
    let cost = &last.cost;
    let memory = calls.iter().map(|call| call.cost.memory_bytes).max();
    out.push_str(&format!(
        "\ntime    {wall}\n        {:.1?} of the last call in {} to the host\ncpu     {} of 10 ms\nmemory  {}\nsent    {} in {}\nrefused {} for want of a grant\n",
        cost.host,
        count(cost.host_calls as usize, "call"),
        count(cost.cpu_ticks as usize, "tick"),
        bytes(memory.unwrap_or(0) as u64),
        bytes(cost.bytes_out),
        count(cost.requests as usize, "request"),
        count(cost.refusals as usize, "call"),
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_is_told_with_its_kind_and_cost() {
        let call = |answer| Call {
            answer,
            cost: Cost {
                wall: Duration::from_micros(1_500),
                cpu_ticks: 1,
                memory_bytes: 1 << 20,
                ..Cost::default()
            },
        };
        let calls = [
            call(Ok(("x 1\n".to_owned(), Value::Null))),
            call(Err(CallError::Trapped("a\u{1b}b".to_owned()))),
        ];
        assert_eq!(
            words(&calls, Screen::plain()),
            "failed (trapped): the plugin trapped: a\\u{1b}b\n2 calls, 1 failed\n\n\
             time    1.5ms at best, 1.5ms in the middle, 1.5ms at worst\n        \
             0.0ns of the last call in 0 calls to the host\ncpu     1 tick of 10 ms\n\
             memory  1.0 MiB\nsent    0 B in 0 requests\nrefused 0 calls for want of a grant\n"
        );
        assert_eq!(document(&calls[1])["error"]["kind"], "trapped");
        assert!("x".parse::<Input>().is_err() && "x=y".parse::<Input>().is_err());
        assert_eq!("x=0.5".parse::<Input>().unwrap().value, 0.5);
    }
}
