//! Tests of the agent from outside, in one binary.

mod reload;
mod support;
