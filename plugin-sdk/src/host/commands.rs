//! Commands the operator wrote down under `[command.NAME]`. Grant `commands`, as names. No shell.

use std::time::Duration;

use crate::{Error, Result, calls};

/// What a command left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit code; minus the signal where one ended it.
    pub status: i32,
    /// Standard output, cut at the operator's limit.
    pub stdout: String,
    /// Standard error, cut likewise.
    pub stderr: String,
    /// It did not end in time and was killed, with its children.
    pub timed_out: bool,
    /// Something was cut.
    pub truncated: bool,
    /// From start to end.
    pub elapsed: Duration,
}

impl Output {
    /// Ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.status == 0 && !self.timed_out
    }

    /// Itself, where it ended with code 0.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) after a timeout, else [`Rejected`](Error::Rejected) with the last line of
    /// standard error.
    pub fn check(self) -> Result<Self> {
        if self.timed_out {
            return Err(Error::unavailable(format!(
                "the command did not end within {:?}",
                self.elapsed
            )));
        }
        if self.status != 0 {
            let said = self
                .stderr
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("nothing on stderr");
            return Err(Error::rejected(format!(
                "the command ended with {}: {said}",
                self.status
            )));
        }
        Ok(self)
    }
}

/// Runs a command with these arguments in place of the operator's holes, and waits for its end.
///
/// # Errors
/// [`Denied`](Error::Denied) without the grant, [`Unavailable`](Error::Unavailable) where it could not be started. A
/// command that fails is an [`Output`].
pub fn run(name: &str, arguments: &[&str], stdin: &[u8]) -> Result<Output> {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| (*argument).to_owned())
        .collect();
    calls::commands_run(name, &arguments, stdin)
}
