//! Messages for notifiers, alerts for actions, and their answers.

use super::{TEXT_BYTES_MAX, cut_owned, pairs};
use crate::sandbox::bindings::action::exports::watchfire::plugin::action as act;
use crate::sandbox::bindings::notifier::exports::watchfire::plugin::notifier as notify;
use crate::sandbox::bindings::wit::types as wit;
use crate::sandbox::types::{Alert, Message, Outcome, Receipt};
use watchfire_engine::model::Severity;

/// Bytes of a service's own id.
const REMOTE_ID_BYTES_MAX: usize = 1 << 10;

pub(crate) fn alert_to_wit(alert: Alert) -> wit::Alert {
    wit::Alert {
        fingerprint: alert.fingerprint,
        episode: alert.episode,
        rule: alert.rule,
        severity: match alert.severity {
            Severity::Low => wit::Severity::Low,
            Severity::Warning => wit::Severity::Warning,
            Severity::High => wit::Severity::High,
            Severity::Critical => wit::Severity::Critical,
        },
        labels: alert.labels,
        value: alert.value,
        limit: alert.limit,
        summary: alert.summary,
        started_at: alert.started_at_ms,
        ended_at: alert.ended_at_ms,
        extra: alert.extra,
    }
}

pub(crate) fn message_to_wit(message: Message) -> notify::Notification {
    notify::Notification {
        id: message.id,
        dedup_key: message.dedup_key,
        reason: message.reason,
        alerts: message.alerts.into_iter().map(alert_to_wit).collect(),
        title: message.title,
        text: message.text,
        extra: message.extra,
    }
}

pub(crate) fn receipt(answer: notify::Receipt) -> Receipt {
    let id = answer.remote_id;
    Receipt {
        remote_id: id.map(|id| cut_owned(id, REMOTE_ID_BYTES_MAX)),
        extra: pairs(answer.extra),
    }
}

pub(crate) fn outcome(answer: act::Outcome) -> Outcome {
    Outcome {
        did: cut_owned(answer.did, TEXT_BYTES_MAX),
        changed: answer.changed,
    }
}
