//! `watchfire plugin new`: the folder of a plugin that builds, passes its tests and runs as it stands.
//!
//! The SDK is on no registry, so this binary brings it: packed by the build, written beside the plugin that uses
//! it, together with the contract (`wit/`).

use super::project::{KindName, Language};
use crate::cli::Global;
use crate::cli::screen::Screen;
use crate::error::Failure;
use crate::plugin::archive::AUTHOR;
use crate::plugin::folder::is_plugin_name;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of `plugin new`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The new folder; its last part is the plugin's name, such as probe-queue
    path: PathBuf,
    /// What it is to be; not needed where the name begins with it
    #[arg(long)]
    kind: Option<KindName>,
    /// What it is to be written in
    #[arg(long, default_value = "rust")]
    lang: Language,
    /// Use the SDK of this folder, instead of writing one beside the plugin (Rust)
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

pub(super) fn new(args: &Args, global: &Global) -> Result<(), Failure> {
    let name = args.path.file_name().unwrap_or_default().to_string_lossy();
    // Cargo wants a letter first; the agent wants the rest.
    if !is_plugin_name(&name) || !name.starts_with(|letter: char| letter.is_ascii_lowercase()) {
        return Err(Failure::failed(format!(
            "{name:?} is no name of a plugin: write lower-case letters, digits and '-', a letter first, like probe-queue"
        )));
    }
    let kind = match args.kind {
        Some(kind) => kind,
        None => kind_of(&name).ok_or_else(|| {
            Failure::failed(format!("what is {name} to be? write --kind probe, rule, notifier or action, or a name like probe-{name}"))
        })?,
    };
    let sdk = match &args.sdk {
        Some(_) if args.lang != Language::Rust => {
            return Err(Failure::failed(
                "--sdk is for --lang rust: other languages build on wit/ alone",
            ));
        }
        Some(path) => Some(sdk_folder(path)?),
        None => None,
    };
    let taken = std::fs::read_dir(&args.path).is_ok_and(|mut entries| entries.next().is_some());
    if taken || args.path.is_file() {
        return Err(Failure::failed(format!(
            "{} is there already: write another name, or remove it",
            args.path.display()
        )));
    }
    let files = files(&name, kind, args.lang, sdk.as_deref())?;
    for (file, content) in &files {
        let path = args.path.join(file);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, content)?;
    }
    let screen = Screen::of_stdout(global.json);
    if global.json {
        let written: Vec<&String> = files.keys().collect();
        return screen.print_json(&json!({ "folder": args.path, "files": written }));
    }
    let folder = args.path.display();
    let source = source(args.lang);
    screen.print(&format!(
        "wrote {folder}, {} that works as it stands\n\nchange it:   {folder}/{source}\ntest it:     watchfire plugin test {folder}\nall steps:   {folder}/README.md\n",
        kind.with_article()
    ))
}

/// The kind that a name begins with.
fn kind_of(name: &str) -> Option<KindName> {
    use KindName::{Action, Notifier, Probe, Rule};
    let (first, _) = name.split_once('-')?;
    [Probe, Rule, Notifier, Action]
        .into_iter()
        .find(|kind| kind.kind().name() == first)
}

/// The file that an author changes.
fn source(language: Language) -> &'static str {
    match language {
        Language::Rust => "src/lib.rs",
        Language::Python => "app.py",
        Language::Javascript => "plugin.js",
        Language::C => "plugin.c",
    }
}

/// An SDK that is there already, as a path for a manifest.
fn sdk_folder(path: &Path) -> Result<String, Failure> {
    let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
    if !manifest.contains("name = \"watchfire-plugin-sdk\"") {
        return Err(Failure::failed(format!(
            "{} is not the SDK: name the folder with the Cargo.toml of watchfire-plugin-sdk",
            path.display()
        )));
    }
    Ok(path.canonicalize()?.to_string_lossy().into_owned())
}

