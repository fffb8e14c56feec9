//! Notifiers: they tell a service about alerts.
//!
//! A notifier sends once. Retrying, grouping, muting and dead letters are the host's affair; the case of the
//! [`Error`](crate::Error) tells it whether trying again would help.
//!
//! ```
//! use watchfire_plugin_sdk::prelude::*;
//!
//! /// Posts a line of text to a chat.
//! struct Chat {
//!     url: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// May be `{{secret:chat}}`: the host fills it in, this code never sees it.
//!     url: String,
//! }
//!
//! impl Notifier for Chat {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self> {
//!         Ok(Chat { url: config.url })
//!     }
//!
//!     fn notify(&self, notification: &Notification) -> Result<Receipt> {
//!         let text = format!("{} {}", if notification.is_resolved() { "✅" } else { "🔥" }, notification.title);
//!         let response = http::Request::post(&self.url)
//!             .header("Idempotency-Key", &notification.id)
//!             .json(&serde_json::json!({ "text": text }))
//!             .send()?
//!             .check()?; // 2xx, or the error that tells the host what to do
//!         Ok(Receipt::from(response.header("x-message-id").map(str::to_owned)))
//!     }
//!
//!     fn wants() -> Vec<String> {
//!         vec!["http https://chat.example:443".into()]
//!     }
//! }
//!
//! notifier!(Chat);
//!
//! // What follows would stand in the tests of the plugin.
//! let host = mock::Host::new();
//! host.http("POST https://chat.example/hook", http::Response::new(200));
//! host.http("POST https://chat.example/hook", http::Response::new(429).with_header("Retry-After", "7"));
//!
//! let chat = Chat::configure(r#"{"url": "https://chat.example/hook"}"#)?;
//! let fire = mock::notification(Reason::Fire, vec![mock::alert("cpu", Severity::High)]);
//! chat.notify(&fire)?;
//! assert_eq!(host.requests()[0].text(), r#"{"text":"🔥 cpu"}"#);
//!
//! let wait = std::time::Duration::from_secs(7);
//! let refused = chat.notify(&fire).unwrap_err();
//! assert!(matches!(refused, Error::Unavailable { retry_after: Some(after), .. } if after == wait));
//! # Ok::<(), Error>(())
//! ```

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::alert::lookup;
use crate::error::parse_config;
use crate::{Alert, Pairs, Result, Severity};

/// A notifier: see the [module](self) for a whole one.
pub trait Notifier: Sized + 'static {
    /// The plugin's table, read by serde. Put `deny_unknown_fields` on it, so that a misspelt key is an error.
    type Config: DeserializeOwned;

    /// Takes the configuration. An error here refuses the plugin before anything changes: check everything.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), naming the key and what to write instead.
    fn new(config: Self::Config) -> Result<Self>;

    /// Sends once.
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) where trying again may help, [`Rejected`](crate::Error::Rejected)
    /// where it cannot.
    fn notify(&self, notification: &Notification) -> Result<Receipt>;

    /// The grants the plugin asks for, as lines for the operator: `http https://hooks.slack.com:443`.
    fn wants() -> Vec<String> {
        Vec::new()
    }

    /// JSON Schema of the table, so that the host can check it and print documentation.
    fn config_schema() -> Option<String> {
        None
    }

    /// Whether the service keeps one incident a `dedup_key`: a second `fire` joins it, and a `resolve` of
    /// what is not open is dropped. An agent that lost its state then sends such a service a resolve for
    /// everything that is fine, so that nothing stays open for ever. Say it only where that disturbs nobody.
    fn folds_by_dedup_key() -> bool {
        false
    }

    /// Reads a table written as JSON and calls [`new`](Notifier::new), as the host does. Meant for tests.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the key.
    fn configure(config: &str) -> Result<Self> {
        Self::new(parse_config(config)?)
    }
}

/// Exports a [`Notifier`](crate::Notifier) from the component; natively it only checks the type.
#[macro_export]
macro_rules! notifier {
    ($plugin:ty) => {
        $crate::__export!(
            $plugin,
            Notifier,
            NotifierExport,
            notifier,
            __export_notifier
        );
    };
}

/// Why a notification is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// An alert began to fire.
    Fire,
    /// Its severity rose.
    Escalate,
    /// Its severity fell.
    Deescalate,
    /// It still fires.
    Repeat,
    /// It ended.
    Resolve,
    /// It changes too often to be told each time.
    FlapStart,
    /// It stands still again.
    FlapStop,
    /// Several alerts of a group; each tells by itself whether it fires.
    Group,
    /// Recovery gave up.
    Exhausted,
    /// Somebody took it on.
    Acknowledge,
    /// A recovery waits for somebody's yes.
    ApprovalWanted,
    /// Nobody took it on in time.
    Escalation,
    /// The agent lives.
    Heartbeat,
    /// A test of the way, end to end.
    Drill,
    /// A reason of a later host: send it as text.
    Other(String),
}

