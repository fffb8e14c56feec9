//! The agent's binary.

use clap::Parser;
use std::process::ExitCode;

/// Lean host monitoring agent.
#[derive(clap::Parser)]
#[command(version)]
enum Cli {
    /// Monitors this host.
    Run {
        #[arg(long)]
        config: Option<std::path::PathBuf>,
        #[arg(long)]
        data_dir: Option<std::path::PathBuf>,
        #[arg(long)]
        listen: Option<String>,
    },
    /// Compiles one component under limits; the agent runs it by itself.
    #[command(hide = true)]
    Compile(watchfire::cli::compile::Args),
}

fn main() -> ExitCode {
    match Cli::parse() {
        Cli::Run {
            config,
            data_dir,
            listen,
        } => {
            let options = watchfire::app::RunOptions {
                config,
                data_dir,
                listen,
                ..Default::default()
            };
            match watchfire::app::run(options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => failure.report(),
            }
        }
        Cli::Compile(args) => watchfire::cli::compile::run(&args),
    }
}
