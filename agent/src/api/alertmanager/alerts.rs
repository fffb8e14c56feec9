//! Alerts in Alertmanager's form, out and in.

use super::query::Filter;
use super::{refused, reworded};
use crate::api::alerts::taking;
use crate::api::shape::{Time, time};
use crate::api::silences::wall_now;
use crate::api::{Api, order};
use crate::config::Config;
use crate::pipeline::render::Renderer;
use crate::pipeline::view::Order;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::RESOLVE_TIMEOUT;
use watchfire_engine::effect::AlertView;
use watchfire_engine::input::Pushed;
use watchfire_engine::model::{Instance, Labels, RuleId, Severity, WallTime};

/// The labels by which Alertmanager and its tools know the alert.
fn labels(config: &Config, alert: &AlertView) -> Labels {
    let own = [
        ("alertname", alert.instance.rule.as_str()),
        ("severity", alert.snapshot.severity.name()),
    ];
    let host = Labels::new([("host", &*config.agent.host)]).unwrap_or_default();
    let of_host = host.with(&config.agent.labels);
    // Both names are valid and differ.
    let own = Labels::new(own).unwrap_or_default();
    of_host.with(&alert.snapshot.labels).with(&own)
}

fn one(config: &Config, alert: &AlertView, receivers: &[String]) -> Value {
    let snapshot = &alert.snapshot;
    let external = alert.external.as_ref();
    let mut annotations: BTreeMap<Arc<str>, Arc<str>> =
        external.map(|e| e.annotations.clone()).unwrap_or_default();
    let words = || Renderer::new(config).alert(snapshot).summary.into();
    annotations.entry("summary".into()).or_insert_with(words);
    let rule = config.rules.iter().find(|rule| rule.id == snapshot.rule);
    if let Some(runbook) = rule.and_then(|rule| rule.runbook.clone()) {
        annotations.insert("runbook_url".into(), runbook);
    }
    let ends_in = external.map_or(RESOLVE_TIMEOUT, |external| external.ends_in);
    let ends_in = u64::try_from(ends_in.as_millis()).unwrap_or(u64::MAX);
    let ends = WallTime(wall_now().0.saturating_add(ends_in));
    let (silenced, inhibited) = mutes(alert);
    let state = match silenced.is_empty() && inhibited.is_empty() {
        true => "active",
        false => "suppressed",
    };
    let names = receivers.iter().map(|name| json!({ "name": name }));
    json!({
        "annotations": annotations,
        "labels": labels(config, alert),
        "fingerprint": alert.instance.fingerprint,
        "receivers": names.collect::<Vec<_>>(),
        "startsAt": time(snapshot.started_at),
        "endsAt": time(ends),
        "updatedAt": time(alert.since),
        "generatorURL": external.and_then(|e| e.link.clone()).unwrap_or_default(),
        "status": { "state": state, "silencedBy": silenced, "inhibitedBy": inhibited },
    })
}

/// Ids of silences and windows, and names of inhibiting alerts.
fn mutes(alert: &AlertView) -> (Vec<&str>, Vec<&str>) {
    let inhibited = |by: &&str| by.starts_with("inhibited by ");
    let all = || alert.muted_by.iter().map(String::as_str);
    let silenced = all().filter(|by| !inhibited(by));
    let silenced = silenced.map(|by| by.strip_prefix("silence ").unwrap_or(by));
    let inhibiting = all().filter_map(|by| by.strip_prefix("inhibited by "));
    (silenced.collect(), inhibiting.collect())
}

fn receivers(config: &Config, alert: &AlertView) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (_, route) in taking(&config.policy.routes, alert) {
        for name in route.notify.iter().map(ToString::to_string) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    all
}

fn is_wanted(filter: &Filter, config: &Config, alert: &AlertView, receivers: &[String]) -> bool {
    let (silenced, inhibited) = mutes(alert);
    let active = silenced.is_empty() && inhibited.is_empty();
    let labels = labels(config, alert);
    let mut tests = filter.tests.iter();
    alert.severity.is_some()
        && (filter.active || !active)
        && (filter.silenced || silenced.is_empty())
        && (filter.inhibited || inhibited.is_empty())
        && filter
            .receiver
            .as_ref()
            .is_none_or(|test| receivers.iter().any(|r| crate::matcher::passes(test, r)))
        && tests.all(|test| crate::matcher::passes(test, labels.get(&test.name).unwrap_or("")))
}

/// `GET /api/v2/alerts`: those that fire.
pub(super) async fn alerts(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let filter = match Filter::parse(query.as_deref()) {
        Ok(filter) => filter,
        Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
    };
    let config = api.config.borrow().clone();
    let view = api.views.alerts.borrow().clone();
    let mut all = Vec::new();
    for alert in &view.alerts {
        let receivers = receivers(&config, alert);
        if is_wanted(&filter, &config, alert, &receivers) {
            all.push(one(&config, alert, &receivers));
        }
    }
    Json(all).into_response()
}

/// `GET /api/v2/alerts/groups`: by receiver and the labels of its route's `group_by`.
pub(super) async fn groups(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let filter = match Filter::parse(query.as_deref()) {
        Ok(filter) => filter,
        Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
    };
    let config = api.config.borrow().clone();
    let view = api.views.alerts.borrow().clone();
    let mut groups: BTreeMap<(String, Labels), Vec<Value>> = BTreeMap::new();
    for alert in &view.alerts {
        let receivers = receivers(&config, alert);
        if !is_wanted(&filter, &config, alert, &receivers) {
            continue;
        }
        let all = labels(&config, alert);
        let shown = one(&config, alert, &receivers);
        for (_, route) in taking(&config.policy.routes, alert) {
            let by: Vec<&str> = route
                .group_by
                .iter()
                .map(|name| if **name == *"rule" { "alertname" } else { name })
                .collect();
            for name in route.notify.iter().map(ToString::to_string) {
                let group = groups.entry((name, all.only(&by))).or_default();
                group.push(shown.clone());
            }
        }
    }
    let groups = groups.into_iter().map(|((receiver, labels), alerts)| {
        json!({ "labels": labels, "receiver": { "name": receiver }, "alerts": alerts })
    });
    Json(groups.collect::<Vec<_>>()).into_response()
}

