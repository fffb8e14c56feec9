//! The one way out of the agent for plugins: every request, connection, question and mail passes here.
//!
//! ```text
//!   guest asks ── target ──> Rules (grants) ──> secrets bound to it? ──> addresses ──> dial those addresses
//!                             │ no grant            │ bound elsewhere       │ forbidden
//!                             └────────── denied: the text ends with the grant line to add ──────────
//! ```
//!
//! The order is the protection. A name is not even resolved before a grant covers it (a look-up is a message to
//! whoever runs that zone), and the addresses that were checked are the ones dialled (no second look-up in
//! between, so a name cannot change its mind). Redirects, proxies and referers do not exist here.
//!
//! * [`grant`]: the grammar of the operator's lines and what they cover;
//! * [`address`]: what no grant opens, and what only a grant by name opens;
//! * [`resolve`]: the system's resolver, bounded and filtered;
//! * [`tls`]: who is trusted, and what a certificate says;
//! * [`reach`]: all of it put together for one configured use of a plugin.

pub mod address;
pub mod grant;
pub mod reach;
pub mod resolve;
pub mod tls;

pub use grant::{GrantError, Rules};
pub use reach::{Network, NetworkSettings, Reach};

#[cfg(test)]
mod tests;
