//! Against the original: random series under equal rules, judged by us and by `promtool test rules`
//! (alerting.md 1.8.4), must give the same alert states at every evaluation.
//!
//! The common subset: one severity, a threshold, `for` and `keep` (`keep_firing_for` since Prometheus
//! 2.42), a value at every evaluation. Left out is where we differ on purpose (alerting.md 1.9): series
//! that vanish, NaN, restarts.

use super::driver;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use toml::Table;
use toml::de::DeTable;

/// Rules of one run, each with its own series.
const RULES: usize = 60;

/// Evaluations, ten seconds apart.
const EVALUATIONS: u64 = 60;

const EVERY_SECS: u64 = 10;

/// One rule and its series.
struct Case {
    /// `m > limit`, or `m < limit`.
    above: bool,
    wait_secs: u64,
    keep_secs: u64,
    /// Values of each instance.
    series: Vec<Vec<i64>>,
}

/// Between 0 and `below`, exclusive (splitmix64).
fn roll(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

fn case(seed: &mut u64) -> Case {
    // Not only multiples of the interval: `for` ends at the first evaluation behind it.
    let spans = [0, 0, 5, 10, 15, 20, 30, 45, 60, 100];
    let wait_secs = spans[roll(seed, 10) as usize];
    let keep_secs = spans[roll(seed, 10) as usize];
    let series = (0..1 + roll(seed, 3)).map(|_| {
        let mut value = 50;
        let calm = 2 + roll(seed, 8);
        let values = (0..EVALUATIONS).map(|_| {
            if roll(seed, calm) == 0 {
                // The limit itself among them: equality is no violation.
                value = [20, 50, 79, 80, 81, 120][roll(seed, 6) as usize];
            }
            value
        });
        values.collect()
    });
    Case {
        series: series.collect(),
        above: roll(seed, 2) == 0,
        wait_secs,
        keep_secs,
    }
}

/// What we say at each evaluation: `pending` or `firing`, by instance.
fn ours(case: &Case) -> Vec<BTreeMap<usize, &'static str>> {
    let side = if case.above { "above" } else { "below" };
    let mut text = format!(
        "[[test]]\nid = \"P\"\nend = \"{}s\"\n[[test.config.rule]]\nid = \"a\"\nmetric = \"m\"\nfor = \"{}s\"\nkeep = \"{}s\"\nconfig = {{ {side} = {{ warning = 80 }} }}\n[test.samples]\n",
        (EVALUATIONS - 1) * EVERY_SECS,
        case.wait_secs,
        case.keep_secs
    );
    for (at, values) in case.series.iter().enumerate() {
        let samples = (0..).step_by(EVERY_SECS as usize).zip(values);
        let samples: Vec<String> = samples.map(|(t, v)| format!("{v}@{t}")).collect();
        let _ = writeln!(text, "'m{{i=\"{at}\"}}' = \"{}\"", samples.join(" "));
    }
    let parsed = DeTable::parse(&text).expect("TOML");
    let file = watchfire_simulate::read(parsed.get_ref()).expect("a scenario");
    let base: Table = BASE.parse().expect("a base");
    let changes = driver::run(&base, &file.tests[0]).states;
    let mut states = Vec::new();
    let mut now: BTreeMap<usize, &'static str> = BTreeMap::new();
    for evaluation in 0..EVALUATIONS {
        let at_secs = evaluation * EVERY_SECS;
        for change in changes.iter().filter(|change| change.t == at_secs) {
            let alert = change.alert.as_deref().expect("an alert");
            let state = change.state.as_deref().expect("a state");
            if alert == "a" {
                assert_eq!(state, "ok", "the state before anything happened");
                continue;
            }
            let instance = alert.trim_start_matches("a{i=\"").trim_end_matches("\"}");
            let instance = instance.parse().expect("an instance");
            match state.split(':').next() {
                Some("ok") => now.remove(&instance),
                Some("pending") => now.insert(instance, "pending"),
                // For Prometheus what is kept firing fires.
                Some("firing" | "recovering") => now.insert(instance, "firing"),
                other => panic!("a state {other:?}"),
            };
        }
        states.push(now.clone());
    }
    states
}

