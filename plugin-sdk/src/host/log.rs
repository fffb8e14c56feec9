//! Lines in the agent's log, with the plugin's id beside them. Always granted.
//!
//! The host keeps 4 KiB a message and 20 messages a second.

use crate::calls;

/// How much somebody should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the author.
    Debug,
    /// For the operator, now and then.
    Info,
    /// Degraded and handled.
    Warn,
    /// Somebody must act.
    Error,
}

/// Writes a line with fields.
pub fn emit(level: Level, message: &str, fields: &[(&str, &str)]) {
    calls::log_emit(level, message, crate::alert::pairs(fields.iter().copied()));
}

/// Writes a line for the author.
pub fn debug(message: impl AsRef<str>) {
    emit(Level::Debug, message.as_ref(), &[]);
}

/// Writes a line for the operator.
pub fn info(message: impl AsRef<str>) {
    emit(Level::Info, message.as_ref(), &[]);
}

/// Writes a line about something degraded that the plugin handled.
pub fn warn(message: impl AsRef<str>) {
    emit(Level::Warn, message.as_ref(), &[]);
}

/// Writes a line about something that somebody must act on.
pub fn error(message: impl AsRef<str>) {
    emit(Level::Error, message.as_ref(), &[]);
}
