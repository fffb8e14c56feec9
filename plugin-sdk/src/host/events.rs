//! Things worth telling that are no numbers: a slow request, a finished job. Always granted.

use crate::{Timestamp, calls};

/// Puts an event into the agent's record. `kind` is a word that the plugin chooses; `at` is now where it is `None`.
pub fn emit(kind: &str, at: Option<Timestamp>, message: &str, fields: &[(&str, &str)]) {
    calls::events_emit(
        kind,
        at,
        message,
        crate::alert::pairs(fields.iter().copied()),
    );
}
