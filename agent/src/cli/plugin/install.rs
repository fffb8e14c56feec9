//! `watchfire plugin install`: a component into the agent's plugin folder, whole or not at all.
//!
//! The agent may look at any moment: the bytes are written beside the place under a hidden name, brought to disk,
//! and renamed; then the folder is brought to disk, too.

use super::load::{Ready, load};
use crate::cli::screen::{Screen, bytes};
use crate::cli::{ConfigArg, Global, client::Client};
use crate::config::{self, Environment, Lock};
use crate::error::Failure;
use crate::plugin::folder::{self, is_plugin_name};
use crate::plugin::{hex, stock};
use crate::sandbox::HostConfig;
use crate::telemetry::printable;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `plugin install`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A component, or a folder in which one was built
    file: PathBuf,
    /// Under which name tables will use it, in the place of the file's
    #[arg(long)]
    name: Option<String>,
    /// This folder, in the place of the one that the configuration names
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Link all of WASI, refusing everything, when it is tried
    #[arg(long)]
    stub_wasi: bool,
    #[command(flatten)]
    pub(super) config: ConfigArg,
}

pub(super) fn install(args: &Args, global: &Global) -> Result<(), Failure> {
    let file = super::project::component_of(&args.file)?;
    // What does not load is no plugin, and would only make an alert.
    let ready = Client::block_on(load(&file, args.stub_wasi, HostConfig::default()))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&ready.name, &ready.description.name),
    };
    if !is_plugin_name(&name) {
        return Err(Failure::failed(format!(
            "{name:?} is no name of a plugin: write --name with lower-case letters, digits, '-' and '_'"
        )));
    }
    // Without a file it was a stock plugin that was loaded.
    let component = std::fs::read(&file).map_err(|error| match stock::find(&ready.name) {
        Some(_) if !file.exists() => Failure::failed(format!(
            "{} is a stock plugin: every agent has it, nothing is to be installed",
            ready.name
        )),
        _ => Failure::failed(format!("cannot read {}: {error}", file.display())),
    })?;
    let sha256 = <[u8; 32]>::from(Sha256::digest(&component));
    if hex(&sha256) != ready.sha256 {
        return Err(Failure::failed(format!(
            "{} changed while it was read",
            file.display()
        )));
    }
    let (folder, lock) = match &args.into {
        Some(folder) => (folder.clone(), None),
        None => configured(global)?,
    };
    let target = folder.join(format!("{name}.wasm"));
    let before = std::fs::read(&target).ok();
    put(&folder, &name, &component)?;
    // An agent with a lock goes on with what it had until the lock has this one, and takes nothing from a place
    // that others can write.
    let refused = lock.and_then(|lock| lock.refusal(&name, &sha256));
    let refused = refused.or_else(|| Some(folder::read(&target).err()?.to_string()));
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&json!({ "name": name, "path": target, "sha256": ready.sha256, "replaced": before.is_some(), "refused": refused }));
    }
    let words = words(&name, &target, &ready, before.as_deref());
    match refused {
        Some(why) => screen.print(&format!(
            "{words}\nit does not run yet: {}\n",
            printable(&why)
        )),
        None => screen.print(&words),
    }
}

/// The file's name; where the component says the same of itself but for `-` and `_`, which cargo exchanges, its own.
fn name_of(file: &str, described: &str) -> String {
    if described.replace('-', "_") == file.replace('-', "_") {
        described.to_owned()
    } else {
        file.to_owned()
    }
}

/// The plugin folder of the agent with this configuration, and what it holds to.
fn configured(global: &Global) -> Result<(PathBuf, Option<Arc<Lock>>), Failure> {
    let mut environment = Environment::of_process();
    let data_dir = global.data_dir.as_ref();
    environment.data_dir_override = data_dir.map(|folder| environment.cwd.join(folder));
    let loaded = config::load(global.config.as_deref(), &environment).map_err(|rejected| {
        Failure::config(format!("{rejected}; name the plugin folder with --into"))
    })?;
    let config = loaded.config;
    Ok((config.agent.plugins_dir.clone(), config.lock.clone()))
}

/// Writes the component beside its place, brings it to disk, moves it there.
fn put(folder: &Path, name: &str, component: &[u8]) -> Result<(), Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::failed(format!("cannot {what} {}: {error}", folder.display()))
    };
    // Writable by nobody else: the agent takes no component from another folder.
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|error| failed("make", error))?;
    // The agent passes over names that begin with a dot.
    let beside = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = write_whole(&beside, component)
        .and_then(|()| std::fs::rename(&beside, folder.join(format!("{name}.wasm"))));
    if let Err(error) = written {
        // What is left of it is of no use; the error that counts is the first one.
        let _ = std::fs::remove_file(&beside);
        return Err(failed("write into", error));
    }
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("sync", error))
}

fn write_whole(path: &Path, component: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(component)?;
    file.sync_all()
}

fn words(name: &str, target: &Path, ready: &Ready, before: Option<&[u8]>) -> String {
    let size = bytes(ready.bytes as u64);
    let mut out = format!("{} ({size}, sha256 {})\n", target.display(), ready.sha256);
    match before.map(|before| hex(&<[u8; 32]>::from(Sha256::digest(before)))) {
        Some(sha256) if sha256 == ready.sha256 => out.push_str("it was there already\n"),
        Some(sha256) => out.push_str(&format!("it takes the place of {sha256}\n")),
        None if stock::find(name).is_some() => {
            out.push_str(&format!("it goes before the stock plugin {name}\n"));
        }
        None => {}
    }
    let kinds = ready.component.kinds();
    let kind = kinds[0].name();
    let table = if kind == "action" { "recovery" } else { kind };
    let grant = crate::sandbox::wants(&ready.description);
    if kind == "probe" {
        out.push_str("\na running agent takes it up at once; to configure it and grant what it asks for:\n\n");
    } else {
        out.push_str("\na running agent has it at once; it serves where a table names it:\n\n");
    }
    out.push_str(&format!(
        "[[{table}]]\nid     = \"{name}\"\nplugin = \"{name}\"\n"
    ));
    for line in grant.lines() {
        out.push_str(&format!(
            "{}\n",
            printable(&line.replacen("grant = ", "grant  = ", 1))
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_component_is_there_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let plugins = folder.path().join("data/plugins");
        put(&plugins, "probe-x", b"first").unwrap();
        put(&plugins, "probe-x", b"second").unwrap();
        let file = plugins.join("probe-x.wasm");
        assert_eq!(std::fs::read(&file).unwrap(), b"second");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o022, 0);
        assert_eq!(std::fs::read_dir(&plugins).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder stands where the file should go.
        std::fs::create_dir_all(folder.path().join("probe-x.wasm/inside")).unwrap();
        let error = put(folder.path(), "probe-x", b"bytes").unwrap_err().text;
        assert!(error.contains("cannot write into"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_crates_own_name_wins_over_cargos() {
        assert_eq!(name_of("probe_queue", "probe-queue"), "probe-queue");
        assert_eq!(name_of("mine", "probe-host"), "mine");
    }
}
