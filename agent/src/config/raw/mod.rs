//! The mirror of the files: what is written, typed, with its place. No defaults and no relations
//! yet; those are `resolve`'s.

mod alert;
mod grant;
mod hours;
mod probe;
mod rule;
mod settings;
mod timing;

pub(super) use alert::{RawInhibit, RawMatch, RawNotifier, RawRecovery, RawRoute};
pub(super) use grant::RawGrant;
pub(super) use hours::{RawHeartbeat, RawMaintenance, RawOnCall, RawSchedule};
pub(super) use probe::{RawAdaptive, RawAdaptiveChoice, RawProbe};
pub(super) use rule::{RawInput, RawJudge, RawRule, compile};
pub(super) use settings::{
    RawAgent, RawApi, RawCommand, RawLog, RawMail, RawPlugin, RawRetention, parse_sha256,
};
pub(super) use timing::{RawAlerting, RawDefaults, RawDelivery, RawRecover};

use super::file::{At, Place};
use super::model::EngineConfig;
use super::read::{Table, is_name};
use crate::sandbox::types::SecretSource;

/// Everything that was written.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) agent: RawAgent,
    pub(super) api: RawApi,
    pub(super) log: RawLog,
    pub(super) engine: EngineConfig,
    pub(super) retention: RawRetention,
    pub(super) secrets: Vec<(String, SecretSource)>,
    pub(super) commands: Vec<(String, RawCommand)>,
    pub(super) mail: Option<RawMail>,
    pub(super) plugins: Vec<(String, RawPlugin)>,
    pub(super) defaults: RawDefaults,
    pub(super) alerting: RawAlerting,
    pub(super) delivery: RawDelivery,
    pub(super) recover: RawRecover,
    pub(super) probes: Vec<RawProbe>,
    pub(super) rules: Vec<RawRule>,
    pub(super) notifiers: Vec<RawNotifier>,
    pub(super) routes: Vec<RawRoute>,
    pub(super) inhibits: Vec<RawInhibit>,
    pub(super) schedules: Vec<RawSchedule>,
    pub(super) on_calls: Vec<RawOnCall>,
    pub(super) maintenances: Vec<RawMaintenance>,
    pub(super) heartbeat: Option<RawHeartbeat>,
    pub(super) recoveries: Vec<RawRecovery>,
}

/// Tables of product.md and decisions.md whose feature does not exist yet.
const LATER: &[&str] = &["silence", "push", "export"];

/// Reads the joined files; every mistake goes to the reader.
pub(super) fn read(root: &Table<'_, '_>) -> Raw {
    let raw = Raw {
        agent: settings::agent(root),
        api: settings::api(root),
        log: settings::log(root),
        engine: settings::engine(root),
        retention: settings::retention(root),
        secrets: settings::secrets(root),
        commands: settings::commands(root),
        mail: settings::mail(root),
        plugins: settings::plugins(root),
        defaults: timing::defaults(root),
        alerting: timing::alerting(root),
        delivery: timing::delivery(root),
        recover: timing::recover(root),
        probes: root
            .tables("probe")
            .iter()
            .filter_map(probe::probe)
            .collect(),
        rules: root.tables("rule").iter().filter_map(rule::rule).collect(),
        notifiers: root
            .tables("notifier")
            .iter()
            .filter_map(alert::notifier)
            .collect(),
        routes: root.tables("route").iter().map(alert::route).collect(),
        inhibits: root
            .tables("inhibit")
            .iter()
            .filter_map(alert::inhibit)
            .collect(),
        schedules: root
            .tables("schedule")
            .iter()
            .filter_map(hours::schedule)
            .collect(),
        on_calls: root
            .tables("on_call")
            .iter()
            .filter_map(hours::on_call)
            .collect(),
        maintenances: root
            .tables("maintenance")
            .iter()
            .filter_map(hours::maintenance)
            .collect(),
        heartbeat: hours::heartbeat(root),
        recoveries: root
            .tables("recovery")
            .iter()
            .filter_map(alert::recovery)
            .collect(),
    };
    root.later(LATER);
    root.finish();
    raw
}

/// The `id` of a table; a missing or impossible one is reported.
fn id(table: &Table<'_, '_>) -> Option<At<String>> {
    if !table.has("id") {
        table.string("id"); // Known, though missing.
        table.missing(
            "id",
            "every table needs a stable id: id = \"…\"; its state follows the id",
        );
        return None;
    }
    let id = table.string("id")?;
    if !is_name(&id.value) {
        table.reader().mistake(
            id.at,
            table.path(),
            format!("{:?} cannot be an id", id.value),
            "use letters, digits, `_`, `-`, `.` and `:`, at most 128",
        );
        return None;
    }
    Some(id)
}

/// Labels: a table of names with strings.
fn labels(table: &Table<'_, '_>, key: &'static str) -> Vec<(At<String>, String)> {
    let Some(labels) = table.table(key) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in labels.entries() {
        let Some(value) = entry.string() else {
            continue;
        };
        if !watchfire_engine::model::is_label_name(&entry.name) {
            labels.reader().mistake(
                entry.key_at,
                entry.path(),
                format!("{:?} cannot be the name of a label", entry.name),
                "use letters, digits and `_`, no digit first",
            );
            continue;
        }
        let name = At {
            value: entry.name.clone(),
            at: entry.key_at,
        };
        all.push((name, value.value));
    }
    all
}

/// The plugin's own table with the place of its key; empty where none was written.
fn plugin_config(table: &Table<'_, '_>) -> super::read::Json {
    table
        .get("config")
        .and_then(|entry| entry.json())
        .unwrap_or_else(|| super::read::Json {
            value: serde_json::Value::Object(serde_json::Map::new()),
            ..Default::default()
        })
}

/// A template; its syntax is checked here, where its place is known.
fn template(table: &Table<'_, '_>, key: &'static str) -> Option<std::sync::Arc<str>> {
    let text = table.string(key)?;
    if let Err(error) = minijinja::Environment::empty().template_from_str(&text.value) {
        let reason = error
            .detail()
            .map_or_else(|| error.kind().to_string(), str::to_owned);
        table.reader().mistake(
            text.at,
            &format!("{}.{key}", table.path()),
            format!("`{key}` is no valid template: {reason}"),
            "write for example \"CPU at {{ value }} on {{ labels.host }}\"",
        );
        return None;
    }
    Some(text.value.into())
}

/// A place for messages about a table as a whole.
fn here(table: &Table<'_, '_>) -> Place {
    table.at
}
