//! What the agent remembers: the durable state (`state.db`) and the recent samples (memory).
//!
//! ```text
//!   alert stage --Commit--> [ bounded queue ] --> thread watchfire-store --> state.db (WAL, synchronous=FULL)
//!        <------- Committed: on disk, or NotDurable: in memory -----'            |
//!   api --query--> [ bounded queue ] --> thread watchfire-store-read <-----------'
//!
//!   evaluate --Collection--> History (rings, buckets) --points--> window functions --> inputs of rules
//!        `------samples------> metrics: metrics.db, in a thread of its own
//! ```
//!
//! A damaged, full or read-only disk never stops monitoring: the state goes on in memory, `health`
//! says so, and the next commits bring it back to disk. The history of samples is of no such worth: on disk
//! it is written every 5 minutes, and nobody waits for it.

mod cleanup;
mod disk;
mod event;
mod folder;
pub mod history;
pub mod long;
pub mod metrics;
mod migrate;
mod query;
mod reader;
mod records;
mod ring;
mod rows;
mod state;
pub mod window;
mod writer;

pub(crate) use folder::is_disks_fault;

pub use event::{EventType, EventTypeError, Keep, NewEvent, StoredEvent};
pub use history::{Absorbed, FamilyView, History, Limits, Need, Presence, SeriesId};
pub use metrics::{Keep as KeepMetrics, MetricsHealth, MetricsReader, Recorder, RecorderView};
pub use query::{KnownAlert, LIMIT_MAX, Stats, TypeStats};
pub use state::{
    Cleaned, Commit, Committed, Degraded, Health, OpenError, Opened, PluginState, SavedClock,
    StateStore, StoreError,
};

#[cfg(test)]
mod tests;
