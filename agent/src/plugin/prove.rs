//! Makes the next [`Generation`] from a configuration and a set of components, proving every use that
//! changed: the kind is there, the table is taken, a new version of a probe survives a trial collection.
//!
//! Nothing here changes what runs. A failure names who is to blame, and the caller leaves that one
//! as it was and tries again: a new component that fails keeps its old version, a new table that
//! fails keeps the whole old configuration. Where nothing runs yet, at the first start, nobody is to
//! blame: what fails is left out and told, the rest runs.

mod kinds;

use super::generation::{
    Generation, LiveAction, LiveNotifier, LiveProbe, LiveRule, UseState, UseStatus,
};
use super::quarantine::Quarantine;
use super::registry::{Installed, Origin, PluginSet};
use crate::config::{Config, PluginConfig, ProbeConfig};
use crate::sandbox::types::{CallError, Grants, Kind, Limits, Use};
use crate::sandbox::unmet;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use watchfire_engine::model::{Labels, NotifierId, ProbeId, ProcedureId};

/// Uses proved at the same time: a trial may wait for a dead target until its limit, and must not make
/// the others wait behind it one by one.
const AT_ONCE: usize = 8;

/// Who keeps a generation from being made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Blame {
    /// The new version of this component; the reason.
    Plugin(Arc<str>, String),
    /// The new configuration; the reason.
    Config(String),
}

/// Why a use does not come up.
struct Refusal {
    reason: String,
    /// Whether the plugin says that its table or its grants are wrong.
    about_table: bool,
}

impl Refusal {
    fn of_call(verb: &str, error: &CallError) -> Self {
        Refusal {
            reason: super::plain(&format!("{verb} failed: {error}")),
            about_table: matches!(error, CallError::Config(_) | CallError::Denied(_)),
        }
    }
}

/// What all four kinds of tables have.
struct Spec {
    id: Arc<str>,
    plugin: Arc<str>,
    config: Arc<str>,
    grants: Arc<Grants>,
    /// None: the kind's default.
    wall: Option<Duration>,
}

/// One kind of use.
trait Live: Sized + Send + Sync + 'static {
    type Table: Clone + Send + Sync + 'static;
    const KIND: Kind;

    fn spec(table: &Self::Table) -> Option<Spec>;
    fn table(&self) -> &Self::Table;
    /// Whether both mean the same to the plugin and to the pipeline.
    fn is_same(a: &Self::Table, b: &Self::Table) -> bool;
    fn made_with(&self) -> (&[u8; 32], &Limits);
    /// Instantiates, configures and, where asked, tries; changes nothing.
    fn bring_up(
        table: Self::Table,
        installed: &Installed,
        used: Use,
        trial: bool,
        quarantine: Arc<Quarantine>,
    ) -> impl Future<Output = Result<Self, Refusal>> + Send;
}

/// The inputs of a generation.
pub(super) struct Proof<'a> {
    /// What runs; none: the first start.
    pub(super) previous: Option<&'a Generation>,
    pub(super) config: Arc<Config>,
    pub(super) plugins: Arc<PluginSet>,
    /// Rings when a use that comes up here is quarantined or released.
    pub(super) quarantine_bell: &'a Arc<Notify>,
}

