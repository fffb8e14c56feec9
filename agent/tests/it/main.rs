//! Tests of the whole agent: the real binary, real components, real sockets.

mod authors;
mod canary;
mod checked;
mod compile;
mod configs;
mod containment;
mod crash;
mod dependencies;
mod documented;
mod full_disk;
mod fuzzed;
mod golden;
mod history;
mod hostile;
mod hours;
mod layering;
mod lock;
mod log_reader;
mod long_answers;
mod many_files;
mod operators;
mod outage;
mod packs;
mod quarantine;
mod recovery;
mod reload;
mod reloader;
mod rule_tests;
mod servers;
mod shipped;
mod shown;
mod sigkill;
mod stock_rules;
mod stop;
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared with the benchmarks, which use another part of it"
)]
mod support;
mod under_fire;
mod waiting;
mod walls;
mod watching;
mod whole_loop;
