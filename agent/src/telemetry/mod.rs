//! What the agent says of itself: its metrics ([`metrics`]) and its log.

pub mod exposition;
pub mod instrument;
pub mod metrics;
mod process;
