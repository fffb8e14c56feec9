//! The border between the contract's types and ours: everything a guest says is checked here, once.
//!
//! Text stays what it is (control characters, markup, any script): whoever prints it escapes it. What
//! breaks the data model or a bound refuses the whole answer, in words the author of the plugin understands.

mod alert;
mod collection;
mod masked;
mod rule;

pub(crate) use alert::{alert_to_wit, message_to_wit, outcome, receipt};
pub(crate) use collection::collection;
pub(crate) use masked::Masked;
pub(crate) use rule::{batch_to_wit, needs, verdicts};

use super::bindings::wit;
use super::types::{CallError, Description};
use std::time::Duration;

/// Bytes of an error's or a summary's text.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Bytes of a JSON Schema.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Entries of a list of a description: `wants`, `extra`.
const LIST_MAX: usize = 64;
/// Bytes of a short text: names, versions, keys.
const NAME_BYTES_MAX: usize = 128;
/// What another side may ask to wait; a broken clock must not silence a plugin for a year.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The longest start of `text` with at most `bytes_max` bytes that ends between two letters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn cut_owned(mut text: String, bytes_max: usize) -> String {
    text.truncate(cut(&text, bytes_max).len());
    text
}

fn pairs(mut pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    pairs.truncate(LIST_MAX);
    pairs
        .into_iter()
        .map(|(key, value)| {
            (
                cut_owned(key, NAME_BYTES_MAX),
                cut_owned(value, TEXT_BYTES_MAX),
            )
        })
        .collect()
}

impl From<CallError> for wit::types::Error {
    fn from(error: CallError) -> Self {
        use wit::types::Error;
        match error {
            CallError::Config(text) => Error::Config(text),
            CallError::Denied(text) => Error::Denied(text),
            CallError::Unavailable {
                message,
                retry_after,
            } => Error::Unavailable(wit::types::Unavailability {
                message,
                retry_after_ms: retry_after
                    .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            }),
            CallError::Rejected(text) => Error::Rejected(text),
            other => Error::Internal(match other {
                CallError::Internal(text) => text,
                other => other.to_string(),
            }),
        }
    }
}

impl From<wit::types::Error> for CallError {
    fn from(error: wit::types::Error) -> Self {
        use wit::types::Error;
        let cut = |text| cut_owned(text, TEXT_BYTES_MAX);
        match error {
            Error::Config(text) => CallError::Config(cut(text)),
            Error::Denied(text) => CallError::Denied(cut(text)),
            Error::Unavailable(why) => CallError::Unavailable {
                message: cut(why.message),
                retry_after: why
                    .retry_after_ms
                    .map(|ms| Duration::from_millis(ms).min(RETRY_AFTER_MAX)),
            },
            Error::Rejected(text) => CallError::Rejected(cut(text)),
            Error::Internal(text) => CallError::Internal(cut(text)),
        }
    }
}

/// What a component says of itself, bounded.
pub(crate) fn description(of: wit::types::Description) -> Result<Description, CallError> {
    if of
        .config_schema
        .as_ref()
        .is_some_and(|schema| schema.len() > SCHEMA_BYTES_MAX)
    {
        return Err(CallError::BadResult(format!(
            "its config-schema has more than {SCHEMA_BYTES_MAX} bytes"
        )));
    }
    let mut wants = of.wants;
    wants.truncate(LIST_MAX);
    Ok(Description {
        name: cut_owned(of.name, NAME_BYTES_MAX),
        version: cut_owned(of.version, NAME_BYTES_MAX),
        summary: cut_owned(of.summary, TEXT_BYTES_MAX),
        config_schema: of.config_schema,
        wants: wants
            .into_iter()
            .map(|want| cut_owned(want, TEXT_BYTES_MAX))
            .collect(),
        extra: pairs(of.extra),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_falls_between_letters() {
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
        assert_eq!(cut("abc", 10), "abc");
    }

    #[test]
    fn errors_keep_their_case_over_the_border_and_back() {
        for error in [
            CallError::Config("c".into()),
            CallError::Denied("d".into()),
            CallError::Unavailable {
                message: "u".into(),
                retry_after: Some(Duration::from_secs(3)),
            },
            CallError::Rejected("r".into()),
            CallError::Internal("i".into()),
        ] {
            let over: wit::types::Error = error.clone().into();
            assert_eq!(CallError::from(over), error);
        }
    }

    #[test]
    fn nobody_waits_for_a_year() {
        let error = wit::types::Error::Unavailable(wit::types::Unavailability {
            message: String::new(),
            retry_after_ms: Some(u64::MAX),
        });
        let CallError::Unavailable { retry_after, .. } = CallError::from(error) else {
            panic!("another case")
        };
        assert_eq!(retry_after, Some(RETRY_AFTER_MAX));
    }
}
