//! `/api/v1/…`: live views of what is configured. No secret leaves: see [`masked`].

use super::shape::{self, seconds, time, time_or_null};
use super::{Api, PluginStatus};
use crate::config::{Adaptive, Config};
use crate::pipeline::render::Renderer;
use crate::sandbox::types::SecretSource;
use crate::telemetry::accounts::Account;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words in a key whose value is taken for a secret, wherever it stands in a plugin's table.
const SECRET_WORDS: [&str; 11] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "routing_key",
    "access_key",
    "authorization",
    "credential",
    "cookie",
];

/// `GET /api/v1/probes`.
pub(super) async fn probes(State(api): State<Api>) -> Json<Value> {
    let all = api.views.probes.borrow().clone();
    let all = all.iter().map(|probe| {
        json!({
            "id": probe.id,
            "plugin": probe.plugin,
            "every_seconds": seconds(probe.every),
            "last_run": time_or_null(probe.last_run),
            "last_success": time_or_null(probe.last_success),
            "error": probe.error,
            "duration_seconds": probe.duration.map(|d| d.as_secs_f64()),
            "samples": probe.samples,
            "skipped": probe.skipped,
        })
    });
    Json(all.collect())
}

/// `GET /api/v1/rules`.
pub(super) async fn rules(State(api): State<Api>) -> Json<Value> {
    let all = api.views.rules.borrow().clone();
    let all = all.iter().map(|rule| {
        let worst = rule.worst.as_ref().map(
            |(labels, value, limit)| json!({ "labels": labels, "value": value, "limit": limit }),
        );
        json!({
            "id": rule.id,
            "plugin": rule.plugin,
            "instances": rule.instances,
            "breaching": rule.breaching,
            "worst": worst,
            "error": rule.error,
            "last_round": time_or_null(rule.last_round),
        })
    });
    Json(all.collect())
}

/// `GET /api/v1/notifiers`.
pub(super) async fn notifiers(State(api): State<Api>) -> Json<Value> {
    let all = api.views.notifiers.borrow().clone();
    let all = all.iter().map(|notifier| {
        json!({
            "id": notifier.id,
            "plugin": notifier.plugin,
            "delivered": notifier.delivered,
            "failed": notifier.failed,
            "running": notifier.running,
            "last_success": time_or_null(notifier.last_success),
            "error": notifier.error,
        })
    });
    Json(all.collect())
}

/// `GET /api/v1/recoveries`.
pub(super) async fn recoveries(State(api): State<Api>) -> Json<Value> {
    let view = api.views.recovery.borrow().clone();
    let all = view.procedures.iter();
    Json(
        all.map(|p| super::recovery::procedure(p, &view.recent))
            .collect(),
    )
}

/// `GET /api/v1/plugins`: what is installed, and its accounts as of now.
pub(super) async fn plugins(State(api): State<Api>) -> Json<Value> {
    let status = api.status.borrow().clone();
    let accounts = api.metrics.accounts();
    let all = status.plugins.iter().map(|plugin| {
        let mut plugin = plugin.clone();
        if let Some(of_uses) = accounts.get(&plugin.name) {
            of_uses.values().for_each(|one| plugin.account.add(one));
            for used in &mut plugin.uses {
                used.account = of_uses.get(&used.id).cloned().unwrap_or_default();
            }
        }
        shown(&plugin)
    });
    Json(all.collect())
}

/// One component, with times for people.
fn shown(plugin: &PluginStatus) -> Value {
    let mut shown = json!(plugin);
    shown["loaded_at"] = time_or_null(plugin.loaded_at);
    if let Some(rejected) = &plugin.rejected {
        shown["rejected"]["since"] = time(rejected.since);
    }
    if let Some(quarantined) = &plugin.quarantined {
        shown["quarantined"]["since"] = time(quarantined.since);
    }
    let failure_at = |account: &Account| account.last_failure.as_ref().map(|f| time(f.at));
    if let Some(at) = failure_at(&plugin.account) {
        shown["last_failure"]["at"] = at;
    }
    for (at, used) in plugin.uses.iter().enumerate() {
        let shown = &mut shown["uses"][at];
        if let Some(quarantined) = &used.quarantined {
            shown["quarantined"]["since"] = time(quarantined.since);
            shown["quarantined"]["retry_at"] = time(quarantined.retry_at);
        }
        if let Some(at) = failure_at(&used.account) {
            shown["last_failure"]["at"] = at;
        }
    }
    shown
}

