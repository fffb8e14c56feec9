//! `watchfire plugin`: for people who write plugins and for those who let them run.

mod build;
mod list;

use super::Global;
use crate::error::Failure;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Components of the running agent: version, origin, state, where they are used
    List,
    /// Build a plugin's crate to a component
    Build(build::Args),
}

pub(super) fn plugin(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List => list::list(global),
        Command::Build(args) => build::build(&args, global),
    }
}
