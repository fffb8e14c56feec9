//! `watchfire run`: the options; the agent itself is handed in.

use super::Global;
use crate::config::{Config, LogFormat};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `run`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// Listen here for HTTP, in the place of the configured address; "" for no TCP at all
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    listen: Option<Listen>,
    /// Least level that is logged
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Level>,
    /// Shape of the log
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// Log into this file, not to stderr
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

/// None: no TCP listener.
#[derive(Clone, Copy, Debug)]
struct Listen(Option<SocketAddr>);

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    if text.is_empty() {
        return Ok(Listen(None));
    }
    text.parse()
        .map(|address| Listen(Some(address)))
        .map_err(|_| {
            "write an address with a port, such as \"127.0.0.1:9465\", or \"\" for none".to_owned()
        })
}

/// What the command line says about how to run; what is none is left to the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// The configuration file; none: where one is looked for.
    pub config: Option<PathBuf>,
    /// The folder of the state.
    pub data_dir: Option<PathBuf>,
    /// `Some(None)`: no TCP listener.
    pub listen: Option<Option<SocketAddr>>,
    /// The unix socket.
    pub socket: Option<PathBuf>,
    /// Shape of the log.
    pub log_format: Option<LogFormat>,
    /// Least level.
    pub log_level: Option<tracing::Level>,
    /// The log's file.
    pub log_file: Option<PathBuf>,
}

impl Args {
    pub(super) fn options(self, global: Global) -> RunOptions {
        RunOptions {
            config: global.config,
            data_dir: global.data_dir,
            listen: self.listen.map(|listen| listen.0),
            socket: global.socket,
            log_format: self.log_format.map(|format| match format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            }),
            log_level: self.log_level.map(|level| match level {
                Level::Error => tracing::Level::ERROR,
                Level::Warn => tracing::Level::WARN,
                Level::Info => tracing::Level::INFO,
                Level::Debug => tracing::Level::DEBUG,
                Level::Trace => tracing::Level::TRACE,
            }),
            log_file: self.log_file,
        }
    }
}

impl RunOptions {
    /// Lays these options over a configuration; on every reload again. The data folder is not among
    /// them: it is given to the [`crate::config::Environment`], for other paths follow from it.
    pub fn apply(&self, config: &mut Config) {
        if let Some(listen) = self.listen {
            config.api.listen = listen;
        }
        if let Some(socket) = &self.socket {
            config.api.socket.clone_from(socket);
        }
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        if let Some(level) = self.log_level {
            config.log.level = level;
        }
        if let Some(file) = &self.log_file {
            config.log.file = Some(file.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, from_texts};

    #[test]
    fn options_win_over_the_configuration() {
        let environment = Environment {
            cwd: "/".into(),
            hostname: "web-1".into(),
            root: true,
            ..Environment::default()
        };
        let mut config = from_texts(&[], &environment).unwrap().config;
        let options = RunOptions {
            socket: Some("/s".into()),
            listen: Some(None),
            log_level: Some(tracing::Level::DEBUG),
            ..RunOptions::default()
        };
        options.apply(&mut config);
        assert_eq!(config.api.socket, PathBuf::from("/s"));
        assert_eq!(config.api.listen, None);
        assert_eq!(config.log.level, tracing::Level::DEBUG);
        let mut again = config.clone();
        RunOptions::default().apply(&mut again);
        assert_eq!(again.api, config.api);
    }
}
