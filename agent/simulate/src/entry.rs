//! What a test saw happen: one entry a line of the timeline, for people and as JSON.

use serde::Serialize;
use std::fmt;
use watchfire_engine::model::Severity;

/// One line of a timeline. Which fields there are depends on `event`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    /// Whole seconds from the begin.
    pub t: u64,
    /// `fire`, `resolve`, `action_start`, `restart`, `state` …
    pub event: &'static str,
    /// Of a notification.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "severity")]
    pub severity: Option<Severity>,
    /// `cpu` or `disk{d="0"}`; of a group its rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifier: Option<String>,
    /// When the alert began, in seconds, where it is told later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Why it ended (`gone`, `rule_removed`, `ttl`), what superseded it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of an action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Whether the verification found that the action helped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// What the service answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Numbers distinct notifications of notifiers with answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification: Option<usize>,
    /// Of a group: how many fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firing: Option<u32>,
    /// Of a group: how many at a severity not yet told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<u32>,
    /// Of a group: how many ended since the last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<u32>,
    /// Missed rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// The state of an alert: `firing:warning`; what flapping settled on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// The notifier whose name a timeline leaves out.
pub(crate) const DEFAULT_NOTIFIER: &str = "default";

fn severity<S: serde::Serializer>(
    severity: &Option<Severity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match severity {
        Some(severity) => serializer.serialize_str(severity.name()),
        None => serializer.serialize_none(),
    }
}

impl Entry {
    /// As an expectation compares it.
    pub fn line(&self) -> Line {
        Line {
            at_secs: self.t,
            text: self.text(),
        }
    }

    /// The line without its time.
    fn text(&self) -> String {
        let alert = self.alert.as_deref().unwrap_or_default();
        let attempt = self.attempt.unwrap_or_default();
        let notification = self.notification.unwrap_or_default();
        let state = self.state.as_deref().unwrap_or_default();
        let reason = self.reason.as_deref();
        let mut text = match self.event {
            "state" => format!("{alert}: {state}"),
            "flap_stop" => format!("flap_stop({state}) {alert}"),
            "group" => format!(
                "group {alert} firing={} new={} resolved={}",
                self.firing.unwrap_or_default(),
                self.new.unwrap_or_default(),
                self.resolved.unwrap_or_default()
            ),
            "missed" => format!("missed {}", self.n.unwrap_or_default()),
            "supersede" => format!(
                "supersede #{notification} by {}",
                reason.unwrap_or_default()
            ),
            "dead_letter" => format!("dead_letter #{notification}"),
            "action_verify" => {
                let word = if self.ok == Some(true) { "ok" } else { "fail" };
                format!("action_verify #{attempt} {word} {alert}")
            }
            event => {
                let mut words = vec![event.to_owned()];
                words.extend(self.severity.map(|severity| severity.to_string()));
                words.extend(self.attempt.map(|attempt| format!("#{attempt}")));
                words.extend(self.alert.clone());
                words.extend(reason.map(|reason| format!("({reason})")));
                words.join(" ")
            }
        };
        if let Some(since) = self.since {
            text.push_str(&format!(" (since {since}s)"));
        }
        if let Some(notifier) = self.notifier.as_deref().filter(|n| *n != DEFAULT_NOTIFIER) {
            text.push_str(&format!(" -> {notifier}"));
        }
        if let Some(status) = self.status {
            text.push_str(&format!(" [#{notification} {status}]"));
        }
        text
    }
}

/// `10s fire warning cpu`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line().fmt(f)
    }
}

/// One line as a test writes it: whole seconds and the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at_secs: u64,
    /// What.
    pub text: String,
}

impl Line {
    /// Reads `10s fire warning cpu`; none where the time is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, rest) = text.trim().split_once(char::is_whitespace)?;
        Some(Line {
            at_secs: at.strip_suffix('s')?.parse().ok()?,
            text: rest.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s {}", self.at_secs, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: &'static str) -> Entry {
        Entry {
            t: 10,
            event,
            alert: Some("cpu".into()),
            ..Entry::default()
        }
    }

    #[test]
    fn entries_read_as_the_specification_writes_them() {
        let fire = Entry {
            severity: Some(Severity::Critical),
            notifier: Some("r1".into()),
            since: Some(5),
            notification: Some(2),
            status: Some(500),
            ..entry("fire")
        };
        assert_eq!(
            fire.to_string(),
            "10s fire critical cpu (since 5s) -> r1 [#2 500]"
        );
        let resolve = Entry {
            reason: Some("gone".into()),
            notifier: Some("default".into()),
            ..entry("resolve")
        };
        assert_eq!(resolve.to_string(), "10s resolve cpu (gone)");
        let verify = Entry {
            attempt: Some(1),
            ok: Some(false),
            ..entry("action_verify")
        };
        assert_eq!(verify.to_string(), "10s action_verify #1 fail cpu");
        let start = Entry {
            attempt: Some(3),
            ..entry("action_start")
        };
        assert_eq!(start.to_string(), "10s action_start #3 cpu");
        let stop = Entry {
            state: Some("ok".into()),
            ..entry("flap_stop")
        };
        assert_eq!(stop.to_string(), "10s flap_stop(ok) cpu");
        let restart = Entry {
            alert: None,
            ..entry("restart")
        };
        assert_eq!(restart.to_string(), "10s restart");
    }

    #[test]
    fn lines_need_their_seconds() {
        let line = Line::parse("10s  fire warning   cpu").unwrap();
        assert_eq!((line.at_secs, &*line.text), (10, "fire warning cpu"));
        for text in ["", "10s", "10 fire", "1.5s fire", "fire 10s"] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
