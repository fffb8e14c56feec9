//! What hostile plugins cost their neighbours, taken from outside on the real binary.
//!
//! ```text
//! cargo bench -p watchfire --bench sandbox_hostile                                          # the release build
//! cargo bench -p watchfire --bench sandbox_hostile -- --binary target/dist/watchfire --windows 5
//! ```
//!
//! One agent runs the host's probe and a JSON endpoint every 100 ms; first alone, then beside guests that loop, fill
//! memory, sleep, flood the log, hand over a million samples. The lateness of every run's beginning is read from
//! the agent's own histogram, so the figure is an upper bound: the next limit of a bucket.

#[path = "../tests/it/configs.rs"]
#[expect(
    dead_code,
    reason = "the benchmark uses a part of what the tests share"
)]
mod configs;
#[path = "../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the benchmark uses a part of what the tests share"
)]
mod support;

use support::hostile::{self, DEEDS};
use support::{Agent, Answer, Folder, Server};

/// Runs in one window.
const RUNS: u64 = 1_000;

fn main() {
    let mut windows = 3;
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .unwrap_or_else(|| panic!("{argument} takes a value"))
        };
        match argument.as_str() {
            "--binary" => support::use_binary(value().into()),
            "--windows" => windows = value().parse().expect("a number"),
            other => println!("there is no option {other:?}: --binary FILE, --windows N"),
        }
    }
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let good = configs::queue_probe_every("100ms", "90ms", &source)
        + "\n[[probe]]\nid = \"host\"\nplugin = \"probe-host\"\nevery = \"100ms\"\ntimeout = \"90ms\"\ngrant = { system = true }\n";
    for (name, tables) in [
        ("alone".to_owned(), good.clone()),
        (
            format!("beside {} hostile plugins", DEEDS.len()),
            good + &hostile::tables(),
        ),
    ] {
        let folder = Folder::new(&tables);
        hostile::install(&folder);
        let agent = Agent::start(&folder);
        hostile::window(&agent, RUNS / 10);
        let before = hostile::footprint(&agent);
        for _ in 0..windows {
            let window = hostile::window(&agent, RUNS);
            println!(
                "{name}: {} runs, p99 of lateness at most {:?}, {} runs more than 50 ms late",
                window.runs, window.p99, window.late
            );
        }
        let after = hostile::footprint(&agent);
        println!(
            "{name}: {} KiB anonymous memory, {} before; {} descriptors, {} before",
            after.memory_bytes >> 10,
            before.memory_bytes >> 10,
            after.descriptors,
            before.descriptors
        );
    }
}
