//! `events`: always granted. Something worth telling that is not a number.

use super::{HostState, log};
use crate::sandbox::bindings::wit;
use crate::sandbox::convert::cut;
use crate::sandbox::types::Kind;
use std::sync::Arc;

/// Bytes of an event's kind.
const KIND_BYTES_MAX: usize = 128;

/// An event of a plugin, bounded. Its text is a stranger's.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEvent {
    /// Which use of which kind.
    pub id: Arc<str>,
    /// Kind of that plugin.
    pub plugin_kind: Kind,
    /// Name of the component.
    pub plugin: Arc<str>,
    /// What kind of event, in the plugin's words.
    pub kind: String,
    /// When it happened, milliseconds since 1970; none: now.
    pub at_ms: Option<u64>,
    /// For people.
    pub message: String,
    /// Key and value.
    pub fields: Vec<(String, String)>,
}

/// Takes events. Must not block: where its queue is full it drops and counts.
pub trait EventSink: Send + Sync + 'static {
    /// Takes one.
    fn emit(&self, event: PluginEvent);
}

/// Takes nothing: for tests and one-shot commands.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _: PluginEvent) {}
}

impl wit::events::Host for HostState {
    async fn emit(
        &mut self,
        kind: String,
        at: Option<u64>,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let charged = self.charge()?;
        let passed = {
            let mut bucket = self.using.event_bucket.lock();
            bucket
                .as_mut()
                .unwrap_or_else(|poisoned| poisoned.get_mut())
                .take()
        };
        if let Some(suppressed) = passed {
            if suppressed > 0 {
                let text = format!("{suppressed} events of the plugin were dropped");
                self.log(log::Level::Warn, &text, &[]);
            }
            let mask = self.host.secrets.mask();
            let mut fields = log::bounded(fields);
            for (_, value) in &mut fields {
                *value = mask.apply(value).into_owned();
            }
            let message = mask.apply(&message);
            self.host.events.emit(PluginEvent {
                id: Arc::clone(&self.using.settings.id),
                plugin_kind: self.using.kind,
                plugin: Arc::clone(&self.using.plugin),
                kind: cut(&kind, KIND_BYTES_MAX).to_owned(),
                at_ms: at,
                message: cut(&message, log::MESSAGE_BYTES_MAX).to_owned(),
                fields,
            });
        }
        self.settle(charged);
        Ok(())
    }
}