/// `GET /api/v1/alerts`.
pub(super) async fn alerts(State(api): State<Api>) -> Json<Value> {
    let view = api.views.alerts.borrow().clone();
    let config = api.config.borrow().clone();
    let words = Renderer::new(&config);
    let told = |alert| shape::told(&words, alert);
    Json(json!({
        "alerts": view.alerts.iter().map(told).collect::<Vec<_>>(),
        "outbox_pending": view.outbox_pending,
        "last_seq": view.last_seq,
        "store_error": view.store_error,
    }))
}

/// `GET /api/v1/config`: what runs, and whether the files say the same.
pub(super) async fn config(State(api): State<Api>) -> Json<Value> {
    let config = api.config.borrow().clone();
    let status = api.status.borrow().clone();
    let refused = status.config_refused.as_ref();
    let refused = refused.map(|r| json!({ "message": r.message, "since": time(r.since) }));
    let mut shown = render(&config);
    shown["loaded_at"] = time(status.config_loaded_at);
    shown["refused"] = refused.into();
    shown["watch_degraded"] = status.watch_degraded.clone().into();
    Json(shown)
}

fn render(config: &Config) -> Value {
    let digest: String = config
        .source
        .digest
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let secrets: Map<String, Value> = config
        .secrets
        .iter()
        .map(|(name, source)| {
            let source = match source {
                SecretSource::Env(name) => json!({ "env": name }),
                SecretSource::File(path) => json!({ "file": path }),
            };
            (name.clone(), source)
        })
        .collect();
    let retention = &config.retention;
    json!({
        "source": {
            "main": config.source.main,
            "files": config.source.files,
            "sha256": digest,
        },
        "agent": {
            "host": config.agent.host,
            "labels": config.agent.labels,
            "data_dir": config.agent.data_dir,
            "plugins": config.agent.plugins_dir,
        },
        "api": {
            "listen": config.api.listen,
            "hosts": config.api.hosts,
            "socket": config.api.socket,
        },
        "log": {
            "level": config.log.level.as_str().to_lowercase(),
            "file": config.log.file,
        },
        "retention": {
            "alerts_seconds": seconds(retention.alerts),
            "events_seconds": seconds(retention.events),
            "metrics_seconds": seconds(retention.metrics),
            "rollups_seconds": seconds(retention.rollups),
            "metrics_bytes_max": retention.metrics_bytes_max,
        },
        // Names and places only.
        "secrets": secrets,
        "commands": config.commands.keys().collect::<Vec<_>>(),
        "mail": config.mail.as_ref().map(|mail| json!({
            "host": mail.host,
            "port": mail.port,
            "from": mail.from,
            "user": mail.user.as_ref().map(|_| MASK),
            "password": mail.password.as_ref().map(|_| MASK),
        })),
        "probes": config.probes.iter().map(|probe| json!({
            "id": probe.id,
            "plugin": probe.plugin,
            "every_seconds": seconds(probe.every),
            "timeout_seconds": seconds(probe.timeout),
            "jitter_seconds": seconds(probe.jitter),
            "adaptive": probe.adaptive.as_ref().map(adaptive),
            "labels": probe.labels,
            "grant": *probe.grant,
            "config": table(&probe.config),
        })).collect::<Vec<_>>(),
        "rules": config.rules.iter().map(|rule| json!({
            "id": rule.id,
            "plugin": rule.plugin,
            "inputs": rule.inputs.iter().map(|input| json!({
                "name": input.name,
                "metric": input.metric,
                "over_seconds": input.over.map(|d| d.as_secs_f64()),
                "aggregate": format!("{:?}", input.aggregate).to_lowercase(),
            })).collect::<Vec<_>>(),
            "by": rule.by,
            "config": table(&rule.config),
            "summary": rule.summary,
            "runbook": rule.runbook,
            "dashboard": rule.dashboard,
            "origin": rule.origin,
        })).collect::<Vec<_>>(),
        "notifiers": config.notifiers.iter().map(|notifier| json!({
            "id": notifier.id,
            "plugin": notifier.plugin,
            "timeout_seconds": seconds(notifier.timeout),
            "grant": *notifier.grant,
            "config": table(&notifier.config),
        })).collect::<Vec<_>>(),
        "recoveries": config.recoveries.iter().map(|recovery| json!({
            "id": recovery.id,
            "plugin": recovery.plugin,
            "description": recovery.description,
            "timeout_seconds": seconds(recovery.timeout),
            "grant": *recovery.grant,
            "config": table(&recovery.config),
        })).collect::<Vec<_>>(),
        "plugins": config.plugins.keys().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "plugins_folder": PathBuf::from(&config.agent.plugins_dir),
    })
}

