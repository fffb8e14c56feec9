//! The signature of a body: HMAC-SHA-256 over the time and the body, so that neither can be replaced.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Lower-case hexadecimal digits over `<seconds>.<body>`.
pub(crate) fn signature(key: &str, seconds: u64, body: &str) -> String {
    // HMAC takes keys of any length; the error is for other algorithms.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let mut hex = String::with_capacity(64);
    for byte in mac.finalize().into_bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
