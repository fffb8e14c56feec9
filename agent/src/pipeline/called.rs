//! The way every stage calls a component: not while it is quarantined, and never without keeping account.

use crate::plugin::{Quarantine, quarantine::Change};
use crate::sandbox::types::{CallError, Cost, Kind};
use crate::telemetry::metrics::Metrics;

/// Whose call it is.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) kind: Kind,
    /// The component.
    pub(super) plugin: &'a str,
    /// Its use.
    pub(super) id: &'a str,
    pub(super) quarantine: &'a Quarantine,
    pub(super) metrics: &'a Metrics,
}

impl Caller<'_> {
    /// Makes the call, if it may be made. One that may not answers [`CallError::Quarantined`] and costs nothing.
    pub(super) async fn call<T>(
        self,
        call: impl Future<Output = (Result<T, CallError>, Cost)>,
    ) -> (Result<T, CallError>, Cost) {
        let Caller {
            kind,
            plugin,
            id,
            quarantine,
            metrics,
        } = self;
        let leave = match quarantine.ask() {
            Ok(leave) => leave,
            Err(refusal) => {
                metrics.plugin_withheld.with([plugin, id]).inc();
                return (Err(refusal), Cost::default());
            }
        };
        let (result, cost) = call.await;
        let error = result.as_ref().err();
        let change = leave.settle(error, &cost);
        metrics.plugin_call(plugin, kind, id, error, &cost);
        let kind = kind.name();
        match change {
            Change::None => {}
            Change::Quarantined => {
                metrics.plugin_quarantines.with([plugin, id]).inc();
                let error = error.map(ToString::to_string);
                tracing::error!(
                    plugin,
                    kind,
                    id,
                    error,
                    "quarantined: it is called again by way of trial, or at once with a new file or table"
                );
            }
            Change::Prolonged => {
                tracing::debug!(plugin, kind, id, "the trial failed: still quarantined");
            }
            Change::Released => {
                tracing::info!(
                    plugin,
                    kind,
                    id,
                    "the trial went well: no longer quarantined"
                );
            }
        }
        (result, cost)
    }
}
