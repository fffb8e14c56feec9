//! The signature of a body: HMAC-SHA-256 over the time and the body, so that neither can be replaced.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use watchfire_plugin_sdk::{Error, Result};

/// Lower-case hexadecimal digits over `<seconds>.<body>`.
///
/// # Errors
/// None that can happen: HMAC takes keys of any length.
pub(crate) fn signature(key: &str, seconds: u64, body: &str) -> Result<String> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes());
    let mut mac = mac.map_err(|error| Error::internal(format!("the signature: {error}")))?;
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let mut hex = String::with_capacity(64);
    for byte in mac.finalize().into_bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}
