//! `watchfire test` and `watchfire simulate`: the binary, its rule components, whole files.

use crate::support::{Folder, command};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The scenarios of the specification, and our own.
fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/it/scenarios/cases")
}

/// Runs `watchfire` with these words.
fn watchfire(words: &[&str]) -> Output {
    command().args(words).output().expect("watchfire runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each line of the output as JSON.
fn lines(output: &Output) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).expect("a JSON object a line");
    text(&output.stdout).lines().map(parse).collect()
}

/// A rule, a route to `default` without waits, and what follows.
fn file(rest: &str) -> String {
    format!(
        r#"
[[test]]
id = "T1"
title = "cpu"
end = "60s"

[[test.config.rule]]
id = "cpu"
metric = "cpu"
keep = "0s"
config = {{ above = {{ warning = 80 }} }}

[[test.config.route]]
notify = ["default"]
group_by = []
group_wait = "0s"

{rest}"#
    )
}

#[test]
fn every_scenario_of_the_specification_passes_with_real_rules() {
    let folder = scenarios();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let files: Vec<String> = "ABCDEFGHP"
        .chars()
        .map(|c| path(&format!("{c}.toml")))
        .collect();
    let mut words = vec!["test", "--json"];
    words.extend(files.iter().map(String::as_str));
    let output = watchfire(&words);
    let tests = lines(&output);
    let failed: Vec<&Value> = tests.iter().filter(|test| test["passed"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{}", text(&output.stderr));
    assert_eq!(tests.len(), 44);
    assert_eq!(code(&output), 0);

    // Ours too, found by their folder.
    let output = watchfire(&["test", &folder.to_string_lossy()]);
    assert_eq!(code(&output), 0, "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).contains("all passed"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_failing_test_shows_both_sides_and_exits_1() {
    let folder = Folder::empty();
    folder.write(
        "t.toml",
        &file(
            "[test.samples]\ncpu = \"50@0 90@10\"\n\n[test.expect]\ntimeline = [\"10s fire warning cpu\", \"30s resolve cpu\"]\nstates = [\"20s firing:warning\"]\n",
        ),
    );
    let path = folder.path("t.toml");
    let path = path.to_string_lossy();
    let output = watchfire(&["test", &path]);
    assert_eq!(code(&output), 1);
    let shown = text(&output.stdout);
    for line in [
        "FAILED T1: cpu",
        "    10s fire warning cpu     | 10s fire warning cpu\n",
        "  ! -                        | state 10s firing:warning\n",
        "  ! state 20s firing:warning | -\n",
        "  ! 30s resolve cpu          | -\n",
        "1 test, 1 failed",
    ] {
        assert!(shown.contains(line), "{line:?} in\n{shown}");
    }

    let output = watchfire(&["test", "--json", &path]);
    assert_eq!(code(&output), 1);
    let expected = serde_json::json!([{
        "id": "T1",
        "passed": false,
        "missing": ["30s resolve cpu", "state 20s firing:warning"],
        "unexpected": ["state 10s firing:warning"],
    }]);
    assert_eq!(Value::from(lines(&output)), expected);
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_to_write() {
    let folder = Folder::empty();
    folder.write("broken.toml", "[[test]]\nid = \"B\"\nend = 60\n");
    folder.write(
        "unknown.toml",
        &file("").replace("metric = \"cpu\"", "metrc = \"cpu\""),
    );
    folder.write(
        "refused.toml",
        &file("").replace("warning = 80", "warnin = 80"),
    );
    folder.write("syntax.toml", "[[test]]\nid = \n");
    folder.write("nothing.toml", &file("[test.samples]\ncpu = \"1@0\"\n"));
    for (name, place, words) in [
        ("broken.toml", "broken.toml:3:7", "end = \"…\""),
        ("unknown.toml", "unknown.toml:9:1", "did you mean `metric`?"),
        ("refused.toml", "refused.toml:8:6", "warnin"),
        ("syntax.toml", "syntax.toml:2:", ""),
        ("nothing.toml", "nothing.toml:3:6", "timeline = [ … ]"),
        ("absent.toml", "absent.toml", "cannot read"),
    ] {
        let path = folder.path(name);
        let output = watchfire(&["test", &path.to_string_lossy()]);
        let shown = text(&output.stdout);
        assert_eq!(code(&output), 78, "{name}: {shown}");
        assert!(shown.contains(place), "{place} in\n{shown}");
        assert!(shown.contains(words), "{words} in\n{shown}");
    }
    // Others of the folder are run all the same.
    folder.write("good.toml", &file("[test.expect]\ntimeline = []\n"));
    let root = folder.path("");
    let output = watchfire(&["test", "--json", &root.to_string_lossy()]);
    assert_eq!(code(&output), 78);
    assert!(lines(&output).iter().any(|test| test["passed"] == true));

    assert_eq!(code(&watchfire(&["test"])), 2);
    assert_eq!(code(&watchfire(&["test", "--jobs", "0", "x"])), 2);
}

#[test]
fn configuration_comes_from_a_base_a_file_and_the_test_itself() {
    let folder = Folder::empty();
    folder.write(
        "watchfire.toml",
        "[[rule]]\nid = \"cpu\"\nmetric = \"cpu\"\nkeep = \"0s\"\nconfig = { above = { warning = 80 } }\n\n[[notifier]]\nid = \"ops\"\nplugin = \"notifier-slack\"\nconfig = { url = \"x\" }\n\n[[route]]\nnotify = [\"ops\"]\ngroup_by = []\ngroup_wait = \"30s\"\n",
    );
    std::fs::create_dir(folder.path("tests")).unwrap();
    folder.write("tests/base.toml", "[defaults]\nevery = \"5s\"\n\n[[rule]]\nid = \"hidden\"\nmetric = \"m\"\nconfig = { above = { warning = 1 } }\n");
    folder.write(
        "tests/t.toml",
        "base = \"base.toml\"\nconfig_file = \"../watchfire.toml\"\n\n[[test]]\nid = \"T1\"\nend = \"60s\"\n\n[test.config.alerting]\ngone_after = 2\n\n[test.samples]\ncpu = \"50@0 90@5\"\n\n[test.expect]\ntimeline = [\"35s fire warning cpu (since 5s) -> ops\"]\n",
    );
    let output = watchfire(&["test", &folder.path("tests").to_string_lossy()]);
    assert_eq!(code(&output), 0, "{}", text(&output.stdout));
}

#[test]
fn simulate_prints_what_happens_as_lines_of_json() {
    let path = scenarios().join("E.toml");
    let path = path.to_string_lossy();
    let output = watchfire(&["simulate", &path, "--json", "--states", "--filter", "E02"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let expected = serde_json::json!([
        {"t": 0, "event": "state", "alert": "cpu", "state": "ok"},
        {"t": 10, "event": "state", "alert": "cpu", "state": "firing:warning"},
        {"t": 10, "event": "fire", "severity": "warning", "alert": "cpu", "notifier": "default", "status": 429, "notification": 1},
        {"t": 40, "event": "fire", "severity": "warning", "alert": "cpu", "notifier": "default", "status": 200, "notification": 1},
    ]);
    assert_eq!(Value::from(lines(&output)), expected);

    let all = lines(&watchfire(&["simulate", &path, "--json"]));
    assert!(all.iter().all(|line| line["test"].is_string()), "{all:#?}");
    let people = text(&watchfire(&["simulate", &path, "--filter", "^E01$"]).stdout);
    assert_eq!(
        people.lines().next(),
        Some("10s fire warning cpu [#1 500]"),
        "{people}"
    );
}

/// Two rules' worth of a morning: quiet, then a breach of five minutes with a gap of an hour behind it.
fn recorded() -> String {
    let mut text = "timestamp,series,value\n".to_owned();
    let begin = 1_700_000_000;
    for step in (0..60).chain(420..480) {
        let value = if (20..50).contains(&step) { 95 } else { 40 };
        for disk in ["a", "b"] {
            let value = if disk == "b" { 40 } else { value };
            text.push_str(&format!("{},{{d=\"{disk}\"}},{value}\n", begin + step * 10));
        }
    }
    text
}

fn candidate(limit: u32) -> String {
    format!(
        "[[rule]]\nid = \"disk\"\nmetric = \"disk\"\nkeep = \"0s\"\nconfig = {{ above = {{ warning = {limit} }} }}\n\n[[notifier]]\nid = \"ops\"\nplugin = \"notifier-log\"\n\n[[route]]\nnotify = [\"ops\"]\ngroup_by = []\ngroup_wait = \"0s\"\n\n[[recovery]]\nid = \"clean\"\nplugin = \"action-command\"\nrules = [\"disk\"]\nseverity = \"warning\"\n"
    )
}

#[test]
fn a_replay_lists_what_would_have_fired_been_sent_and_been_done() {
    let folder = Folder::empty();
    folder.write("disk.csv", &recorded());
    folder.write("low.toml", &candidate(80));
    folder.write("high.toml", &candidate(99));
    let path = |name: &str| folder.path(name).to_string_lossy().into_owned();
    let (low, high, csv) = (path("low.toml"), path("high.toml"), path("disk.csv"));

    let output = watchfire(&["replay", "--config", &low, "--csv", &csv, "--json"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let events = |list: &str| -> Vec<String> {
        let entries = all[list].as_array().unwrap().iter();
        let shown = entries.map(|entry| {
            let of = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", of("time"), of("event"), of("alert"))
        });
        shown.collect()
    };
    assert_eq!(
        events("fired"),
        ["2023-11-14T22:16:40Z state disk{d=\"a\"}"]
    );
    assert_eq!(
        events("sent"),
        [
            "2023-11-14T22:16:40Z fire disk{d=\"a\"}",
            "2023-11-14T22:21:40Z resolve disk{d=\"a\"}",
        ]
    );
    assert_eq!(
        events("done"),
        ["2023-11-14T22:16:40Z action_would_start disk{d=\"a\"}"],
        "the default is to observe"
    );
    assert_eq!(all["rounds"], 120, "the hour without samples is no round");

    let output = watchfire(&[
        "replay",
        "--config",
        &high,
        "--against",
        &low,
        "--csv",
        &csv,
    ]);
    let shown = text(&output.stdout);
    for line in [
        "- 2023-11-14T22:16:40Z fire warning disk{d=\"a\"} -> ops\n",
        "messages sent          2       0\n",
        "  warning              1       0\n",
        "actions                1       0\n",
    ] {
        assert!(shown.contains(line), "{line:?} in\n{shown}");
    }
    assert!(!shown.contains("\n+ "), "{shown}");

    let output = watchfire(&[
        "replay",
        "--config",
        &low,
        "--csv",
        &csv,
        "--from",
        "2024-01-01T00:00:00Z",
    ]);
    assert_eq!(code(&output), 1);
    let absent = watchfire(&["replay", "--config", &path("absent.toml"), "--csv", &csv]);
    assert_eq!(code(&absent), 78);
}

#[test]
fn what_a_test_can_hardly_mean_is_said_and_changes_nothing() {
    let folder = Folder::empty();
    let doubtful = r#"
[test.samples]
cpu = "50@0 90@10"
cpuu = "50@0"
[test.answers]
nobody = ["500"]
[test.actions]
nothing = { takes = "5s" }
[[test.at]]
at = "5s"
ack = "cpux"
[[test.at]]
at = "5s"
silence = { rule = "cpu", from = "20s", to = "20s" }
[[test.at]]
at = "25s"
crash_until = "20s"
[[test.at]]
at = "25s"
rule_traps = "cpu"
until = "15s"
[[test.at]]
at = "61s"
ack = "cpu"
[test.expect]
timeline = ["10s fire warning cpu"]
"#;
    folder.write("t.toml", &file(doubtful));
    let path = folder.path("t.toml");
    let path = path.to_string_lossy();
    let told = watchfire(&["test", &path]);
    let told_text = text(&told.stdout);
    for wanted in [
        "no rule reads cpuu",
        "\"nobody\" answers, and no route names it",
        "no recovery is called \"nothing\"",
        "no rule is called \"cpux\"",
        "this silence ends before it begins",
        "this ends at 20s, before it begins at 25s",
        "this ends at 15s, before it begins at 25s",
        "nothing happens at 1m1s: the test is over by then",
    ] {
        assert!(
            told_text.contains(&format!("warning: {wanted}")),
            "{wanted}: {told_text}"
        );
    }
    assert_eq!(code(&told), 0, "{told_text}");
    let json = watchfire(&["test", "--json", &path]);
    assert_eq!(lines(&json).len(), 1, "programs read stdout");
    assert!(text(&json.stderr).contains("warning: no rule is called"));
}
