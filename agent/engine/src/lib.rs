//! The alert engine: one pure function, [`step`]`(state, policy, input, now) -> effects`.
//!
//! ```text
//!   Round, Timer, DeliveryReport, ActionReport, Command, Pushed, Condition, Reload
//!        |
//!        v                      +--> records   put or deleted in state.db   \
//!   step(state, policy, now) ---+--> events    appended to the history       > one transaction, first
//!                               +--> sends     handed to the notifiers      /  then these two
//!                               +--> attempts  handed to the actions
//! ```
//!
//! The crate owns every decision about alerts: what fires, who hears of it, when it is sent again,
//! whether an action may run. It has no clock, no threads, no randomness of its own and no I/O; its
//! `Cargo.toml` is the proof. Whatever it decides is a function of `(state, policy, inputs)`, so a
//! replay of the inputs reproduces the effects byte for byte.
//!
//! The caller commits `records` and `events` before it acts on `sends` and `attempts`, and feeds
//! the outcome of both back in. [`State::restore`] rebuilds the state from committed records.

mod act;
mod alert;
mod amnesia;
mod buckets;
pub mod calendar;
mod command;
mod composite;
mod deadman;
mod delivery;
pub mod effect;
mod external;
mod fallback;
mod flaps;
mod gate;
mod group;
pub mod input;
mod judge;
mod machine;
mod metas;
pub mod model;
mod mute;
mod outbox;
pub mod pace;
mod persist;
pub mod policy;
mod reconcile;
mod recovery;
mod reload;
pub mod silence;
mod state;
mod turn;
mod withheld;

pub use effect::{Effects, Send, StartAttempt};
pub use external::{PUSHED_MAX, RESOLVE_TIMEOUT};
pub use input::Input;
pub use policy::Policy;
pub use state::{RestoreError, State, step};
