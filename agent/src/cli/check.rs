//! `watchfire check`.

use super::Global;
use super::screen::{Screen, count};
use crate::config::{self, Config, Environment, Finding, Places};
use crate::error::Failure;
use crate::plugin::rehearse::{self, Fault, Idle};
use crate::plugin::{folder, stock};
use crate::sandbox::types::Kind;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// The file to check, in the place of the one that would be used
    file: Option<PathBuf>,
    /// Count warnings as errors
    #[arg(long)]
    strict: bool,
    /// Do not ask the components whether they take their tables: faster, and for machines that run no code
    #[arg(long)]
    no_plugins: bool,
}

pub(super) fn check(args: &Args, global: &Global) -> Result<(), Failure> {
    let path = args.file.as_deref().or(global.config.as_deref());
    let screen = Screen::of_stdout(global.json);
    let mut unasked = args.no_plugins.then(|| "as --no-plugins says".to_owned());
    let (summary, errors, warnings, files) = match config::load(path, &Environment::of_process()) {
        Ok(loaded) => {
            let config = Arc::new(loaded.config);
            let name = match &config.source.main {
                Some(main) => main.display().to_string(),
                None => "no file, so the configuration that is built in".to_owned(),
            };
            let summary = format!(
                "{name}: {}, {}, {}, {}",
                count(config.probes.len(), "probe"),
                count(config.rules.len(), "rule"),
                count(config.notifiers.len(), "notifier"),
                count(config.recoveries.len(), "recovery procedure"),
            );
            let files = config.source.files.clone();
            let mut errors = Vec::new();
            let mut warnings = loaded.warnings;
            let refused = refused_plugins(&config);
            warnings.extend(absent_plugins(&config, &loaded.places));
            if unasked.is_none() {
                match ask_components(&config, &loaded.places, &refused) {
                    Ok(found) => (errors, warnings) = sorted(found, warnings),
                    Err(reason) => unasked = Some(reason),
                }
            }
            warnings.extend(refused.into_values());
            (summary, errors, warnings, files)
        }
        Err(rejected) => {
            let (errors, warnings) = rejected
                .mistakes
                .into_iter()
                .partition::<Vec<_>, _>(|finding| finding.level == config::Level::Error);
            unasked = Some("the configuration has other mistakes".to_owned());
            (String::new(), errors, warnings, rejected.files)
        }
    };
    let failed = !errors.is_empty() || (args.strict && !warnings.is_empty());
    if global.json {
        screen.print_json(&json!({
            "valid": errors.is_empty(),
            "files": files,
            "errors": errors,
            "warnings": warnings,
            "components_not_asked": unasked,
        }))?;
    } else {
        let mut text = config::render(&errors, screen.color());
        text.push_str(&config::render(&warnings, screen.color()));
        if !summary.is_empty() {
            text.push_str(&crate::telemetry::printable(&summary));
            text.push('\n');
        }
        text.push_str(&match (errors.len(), warnings.len()) {
            (0, 0) => "no mistakes\n".to_owned(),
            (errors, warnings) => {
                format!(
                    "{}, {}\n",
                    count(errors, "error"),
                    count(warnings, "warning")
                )
            }
        });
        if let Some(reason) = unasked.filter(|_| !summary.is_empty()) {
            let reason = crate::telemetry::printable(&reason);
            text.push_str(&format!(
                "the components were not asked whether they take their tables: {reason}\n"
            ));
        }
        screen.print(&text)?;
    }
    if failed { Err(Failure::said()) } else { Ok(()) }
}

/// Splits what was found off by its level, behind what there is already.
fn sorted(found: Vec<Finding>, mut warnings: Vec<Finding>) -> (Vec<Finding>, Vec<Finding>) {
    let (errors, more): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|finding| finding.level == config::Level::Error);
    warnings.extend(more);
    (errors, warnings)
}