/// All files of the new folder by path.
fn files(
    name: &str,
    kind: KindName,
    language: Language,
    sdk: Option<&str>,
) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let pack = pack()?;
    let (kind, language) = (kind.kind().name(), language.name());
    let text = |path: String| {
        pack.iter()
            .find(|(name, _)| *name == path)
            .map(|(_, content)| String::from_utf8_lossy(content).trim_end().to_owned())
            .unwrap_or_default()
    };
    let values = [
        ("@USE@", text(format!("templates/use/{kind}.toml"))),
        ("@RUN@", text(format!("templates/use/{kind}.args"))),
        ("@SDK@", sdk.unwrap_or("sdk").to_owned()),
        ("@SUMMARY@", format!("What this {kind} does, in one line")),
        ("@KIND@", kind.to_owned()),
        ("@NAME@", name.to_owned()),
    ];
    let common = format!("templates/{language}/common/");
    let own = format!("templates/{language}/{kind}/");
    let cases = format!("templates/cases/{kind}/");
    let mut files = BTreeMap::new();
    for (path, content) in &pack {
        let template = path
            .strip_prefix(&common)
            .or_else(|| path.strip_prefix(&own))
            .map(str::to_owned)
            .or_else(|| Some(format!("testdata/{}", path.strip_prefix(&cases)?)));
        if let Some(file) = template {
            let mut text = String::from_utf8_lossy(content).into_owned();
            for (hole, value) in &values {
                text = text.replace(hole, value);
            }
            // Under these names they would take effect in the repository they come from.
            let file = match file.as_str() {
                "gitignore" => ".gitignore".to_owned(),
                "Cargo.toml.in" => "Cargo.toml".to_owned(),
                _ => file,
            };
            files.insert(file, text.into_bytes());
        } else if path.starts_with("wit/") && sdk.is_none()
            || path.starts_with("sdk/") && sdk.is_none() && language == "rust"
        {
            files.insert(path.clone(), content.clone());
        }
    }
    Ok(files)
}

/// The files that this binary brings.
fn pack() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let broken = || Failure::failed("this executable is damaged: its templates cannot be read");
    let all = AUTHOR.unpack().map_err(|_| broken())?;
    let mut files = Vec::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        let path = line(&mut rest).ok_or_else(broken)?;
        let length: usize = line(&mut rest)
            .and_then(|l| l.parse().ok())
            .ok_or_else(broken)?;
        let (content, after) = rest.split_at_checked(length).ok_or_else(broken)?;
        files.push((path, content.to_vec()));
        rest = after;
    }
    Ok(files)
}

fn line(rest: &mut &[u8]) -> Option<String> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line = String::from_utf8_lossy(&rest[..end]).into_owned();
    *rest = &rest[end + 1..];
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [KindName; 4] = [
        KindName::Probe,
        KindName::Rule,
        KindName::Notifier,
        KindName::Action,
    ];

    #[test]
    fn every_template_is_whole() {
        for language in [
            Language::Rust,
            Language::Python,
            Language::Javascript,
            Language::C,
        ] {
            for kind in KINDS {
                let files = files("some-name", kind, language, None).unwrap();
                let case = files.keys().find(|path| path.ends_with("/case.toml"));
                assert!(case.is_some(), "{language:?} {kind:?}: a test");
                for file in [
                    "README.md",
                    ".gitignore",
                    "wit/worlds.wit",
                    source(language),
                ] {
                    assert!(files.contains_key(file), "{language:?} {kind:?}: {file}");
                }
                for (path, content) in &files {
                    let text = String::from_utf8_lossy(content);
                    for hole in ["@NAME@", "@KIND@", "@USE@", "@RUN@", "@SDK@", "@SUMMARY@"] {
                        let of_template = !path.starts_with("sdk/") && !path.starts_with("wit/");
                        assert!(!(of_template && text.contains(hole)), "{path}: {hole}");
                    }
                }
                let readme = String::from_utf8_lossy(&files["README.md"]).into_owned();
                let names =
                    |line: &str| line.starts_with("plugin ") && line.ends_with("= \"some-name\"");
                assert!(readme.lines().any(names), "{readme}");
            }
        }
    }

    #[test]
    fn the_sdk_stands_on_its_own() {
        let files = files("probe-x", KindName::Probe, Language::Rust, None).unwrap();
        let manifest = String::from_utf8_lossy(&files["sdk/Cargo.toml"]).into_owned();
        assert!(!manifest.contains("workspace"), "{manifest}");
        let manifest: toml::Table = manifest.parse().unwrap();
        assert!(manifest["dependencies"]["serde_json"].is_str());
        assert!(files.contains_key("sdk/src/mock/mod.rs"));
        // An SDK elsewhere is named, not copied, and has its contract beside it.
        let lean = super::files("probe-x", KindName::Probe, Language::Rust, Some("/opt/sdk"));
        let lean = lean.unwrap();
        assert!(
            !lean
                .keys()
                .any(|path| path.starts_with("sdk/") || path.starts_with("wit/"))
        );
        assert!(String::from_utf8_lossy(&lean["Cargo.toml"]).contains("path = \"/opt/sdk\""));
    }

    #[test]
    fn the_kind_is_read_from_the_name() {
        assert_eq!(kind_of("rule-slow"), Some(KindName::Rule));
        assert_eq!(kind_of("slow-rule"), None);
        assert_eq!(kind_of("probe"), None);
    }
}
