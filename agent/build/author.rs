//! Packs what `watchfire plugin new` writes: the SDK, the contract and the templates.
//!
//! The SDK is on no registry, so the binary brings it. Its manifest takes versions from the workspace, which
//! a stranger does not have: they are written out here.

use std::fs;
use std::path::Path;

/// Folders and files of the repository, and under which name they stand in the pack.
const CONTENTS: [(&str, &str); 3] = [
    ("plugin-sdk/src", "sdk/src"),
    ("plugin-sdk/templates", "templates"),
    ("wit", "wit"),
];

/// All files as `PATH\nBYTES\n` and their content, one after the other, sorted by path.
pub(super) fn pack(root: &Path) -> Result<Vec<u8>, String> {
    let mut files = vec![("sdk/Cargo.toml".to_owned(), manifest(root)?.into_bytes())];
    for (from, to) in CONTENTS {
        collect(&root.join(from), to, &mut files)?;
    }
    files.sort();
    let mut packed = Vec::new();
    for (path, content) in files {
        packed.extend_from_slice(format!("{path}\n{}\n", content.len()).as_bytes());
        packed.extend_from_slice(&content);
    }
    Ok(packed)
}

fn collect(folder: &Path, name: &str, files: &mut Vec<(String, Vec<u8>)>) -> Result<(), String> {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}/{file}");
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else {
            let mut content =
                fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            if name.starts_with("sdk/") {
                without_tests(&mut content);
            }
            files.push((name, content));
        }
    }
    Ok(())
}

/// Cuts a source file where its tests begin, which are its end: they are run here, and are a tenth of the pack.
fn without_tests(source: &mut Vec<u8>) {
    const TESTS: &[u8] = b"\n#[cfg(test)]\nmod tests {";
    if let Some(at) = source.windows(TESTS.len()).position(|part| part == TESTS) {
        source.truncate(at + 1);
    }
}

/// The SDK's manifest with the workspace's values in it, and without its lints and what only its tests need.
fn manifest(root: &Path) -> Result<String, String> {
    let read = |path: &str| {
        fs::read_to_string(root.join(path)).map_err(|e| format!("cannot read {path}: {e}"))
    };
    let (sdk, workspace) = (read("plugin-sdk/Cargo.toml")?, read("Cargo.toml")?);
    let mut out = String::new();
    let mut section = "";
    for line in sdk.lines() {
        if line.starts_with('[') {
            section = line;
        }
        if matches!(section, "[lints]" | "[dev-dependencies]") {
            continue;
        }
        let inherited = line.strip_suffix(".workspace = true");
        match inherited {
            Some(key) => {
                let of = if section == "[package]" {
                    "[workspace.package]"
                } else {
                    "[workspace.dependencies]"
                };
                let value = inherited_from(&workspace, of, key)
                    .ok_or_else(|| format!("Cargo.toml has no {key} in {of}"))?;
                out.push_str(value);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    Ok(out)
}

/// The line of `key` in a section of the workspace's manifest, which has one line a key.
fn inherited_from<'a>(workspace: &'a str, section: &str, key: &str) -> Option<&'a str> {
    workspace
        .lines()
        .skip_while(|line| *line != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .find(|line| line.split(" = ").next() == Some(key))
}
