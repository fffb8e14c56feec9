//! `state` of plugins: in memory for reading, in state.db for keeps.
//!
//! A write is answered once it is durable, or once the store says that it is not: then it holds in
//! memory, as all else does while the disk is full.

use crate::clock::Clock;
use crate::sandbox::host::state::{Changes, Entries, StateFuture};
use crate::sandbox::{StateStore as PluginStateStore, StateStoreError};
use crate::store::{Commit, PluginState, StateStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All plugins' state.
pub(super) struct PluginMemory {
    entries: Mutex<BTreeMap<String, Arc<Entries>>>,
    store: StateStore,
    clock: Clock,
}

impl PluginMemory {
    /// With what was stored.
    pub(super) fn start(stored: PluginState, store: StateStore, clock: Clock) -> Self {
        let entries = stored
            .into_iter()
            .map(|(id, entries)| (id, Arc::new(entries)))
            .collect();
        PluginMemory { entries: Mutex::new(entries), store, clock }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entries>>> {
        // Held for map operations only, none of which panics half-way.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PluginStateStore for PluginMemory {
    fn load<'a>(&'a self, id: &'a str) -> StateFuture<'a, Arc<Entries>> {
        let entries = self.entries().get(id).cloned().unwrap_or_default();
        Box::pin(std::future::ready(Ok(entries)))
    }

    fn save<'a>(&'a self, id: &'a str, changes: Changes) -> StateFuture<'a, ()> {
        {
            let mut all = self.entries();
            let entries = Arc::make_mut(all.entry(id.to_owned()).or_default());
            for (key, value) in &changes {
                match value {
                    Some(value) => {
                        entries.insert(key.clone(), value.clone());
                    }
                    None => {
                        entries.remove(key);
                    }
                }
            }
        }
        let commit = Commit {
            records: Vec::new(),
            events: Vec::new(),
            clock: self.clock.saved(self.clock.now()),
            plugin_state: changes
                .into_iter()
                .map(|(key, value)| (id.to_owned(), key, value))
                .collect(),
        };
        Box::pin(async move {
            match self.store.commit(commit).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    tracing::warn!(id, %error, "state of a plugin is in memory only");
                    Ok::<(), StateStoreError>(())
                }
            }
        })
    }
}
