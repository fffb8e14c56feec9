//! Events of the history: their types, and how the engine's become rows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use watchfire_engine::effect::{Event, Happening};
use watchfire_engine::model::{Fingerprint, Moment, WallTime};

/// The seven types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// An alert changed its state.
    Transition,
    /// A message was decided upon, sent, superseded, given up.
    Notification,
    /// A recovery procedure did or wanted something.
    Action,
    /// Configuration or plugins were reloaded, or refused.
    Reload,
    /// An operator did something.
    Operator,
    /// A plugin was loaded, refused, quarantined.
    Plugin,
    /// The agent about itself: start, stop, missed rounds.
    System,
}

impl EventType {
    /// All types.
    pub const ALL: [EventType; 7] = [
        EventType::Transition,
        EventType::Notification,
        EventType::Action,
        EventType::Reload,
        EventType::Operator,
        EventType::Plugin,
        EventType::System,
    ];

    /// The name in the store and in the API.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Transition => "transition",
            EventType::Notification => "notification",
            EventType::Action => "action",
            EventType::Reload => "reload",
            EventType::Operator => "operator",
            EventType::Plugin => "plugin",
            EventType::System => "system",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no type of events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown event type {0:?}: write transition, notification, action, reload, operator, plugin or system"
)]
pub struct EventTypeError(pub String);

impl FromStr for EventType {
    type Err = EventTypeError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        EventType::ALL
            .into_iter()
            .find(|kind| kind.name() == word)
            .ok_or_else(|| EventTypeError(word.to_owned()))
    }
}

/// An event that has no sequence number yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// For people and retention.
    pub wall: WallTime,
    /// On the agent's timeline.
    pub at: Moment,
    /// Which type.
    pub kind: EventType,
    /// `cpu` or `disk{mountpoint="/"}`; empty where it concerns no alert.
    pub alert: String,
    /// Identity of that alert.
    pub fingerprint: Option<Fingerprint>,
    /// Counts the alert's episodes; 0 where it concerns none.
    pub episode: u64,
    /// What ties the events of one story together; of an alert, `FINGERPRINT-EPISODE`.
    pub correlation: Option<String>,
    /// A JSON object.
    pub body: String,
}

impl NewEvent {
    /// An event of the engine. Its body is the happening, tagged `what`.
    pub fn from_engine(event: &Event) -> Self {
        let kind = match &event.what {
            Happening::Transition { .. } => EventType::Transition,
            Happening::Queued { .. }
            | Happening::Delivered { .. }
            | Happening::Superseded { .. }
            | Happening::Suppressed { .. }
            | Happening::DeadLetter { .. } => EventType::Notification,
            Happening::Action { .. } => EventType::Action,
            Happening::Operator { .. } => EventType::Operator,
            Happening::Missed { .. } | Happening::Back { .. } => EventType::System,
        };
        NewEvent {
            wall: event.wall,
            at: event.at,
            kind,
            alert: event.alert.clone(),
            fingerprint: event.fingerprint,
            episode: event.episode,
            correlation: event
                .fingerprint
                .map(|fingerprint| format!("{fingerprint}-{}", event.episode)),
            body: serde_json::to_string(&event.what)
                .expect("a happening is plain data with text keys"),
        }
    }

    /// An event of the agent itself, of no alert; `body` is a JSON object.
    pub fn of_agent(kind: EventType, at: Moment, wall: WallTime, body: &serde_json::Value) -> Self {
        NewEvent {
            wall,
            at,
            kind,
            alert: String::new(),
            fingerprint: None,
            episode: 0,
            correlation: None,
            body: body.to_string(),
        }
    }
}

/// An event with its place in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Rises with every event, never used twice; gaps mean events that were lost on the way.
    pub seq: u64,
    /// What happened.
    pub event: NewEvent,
}

