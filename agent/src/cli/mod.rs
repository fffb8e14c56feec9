//! The command line: one file per command. Commands about a running agent ask it over its unix socket.
//!
//! Results go to stdout (with `--json` as JSON), everything else to stderr. Exit codes: 0 done, 1 failed,
//! 2 usage, 78 configuration or state cannot be used.

mod ack;
mod alerts;
mod check;
mod client;
pub mod compile;
mod completions;
mod events;
mod explain;
mod find;
mod incident;
mod plugin;
mod recovery;
mod replay;
mod run;
mod screen;
mod silence;
mod simulate;
mod status;
mod table;
mod test;

pub use run::RunOptions;

use crate::error::Failure;
use clap::{CommandFactory, FromArgMatches, Parser};
use std::path::PathBuf;
use std::process::ExitCode;

/// Lean host monitoring agent with sandboxed plugins.
///
/// Without a command it runs.
#[derive(Debug, Parser)]
#[command(name = "watchfire", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// The options of all commands, with the `--config` that stands nearest to the command.
    fn global(&self) -> Global {
        let nearest = match &self.command {
            Some(Command::Run(args)) => Some(&args.config),
            Some(Command::Check(args)) => Some(&args.config),
            Some(Command::Replay(args)) => Some(&args.config),
            Some(Command::Status(args)) => Some(&args.config),
            Some(Command::Alerts(args)) => Some(&args.config),
            Some(Command::Events(args)) => Some(&args.config),
            Some(Command::Ack(args)) => Some(&args.config),
            Some(Command::Explain(args)) => Some(&args.config),
            Some(Command::Incident(args)) => Some(&args.config),
            Some(Command::Silence(command)) => Some(command.config()),
            Some(Command::Recovery(command)) => Some(command.config()),
            Some(Command::Plugin(command)) => command.config(),
            Some(
                Command::Completions(_)
                | Command::Compile(_)
                | Command::Test(_)
                | Command::Simulate(_),
            )
            | None => None,
        };
        let nearest = nearest.and_then(|arg| arg.config.clone());
        Global {
            config: nearest.or(self.config.config.clone()),
            ..self.global.clone()
        }
    }
}

/// What every command takes.
#[derive(Clone, Debug, Default, clap::Args)]
struct Global {
    /// Of [`ConfigArg`], wherever it stood.
    #[arg(skip)]
    config: Option<PathBuf>,
    /// The folder of the agent's state, in the place of the configured one
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The socket of the running agent, in the place of the configured one
    #[arg(long, global = true, value_name = "SOCKET")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// No global option, for `plugin run` means another thing by `--config`.
#[derive(Clone, Debug, Default, clap::Args)]
struct ConfigArg {
    /// The configuration [default: ./watchfire.toml, then watchfire/watchfire.toml in $XDG_CONFIG_HOME, then /etc/watchfire/watchfire.toml, then the one built in]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the agent (the default)
    Run(run::Args),
    /// Check the configuration: all mistakes at once, and what to write instead
    Check(check::Args),
    /// Test rules: samples on a virtual clock through the real rules, routes and recovery decisions
    Test(test::Args),
    /// Run tests and print what happens, line by line
    Simulate(simulate::Args),
    /// Let recorded samples pass through a configuration: what would have fired, been sent, been done
    Replay(replay::Args),
    /// What the running agent is and what is wrong
    Status(status::Args),
    /// Alerts of the running agent
    Alerts(alerts::Args),
    /// Acknowledge alerts: no more repeats, escalation and automation until they get worse or resolve
    Ack(ack::Args),
    /// Silences: add, list, expire
    #[command(subcommand)]
    Silence(silence::Command),
    /// Recovery procedures: what they wait for and did; pause, resume, approve, reset
    #[command(subcommand)]
    Recovery(recovery::Command),
    /// Why an alert is as it is, who heard of it and who did not
    Explain(explain::Args),
    /// Incidents: a list, or a document of one
    Incident(incident::Args),
    /// History of the running agent
    Events(events::Args),
    /// Plugins: what runs, what a file could reach, write, build, test and install one
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Print a script that completes this command line in a shell
    Completions(completions::Args),
    /// Compile one component under limits; the agent runs this by itself
    #[command(hide = true)]
    Compile(compile::Args),
}

/// Reads the command line and does what it says; `run_agent` runs the agent until it is told to stop.
pub fn main(run_agent: impl FnOnce(RunOptions) -> Result<(), Failure>) -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let global = cli.global();
    let done = match cli.command {
        Some(Command::Compile(args)) => return compile::run(&args),
        None => run_agent(run::Args::default().options(global)),
        Some(Command::Run(args)) => run_agent(args.options(global)),
        Some(Command::Check(args)) => check::check(&args, &global),
        Some(Command::Test(args)) => test::test(&args, &global),
        Some(Command::Simulate(args)) => simulate::simulate(&args, &global),
        Some(Command::Replay(args)) => replay::replay_command(&args, &global),
        Some(Command::Status(args)) => status::status(&args, &global),
        Some(Command::Alerts(args)) => alerts::alerts(&args, &global),
        Some(Command::Events(args)) => events::events(&args, &global),
        Some(Command::Ack(args)) => ack::ack(&args, &global),
        Some(Command::Silence(command)) => silence::silence(&command, &global),
        Some(Command::Recovery(command)) => recovery::recovery(&command, &global),
        Some(Command::Explain(args)) => explain::explain(&args, &global),
        Some(Command::Incident(args)) => incident::incident(&args, &global),
        Some(Command::Plugin(command)) => plugin::plugin(command, &global),
        Some(Command::Completions(args)) => completions::completions(&args, &mut Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::from(crate::error::OK),
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_are_understood_before_and_after_the_command() {
        let read = |words: &[&str]| {
            let words = ["watchfire"].iter().chain(words);
            Cli::try_parse_from(words)
        };
        for words in [
            &["--json", "alerts", "--all"][..],
            &["alerts", "--json", "--all"],
        ] {
            let cli = read(words).unwrap();
            assert!(cli.global.json && matches!(cli.command, Some(Command::Alerts(_))));
        }
        assert!(read(&[]).unwrap().command.is_none());
        for words in [
            &["nonsense"][..],
            &["events", "--since", "x"],
            &["events", "--limit", "0"],
            &["run", "--listen", "nowhere"],
            &["run", "--log-level", "loud"],
            &["plugin"],
            &["completions", "dos"],
        ] {
            let error = read(words).unwrap_err();
            assert_eq!(
                error.exit_code(),
                i32::from(crate::error::USAGE),
                "{words:?}"
            );
        }
        let cli = read(&[
            "run",
            "--listen",
            "",
            "-c",
            "a.toml",
            "--log-format",
            "json",
        ])
        .unwrap();
        let global = cli.global();
        let Some(Command::Run(args)) = cli.command else {
            panic!("run");
        };
        let options = args.options(global);
        assert_eq!(options.listen, Some(None));
        assert_eq!(options.config, Some("a.toml".into()));
        for words in [
            &["-c", "x", "status"][..],
            &["status", "-c", "x"],
            &["-c", "x"],
        ] {
            assert_eq!(
                read(words).unwrap().global().config,
                Some("x".into()),
                "{words:?}"
            );
        }
        let cli = read(&[
            "plugin",
            "run",
            "p.wasm",
            "--config",
            "{}",
            "--grant",
            "system=true",
        ]);
        assert_eq!(cli.unwrap().global().config, None);
    }
}
