//! Asks every used component about its tables, as a start of the agent would, and keeps nothing running.
//!
//! It looks at the same folder, with the same pins and limits, and calls `configure` only: nothing is collected,
//! sent or done.

use super::cache::CodeCache;
use super::compile::Compiler;
use super::generation::{UseState, UseStatus};
use super::install::{Fresh, Install};
use super::load::Loader;
use super::prove::Proof;
use super::registry::{PluginSet, Stage};
use super::survey::Survey;
use crate::config::Config;
use crate::error::chain;
use crate::sandbox::types::Kind;
use crate::sandbox::{self, HostConfig, HostServices, MemoryState, NoEvents, Sandbox, TracingLog};
use std::sync::Arc;
use tokio::sync::Notify;

/// A table that would not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Idle {
    /// Which kind of table.
    pub kind: Kind,
    /// Its id.
    pub id: Arc<str>,
    /// The component it names.
    pub plugin: Arc<str>,
    /// Why; text of a stranger, one line.
    pub reason: Arc<str>,
    /// What is amiss.
    pub fault: Fault,
}

/// Whose fault it is that a table would not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its component is not there.
    Absent,
    /// Its component's file may not run, or could not be loaded here: its owner, a pin, the lock, want of means.
    File,
    /// The component says no to the table, or can be no component of this agent.
    Component,
}

/// Every table of a configuration that would not run, in the order of the kinds and tables. Bounded by the
/// limits of compilations and of calls. Needs a runtime with time and processes.
///
/// # Errors
/// The sandbox does not start here; for people.
pub async fn rehearse(config: Arc<Config>) -> Result<Vec<Idle>, String> {
    sandbox::egress::tls::install_crypto_provider();
    let services = HostServices {
        state: Arc::new(MemoryState::default()),
        events: Arc::new(NoEvents),
        log: Arc::new(TracingLog),
        config: HostConfig {
            secrets: config.secrets.clone(),
            commands: config.commands.clone(),
            mail: config.mail.clone(),
        },
        system: sandbox::host::system::SystemSettings::default(),
    };
    let wanted = sandbox::Settings {
        small_address_space: config.engine.small_address_space.unwrap_or(false),
        interpreter: config.engine.interpreter.unwrap_or(false),
    };
    let sandbox = Sandbox::new(wanted, services).map_err(|error| chain(&error))?;
    let settings = sandbox.settings();
    let compatibility = sandbox::compatibility_key(settings).map_err(|error| chain(&error))?;
    let compiler = Compiler::of_this_process(settings.compile_options());
    let cache = CodeCache::beside(&config.agent.data_dir);
    let loader = Loader::new(sandbox, compiler, cache, compatibility);
    loader.compiler().widen();
    let mut survey = Survey::default();
    // A folder that cannot be listed is none: the configuration may be checked elsewhere than it is used.
    let files = survey.look(&config.agent.plugins_dir).ok();
    let running = PluginSet::default();
    let wants = survey.plan(&files, &config, &running, false);
    let mut loaded = Fresh::new();
    let install = Install {
        loader: &loader,
        survey: &mut survey,
        loaded: &mut loaded,
        config: &config,
        running: &running,
        hasty: false,
    };
    let plugins = Arc::new(install.carry_out(wants).await);
    let proof = Proof {
        previous: None,
        config,
        plugins: plugins.clone(),
        quarantine_bell: &Arc::new(Notify::new()),
    };
    // Without a previous generation nobody is to blame.
    let status = proof
        .generation()
        .await
        .map_or_else(|_| Vec::new(), |generation| generation.status);
    let fault_of_file = |plugin: &str| match plugins.rejection(plugin)?.stage {
        Stage::Read | Stage::Pin | Stage::Trouble => Some(Fault::File),
        Stage::Load | Stage::Prove => None,
    };
    let idle = |status: UseStatus| {
        let (reason, fault) = match status.state {
            UseState::Running => return None,
            UseState::Waiting(reason) => (reason, Fault::Absent),
            UseState::Kept(reason) | UseState::Rejected(reason) => {
                let fault = fault_of_file(&status.plugin);
                (reason, fault.unwrap_or(Fault::Component))
            }
        };
        Some(Idle {
            kind: status.kind,
            id: status.id,
            plugin: status.plugin,
            reason,
            fault,
        })
    };
    Ok(status.into_iter().filter_map(idle).collect())
}
