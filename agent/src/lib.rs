//! watchfire: a lean host monitoring agent with sandboxed plugins. See ARCHITECTURE.md for the drawing.

pub mod cli;
pub mod config;
pub mod plugin;
pub mod sandbox;
