//! What the agent remembers: the durable state (`state.db`) and the recent samples (memory).
//!
//! ```text
//!   alert stage --Commit--> [ bounded queue ] --> thread watchfire-store --> state.db (WAL, synchronous=FULL)
//!        <------- Committed: on disk, or NotDurable: in memory -----'            |
//!   api --query--> [ bounded queue ] --> thread watchfire-store-read <-----------'
//!
//!   collect --Collection--> History (memory ring) --points--> window functions --> inputs of rules
//! ```
//!
//! A damaged, full or read-only disk never stops monitoring: the state goes on in memory, `health`
//! says so, and the next commits bring it back to disk. The history is of no such worth: it is lost
//! with the process.

mod cleanup;
mod disk;
mod event;
mod folder;
pub mod history;
mod migrate;
mod query;
mod reader;
mod ring;
mod rows;
mod state;
pub mod window;
mod writer;

pub use event::{EventType, EventTypeError, Keep, NewEvent, StoredEvent};
pub use history::{Absorbed, FamilyView, History, Limits, Presence, SeriesId};
pub use query::{KnownAlert, LIMIT_MAX, Stats, TypeStats};
pub use state::{
    Cleaned, Commit, Committed, Degraded, Health, OpenError, Opened, PluginState, SavedClock,
    StateStore, StoreError,
};

#[cfg(test)]
mod tests;
