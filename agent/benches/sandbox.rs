//! What a sandboxed call costs, everything included: fresh store, instantiation, configuration, the guest's
//! work, its answer lifted and checked.
//!
//! ```text
//! cargo bench -p watchfire --bench sandbox                  # a probe's call beside a child process; loops; rules
//! cargo bench -p watchfire --bench sandbox -- loop 20000    # nothing but calls of the probe, for profilers
//! ```
//!
//! The child process is the same check as a static C program that prints the same ten samples, and `sh`. The
//! ratio is what counts: all are taken in turn, in one run. On a machine that does other work, minimum and
//! median tell more than the mean.

#[path = "../tests/it/support/guests.rs"]
#[expect(unreachable_pub, reason = "shared with the tests")]
mod guests;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use watchfire::plugin::stock;
use watchfire::sandbox::types::{Batch, CallError, Grants, Kind, Limits, Use};
use watchfire::sandbox::{
    Component, HostServices, MemoryState, NoEvents, Probe, Rule, Sandbox, SandboxSettings,
    TracingLog, compile,
};
use watchfire_engine::model::Severities;

/// Rounds; each takes every way in turn.
const ROUNDS: usize = 4_000;
/// Calls of a rule for each size of its batch.
const EVALUATIONS: usize = 500;
/// Loops that are stopped, of each sort.
const LOOPS: usize = 40;
/// CPU budget of such a loop.
const BUDGET: Duration = Duration::from_millis(100);
/// Instances in a rule's batch.
const BATCHES: [usize; 3] = [1, 1_000, 5_000];

/// A check as people write it for agents that start processes.
const CHECK: &str = r#"
#include <stdio.h>
int main(void) {
    for (char letter = 'a'; letter <= 'i'; letter++) printf("example_answer{letter=\"%c\"} 42\n", letter);
    printf("example_rounds_total 1\n");
    return 0;
}
"#;

fn main() {
    let state = Arc::new(MemoryState::default());
    let services = HostServices::new(state, Arc::new(NoEvents), Arc::new(TracingLog));
    let sandbox = Sandbox::new(SandboxSettings::default(), services).unwrap();
    let probe = std::fs::read(guests::component("example-probe")).unwrap();
    let probe = load(&sandbox, "example-probe", &probe)
        .probe(usage(Kind::Probe, "{}"))
        .unwrap();

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, calls, ..] = &arguments[..]
        && mode == "loop"
    {
        let runtime = runtime();
        let calls: usize = calls.parse().expect("a number of calls");
        let times = (0..calls).map(|_| timed(|| collect(&runtime, &probe)));
        print("sandboxed probe call, 10 samples", times.collect());
        return;
    }
    beside_children(&probe);
    loops(&sandbox);
    rules(&sandbox);
}

fn beside_children(probe: &Probe) {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let check = static_check(folder.path());
    let mut calls = Vec::new();
    let mut children = Vec::new();
    let mut shells = Vec::new();
    for round in 0..ROUNDS {
        calls.push(timed(|| collect(&runtime, probe)));
        // A child costs far more: fewer of them give as steady a median.
        if round % 10 == 0 {
            children.push(timed(|| run(&check, &[])));
            shells.push(timed(|| {
                run(Path::new("/bin/sh"), &["-c", "echo example_answer 42"])
            }));
        }
    }
    let call = print("sandboxed probe call, 10 samples", calls);
    let child = print("child process, static C program, 10 samples", children);
    let shell = print("child process, sh, 1 sample", shells);
    let ratio = |of: Duration| of.as_secs_f64() / call.as_secs_f64();
    println!("ratio to the static program: {:.1}", ratio(child));
    println!("ratio to sh: {:.1}", ratio(shell));
    let took = timed(|| (0..ROUNDS * 5).for_each(|_| collect(&runtime, probe)));
    println!(
        "calls a second on one core, one after the other: {:.0}",
        (ROUNDS * 5) as f64 / took.as_secs_f64()
    );
}

