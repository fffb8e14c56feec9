//! Words for people: summaries, titles and texts, from the engine's snapshots and the operator's
//! templates (minijinja).
//!
//! A template that fails to render at run time falls back to the plain sentence and says why in the
//! log: a page with plain words is better than none.

use crate::config::{Config, NotifierConfig, RuleConfig};
use crate::sandbox::types::{Alert, Message};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use std::time::Duration;
use watchfire_engine::effect::{AlertSnapshot, Notification, Reason};
use watchfire_engine::model::{Labels, WallTime, format_duration};

/// Renders under one configuration.
pub struct Renderer<'a> {
    config: &'a Config,
    templates: Environment<'static>,
}

impl<'a> Renderer<'a> {
    /// Cheap: templates are parsed when used, once a message.
    pub fn new(config: &'a Config) -> Self {
        Renderer {
            config,
            templates: environment(),
        }
    }

    /// A notification as its notifier's component gets it.
    pub fn message(&self, notification: &Notification, notifier: &NotifierConfig) -> Message {
        let alerts: Vec<Alert> = notification.alerts.iter().map(|a| self.alert(a)).collect();
        let title = plain_title(notification, &alerts);
        let text = plain_text(notification, &alerts);
        let values = context! {
            reason => notification.reason.name(),
            alerts => Value::from(Serde(&alerts)),
            alert => Value::from(Serde(alerts.first())),
            labels => Value::from(Serde(alerts.first().map(|a| label_map(&a.labels)))),
            severity => alerts.first().map(|a| a.severity.name()),
            summary => alerts.first().map(|a| a.summary.clone()),
            value => alerts.first().and_then(|a| a.value),
            limit => alerts.first().and_then(|a| a.limit),
            title => title.clone(),
            text => text.clone(),
            host => &*self.config.agent.host,
        };
        let rendered = |template: &Option<std::sync::Arc<str>>, plain: String, what: &str| {
            let Some(template) = template else { return plain };
            self.templates
                .render_str(template, &values)
                .unwrap_or_else(|error| {
                    tracing::warn!(notifier = %notifier.id, what, %error, "template failed: plain words are sent");
                    plain
                })
        };
        let title = rendered(&notifier.title, title.clone(), "title");
        let text = rendered(&notifier.text, text.clone(), "text");
        Message {
            id: notification.id.as_str().to_owned(),
            dedup_key: notification.dedup_key.clone(),
            reason: notification.reason.name().to_owned(),
            alerts,
            title,
            text,
            extra: self.extra(notification),
        }
    }

