//! watchfire: a lean host monitoring agent with sandboxed plugins. See ARCHITECTURE.md for the drawing,
//! the code map and the invariants.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod heap;
pub mod matcher;
pub mod pipeline;
pub mod plugin;
pub mod sandbox;
pub mod simulate;
pub mod store;
pub mod telemetry;
