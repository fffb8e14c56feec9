//! Tests of the whole agent: the real binary, real components, real sockets.

mod compile;
mod configs;
mod dependencies;
mod hostile;
mod layering;
mod outage;
mod recovery;
mod reload;
mod reloader;
mod rule_tests;
mod sandbox;
mod servers;
mod shipped;
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared with the benchmarks, which use another part of it"
)]
mod support;
mod whole_loop;