/// How long after the end of its CPU budget a loop is over: one of plain code, one of operations on 48 MiB that no
/// tick interrupts.
fn loops(sandbox: &Sandbox) {
    let bytes = std::fs::read(guests::component("hostile")).unwrap();
    let component = load(sandbox, "hostile", &bytes);
    let runtime = runtime();
    for deed in ["spin", "fill without end"] {
        let mut settings = usage(Kind::Probe, &format!(r#"{{"do":"{deed}"}}"#));
        settings.limits.cpu = BUDGET;
        let probe = component.probe(settings).unwrap();
        let beyond = (0..LOOPS).map(|_| {
            let mut answer = None;
            let took = timed(|| answer = Some(runtime.block_on(probe.collect()).0));
            assert_eq!(answer, Some(Err(CallError::CpuLimit(BUDGET))));
            took.saturating_sub(BUDGET)
        });
        let name = format!("{deed}: stopped so long after its budget of {BUDGET:?}");
        print(&name, beyond.collect());
    }
}

/// One rule with batches of every size; then as many threads as cores, each with a rule of its own.
fn rules(sandbox: &Sandbox) {
    let component = stock::find("rule-threshold").unwrap().bytes();
    let component = load(sandbox, "rule-threshold", &component);
    let runtime = runtime();
    let rule = threshold(&runtime, &component);
    for instances in BATCHES {
        let batch = batch(instances);
        let times = (0..EVALUATIONS).map(|_| {
            let batch = batch.clone();
            timed(|| evaluate(&runtime, &rule, batch))
        });
        let name = format!("rule-threshold, {instances} instances");
        let call = print(&name, times.collect());
        if instances > 1 {
            let each = call.as_nanos() / instances as u128;
            println!("{name}: {each} ns an instance");
        }
    }
    let threads = std::thread::available_parallelism().unwrap().get();
    for threads in [1, threads] {
        let took = timed(|| {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        let runtime = self::runtime();
                        let rule = threshold(&runtime, &component);
                        for _ in 0..EVALUATIONS * 10 {
                            evaluate(&runtime, &rule, batch(1));
                        }
                    });
                }
            });
        });
        let calls = threads * EVALUATIONS * 10;
        println!(
            "rule-threshold, 1 instance, {threads} threads: {:.0} calls a second",
            calls as f64 / took.as_secs_f64()
        );
    }
}

fn load(sandbox: &Sandbox, name: &str, bytes: &[u8]) -> Component {
    let artefact = compile(bytes, sandbox.settings()).unwrap();
    sandbox.load(name, [0; 32], &artefact, false).unwrap()
}

fn usage(kind: Kind, config: &str) -> Use {
    Use {
        id: "example".into(),
        config: config.into(),
        grants: Arc::new(Grants::default()),
        limits: Limits::of(kind),
    }
}

/// The agent's own runtime has one thread, too.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn collect(runtime: &Runtime, probe: &Probe) {
    let (collection, _) = runtime.block_on(probe.collect());
    let families = collection.unwrap().families;
    let points: usize = families.iter().map(|family| family.points.len()).sum();
    assert_eq!(points, 10);
}

fn threshold(runtime: &Runtime, component: &Component) -> Rule {
    let config = r#"{"above":{"warning":0.7,"critical":0.9},"clear":{"warning":0.6}}"#;
    let rule = component.rule(usage(Kind::Rule, config)).unwrap();
    runtime.block_on(rule.configure(&["input".into()])).unwrap();
    rule
}

/// One in a hundred is breached.
fn batch(instances: usize) -> Batch {
    let value = |at| if at % 100 == 99 { 0.95 } else { 0.5 };
    Batch {
        now_ms: 1_700_000_000_000,
        columns: vec![(0..instances).map(value).collect()],
        active: vec![Severities::NONE; instances],
        labels: Vec::new(),
        memory: Vec::new(),
        points: Vec::new(),
    }
}

fn evaluate(runtime: &Runtime, rule: &Rule, batch: Batch) {
    let instances = batch.active.len();
    let (verdicts, _) = runtime.block_on(rule.evaluate(batch));
    assert_eq!(verdicts.unwrap().breached.len(), instances);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark on the real clock")]
fn timed(what: impl FnOnce()) -> Duration {
    let since = Instant::now();
    what();
    since.elapsed()
}

#[expect(
    clippy::disallowed_methods,
    reason = "what it compares with is a child process"
)]
fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
}

#[expect(clippy::disallowed_methods, reason = "builds what it compares with")]
fn static_check(folder: &Path) -> std::path::PathBuf {
    let source = folder.join("check.c");
    std::fs::write(&source, CHECK).unwrap();
    let program = folder.join("check");
    let built = Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .unwrap();
    assert!(built.success(), "a C compiler with a static libc is needed");
    program
}

/// Prints and returns the median.
fn print(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    println!(
        "{name}: minimum {:.1?}, median {:.1?}, p99 {:.1?} of {}",
        at(0.0),
        at(0.5),
        at(0.99),
        times.len()
    );
    at(0.5)
}