    /// An alert as notifiers and actions get it.
    pub fn alert(&self, snapshot: &AlertSnapshot) -> Alert {
        let rule = self.config.rules.iter().find(|rule| rule.id == snapshot.rule);
        let labels = self.config.agent.labels.with(&snapshot.labels);
        let mut extra = Vec::new();
        let mut add = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                extra.push((key.to_owned(), value.to_owned()));
            }
        };
        add("runbook", rule.and_then(|rule| rule.runbook.as_deref()));
        add("dashboard", rule.and_then(|rule| rule.dashboard.as_deref()));
        add("metric", rule.and_then(metric));
        add("end-cause", snapshot.end_cause.as_deref());
        Alert {
            fingerprint: snapshot.fingerprint.to_string(),
            episode: snapshot.episode,
            rule: snapshot.rule.as_str().to_owned(),
            severity: snapshot.severity,
            summary: self.summary(snapshot, rule, &labels),
            labels: labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            value: snapshot.value,
            limit: snapshot.limit,
            started_at_ms: snapshot.started_at.0,
            ended_at_ms: snapshot.ended_at.map(|end| end.0),
            extra,
        }
    }

    /// The rule's own template, or a plain sentence.
    fn summary(&self, snapshot: &AlertSnapshot, rule: Option<&RuleConfig>, labels: &Labels) -> String {
        let unit = rule.and_then(metric).map_or(Unit::Plain, Unit::of);
        let value = snapshot.value.map(|value| unit.write(value));
        let limit = snapshot.limit.map(|limit| unit.write(limit));
        if let Some(template) = rule.and_then(|rule| rule.summary.as_deref()) {
            let values = context! {
                value => value.as_deref().unwrap_or("unknown"),
                limit => limit.as_deref().unwrap_or("unknown"),
                raw_value => snapshot.value,
                raw_limit => snapshot.limit,
                labels => Value::from(Serde(labels)),
                severity => snapshot.severity.name(),
                rule => snapshot.rule.as_str(),
                note => snapshot.note.clone(),
                host => &*self.config.agent.host,
            };
            match self.templates.render_str(template, values) {
                Ok(text) => return text,
                Err(error) => {
                    tracing::warn!(rule = %snapshot.rule, %error, "summary template failed: plain words are used");
                }
            }
        }
        if let Some(note) = &snapshot.note {
            return note.clone();
        }
        let own = snapshot.labels.without(&["host"]);
        match (value, limit) {
            (Some(value), Some(limit)) => {
                format!("{}{own} is {value} (limit {limit})", snapshot.rule)
            }
            (Some(value), None) => format!("{}{own} is {value}", snapshot.rule),
            _ => format!("{}{own}", snapshot.rule),
        }
    }

    fn extra(&self, notification: &Notification) -> Vec<(String, String)> {
        let mut extra = vec![("host".to_owned(), self.config.agent.host.to_string())];
        if let Some(group) = &notification.group {
            extra.push(("group".to_owned(), group.labels.to_string()));
            extra.push(("firing".to_owned(), group.firing.to_string()));
            extra.push(("new".to_owned(), group.new.to_string()));
            extra.push(("resolved".to_owned(), group.resolved.to_string()));
        }
        if let Some(note) = &notification.note {
            extra.push(("note".to_owned(), note.clone()));
        }
        if notification.late {
            extra.push(("late".to_owned(), "true".to_owned()));
        }
        extra
    }
}

/// The template engine with our filters. Also used by `check` to parse templates.
pub fn environment() -> Environment<'static> {
    let mut templates = Environment::new();
    templates.add_filter("percent", |value: f64| Unit::Ratio.write(value));
    templates.add_filter("bytes", |value: f64| Unit::Bytes.write(value));
    templates.add_filter("seconds", |value: f64| Unit::Seconds.write(value));
    templates
}