impl Proof<'_> {
    /// The next generation, or who is in its way.
    pub(super) async fn generation(&self) -> Result<Generation, Blame> {
        let old = self.previous;
        let old_config = old.map(|old| &*old.config);
        let live = |uses: &[_]| index::<LiveProbe>(uses);
        let probes = self.uses(
            self.probe_tables(),
            old_config.map_or(&[][..], |config| &config.probes),
            live(old.map_or(&[], |old| &old.probes)),
        );
        let rules = self.uses(
            self.config.rules.clone(),
            old_config.map_or(&[][..], |config| &config.rules),
            index::<LiveRule>(old.map_or(&[], |old| &old.rules)),
        );
        let notifiers = self.uses(
            self.config.notifiers.clone(),
            old_config.map_or(&[][..], |config| &config.notifiers),
            old.map_or_else(BTreeMap::new, |old| {
                by_id::<LiveNotifier>(old.notifiers.values())
            }),
        );
        let actions = self.uses(
            self.config.recoveries.clone(),
            old_config.map_or(&[][..], |config| &config.recoveries),
            old.map_or_else(BTreeMap::new, |old| {
                by_id::<LiveAction>(old.actions.values())
            }),
        );
        let (probes, rules, notifiers, actions) =
            tokio::try_join!(probes, rules, notifiers, actions)?;
        let mut status = Vec::new();
        let probes = split(probes, &mut status);
        let rules = split(rules, &mut status);
        let notifiers = split(notifiers, &mut status);
        let actions = split(actions, &mut status);
        Ok(Generation {
            number: old.map_or(1, |old| old.number + 1),
            config: self.config.clone(),
            plugins: self.plugins.clone(),
            probes,
            rules,
            notifiers: notifiers
                .into_iter()
                .map(|live| (live.config.id.clone(), live))
                .collect::<BTreeMap<NotifierId, _>>(),
            actions: actions
                .into_iter()
                .map(|live| (live.config.id.clone(), live))
                .collect::<BTreeMap<ProcedureId, _>>(),
            status,
        })
    }

    /// The configured probes, then the dropped-in components that no table names.
    fn probe_tables(&self) -> Vec<ProbeConfig> {
        let mut tables = self.config.probes.clone();
        let named: BTreeSet<&str> = tables.iter().map(|table| &*table.plugin).collect();
        let taken: BTreeSet<&str> = tables.iter().map(|table| table.id.as_str()).collect();
        let mut dropped = Vec::new();
        for (name, plugin) in &self.plugins.plugins {
            let runs_alone = plugin.running.as_ref().is_some_and(|running| {
                matches!(running.origin, Origin::DropIn(_)) && running.is(Kind::Probe)
            });
            if runs_alone && !named.contains(&**name) && !taken.contains(&**name) {
                dropped.push(self.probe_without_table(name));
            }
        }
        tables.extend(dropped);
        tables
    }

    fn probe_without_table(&self, name: &Arc<str>) -> ProbeConfig {
        let defaults = &self.config.defaults;
        ProbeConfig {
            id: ProbeId::new(name.clone()),
            plugin: name.clone(),
            every: defaults.every,
            timeout: defaults.timeout,
            jitter: defaults.jitter,
            adaptive: defaults.adaptive,
            grant: Arc::new(Grants::default()),
            config: "{}".into(),
            labels: Labels::default(),
        }
    }

    /// All uses of a kind, in order.
    async fn uses<L: Live>(
        &self,
        tables: Vec<L::Table>,
        old_tables: &[L::Table],
        old: BTreeMap<Arc<str>, Arc<L>>,
    ) -> Result<Vec<(Option<Arc<L>>, UseStatus)>, Blame> {
        let old_tables: BTreeMap<Arc<str>, &L::Table> = old_tables
            .iter()
            .filter_map(|table| Some((L::spec(table)?.id, table)))
            .collect();
        // Collected first: a stream of futures made lazily is not known to be `Send`.
        let proofs: Vec<_> = tables
            .into_iter()
            .filter_map(|table| {
                let spec = L::spec(&table)?;
                let configured_before = old_tables.get(&spec.id).copied();
                let running = old.get(&spec.id).cloned();
                Some(self.one::<L>(table, spec, configured_before, running))
            })
            .collect();
        stream::iter(proofs).buffered(AT_ONCE).try_collect().await
    }

    async fn one<L: Live>(
        &self,
        table: L::Table,
        spec: Spec,
        configured_before: Option<&L::Table>,
        old: Option<Arc<L>>,
    ) -> Result<(Option<Arc<L>>, UseStatus), Blame> {
        let status = |state| UseStatus {
            kind: L::KIND,
            id: spec.id.clone(),
            plugin: spec.plugin.clone(),
            state,
        };
        let unchanged = old.filter(|old| L::is_same(old.table(), &table));
        let Some(installed) = self.plugins.running(&spec.plugin) else {
            let reason = self.why_absent(&spec.plugin);
            return Ok(match (unchanged, reason) {
                (Some(old), (_, reason)) => (Some(old), status(UseState::Kept(reason))),
                (None, (true, reason)) => (None, status(UseState::Rejected(reason))),
                (None, (false, reason)) => (None, status(UseState::Waiting(reason))),
            });
        };
        let settings = self.config.plugins.get(&*spec.plugin);
        let limits = limits(L::KIND, &spec, settings, installed.bytes);
        let old_installed = self
            .previous
            .and_then(|previous| previous.plugins.running(&spec.plugin));
        let is_new = old_installed.is_none_or(|old| !Arc::ptr_eq(old, installed));
        if let Some(old) = &unchanged
            && !is_new
            && old.made_with() == (&installed.sha256, &limits)
        {
            return Ok((unchanged, status(UseState::Running)));
        }
        // The first rounds after a start are its trial; before them there is nothing to protect.
        let trial = is_new && self.previous.is_some();
        let used = Use {
            id: spec.id.clone(),
            config: spec.config.clone(),
            grants: spec.grants.clone(),
            limits,
        };
        // Whatever it did before under another table or file: it begins with a full budget.
        let quarantine = Arc::new(Quarantine::new(self.quarantine_bell.clone()));
        let brought_up = L::bring_up(table.clone(), installed, used, trial, quarantine);
        let refusal = match brought_up.await {
            Ok(live) => {
                tell_unmet(L::KIND, &spec, installed);
                return Ok((Some(Arc::new(live)), status(UseState::Running)));
            }
            Err(refusal) => refusal,
        };
        let table_is_new = match configured_before {
            Some(before) => {
                let old_settings = self
                    .previous
                    .and_then(|previous| previous.config.plugins.get(&*spec.plugin));
                !L::is_same(before, &table) || old_settings != settings
            }
            // A dropped-in probe has no table that could be wrong.
            None => self.is_configured::<L>(&spec.id),
        };
        let (kind, id) = (L::KIND.name(), &*spec.id);
        let place = self.place_of(id);
        let text = format!("{place}{kind} {id:?}: {}", refusal.reason);
        let is_stock = installed.origin == Origin::Stock;
        match (self.previous.is_some(), is_new, table_is_new) {
            (true, false, true) => Err(Blame::Config(text)),
            // With a version to fall back on the component is tried without first: if the table is wrong, that one
            // will say so too.
            (true, true, true) if is_stock || refusal.about_table && old_installed.is_none() => {
                Err(Blame::Config(text))
            }
            (true, true, _) => Err(Blame::Plugin(spec.plugin.clone(), text)),
            (false, ..) | (true, false, false) => {
                Ok((unchanged, status(UseState::Rejected(refusal.reason.into()))))
            }
        }
    }

    /// `FILE:LINE: ` of the only line that gives this id, or nothing.
    fn place_of(&self, id: &str) -> String {
        let gives_id = |line: &str| {
            let value = line.trim_start().strip_prefix("id");
            let value = value.and_then(|rest| rest.trim_start().strip_prefix('='));
            value.is_some_and(|value| {
                let value = value.trim_start().strip_prefix(['"', '\'']);
                let rest = value.and_then(|value| value.strip_prefix(id));
                rest.is_some_and(|rest| rest.starts_with(['"', '\'']))
            })
        };
        let mut places = self.config.source.texts.iter().flat_map(|(file, text)| {
            let lines = text.lines().enumerate();
            lines
                .filter(|(_, line)| gives_id(line))
                .map(move |(number, _)| format!("{}:{}: ", file.display(), number + 1))
        });
        match (places.next(), places.next()) {
            (Some(place), None) => place,
            _ => String::new(),
        }
    }

    /// Whether a table of that id stands in the configuration.
    fn is_configured<L: Live>(&self, id: &str) -> bool {
        L::KIND != Kind::Probe
            || self
                .config
                .probes
                .iter()
                .any(|table| table.id.as_str() == id)
    }

    /// Whether a component was refused rather than missing, and what to say.
    fn why_absent(&self, name: &str) -> (bool, Arc<str>) {
        match self.plugins.rejection(name) {
            Some(rejection) => (true, rejection.reason.clone()),
            None => {
                let folder = self.config.agent.plugins_dir.display();
                let meant = self.plugins.nearest(name);
                let meant = meant.map(|meant| format!(": did you mean {meant:?}?"));
                let reason = format!(
                    "there is no component {name:?}: put {name}.wasm into {folder}, or correct the name{}",
                    meant.unwrap_or_default()
                );
                (false, reason.into())
            }
        }
    }
}

