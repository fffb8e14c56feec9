//! `/health` and its relatives. Everything is read from published views: no answer waits for the pipeline.
//!
//! healthy: nothing fires and every part works. degraded: something fires below critical, or a part
//! (a probe, a rule, a notifier, the store …) does less than it should. unhealthy: a critical alert fires, or the pipeline stands.
//! unknown: no round was decided yet. A mute changes who hears of an alert, never the status.

use super::Api;
use super::shape::{self, seconds, time, time_or_null};
use crate::pipeline::view::standing_after;
use crate::plugin::{UseState, UseStatus};
use crate::sandbox::types::Kind;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use watchfire_engine::effect::AlertView;
use watchfire_engine::model::Severity;

/// What a part or the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    Healthy,
    Unknown,
    Degraded,
    Unhealthy,
}

impl Health {
    /// What an alert at `severity` means for its part.
    fn of(severity: Severity) -> Self {
        if severity == Severity::Critical {
            Health::Unhealthy
        } else {
            Health::Degraded
        }
    }

    fn code(self) -> StatusCode {
        match self {
            Health::Healthy | Health::Degraded => StatusCode::OK,
            Health::Unhealthy | Health::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// One line of `/health/detailed`.
#[derive(Clone, Debug, Serialize)]
struct Component {
    name: String,
    kind: &'static str,
    status: Health,
    value: Option<f64>,
    threshold: Option<f64>,
    message: Option<String>,
}

impl Component {
    fn new(kind: &'static str, name: impl Into<String>, fault: Option<String>) -> Self {
        Component {
            name: name.into(),
            kind,
            status: if fault.is_some() {
                Health::Degraded
            } else {
                Health::Healthy
            },
            value: None,
            threshold: None,
            message: fault,
        }
    }
}

/// `GET /health`.
pub(super) async fn health(State(api): State<Api>) -> Response {
    let status = api.health();
    (status.code(), Json(api.verdict(status))).into_response()
}

/// `GET /health/live`: the process answers and the pipeline turns. Alerts do not matter.
pub(super) async fn live(State(api): State<Api>) -> Response {
    let reason = api.stands();
    let code = if reason.is_none() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let last_round = api.views.pipeline.borrow().last_round;
    let body = json!({
        "live": reason.is_none(),
        "reason": reason,
        "timestamp": shape::now(),
        "last_round": time_or_null(last_round),
    });
    (code, Json(body)).into_response()
}

/// `GET /health/ready`: interface, store and schedule are up.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    let store_error = api.views.alerts.borrow().store_error.clone();
    let scheduled = api.status.borrow().scheduled;
    let ready = store_error.is_none() && scheduled;
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ready": ready,
        "timestamp": shape::now(),
        "api": true,
        "store": store_error.is_none(),
        "schedule": scheduled,
        "reason": store_error,
    });
    (code, Json(body)).into_response()
}

/// `GET /health/detailed`. The same code as `/health`.
pub(super) async fn detailed(State(api): State<Api>) -> Response {
    let status = api.health();
    let mut body = api.verdict(status);
    let alerts: Vec<Value> = api
        .views
        .alerts
        .borrow()
        .alerts
        .iter()
        .filter(|alert| alert.severity.is_some())
        .map(shape::alert)
        .collect();
    body["components"] = json!(api.components());
    body["alerts"] = alerts.into();
    (status.code(), Json(body)).into_response()
}

