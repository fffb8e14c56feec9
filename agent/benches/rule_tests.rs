//! What rule tests and replays cost, on the real binary.
//!
//! ```text
//! cargo bench -p watchfire --bench rule_tests -- tests replay
//! ```
//!
//! `tests`: 1,000 tests of 20 virtual minutes, a round every 10 s, all different, real rule components.
//! `replay`: a month of 100 series every 10 s from CSV (600 MB in the folder for temporary files, removed
//! at the end), through a threshold on the value itself and one on its mean over 5 minutes; each series
//! breaks out for ten minutes once a day.
//!
//! Machines are shared: quote medians of several runs, with the processors' load.

#[path = "../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the benchmark uses a part of what the tests share"
)]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::time::Duration;
use support::{Folder, command, now};

/// Tests of the first figure.
const TESTS: usize = 1_000;

/// The second: a month of 100 series every 10 s.
const SERIES: usize = 100;
const SAMPLES: u64 = 30 * 86_400 / 10;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let mut which = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--binary" => support::use_binary(arguments.next().expect("a path").into()),
            _ => which.push(argument),
        }
    }
    if which.is_empty() {
        which = ["tests", "replay"].map(str::to_owned).to_vec();
    }
    for figure in which {
        match figure.as_str() {
            "tests" => tests(),
            "replay" => replay(),
            other => println!("there is no figure {other:?}: tests, replay"),
        }
    }
}

/// Numbers that look random and are always the same (splitmix64).
fn roll(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

/// Runs the binary and tells how long it took; shows what it said last.
fn timed(words: &[&str]) -> Duration {
    let begin = now();
    let output = command().args(words).output().expect("watchfire runs");
    let took = begin.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("  {}", said.lines().last().unwrap_or_default());
    took
}

fn tests() {
    let folder = Folder::empty();
    let mut seed = 1;
    let mut text = String::new();
    for test in 0..TESTS {
        let (begins, ends) = (
            300 + roll(&mut seed, 30) * 10,
            900 + roll(&mut seed, 20) * 10,
        );
        let _ = write!(
            text,
            "[[test]]\nid = \"T{test}\"\nend = \"20m\"\n[[test.config.rule]]\nid = \"cpu\"\nmetric = \"cpu\"\nkeep = \"0s\"\nconfig = {{ above = {{ warning = {}, critical = 99 }} }}\n[[test.config.route]]\nnotify = [\"default\"]\ngroup_by = []\ngroup_wait = \"0s\"\n",
            70 + roll(&mut seed, 10),
        );
        let mut samples = String::new();
        for round in 0..120 {
            let breaches = (begins..ends).contains(&(round * 10));
            let value = roll(&mut seed, 15) + if breaches { 80 } else { 50 };
            let _ = write!(samples, "{value}@{} ", round * 10);
        }
        let _ = write!(
            text,
            "[test.samples]\ncpu = \"{samples}\"\n[test.expect]\ntimeline = [\"{begins}s fire warning cpu\", \"{ends}s resolve cpu\"]\n\n"
        );
    }
    folder.write("tests.toml", &text);
    let took = timed(&["test", &folder.path("tests.toml").to_string_lossy()]);
    println!("tests: {TESTS} of 20 virtual minutes in {took:.2?}");
}

fn replay() {
    let folder = Folder::empty();
    folder.write(
        "watchfire.toml",
        "[[rule]]\nid = \"now\"\nmetric = \"load\"\nfor = \"1m\"\nconfig = { above = { warning = 97, critical = 99 } }\n\n[[rule]]\nid = \"mean\"\nmetric = \"load\"\nover = \"5m\"\nconfig = { above = { warning = 75 } }\n\n[[route]]\nnotify = [\"log\"]\n",
    );
    let file = fs::File::create(folder.path("load.csv")).expect("a file");
    let mut out = BufWriter::new(file);
    let mut seed = 1;
    // A day that swells and ebbs, with noise; once a day each series breaks out for ten minutes.
    let day = 86_400 / 10;
    let mut bursts = [0; SERIES];
    for sample in 0..SAMPLES {
        let of_day = sample % day;
        if of_day == 0 {
            bursts.fill_with(|| roll(&mut seed, day - 60));
        }
        let tide = of_day.min(day - of_day) * 20 / (day / 2);
        for (series, burst) in bursts.iter().enumerate() {
            let bursts = (*burst..burst + 60).contains(&of_day);
            let level = if bursts { 90 } else { 30 + tide };
            let at = 1_700_006_400 + sample * 10;
            let value = level + roll(&mut seed, 11);
            writeln!(out, "{at},{{n=\"{series}\"}},{value}").expect("written");
        }
    }
    out.flush().expect("written");
    drop(out);
    let config = folder.path("watchfire.toml");
    let csv = folder.path("load.csv");
    let bytes = fs::metadata(&csv).expect("there").len();
    let took = timed(&[
        "replay",
        "--config",
        &config.to_string_lossy(),
        "--csv",
        &csv.to_string_lossy(),
    ]);
    println!(
        "replay: {SERIES} series, {SAMPLES} samples each ({} MB of CSV), 2 rules, in {took:.2?}",
        bytes / 1_000_000
    );
}
