//! Effects as timeline lines.

use std::collections::BTreeMap;
use watchfire_engine::Send;
use watchfire_engine::effect::{ActionStep, AlertSnapshot, Event, Happening, Reason};
use watchfire_engine::model::{Instance, Labels, NotificationId};

/// Numbers the ids of notifications of the notifiers that have answers.
#[derive(Default)]
pub(crate) struct Numbers(BTreeMap<NotificationId, usize>);

impl Numbers {
    pub(crate) fn of(&mut self, id: &NotificationId) -> usize {
        let next = self.0.len() + 1;
        *self.0.entry(id.clone()).or_insert(next)
    }

    pub(crate) fn known(&self, id: &NotificationId) -> Option<usize> {
        self.0.get(id).copied()
    }
}

/// The alert's name without the labels that its rule adds.
fn name(alert: &AlertSnapshot, added: &dyn Fn(&str) -> Vec<String>) -> String {
    let labels: Labels = alert.labels.without(&added(alert.rule.as_str()));
    Instance::new(alert.rule.clone(), labels).to_string()
}

/// One attempt to send, without its answer. `since` tells when an alert began to fire.
pub(crate) fn send(
    send: &Send,
    since: &dyn Fn(&AlertSnapshot) -> u64,
    added: &dyn Fn(&str) -> Vec<String>,
) -> String {
    let notification = &send.notification;
    let alert = &notification.alerts[0];
    let named = name(alert, added);
    let mut line = match notification.reason {
        Reason::Fire | Reason::Escalation => format!("fire {} {named}", alert.severity),
        Reason::Escalate => format!("escalate {} {named}", alert.severity),
        Reason::Deescalate => format!("deescalate {} {named}", alert.severity),
        Reason::Repeat => format!("repeat {} {named}", alert.severity),
        Reason::Resolve => {
            let cause = alert.end_cause.as_ref().map(|cause| format!(" ({cause})"));
            format!("resolve {named}{}", cause.unwrap_or_default())
        }
        Reason::FlapStart => format!("flap_start {named}"),
        Reason::FlapStop => {
            let state = notification.note.as_deref().unwrap_or_default();
            format!("flap_stop({state}) {named}")
        }
        Reason::Group => {
            let group = notification.group.as_ref().expect("counts of a group");
            format!(
                "group {} firing={} new={} resolved={}",
                alert.rule, group.firing, group.new, group.resolved
            )
        }
        Reason::Exhausted => format!("exhausted {named}"),
        Reason::ApprovalWanted => format!("approval_wanted {named}"),
    };
    if notification.late {
        line.push_str(&format!(" (since {}s)", since(alert)));
    }
    if send.notifier.as_str() != "default" {
        line.push_str(&format!(" -> {}", send.notifier));
    }
    line
}

/// One row of the history, where the timeline shows it.
pub(crate) fn event(event: &Event, numbers: &Numbers) -> Option<String> {
    let alert = &event.alert;
    match &event.what {
        Happening::Back { from } => Some((*from).to_owned()),
        Happening::Missed { rounds } => Some(format!("missed {rounds}")),
        Happening::Superseded { id, by, .. } => {
            let by = by.name().replace('-', "_");
            Some(format!("supersede #{} by {by}", numbers.known(id)?))
        }
        Happening::DeadLetter { id, .. } => Some(format!("dead_letter #{}", numbers.known(id)?)),
        Happening::Action { attempt, step, .. } => match step {
            ActionStep::Start => Some(format!("action_start #{attempt} {alert}")),
            ActionStep::End => Some(format!("action_end #{attempt} {alert}")),
            ActionStep::Timeout => Some(format!("action_timeout #{attempt} {alert}")),
            ActionStep::VerifiedOk => Some(format!("action_verify #{attempt} ok {alert}")),
            ActionStep::VerifiedFail => Some(format!("action_verify #{attempt} fail {alert}")),
            ActionStep::Exhausted => Some(format!("action_exhausted {alert}")),
            ActionStep::WouldStart => Some(format!("action_would_start {alert}")),
            ActionStep::ApprovalWanted | ActionStep::Lost | ActionStep::Held => None,
        },
        Happening::Transition { .. }
        | Happening::Queued { .. }
        | Happening::Delivered { .. }
        | Happening::Operator { .. }
        | Happening::Suppressed { .. } => None,
    }
}
