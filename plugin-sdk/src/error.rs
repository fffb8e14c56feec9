//! What can go wrong, told in the five ways that decide what the host does next.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

/// The answer of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error. The case decides what the host does; the text is for people: lowercase, no full stop, and it says what to
/// write instead.
///
/// ```
/// use std::time::Duration;
/// use watchfire_plugin_sdk::Error;
///
/// let busy = Error::unavailable("slack asks to wait").retry_after(Duration::from_secs(30));
/// assert_eq!(busy.to_string(), "slack asks to wait");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The configuration is wrong: no retry until it changes.
    Config(String),
    /// A grant is missing: no retry until the grants change.
    Denied(String),
    /// The observed or called thing did not answer, or asked to wait: retried.
    Unavailable {
        /// What did not answer, and how.
        message: String,
        /// The wait it asked for; `None` leaves the pace to the host.
        retry_after: Option<Duration>,
    },
    /// The other side refused for good: not retried.
    Rejected(String),
    /// A defect of the plugin: counts against it.
    Internal(String),
}

impl Error {
    /// The configuration is wrong. Name the key and what to write instead.
    pub fn config(message: impl Into<String>) -> Self {
        Error::Config(message.into())
    }

    /// A grant is missing. The host says this; a plugin rarely does.
    pub fn denied(message: impl Into<String>) -> Self {
        Error::Denied(message.into())
    }

    /// The observed or called thing did not answer: the host tries again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::Unavailable {
            message: message.into(),
            retry_after: None,
        }
    }

    /// The other side refused for good: trying again would not help.
    pub fn rejected(message: impl Into<String>) -> Self {
        Error::Rejected(message.into())
    }

    /// A defect of the plugin itself: counts towards its quarantine.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal(message.into())
    }

    /// The same error, asking the host to wait. Changes `Unavailable` only: nothing else is retried.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        if let Error::Unavailable { retry_after, .. } = &mut self {
            *retry_after = Some(wait);
        }
        self
    }

    /// The same case with `what` and a colon before its text.
    ///
    /// ```
    /// use watchfire_plugin_sdk::Error;
    ///
    /// assert_eq!(Error::unavailable("no route").context("redis").to_string(), "redis: no route");
    /// ```
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        let message = match &mut self {
            Error::Config(message)
            | Error::Denied(message)
            | Error::Rejected(message)
            | Error::Internal(message)
            | Error::Unavailable { message, .. } => message,
        };
        *message = format!("{what}: {message}");
        self
    }

    /// The text without its case.
    pub fn message(&self) -> &str {
        match self {
            Error::Config(message)
            | Error::Denied(message)
            | Error::Rejected(message)
            | Error::Internal(message)
            | Error::Unavailable { message, .. } => message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

/// Reads what was kept as JSON; `None` where it is something else. As text, like a configuration table:
/// `serde_json::from_slice` would bring its parser into the component a second time.
pub(crate) fn parse_kept<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(bytes).ok()?).ok()
}

/// Reads a configuration table. The error names the key; the position in the JSON is left out, because the operator
/// wrote TOML.
pub(crate) fn parse_config<C: DeserializeOwned>(config: &str) -> Result<C> {
    let mut json =
        serde_json::Deserializer::from_str(if config.is_empty() { "{}" } else { config });
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let (text, position) = (
            inner.to_string(),
            format!(" at line {} column {}", inner.line(), inner.column()),
        );
        let text = text.strip_suffix(&position).unwrap_or(&text);
        match &*path {
            "." => Error::Config(format!("config: {text}")),
            path => Error::Config(format!("config.{path}: {text}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        #[serde(default)]
        limits: Vec<f64>,
    }

    #[test]
    fn a_wrong_table_names_the_key() {
        let says = |config| parse_config::<Table>(config).unwrap_err();
        assert_eq!(
            says(r#"{"limits": [1, "two"]}"#),
            Error::config("config.limits[1]: invalid type: string \"two\", expected f64")
        );
        assert_eq!(
            says(r#"{"limit": 1}"#),
            Error::config("config.limit: unknown field `limit`, expected `limits`")
        );
        assert!(says("[").to_string().starts_with("config: "));
    }

    #[test]
    fn what_was_kept_is_read_or_is_nothing() {
        assert_eq!(parse_kept::<Vec<u8>>(b"[1, 2]"), Some(vec![1, 2]));
        for other in [&b""[..], b"[1", b"\"one\"", b"\"\xff\""] {
            assert_eq!(parse_kept::<Vec<u8>>(other), None);
        }
    }

    #[test]
    fn no_table_is_an_empty_table() {
        assert!(parse_config::<Table>("{}").unwrap().limits.is_empty());
        assert!(parse_config::<Table>("").unwrap().limits.is_empty());
    }

    #[test]
    fn only_unavailable_takes_a_wait() {
        let wait = Duration::from_secs(1);
        assert_eq!(
            Error::rejected("no").retry_after(wait),
            Error::rejected("no")
        );
        assert_ne!(
            Error::unavailable("no").retry_after(wait),
            Error::unavailable("no")
        );
    }
}
