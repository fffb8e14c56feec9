//! What the program tells of itself beside the views of the stages: its plugins and its configuration.

use crate::api::{AgentStatus, PluginStatus, PluginUse, Refusal, Rejection};
use crate::pipeline::view::AlertsView;
use crate::plugin::{Generation, Origin, Plugin, hex};
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use tokio::sync::watch;
use watchfire_engine::effect::AlertView;

/// Keeps the status in step with generations and meta-alerts, in a task of its own that ends with them.
pub(super) fn follow(
    mut generation: watch::Receiver<Arc<Generation>>,
    metrics: Arc<Metrics>,
    mut alerts: watch::Receiver<Arc<AlertsView>>,
) -> watch::Receiver<Arc<AgentStatus>> {
    let first = status(&generation.borrow_and_update(), &metrics, &alerts.borrow_and_update());
    let (publish, status_out) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        loop {
            let changed = tokio::select! {
                changed = generation.changed() => changed,
                changed = alerts.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            let next = status(&generation.borrow_and_update(), &metrics, &alerts.borrow_and_update());
            publish.send_replace(Arc::new(next));
        }
    });
    status_out
}

fn status(generation: &Generation, metrics: &Metrics, alerts: &AlertsView) -> AgentStatus {
    let meta = |name: &str| {
        let found = alerts.alerts.iter().find(|view| view.instance.rule.as_str() == name);
        found.filter(|view| view.severity.is_some())
    };
    let words = |view: &AlertView| view.snapshot.note.clone().unwrap_or_default();
    metrics
        .config_valid
        .set_flag(meta("watchfire_config_invalid").is_none());
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
        plugins: generation
            .plugins
            .plugins
            .iter()
            .map(|(name, plugin)| one(name, plugin, generation, metrics))
            .collect(),
    }
}

fn one(name: &Arc<str>, plugin: &Plugin, generation: &Generation, metrics: &Metrics) -> PluginStatus {
    let running = plugin.running.as_deref();
    let (calls, failures) = metrics.calls_of(name);
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
        rejected: plugin.rejected.as_ref().map(|rejection| Rejection {
            sha256: rejection.sha256.as_ref().map(|digest| hex(digest)),
            reason: rejection.reason.to_string(),
            since: rejection.since,
        }),
        quarantined: None,
        wants: running.map_or_else(Vec::new, |installed| installed.description.wants.clone()),
        uses: uses(name, generation),
        calls,
        failures,
        last_failure: None,
    }
}

fn uses(name: &Arc<str>, generation: &Generation) -> Vec<PluginUse> {
    let config = &generation.config;
    let of = generation.status.iter().filter(|status| status.plugin == *name);
    of.map(|status| {
        let id = &*status.id;
        let grants = match status.kind {
            crate::sandbox::types::Kind::Probe => {
                config.probes.iter().find(|p| p.id.as_str() == id).map(|p| p.grant.lines())
            }
            crate::sandbox::types::Kind::Rule => None,
            crate::sandbox::types::Kind::Notifier => {
                config.notifiers.iter().find(|n| n.id.as_str() == id).map(|n| n.grant.lines())
            }
            crate::sandbox::types::Kind::Action => {
                config.recoveries.iter().find(|r| r.id.as_str() == id).map(|r| r.grant.lines())
            }
        };
        PluginUse {
            kind: status.kind.name().to_owned(),
            id: id.to_owned(),
            grants: grants.unwrap_or_default(),
        }
    })
    .collect()
}

