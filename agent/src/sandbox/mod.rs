//! Runs components. The only folder that names wasmtime; the rest of the agent sees the plain types here.
//!
//! ```text
//!   artefact (our own compiler's output) --load--> Component --use--> Probe | Rule | Notifier | Action
//!                                                                        |
//!                              fresh store for every call: limits, grants, host state; dropped afterwards
//! ```
//!
//! A guest call runs on the guests' own small runtime under a wall limit, a CPU budget (epochs), a
//! memory cap, a hostcall cap. Nothing of the guest survives the call but what it put into `state`.

pub mod egress;
pub mod grants;
pub mod host;
pub mod secrets;
pub mod types;
