//! The event: what is to be done to the alert in PagerDuty, and what people read there, within its limits.

use serde_json::{Map, Value, json};
use watchfire_plugin_sdk::{Alert, Notification, Pairs, Reason, Severity, text};

use crate::Config;

/// Characters of the summary.
const SUMMARY_MAX: usize = 1024;
/// Characters of the key that PagerDuty folds events by.
const DEDUP_KEY_MAX: usize = 255;
/// Bytes of the whole event are 512 KiB at most; less a reserve for the key that the host fills in.
const EVENT_BYTES_MAX: usize = (512 << 10) - 1024;
/// Characters of source, component, group and class.
const WORD_MAX: usize = 255;
/// Characters of the text among the details.
const TEXT_MAX: usize = 8192;
/// Characters of any other value among the details.
const VALUE_MAX: usize = 1024;
/// Alerts among the details; fewer where the event would be too big.
const ALERTS_MAX: [usize; 4] = [20, 5, 1, 0];

/// The whole event as JSON.
pub(crate) fn body(notification: &Notification, config: &Config) -> String {
    let mut body = String::new();
    for alerts_max in ALERTS_MAX {
        body = event(notification, config, alerts_max).to_string();
        if body.len() <= EVENT_BYTES_MAX {
            break;
        }
    }
    // The host fills secrets into this body: only the key's own place may be one. Written so, a brace is the same to JSON.
    let body = body.replace("{{secret:", "\\u007b\\u007bsecret:");
    let key = Value::from(&*config.routing_key);
    format!("{{\"routing_key\":{key},{}", &body[1..])
}

fn event(notification: &Notification, config: &Config, alerts_max: usize) -> Value {
    let action = action(notification);
    let mut event = json!({
        "event_action": action,
        "dedup_key": dedup_key(&notification.dedup_key),
    });
    // PagerDuty reads nothing else of the other two.
    if action == "trigger" {
        event["client"] = "watchfire".into();
        event["payload"] = payload(notification, config, alerts_max);
        let links = links(notification);
        if !links.is_empty() {
            event["links"] = links.into();
        }
    }
    event
}

fn action(notification: &Notification) -> &'static str {
    match notification.reason {
        Reason::Acknowledge => "acknowledge",
        _ if notification.is_resolved() => "resolve",
        // Of an end that lists nothing, too.
        Reason::Resolve => "resolve",
        _ => "trigger",
    }
}

fn payload(notification: &Notification, config: &Config, alerts_max: usize) -> Value {
    let first = notification.alerts.first();
    let title = match text::line(&notification.title) {
        title if title.is_empty() => notification.reason.to_string(),
        title => title,
    };
    let label = |name: &str| first.and_then(|alert| alert.label(name));
    let word = |text: &str| text::truncate(&text::line(text), WORD_MAX).into_owned();
    let source = label("host").or_else(|| notification.extra("host"));
    let mut payload = json!({
        "summary": text::truncate(&title, SUMMARY_MAX),
        "source": word(source.filter(|host| !host.trim().is_empty()).unwrap_or("watchfire")),
        "severity": severity(notification.severity()),
        "custom_details": details(notification, alerts_max),
    });
    if let Some(alert) = first {
        payload["timestamp"] = alert.started_at.to_string().into();
        payload["class"] = word(&alert.rule).into();
    }
    for (key, value) in [
        ("component", label(&config.component_label)),
        ("group", label(&config.group_label)),
    ] {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            payload[key] = word(value).into();
        }
    }
    payload
}

fn severity(severity: Option<Severity>) -> &'static str {
    match severity {
        Some(Severity::Critical) => "critical",
        Some(Severity::High) => "error",
        Some(Severity::Warning) => "warning",
        Some(Severity::Low) | None => "info",
    }
}

fn details(notification: &Notification, alerts_max: usize) -> Value {
    let shown = notification.alerts.iter().take(alerts_max);
    let mut details = json!({
        "reason": notification.reason.as_str(),
        "notification": notification.id,
        "text": detail(&notification.text, TEXT_MAX),
        "alerts": shown.map(of_alert).collect::<Vec<_>>(),
    });
    for (name, value) in &notification.extra {
        // The host is the source.
        if name != "host" && details.get(name).is_none() {
            details[text::truncate(name, WORD_MAX).as_ref()] = detail(value, VALUE_MAX).into();
        }
    }
    if notification.alerts.len() > alerts_max {
        details["more"] = (notification.alerts.len() - alerts_max).into();
    }
    details
}

fn of_alert(alert: &Alert) -> Value {
    json!({
        "rule": alert.rule,
        "severity": alert.severity.name(),
        "summary": detail(&alert.summary, VALUE_MAX),
        "value": alert.value,
        "limit": alert.limit,
        "started_at": alert.started_at.to_string(),
        "ended_at": alert.ended_at.map(|end| end.to_string()),
        "labels": table(&alert.labels),
        "extra": table(&alert.extra),
    })
}

fn table(pairs: &Pairs) -> Value {
    let pair =
        |(name, value): &(String, String)| (text::line(name), detail(value, VALUE_MAX).into());
    Value::Object(pairs.iter().map(pair).collect::<Map<_, _>>())
}

fn detail(value: &str, max: usize) -> String {
    // Cut first: a value may be long, and the time of a call is not.
    text::clean(&text::truncate(value, max))
}

fn links(notification: &Notification) -> Vec<Value> {
    let Some(alert) = notification.alerts.first() else {
        return Vec::new();
    };
    let link = |(key, name): (&str, &str)| {
        let address = alert.extra(key).and_then(text::link)?;
        Some(json!({ "href": address, "text": name }))
    };
    [("runbook", "Runbook"), ("dashboard", "Dashboard")]
        .into_iter()
        .filter_map(link)
        .collect()
}

/// The key itself, or, where it is longer than PagerDuty takes, its start and a checksum of the whole (64-bit FNV-1a): two
/// long keys must not become one.
fn dedup_key(key: &str) -> String {
    if key.chars().count() <= DEDUP_KEY_MAX {
        return key.to_owned();
    }
    let sum = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let start: String = key.chars().take(DEDUP_KEY_MAX - 17).collect();
    format!("{start}~{sum:016x}")
}
