//! Bytes that survive: restarts, reloads, new versions of the plugin. Always granted, one name space per configured id.
//!
//! What a call writes is kept only if that call succeeds.
//!
//! ```
//! use watchfire_plugin_sdk::{host::state, mock};
//!
//! let host = mock::Host::new();
//! let runs: u64 = state::load("runs")?.unwrap_or(0);
//! state::store("runs", &(runs + 1))?;
//! assert_eq!(state::load("runs")?, Some(1));
//! # Ok::<(), watchfire_plugin_sdk::Error>(())
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::parse_kept;
use crate::{Error, Result, calls};

/// The bytes under `key`.
///
/// # Errors
/// Where the store cannot be read.
pub fn get(key: &str) -> Result<Option<Vec<u8>>> {
    calls::state_get(key)
}

/// Puts bytes under `key`.
///
/// # Errors
/// Where they are more than the host keeps.
pub fn set(key: &str, value: &[u8]) -> Result<()> {
    calls::state_set(key, value)
}

/// Forgets `key`.
///
/// # Errors
/// Where the store cannot be written.
pub fn delete(key: &str) -> Result<()> {
    calls::state_delete(key)
}

/// What [`store`] put under `key`; `None` where there is nothing, or nothing of this shape: another version of the
/// plugin may have written it.
///
/// # Errors
/// Where the store cannot be read.
pub fn load<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    Ok(get(key)?.and_then(|bytes| parse_kept(&bytes)))
}

/// Puts a value under `key`, as JSON.
///
/// # Errors
/// Where it is more than the host keeps, or cannot be written as JSON.
pub fn store<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::internal(format!("state {key}: {error}")))?;
    set(key, &bytes)
}