fn adaptive(adaptive: &Adaptive) -> Value {
    json!({
        "min_seconds": seconds(adaptive.min),
        "max_seconds": seconds(adaptive.max),
        "calm": adaptive.calm,
        "grow": adaptive.grow,
        "shrink": adaptive.shrink,
    })
}

/// A plugin's table with its secrets masked.
fn table(json: &str) -> Value {
    let mut value = serde_json::from_str(json).unwrap_or(Value::Null);
    masked(&mut value, false);
    value
}

/// Masks what may be a secret: values under telling keys, user information and queries in URLs, and
/// the path of a webhook (it *is* the credential). `{{secret:name}}` only names one and stays.
fn masked(value: &mut Value, secret: bool) {
    match value {
        Value::String(text) if only_placeholder(text) => {}
        Value::String(text) if secret && !text.contains("{{secret:") => MASK.clone_into(text),
        Value::String(text) => {
            if let Some(url) = mask_url(text) {
                *text = url;
            }
        }
        Value::Number(_) | Value::Bool(_) if secret => *value = MASK.into(),
        Value::Array(all) => all.iter_mut().for_each(|item| masked(item, secret)),
        Value::Object(all) => {
            for (key, item) in all {
                let key = key.to_ascii_lowercase().replace('-', "_");
                let telling = SECRET_WORDS.iter().any(|word| key.contains(word));
                masked(item, secret || telling);
            }
        }
        _ => {}
    }
}

fn only_placeholder(text: &str) -> bool {
    text.starts_with("{{secret:") && text.ends_with("}}") && text.matches("}}").count() == 1
}

/// A URL without user information, query and the path of a webhook; none: it is no URL or holds none of them.
fn mask_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => (format!("{MASK}@"), host),
        None => (String::new(), authority),
    };
    let (before, query) = match path.find(['?', '#']) {
        Some(at) => (&path[..at], format!("?{MASK}")),
        None => (path, String::new()),
    };
    let hook = ["hooks.", "webhook", "/services/", "/bot"]
        .iter()
        .any(|sign| host.contains(sign) || before.contains(sign));
    let before = if hook && before.len() > 1 {
        format!("/{MASK}")
    } else {
        before.to_owned()
    };
    let masked = format!("{scheme}://{user}{host}{before}{query}");
    (masked != text).then_some(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_leave_in_a_table() {
        let shown = table(
            r#"{
                "url": "https://hooks.slack.com/services/T0/B0/CANARY",
                "link": "http://user:CANARY@db.example:5432/app?x=CANARY",
                "plain": "http://127.0.0.1:8080/metrics",
                "named": "{{secret:slack}}",
                "mixed": "https://x:{{secret:pw}}@h/p?t=CANARY",
                "headers": { "Authorization": "Bearer CANARY", "X-Api-Key": "CANARY", "accept": "a/b" },
                "auth": { "password": ["CANARY"], "pin_secret": 1234 },
                "above": { "warning": 0.7 }
            }"#,
        );
        assert!(!shown.to_string().contains("CANARY"), "{shown}");
        assert!(!shown.to_string().contains("1234"), "{shown}");
        assert_eq!(shown["url"], "https://hooks.slack.com/***");
        assert_eq!(shown["link"], "http://***@db.example:5432/app?***");
        assert_eq!(shown["plain"], "http://127.0.0.1:8080/metrics");
        assert_eq!(shown["named"], "{{secret:slack}}");
        assert_eq!(shown["headers"]["accept"], "a/b");
        assert_eq!(shown["above"]["warning"], 0.7);
    }
}
