//! What a reload changes, by the ids of the tables.

use super::model::Config;
use std::collections::BTreeMap;
use watchfire_engine::model::{NotifierId, ProbeId, ProcedureId, RuleId};

/// Everything that differs between two configurations. All empty: the reload is a no-op.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// `[[probe]]`, with effective defaults.
    pub probes: Changed<ProbeId>,
    /// `[[rule]]`; `changed` by the rule's digest.
    pub rules: Changed<RuleId>,
    /// `[[notifier]]`.
    pub notifiers: Changed<NotifierId>,
    /// `[[recovery]]`, policy and use.
    pub recoveries: Changed<ProcedureId>,
    /// `[plugin.NAME]`: pins and limits.
    pub plugins: Changed<String>,
    /// Other tables that take effect at once, such as `route`, `inhibit`, `alerting`, `secrets`.
    pub tables: Vec<&'static str>,
    /// Settings that only a restart takes up, such as `agent.data_dir`.
    pub restart: Vec<&'static str>,
}

/// Ids that came, went, or mean something else now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<T> {
    /// Not there before.
    pub added: Vec<T>,
    /// Not there any more.
    pub removed: Vec<T>,
    /// The same id with another content.
    pub changed: Vec<T>,
}

impl<T> Default for Changed<T> {
    fn default() -> Self {
        Changed {
            added: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
        }
    }
}

impl<T> Changed<T> {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl Changes {
    /// Whether the two configurations mean the same.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// Compares what runs with what shall run.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let (old_policy, new_policy) = (&old.policy, &new.policy);
    let mut changes = Changes {
        probes: compare(&old.probes, &new.probes, |p| p.id.clone(), PartialEq::eq),
        rules: compare(
            &old_policy.rules,
            &new_policy.rules,
            |rule| rule.id.clone(),
            |a, b| a.digest == b.digest,
        ),
        notifiers: compare(
            &old.notifiers,
            &new.notifiers,
            |n| n.id.clone(),
            PartialEq::eq,
        ),
        recoveries: compare(
            &old.recoveries
                .iter()
                .zip(&old_policy.procedures)
                .collect::<Vec<_>>(),
            &new.recoveries
                .iter()
                .zip(&new_policy.procedures)
                .collect::<Vec<_>>(),
            |(recovery, _)| recovery.id.clone(),
            PartialEq::eq,
        ),
        plugins: compare(
            &old.plugins.iter().collect::<Vec<_>>(),
            &new.plugins.iter().collect::<Vec<_>>(),
            |(name, _)| (*name).clone(),
            PartialEq::eq,
        ),
        ..Changes::default()
    };
    let rule_order = |config: &Config| -> Vec<RuleId> {
        let both = |id: &RuleId| {
            [old, new]
                .iter()
                .all(|c| c.rules.iter().any(|r| r.id == *id))
        };
        config
            .rules
            .iter()
            .map(|rule| rule.id.clone())
            .filter(both)
            .collect()
    };
    for (table, differs) in [
        ("agent.labels", old.agent.labels != new.agent.labels),
        ("defaults", old.defaults != new.defaults),
        ("retention", old.retention != new.retention),
        ("secrets", old.secrets != new.secrets),
        ("command", old.commands != new.commands),
        ("mail", old.mail != new.mail),
        ("rule", rule_order(old) != rule_order(new)),
        ("route", old_policy.routes != new_policy.routes),
        (
            "schedule",
            old_policy.calendar.schedules != new_policy.calendar.schedules,
        ),
        (
            "on_call",
            old_policy.calendar.rotations != new_policy.calendar.rotations,
        ),
        (
            "maintenance",
            old_policy.maintenance != new_policy.maintenance,
        ),
        ("heartbeat", old.heartbeat != new.heartbeat),
        ("inhibit", old_policy.inhibitions != new_policy.inhibitions),
        ("alerting", old_policy.alerting != new_policy.alerting),
        ("delivery", old_policy.delivery != new_policy.delivery),
        ("recover", old_policy.recover != new_policy.recover),
    ] {
        if differs {
            changes.tables.push(table);
        }
    }
    for (setting, differs) in [
        // The host's name is part of every dedup key: a change would open all incidents anew.
        ("agent.host", old.agent.host != new.agent.host),
        ("agent.data_dir", old.agent.data_dir != new.agent.data_dir),
        (
            "agent.plugins",
            old.agent.plugins_dir != new.agent.plugins_dir,
        ),
        ("api.listen", old.api.listen != new.api.listen),
        ("api.hosts", old.api.hosts != new.api.hosts),
        ("api.socket", old.api.socket != new.api.socket),
        ("log", old.log != new.log),
        ("engine", old.engine != new.engine),
    ] {
        if differs {
            changes.restart.push(setting);
        }
    }
    changes
}

fn compare<T, K: Ord + Clone>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> K,
    same: impl Fn(&T, &T) -> bool,
) -> Changed<K> {
    let before: BTreeMap<K, &T> = old.iter().map(|item| (key(item), item)).collect();
    let mut changed = Changed::default();
    for item in new {
        let id = key(item);
        match before.get(&id) {
            None => changed.added.push(id),
            Some(was) if !same(was, item) => changed.changed.push(id),
            Some(_) => {}
        }
    }
    changed.removed = old
        .iter()
        .map(&key)
        .filter(|id| new.iter().all(|item| key(item) != *id))
        .collect();
    changed
}
