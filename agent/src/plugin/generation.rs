//! One consistent whole of configuration and live plugins. A stage that holds one sees nothing move.

use super::quarantine::Quarantine;
use super::registry::PluginSet;
use crate::config::{Config, NotifierConfig, ProbeConfig, RecoveryConfig, RuleConfig};
use crate::sandbox::types::{Kind, Limits, Needs};
use crate::sandbox::{Action, Notifier, Probe, Rule};
use std::collections::BTreeMap;
use std::sync::Arc;
use watchfire_engine::model::{NotifierId, ProcedureId};

/// What the pipeline runs, from one reload to the next.
///
/// A use that a reload did not change is the same `Arc` in both generations: compare by pointer to
/// keep its timers, its clients, its place in the schedule.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Counts up from 1 in this process.
    pub number: u64,
    /// The configuration that holds.
    pub config: Arc<Config>,
    /// What is installed.
    pub plugins: Arc<PluginSet>,
    /// Probes that can run: those of the configuration in its order, then dropped-in ones by name.
    pub probes: Vec<Arc<LiveProbe>>,
    /// Rules that can be judged, in the order of the configuration; composites are not among them.
    pub rules: Vec<Arc<LiveRule>>,
    /// Notifiers that can send.
    pub notifiers: BTreeMap<NotifierId, Arc<LiveNotifier>>,
    /// Procedures that can act.
    pub actions: BTreeMap<ProcedureId, Arc<LiveAction>>,
    /// Every use, running or not.
    pub status: Vec<UseStatus>,
}

/// How many tables run, of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes, dropped-in ones without a table among them.
    pub probes: usize,
    /// Rules; those that combine others always run.
    pub rules: usize,
    /// Notifiers.
    pub notifiers: usize,
    /// Recovery procedures.
    pub recoveries: usize,
}

impl Generation {
    /// How many tables run: what the log of a start and `status` say.
    pub fn counts(&self) -> Counts {
        let rules = self.config.rules.iter();
        let composites = rules.filter(|rule| rule.plugin.is_none()).count();
        Counts {
            probes: self.probes.len(),
            rules: self.rules.len() + composites,
            notifiers: self.notifiers.len(),
            recoveries: self.actions.len(),
        }
    }

    /// Every use that runs, with its budget of errors and what its calls may spend.
    pub fn uses(&self) -> impl Iterator<Item = RunningUse<'_>> {
        fn shown<'g>(
            kind: Kind,
            id: &'g str,
            plugin: &'g Arc<str>,
            quarantine: &'g Quarantine,
            limits: &'g Limits,
        ) -> RunningUse<'g> {
            RunningUse {
                kind,
                id,
                plugin,
                quarantine,
                limits,
            }
        }
        let probes = self.probes.iter().map(|live| {
            let (id, plugin) = (live.config.id.as_str(), &live.config.plugin);
            shown(Kind::Probe, id, plugin, &live.quarantine, &live.limits)
        });
        let rules = self.rules.iter().filter_map(|live| {
            let (id, plugin) = (live.config.id.as_str(), live.config.plugin.as_ref()?);
            let (quarantine, limits) = (&live.quarantine, &live.limits);
            Some(shown(Kind::Rule, id, plugin, quarantine, limits))
        });
        let notifiers = self.notifiers.values().map(|live| {
            let (id, plugin) = (live.config.id.as_str(), &live.config.plugin);
            shown(Kind::Notifier, id, plugin, &live.quarantine, &live.limits)
        });
        let actions = self.actions.values().map(|live| {
            let (id, plugin) = (live.config.id.as_str(), &live.config.plugin);
            shown(Kind::Action, id, plugin, &live.quarantine, &live.limits)
        });
        probes.chain(rules).chain(notifiers).chain(actions)
    }

    /// Notifiers whose plugin says that its service keeps one incident a key.
    pub fn folding_notifiers(&self) -> Vec<NotifierId> {
        let folds = |live: &LiveNotifier| {
            let plugin = self.plugins.plugins.get(&live.config.plugin);
            let running = plugin.and_then(|plugin| plugin.running.as_ref());
            running.is_some_and(|installed| {
                let extra = &installed.description.extra;
                extra
                    .iter()
                    .any(|(k, v)| k == "folds-by" && v == "dedup-key")
            })
        };
        let all = self.notifiers.iter().filter(|(_, live)| folds(live));
        all.map(|(id, _)| id.clone()).collect()
    }
}

/// What all kinds of running uses have in common.
#[derive(Clone, Copy, Debug)]
pub struct RunningUse<'g> {
    /// Which kind of table.
    pub kind: Kind,
    /// Its id.
    pub id: &'g str,
    /// The component it names.
    pub plugin: &'g Arc<str>,
    /// Whether it may be called.
    pub quarantine: &'g Quarantine,
    /// What a call may spend.
    pub limits: &'g Limits,
}

/// A probe that took its configuration.
#[derive(Clone, Debug)]
pub struct LiveProbe {
    /// Its table; for a dropped-in probe without one, the defaults.
    pub config: ProbeConfig,
    /// What is called.
    pub probe: Probe,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// What a call may spend.
    pub limits: Limits,
    /// Whether it may be called; every caller asks.
    pub quarantine: Arc<Quarantine>,
}

/// A rule that took its configuration.
#[derive(Clone, Debug)]
pub struct LiveRule {
    /// Its table.
    pub config: RuleConfig,
    /// What is called.
    pub rule: Rule,
    /// What it wants beside current values.
    pub needs: Needs,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// What a call may spend.
    pub limits: Limits,
    /// Whether it may be called; every caller asks.
    pub quarantine: Arc<Quarantine>,
}

/// A notifier that took its configuration.
#[derive(Clone, Debug)]
pub struct LiveNotifier {
    /// Its table.
    pub config: NotifierConfig,
    /// What is called.
    pub notifier: Notifier,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// What a call may spend.
    pub limits: Limits,
    /// Whether it may be called; every caller asks.
    pub quarantine: Arc<Quarantine>,
}

/// A procedure whose action took its configuration.
#[derive(Clone, Debug)]
pub struct LiveAction {
    /// Its table.
    pub config: RecoveryConfig,
    /// What is called.
    pub action: Action,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// What a call may spend.
    pub limits: Limits,
    /// Whether it may be called; every caller asks.
    pub quarantine: Arc<Quarantine>,
}

/// How one use of a plugin stands.
#[derive(Clone, Debug, PartialEq)]
pub struct UseStatus {
    /// Which kind of table.
    pub kind: Kind,
    /// Its id.
    pub id: Arc<str>,
    /// The component it names.
    pub plugin: Arc<str>,
    /// How it stands.
    pub state: UseState,
}

/// How a use stands.
#[derive(Clone, Debug, PartialEq)]
pub enum UseState {
    /// It runs.
    Running,
    /// It runs as before, though its component could not be renewed: why.
    Kept(Arc<str>),
    /// Its component is not there: what to do.
    Waiting(Arc<str>),
    /// Its component or its table was refused: why.
    Rejected(Arc<str>),
}

impl UseState {
    /// `running`, `kept`, `waiting`, `rejected`.
    pub fn name(&self) -> &'static str {
        match self {
            UseState::Running => "running",
            UseState::Kept(_) => "kept",
            UseState::Waiting(_) => "waiting",
            UseState::Rejected(_) => "rejected",
        }
    }

    /// Why it does not simply run.
    pub fn reason(&self) -> Option<&str> {
        match self {
            UseState::Running => None,
            UseState::Kept(reason) | UseState::Waiting(reason) | UseState::Rejected(reason) => {
                Some(reason)
            }
        }
    }
}
