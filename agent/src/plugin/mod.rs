//! What is installed and live: from files to the [`generation::Generation`] that the pipeline runs.
//!
//! ```text
//!   stock (in the binary)  folder (dropped in)      configuration
//!            \                  |                        |
//!             +----- survey: what stays, what is new ----+<---- watch (hints)
//!                               |                        |
//!                 load: cache | compile (child), describe|
//!                               |                        |
//!                               +----- prove: configure, trial collection
//!                                            |
//!                                reload: publish one Generation, tell conditions and events
//! ```
//!
//! It hands out handles and never calls them once they are live; the pipeline does.

pub(crate) mod archive;
pub mod cache;
pub mod compile;
pub mod folder;
pub mod generation;
mod install;
mod load;
pub mod notice;
mod prove;
pub mod quarantine;
pub mod registry;
pub mod rehearse;
pub mod reload;
pub mod stock;
mod survey;
pub mod ward;
pub mod watch;

#[cfg(test)]
mod target_tests;
#[cfg(test)]
mod test_support;

pub use generation::{
    Generation, LiveAction, LiveNotifier, LiveProbe, LiveRule, UseState, UseStatus,
};
pub use notice::Notice;
pub use quarantine::Quarantine;
pub use registry::{Installed, Origin, Plugin, PluginSet, Rejection, Stage};
pub use reload::{LoadConfig, Reloader, Report, Request, Setup};
pub use ward::Quarantined;

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Characters of a stranger's text that are kept: a screenful.
const TEXT_CHARS_MAX: usize = 2000;

/// A stranger's text, fit for logs, alerts and terminals: no control characters, not endless.
fn plain(text: &str) -> String {
    text.chars()
        .take(TEXT_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_strangers_text_cannot_write_on_the_terminal() {
        let text = super::plain("said\n\x1b[2Jno\u{9b}");
        assert_eq!(text, "said  [2Jno ");
        assert_eq!(super::plain(&"x".repeat(5000)).len(), 2000);
    }
}