/// `GET /health/events`: the pipeline's own queue, rates, latencies.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of rounds are far below 2^53"
)]
pub(super) async fn events(State(api): State<Api>) -> Json<Value> {
    let uptime = api.uptime().as_secs_f64().max(f64::MIN_POSITIVE);
    let pipeline = api.views.pipeline.borrow().clone();
    let metrics = &api.metrics;
    let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
    let alerts = api.views.alerts.borrow().clone();
    let (runs, idle) = {
        let status = api.status.borrow();
        let idle = status.uses.iter().filter(|used| is_idle(used)).count();
        (status.runs, idle)
    };
    Json(json!({
        "timestamp": shape::now(),
        "uptime_seconds": uptime,
        "queue": {
            "outbox_pending": alerts.outbox_pending,
            "commands_pending": api.views.commands.max_capacity() - api.views.commands.capacity(),
        },
        "last_seq": alerts.last_seq,
        "rounds": {
            "total": pipeline.rounds,
            "missed": pipeline.missed,
            "per_second": pipeline.rounds as f64 / uptime,
            "last": time_or_null(pipeline.last_round),
            "longest_interval_seconds": seconds(pipeline.longest_interval),
        },
        "latency": {
            "last_seconds": pipeline.last_latency.map(|d| d.as_secs_f64()),
            "mean_seconds": mean(metrics.round_duration.sum(), metrics.round_duration.count()),
            "commit_mean_seconds": mean(metrics.commit_duration.sum(), metrics.commit_duration.count()),
            "probe_lateness_mean_seconds": mean(metrics.probe_lateness.sum(), metrics.probe_lateness.count()),
        },
        "handlers": {
            "probes": runs.probes,
            "rules": runs.rules,
            "notifiers": runs.notifiers,
            "recoveries": runs.recoveries,
            "not_running": idle,
        },
        "deliveries_running": api.views.notifiers.borrow().iter().map(|n| n.running).sum::<usize>(),
        "recoveries_running": api.views.recovery.borrow().running.len(),
        // Live streams come with a later version; until then nobody can subscribe.
        "subscribers": 0,
    }))
}

impl Api {
    /// The whole in one word.
    fn health(&self) -> Health {
        if self.stands().is_some() {
            return Health::Unhealthy;
        }
        let alerts = self
            .views
            .alerts
            .borrow()
            .alerts
            .iter()
            .filter_map(|alert| alert.severity)
            .max()
            .map_or(Health::Healthy, Health::of);
        if self.views.pipeline.borrow().last_round.is_none() && alerts != Health::Unhealthy {
            return Health::Unknown;
        }
        // A part that has not been asked yet makes nothing worse.
        self.components()
            .iter()
            .map(|part| part.status)
            .filter(|status| *status > Health::Unknown)
            .fold(alerts, Health::max)
    }

    fn verdict(&self, status: Health) -> Value {
        json!({
            "status": status,
            "timestamp": shape::now(),
            "uptime_seconds": self.uptime().as_secs_f64(),
            "version": env!("CARGO_PKG_VERSION"),
            "service": "watchfire",
        })
    }

    /// Why the pipeline does not turn; none: it does.
    pub fn stands(&self) -> Option<String> {
        let longest = self.views.pipeline.borrow().longest_interval;
        let limit = standing_after(longest);
        let silent = self.since_turn();
        // Without any probe there are no rounds to wait for.
        (!longest.is_zero() && silent > limit).then(|| {
            format!(
                "no round for {} s; one is due every {} s",
                silent.as_secs(),
                longest.as_secs_f64()
            )
        })
    }

    /// Parts of the agent itself, whether at fault or not.
    fn parts(&self) -> Vec<Component> {
        let status = self.status.borrow().clone();
        let mut all = vec![
            self.pipeline_part(),
            Component::new(
                "agent",
                "store",
                self.views.alerts.borrow().store_error.clone(),
            ),
            Component::new(
                "agent",
                "config",
                status.config_refused.as_ref().map(|r| r.message.clone()),
            ),
        ];
        for plugin in &status.plugins {
            let rejected = plugin.rejected.as_ref().map(|r| &r.reason);
            let quarantined = plugin.quarantined.as_ref().map(|q| &q.message);
            let fault = rejected.or(quarantined).cloned();
            all.push(Component::new("plugin", plugin.name.clone(), fault));
        }
        all
    }

    fn pipeline_part(&self) -> Component {
        let mut part = Component::new("agent", "pipeline", self.stands());
        if part.message.is_some() {
            part.status = Health::Unhealthy;
        } else if self.views.pipeline.borrow().last_round.is_none() {
            part.status = Health::Unknown;
            part.message = Some("no round was decided yet".to_owned());
        }
        part
    }

    /// Tables that no view shows: those that do not run, for want of their plugin or because it said no, and
    /// rules that no round has judged yet.
    fn not_shown(&self) -> Vec<Component> {
        let status = self.status.borrow().clone();
        let rules = self.views.rules.borrow().clone();
        let judged: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        let part = |used: &UseStatus| {
            let (kind, id) = (used.kind.table(), &*used.id);
            if is_idle(used) {
                let why = used.state.reason().unwrap_or_default();
                let message = format!("{}, does not run: {why}", used.state.name());
                return Some(Component::new(kind, id, Some(message)));
            }
            (used.kind == Kind::Rule && !judged.contains(id)).then(|| Component {
                status: Health::Unknown,
                message: Some("not judged yet".to_owned()),
                ..Component::new(kind, id, None)
            })
        };
        status.uses.iter().filter_map(part).collect()
    }

