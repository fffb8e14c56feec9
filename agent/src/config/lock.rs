//! `watchfire.lock`: which files of the plugin folder may run, and what each asked for when somebody agreed to it.
//!
//! It lies beside the main configuration file and is part of the configuration: a change of it is a reload, a
//! mistake in it refuses the whole, and the last good configuration holds its lock too. Stock plugins are
//! not in it: who trusts the binary trusts them. `watchfire plugin lock` writes it.

use super::file::{At, Place, SourceFile};
use super::raw::parse_sha256;
use super::read::{Reader, Table};
use crate::sandbox::types::Kind;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;

/// Its name, beside the main configuration file.
pub const LOCK_FILE: &str = "watchfire.lock";

/// The only form there is.
const VERSION: i64 = 1;

/// Plugins that may be locked: as many as a plugin folder may hold.
const PLUGINS_MAX: usize = 1_000;

/// What heads the file.
const HEAD: &str = "\
# Which files of the plugin folder may run on hosts with this configuration. While this file exists, any other
# plugin is refused. Written by `watchfire plugin lock`; belongs under version control. Read a change of
# `imports` and `asks` before you agree to it.
";

/// What is locked, by name of plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The file.
    pub path: PathBuf,
    /// Its entries.
    pub plugins: BTreeMap<Arc<str>, Locked>,
}

/// One component that may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    /// What it called its version; text of a stranger.
    pub version: String,
    /// Of the component.
    pub sha256: [u8; 32],
    /// The contract that it was built for, such as `watchfire:plugin@0.1`.
    pub contract: String,
    /// Where it was when it was locked; for people.
    pub source: String,
    /// What it asked for.
    pub request: PluginRequest,
}

/// What a component asks for: its kinds, the interfaces of the host that it imports, the grants that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginRequest {
    /// `probe`, `rule`, `notifier`, `action`.
    pub kinds: BTreeSet<String>,
    /// Names without package and version, such as `http`; WASI's own are no power and not among them.
    pub imports: BTreeSet<String>,
    /// Grants, as `http https://hooks.slack.com:443`; text of a stranger.
    pub asks: BTreeSet<String>,
}

impl PluginRequest {
    /// Of a component with these kinds, imports and wishes.
    pub fn of(kinds: &[Kind], imports: &[String], wants: &[String]) -> Self {
        let interface = |import: &String| {
            let name = import.strip_prefix("watchfire:plugin/")?;
            let name = name.split('@').next().unwrap_or(name);
            (name != "types").then(|| name.to_owned())
        };
        PluginRequest {
            kinds: kinds.iter().map(|kind| kind.name().to_owned()).collect(),
            imports: imports.iter().filter_map(interface).collect(),
            asks: wants.iter().cloned().collect(),
        }
    }

    /// A digest of all of it.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for list in [&self.kinds, &self.imports, &self.asks] {
            // Lengths go in too, so that no two requests give the same bytes.
            hash.update((list.len() as u64).to_le_bytes());
            for text in list {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
        hash.finalize().into()
    }

    /// What it asks for and `before` did not, one phrase each.
    pub fn beyond(&self, before: &PluginRequest) -> Vec<String> {
        let lists = [
            ("to be a", &self.kinds, &before.kinds),
            ("imports", &self.imports, &before.imports),
            ("asks for", &self.asks, &before.asks),
        ];
        let more = lists.into_iter().flat_map(|(what, now, before)| {
            now.difference(before)
                .map(move |text| format!("{what} {text}"))
        });
        more.collect()
    }
}

impl Lock {
    /// Where the lock of a configuration lies.
    pub fn beside(main: &Path) -> PathBuf {
        main.with_file_name(LOCK_FILE)
    }

    /// Why a component may not serve under that name; none: it may. The text ends with what to do.
    pub fn refusal(&self, name: &str, sha256: &[u8; 32]) -> Option<String> {
        let path = self.path.display();
        let command = format!("watchfire plugin lock {name}");
        match self.plugins.get(name) {
            None => Some(format!(
                "it is not in {path}; to take it, look at it with `watchfire plugin inspect` and run: {command}"
            )),
            Some(locked) if locked.sha256 != *sha256 => Some(format!(
                "{path} has sha256 {}, and it has {}; to take it, run: {command}",
                hex(&locked.sha256),
                hex(sha256)
            )),
            Some(_) => None,
        }
    }

