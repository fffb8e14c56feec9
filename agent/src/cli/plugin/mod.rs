//! `watchfire plugin`: for people who write plugins and for those who let them run.

mod build;
mod grant;
mod inspect;
mod list;
mod load;
mod lock;
mod powers;
mod run;

pub(super) use lock::{Violation, violations};

use super::Global;
use crate::error::Failure;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Components of the running agent: version, origin, state, where they are used
    List(super::ConfigArg),
    /// What a component is, can reach and asks for
    Inspect(inspect::Args),
    /// Write down which files of the plugin folder may run, in watchfire.lock beside the configuration
    Lock(lock::Args),
    /// Compare the plugin folder with watchfire.lock
    Verify(lock::VerifyArgs),
    /// Build a plugin's crate to a component
    Build(build::Args),
    /// Call a component for real, in the sandbox, and see what it answers and costs
    Run(run::Args),
}

impl Command {
    /// The `--config` given behind it.
    pub(super) fn config(&self) -> Option<&super::ConfigArg> {
        match self {
            Command::List(arg) => Some(arg),
            Command::Inspect(args) => Some(&args.config),
            Command::Lock(args) => Some(&args.config),
            Command::Verify(args) => Some(&args.config),
            _ => None,
        }
    }
}

pub(super) fn plugin(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(_) => list::list(global),
        Command::Inspect(args) => inspect::inspect(&args, global),
        Command::Lock(args) => lock::lock(&args, global),
        Command::Verify(_) => lock::verify(global),
        Command::Build(args) => build::build(&args, global),
        Command::Run(args) => run::run(&args, global),
    }
}
