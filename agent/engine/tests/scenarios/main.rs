//! The scenarios of the specification, run against the engine on a virtual clock.
//!
//! `cases/*.toml` follow the format of `watchfire test`; the driver stands for everything around the
//! engine: probes, a native threshold rule, notifier services, actions, the store, the operator.

mod config;
mod driver;
mod judge;
mod parse;
mod print;
mod timeline;

use driver::Driver;
use std::path::Path;
use timeline::{Line, difference};
use toml::{Table, Value};

/// Runs every scenario of a file; panics with all that failed. Tells how many there were.
fn run_file(name: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/cases");
    let read = |name: &str| -> Table {
        let text = std::fs::read_to_string(folder.join(name)).expect("a file of scenarios");
        text.parse().expect("TOML")
    };
    let file = read(name);
    let base = file
        .get("base")
        .and_then(Value::as_str)
        .map(read)
        .unwrap_or_default();
    let empty = Vec::new();
    let tests = file.get("test").and_then(Value::as_array).unwrap_or(&empty);
    let failures: Vec<String> = tests
        .iter()
        .filter_map(|test| run(&base, test.as_table().expect("a test")).err())
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    tests.len()
}

fn run(base: &Table, test: &Table) -> Result<(), String> {
    let id = test["id"].as_str().expect("an id");
    let title = test["title"].as_str().unwrap_or_default();
    let (timeline, states) = Driver::new(base, test).run();
    let expect = test["expect"].as_table().expect("[test.expect]");
    let lines = |key: &str| -> Option<Vec<Line>> {
        let all = expect.get(key)?.as_array().expect("a list");
        Some(
            all.iter()
                .map(|line| Line::parse(line.as_str().expect("a line")))
                .collect(),
        )
    };
    let mut faults = Vec::new();
    if let Some(wanted) = lines("timeline") {
        faults.extend(difference(&wanted, &timeline));
    }
    if let Some(wanted) = lines("states") {
        // The state before anything happened may be left out.
        let said = wanted.iter().any(|line| line.at_secs == 0);
        let states: Vec<Line> = states
            .into_iter()
            .filter(|line| said || line.at_secs != 0 || line.text != "ok")
            .collect();
        faults.extend(difference(&wanted, &states));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("{id}: {title}\n{}", faults.join("states:\n")))
    }
}

macro_rules! files {
    ($($test:ident = $file:literal: $count:literal,)*) => {
        $(#[test]
        fn $test() {
            assert_eq!(run_file($file), $count);
        })*

    };
}

// The counts of the specification's files make 44: a scenario that is lost does not pass silently.
files! {
    thresholds = "A.toml": 7,
    windows_and_composites = "B.toml": 3,
    missing_data = "C.toml": 5,
    notifications = "D.toml": 7,
    deliveries = "E.toml": 2,
    restarts_clocks_reloads = "F.toml": 8,
    recovery = "G.toml": 5,
    intervals = "H.toml": 1,
    other_systems = "P.toml": 6,
    own_notifications = "own-notify.toml": 14,
    own_deliveries = "own-deliver.toml": 10,
    own_judging = "own-judge.toml": 16,
    own_recovery = "own-recover.toml": 7,
    own_found_by_the_model = "own-model.toml": 21,
    random_states = "random-state.toml": 30,
    random_notifications = "random-told.toml": 30,
    random_groups = "random-groups.toml": 30,
    random_deliveries = "random-sent.toml": 30,
    random_recovery = "random-recovery.toml": 30,
}
