//! What a reload tells the rest of the agent: meta-alerts that are on or off, and events.

use super::generation::{Generation, UseState};
use super::load::millis;
use super::registry::{Plugin, short};
use crate::config;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::input::Condition;
use watchfire_engine::model::{Instance, Labels, RuleId, Severity};

/// Tables that one alert names: what a message has room for.
const TABLES_NAMED_MAX: usize = 8;

/// Something to tell.
#[derive(Clone, Debug)]
pub enum Notice {
    /// For the engine: a meta-alert is on or off, or its reason is another one.
    Condition(Condition),
    /// For the history of events.
    Event {
        /// `plugin_loaded`, `plugin_reloaded`, `plugin_rejected`, `plugin_removed`, `plugin_restored`,
        /// `config_reloaded`, `config_rejected`.
        kind: &'static str,
        /// The plugin's name, or `config`.
        subject: Arc<str>,
        /// Details.
        body: serde_json::Value,
    },
}

/// The meta-alerts of this folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meta {
    /// The configuration on disk is not the one that runs.
    ConfigInvalid,
    /// The file of a plugin, or a use of it, was refused.
    PluginRejected(Arc<str>),
    /// A folder is only polled.
    WatchDegraded,
}

impl Meta {
    fn condition(&self, active: bool, summary: Arc<str>) -> Condition {
        let (name, severity) = match self {
            Meta::ConfigInvalid => ("watchfire_config_invalid", Severity::Warning),
            Meta::PluginRejected(_) => ("watchfire_plugin_rejected", Severity::Warning),
            Meta::WatchDegraded => ("watchfire_watch_degraded", Severity::Low),
        };
        let labels = match self {
            Meta::PluginRejected(plugin) => Labels::new([("plugin", plugin.clone())]),
            Meta::ConfigInvalid | Meta::WatchDegraded => Ok(Labels::default()),
        };
        let labels = labels.expect("`plugin` is a label name");
        Condition {
            alert: Arc::new(Instance::new(RuleId::new(name), labels)),
            severity,
            active,
            summary,
        }
    }
}

/// Which meta-alerts are on; tells changes only.
#[derive(Debug, Default)]
pub(super) struct Metas {
    on: BTreeMap<Meta, Arc<str>>,
}

impl Metas {
    /// Takes what holds now and says what changed.
    pub(super) fn set(&mut self, now: BTreeMap<Meta, Arc<str>>) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (meta, _) in self.on.iter().filter(|(meta, _)| !now.contains_key(meta)) {
            notices.push(Notice::Condition(meta.condition(false, "healed".into())));
        }
        for (meta, summary) in &now {
            if self.on.get(meta) != Some(summary) {
                notices.push(Notice::Condition(meta.condition(true, summary.clone())));
            }
        }
        self.on = now;
        notices
    }

    /// Says of metas that are not on that they are off: after a restart the engine may still hold
    /// what the process before observed.
    pub(super) fn off(&self, metas: impl IntoIterator<Item = Meta>) -> Vec<Notice> {
        metas
            .into_iter()
            .filter(|meta| !self.on.contains_key(meta))
            .map(|meta| Notice::Condition(meta.condition(false, "healed".into())))
            .collect()
    }
}

/// Meta-alerts as they follow from what is live.
pub(super) fn metas(
    generation: &Generation,
    config_refused: Option<Arc<str>>,
    watch_degraded: Option<String>,
) -> BTreeMap<Meta, Arc<str>> {
    let mut now: BTreeMap<Meta, Arc<str>> = BTreeMap::new();
    if let Some(reason) = config_refused {
        now.insert(Meta::ConfigInvalid, reason);
    }
    if let Some(reason) = watch_degraded {
        now.insert(Meta::WatchDegraded, reason.into());
    }
    for (plugin, tables) in waiting(generation) {
        let folder = generation.config.agent.plugins_dir.display();
        let (who, wait) = match &tables[..] {
            [one] => (one.clone(), "waits"),
            several => (several.join(", "), "wait"),
        };
        let mut text = format!(
            "{who} {wait} for plugin {plugin:?}: no plugin of that name is stock or installed in {folder}"
        );
        if let Some(meant) = generation.plugins.nearest(plugin) {
            text.push_str(&format!("; did you mean {meant:?}?"));
        }
        now.insert(Meta::PluginRejected(plugin.clone()), text.into());
    }
    for status in &generation.status {
        if let UseState::Rejected(reason) = &status.state {
            let kind = status.kind.name();
            let text = format!("{kind} {:?} does not run: {reason}", &*status.id);
            now.insert(Meta::PluginRejected(status.plugin.clone()), text.into());
        }
    }
    for (name, plugin) in &generation.plugins.plugins {
        if plugin.rejected.is_some() {
            let text = plugin.to_string().into();
            now.insert(Meta::PluginRejected(name.clone()), text);
        }
    }
    now
}

