//! watchfire: a lean host monitoring agent with sandboxed plugins. See ARCHITECTURE.md for the drawing.

pub mod api;
pub mod cli;
pub mod config;
pub mod error;
pub mod pipeline;
pub mod plugin;
pub mod sandbox;
pub mod telemetry;
