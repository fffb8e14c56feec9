//! Components that misbehave cost only themselves.

use crate::configs::{QUEUE_RULE, hook, queue_probe_every};
use crate::support::hostile::{self, DEEDS};
use crate::support::{Agent, Answer, Folder, Server, wait_for};

/// Runs of all probes in one window: some twenty a second.
const RUNS: u64 = 200;
/// As many may be late in a debug build beside other tests: who is held up is late with nearly all. How many exactly is
/// for the benchmark to say.
const LATE_ONE_IN: u64 = 20;
/// Windows to be on time in one of.
const WINDOWS: usize = 12;
/// What the agent's memory may grow by between two windows, bytes: arenas of the allocator settle. A leak of what
/// these guests take or hand over would be a hundred times as much.
const GROWTH_MAX: u64 = 16 << 20;
/// Descriptors more: connections of the moment.
const DESCRIPTORS_MORE_MAX: u64 = 8;

#[test]
fn each_costs_only_itself() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    let probe = queue_probe_every("100ms", "90ms", &source);
    let mut config = probe.clone();
    config.push_str(&hostile::tables());
    config.push_str(QUEUE_RULE);
    config.push_str(&hook(&sink));
    let folder = Folder::new(&config);
    hostile::install(&folder);
    let agent = Agent::start(&folder);
    for (deed, words) in DEEDS {
        let id = hostile::id(deed);
        let shown = wait_for(&format!("{id} ran and says how it ended"), || {
            let probes = agent.get("/api/v1/probes")?;
            let probe = probes.as_array()?.iter().find(|probe| probe["id"] == *id)?;
            let ran = !probe["last_run"].is_null() || !probe["error"].is_null();
            ran.then(|| probe["error"].as_str().unwrap_or("").to_owned())
        });
        match words {
            // On a busy machine a budget of CPU time may outlast the time there is, or come before another limit.
            Some(words) => assert!(
                [words, "did not answer within", "CPU budget"]
                    .iter()
                    .any(|words| shown.contains(words)),
                "{id}: {shown}"
            ),
            None => println!("{id}: {shown:?}"),
        }
    }

    // Beside all of them the good probe is on time, and its page goes out. After five runs each of them is
    // quarantined and runs ever more seldom, so the first window counts most.
    source.always(Answer::json(r#"{"queue": 250}"#));
    let page = wait_for("the page beside hostile guests", || {
        sink.received()
            .into_iter()
            .find(|r| r.json()["alerts"][0]["rule"] == "queue-long")
    });
    assert_eq!(page.json()["reason"], "fire");
    // An agent without hostile guests tells how late this machine makes everybody.
    let twin = Folder::new(&probe);
    let twin = Agent::start(&twin);
    // What settles in the first seconds is no leak.
    hostile::window(&agent, RUNS);
    let before = hostile::footprint(&agent);
    let on_time = (0..WINDOWS).any(|_| {
        let (window, alone) = hostile::window_beside(&agent, &twin, RUNS);
        println!(
            "beside {} hostile guests: {window:?}; an agent without: {alone:?}",
            DEEDS.len()
        );
        window.late * LATE_ONE_IN <= window.runs
            || window.late * alone.runs <= 2 * alone.late * window.runs
    });
    assert!(
        on_time,
        "in every window too many runs are 50 ms late or more, and twice as many as elsewhere"
    );
    let after = hostile::footprint(&agent);
    println!("{before:?}, then {after:?}");
    assert!(
        after.memory_bytes < before.memory_bytes + GROWTH_MAX,
        "{before:?}, then {after:?}"
    );
    assert!(
        after.descriptors <= before.descriptors + DESCRIPTORS_MORE_MAX,
        "{before:?}, then {after:?}"
    );
}
