//! How times, durations, alerts stand in JSON. Numbers that are none become null by themselves.

use crate::pipeline::render::Renderer;
use serde_json::{Value, json};
use std::time::Duration;
use watchfire_engine::effect::AlertView;
use watchfire_engine::model::WallTime;

/// RFC 3339 with milliseconds, UTC.
pub(super) fn time(at: WallTime) -> Value {
    i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or(Value::Null, |at| format!("{at:.3}").into())
}

/// A time that somebody sends: RFC 3339.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub(super) jiff::Timestamp);

impl TryFrom<String> for Time {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let read = text.parse().map(Time);
        read.map_err(|error| format!("{text:?} is no time such as 2026-01-31T12:00:00Z: {error}"))
    }
}

/// Null for none.
pub(super) fn time_or_null(at: Option<WallTime>) -> Value {
    at.map_or(Value::Null, time)
}

/// Seconds.
pub(super) fn seconds(duration: Duration) -> Value {
    duration.as_secs_f64().into()
}

/// The time of this moment.
pub(super) fn now() -> Value {
    format!("{:.3}", jiff::Timestamp::now()).into()
}

/// One alert with its summary as a notification would say it.
pub(super) fn told(words: &Renderer<'_>, of: &AlertView) -> Value {
    let mut shown = alert(of);
    // What only pends, or a meta-alert says, has no words but its own.
    if of.severity.is_some() {
        shown["summary"] = words.alert(&of.snapshot).summary.into();
    }
    shown
}

/// One alert.
pub(super) fn alert(alert: &AlertView) -> Value {
    let snapshot = &alert.snapshot;
    json!({
        "alert": alert.instance.to_string(),
        "fingerprint": alert.instance.fingerprint,
        "rule": alert.instance.rule,
        "labels": snapshot.labels,
        "state": alert.state,
        "severity": alert.severity,
        "since": time(alert.since),
        "started_at": time(snapshot.started_at),
        "episode": snapshot.episode,
        "value": snapshot.value,
        "limit": snapshot.limit,
        "summary": snapshot.note,
        "stale": alert.stale,
        "flapping": alert.flapping,
        "acknowledged_by": alert.acknowledged_by,
        "muted_by": alert.muted_by,
    })
}
