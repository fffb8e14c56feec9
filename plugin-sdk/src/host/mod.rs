//! What a plugin may ask of its host, as plain functions.
//!
//! `log`, `state`, `events` and `clock` are always there; everything else needs a grant of the operator, and answers
//! [`Error::Denied`](crate::Error::Denied) without. Not every kind may import everything:
//!
//! | kind | beside `log` and `clock` |
//! |---|---|
//! | probe | `state` `system` `files` `http` `tcp` `dns` `secrets` `commands` `events` |
//! | rule | nothing: a rule is pure, and reads the time from its batch |
//! | notifier | `state` `http` `tcp` `mail` `secrets` `commands` |
//! | action | `state` `system` `http` `tcp` `secrets` `commands` `control` `events` |
//!
//! A component that calls something of another kind is refused when it is loaded. Natively a
//! [`mock::Host`](crate::mock::Host) answers.

pub mod clock;
pub mod commands;
pub mod control;
pub mod dns;
pub mod events;
pub mod files;
pub mod http;
pub mod log;
pub mod mail;
pub mod secrets;
pub mod state;
pub mod system;
pub mod tcp;

use std::time::Duration;

/// How long a network call waits where the plugin does not say: below the 5 s that a probe has for everything.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(4);

/// Whole milliseconds for the contract; at least one, because none could be read as no limit.
pub(crate) fn millis(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis())
        .unwrap_or(u32::MAX)
        .max(1)
}
