//! `watchfire check` asks the components too, and names plugins that are not there.

use crate::support::{Folder, command};
use std::path::Path;

/// What `check` says of a file, and its exit code.
fn check(folder: &Folder, args: &[&str]) -> (String, Option<i32>) {
    let mut command = command();
    command.arg("check").args(args).current_dir(folder.path(""));
    command.env_clear().env("PATH", "/usr/bin:/bin");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        said + &String::from_utf8_lossy(&output.stderr),
        output.status.code(),
    )
}

/// The line of the only part of `text` that begins a line so.
fn line_of(folder: &Folder, beginning: &str) -> usize {
    let text = std::fs::read_to_string(folder.path("watchfire.toml")).unwrap();
    let mut lines = text.lines().enumerate();
    let (number, _) = lines.find(|(_, line)| *line == beginning).unwrap();
    number + 1
}

#[test]
fn a_table_that_its_component_refuses_is_a_mistake_with_its_place() {
    let folder = Folder::new(
        r#"
[[probe]]
id = "queue"
plugin = "probe-json"
config = { url = "http://127.0.0.1:1/", samples = [{ metric = "queue_size", pointer = "/q" }], tiemout = 3 }

[[rule]]
id = "long"
metric = "queue_size"
config = { abov = { warning = 1 } }

[[rule]]
id = "fine"
metric = "queue_size"
config = { above = { warning = 1 } }
"#,
    );
    let (said, code) = check(&folder, &[]);
    assert_eq!(code, Some(1), "{said}");
    for (id, reason) in [("long", "abov"), ("queue", "tiemout")] {
        let place = format!(
            "watchfire.toml:{}:",
            line_of(&folder, &format!("id = {id:?}"))
        );
        let from = said.find(&format!("{id:?} would not run: ")).expect(&said);
        let told = &said[from..];
        assert!(told.lines().next().unwrap().contains(reason), "{said}");
        assert!(told.lines().nth(1).unwrap().contains(&place), "{said}");
    }
    assert!(!said.contains("\"fine\""), "{said}");
    assert!(said.contains("2 errors, 0 warnings"), "{said}");

    // The same file without its components holds, and it is said what was left out.
    let (said, code) = check(&folder, &["--no-plugins"]);
    assert_eq!(code, Some(0), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("the components were not asked"), "{said}");
}

#[test]
fn a_plugin_that_is_not_there_is_a_warning_at_its_name() {
    let folder = Folder::new(
        r#"
[[probe]]
id = "queue"
plugin = "probe-jsonn"
grant = { http = ["http://127.0.0.1:1"] }
config = { url = "http://127.0.0.1:1/" }

[[notifier]]
id = "ops"
plugin = "something-of-mine"
"#,
    );
    for args in [&[][..], &["--no-plugins"]] {
        let (said, code) = check(&folder, args);
        assert_eq!(code, Some(0), "{said}");
        let line = line_of(&folder, "plugin = \"probe-jsonn\"");
        assert!(
            said.contains(&format!("watchfire.toml:{line}:10")),
            "{said}"
        );
        assert!(said.contains("did you mean \"probe-json\"?"), "{said}");
        assert!(
            said.contains("notifier \"ops\" would wait for it"),
            "{said}"
        );
        assert!(said.contains("something-of-mine.wasm into "), "{said}");
        assert!(said.contains("0 errors, 2 warnings"), "{said}");
    }
    assert_eq!(check(&folder, &["--strict"]).1, Some(1));
    std::fs::write(folder.path("data/plugins/something-of-mine.wasm"), b"").unwrap();
    let (said, _) = check(&folder, &["--no-plugins"]);
    assert!(said.contains("0 errors, 1 warning\n"), "{said}");
}

#[test]
fn shipped_configurations_are_taken_by_their_components() {
    let folder = Folder::new("");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for name in ["watchfire.toml", "minimal.toml", "builtin.toml"] {
        let file = shipped.join(name);
        let (said, code) = check(&folder, &[file.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{name}: {said}");
        assert!(!said.contains("were not asked"), "{name}: {said}");
    }
}
