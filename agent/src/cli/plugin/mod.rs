//! `watchfire plugin`: for people who write plugins and for those who let them run.

mod build;
mod grant;
mod inspect;
mod list;
mod load;
mod run;

use super::Global;
use crate::error::Failure;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Components of the running agent: version, origin, state, where they are used
    List(super::ConfigArg),
    /// What a component is, can reach and asks for
    Inspect(inspect::Args),
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
            _ => None,
        }
    }
}

pub(super) fn plugin(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(_) => list::list(global),
        Command::Inspect(args) => inspect::inspect(&args, global),
        Command::Build(args) => build::build(&args, global),
        Command::Run(args) => run::run(&args, global),
    }
}
