//! The scenarios of the specification, run against the engine on a virtual clock.
//!
//! `cases/*.toml` follow the format of `watchfire test`, and the world around the engine is that of
//! `watchfire test` too; only the rules are native here, so that this takes no sandbox and no seconds.

mod config;
mod driver;
mod judge;
mod promtool;

use std::path::Path;
use toml::Table;
use toml::de::DeTable;
use watchfire_simulate::{Expect, compare};

/// Runs every scenario of a file; panics with all that failed. Tells how many there were.
fn run_file(name: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios/cases");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    let text = read(name);
    let parsed = DeTable::parse(&text).expect("TOML");
    let file = watchfire_simulate::read(parsed.get_ref()).expect("a file of scenarios");
    let base = file.base.as_ref();
    let base: Table = base.map_or_else(Table::new, |base| {
        read(base.get_ref()).parse().expect("TOML")
    });
    let mut failures = Vec::new();
    for test in &file.tests {
        let outcome = driver::run(&base, test);
        let nothing = Expect::default();
        let expect = test.expect.as_ref().unwrap_or(&nothing);
        let difference = compare(expect, &outcome);
        if !difference.is_empty() {
            failures.push(format!("{}: {}\n{difference}", test.id, test.title));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    file.tests.len()
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
    own_found_by_the_model = "own-model.toml": 31,
    own_found_by_the_model_later = "own-model-2.toml": 23,
    own_found_by_the_model_wider = "own-model-3.toml": 42,
    own_by_hand = "own-hands.toml": 5,
    own_found_by_readers = "own-readers.toml": 14,
    random_states = "random-state.toml": 30,
    random_notifications = "random-told.toml": 30,
    random_groups = "random-groups.toml": 30,
    random_deliveries = "random-sent.toml": 30,
    random_recovery = "random-recovery.toml": 30,
}