/// One alert as senders post it; unknown fields are passed over, as Alertmanager does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(default)]
    starts_at: Option<Time>,
    #[serde(default)]
    ends_at: Option<Time>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<Arc<str>>,
}

/// Go's zero time, which some clients send for "none".
fn is_given(at: &jiff::Timestamp) -> bool {
    at.as_second() > 0
}

/// `POST /api/v2/alerts`: alerts with a time to live.
pub(super) async fn push(State(api): State<Api>, body: Bytes) -> Response {
    let posted: Vec<Posted> = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => {
            let text = format!("a list of alerts is wanted: {error}");
            return refused(StatusCode::BAD_REQUEST, &text);
        }
    };
    let now = jiff::Timestamp::now();
    let mut batch = Vec::with_capacity(posted.len());
    for one in posted {
        match pushed(one, now) {
            Ok(pushed) => batch.push(pushed),
            Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
        }
    }
    match order::give(&api, Some("sender"), Order::Push(batch)).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => reworded(refusal).await,
    }
}

fn pushed(posted: Posted, now: jiff::Timestamp) -> Result<Pushed, String> {
    let mut labels = posted.labels;
    // As Alertmanager: a label without a value is none.
    labels.retain(|_, value| !value.is_empty());
    let name = labels
        .remove("alertname")
        .ok_or("an alert needs the label alertname")?;
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        || name.contains(['{', '*'])
    {
        return Err(format!(
            "alertname {name:?}: write printable ASCII without `{{` and `*`"
        ));
    }
    let severity = labels.remove("severity");
    let severity = severity.as_deref().map_or(Severity::Warning, severity_of);
    let labels = Labels::new(labels).map_err(|error| format!("alertname {name:?}: {error}"))?;
    let starts = posted.starts_at.map(|at| at.0).filter(is_given);
    let ends = posted.ends_at.map(|at| at.0).filter(is_given);
    if let (Some(starts), Some(ends)) = (starts, ends)
        && ends < starts
    {
        return Err(format!("alertname {name:?} ends before it begins"));
    }
    let ttl = match ends {
        None => RESOLVE_TIMEOUT,
        Some(ends) => Duration::try_from(ends.duration_since(now)).unwrap_or(Duration::ZERO),
    };
    let summary = ["summary", "description", "message"]
        .iter()
        .find_map(|key| posted.annotations.get(*key).cloned());
    Ok(Pushed {
        alert: Arc::new(Instance::new(RuleId::new(name), labels)),
        severity,
        ttl,
        summary,
        annotations: posted.annotations,
        link: posted.generator_url.filter(|url| !url.is_empty()),
    })
}

/// Words that people use for severities; what is none of them is a warning: it was worth an alert.
fn severity_of(word: &str) -> Severity {
    let word = word.to_ascii_lowercase();
    match &*word {
        "critical" | "page" | "emergency" | "fatal" | "disaster" | "p1" => Severity::Critical,
        "high" | "error" | "major" | "p2" => Severity::High,
        "low" | "info" | "information" | "informational" | "none" | "notice" | "p4" => {
            Severity::Low
        }
        _ => Severity::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pushed, String> {
        pushed(
            serde_json::from_str(text).unwrap(),
            "2026-01-01T00:00:00Z".parse().unwrap(),
        )
    }

    #[test]
    fn a_posted_alert_keeps_its_identity_whatever_its_severity() {
        let of = |severity: &str| {
            let text = format!(
                r#"{{"labels": {{"alertname": "Backup", "job": "a", "severity": "{severity}", "empty": ""}},
                    "annotations": {{"description": "d"}}, "generatorURL": "http://x/"}}"#
            );
            read(&text).unwrap()
        };
        let (warning, critical) = (of("warning"), of("page"));
        assert_eq!(warning.alert.fingerprint, critical.alert.fingerprint);
        assert_eq!(warning.alert.to_string(), "Backup{job=\"a\"}");
        assert_eq!(critical.severity, Severity::Critical);
        assert_eq!(critical.ttl, RESOLVE_TIMEOUT);
        assert_eq!(critical.summary.as_deref(), Some("d"));
        assert_eq!(critical.link.as_deref(), Some("http://x/"));
    }

    #[test]
    fn the_end_is_the_time_to_live() {
        for (ends, ttl) in [
            ("2026-01-01T00:04:00Z", 240),
            ("2025-12-31T23:59:59.5Z", 0),
            ("0001-01-01T00:00:00Z", 300),
        ] {
            let text = format!(r#"{{"labels": {{"alertname": "a"}}, "endsAt": "{ends}"}}"#);
            assert_eq!(read(&text).unwrap().ttl, Duration::from_secs(ttl), "{ends}");
        }
    }

    #[test]
    fn what_is_no_alert_is_refused_with_a_reason() {
        for (text, word) in [
            (r#"{"labels": {}}"#, "alertname"),
            (r#"{"labels": {"alertname": "a{b"}}"#, "printable"),
            (
                r#"{"labels": {"alertname": "a", "b-c": "d"}}"#,
                "label name",
            ),
            (
                r#"{"labels": {"alertname": "a"}, "startsAt": "2026-01-02T00:00:00Z", "endsAt": "2026-01-01T00:00:00Z"}"#,
                "before it begins",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
