//! What a reload tells the rest of the agent: meta-alerts that are on or off, and events.

use std::collections::BTreeMap;
use std::sync::Arc;
use watchfire_engine::input::Condition;
use watchfire_engine::model::{Instance, Labels, RuleId, Severity};

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
