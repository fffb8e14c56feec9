//! `watchfire test`.

use super::Global;
use super::screen::{Paint, Progress, Screen, count};
use crate::config::{self, Finding};
use crate::error::Failure;
use crate::simulate::{Filter, Library, Report, Sources, run};
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::path::PathBuf;
use tokio::time::Instant;

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Test files; of a folder every *.toml with [[test]] tables, those of its folders too
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only tests whose id, title or file fits: a part of it, or a regular expression
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How many at the same time [default: one a processor]
    #[arg(long, short, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
}

/// What a run of tests gave.
pub(super) struct Ran {
    pub(super) reports: Vec<Report>,
    /// What is wrong with files as a whole; a test that cannot run says so in its report.
    pub(super) mistakes: Vec<Finding>,
}

/// Reads, chooses and runs.
pub(super) fn run_all(
    paths: &[PathBuf],
    filter: Option<&str>,
    jobs: Option<std::num::NonZeroUsize>,
) -> Result<Ran, Failure> {
    let mut sources = Sources::read(paths);
    let mut mistakes = std::mem::take(&mut sources.mistakes);
    let (files, cases) = sources.parse(&mut mistakes);
    let mut chosen: Vec<_> = files
        .iter()
        .flat_map(|file| file.cases(&mut mistakes))
        .collect();
    if chosen.is_empty() && mistakes.is_empty() {
        return Err(Failure::config(
            "there is no test: write [[test]] tables, as README.md shows, into *.toml files of that folder",
        ));
    }
    if let Some(filter) = filter.map(Filter::new) {
        let before = chosen.len();
        chosen.retain(|case| filter.fits(case));
        if chosen.is_empty() && before > 0 {
            return Err(Failure::failed(format!(
                "none of {} fits the filter",
                count(before, "test")
            )));
        }
    }
    let processors = || std::thread::available_parallelism().map_or(1, Into::into);
    let jobs = jobs.map_or_else(processors, Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let library = Library::new()?;
    drop(entered);
    let mut progress = Progress::new();
    let all = chosen.len() as f64;
    let reports = run(&cases, &chosen, &library, runtime.handle(), jobs, |done| {
        progress.tell(done as f64 / all);
    });
    Ok(Ran { reports, mistakes })
}

pub(super) fn test(args: &Args, global: &Global) -> Result<(), Failure> {
    let screen = Screen::of_stdout(global.json);
    let started = Instant::now();
    let mut ran = run_all(&args.paths, args.filter.as_deref(), args.jobs)?;
    for report in &mut ran.reports {
        // A test that cannot fail would pass for one that holds.
        if let (Ok(_), Some(nothing)) = (&report.result, report.expects_nothing.take()) {
            report.result = Err(vec![nothing]);
        }
    }
    let doubts: Vec<Finding> = ran
        .reports
        .iter_mut()
        .flat_map(|report| std::mem::take(&mut report.doubts))
        .collect();
    let took = started.elapsed();
    let failed = ran.reports.iter().filter(|report| !passed(report)).count();
    let broken = ran.reports.iter().filter(|report| report.result.is_err());
    let unusable = broken.count() > 0 || !ran.mistakes.is_empty();
    let mut text = String::new();
    for report in &ran.reports {
        if global.json {
            text.push_str(&format!("{}\n", document(report)));
        } else if !passed(report) {
            text.push_str(&words(report, screen));
        }
    }
    if global.json {
        // Programs read stdout; a mistake is for people.
        eprint!("{}", config::render(&doubts, false));
        eprint!("{}", config::render(&ran.mistakes, false));
    } else {
        text.push_str(&config::render(&doubts, screen.color()));
        text.push_str(&config::render(&ran.mistakes, screen.color()));
        let all = ran.reports.len();
        let (paint, word) = if failed > 0 || unusable {
            (Paint::Critical, format!("{failed} failed"))
        } else {
            (Paint::Good, "all passed".to_owned())
        };
        text.push_str(&format!(
            "{}, {} ({:.1} s)\n",
            count(all, "test"),
            screen.paint(paint, &word),
            took.as_secs_f64()
        ));
    }
    screen.print(&text)?;
    if unusable {
        Err(Failure::config(""))
    } else if failed > 0 {
        Err(Failure::said())
    } else {
        Ok(())
    }
}

/// Whether everything that was expected happened, and nothing else.
fn passed(report: &Report) -> bool {
    matches!(&report.result, Ok((_, difference)) if difference.is_empty())
}

/// One line of `--json`.
fn document(report: &Report) -> Value {
    let (missing, unexpected) = match &report.result {
        Ok((_, difference)) => (&difference.missing[..], &difference.unexpected[..]),
        Err(_) => (&[][..], &[][..]),
    };
    let mut document = json!({
        "id": report.id,
        "passed": passed(report),
        "missing": missing,
        "unexpected": unexpected,
    });
    if let Err(findings) = &report.result {
        document["errors"] = json!(findings);
    }
    document
}

fn words(report: &Report, screen: Screen) -> String {
    let head = format!("{}: {}", report.id, report.title);
    let head = head.trim_end_matches([' ', ':']);
    let mut text = format!(
        "{} {} ({})\n",
        screen.paint(Paint::Critical, "FAILED"),
        screen.paint(Paint::Bold, &printable(head)),
        report.file.display()
    );
    match &report.result {
        Ok((_, difference)) => {
            for line in difference.to_string().lines() {
                let line = printable(line);
                let differs = line.starts_with("  !");
                let paint = if differs {
                    Paint::Warning
                } else {
                    Paint::Plain
                };
                text.push_str(&screen.paint(paint, &line));
                text.push('\n');
            }
        }
        Err(findings) => text.push_str(&config::render(findings, screen.color())),
    }
    text.push('\n');
    text
}
