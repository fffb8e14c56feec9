//! Everything that ships is whole: plugins with their papers, packs that load.

use std::fs;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(of)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all
}

#[test]
fn every_plugin_has_its_readme_and_test_data() {
    let plugins = folders(&top().join("plugins"));
    assert!(plugins.len() >= 15, "{} plugins", plugins.len());
    for plugin in plugins {
        let name = plugin.file_name().unwrap().to_str().unwrap();
        let kind = name.split('-').next().unwrap();
        assert!(
            ["probe", "rule", "notifier", "action"].contains(&kind),
            "{name}: kind first"
        );
        let readme = fs::read_to_string(plugin.join("README.md"))
            .unwrap_or_else(|e| panic!("{name}/README.md: {e}"));
        for section in ["## Configuration", "## Capabilities", "## Example"] {
            assert!(
                readme.contains(section),
                "{name}/README.md has no section {section:?}"
            );
        }
        assert!(
            readme.contains("```toml"),
            "{name}/README.md has no example"
        );
        assert!(
            !folders(&plugin.join("testdata")).is_empty(),
            "{name}/testdata has no case"
        );
        let source = fs::read_to_string(plugin.join("src/lib.rs")).unwrap();
        let export = format!("{kind}!(");
        // Only tests stand behind it.
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(
            code.trim_end().lines().last().unwrap().contains(&export),
            "{name}: the export is the last line before the tests"
        );
    }
}

#[test]
fn the_top_level_holds_what_was_asked_for() {
    let mut names: Vec<_> = folders(&top())
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !name.starts_with('.') && name != "target" && name != "data")
        .collect();
    names.sort();
    assert_eq!(names, ["agent", "config", "plugin-sdk", "plugins", "wit"]);
}
