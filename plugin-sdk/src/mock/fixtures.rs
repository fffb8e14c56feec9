//! Things that many tests start from.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::alert::pairs;
use crate::{Alert, Notification, Pairs, Reason, Severity, Timestamp};

/// One folder of a plugin's `testdata`: what comes in, and what must come out.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the folder.
    pub name: String,
    folder: PathBuf,
}

impl Case {
    /// A file of the folder.
    ///
    /// # Panics
    /// Where it cannot be read: the test cannot go on without.
    pub fn bytes(&self, file: &str) -> Vec<u8> {
        let path = self.folder.join(file);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A file of the folder, read as JSON.
    ///
    /// # Panics
    /// Where it cannot be read, or is something else.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> T {
        serde_json::from_slice(&self.bytes(file))
            .unwrap_or_else(|error| panic!("{}/{file}: {error}", self.name))
    }
}

/// A notification written as JSON: the document that `notifier-webhook` sends, with moments in milliseconds. Whatever is left
/// out is as in [`notification`] and [`alert`].
///
/// ```
/// use watchfire_plugin_sdk::{Reason, mock};
///
/// let sent = mock::read_notification(&serde_json::json!({
///     "reason": "resolve",
///     "alerts": [{ "rule": "cpu", "severity": "critical", "labels": { "host": "db-1" }, "ended_at": 1_700_000_060_000_u64 }],
/// }));
/// assert_eq!((sent.reason, sent.alerts[0].label("host")), (Reason::Resolve, Some("db-1")));
/// ```
///
/// # Panics
/// Where it is no such document: the test cannot go on without.
pub fn read_notification(json: &serde_json::Value) -> Notification {
    let alerts = json["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    let reason = Reason::from(json["reason"].as_str().unwrap_or("fire"));
    let mut sent = notification(reason, alerts.iter().map(read_alert).collect());
    for (key, field) in [
        ("id", &mut sent.id),
        ("dedup_key", &mut sent.dedup_key),
        ("title", &mut sent.title),
        ("text", &mut sent.text),
    ] {
        if let Some(text) = json[key].as_str() {
            text.clone_into(field);
        }
    }
    sent.extra = read_pairs(&json["extra"]);
    sent
}

/// An alert written as JSON, as [`read_notification`] reads each of its own; `extra` is a table of its own.
///
/// # Panics
/// Where it is no such document: the test cannot go on without.
pub fn read_alert(json: &serde_json::Value) -> Alert {
    let word = json["severity"].as_str().unwrap_or("warning");
    let severity = word.parse().unwrap_or_else(|error| panic!("{error}"));
    let mut read = alert(json["rule"].as_str().unwrap_or("cpu-high"), severity);
    if let Some(text) = json["fingerprint"].as_str() {
        text.clone_into(&mut read.fingerprint);
    }
    if let Some(text) = json["summary"].as_str() {
        text.clone_into(&mut read.summary);
    }
    if json.get("labels").is_some() {
        read.labels = read_pairs(&json["labels"]);
    }
    for (key, field) in [("value", &mut read.value), ("limit", &mut read.limit)] {
        if let Some(value) = json.get(key) {
            *field = value.as_f64();
        }
    }
    if let Some(millis) = json["started_at"].as_u64() {
        read.started_at = Timestamp(millis);
    }
    if let Some(episode) = json["episode"].as_u64() {
        read.episode = episode;
    }
    read.ended_at = json["ended_at"].as_u64().map(Timestamp);
    read.extra = read_pairs(&json["extra"]);
    read
}

fn read_pairs(json: &serde_json::Value) -> Pairs {
    let text = |value: &serde_json::Value| {
        value
            .as_str()
            .map_or_else(|| panic!("{value} is no text"), str::to_owned)
    };
    json.as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

/// The folders in `testdata` of a plugin, by name: `mock::cases(env!("CARGO_MANIFEST_DIR"))`.
///
/// # Panics
/// Where there is none: a walking test that walks over nothing would pass.
pub fn cases(manifest_dir: &str) -> Vec<Case> {
    let testdata = PathBuf::from(manifest_dir).join("testdata");
    let entries = std::fs::read_dir(&testdata)
        .unwrap_or_else(|error| panic!("{}: {error}", testdata.display()));
    let mut cases: Vec<Case> = entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir()))
        .map(|entry| Case {
            name: entry.file_name().to_string_lossy().into_owned(),
            folder: entry.path(),
        })
        .collect();
    assert!(
        !cases.is_empty(),
        "{}: no folder with a case",
        testdata.display()
    );
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// A firing alert of `rule` with plausible fields; change what a test is about.
///
/// ```
/// use watchfire_plugin_sdk::{Alert, Severity, mock};
///
/// let alert = Alert { value: Some(0.97), ..mock::alert("cpu", Severity::High) };
/// assert_eq!((alert.rule.as_str(), alert.limit), ("cpu", Some(0.9)));
/// ```
pub fn alert(rule: &str, severity: Severity) -> Alert {
    Alert {
        fingerprint: format!("{rule:0<32}"),
        episode: 1,
        rule: rule.into(),
        severity,
        labels: pairs([("host", "web-1")]),
        value: Some(0.95),
        limit: Some(0.9),
        summary: format!("{rule} is {severity}"),
        started_at: Timestamp(1_700_000_000_000),
        ended_at: None,
        extra: Pairs::new(),
    }
}

/// A notification about these alerts, titled with the rule of the first one. With [`Reason::Resolve`] its alerts end.
pub fn notification(reason: Reason, mut alerts: Vec<Alert>) -> Notification {
    if reason == Reason::Resolve {
        for alert in &mut alerts {
            alert
                .ended_at
                .get_or_insert(Timestamp(alert.started_at.millis() + 60_000));
        }
    }
    let first = alerts.first();
    Notification {
        id: "notification-1".into(),
        dedup_key: format!("wf1:mock:{}", first.map_or("", |alert| &*alert.fingerprint)),
        title: first.map_or("watchfire", |alert| &*alert.rule).into(),
        text: first.map_or("", |alert| &*alert.summary).into(),
        reason,
        alerts,
        extra: Pairs::new(),
    }
}
