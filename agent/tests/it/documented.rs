//! What the SDK's documentation shows is built as it stands there, manifest and all, by the command it
//! names, and dropped into a running agent; the examples of the four kinds are taken by the check of components.

use crate::support::{Agent, Answer, Folder, Server, command, guests, wait_for};
use std::fs;
use std::path::{Path, PathBuf};

/// The documentation of a module of the SDK.
fn docs(module: &str) -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/src");
    let text = fs::read_to_string(sources.join(format!("{module}.rs"))).unwrap();
    let docs = text.lines().filter_map(|line| line.strip_prefix("//!"));
    let docs = docs.map(|line| line.strip_prefix(' ').unwrap_or(line));
    docs.collect::<Vec<_>>().join("\n")
}

/// The code block of the SDK's crate documentation behind the line that announces it.
fn block(announced: &str) -> String {
    let docs = docs("lib");
    let mut lines = docs.lines().skip_while(|line| *line != announced).skip(1);
    let fence = lines.by_ref().find(|line| !line.is_empty());
    assert!(
        fence.is_some_and(|line| line.starts_with("```")),
        "{announced}"
    );
    let lines: Vec<&str> = lines.take_while(|line| *line != "```").collect();
    assert!(!lines.is_empty(), "{announced}");
    lines.join("\n") + "\n"
}

/// The documented plugin in a folder of its own: its text, up to the test that the documentation adds.
fn write_plugin(folder: &Path) {
    let source = block("`src/lib.rs`:");
    let (plugin, test) = source
        .split_once("// In a plugin of its own")
        .expect("the block ends with a test");
    assert!(test.contains("mock::Host"), "{test}");
    write_crate(folder, "probe-queue", plugin);
}

/// A crate with the documented manifest.
fn write_crate(folder: &Path, name: &str, plugin: &str) {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk");
    let sdk = format!("{{ path = {:?} }}", sdk.canonicalize().unwrap());
    let manifest = block("`Cargo.toml`:");
    let dependency = "watchfire-plugin-sdk = \"0.1\"";
    assert!(manifest.contains(dependency), "{manifest}");
    let manifest = manifest
        .replace(
            dependency,
            &format!("serde_json = \"1\"\nwatchfire-plugin-sdk = {sdk}"),
        )
        .replace("name = \"probe-queue\"", &format!("name = {name:?}"));
    fs::write(folder.join("Cargo.toml"), manifest + "\n[workspace]\n").unwrap();
    fs::create_dir(folder.join("src")).unwrap();
    fs::write(folder.join("src/lib.rs"), plugin).unwrap();
    // The versions that are at hand: nothing is fetched.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, folder.join("Cargo.lock")).unwrap();
}

/// By the command that the documentation names.
fn build(folder: &Path, name: &str) -> PathBuf {
    let output = guests::cargo()
        .current_dir(folder)
        .args(["build", "--quiet", "--offline", "--release"])
        .args(["--target", "wasm32-wasip2", "--target-dir"])
        .arg(guests::target_folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let built = guests::target_folder().join("wasm32-wasip2/release");
    built.join(format!("{name}.wasm"))
}

#[test]
fn the_example_of_each_kind_is_a_plugin() {
    for (kind, table, input) in [
        ("probe", r#"{"folder": "/var/backups"}"#, "value"),
        ("rule", r#"{"factor": 2}"#, "lost"),
        (
            "notifier",
            r#"{"url": "https://chat.example/hook"}"#,
            "value",
        ),
        ("action", r#"{"label": "unit"}"#, "value"),
    ] {
        let docs = docs(kind);
        let example = docs.split("```").nth(1).expect("an example");
        let (plugin, test) = example
            .split_once("// What follows would stand in the tests of the plugin.")
            .expect("the example ends with a test");
        assert!(test.contains("assert"), "{kind}: {test}");
        let folder = tempfile::tempdir().unwrap();
        write_crate(folder.path(), &format!("{kind}-documented"), plugin);
        let component = build(folder.path(), &format!("{kind}_documented"));
        let mut check = command();
        check.args(["plugin", "check", "--config", table, "--input", input]);
        let output = check.arg(component).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{kind}: {said}");
        assert!(said.contains("0 errors, 0 warnings"), "{kind}: {said}");
    }
}

#[test]
fn the_documented_plugin_is_built_as_it_stands_and_dropped_in() {
    let plugin = tempfile::tempdir().unwrap();
    write_plugin(plugin.path());
    let component = build(plugin.path(), "probe_queue");

    let source = Server::start(Answer::json(r#"{"waiting": 7, "done": 1200}"#));
    // The documented table, but for the address and the pace.
    let table = block("be dropped into the agent's plugin folder:");
    assert!(table.contains("plugin = \"probe-queue\""), "{table}");
    let table = table
        .replace("127.0.0.1:8080", &source.address().to_string())
        .replace("\"10s\"", "\"200ms\"\ntimeout = \"150ms\"");
    let folder = Folder::new(&table);
    let agent = Agent::spawn(&folder);
    wait_for("the agent answers", || agent.get("/api/v1/plugins"));
    let samples = |agent: &Agent| {
        let text = agent.text("/metrics")?;
        let has = |line: &str| text.lines().any(|other| other.starts_with(line));
        (has("queue_waiting") && has("queue_done_total")).then_some(())
    };
    assert!(samples(&agent).is_none(), "it waits for its plugin");
    fs::copy(component, folder.path("data/plugins/probe-queue.wasm")).unwrap();
    wait_for("samples of the documented plugin", || samples(&agent));
    drop(agent);
}
