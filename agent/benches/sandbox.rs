//! What a sandboxed probe call costs, everything included (fresh store, instantiation, configuration,
//! ten samples lifted and checked), beside a check that is a child process: a static C program that
//! prints the same ten samples, and `sh`.
//!
//! ```text
//! cargo bench -p watchfire --bench sandbox
//! ```
//!
//! The ratio is what counts: all are taken in turn, in one run.

#[path = "../tests/it/support/guests.rs"]
#[expect(unreachable_pub, reason = "shared with the tests")]
mod guests;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watchfire::sandbox::types::{Grants, Kind, Limits, Use};
use watchfire::sandbox::{
    HostServices, MemoryState, NoEvents, Sandbox, SandboxSettings, TracingLog, compile,
};

/// Rounds; each takes every way in turn.
const ROUNDS: usize = 2_000;

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
    let bytes = std::fs::read(guests::component("example-probe")).unwrap();
    let state = Arc::new(MemoryState::default());
    let services = HostServices::new(state, Arc::new(NoEvents), Arc::new(TracingLog));
    let sandbox = Sandbox::new(SandboxSettings::default(), services).unwrap();
    let artefact = compile(&bytes, sandbox.settings()).unwrap();
    let component = sandbox
        .load("example-probe", [0; 32], &artefact, false)
        .unwrap();
    let probe = component
        .probe(Use {
            id: "example".into(),
            config: "{}".into(),
            grants: Arc::new(Grants::default()),
            limits: Limits::of(Kind::Probe),
        })
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let check = static_check(folder.path());
    let mut calls = Vec::new();
    let mut children = Vec::new();
    let mut shells = Vec::new();
    for round in 0..ROUNDS {
        calls.push(timed(|| {
            let (collection, _) = runtime.block_on(probe.collect());
            let points: usize = collection
                .unwrap()
                .families
                .iter()
                .map(|f| f.points.len())
                .sum();
            assert_eq!(points, 10);
        }));
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
    println!(
        "ratio to the static program: {:.1}",
        child.as_secs_f64() / call.as_secs_f64()
    );
    println!(
        "ratio to sh: {:.1}",
        shell.as_secs_f64() / call.as_secs_f64()
    );
    println!(
        "calls a second on one core: {:.0}",
        1.0 / call.as_secs_f64()
    );
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

fn print(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    println!(
        "{name}: median {:.1?}, p99 {:.1?} of {}",
        at(0.5),
        at(0.99),
        times.len()
    );
    at(0.5)
}
