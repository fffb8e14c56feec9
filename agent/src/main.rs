//! The agent's binary.

use clap::Parser;
use std::process::ExitCode;

/// Lean host monitoring agent.
#[derive(clap::Parser)]
#[command(version)]
enum Cli {
    /// Compiles one component under limits; the agent runs it by itself.
    #[command(hide = true)]
    Compile(watchfire::cli::compile::Args),
}

fn main() -> ExitCode {
    match Cli::parse() {
        Cli::Compile(args) => watchfire::cli::compile::run(&args),
    }
}