/// Whether `watchfire_plugin_rejected` holds for a plugin: its file or a table of it was refused, or a
/// table waits for it.
pub fn is_amiss(generation: &Generation, plugin: &str) -> bool {
    let refused = |state: &UseState| matches!(state, UseState::Rejected(_) | UseState::Waiting(_));
    let mut uses = generation.status.iter();
    generation.plugins.rejection(plugin).is_some()
        || uses.any(|status| *status.plugin == *plugin && refused(&status.state))
}

/// Tables whose plugin is not there, by its name.
fn waiting(generation: &Generation) -> BTreeMap<&Arc<str>, Vec<String>> {
    let mut all: BTreeMap<&Arc<str>, Vec<String>> = BTreeMap::new();
    for status in &generation.status {
        if let UseState::Waiting(_) = status.state {
            let tables = all.entry(&status.plugin).or_default();
            match tables.len() {
                TABLES_NAMED_MAX => tables.push("others".to_owned()),
                n if n > TABLES_NAMED_MAX => {}
                _ => tables.push(format!("{} {:?}", status.kind.table(), &*status.id)),
            }
        }
    }
    all
}

/// Logs and tells what became of one plugin.
pub(super) fn of_plugin(
    name: &Arc<str>,
    old: &Plugin,
    new: &Plugin,
    took: Duration,
) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut event = |kind, body| {
        notices.push(Notice::Event {
            kind,
            subject: name.clone(),
            body,
        });
    };
    let hash = |plugin: &Plugin| {
        plugin
            .running
            .as_ref()
            .map(|running| short(&running.sha256))
    };
    let (from, to) = (hash(old), hash(new));
    let same = match (&old.running, &new.running) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        (None, None) => true,
        _ => false,
    };
    if !same {
        let running = new.running.as_ref();
        let compile = running.and_then(|running| running.compile_time);
        tracing::info!(
            plugin = &**name,
            from,
            to,
            compile_millis = compile.map(millis),
            millis = millis(took),
            "plugin serves"
        );
        let kind = match from {
            None => "plugin_loaded",
            Some(_) => "plugin_reloaded",
        };
        let body = json!({ "from": from, "to": to, "duration_ms": millis(took) });
        event(kind, body);
    }
    if let Some(rejection) = &new.rejected
        && old.rejected.as_ref() != Some(rejection)
    {
        tracing::error!(
            plugin = &**name,
            running = to,
            reason = &*rejection.reason,
            "the plugin's file is refused"
        );
        let file = rejection.sha256.as_ref().map(short);
        let body = json!({ "running": to, "file": file, "reason": &*rejection.reason });
        event("plugin_rejected", body);
    }
    if new.removed && !old.removed {
        tracing::warn!(
            plugin = &**name,
            running = to,
            "the plugin's file is gone; it serves until the next restart"
        );
        event("plugin_removed", json!({ "running": to }));
    }
    if old.removed && !new.removed && same {
        event("plugin_restored", json!({ "running": to }));
    }
    notices
}

/// Logs and tells that the configuration is another one.
pub(super) fn of_config(old: &Generation, new: &Generation, took: Duration) -> Notice {
    let changes = config::diff(&old.config, &new.config);
    if !changes.restart.is_empty() {
        let settings = changes.restart.join(", ");
        tracing::warn!(settings, "these settings take effect at the next restart");
    }
    let rules = &changes.rules;
    tracing::info!(
        generation = new.number,
        rules_added = rules.added.len(),
        rules_removed = rules.removed.len(),
        rules_changed = rules.changed.len(),
        millis = millis(took),
        "the configuration is renewed"
    );
    Notice::Event {
        kind: "config_reloaded",
        subject: "config".into(),
        body: json!({
            "from": short(&old.config.source.digest),
            "to": short(&new.config.source.digest),
            "duration_ms": millis(took),
            "rules": { "added": rules.added, "removed": rules.removed, "changed": rules.changed },
            "restart": changes.restart,
        }),
    }
}

/// Logs every use that does not simply run.
pub(super) fn log_unready(generation: &Generation) {
    for status in &generation.status {
        if let Some(reason) = status.state.reason() {
            tracing::warn!(
                kind = status.kind.name(),
                id = &*status.id,
                plugin = &*status.plugin,
                state = status.state.name(),
                reason,
                "not everything runs"
            );
        }
    }
}
