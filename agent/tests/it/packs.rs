//! The rule packs: built in, accepted by the components that judge them, and each rule with tests of both kinds.

use crate::support::bed::Bed;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;
use watchfire::plugin::UseState;

fn packs_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rules")
}

/// The TOML files of a folder by name, without `.toml`.
fn files(folder: &Path) -> BTreeMap<String, Table> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let table = text
                .parse()
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, table)
        })
        .collect()
}

/// The tables of an array of tables.
fn tables<'t>(table: &'t Table, key: &str) -> Vec<&'t Table> {
    let array = table.get(key).and_then(|value| value.as_array());
    array
        .into_iter()
        .flatten()
        .map(|value| value.as_table().unwrap())
        .collect()
}

fn text<'t>(table: &'t Table, key: &str) -> &'t str {
    table
        .get(key)
        .and_then(|value| value.as_str())
        .unwrap_or_else(|| panic!("no {key} in {table}"))
}

/// The rules that the timeline says something about.
fn told(test: &Table) -> BTreeMap<&str, Vec<&str>> {
    let expect = test["expect"].as_table().unwrap();
    let mut told: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in expect["timeline"].as_array().unwrap() {
        let words: Vec<&str> = line.as_str().unwrap().split_whitespace().collect();
        // `T EVENT [SEVERITY] ALERT`: the alert is the last but for details, which no test here has.
        let alert = words.last().unwrap();
        let rule = alert.split('{').next().unwrap();
        told.entry(rule).or_default().push(words[1]);
    }
    told
}

#[test]
fn every_rule_has_a_test_that_fires_and_one_that_does_not() {
    let tests = files(&packs_folder().join("tests"));
    let mut rules = 0;
    for (pack, table) in files(&packs_folder()) {
        let in_pack = tests
            .get(&pack)
            .unwrap_or_else(|| panic!("no tests/{pack}.toml"));
        assert_eq!(text(in_pack, "config_file"), format!("../{pack}.toml"));
        let by_id: BTreeMap<&str, &Table> = tables(in_pack, "test")
            .into_iter()
            .map(|test| (text(test, "id"), test))
            .collect();
        let mut wanted = BTreeSet::new();
        for rule in tables(&table, "rule") {
            let id = text(rule, "id");
            rules += 1;
            let find = |kind: &str| {
                let name = format!("{id}: {kind}");
                let test = by_id.get(name.as_str());
                *test.unwrap_or_else(|| panic!("tests/{pack}.toml has no test {name:?}"))
            };
            let (fires, quiet) = (find("fires"), find("quiet"));
            let events = told(fires).remove(id).unwrap_or_default();
            assert!(events.contains(&"fire"), "{id}: fires: {events:?}");
            assert!(
                !told(quiet).contains_key(id),
                "{id}: quiet: it is told about"
            );
            // A quiet test over other series would be quiet for want of data.
            let metrics = |test: &Table| -> BTreeSet<String> {
                let samples = test["samples"].as_table().unwrap();
                samples.keys().cloned().collect()
            };
            assert_eq!(metrics(fires), metrics(quiet), "{id}");
            wanted.extend([format!("{id}: fires"), format!("{id}: quiet")]);
        }
        let found: BTreeSet<String> = by_id.keys().map(|id| (*id).to_owned()).collect();
        assert_eq!(found, wanted, "tests/{pack}.toml: tests of no rule");
    }
    assert!(rules >= 70, "only {rules} rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pack_is_built_in_and_its_tables_are_taken() {
    let packs = files(&packs_folder());
    let names: Vec<&String> = packs.keys().collect();
    let bed = Bed::new(&format!("packs = {names:?}\n")).start().await;
    let now = bed.now();
    let mut judged = 0;
    for rule in packs.values().flat_map(|pack| tables(pack, "rule")) {
        let id = text(rule, "id");
        if rule.contains_key("all") || rule.contains_key("any") {
            continue;
        }
        assert_eq!(bed.state_of(id), UseState::Running, "{id}");
        let live = now.rules.iter().find(|live| live.config.id.as_str() == id);
        let live = live.unwrap_or_else(|| panic!("{id} is not live"));
        let kind = live.config.plugin.as_deref();
        assert!(
            kind.is_some_and(|plugin| plugin.starts_with("rule-")),
            "{id}"
        );
        judged += 1;
    }
    assert_eq!(now.rules.len(), judged, "an id stands in two packs");
    bed.stop().await;
}
