//! watchfire: a lean host monitoring agent with sandboxed plugins. See ARCHITECTURE.md for the drawing.

pub mod config;
pub mod sandbox;
pub mod store;
