//! What the program tells of itself beside the views of the stages: its plugins and its configuration.

use crate::api::{AgentStatus, PluginStatus, PluginUse, Quarantine, Refusal, Rejection, UseLimits};
use crate::pipeline::view::AlertsView;
use crate::plugin::{Generation, Origin, Plugin, Quarantined, hex};
use crate::sandbox::types::{Grants, Kind};
use crate::sandbox::unmet;
use crate::telemetry::accounts::Account;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use tokio::sync::watch;
use watchfire_engine::effect::AlertView;

/// Keeps the status in step with generations, meta-alerts and quarantines, in a task of its own that ends
/// with them.
pub(super) fn follow(
    mut generation: watch::Receiver<Arc<Generation>>,
    metrics: Arc<Metrics>,
    mut alerts: watch::Receiver<Arc<AlertsView>>,
    mut quarantined: watch::Receiver<Arc<Vec<Quarantined>>>,
) -> watch::Receiver<Arc<AgentStatus>> {
    let first = status(
        &generation.borrow_and_update(),
        &metrics,
        &alerts.borrow_and_update(),
        &quarantined.borrow_and_update(),
    );
    let (publish, status_out) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        loop {
            let changed = tokio::select! {
                changed = generation.changed() => changed,
                changed = alerts.changed() => changed,
                changed = quarantined.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            let next = status(
                &generation.borrow_and_update(),
                &metrics,
                &alerts.borrow_and_update(),
                &quarantined.borrow_and_update(),
            );
            publish.send_replace(Arc::new(next));
        }
    });
    status_out
}

fn status(
    generation: &Generation,
    metrics: &Metrics,
    alerts: &AlertsView,
    quarantined: &[Quarantined],
) -> AgentStatus {
    let meta = |name: &str| {
        let found = alerts
            .alerts
            .iter()
            .find(|view| view.instance.rule.as_str() == name);
        found.filter(|view| view.severity.is_some())
    };
    let words = |view: &AlertView| view.snapshot.note.clone().unwrap_or_default();
    metrics
        .config_valid
        .set_flag(meta("watchfire_config_invalid").is_none());
    metrics
        .plugin_quarantined
        .replace(generation.uses().map(|used| {
            let of_it = |q: &&Quarantined| q.kind == used.kind && *q.id == *used.id;
            let held = quarantined.iter().any(|q| of_it(&q));
            (
                [used.plugin.to_string(), used.id.to_owned()],
                f64::from(u8::from(held)),
            )
        }));
    AgentStatus {
        scheduled: true,
        config_loaded_at: generation
            .plugins
            .plugins
            .values()
            .filter_map(|plugin| Some(plugin.running.as_ref()?.loaded_at))
            .max()
            .unwrap_or_default(),
        config_refused: meta("watchfire_config_invalid").map(|view| Refusal {
            message: words(view),
            since: view.snapshot.started_at,
        }),
        watch_degraded: meta("watchfire_watch_degraded").map(words),
        runs: generation.counts(),
        uses: generation.status.clone(),
        plugins: generation
            .plugins
            .plugins
            .iter()
            .map(|(name, plugin)| one(name, plugin, generation, quarantined))
            .collect(),
    }
}

fn one(
    name: &Arc<str>,
    plugin: &Plugin,
    generation: &Generation,
    quarantined: &[Quarantined],
) -> PluginStatus {
    let running = plugin.running.as_deref();
    let held: Vec<&Quarantined> = quarantined.iter().filter(|q| q.plugin == *name).collect();
    PluginStatus {
        name: name.to_string(),
        version: running.map(|installed| installed.description.version.clone()),
        summary: running.map(|installed| installed.description.summary.clone()),
        kinds: running.map_or_else(Vec::new, |installed| {
            let kinds = installed.component.kinds();
            kinds.iter().map(|kind| kind.name().to_owned()).collect()
        }),
        origin: match running.map(|installed| &installed.origin) {
            Some(Origin::Stock) => "stock".to_owned(),
            Some(Origin::DropIn(path)) => path.display().to_string(),
            None => String::new(),
        },
        sha256: running.map(|installed| hex(&installed.sha256)),
        size_bytes: running.map(|installed| installed.bytes as u64),
        compile_ms: running
            .and_then(|installed| installed.compile_time)
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        loaded_at: running.map(|installed| installed.loaded_at),
        running: running.is_some(),
        file_removed: plugin.removed,
        rejected: plugin.rejected.as_ref().map(|rejection| Rejection {
            sha256: rejection.sha256.as_ref().map(|digest| hex(digest)),
            reason: rejection.reason.to_string(),
            since: rejection.since,
        }),
        quarantined: held
            .iter()
            .map(|q| q.held.since)
            .min()
            .map(|since| Refusal {
                message: held
                    .iter()
                    .map(|q| q.to_string())
                    .collect::<Vec<_>>()
                    .join("; "),
                since,
            }),
        locked: locked(name, plugin, generation),
        wants: running.map_or_else(Vec::new, |installed| installed.description.wants.clone()),
        uses: uses(name, generation, &held),
        account: Account::default(),
    }
}

/// Whether the lock names what runs, or the file that would like to; none: no lock is asked.
fn locked(name: &str, plugin: &Plugin, generation: &Generation) -> Option<bool> {
    let lock = generation.config.lock.as_ref()?;
    let running = plugin.running.as_ref();
    if running.is_some_and(|installed| installed.origin == Origin::Stock) {
        return None;
    }
    let sha256 = running.map(|installed| &installed.sha256)?;
    Some(lock.refusal(name, sha256).is_none())
}

fn uses(name: &Arc<str>, generation: &Generation, held: &[&Quarantined]) -> Vec<PluginUse> {
    let config = &generation.config;
    let running = generation.plugins.running(name);
    let wants = running.map(|installed| &installed.description.wants);
    let of = generation
        .status
        .iter()
        .filter(|status| status.plugin == *name);
    of.map(|status| {
        let id = &*status.id;
        let grants = match status.kind {
            Kind::Probe => {
                let table = config.probes.iter().find(|p| p.id.as_str() == id);
                table.map(|p| &*p.grant)
            }
            Kind::Rule => None,
            Kind::Notifier => {
                let table = config.notifiers.iter().find(|n| n.id.as_str() == id);
                table.map(|n| &*n.grant)
            }
            Kind::Action => {
                let table = config.recoveries.iter().find(|r| r.id.as_str() == id);
                table.map(|r| &*r.grant)
            }
        };
        let wants = wants.map_or(&[][..], Vec::as_slice);
        let not_granted = unmet(wants, grants.unwrap_or(&Grants::default()));
        let mut running = generation.uses();
        let running = running.find(|used| used.kind == status.kind && used.id == id);
        let held = held.iter().find(|q| q.kind == status.kind && *q.id == *id);
        PluginUse {
            kind: status.kind.name().to_owned(),
            id: id.to_owned(),
            grants: grants.map(Grants::lines).unwrap_or_default(),
            not_granted: not_granted.into_iter().map(str::to_owned).collect(),
            limits: running.map(|used| UseLimits {
                wall_seconds: used.limits.wall.as_secs_f64(),
                cpu_seconds: used.limits.cpu.as_secs_f64(),
                memory_bytes: used.limits.memory_bytes as u64,
            }),
            quarantined: held.map(|q| Quarantine {
                reason: q.held.reason.to_string(),
                since: q.held.since,
                retry_at: q.held.retry_at,
                trials: q.held.trials,
            }),
            account: Account::default(),
        }
    })
    .collect()
}
