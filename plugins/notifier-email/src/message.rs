//! What stands in the mail.

use std::fmt::Write as _;

use watchfire_plugin_sdk::{Alert, Notification, Severity, text};

/// Characters of the subject: what mail programs show of it, and more.
const SUBJECT_MAX: usize = 250;
/// Characters of the operator's text.
const TEXT_MAX: usize = 20_000;
/// Bytes of a part from which on no alert is added. The host takes 1 MiB for both parts; a text as HTML has at most ten bytes
/// a character (an address of ampersands), so the text has 200 kB, one alert some 300 kB, and both parts stay below.
const PART_BYTES_MAX: usize = 256 << 10;
/// Characters of a label's name, and of its value.
const LABEL_MAX: usize = 500;
/// Labels of an alert.
const LABELS_MAX: usize = 30;
/// Alerts with all that is known of them.
const ALERTS_MAX: usize = 20;
/// Characters of each side of a message's id.
const ID_MAX: usize = 100;

/// `<notification>@<host>`, without brackets: the same over retries.
pub(crate) fn id(notification: &Notification) -> String {
    let first = notification.alerts.first();
    let host = notification.extra("host").or_else(|| first?.label("host"));
    format!(
        "{}@{}",
        word(&notification.id),
        word(host.unwrap_or("watchfire"))
    )
}

/// What may stand in an id without quotes; two different texts never become one.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let has_edge = text.starts_with('.') || text.ends_with('.') || text.contains("..");
    if !text.is_empty() && !has_edge && text.len() <= ID_MAX && text.chars().all(plain) {
        return text.to_owned();
    }
    let kept: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(ID_MAX - 17)
        .collect();
    format!("{kept}-{:016x}", checksum(text))
}

/// 64-bit FNV-1a: short, and the same for ever.
pub(crate) fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn subject(notification: &Notification) -> String {
    match text::line(&notification.title) {
        title if title.is_empty() => notification.reason.to_string(),
        title => text::truncate(&title, SUBJECT_MAX).into_owned(),
    }
}

/// The operator's words, then what is known of each alert.
pub(crate) fn text(notification: &Notification) -> String {
    let mut out = words(notification);
    for (at, alert) in notification.alerts.iter().enumerate() {
        if at == ALERTS_MAX || out.len() > PART_BYTES_MAX {
            let _ = write!(out, "\n\n{}", more(notification, at));
            break;
        }
        let _ = write!(out, "\n\n{}\n", heading(alert));
        for (name, value) in rows(alert) {
            let _ = write!(out, "\n{name}: {value}");
        }
    }
    let _ = write!(
        out,
        "\n\n-- \nwatchfire, {}, {}\n",
        notification.reason, notification.id
    );
    out.trim_start().to_owned()
}

/// The same as HTML, without anything that a mail program would have to load.
pub(crate) fn html(notification: &Notification) -> String {
    let colour = colour(notification);
    let mut out = format!(
        "<!DOCTYPE html>\n<html><body style=\"font-family:sans-serif\">\n\
         <h2 style=\"border-left:6px solid {colour};padding-left:8px\">{}</h2>\n\
         <p style=\"white-space:pre-line\">{}</p>\n",
        escaped(&subject(notification)),
        linked(&words(notification)),
    );
    for (at, alert) in notification.alerts.iter().enumerate() {
        if at == ALERTS_MAX || out.len() > PART_BYTES_MAX {
            let _ = writeln!(out, "<p>{}</p>", more(notification, at));
            break;
        }
        let _ = write!(out, "<h3>{}</h3>\n<table>\n", escaped(&heading(alert)));
        for (name, value) in rows(alert) {
            let _ = writeln!(
                out,
                "<tr><th align=\"left\">{}</th><td>{}</td></tr>",
                escaped(&name),
                linked(&value)
            );
        }
        out.push_str("</table>\n");
    }
    let _ = write!(
        out,
        "<p style=\"color:#607d8b\">watchfire, {}, {}</p>\n</body></html>\n",
        escaped(notification.reason.as_str()),
        escaped(&notification.id)
    );
    out
}

/// The operator's own. Cut first: a text may be long, and the time of a call is not.
fn words(notification: &Notification) -> String {
    text::clean(&text::truncate(notification.text.trim(), TEXT_MAX))
}

fn heading(alert: &Alert) -> String {
    let state = if alert.is_firing() {
        alert.severity.name()
    } else {
        "resolved"
    };
    format!("{}, {state}", text::line(&alert.rule))
}

fn rows(alert: &Alert) -> Vec<(String, String)> {
    let number = |value: Option<f64>| value.map(text::number);
    let cut = |value: &str| text::line(&text::truncate(value, LABEL_MAX));
    let known = [
        ("summary", Some(cut(&alert.summary))),
        ("value", number(alert.value)),
        ("limit", number(alert.limit)),
        ("since", Some(alert.started_at.to_string())),
        ("until", alert.ended_at.map(|end| end.to_string())),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let given = alert.extra.iter().chain(&alert.labels).take(LABELS_MAX);
    known
        .chain(given.map(|(name, value)| (cut(name), cut(value))))
        .collect()
}

fn more(notification: &Notification, shown: usize) -> String {
    format!("and {} more", notification.alerts.len() - shown)
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

/// Escaped, and addresses as links that show where they lead.
fn linked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive([' ', '\n', '\t']) {
        let bare = word.trim_end();
        match text::link(bare) {
            Some(address) => {
                let address = escaped(address);
                let _ = write!(
                    out,
                    "<a href=\"{address}\">{address}</a>{}",
                    &word[bare.len()..]
                );
            }
            None => out.push_str(&escaped(word)),
        }
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}