const BASE: &str = r#"
[defaults]
every = "10s"
[alerting]
stale_after      = "25s"
gone_after       = 3
outage_tolerance = "1h"
keep             = "0s"
meta_keep        = "0s"
flapping         = false
[[route]]
notify         = ["default"]
group_by       = []
group_wait     = "0s"
group_interval = "0s"
repeat         = { warning = "0s", critical = "0s" }
"#;

/// The rules and our answers as promtool reads them.
fn files(cases: &[Case]) -> (String, String) {
    let mut rules = "groups:\n- name: g\n  rules:\n".to_owned();
    let mut tests = format!(
        "rule_files: [rules.yml]\nevaluation_interval: {EVERY_SECS}s\ntests:\n- interval: {EVERY_SECS}s\n  input_series:\n"
    );
    let mut expected = String::new();
    for (number, case) in cases.iter().enumerate() {
        let sign = if case.above { '>' } else { '<' };
        let (wait, keep) = (case.wait_secs, case.keep_secs);
        let _ = writeln!(
            rules,
            "  - {{alert: a{number}, expr: m{number} {sign} 80, for: {wait}s, keep_firing_for: {keep}s}}"
        );
        for (at, values) in case.series.iter().enumerate() {
            let values: Vec<String> = values.iter().map(i64::to_string).collect();
            let _ = writeln!(
                tests,
                "  - {{series: 'm{number}{{i=\"{at}\"}}', values: '{}'}}",
                values.join(" ")
            );
        }
        for (evaluation, states) in ours(case).iter().enumerate() {
            let samples: Vec<String> = states
                .iter()
                .map(|(at, state)| {
                    format!(
                        "{{labels: 'ALERTS{{alertname=\"a{number}\", alertstate=\"{state}\", i=\"{at}\"}}', value: 1}}"
                    )
                })
                .collect();
            let _ = writeln!(
                expected,
                "  - {{expr: 'ALERTS{{alertname=\"a{number}\"}}', eval_time: {}s, exp_samples: [{}]}}",
                evaluation as u64 * EVERY_SECS,
                samples.join(", ")
            );
        }
    }
    (rules, format!("{tests}  promql_expr_test:\n{expected}"))
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test starts the program it compares with"
)]
fn prometheus_sees_the_same_states() {
    let found = Command::new("promtool").arg("--version").output();
    let Ok(version) = found else {
        println!("SKIPPED: promtool is not installed (Debian: prometheus)");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    // `keep_firing_for` came with 2.42.
    let minor = version
        .split("version 2.")
        .nth(1)
        .and_then(|rest| rest.split('.').next());
    if minor
        .and_then(|minor| minor.parse::<u32>().ok())
        .is_some_and(|minor| minor < 42)
    {
        println!("SKIPPED: {version}is older than keep_firing_for");
        return;
    }
    let folder = std::env::temp_dir().join(format!("watchfire-promtool-{}", std::process::id()));
    for first in 1..=3_u64 {
        let mut seed = first;
        let cases: Vec<Case> = (0..RULES).map(|_| case(&mut seed)).collect();
        let (rules, tests) = files(&cases);
        let (pending, firing) = (
            tests.matches("\"pending\"").count(),
            tests.matches("\"firing\"").count(),
        );
        assert!(
            pending > 100 && firing > 100,
            "{pending} pending, {firing} firing"
        );
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("rules.yml"), rules).expect("rules");
        std::fs::write(folder.join("tests.yml"), tests).expect("tests");
        let output = Command::new("promtool")
            .args(["test", "rules", "tests.yml"])
            .current_dir(&folder)
            .output()
            .expect("promtool runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.chars().take(3_000).collect();
        assert!(
            output.status.success(),
            "seed {first}, in {}:\n{said}",
            folder.display()
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