/// Files of the plugin folder that the lock keeps from running, by name. A folder that cannot be read is none:
/// the configuration may be checked elsewhere than it is used, and by another user.
fn refused_plugins(config: &Config) -> BTreeMap<Arc<str>, Finding> {
    let refused = super::plugin::violations(config).unwrap_or_default();
    let refused = refused.into_iter().filter(|refused| refused.by_lock);
    let finding = |refused: super::plugin::Violation| {
        let finding = Finding {
            level: config::Level::Warning,
            file: config
                .agent
                .plugins_dir
                .join(format!("{}.wasm", refused.name)),
            line: 0,
            column: 0,
            key: String::new(),
            message: format!(
                "plugin {:?} does not run: {}",
                &*refused.name, refused.reason
            ),
            help: None,
            text: String::new(),
            width: 0,
        };
        (refused.name, finding)
    };
    refused.map(finding).collect()
}

/// Tables whose plugin is neither stock nor a file of the plugin folder: they would wait for it.
fn absent_plugins(config: &Config, places: &Places) -> Vec<Finding> {
    let dropped = folder::list(&config.agent.plugins_dir).unwrap_or_default();
    let known = || {
        let stock = stock::all().iter().map(|stock| stock.name);
        stock.chain(dropped.keys().map(|name| &**name))
    };
    let absent = tables(config)
        .into_iter()
        .filter(|(_, _, plugin)| stock::find(plugin).is_none() && !dropped.contains_key(*plugin));
    let finding = |(kind, id, plugin): (Kind, &str, &str)| {
        let folder = config.agent.plugins_dir.display();
        let message = format!(
            "no plugin is called {plugin:?}: {} {id:?} would wait for it and not run",
            kind.table()
        );
        let help = match config::nearest(plugin, known()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("put {plugin}.wasm into {folder}, or write the name of a stock plugin"),
        };
        places.at_plugin(config::Level::Warning, (kind, id), message, help)
    };
    absent.map(finding).collect()
}

/// Kind, id and plugin of every table that uses one.
fn tables(config: &Config) -> Vec<(Kind, &str, &str)> {
    let probes = config.probes.iter();
    let probes = probes.map(|t| (Kind::Probe, t.id.as_str(), &*t.plugin));
    let rules = config.rules.iter();
    let rules = rules.filter_map(|t| Some((Kind::Rule, t.id.as_str(), t.plugin.as_deref()?)));
    let notifiers = config.notifiers.iter();
    let notifiers = notifiers.map(|t| (Kind::Notifier, t.id.as_str(), &*t.plugin));
    let recoveries = config.recoveries.iter();
    let recoveries = recoveries.map(|t| (Kind::Action, t.id.as_str(), &*t.plugin));
    probes
        .chain(rules)
        .chain(notifiers)
        .chain(recoveries)
        .collect()
}

/// Every table whose component does not take it. What may be otherwise where the agent runs, such as who owns
/// a file, is a warning. The error says why nobody was asked.
fn ask_components(
    config: &Arc<Config>,
    places: &Places,
    refused: &BTreeMap<Arc<str>, Finding>,
) -> Result<Vec<Finding>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let idle = runtime.block_on(rehearse::rehearse(config.clone()))?;
    let finding = |idle: Idle| {
        let level = match idle.fault {
            // Told at the name of the plugin, or at its file.
            Fault::Absent => return None,
            Fault::File if refused.contains_key(&idle.plugin) => return None,
            Fault::File => config::Level::Warning,
            Fault::Component => config::Level::Error,
        };
        let message = format!(
            "{} {:?} would not run: {}",
            idle.kind.table(),
            &*idle.id,
            idle.reason
        );
        let help = format!(
            "`watchfire plugin inspect {}` shows what it asks for",
            idle.plugin
        );
        Some(places.at_id(level, (idle.kind, &idle.id), message, help))
    };
    Ok(idle.into_iter().filter_map(finding).collect())
}
