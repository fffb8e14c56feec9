//! What people and dashboards see of an event: a line of the log, a count, the recovery view.

use super::shown::{Shown, step_name};
use crate::telemetry::metrics::Metrics;
use std::time::Duration;
use watchfire_engine::effect::{Event, Happening};
use watchfire_engine::model::Severity;

/// Counts and logs one event, and keeps what the recovery view shows of it.
pub(super) fn note(event: &Event, metrics: &Metrics, shown: &mut Shown) {
    let alert = event.alert.as_str();
    match &event.what {
        Happening::Transition {
            from,
            to,
            value,
            cause,
            suppressed_by,
        } => {
            metrics.transitions.with([to.as_str()]).inc();
            shown
                .untold
                .transition(event, from, to, suppressed_by.is_some());
            tracing::info!(
                alert,
                from,
                to,
                value,
                cause,
                suppressed_by,
                "alert changed"
            );
        }
        Happening::Queued {
            notifier,
            id,
            reason,
            severity,
        } => {
            let severity = severity.map_or("none", Severity::name);
            tracing::info!(alert, %notifier, %id, reason = reason.name(), severity, "notification queued");
        }
        Happening::Delivered {
            notifier,
            id,
            reason,
            severity,
            attempt,
            outcome,
            message,
            delay_ms,
        } => {
            let notifications = &metrics.notifications;
            notifications
                .with([notifier.as_str(), reason.name(), outcome])
                .inc();
            let fine = *outcome == "accepted";
            if fine {
                let severity = severity.map_or("none", Severity::name);
                let delay = Duration::from_millis(*delay_ms);
                metrics
                    .acceptance_delay
                    .with([severity])
                    .observe_time(delay);
                tracing::info!(alert, %notifier, %id, reason = reason.name(), attempt, delay_ms, "notification delivered");
            } else {
                tracing::warn!(alert, %notifier, %id, reason = reason.name(), attempt, outcome, message, "notification not delivered");
            }
        }
        Happening::Superseded { notifier, id, by } => {
            tracing::info!(alert, %notifier, %id, by = by.name(), "notification superseded");
        }
        Happening::Suppressed {
            notifier,
            reason,
            severity,
            by,
        } => {
            let notifier = notifier.as_ref().map_or("none", |id| id.as_str());
            metrics.suppressed.with([notifier, reason.name()]).inc();
            let severity = severity.map_or("none", Severity::name);
            tracing::info!(
                alert,
                notifier,
                reason = reason.name(),
                severity,
                by,
                "notification suppressed"
            );
        }
        Happening::DeadLetter {
            notifier,
            id,
            message,
        } => {
            tracing::error!(alert, %notifier, %id, message, "notification given up");
        }
        Happening::Action {
            procedure,
            attempt,
            step,
            message,
        } => {
            let name = step_name(*step);
            metrics
                .recovery_attempts
                .with([procedure.as_str(), name])
                .inc();
            tracing::info!(alert, %procedure, attempt, step = name, message, "recovery");
            shown.action(event, procedure, *attempt, *step, message);
        }
        Happening::Operator { by, did } => tracing::info!(by, did, "operator"),
        Happening::Missed { rounds } => tracing::warn!(rounds, "rounds missed"),
        Happening::Back { from } => tracing::info!(from, "back"),
    }
}
