//! `watchfire check`.

use super::Global;
use super::screen::{Screen, count};
use crate::config::{self, Environment};
use crate::error::Failure;
use serde_json::json;
use std::path::PathBuf;

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
}

pub(super) fn check(args: &Args, global: &Global) -> Result<(), Failure> {
    let path = args.file.as_deref().or(global.config.as_deref());
    let screen = Screen::of_stdout(global.json);
    let (summary, errors, warnings, files) = match config::load(path, &Environment::of_process()) {
        Ok(loaded) => {
            let config = &loaded.config;
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
            let mut warnings = loaded.warnings;
            warnings.extend(refused_plugins(config));
            (summary, Vec::new(), warnings, files)
        }
        Err(rejected) => {
            let (errors, warnings) = rejected
                .mistakes
                .into_iter()
                .partition::<Vec<_>, _>(|finding| finding.level == config::Level::Error);
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
        screen.print(&text)?;
    }
    if failed { Err(Failure::said()) } else { Ok(()) }
}

/// Files of the plugin folder that the lock keeps from running. A folder that cannot be read is none: the
/// configuration may be checked elsewhere than it is used, and by another user.
fn refused_plugins(config: &config::Config) -> Vec<config::Finding> {
    let refused = super::plugin::violations(config).unwrap_or_default();
    let refused = refused.into_iter().filter(|refused| refused.by_lock);
    let finding = |refused: super::plugin::Violation| config::Finding {
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
    refused.map(finding).collect()
}
