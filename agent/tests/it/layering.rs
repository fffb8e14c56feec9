//! Imports point one way. Read from the `use` lines, so that a wall moved by accident is seen at once.

use std::fs;
use std::path::{Path, PathBuf};

/// What each part must not name. Only `app` knows all.
const WALLS: [(&str, &[&str]); 10] = [
    (
        "engine/src",
        &[
            "tokio",
            "wasmtime",
            "rusqlite",
            "std::time::Instant",
            "std::thread",
            "std::fs",
            "std::net",
        ],
    ),
    (
        "simulate/src",
        &[
            "tokio",
            "wasmtime",
            "rusqlite",
            "std::time::Instant",
            "std::thread",
            "std::fs",
            "std::net",
        ],
    ),
    (
        "src/simulate",
        &[
            "wasmtime",
            "crate::api",
            "crate::cli",
            "crate::app",
            "rusqlite",
        ],
    ),
    (
        "src/pipeline",
        &[
            "wasmtime",
            "crate::api",
            "crate::cli",
            "crate::app",
            "rusqlite",
        ],
    ),
    (
        "src/sandbox",
        &[
            "crate::pipeline",
            "crate::plugin",
            "crate::config",
            "crate::api",
            "crate::store",
            "crate::cli",
            "crate::app",
        ],
    ),
    (
        "src/plugin",
        &[
            "wasmtime",
            "crate::pipeline",
            "crate::api",
            "crate::cli",
            "crate::app",
            "rusqlite",
        ],
    ),
    (
        "src/store",
        &[
            "wasmtime",
            "crate::pipeline",
            "crate::plugin",
            "crate::api",
            "crate::cli",
            "crate::app",
        ],
    ),
    (
        "src/config",
        &[
            "wasmtime",
            "crate::pipeline",
            "crate::plugin",
            "crate::api",
            "crate::store",
            "crate::cli",
            "crate::app",
        ],
    ),
    (
        "src/api",
        &["wasmtime", "crate::cli", "crate::app", "rusqlite"],
    ),
    (
        "src/telemetry",
        &[
            "wasmtime",
            "crate::pipeline",
            "crate::plugin",
            "crate::api",
            "crate::store",
            "crate::cli",
            "crate::app",
        ],
    ),
];

#[test]
fn no_part_names_what_lies_above_it() {
    let mut broken = Vec::new();
    for (part, forbidden) in WALLS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(part);
        let files = sources(&folder);
        assert!(
            !files.is_empty(),
            "{part} holds no source: the wall guards nothing"
        );
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // Tests may reach further.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                for name in forbidden {
                    if names(line, name) {
                        broken.push(format!("{}:{}: {line}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "walls are broken:\n{}",
        broken.join("\n")
    );
}

/// Whether the line names the path: as a whole word, followed by `::` or the end of the name.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let inside =
            |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        !inside(before)
            && !inside(after)
            && (line.contains("use ") || line[at + path.len()..].starts_with("::"))
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            all.push(path);
        }
    }
    all
}