fn label_map(labels: &[(String, String)]) -> std::collections::BTreeMap<&str, &str> {
    labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

fn metric(rule: &RuleConfig) -> Option<&str> {
    rule.inputs.first().map(|input| &*input.metric)
}

fn plain_title(notification: &Notification, alerts: &[Alert]) -> String {
    let Some(first) = alerts.first() else {
        return notification.reason.name().to_owned();
    };
    let severity = first.severity.name().to_uppercase();
    let one = &first.summary;
    match notification.reason {
        Reason::Group => {
            let (firing, resolved) = notification
                .group
                .as_ref()
                .map_or((0, 0), |group| (group.firing, group.resolved));
            if alerts.len() == 1 && firing == 1 {
                format!("[{severity}] {one}")
            } else if firing == 0 {
                format!("[RESOLVED] {}: {resolved} resolved", first.rule)
            } else {
                format!("[{severity}] {}: {firing} firing, {resolved} resolved", first.rule)
            }
        }
        Reason::Resolve => format!("[RESOLVED] {one}"),
        Reason::FlapStart => format!("[FLAPPING] {one}"),
        Reason::FlapStop => format!("[SETTLED] {one}"),
        Reason::Exhausted => format!("[{severity}] recovery gave up: {one}"),
        Reason::ApprovalWanted => format!("[{severity}] recovery waits for approval: {one}"),
        Reason::Escalation => format!("[{severity}] nobody acknowledged: {one}"),
        Reason::Repeat => format!("[{severity}] still firing: {one}"),
        Reason::Fire | Reason::Escalate | Reason::Deescalate => format!("[{severity}] {one}"),
    }
}

fn plain_text(notification: &Notification, alerts: &[Alert]) -> String {
    let mut lines: Vec<String> = alerts.iter().map(line).collect();
    let shown = u32::try_from(alerts.len()).unwrap_or(u32::MAX);
    if let Some(group) = &notification.group
        && group.firing + group.resolved > shown
    {
        lines.push(format!("and {} more", group.firing + group.resolved - shown));
    }
    if let Some(note) = &notification.note {
        lines.push(note.clone());
    }
    let runbook = |alert: &Alert| {
        let found = alert.extra.iter().find(|(key, _)| key == "runbook");
        found.map(|(_, link)| format!("runbook: {link}"))
    };
    lines.extend(alerts.first().and_then(runbook));
    lines.join("\n")
}

fn line(alert: &Alert) -> String {
    let since = rfc3339(WallTime(alert.started_at_ms));
    match alert.ended_at_ms {
        None => format!("{}: {} since {since}", alert.severity, alert.summary),
        Some(end) => {
            let lasted = Duration::from_millis(end.saturating_sub(alert.started_at_ms) / 1_000 * 1_000);
            format!(
                "resolved: {} (from {since}, for {})",
                alert.summary,
                format_duration(lasted)
            )
        }
    }
}

/// `2026-11-21T04:05:24Z`.
pub fn rfc3339(wall: WallTime) -> String {
    let millis = i64::try_from(wall.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.0}"))
}

/// What a metric's name says of its unit (Prometheus naming).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Plain,
    Ratio,
    Bytes,
    Seconds,
}

impl Unit {
    fn of(metric: &str) -> Unit {
        let base = metric.strip_suffix("_total").unwrap_or(metric);
        if base.ends_with("_ratio") {
            Unit::Ratio
        } else if base.ends_with("_bytes") {
            Unit::Bytes
        } else if base.ends_with("_seconds") {
            Unit::Seconds
        } else {
            Unit::Plain
        }
    }

    fn write(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => value.to_string(),
            Unit::Ratio => format!("{}%", short(value * 100.0)),
            Unit::Bytes => {
                let names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
                let mut at = 0;
                let mut rest = value;
                while rest.abs() >= 1_024.0 && at + 1 < names.len() {
                    rest /= 1_024.0;
                    at += 1;
                }
                format!("{} {}", short(rest), names[at])
            }
            Unit::Seconds if value.abs() >= 120.0 => {
                let whole = Duration::try_from_secs_f64(value.abs().round()).unwrap_or_default();
                let sign = if value < 0.0 { "-" } else { "" };
                format!("{sign}{}", format_duration(whole))
            }
            Unit::Seconds if value.abs() < 1.0 => format!("{} ms", short(value * 1_000.0)),
            Unit::Seconds => format!("{} s", short(value)),
            Unit::Plain => short(value),
        }
    }
}

/// At most three decimals, none that are zero.
fn short(value: f64) -> String {
    let text = if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_the_unit_of_the_metric() {
        for (metric, value, written) in [
            ("cpu_usage_ratio", 0.8731, "87.31%"),
            ("memory_available_bytes", 3.5 * 1_073_741_824.0, "3.5 GiB"),
            ("service_latency_seconds", 0.25, "250 ms"),
            ("uptime_seconds", 93_784.0, "1d2h3m4s"),
            ("queue_size", 1_000.0, "1000"),
            ("cpu_seconds_total", 2.5, "2.5 s"),
            ("queue_size", f64::INFINITY, "inf"),
        ] {
            assert_eq!(Unit::of(metric).write(value), written, "{metric}");
        }
    }

    #[test]
    fn times_are_written_to_the_second_in_utc() {
        assert_eq!(rfc3339(WallTime(1_795_233_924_500)), "2026-11-21T04:05:24Z");
    }
}
