//! The message: Block Kit, every text escaped and cut to Slack's limits.

use serde_json::{Value, json};
use watchfire_plugin_sdk::text::{self, Fit};
use watchfire_plugin_sdk::{Alert, Notification, Severity};

/// Characters of the header.
const HEADER_MAX: usize = 150;
/// Characters of a section's text.
const SECTION_MAX: usize = 3000;
/// Characters of one field, and of one element of a context.
const FIELD_MAX: usize = 2000;
/// Fields of a section.
const FIELDS_MAX: usize = 10;
/// Characters of a label's name in a field: enough for any, and the value keeps its room.
const NAME_MAX: usize = 200;
/// Alerts that a message lists beside its text.
const LISTED_MAX: usize = 20;
/// What mobile notifications and readers aloud take; Slack would take 40,000.
const FALLBACK_MAX: usize = 3000;

/// The whole document.
pub(crate) fn message(notification: &Notification) -> Value {
    let title = match text::line(&notification.title) {
        title if title.is_empty() => notification.reason.to_string(),
        title => title,
    };
    let mut blocks = Vec::new();
    let words = text::clean(notification.text.trim());
    if !words.is_empty() {
        blocks.push(section(&mrkdwn(&words, SECTION_MAX)));
    }
    match &notification.alerts[..] {
        [alert] => blocks.push(json!({ "type": "section", "fields": fields(alert) })),
        _ => {
            blocks.extend(unlisted(notification).map(|lines| section(&mrkdwn(&lines, SECTION_MAX))))
        }
    }
    blocks.push(json!({ "type": "context", "elements": [element(&context(notification))] }));
    json!({
        "text": mrkdwn(&title, FALLBACK_MAX),
        "blocks": [{
            "type": "header",
            "text": { "type": "plain_text", "text": escaped(&title, HEADER_MAX), "emoji": false },
        }],
        "attachments": [{ "color": colour(notification), "blocks": blocks }],
    })
}

fn colour(notification: &Notification) -> &'static str {
    if notification.is_resolved() {
        return "#388e3c";
    }
    match notification.severity() {
        Some(Severity::Critical) => "#d32f2f",
        Some(Severity::High) => "#f57c00",
        Some(Severity::Warning) => "#fbc02d",
        Some(Severity::Low) => "#1976d2",
        None => "#607d8b",
    }
}

/// Numbers first, then the labels; the last field counts those that found no room.
fn fields(alert: &Alert) -> Vec<Value> {
    let number = |value: Option<f64>| value.map(text::number);
    let known = [
        ("Severity", Some(alert.severity.to_string())),
        ("Metric", alert.extra("metric").map(str::to_owned)),
        ("Value", number(alert.value)),
        ("Threshold", number(alert.limit)),
        ("Since", Some(alert.started_at.to_string())),
        ("Until", alert.ended_at.map(|end| end.to_string())),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut fields: Vec<Value> = known.map(|(name, value)| field(name, &value)).collect();
    let room = FIELDS_MAX - fields.len();
    let shown = if alert.labels.len() > room {
        room - 1
    } else {
        room
    };
    for (name, value) in alert.labels.iter().take(shown) {
        fields.push(field(name, value));
    }
    if alert.labels.len() > shown {
        fields.push(element(&format!(
            "and {} more labels",
            alert.labels.len() - shown
        )));
    }
    fields
}

fn field(name: &str, value: &str) -> Value {
    let value = match text::line(value) {
        value if value.is_empty() => "–".to_owned(),
        value => value,
    };
    let name = escaped(&text::line(name), NAME_MAX);
    let room = FIELD_MAX - name.chars().count() - "**\n".len();
    element(&format!("*{name}*\n{}", mrkdwn(&value, room)))
}

/// Alerts of a group that the operator's text does not name, a line each.
fn unlisted(notification: &Notification) -> Option<String> {
    let unnamed = |alert: &&Alert| !notification.text.contains(&alert.summary);
    let unnamed: Vec<&Alert> = notification.alerts.iter().filter(unnamed).collect();
    let line = |alert: &&Alert| {
        let state = if alert.is_firing() {
            alert.severity.name()
        } else {
            "resolved"
        };
        format!("• {state}: {}", text::line(&alert.summary))
    };
    let mut lines: Vec<String> = unnamed.iter().take(LISTED_MAX).map(line).collect();
    if unnamed.len() > LISTED_MAX {
        lines.push(format!("and {} more", unnamed.len() - LISTED_MAX));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// One line: reason, host, links.
fn context(notification: &Notification) -> String {
    let first = notification.alerts.first();
    let host = notification.extra("host").or_else(|| first?.label("host"));
    let mut words = vec![notification.reason.to_string()];
    words.extend(host.map(text::line));
    let mut line = mrkdwn(&words.join(" · "), FIELD_MAX / 2);
    for (key, name) in [("runbook", "Runbook"), ("dashboard", "Dashboard")] {
        let address = first
            .and_then(|alert| alert.extra(key))
            .and_then(text::link);
        let Some(address) = address else { continue };
        let link = format!(" · <{}|{name}>", escaped(address, FIELD_MAX));
        // A link cut in two would be none.
        if line.chars().count() + link.chars().count() <= FIELD_MAX {
            line.push_str(&link);
        }
    }
    line
}

fn section(mrkdwn: &str) -> Value {
    json!({ "type": "section", "text": element(mrkdwn) })
}

/// Verbatim: Slack makes neither links nor mentions of what merely looks like them.
fn element(mrkdwn: &str) -> Value {
    json!({ "type": "mrkdwn", "text": mrkdwn, "verbatim": true })
}

/// Escaped, and addresses written as links.
fn mrkdwn(text: &str, max: usize) -> String {
    let mut fit = Fit::new(max);
    for word in text.split_inclusive([' ', '\n', '\t']) {
        let bare = word.trim_end();
        match text::link(bare) {
            Some(address) => {
                fit.push(&format!("<{}>", escaped(address, max)));
                fit.push(&word[bare.len()..]);
            }
            None => push_escaped(&mut fit, word),
        }
    }
    fit.into_string()
}

/// Slack's own three control characters, as entities; without them there is no mention and no link.
fn escaped(text: &str, max: usize) -> String {
    let mut fit = Fit::new(max);
    push_escaped(&mut fit, text);
    fit.into_string()
}

fn push_escaped(fit: &mut Fit, text: &str) {
    let mut bytes = [0; 4];
    for c in text.chars() {
        fit.push(match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => c.encode_utf8(&mut bytes),
        });
    }
}