impl StoredEvent {
    /// Whether an alert began to fire here.
    pub fn opens_an_episode(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Change<'a> {
            from: std::borrow::Cow<'a, str>,
            to: std::borrow::Cow<'a, str>,
        }
        let fires = |state: &str| state.starts_with("firing:") || state.starts_with("recovering:");
        self.event.kind == EventType::Transition
            && serde_json::from_str::<Change<'_>>(&self.event.body)
                .is_ok_and(|change| fires(&change.to) && !fires(&change.from))
    }

    /// As the API shows it: the body's fields beside those of the row.
    pub fn to_json(&self) -> serde_json::Value {
        let NewEvent {
            wall,
            at,
            kind,
            alert,
            fingerprint,
            episode,
            correlation,
            body,
        } = &self.event;
        let mut all = match serde_json::from_str(body) {
            Ok(serde_json::Value::Object(fields)) => fields,
            Ok(other) => serde_json::Map::from_iter([("body".to_owned(), other)]),
            // A row whose bytes rotted is still shown.
            Err(_) => serde_json::Map::from_iter([("body".to_owned(), body.as_str().into())]),
        };
        all.insert("seq".into(), self.seq.into());
        all.insert("wall_ms".into(), wall.0.into());
        all.insert("at_ms".into(), at.0.into());
        all.insert("type".into(), kind.name().into());
        if !alert.is_empty() {
            all.insert("alert".into(), alert.as_str().into());
        }
        if let Some(fingerprint) = fingerprint {
            all.insert("fingerprint".into(), fingerprint.to_string().into());
            all.insert("episode".into(), (*episode).into());
        }
        if let Some(correlation) = correlation {
            all.insert("correlation".into(), correlation.as_str().into());
        }
        all.into()
    }
}

/// How long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Transitions, notifications, actions, and what operators did about them.
    pub alerts: Duration,
    /// All others.
    pub others: Duration,
}

impl Keep {
    /// Of one type.
    pub fn of(&self, kind: EventType) -> Duration {
        match kind {
            EventType::Transition
            | EventType::Notification
            | EventType::Action
            | EventType::Operator => self.alerts,
            EventType::Reload | EventType::Plugin | EventType::System => self.others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_engine::model::{Labels, RuleId};

    #[test]
    fn names_read_back() {
        for kind in EventType::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("alarm".parse::<EventType>().is_err());
    }

    #[test]
    fn an_engine_event_becomes_a_row_and_json() {
        let fingerprint = Fingerprint::of(&RuleId::new("cpu"), &Labels::default());
        let new = NewEvent::from_engine(&Event {
            at: Moment(5),
            wall: WallTime(1_700_000_000_000),
            alert: "cpu".into(),
            fingerprint: Some(fingerprint),
            episode: 3,
            what: Happening::Transition {
                from: "ok".into(),
                to: "firing:warning".into(),
                value: Some(91.5),
                cause: "threshold",
                suppressed_by: None,
            },
        });
        assert_eq!(new.kind, EventType::Transition);
        assert_eq!(new.correlation, Some(format!("{fingerprint}-3")));
        let shown = StoredEvent { seq: 7, event: new }.to_json();
        assert_eq!(shown["seq"], 7);
        assert_eq!(shown["type"], "transition");
        assert_eq!(shown["what"], "transition");
        assert_eq!(shown["to"], "firing:warning");
        assert_eq!(shown["value"], 91.5);
        assert_eq!(shown["episode"], 3);
    }

    #[test]
    fn an_episode_opens_with_the_first_firing() {
        let event = NewEvent::of_agent(
            EventType::Transition,
            Moment(0),
            WallTime(0),
            &serde_json::json!({}),
        );
        for (from, to, opens) in [
            ("ok", "firing:warning", true),
            ("pending", "firing:critical", true),
            ("firing:warning", "firing:critical", false),
            ("recovering:warning", "firing:warning", false),
            ("firing:warning+stale", "ok", false),
            ("ok", "pending", false),
        ] {
            let body = serde_json::json!({ "from": from, "to": to }).to_string();
            let event = event.clone();
            let stored = StoredEvent {
                seq: 1,
                event: NewEvent { body, ..event },
            };
            assert_eq!(stored.opens_an_episode(), opens, "{from} to {to}");
        }
    }

    #[test]
    fn a_rotten_body_is_shown_as_text() {
        let event = NewEvent::of_agent(
            EventType::System,
            Moment(0),
            WallTime(0),
            &serde_json::json!({}),
        );
        let stored = StoredEvent {
            seq: 1,
            event: NewEvent {
                body: "{\"wh".into(),
                ..event
            },
        };
        assert_eq!(stored.to_json()["body"], "{\"wh");
    }
}
