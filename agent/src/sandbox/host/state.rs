//! `state`: always granted. One small name space for each use; a call that fails leaves it as it was.
//!
//! Reads see the store and, over it, what this call wrote. The writes wait in the call's own memory
//! and reach the store only when the call succeeded: a trap rolls them back by construction.

use super::HostState;
use crate::sandbox::bindings::wit;
use crate::sandbox::types::CallError;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Keys of one use.
pub const KEYS_MAX: usize = 1_000;
/// Bytes of one key.
pub const KEY_BYTES_MAX: usize = 256;
/// Bytes of one value.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// Bytes of all keys and values of one use: a cursor, a window, a small index; a database it is not.
pub const TOTAL_BYTES_MAX: usize = 1 << 20;
/// For the store to answer: it keeps everything in memory when its disk hangs.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// All keys of one use.
pub type Entries = BTreeMap<String, Vec<u8>>;
/// What a call changed; none: deleted.
pub type Changes = BTreeMap<String, Option<Vec<u8>>>;
/// An answer of the store.
pub type StateFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StateStoreError>> + Send + 'a>>;

/// Keeps the state of plugins, by the id of the use.
pub trait StateStore: Send + Sync + 'static {
    /// Everything that is kept for `id`; empty where nothing is.
    fn load<'a>(&'a self, id: &'a str) -> StateFuture<'a, Arc<Entries>>;
    /// Applies all `changes` or none.
    fn save<'a>(&'a self, id: &'a str, changes: Changes) -> StateFuture<'a, ()>;
}

/// The store cannot answer; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StateStoreError(pub String);

/// Keeps state in memory: for tests and one-shot commands.
#[derive(Debug, Default)]
pub struct MemoryState(std::sync::Mutex<BTreeMap<String, Arc<Entries>>>);

/// The state as one call sees it.
#[derive(Default)]
pub(crate) struct Writes {
    kept: Option<Arc<Entries>>,
    changes: Changes,
    /// Keys and values together, changes applied.
    bytes: usize,
    keys: usize,
}

impl MemoryState {
    /// What is kept for `id` now.
    pub fn of(&self, id: &str) -> Arc<Entries> {
        let all = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.get(id).cloned().unwrap_or_default()
    }
}

impl StateStore for MemoryState {
    fn load<'a>(&'a self, id: &'a str) -> StateFuture<'a, Arc<Entries>> {
        Box::pin(std::future::ready(Ok(self.of(id))))
    }

    fn save<'a>(&'a self, id: &'a str, changes: Changes) -> StateFuture<'a, ()> {
        let mut all = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let entries = Arc::make_mut(all.entry(id.to_owned()).or_default());
        for (key, value) in changes {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Writes {
    fn get(&self, key: &str) -> Option<&Vec<u8>> {
        match self.changes.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.kept.as_ref().and_then(|kept| kept.get(key)),
        }
    }

    fn put(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), CallError> {
        let over = |what: String| CallError::Internal(format!("state: {what}"));
        if key.len() > KEY_BYTES_MAX {
            return Err(over(format!("a key has more than {KEY_BYTES_MAX} bytes")));
        }
        let size = |value: &Vec<u8>| key.len() + value.len();
        let before = self.get(&key);
        let (bytes_before, keys_before) = (before.map_or(0, size), usize::from(before.is_some()));
        let (bytes_after, keys_after) =
            (value.as_ref().map_or(0, size), usize::from(value.is_some()));
        if bytes_after > VALUE_BYTES_MAX + KEY_BYTES_MAX {
            return Err(over(format!(
                "a value has more than {VALUE_BYTES_MAX} bytes"
            )));
        }
        let bytes = self.bytes - bytes_before + bytes_after;
        let keys = self.keys - keys_before + keys_after;
        if bytes > TOTAL_BYTES_MAX && bytes_after > bytes_before {
            return Err(over(format!("more than {TOTAL_BYTES_MAX} bytes in all")));
        }
        if keys > KEYS_MAX && keys_after > keys_before {
            return Err(over(format!("more than {KEYS_MAX} keys")));
        }
        (self.bytes, self.keys) = (bytes, keys);
        self.changes.insert(key, value);
        Ok(())
    }
}

impl HostState {
    async fn load_state(&mut self) -> Result<&mut Writes, CallError> {
        if self.writes.kept.is_none() {
            let load = self.host.state.load(&self.using.settings.id);
            let kept = bounded(load).await?;
            self.writes.keys = kept.len();
            self.writes.bytes = kept.iter().map(|(k, v)| k.len() + v.len()).sum();
            self.writes.kept = Some(kept);
        }
        Ok(&mut self.writes)
    }

    /// Hands the writes of a successful call to the store.
    pub(crate) async fn commit_state(&mut self) -> Result<(), CallError> {
        let changes = std::mem::take(&mut self.writes.changes);
        if changes.is_empty() {
            return Ok(());
        }
        bounded(self.host.state.save(&self.using.settings.id, changes)).await
    }
}

async fn bounded<T>(answer: StateFuture<'_, T>) -> Result<T, CallError> {
    let unavailable = |why: String| CallError::Unavailable {
        message: format!("the state of the plugin: {why}"),
        retry_after: None,
    };
    match tokio::time::timeout(STORE_WAIT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!(
            "no answer of the store within {STORE_WAIT:?}"
        ))),
    }
}

