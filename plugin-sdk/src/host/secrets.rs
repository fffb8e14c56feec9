//! Secrets in the plugin's own hands. Grant `secrets` with `reveal = true`.
//!
//! Only for protocols that must compute with one (HMAC, SCRAM). Elsewhere `{{secret:name}}` is enough: the host fills
//! it in on the way out.

use crate::{Result, calls};

/// The secret itself. `name` may also be the text `{{secret:name}}` that stood in the configuration.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant.
pub fn reveal(name: &str) -> Result<String> {
    calls::secrets_reveal(placeholder(name).unwrap_or(name))
}

/// The name in `{{secret:name}}`; `None` for any other text.
pub fn placeholder(text: &str) -> Option<&str> {
    text.trim()
        .strip_prefix("{{secret:")?
        .strip_suffix("}}")
        .map(str::trim)
}
