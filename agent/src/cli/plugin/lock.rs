//! `watchfire plugin lock` and `verify`: which files of the plugin folder may run.

use super::inspect::request;
use super::load::load;
use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::Screen;
use crate::config::{self, Config, Environment, Lock, Locked};
use crate::error::Failure;
use crate::plugin::folder;
use crate::sandbox::{CONTRACT, HostConfig};
use crate::telemetry::printable;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `plugin lock`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(super) config: crate::cli::ConfigArg,
    /// Plugins to lock as they lie in the folder [default: all]
    names: Vec<String>,
    /// Also take an update of this plugin that asks for more than its entry has
    #[arg(long, value_name = "NAME")]
    accept_wider: Vec<String>,
    /// Remove entries whose file is not there; other hosts with the same lock may have them
    #[arg(long)]
    prune: bool,
}

/// Options of `plugin verify`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    pub(super) config: crate::cli::ConfigArg,
}

/// What became of one plugin.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Line {
    name: String,
    outcome: Outcome,
    /// What it asks for, or why it was refused.
    words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Added,
    Updated,
    Unchanged,
    Removed,
    Absent,
    Refused,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Added => "added",
            Outcome::Updated => "updated",
            Outcome::Unchanged => "unchanged",
            Outcome::Removed => "removed",
            Outcome::Absent => "not here",
            Outcome::Refused => "refused",
        }
    }
}

pub(super) fn lock(args: &Args, global: &Global) -> Result<(), Failure> {
    let config = load_config(global)?;
    let place = place(&config)?;
    let old = config.lock.as_deref().cloned().unwrap_or_default();
    let files = folder::list(&config.agent.plugins_dir)?;
    for name in args.names.iter().chain(&args.accept_wider) {
        if !files.contains_key(&**name) {
            let folder = config.agent.plugins_dir.display();
            return Err(Failure::failed(format!(
                "there is no {name}.wasm in {folder}"
            )));
        }
    }
    let work = Work {
        args,
        config: &config,
        place: &place,
        old: &old,
    };
    let (plugins, lines) = Client::block_on(work.all(&files))?;
    let new = Lock {
        path: place.clone(),
        plugins,
    };
    if config.lock.is_none() || new.plugins != old.plugins {
        write(&place, &new.text())?;
    }
    tell(global, &place, &lines)
}

/// Locking all that is to be locked.
struct Work<'a> {
    args: &'a Args,
    config: &'a Config,
    place: &'a Path,
    old: &'a Lock,
}

type Entries = BTreeMap<Arc<str>, Locked>;

impl Work<'_> {
    async fn all(
        &self,
        files: &BTreeMap<Arc<str>, PathBuf>,
    ) -> Result<(Entries, Vec<Line>), Failure> {
        let mut plugins = self.old.plugins.clone();
        let mut lines = Vec::new();
        for (name, path) in files {
            if !self.is_meant(name) {
                continue;
            }
            let (entry, outcome, words) = match self.one(name, path).await {
                Ok((entry, outcome, words)) => (Some(entry), outcome, words),
                Err(reason) => (None, Outcome::Refused, vec![reason]),
            };
            plugins.extend(entry.map(|entry| (name.clone(), entry)));
            lines.push(Line {
                name: name.to_string(),
                outcome,
                words,
            });
        }
        let gone = self
            .old
            .plugins
            .keys()
            .filter(|name| !files.contains_key(*name));
        for name in gone {
            let outcome = if self.args.prune {
                plugins.remove(name);
                Outcome::Removed
            } else {
                Outcome::Absent
            };
            lines.push(Line {
                name: name.to_string(),
                outcome,
                words: Vec::new(),
            });
        }
        Ok((plugins, lines))
    }

    fn is_meant(&self, name: &str) -> bool {
        let Args {
            names,
            accept_wider,
            ..
        } = self.args;
        let mut named = names.iter().chain(accept_wider);
        names.is_empty() && accept_wider.is_empty() || named.any(|n| *n == *name)
    }

    /// Looks at one file. The error is why it is not locked.
    async fn one(&self, name: &str, path: &Path) -> Result<(Locked, Outcome, Vec<String>), String> {
        let content = folder::read(path).map_err(|error| error.to_string())?;
        let before = self.old.plugins.get(name);
        if let Some(before) = before.filter(|before| before.sha256 == content.sha256) {
            return Ok((before.clone(), Outcome::Unchanged, Vec::new()));
        }
        let settings = self.config.plugins.get(name);
        let stub_wasi = settings.is_some_and(|settings| settings.stub_wasi);
        let ready = load(path, stub_wasi, HostConfig::default()).await;
        let ready = ready.map_err(|failure| failure.text)?;
        if ready.component.sha256() != content.sha256 {
            return Err("it changed while it was looked at; try again".to_owned());
        }
        let request = request(&ready);
        let beyond = before.map(|before| request.beyond(&before.request));
        let beyond = beyond.unwrap_or_default();
        let accepted = self.args.accept_wider.iter().any(|n| *n == *name);
        if !beyond.is_empty() && !accepted {
            return Err(format!(
                "it asks for more than its entry has: it {}; to agree, run: watchfire plugin lock --accept-wider {name}",
                beyond.join(", ")
            ));
        }
        let outcome = match before {
            None => Outcome::Added,
            Some(_) => Outcome::Updated,
        };
        let words = match before {
            None => request.asks.iter().cloned().collect(),
            Some(_) => beyond,
        };
        let folder = self.place.parent().unwrap_or(Path::new("/"));
        let source = path.strip_prefix(folder).unwrap_or(path);
        let locked = Locked {
            version: ready.description.version,
            sha256: content.sha256,
            contract: format!("watchfire:plugin@{CONTRACT}"),
            source: source.display().to_string(),
            request,
        };
        Ok((locked, outcome, words))
    }
}

