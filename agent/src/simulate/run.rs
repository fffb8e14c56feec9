//! Runs cases side by side, and says what came of each.

use super::cases::{Case, Cases};
use super::components::Components;
use super::library::Library;
use crate::config::Finding;
use regex_lite::Regex;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Handle;
use watchfire_engine::model::ProbeId;
use watchfire_simulate::{Difference, Outcome, Scenario, compare, doubts};

/// Which tests are meant: a regular expression, or where it is none, a part of the name.
#[derive(Debug)]
pub struct Filter {
    text: String,
    pattern: Option<Regex>,
}

/// Tests that a filter chose.
pub type Chosen<'s> = Vec<Case<'s>>;

/// What came of one test.
#[derive(Debug)]
pub struct Report {
    /// Its file.
    pub file: PathBuf,
    /// Its id.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// The mistake of a test that expects nothing at all.
    pub expects_nothing: Option<Finding>,
    /// What its author can hardly have meant; it runs all the same.
    pub doubts: Vec<Finding>,
    /// What happened and how that differs from what was expected; or what keeps it from running.
    pub result: Result<(Outcome, Difference), Vec<Finding>>,
}

impl Filter {
    /// Reads it.
    pub fn new(text: &str) -> Self {
        Filter {
            text: text.to_owned(),
            pattern: Regex::new(text).ok(),
        }
    }

    /// Whether the test is meant: its id, its title or its file's name fits.
    pub fn fits(&self, case: &Case<'_>) -> bool {
        let file = case.document.path().to_string_lossy();
        [&*case.test.id, &case.test.title, &file]
            .iter()
            .any(|name| {
                let pattern = self.pattern.as_ref();
                name.contains(&self.text) || pattern.is_some_and(|pattern| pattern.is_match(name))
            })
    }
}

/// Runs all, `jobs` at a time, on threads of their own; guest calls run on `runtime`. In the order of `chosen`.
/// `progress` hears after each how many are done.
pub fn run(
    cases: &Cases<'_>,
    chosen: &[Case<'_>],
    library: &Library,
    runtime: &Handle,
    jobs: usize,
    mut progress: impl FnMut(usize) + Send,
) -> Vec<Report> {
    let progress = Mutex::new(&mut progress);
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::with_capacity(chosen.len()));
    std::thread::scope(|scope| {
        for worker in 0..jobs.clamp(1, chosen.len().max(1)) {
            let (next, reports, progress) = (&next, &reports, &progress);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = chosen.get(at) else { break };
                    let report = one(cases, case, (library, worker), runtime);
                    // A panic of another thread ends the program when the scope ends.
                    if let Ok(mut reports) = reports.lock() {
                        reports.push((at, report));
                        if let Ok(mut progress) = progress.lock() {
                            progress(reports.len());
                        }
                    }
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_default();
    reports.sort_by_key(|(at, _)| *at);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn one(
    cases: &Cases<'_>,
    case: &Case<'_>,
    (library, worker): (&Library, usize),
    runtime: &Handle,
) -> Report {
    let test = &case.test;
    let prepared = runtime.block_on(cases.prepare(case, library, worker));
    let mut doubtful = Vec::new();
    let result = prepared.map(|prepared| {
        let setups: Vec<_> = prepared.iter().map(|p| p.setup.clone()).collect();
        doubtful = doubts(test, &setups);
        let probes = test.samples.iter();
        let probes = probes.map(|samples| ProbeId::new(samples.series.metric.clone()));
        let judges = Components::new(runtime.clone(), &prepared, probes.collect());
        let outcome = Scenario::new(test, &setups, judges).run();
        let expect = test.expect.clone().unwrap_or_default();
        let difference = compare(&expect, &outcome);
        (outcome, difference)
    });
    let expects = test.expect.as_ref();
    let expects = expects.is_some_and(|e| e.timeline.is_some() || e.states.is_some());
    let expects_nothing = (!expects).then(|| {
        let key = format!("test[{}].expect", test.id);
        let help = "write [test.expect] timeline = [ … ]; [] where nothing may happen";
        let span = test.span.clone();
        case.document
            .mistake(span, &key, "the test expects nothing", help)
    });
    Report {
        expects_nothing,
        doubts: doubtful
            .into_iter()
            .map(|d| case.document.doubt(d.span, &d.key, &d.message, &d.help))
            .collect(),
        file: case.document.path().to_owned(),
        id: test.id.clone(),
        title: test.title.clone(),
        result,
    }
}
