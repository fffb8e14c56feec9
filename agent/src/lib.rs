//! watchfire: a lean host monitoring agent with sandboxed plugins. See ARCHITECTURE.md for the drawing.

pub mod clock;
pub mod config;
pub mod pipeline;
pub mod sandbox;
pub mod store;
pub mod telemetry;