impl wit::state::Host for HostState {
    async fn get(
        &mut self,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, wit::types::Error>> {
        let charged = self.charge()?;
        let value = self
            .load_state()
            .await
            .map(|writes| writes.get(&key).cloned());
        self.answer(charged, value)
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), wit::types::Error>> {
        let charged = self.charge()?;
        let done = match self.load_state().await {
            Ok(writes) => writes.put(key, Some(value)),
            Err(error) => Err(error),
        };
        self.answer(charged, done)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), wit::types::Error>> {
        let charged = self.charge()?;
        let done = match self.load_state().await {
            Ok(writes) => writes.put(key, None),
            Err(error) => Err(error),
        };
        self.answer(charged, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(kept: &[(&str, usize)]) -> Writes {
        let kept: Entries = kept
            .iter()
            .map(|(key, bytes)| ((*key).to_owned(), vec![0; *bytes]))
            .collect();
        Writes {
            keys: kept.len(),
            bytes: kept.iter().map(|(k, v)| k.len() + v.len()).sum(),
            kept: Some(Arc::new(kept)),
            changes: Changes::new(),
        }
    }

    #[test]
    fn a_call_sees_its_own_writes() {
        let mut state = writes(&[("a", 1)]);
        assert_eq!(state.get("a"), Some(&vec![0]));
        state.put("a".into(), None).unwrap();
        state.put("b".into(), Some(vec![7])).unwrap();
        assert_eq!(state.get("a"), None);
        assert_eq!(state.get("b"), Some(&vec![7]));
        assert_eq!((state.keys, state.bytes), (1, 2));
    }

    #[test]
    fn bounds_hold_and_do_not_forbid_to_shrink() {
        let mut state = writes(&[("a", TOTAL_BYTES_MAX), ("b", 10)]);
        let refused = state.put("c".into(), Some(vec![0; 1])).unwrap_err();
        assert_eq!(refused.to_string(), "state: more than 1048576 bytes in all");
        state.put("b".into(), Some(vec![0; 5])).unwrap();
        state.put("a".into(), None).unwrap();
        state.put("c".into(), Some(vec![0; 1])).unwrap();
        assert!(
            state
                .put("c".into(), Some(vec![0; VALUE_BYTES_MAX + KEY_BYTES_MAX]))
                .is_err()
        );
        assert!(state.put("k".repeat(KEY_BYTES_MAX + 1), None).is_err());
    }

    #[test]
    fn keys_are_counted() {
        let mut state = writes(&[]);
        for n in 0..KEYS_MAX {
            state.put(n.to_string(), Some(Vec::new())).unwrap();
        }
        assert!(state.put("one more".into(), Some(Vec::new())).is_err());
        state.put("0".into(), Some(vec![1])).unwrap();
    }
}
