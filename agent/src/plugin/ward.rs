//! Tells the rest of the agent who is quarantined: as meta-alerts, as events, and for the API.
//!
//! Follows generations and the bell of [`Quarantine`](super::Quarantine). It never decides: whoever calls a
//! component does, and a reload does, by making a new use with a full budget.

use super::generation::Generation;
use super::notice::Notice;
use super::quarantine::Held;
use crate::sandbox::types::Kind;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};
use watchfire_engine::input::Condition;
use watchfire_engine::model::{Instance, Labels, RuleId, Severity};

/// The name of the meta-alert; nobody else raises it.
pub const QUARANTINED: &str = "watchfire_plugin_quarantined";

/// One use that is not called for now.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// Which kind of table.
    pub kind: Kind,
    /// Its id.
    pub id: Arc<str>,
    /// The component it names.
    pub plugin: Arc<str>,
    /// Since when and why.
    pub held: Held,
}

impl Quarantined {
    /// Which use, in all generations.
    fn key(&self) -> (Kind, Arc<str>) {
        (self.kind, self.id.clone())
    }
}

impl std::fmt::Display for Quarantined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, id) = (self.kind.name(), &*self.id);
        write!(
            f,
            "{kind} {id:?} is not called for up to five minutes at a time, after five failures in a row: {}",
            self.held.reason
        )
    }
}

/// Everyone who is quarantined, as their uses say.
fn all(generation: &Generation) -> Vec<Quarantined> {
    let held = generation.uses().filter_map(|used| {
        Some(Quarantined {
            kind: used.kind,
            id: used.id.into(),
            plugin: used.plugin.clone(),
            held: used.quarantine.held()?,
        })
    });
    held.collect()
}

/// Runs until nobody makes generations any more.
pub async fn watch(
    mut generation: watch::Receiver<Arc<Generation>>,
    bell: Arc<Notify>,
    notices: mpsc::Sender<Notice>,
    publish: watch::Sender<Arc<Vec<Quarantined>>>,
) {
    loop {
        let now = all(&generation.borrow_and_update());
        let before = publish.send_replace(Arc::new(now.clone()));
        for notice in changes(&before, &now) {
            // The alert stage drains them while this waits; without it the agent ends.
            let _ = notices.send(notice).await;
        }
        tokio::select! {
            changed = generation.changed() => if changed.is_err() { return },
            () = bell.notified() => {}
        }
    }
}

/// What there is to tell.
fn changes(before: &[Quarantined], now: &[Quarantined]) -> Vec<Notice> {
    let keys = |all: &[Quarantined]| all.iter().map(Quarantined::key).collect::<BTreeSet<_>>();
    let (old, new) = (keys(before), keys(now));
    let mut notices = Vec::new();
    for one in now.iter().filter(|one| !old.contains(&one.key())) {
        notices.push(event("plugin-quarantined", one));
    }
    for one in before.iter().filter(|one| !new.contains(&one.key())) {
        notices.push(event("plugin-released", one));
    }
    let (old, new) = (summaries(before), summaries(now));
    for (plugin, summary) in &new {
        if old.get(plugin) != Some(summary) {
            notices.push(condition(plugin, true, summary));
        }
    }
    for plugin in old.keys().filter(|plugin| !new.contains_key(*plugin)) {
        let healed = "it answers again, or another file or table took its place";
        notices.push(condition(plugin, false, healed));
    }
    notices
}

fn event(kind: &'static str, one: &Quarantined) -> Notice {
    Notice::Event {
        kind,
        subject: one.plugin.clone(),
        body: json!({
            "kind": one.kind.name(),
            "id": &*one.id,
            "reason": &*one.held.reason,
            "since_ms": one.held.since.0,
            "trials": one.held.trials,
        }),
    }
}

/// Of each component, its quarantined uses in words that stay while the quarantine does.
fn summaries(all: &[Quarantined]) -> BTreeMap<Arc<str>, String> {
    let mut summaries: BTreeMap<Arc<str>, String> = BTreeMap::new();
    for one in all {
        let summary = summaries.entry(one.plugin.clone()).or_default();
        if !summary.is_empty() {
            summary.push_str("; ");
        }
        summary.push_str(&one.to_string());
    }
    summaries
}

fn condition(plugin: &Arc<str>, active: bool, summary: &str) -> Notice {
    let labels = Labels::new([("plugin", plugin.clone())]).expect("`plugin` is a label name");
    Notice::Condition(Condition {
        alert: Arc::new(Instance::new(RuleId::new(QUARANTINED), labels)),
        severity: Severity::High,
        active,
        summary: summary.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_engine::model::WallTime;

    fn one(plugin: &str, id: &str, trials: u32) -> Quarantined {
        Quarantined {
            kind: Kind::Probe,
            id: id.into(),
            plugin: plugin.into(),
            held: Held {
                since: WallTime(1),
                reason: "it trapped".into(),
                retry_at: WallTime(2),
                trials,
            },
        }
    }

    fn told(before: &[Quarantined], now: &[Quarantined]) -> Vec<String> {
        let line = |notice| match notice {
            Notice::Event { kind, subject, .. } => format!("{kind} {subject}"),
            Notice::Condition(c) => format!("{} {}", c.alert, c.active),
        };
        changes(before, now).into_iter().map(line).collect()
    }

    #[test]
    fn begin_and_end_are_told_and_trials_are_not() {
        let name = "watchfire_plugin_quarantined{plugin=\"p\"}";
        let alone = [one("p", "a", 0)];
        assert_eq!(
            told(&[], &alone),
            ["plugin-quarantined p".into(), format!("{name} true")]
        );
        assert!(told(&alone, &[one("p", "a", 3)]).is_empty());
        let both = [one("p", "a", 0), one("p", "b", 0)];
        assert_eq!(
            told(&alone, &both),
            ["plugin-quarantined p".into(), format!("{name} true")]
        );
        assert_eq!(
            told(&both, &[one("p", "b", 0)]),
            ["plugin-released p".into(), format!("{name} true")]
        );
        assert_eq!(
            told(&alone, &[]),
            ["plugin-released p".into(), format!("{name} false")]
        );
    }
}
