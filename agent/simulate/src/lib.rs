//! Rule tests: their format, and the world in which they run.
//!
//! ```text
//!   FILE.toml --read--> Test: samples, answers, events, expectation
//!                         |
//!                         v                 what a round says
//!                      Scenario  <----------------------------- Judges (rule components, or native ones)
//!                         |  virtual clock, probes' grid, operator, outages
//!                         v
//!                       World    --- step(engine) ---> services, actions, committed rows, simulated
//!                         |
//!                         v
//!                      Entries   <--compare--> expectation
//! ```
//!
//! The engine is the real one. Who reads configuration and who judges rules is the caller's affair
//! ([`Setup`], [`Judges`]): the agent brings its reader and its rule components, the engine's own tests
//! bring a native threshold rule. Nothing here reads a file, a clock or starts a thread.

mod compare;
mod doubts;
mod entry;
mod events;
mod file;
mod happening;
mod reading;
mod samples;
mod scenario;
mod world;

pub use compare::{Difference, compare};
pub use doubts::doubts;
pub use entry::{Entry, Line};
pub use file::{Expect, Reply, Test, TestFile, has_tests, read};
pub use happening::{CrashMode, Event, EventKind, Reload};
pub use reading::Mistake;
pub use samples::{Answer, Samples, parse_series};
pub use scenario::{Judges, Outcome, Scenario, Setup};
pub use world::World;
