//! `watchfire replay`: recorded samples through a configuration, or through two.

use super::Global;
use super::screen::{Paint, Progress, Screen, count};
use crate::config::{self, Config, Environment};
use crate::error::Failure;
use crate::simulate::{Candidate, Library, Recording, Replayed, read_time, replay};
use crate::store::metrics;
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;
use watchfire_engine::model::Severity;
use watchfire_simulate::Entry;

/// Options of `replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// CSV files (timestamp,value or timestamp,series,value), in the place of the agent's own history
    #[arg(long, value_name = "FILE", num_args = 1..)]
    csv: Vec<PathBuf>,
    /// The metric of CSV files whose own name is not that of the metric
    #[arg(long, value_name = "NAME", requires = "csv")]
    metric: Option<String>,
    /// Another configuration, such as the one that runs: show what changes
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Not before this time: 2026-01-31T08:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    from: Option<u64>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    to: Option<u64>,
}

pub(super) fn replay_command(args: &Args, global: &Global) -> Result<(), Failure> {
    let screen = Screen::of_stdout(global.json);
    let candidate = load(global.config.as_deref(), global, screen)?;
    let other = args.against.as_deref();
    let other = other
        .map(|path| load(Some(path), global, screen))
        .transpose()?;
    let configs: Vec<&Config> = [Some(&candidate), other.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    let recording = read(args, &configs)?;
    if recording.samples() == 0 {
        return Err(Failure::failed(
            "there are no samples that a rule of this configuration reads: compare the names of their metrics, and --from with --to",
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let library = Library::new()?;
    drop(entered);
    let after = run(&candidate, &recording, &library, &runtime)?;
    let before = other
        .map(|other| run(&other, &recording, &library, &runtime))
        .transpose()?;
    if global.json {
        screen.print_json(&document(&after, before.as_ref()))
    } else {
        screen.print(&words(&recording, &after, before.as_ref(), screen))
    }
}

fn load(path: Option<&Path>, global: &Global, screen: Screen) -> Result<Config, Failure> {
    let mut environment = Environment::of_process();
    environment.data_dir_override = global
        .data_dir
        .as_ref()
        .map(|dir| environment.cwd.join(dir));
    let loaded = config::load(path, &environment);
    let refused = |rejected: config::Rejected| {
        Failure::config(config::render(&rejected.mistakes, screen.color()))
    };
    Ok(loaded.map_err(refused)?.config)
}

/// The samples that one of the configurations reads.
fn read(args: &Args, configs: &[&Config]) -> Result<Recording, Failure> {
    let rules = configs.iter().flat_map(|config| &config.rules);
    let inputs = rules.flat_map(|rule| &rule.inputs);
    let wanted: BTreeSet<String> = inputs.map(|input| input.metric.to_string()).collect();
    let range = (args.from.unwrap_or(0), args.to.unwrap_or(u64::MAX));
    let mut recording = Recording::default();
    for file in &args.csv {
        recording.read_csv(file, args.metric.as_deref(), &wanted, range)?;
    }
    if args.csv.is_empty() {
        let file = metrics::path_in(&configs[0].agent.data_dir);
        recording.read_store(&file, &wanted, range)?;
    }
    Ok(recording)
}

fn run(
    config: &Config,
    recording: &Recording,
    library: &Library,
    runtime: &Runtime,
) -> Result<Replayed, Failure> {
    let metrics = recording.metrics();
    let prepared = runtime.block_on(Candidate::new(config, &metrics, library));
    let candidate = prepared.map_err(|refused| Failure::config(refused.join("\n")))?;
    let mut progress = Progress::new();
    Ok(replay(recording, &candidate, runtime.handle(), |share| {
        progress.tell(share);
    }))
}

fn document(after: &Replayed, before: Option<&Replayed>) -> Value {
    let list = |replayed: &Replayed, entries: &[Entry]| -> Vec<Value> {
        let timed = entries.iter().map(|entry| {
            let mut value = json!(entry);
            value["time"] = Value::from(time(replayed, entry));
            value
        });
        timed.collect()
    };
    let one = |replayed: &Replayed| {
        json!({
            "from": time_of(replayed.begin_ms),
            "to": time_of(replayed.end_ms),
            "rounds": replayed.rounds,
            "fired": list(replayed, &replayed.fired),
            "sent": list(replayed, &replayed.sent),
            "done": list(replayed, &replayed.done),
        })
    };
    let Some(before) = before else {
        return one(after);
    };
    let (gone, new) = difference(before, after);
    json!({
        "before": one(before),
        "after": one(after),
        "difference": {
            "only_before": gone.iter().map(|line| &line.1).collect::<Vec<_>>(),
            "only_after": new.iter().map(|line| &line.1).collect::<Vec<_>>(),
        },
    })
}

fn words(
    recording: &Recording,
    after: &Replayed,
    before: Option<&Replayed>,
    screen: Screen,
) -> String {
    let mut text = format!(
        "{}, {}, {} to {}",
        count(recording.series(), "series").replace("seriess", "series"),
        count(usize::try_from(after.rounds).unwrap_or(usize::MAX), "round"),
        time_of(after.begin_ms),
        time_of(after.end_ms),
    );
    if recording.skipped() > 0 {
        text.push_str(&format!(
            "; {} that no rule reads left out",
            recording.skipped()
        ));
    }
    text.push_str("\n\n");
    let lines: Vec<(u64, String)> = match before {
        None => lines(after),
        Some(before) => {
            let (gone, new) = difference(before, after);
            let mark = |sign: &str, paint: Paint, lines: Vec<(u64, String)>| {
                let marked = lines
                    .into_iter()
                    .map(|(at, line)| (at, screen.paint(paint, &format!("{sign} {line}"))));
                marked.collect::<Vec<_>>()
            };
            let mut all = mark("-", Paint::High, gone);
            all.extend(mark("+", Paint::Good, new));
            all.sort_by_key(|(at, _)| *at);
            all
        }
    };
    for (_, line) in &lines {
        text.push_str(line);
        text.push('\n');
    }
    if !lines.is_empty() {
        text.push('\n');
    }
    text.push_str(&table(before, after));
    text
}

/// How many there are of what, before and after.
fn table(before: Option<&Replayed>, after: &Replayed) -> String {
    type Count = fn(&Replayed, Option<Severity>) -> usize;
    let sent: Count = |replayed, severity| {
        let all = replayed.sent.iter();
        all.filter(|entry| severity.is_none() || entry.severity == severity)
            .count()
    };
    let mut rows: Vec<(String, Count, Option<Severity>)> = vec![
        (
            "alerts fired".into(),
            |replayed, _| replayed.fired.len(),
            None,
        ),
        ("messages sent".into(), sent, None),
    ];
    for severity in Severity::ALL.into_iter().rev() {
        rows.push((format!("  {severity}"), sent, Some(severity)));
    }
    let actions: Count = |replayed, _| {
        let all = replayed.done.iter();
        all.filter(|entry| matches!(entry.event, "action_start" | "action_would_start"))
            .count()
    };
    rows.push(("actions".into(), actions, None));
    let mut text = String::new();
    if before.is_some() {
        text.push_str(&format!("{:16}{:>8}{:>8}\n", "", "before", "after"));
    }
    for (name, count, severity) in rows {
        let counts: Vec<usize> = before
            .into_iter()
            .chain([after])
            .map(|r| count(r, severity))
            .collect();
        if severity.is_some() && counts.iter().all(|count| *count == 0) {
            continue;
        }
        let counts: String = counts.iter().map(|count| format!("{count:>8}")).collect();
        text.push_str(&format!("{name:16}{counts}\n"));
    }
    text
}

/// Everything in order of time, as `TIME WHAT`.
/// Seconds and words.
type Lines = Vec<(u64, String)>;

fn lines(replayed: &Replayed) -> Lines {
    let all = replayed.fired.iter().map(|entry| {
        let alert = entry.alert.as_deref().unwrap_or_default();
        (entry, format!("begins {alert}"))
    });
    let told = replayed.sent.iter().chain(&replayed.done);
    let all = all.chain(told.map(|entry| (entry, entry.line().text)));
    let mut lines: Lines = all
        .map(|(entry, words)| {
            (
                entry.t,
                format!("{} {}", time(replayed, entry), printable(&words)),
            )
        })
        .collect();
    lines.sort_by_key(|(at, _)| *at);
    lines
}

/// What happens in the first only, and in the second only.
fn difference(before: &Replayed, after: &Replayed) -> (Lines, Lines) {
    let mut balance: BTreeMap<(u64, String), i64> = BTreeMap::new();
    for line in lines(before) {
        *balance.entry(line).or_default() -= 1;
    }
    for line in lines(after) {
        *balance.entry(line).or_default() += 1;
    }
    let times = |line: &(u64, String), times: i64| {
        std::iter::repeat_n(line.clone(), usize::try_from(times).unwrap_or(0))
    };
    let gone = balance.iter().flat_map(|(line, n)| times(line, -n));
    let new = balance.iter().flat_map(|(line, n)| times(line, *n));
    (gone.collect(), new.collect())
}

fn time(replayed: &Replayed, entry: &Entry) -> String {
    time_of(replayed.begin_ms + entry.t * 1_000)
}

fn time_of(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}