impl Reason {
    /// The word of the contract: `fire`, `flap-start` …
    pub fn as_str(&self) -> &str {
        match self {
            Reason::Fire => "fire",
            Reason::Escalate => "escalate",
            Reason::Deescalate => "deescalate",
            Reason::Repeat => "repeat",
            Reason::Resolve => "resolve",
            Reason::FlapStart => "flap-start",
            Reason::FlapStop => "flap-stop",
            Reason::Group => "group",
            Reason::Exhausted => "exhausted",
            Reason::Acknowledge => "acknowledge",
            Reason::ApprovalWanted => "approval-wanted",
            Reason::Escalation => "escalation",
            Reason::Heartbeat => "heartbeat",
            Reason::Drill => "drill",
            Reason::Other(word) => word,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<&str> for Reason {
    fn from(word: &str) -> Self {
        match word {
            "fire" => Reason::Fire,
            "escalate" => Reason::Escalate,
            "deescalate" => Reason::Deescalate,
            "repeat" => Reason::Repeat,
            "resolve" => Reason::Resolve,
            "flap-start" => Reason::FlapStart,
            "flap-stop" => Reason::FlapStop,
            "group" => Reason::Group,
            "exhausted" => Reason::Exhausted,
            "acknowledge" => Reason::Acknowledge,
            "approval-wanted" => Reason::ApprovalWanted,
            "escalation" => Reason::Escalation,
            "heartbeat" => Reason::Heartbeat,
            "drill" => Reason::Drill,
            other => Reason::Other(other.to_owned()),
        }
    }
}

impl FromStr for Reason {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        Ok(Reason::from(word))
    }
}

/// One message to one destination.
///
/// For tests there is [`mock::notification`](crate::mock::notification).
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The same over retries: the receiving service can drop a duplicate by it.
    pub id: String,
    /// The same over the life of the alert, at most 255 characters: the service's own incident goes by it.
    pub dedup_key: String,
    /// Why it is sent.
    pub reason: Reason,
    /// What it is about. A heartbeat is about nothing.
    pub alerts: Vec<Alert>,
    /// One line, from the operator's template.
    pub title: String,
    /// The rest, from the operator's template.
    pub text: String,
    /// Whatever else there is.
    pub extra: Pairs,
}

impl Notification {
    /// The extra field called `name`.
    pub fn extra(&self, name: &str) -> Option<&str> {
        lookup(&self.extra, name)
    }

    /// The highest severity among the alerts that still fire, or among all where none does.
    pub fn severity(&self) -> Option<Severity> {
        let firing = self
            .alerts
            .iter()
            .filter(|alert| alert.is_firing())
            .map(|alert| alert.severity)
            .max();
        firing.or_else(|| self.alerts.iter().map(|alert| alert.severity).max())
    }

    /// Whether it says that what was told is over: it is about alerts and all of them have ended, also those that a big
    /// group does not list. The start of flapping is never the end; flapping that settles at `ok` is.
    pub fn is_resolved(&self) -> bool {
        let ended = self.alerts.iter().all(|alert| !alert.is_firing());
        let none_unlisted = matches!(self.extra("firing"), None | Some("0"));
        match self.reason {
            _ if self.alerts.is_empty() => false,
            Reason::FlapStart => false,
            Reason::FlapStop => ended || self.extra("note") == Some("ok"),
            _ => ended && none_unlisted,
        }
    }
}

/// What the service answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The service's own name for the message, so that a later one can refer to it.
    pub remote_id: Option<String>,
    /// Whatever else is worth keeping.
    pub extra: Pairs,
}

impl Receipt {
    /// Sent; the service has given no name.
    pub fn sent() -> Self {
        Receipt::default()
    }
}

impl From<Option<String>> for Receipt {
    fn from(remote_id: Option<String>) -> Self {
        Receipt {
            remote_id,
            extra: Pairs::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timestamp, mock};

    #[test]
    fn reasons_survive_the_wire() {
        for word in ["fire", "flap-stop", "approval-wanted", "something-new"] {
            assert_eq!(Reason::from(word).as_str(), word);
        }
        assert_eq!(Reason::from("drill"), Reason::Drill);
    }

    #[test]
    fn a_group_is_as_bad_as_what_still_fires() {
        let mut over = mock::alert("a", Severity::Critical);
        over.ended_at = Some(Timestamp(9));
        let both = mock::notification(
            Reason::Group,
            vec![over.clone(), mock::alert("b", Severity::Low)],
        );
        assert_eq!(
            (both.severity(), both.is_resolved()),
            (Some(Severity::Low), false)
        );
        let ended = mock::notification(Reason::Resolve, vec![over]);
        assert_eq!(
            (ended.severity(), ended.is_resolved()),
            (Some(Severity::Critical), true)
        );
        assert!(!mock::notification(Reason::Heartbeat, vec![]).is_resolved());
    }

    #[test]
    fn over_is_only_what_is_over_for_good() {
        let mut over = mock::alert("a", Severity::Critical);
        over.ended_at = Some(Timestamp(9));
        let with = |reason, alert: &Alert, extra: (&str, &str)| {
            let mut sent = mock::notification(reason, vec![alert.clone()]);
            sent.extra = vec![(extra.0.into(), extra.1.into())];
            sent.is_resolved()
        };
        assert!(with(Reason::Group, &over, ("firing", "0")));
        assert!(
            !with(Reason::Group, &over, ("firing", "3")),
            "unlisted ones fire still"
        );
        assert!(!with(Reason::FlapStart, &over, ("note", "6 changes")));
        let firing = mock::alert("a", Severity::Critical);
        assert!(with(Reason::FlapStop, &firing, ("note", "ok")));
        assert!(!with(Reason::FlapStop, &firing, ("note", "critical")));
    }
}
