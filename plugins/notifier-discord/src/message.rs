//! The message: one embed, its texts without markup and cut to Discord's limits, the sum of them too.

use serde_json::{Value, json};
use watchfire_plugin_sdk::text::{self, Fit};
use watchfire_plugin_sdk::{Alert, Notification, Severity};

/// Characters of the title.
const TITLE_MAX: usize = 256;
/// Characters of the description.
const DESCRIPTION_MAX: usize = 4096;
/// Fields of the embed.
const FIELDS_MAX: usize = 25;
/// Characters of a field's name.
const NAME_MAX: usize = 256;
/// Characters of a field's value.
const VALUE_MAX: usize = 1024;
/// Characters of the footer; Discord would take 2048, and the rest needs the room.
const FOOTER_MAX: usize = 200;
/// Characters of everything together.
const TOTAL_MAX: usize = 6000;
/// Characters kept free for the fields, whatever the description holds.
const FIELDS_ROOM: usize = 1200;
/// Alerts that a message lists beside its text.
const LISTED_MAX: usize = 20;
/// Room for the field that counts what found no room.
const REST_ROOM: usize = 40;

/// The whole document.
pub(crate) fn message(notification: &Notification, username: Option<&str>) -> Value {
    let title = match text::line(&notification.title) {
        title if title.is_empty() => notification.reason.to_string(),
        title => title,
    };
    let title = plain(&title, TITLE_MAX);
    let footer = footer(notification);
    let used = title.chars().count() + footer.chars().count();
    let room = DESCRIPTION_MAX.min(TOTAL_MAX - used - FIELDS_ROOM);
    let description = plain(text::clean(&notification.text).trim(), room);
    let used = used + description.chars().count();

    let mut embed = json!({
        "title": title,
        "color": colour(notification),
        "fields": fields(notification, TOTAL_MAX - used),
        "footer": { "text": footer },
    });
    if !description.is_empty() {
        embed["description"] = description.into();
    }
    if let Some(alert) = notification.alerts.first() {
        let moment = alert.ended_at.unwrap_or(alert.started_at);
        embed["timestamp"] = moment.to_string().into();
        if let Some(address) = alert.extra("runbook").and_then(text::link) {
            embed["url"] = address.into();
        }
    }
    // Embeds ping nobody today; should that change, these still do not.
    let mut message = json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } });
    if let Some(username) = username {
        message["username"] = username.into();
    }
    message
}

fn colour(notification: &Notification) -> u32 {
    if notification.is_resolved() {
        return 0x38_8e_3c;
    }
    match notification.severity() {
        Some(Severity::Critical) => 0xd3_2f_2f,
        Some(Severity::High) => 0xf5_7c_00,
        Some(Severity::Warning) => 0xfb_c0_2d,
        Some(Severity::Low) => 0x19_76_d2,
        None => 0x60_7d_8b,
    }
}

fn footer(notification: &Notification) -> String {
    let first = notification.alerts.first();
    let host = notification.extra("host").or_else(|| first?.label("host"));
    let mut words = vec![notification.reason.to_string()];
    words.extend(host.map(text::line));
    // A footer knows no markup.
    text::truncate(&words.join(" · "), FOOTER_MAX).into_owned()
}

/// Of one alert the numbers, then the labels; of a group those alerts that the operator's text does not name. As many as
/// fit into `room` characters; the last field counts the others.
fn fields(notification: &Notification, room: usize) -> Vec<Value> {
    let (wanted, listed_max) = match &notification.alerts[..] {
        [alert] => (of_one(alert), FIELDS_MAX),
        alerts => {
            let unnamed = alerts
                .iter()
                .filter(|alert| !notification.text.contains(&alert.summary));
            (unnamed.map(of_group).collect(), LISTED_MAX)
        }
    };
    let mut left = room;
    let mut fields = Vec::new();
    for (at, (name, value)) in wanted.iter().enumerate() {
        let (name, value) = (filled(name, NAME_MAX), filled(value, VALUE_MAX));
        let length = name.chars().count() + value.chars().count();
        let is_last = at + 1 == wanted.len();
        let slots = if is_last { listed_max } else { listed_max - 1 };
        let spare = if is_last { 0 } else { REST_ROOM };
        if fields.len() >= slots || length + spare > left {
            fields.push(json!({ "name": "…", "value": format!("and {} more", wanted.len() - at), "inline": false }));
            break;
        }
        left -= length;
        fields.push(
            json!({ "name": name, "value": value, "inline": notification.alerts.len() == 1 }),
        );
    }
    fields
}

fn of_one(alert: &Alert) -> Vec<(String, String)> {
    let number = |value: Option<f64>| value.map(text::number);
    let known = [
        ("Metric", alert.extra("metric").map(str::to_owned)),
        ("Value", number(alert.value)),
        ("Threshold", number(alert.limit)),
        ("Severity", Some(alert.severity.to_string())),
        ("Since", Some(alert.started_at.to_string())),
        ("Until", alert.ended_at.map(|end| end.to_string())),
        (
            "Dashboard",
            alert
                .extra("dashboard")
                .and_then(text::link)
                .map(str::to_owned),
        ),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.chain(alert.labels.iter().cloned()).collect()
}

fn of_group(alert: &Alert) -> (String, String) {
    let state = if alert.is_firing() {
        alert.severity.name()
    } else {
        "resolved"
    };
    (format!("{state}: {}", alert.rule), alert.summary.clone())
}

/// A field must not be empty.
fn filled(value: &str, max: usize) -> String {
    match plain(&text::line(value), max) {
        value if value.is_empty() => "–".to_owned(),
        value => value,
    }
}

/// Without markup: what an alert carries must not draw links with a text of its own, or hide behind spoilers. Addresses
/// stay as they are, so that they can be opened.
fn plain(text: &str, max: usize) -> String {
    let mut fit = Fit::new(max);
    for word in text.split_inclusive([' ', '\n', '\t']) {
        let bare = word.trim_end();
        if let Some(address) = text::link(bare) {
            fit.push(address);
            fit.push(&word[bare.len()..]);
            continue;
        }
        for c in word.chars() {
            let mut bytes = [b'\\', 0, 0, 0, 0];
            let length = c.encode_utf8(&mut bytes[1..]).len();
            let from = usize::from(!r"\*_~`|[]<>#".contains(c));
            fit.push(std::str::from_utf8(&bytes[from..=length]).unwrap_or_default());
        }
    }
    fit.into_string()
}
