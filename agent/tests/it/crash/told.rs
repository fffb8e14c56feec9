//! What the world saw, as words: for comparing runs and for a failure's message.

use super::world::World;
use std::sync::Arc;
use watchfire::store::{EventType, StoredEvent};
use watchfire_engine::effect::{AlertSnapshot, Notification};

/// What reached a service.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) at: u64,
    pub(super) notifier: String,
    pub(super) notification: Arc<Notification>,
    /// The service said yes.
    pub(super) accepted: bool,
}

impl World {
    /// What happened, for a failure's message.
    pub(super) fn log(&self) -> Vec<String> {
        let mut lines: Vec<(u64, String)> = Vec::new();
        for arrival in &self.arrivals {
            let said = if arrival.accepted { "" } else { " (refused)" };
            let id = arrival.notification.id.as_str();
            let text = format!("{}{said} [{}]", content(arrival), &id[..6]);
            lines.push((arrival.at, text));
        }
        let deaths = self.died.iter();
        lines.extend(deaths.map(|death| (death.at, format!("*** dies: {}", death.what))));
        lines.extend(
            self.acted
                .iter()
                .map(|(at, what)| (*at, format!("act {what}"))),
        );
        lines.sort_by_key(|(at, _)| *at);
        let lines = lines.into_iter();
        lines
            .map(|(at, text)| format!("{:>8.1}s {text}", at as f64 / 1_000.0))
            .collect()
    }
}

/// What a message says, without its id and its times.
pub(super) fn content(arrival: &Arrival) -> String {
    let said = &arrival.notification;
    let mut text = format!("{} {}", arrival.notifier, said.reason.name());
    if let Some(group) = &said.group {
        let (firing, new, resolved) = (group.firing, group.new, group.resolved);
        text.push_str(&format!(
            " {} firing={firing} new={new} resolved={resolved}",
            group.labels
        ));
    }
    for alert in &said.alerts {
        let end = if alert.ended_at.is_some() {
            " over"
        } else {
            ""
        };
        let cause = alert.end_cause.as_deref().unwrap_or_default();
        let (name, episode, severity) = (name(alert), alert.episode, alert.severity);
        text.push_str(&format!(" {name}#{episode} {severity}{end} {cause}"));
    }
    text.trim_end().to_owned()
}

/// `cpu{i="0"}`.
pub(super) fn name(alert: &AlertSnapshot) -> String {
    format!("{}{}", alert.rule, alert.labels)
}

/// Whether it is the agent's own.
pub(super) fn is_meta(rule: &str) -> bool {
    rule.starts_with("watchfire_")
}

/// Kinds of events that say what became of messages.
pub(super) fn is_of_notifications(event: &StoredEvent) -> bool {
    event.event.kind == EventType::Notification
}
