//! `watchfire plugin`: for people who write plugins and for those who let them run.

mod build;
mod case;
mod check;
mod expect;
mod grant;
mod inspect;
mod install;
mod list;
mod load;
mod lock;
mod new;
mod powers;
mod project;
mod run;
mod serve;
mod test;

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
    /// Write a new plugin: a folder that builds, passes its tests and runs as it stands
    New(new::Args),
    /// Build a plugin's folder to a component
    Build(build::Args),
    /// Whether a component would be accepted, and what an operator would want to know of it
    Check(check::Args),
    /// Call a component for real, in the sandbox, and see what it answers and costs
    Run(run::Args),
    /// Run the cases of a plugin's testdata in the sandbox
    Test(test::Args),
    /// Put a component into the agent's plugin folder, whole or not at all
    Install(install::Args),
}

impl Command {
    /// The `--config` given behind it.
    pub(super) fn config(&self) -> Option<&super::ConfigArg> {
        match self {
            Command::List(arg) => Some(arg),
            Command::Inspect(args) => Some(&args.config),
            Command::Lock(args) => Some(&args.config),
            Command::Verify(args) => Some(&args.config),
            Command::Install(args) => Some(&args.config),
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
        Command::New(args) => new::new(&args, global),
        Command::Check(args) => check::check(&args, global),
        Command::Test(args) => test::test(&args, global),
        Command::Install(args) => install::install(&args, global),
        Command::Build(args) => build::build(&args, global),
        Command::Run(args) => run::run(&args, global),
    }
}
