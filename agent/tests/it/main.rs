//! Tests of the agent from outside, in one binary.

mod compile;
mod reload;
mod support;