pub(super) fn verify(global: &Global) -> Result<(), Failure> {
    let config = load_config(global)?;
    let place = place(&config)?;
    let Some(lock) = &config.lock else {
        return Err(Failure::failed(format!(
            "there is no {}; `watchfire plugin lock` writes it",
            place.display()
        )));
    };
    let files = folder::list(&config.agent.plugins_dir)?;
    let refused = violations(&config)?.into_iter();
    let refused: BTreeMap<Arc<str>, String> = refused.map(|v| (v.name, v.reason)).collect();
    let mut lines: Vec<Line> = Vec::new();
    let names = files.keys().chain(lock.plugins.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let (outcome, words) = match refused.get(name) {
            Some(reason) => (Outcome::Refused, vec![reason.clone()]),
            None if files.contains_key(name) => (Outcome::Unchanged, Vec::new()),
            None => (Outcome::Absent, Vec::new()),
        };
        lines.push(Line {
            name: name.to_string(),
            outcome,
            words,
        });
    }
    tell(global, &place, &lines)
}

/// A file of the plugin folder that an agent with this configuration refuses before it looks into it.
pub(in crate::cli) struct Violation {
    pub(in crate::cli) name: Arc<str>,
    /// Why.
    pub(in crate::cli) reason: String,
    /// It is the lock that refuses it, and not who can read and write it: that is seen with other eyes by
    /// another user than the agent's.
    pub(in crate::cli) by_lock: bool,
}

/// All of them. A folder that is not there holds none.
pub(in crate::cli) fn violations(config: &Config) -> std::io::Result<Vec<Violation>> {
    let mut all = Vec::new();
    for (name, path) in folder::list(&config.agent.plugins_dir)? {
        let (by_lock, reason) = match folder::read(&path) {
            Err(error) => (false, Some(error.to_string())),
            Ok(content) => {
                let lock = config.lock.as_ref();
                let refusal = lock.and_then(|lock| lock.refusal(&name, &content.sha256));
                (true, refusal)
            }
        };
        all.extend(reason.map(|reason| Violation {
            name,
            reason,
            by_lock,
        }));
    }
    Ok(all)
}

fn load_config(global: &Global) -> Result<Config, Failure> {
    let environment = Environment {
        data_dir_override: global.data_dir.clone(),
        ..Environment::of_process()
    };
    let loaded = config::load(global.config.as_deref(), &environment);
    let refused =
        |rejected: config::Rejected| Failure::config(config::render(&rejected.mistakes, false));
    Ok(loaded.map_err(refused)?.config)
}

fn place(config: &Config) -> Result<PathBuf, Failure> {
    let main = config.source.main.as_deref().ok_or_else(|| {
        Failure::failed("a lock lies beside a configuration file, and there is none: write one, or name it with --config")
    })?;
    Ok(Lock::beside(main))
}

/// Beside it, synced, renamed into place: a running agent sees the old one or the new one.
fn write(place: &Path, text: &str) -> Result<(), Failure> {
    let beside = place.with_extension("lock.new");
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, place)?;
        let folder = place.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    });
    written.map_err(|error| Failure::failed(format!("cannot write {}: {error}", place.display())))
}

/// Exit code 1 where anything was refused.
fn tell(global: &Global, place: &Path, lines: &[Line]) -> Result<(), Failure> {
    let screen = Screen::of_stdout(global.json);
    if global.json {
        screen.print_json(&json!({ "lock": place, "plugins": lines }))?;
    } else {
        screen.print(&render(place, lines))?;
    }
    let refused = lines.iter().any(|line| line.outcome == Outcome::Refused);
    if refused {
        Err(Failure::said())
    } else {
        Ok(())
    }
}

fn render(place: &Path, lines: &[Line]) -> String {
    let mut out = format!("{}\n", printable(&place.display().to_string()));
    for line in lines {
        let words = match (line.outcome, line.words.as_slice()) {
            (Outcome::Added, []) => "asks for no grant".to_owned(),
            (Outcome::Added, asks) => format!("asks for {}", asks.join(", ")),
            (Outcome::Updated, []) => "asks for nothing more than before".to_owned(),
            (Outcome::Updated, beyond) => format!("it {}", beyond.join(", ")),
            (_, words) => words.join(", "),
        };
        let (outcome, name) = (line.outcome.name(), printable(&line.name));
        let text = format!("  {outcome:<9}  {name}  {}", printable(&words));
        out.push_str(text.trim_end());
        out.push('\n');
    }
    if lines.is_empty() {
        out.push_str("  no plugin lies in the folder, and none may run from it\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_one_agrees_to() {
        let line = |name: &str, outcome, words: &[&str]| Line {
            name: name.to_owned(),
            outcome,
            words: words.iter().map(|&w| w.to_owned()).collect(),
        };
        let lines = [
            line("a", Outcome::Added, &["system", "http x\u{1b}"]),
            line("b", Outcome::Updated, &[]),
            line("c", Outcome::Unchanged, &[]),
            line("d", Outcome::Refused, &["it has no name"]),
        ];
        assert_eq!(
            render(Path::new("/etc/watchfire.lock"), &lines),
            "/etc/watchfire.lock\n\
             \x20 added      a  asks for system, http x\\u{1b}\n\
             \x20 updated    b  asks for nothing more than before\n\
             \x20 unchanged  c\n\
             \x20 refused    d  it has no name\n"
        );
    }
}
