//! The document that is sent, and that templates see. README.md describes it: what stands there, receivers rely on.

use std::collections::BTreeMap;

use watchfire_plugin_sdk::{Alert, Notification, Pairs};

/// A whole notification.
#[derive(Debug, serde::Serialize)]
pub struct Document<'a> {
    id: &'a str,
    dedup_key: &'a str,
    reason: &'a str,
    title: &'a str,
    text: &'a str,
    host: Option<&'a str>,
    alerts: Vec<AlertDocument<'a>>,
    extra: BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, serde::Serialize)]
struct AlertDocument<'a> {
    fingerprint: &'a str,
    episode: u64,
    rule: &'a str,
    severity: &'static str,
    labels: BTreeMap<&'a str, &'a str>,
    /// What is not finite is written as null: JSON has no word for it.
    value: Option<f64>,
    limit: Option<f64>,
    summary: &'a str,
    started_at: String,
    ended_at: Option<String>,
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a str>,
}

impl<'a> Document<'a> {
    /// Names at the top, for templates.
    pub const KEYS: [&'static str; 8] = [
        "id",
        "dedup_key",
        "reason",
        "title",
        "text",
        "host",
        "alerts",
        "extra",
    ];

    /// The notification as a document.
    pub fn of(notification: &'a Notification) -> Self {
        let first = notification.alerts.first();
        Document {
            id: &notification.id,
            dedup_key: &notification.dedup_key,
            reason: notification.reason.as_str(),
            title: &notification.title,
            text: &notification.text,
            host: notification
                .extra("host")
                .or_else(|| first.and_then(|alert| alert.label("host"))),
            alerts: notification.alerts.iter().map(AlertDocument::of).collect(),
            extra: map(&notification.extra),
        }
    }
}

impl<'a> AlertDocument<'a> {
    /// An alert's own names: an extra field of the same name does not replace them.
    const KEYS: [&'static str; 10] = [
        "fingerprint",
        "episode",
        "rule",
        "severity",
        "labels",
        "value",
        "limit",
        "summary",
        "started_at",
        "ended_at",
    ];

    fn of(alert: &'a Alert) -> Self {
        let mut extra = map(&alert.extra);
        extra.retain(|name, _| !Self::KEYS.contains(name));
        AlertDocument {
            fingerprint: &alert.fingerprint,
            episode: alert.episode,
            rule: &alert.rule,
            severity: alert.severity.name(),
            labels: map(&alert.labels),
            value: alert.value,
            limit: alert.limit,
            summary: &alert.summary,
            started_at: alert.started_at.to_string(),
            ended_at: alert.ended_at.map(|end| end.to_string()),
            extra,
        }
    }
}

fn map(pairs: &Pairs) -> BTreeMap<&str, &str> {
    pairs
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect()
}
