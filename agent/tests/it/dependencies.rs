//! Licences, sources and features of the dependencies, from `cargo metadata`: no database from outside.

use std::collections::{BTreeMap, BTreeSet};

/// Licences that fit Apache-2.0. Each expression needs one alternative of which all parts are listed.
const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Crates that may stand twice, and why. `deny.toml` has those that are shipped.
const TWICE: [(&str, &str); 7] = [
    ("cpufeatures", "ring and sha2 are on different lines"),
    ("embedded-io", "features of postcard that nobody turns on"),
    ("getrandom", "ring stands on 0.2"),
    ("hashbrown", "wasmtime and indexmap are on different lines"),
    ("io-lifetimes", "wasmtime-wasi's own two lines"),
    (
        "itertools",
        "cranelift and criterion; the second only in benchmarks",
    ),
    ("syn", "build time only"),
];

/// Features of wasmtime that stay off: code we never run, with advisories of its own.
const OFF: [&str; 5] = ["component-model-async", "gc", "threads", "wat", "cache"];

fn metadata() -> serde_json::Value {
    #[expect(clippy::disallowed_methods, reason = "the test asks cargo")]
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Whether `(A OR B) AND C` can be met with the licences above.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    expression.split(" AND ").all(|part| {
        part.split(" OR ").any(|licence| {
            let licence = licence.trim().trim_matches(['(', ')']);
            LICENCES.contains(&licence)
        })
    })
}

#[test]
fn licences_fit_and_come_from_the_registry() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        assert!(
            allowed(&text(&package["license"])),
            "{name}: licence {}",
            package["license"]
        );
        let source = text(&package["source"]);
        assert!(
            source.is_empty() || source.starts_with("registry+"),
            "{name} comes from {source}"
        );
    }
}

#[test]
fn nothing_stands_twice_without_a_reason() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let dependencies: BTreeMap<String, Vec<String>> = nodes
        .iter()
        .map(|node| {
            let normal = node["deps"].as_array().unwrap().iter().filter(|dep| {
                let kinds = dep["dep_kinds"].as_array().unwrap();
                kinds.iter().any(|kind| kind["kind"].is_null())
            });
            (
                text(&node["id"]),
                normal.map(|dep| text(&dep["pkg"])).collect(),
            )
        })
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    let agent = packages
        .iter()
        .find(|package| package["name"] == "watchfire")
        .unwrap();
    let mut open = vec![text(&agent["id"])];
    let mut shipped = BTreeSet::new();
    while let Some(id) = open.pop() {
        if shipped.insert(id.clone()) {
            open.extend(dependencies[&id].iter().cloned());
        }
    }
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages
        .iter()
        .filter(|package| shipped.contains(&text(&package["id"])))
    {
        versions
            .entry(text(&package["name"]))
            .or_default()
            .insert(text(&package["version"]));
    }
    let known: BTreeSet<&str> = TWICE.iter().map(|(name, _)| *name).collect();
    let twice: Vec<_> = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !known.contains(name.as_str()))
        .collect();
    assert!(twice.is_empty(), "unexpected duplicates: {twice:?}");
}

#[test]
fn wasmtime_is_built_without_what_we_never_run() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let wasmtime = nodes
        .iter()
        .find(|node| {
            text(&node["id"]).contains("wasmtime@") || text(&node["id"]).contains("#wasmtime@")
        })
        .or_else(|| {
            nodes.iter().find(|node| {
                text(&node["id"]).contains("#48.0") && text(&node["id"]).contains("wasmtime#")
            })
        })
        .expect("wasmtime is a dependency");
    let features: BTreeSet<String> = wasmtime["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    for feature in OFF {
        assert!(
            !features.contains(feature),
            "wasmtime feature {feature:?} is on"
        );
    }
    assert!(
        features.contains("component-model"),
        "the look-up found the wrong node: {features:?}"
    );
}
