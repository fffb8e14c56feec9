//! How failures end: the chain of causes on one line, and the exit codes of the program.

use std::error::Error;
use std::process::ExitCode;

/// Done.
pub const OK: u8 = 0;
/// Failed: what was asked for could not be done, or a check found an error.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The configuration or the state cannot be used (`EX_CONFIG` of sysexits.h).
pub const CONFIG: u8 = 78;

/// An error with all its causes, outermost first: `open the store: read state.db: no such file`.
/// A cause whose text its parent already ends with is not said twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// What ends the program before its work is done.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// For people; empty: everything has been said.
    pub text: String,
}

impl Failure {
    /// Exit code 1.
    pub fn failed(text: impl Into<String>) -> Self {
        Failure {
            code: FAILED,
            text: text.into(),
        }
    }

    /// Exit code 78.
    pub fn config(text: impl Into<String>) -> Self {
        Failure {
            code: CONFIG,
            text: text.into(),
        }
    }

    /// Exit code 1 without a further word: the output has said it.
    pub fn said() -> Self {
        Failure::failed("")
    }

    /// Prints the text to stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if !self.text.is_empty() {
            eprintln!("watchfire: {}", self.text);
        }
        ExitCode::from(self.code)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::failed(chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_chain_names_each_cause_once() {
        let error = Outer(std::io::Error::other("disk is gone"));
        assert_eq!(chain(&error), "open the store: disk is gone");
        assert_eq!(Failure::from(error).code, FAILED);
    }
}
