//! The history of events as the API and the plugins see it.

use crate::api::{EventSource, EventsError};
use crate::clock::Clock;
use crate::config::Retention;
use crate::plugin::{Generation, Notice};
use crate::sandbox::{EventSink, PluginEvent};
use crate::store::{EventType, Keep, RecorderView, StateStore, StoreError, StoredEvent};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};
use watchfire_engine::model::Fingerprint;

/// Reads and cleans the store for the API.
pub(super) struct History {
    store: StateStore,
    clock: Clock,
    generation: watch::Receiver<Arc<Generation>>,
    samples: Option<RecorderView>,
}

impl History {
    pub(super) fn new(
        store: StateStore,
        clock: Clock,
        generation: watch::Receiver<Arc<Generation>>,
        samples: Option<RecorderView>,
    ) -> Self {
        History {
            store,
            clock,
            generation,
            samples,
        }
    }
}

impl EventSource for History {
    fn events(
        &self,
        since: u64,
        types: &[String],
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        let types: Result<Vec<EventType>, _> = types.iter().map(|name| name.parse()).collect();
        Box::pin(async move {
            let types = types.map_err(|error: crate::store::EventTypeError| {
                EventsError::Question(error.to_string())
            })?;
            shown(self.store.events(since, &types, limit).await)
        })
    }

    fn of_alert(&self, alert: Fingerprint) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        Box::pin(async move { shown(self.store.events_of_alert(alert).await) })
    }

    fn of_alert_from(
        &self,
        alert: Fingerprint,
        from: u64,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        Box::pin(async move { shown(self.store.events_of_alert_from(alert, from).await) })
    }

    fn openings(
        &self,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        Box::pin(async move { shown(self.store.openings(before, limit).await) })
    }

    fn known_alerts(&self, text: &str) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        let text = text.to_owned();
        Box::pin(async move {
            let known = self.store.known_alerts(text).await;
            let known = known.map_err(|error| EventsError::Store(error.to_string()))?;
            Ok(known.iter().map(|known| json!(known)).collect())
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Value, EventsError>> {
        Box::pin(async move {
            let stats = self.store.stats().await;
            let stats = stats.map_err(|error| EventsError::Store(error.to_string()))?;
            let mut stats = serde_json::to_value(stats)
                .map_err(|error| EventsError::Store(error.to_string()))?;
            stats["history"] = json!(self.samples.as_ref().map(RecorderView::health));
            Ok(stats)
        })
    }

    fn cleanup(&self) -> BoxFuture<'_, Result<Value, EventsError>> {
        Box::pin(async move {
            let keep = keep(&self.generation.borrow().config.retention);
            let cleaned = self.store.cleanup(self.clock.now(), keep).await;
            let cleaned = cleaned.map_err(|error| EventsError::Store(error.to_string()))?;
            Ok(json!({ "deleted": cleaned.deleted, "unsound": cleaned.unsound }))
        })
    }
}

fn shown(read: Result<Vec<StoredEvent>, StoreError>) -> Result<Vec<Value>, EventsError> {
    let events = read.map_err(|error| EventsError::Store(error.to_string()))?;
    Ok(events.iter().map(StoredEvent::to_json).collect())
}

/// How long which events are kept.
pub(super) fn keep(retention: &Retention) -> Keep {
    Keep {
        alerts: retention.alerts,
        others: retention.events,
    }
}

/// Hands events of plugins to the alert stage, which writes them down. Never blocks: where the channel
/// is full they are dropped and counted.
pub(super) struct PluginEvents {
    notices: mpsc::Sender<Notice>,
    dropped: AtomicU64,
}

impl PluginEvents {
    pub(super) fn new(notices: mpsc::Sender<Notice>) -> Self {
        PluginEvents {
            notices,
            dropped: AtomicU64::new(0),
        }
    }
}

impl EventSink for PluginEvents {
    fn emit(&self, event: PluginEvent) {
        let fields: serde_json::Map<String, Value> = event
            .fields
            .into_iter()
            .map(|(key, value)| (key, Value::String(value)))
            .collect();
        let notice = Notice::Event {
            kind: "plugin-event",
            subject: event.id,
            body: json!({
                "plugin": &*event.plugin,
                "kind": event.kind,
                "at_ms": event.at_ms,
                "message": event.message,
                "fields": fields,
            }),
        };
        if self.notices.try_send(notice).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(dropped, "events of plugins are dropped: too many at once");
        }
    }
}
