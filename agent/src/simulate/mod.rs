//! `watchfire test`, `simulate` and `replay`: the real engine, rule components and configuration reader
//! on a virtual clock.
//!
//! ```text
//!   test files --cases--> Test + configurations (base, file, own tables, reloads)
//!                           |                 library: each component loaded once, each table configured once
//!                           v                     |
//!                 watchfire_simulate::Scenario <--+-- Components: pipeline::judges over simulated probes
//!                           |
//!                           v
//!                        reports: what happened, how it differs from what was expected
//! ```
//!
//! What surrounds the engine is simulated in `watchfire_simulate`; here is what of the agent takes part.
//! Nothing is sent, done or kept: notifiers and actions are never called, whatever they are granted.

mod cases;
mod components;
mod library;
mod run;

pub use cases::{Case, Cases, Sources};
pub use library::Library;
pub use run::{Chosen, Filter, Report, run};