    /// Alerts that fire of rules that are no part: the agent's own, and rules that combine others.
    fn other_alerts(&self, shown: &[Component]) -> Vec<Component> {
        let alerts = self.views.alerts.borrow().clone();
        let rules = shown.iter().filter(|part| part.kind == "rule");
        let rules: BTreeSet<&str> = rules.map(|part| part.name.as_str()).collect();
        let mut worst: BTreeMap<&str, (&AlertView, usize)> = BTreeMap::new();
        for alert in &alerts.alerts {
            let rule = alert.instance.rule.as_str();
            if alert.severity.is_none() || rules.contains(rule) {
                continue;
            }
            let (most, count) = worst.entry(rule).or_insert((alert, 0));
            *count += 1;
            if alert.severity > most.severity {
                *most = alert;
            }
        }
        let part = |(rule, (alert, count)): (&str, (&AlertView, usize))| {
            let mut message = words(alert);
            if count > 1 {
                message.push_str(&format!(" (and {} more)", count - 1));
            }
            Component {
                status: alert.severity.map_or(Health::Healthy, Health::of),
                value: alert.snapshot.value,
                threshold: alert.snapshot.limit,
                ..Component::new("alert", rule, Some(message))
            }
        };
        worst.into_iter().map(part).collect()
    }

    /// Every part, every probe, rule, notifier and procedure, and alerts of nothing of these.
    fn components(&self) -> Vec<Component> {
        let mut all = self.parts();
        all.extend(self.not_shown());
        for probe in self.views.probes.borrow().iter() {
            let mut component = Component::new("probe", probe.id.as_str(), probe.error.clone());
            if probe.last_run.is_none() && probe.error.is_none() {
                component.status = Health::Unknown;
            }
            all.push(component);
        }
        let alerts = self.views.alerts.borrow().clone();
        for rule in self.views.rules.borrow().iter() {
            let mut component = Component::new("rule", rule.id.as_str(), rule.error.clone());
            if rule.last_round.is_none() && rule.error.is_none() && rule.plugin.is_some() {
                component.status = Health::Unknown;
            }
            if let Some((_, value, limit)) = &rule.worst {
                component.value = *value;
                component.threshold = *limit;
            }
            let of_rule = |alert: &&AlertView| alert.instance.rule == rule.id;
            let worst = alerts.alerts.iter().filter(of_rule);
            if let Some(alert) = worst
                .filter(|a| a.severity.is_some())
                .max_by_key(|a| a.severity)
            {
                component.status = alert.severity.map_or(component.status, Health::of);
                component.value = alert.snapshot.value.or(component.value);
                component.threshold = alert.snapshot.limit.or(component.threshold);
                component.message.get_or_insert_with(|| words(alert));
            }
            all.push(component);
        }
        for notifier in self.views.notifiers.borrow().iter() {
            all.push(Component::new(
                "notifier",
                notifier.id.as_str(),
                notifier.error.clone(),
            ));
        }
        let recovery = self.views.recovery.borrow().clone();
        for procedure in &recovery.procedures {
            let mut component = Component::new("recovery", procedure.id.as_str(), None);
            if recovery.paused {
                component.message = Some("recovery is paused by an operator".to_owned());
            } else if !procedure.waiting_for_approval.is_empty() {
                component.message = Some(format!(
                    "waits for approval: {}",
                    procedure.waiting_for_approval.join(", ")
                ));
            }
            all.push(component);
        }
        let others = self.other_alerts(&all);
        all.extend(others);
        all
    }
}

/// Whether a table does not run at all.
fn is_idle(used: &UseStatus) -> bool {
    matches!(used.state, UseState::Waiting(_) | UseState::Rejected(_))
}

/// An alert in one line.
fn words(alert: &AlertView) -> String {
    let plain = || {
        let since = time(alert.since);
        format!(
            "{} is {} since {}",
            alert.instance,
            alert.state,
            since.as_str().unwrap_or("?")
        )
    };
    alert.snapshot.note.clone().unwrap_or_else(plain)
}