/// Says once of a use what it asks for and is not granted. It runs with what it has.
fn tell_unmet(kind: Kind, spec: &Spec, installed: &Installed) {
    let unmet = unmet(&installed.description.wants, &spec.grants);
    if !unmet.is_empty() {
        let (plugin, id, kind) = (&*spec.plugin, &*spec.id, kind.name());
        let asks = super::plain(&unmet.join(", "));
        tracing::info!(
            plugin,
            kind,
            id,
            asks,
            "it asks for more than it is granted, and runs with what it has"
        );
    }
}

/// What a call of this use may spend.
fn limits(kind: Kind, spec: &Spec, settings: Option<&PluginConfig>, bytes: usize) -> Limits {
    let mut limits = Limits::of_component(kind, bytes);
    if let Some(wall) = spec.wall {
        limits.wall = wall;
    }
    let Some(settings) = settings else {
        return limits;
    };
    if let Some(memory_bytes) = settings.memory_bytes {
        limits.memory_bytes = memory_bytes;
    }
    if let Some(cpu) = settings.cpu {
        limits.cpu = cpu;
    }
    if let Some(wall) = settings.wall {
        // Both are upper bounds, one of the component, one of the use.
        limits.wall = spec.wall.map_or(wall, |own| own.min(wall));
    }
    if let Some(samples) = settings.samples {
        limits.samples = samples;
    }
    limits
}

fn index<L: Live>(uses: &[Arc<L>]) -> BTreeMap<Arc<str>, Arc<L>> {
    by_id(uses.iter())
}

fn by_id<'a, L: Live>(uses: impl Iterator<Item = &'a Arc<L>>) -> BTreeMap<Arc<str>, Arc<L>> {
    uses.filter_map(|live| Some((L::spec(live.table())?.id, live.clone())))
        .collect()
}

fn split<L>(uses: Vec<(Option<Arc<L>>, UseStatus)>, all: &mut Vec<UseStatus>) -> Vec<Arc<L>> {
    let mut live = Vec::with_capacity(uses.len());
    for (one, status) in uses {
        live.extend(one);
        all.push(status);
    }
    live
}