    /// Why what a component says of itself is not what somebody agreed to.
    pub fn widened(&self, name: &str, request: &PluginRequest) -> Option<String> {
        let locked = self.plugins.get(name)?;
        let beyond = request.beyond(&locked.request);
        (!beyond.is_empty()).then(|| {
            format!(
                "it asks for more than {} has: it {}; to agree, run: watchfire plugin lock --accept-wider {name}",
                self.path.display(),
                beyond.join(", ")
            )
        })
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}version = {VERSION}\n");
        for (name, locked) in &self.plugins {
            let request = &locked.request;
            let fields = [
                ("name", quoted(name)),
                ("version", quoted(&locked.version)),
                ("sha256", quoted(&hex(&locked.sha256))),
                ("contract", quoted(&locked.contract)),
                ("kinds", list(&request.kinds)),
                ("imports", list(&request.imports)),
                ("asks", list(&request.asks)),
                ("request", quoted(&hex(&request.digest()))),
                ("source", quoted(&locked.source)),
            ];
            text.push_str("\n[[plugin]]\n");
            for (key, value) in fields {
                // Writing into a String cannot fail.
                let _ = writeln!(text, "{key:<8} = {value}");
            }
        }
        text
    }
}

/// Reads it; every mistake goes to the reader.
pub(super) fn read<'a>(
    reader: &Reader<'a>,
    file: &SourceFile,
    index: usize,
    table: &'a DeTable<'a>,
) -> Lock {
    let root = reader.root(vec![(index, table)]);
    // An empty or cut-off file must not lock everything out in silence, nor open everything up.
    if !root.has("version") {
        let again = "delete it, or write it anew with `watchfire plugin lock`";
        root.reader().mistake(
            Place {
                file: index,
                start: 0,
                end: 0,
            },
            "version",
            format!("{} has no `version`", file.path.display()),
            again,
        );
    }
    root.integer("version", VERSION, VERSION);
    let entries = root.tables("plugin");
    if entries.len() > PLUGINS_MAX {
        let at = entries[PLUGINS_MAX].at;
        let message = format!("more than {PLUGINS_MAX} plugins are locked");
        reader.mistake(at, "plugin", message, "remove those that are gone");
    }
    let mut plugins: BTreeMap<Arc<str>, Locked> = BTreeMap::new();
    for entry in entries.iter().take(PLUGINS_MAX) {
        let Some((name, locked)) = read_one(entry) else {
            continue;
        };
        let key = Arc::from(name.value.as_str());
        if plugins.insert(key, locked).is_some() {
            let message = format!("{:?} is locked a second time", name.value);
            reader.mistake(name.at, "plugin.name", message, "remove one of both");
        }
    }
    root.finish();
    Lock {
        path: file.path.clone(),
        plugins,
    }
}

fn read_one(table: &Table<'_, '_>) -> Option<(At<String>, Locked)> {
    let digest = |key| {
        let entry = table.get(key)?;
        let digest = parse_sha256(&entry.string()?.value);
        if digest.is_none() {
            let again = "write it anew with `watchfire plugin lock`";
            entry.wrong("wants 64 hexadecimal digits", again);
        }
        digest
    };
    let text = |key| {
        let text = table.string(key).map(|text| text.value);
        text.unwrap_or_default()
    };
    let texts = |key| {
        let texts = table.strings(key).unwrap_or_default();
        texts.into_iter().map(|text| text.value).collect()
    };
    let name = table.string("name");
    let sha256 = digest("sha256");
    for (key, there) in [("name", name.is_some()), ("sha256", table.has("sha256"))] {
        if !there && !table.has(key) {
            table.missing(key, "write it anew with `watchfire plugin lock`");
        }
    }
    let locked = Locked {
        version: text("version"),
        sha256: sha256.unwrap_or_default(),
        contract: text("contract"),
        source: text("source"),
        request: PluginRequest {
            kinds: texts("kinds"),
            imports: texts("imports"),
            asks: texts("asks"),
        },
    };
    let request = digest("request");
    if let Some(entry) = table.get("request")
        && request.is_some_and(|request| request != locked.request.digest())
    {
        entry.wrong(
            "is not the digest of `kinds`, `imports` and `asks`: somebody edited them",
            "write it anew with `watchfire plugin lock`",
        );
    }
    table.finish();
    sha256?;
    Some((name?, locked))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn list(texts: &BTreeSet<String>) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A TOML string; what a stranger wrote can end neither it nor the line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() || u32::from(letter) > 0x7e => {
                // Writing into a String cannot fail. Letters that reorder a line are among these.
                let _ = write!(quoted, "\\U{:08X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
