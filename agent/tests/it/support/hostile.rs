//! The guest `hostile` under several tables of one agent, and what it costs the others. Tests and benchmarks share it.

use super::{Agent, Folder, Footprint, guests, wait_for, wait_within};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

/// What each probe does, and what the operator reads about it; none: it answers, and costs what it may cost.
pub const DEEDS: [(&str, Option<&str>); 9] = [
    ("spin", Some("CPU budget")),
    ("fill without end", Some("CPU budget")),
    ("fill below the budget", None),
    ("allocate", Some("bytes of memory")),
    ("sleep", Some("did not answer within")),
    ("panic", Some("the words of the plugin")),
    ("million", Some("more than")),
    ("call without end", Some("host calls")),
    ("log without end", None),
];

/// Between two looks at the agent's metrics.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Looks at the memory for one figure: three seconds of them, three rounds of every guest.
const FOOTPRINT_LOOKS: usize = 30;
/// Between two of them.
const BETWEEN_FOOTPRINTS: Duration = Duration::from_millis(100);
/// How long a window may take to fill: the machine may be busy.
const WINDOW_WAIT: Duration = Duration::from_secs(120);

/// One table for each of [`DEEDS`], called like it with `-` between its words. Every second, up to its limit.
pub fn tables() -> String {
    let mut text = String::new();
    for (deed, _) in DEEDS {
        let id = id(deed);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[probe]]\nid = {id:?}\nplugin = \"hostile\"\nevery = \"1s\"\ntimeout = \"800ms\"\nconfig = {{ do = {deed:?} }}\n"
        );
    }
    text
}

/// The name of the probe that does it.
pub fn id(deed: &str) -> String {
    deed.replace(' ', "-")
}

/// Puts the guest into the agent's plugin folder.
pub fn install(folder: &Folder) {
    let place = folder.path("data/plugins/hostile.wasm");
    fs::copy(guests::component("hostile"), place).unwrap();
}

/// What one window of runs looked like.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Runs of all probes.
    pub runs: u64,
    /// Those that began more than 50 ms after their time.
    pub late: u64,
    /// An upper bound of the lateness that 99 of 100 runs stayed below; none: beyond the last bound.
    pub p99: Option<Duration>,
}

/// Watches so many runs.
pub fn window(agent: &Agent, runs: u64) -> Window {
    let before = lateness(agent);
    wait_for_runs(agent, &before, runs);
    between(&before, &lateness(agent))
}

/// The same of an agent and, over the same time, of another one.
pub fn window_beside(agent: &Agent, other: &Agent, runs: u64) -> (Window, Window) {
    let (before, of_other) = (lateness(agent), lateness(other));
    wait_for_runs(agent, &before, runs);
    (
        between(&before, &lateness(agent)),
        between(&of_other, &lateness(other)),
    )
}

fn wait_for_runs(agent: &Agent, before: &[(f64, u64)], runs: u64) {
    wait_within(WINDOW_WAIT, "the runs of a window", || {
        // Asked without a pause, the agent would do little else than render its metrics.
        std::thread::sleep(BETWEEN_LOOKS);
        let now = lateness(agent);
        (now.last()?.1 - before.last()?.1 >= runs).then_some(())
    });
}

fn between(before: &[(f64, u64)], after: &[(f64, u64)]) -> Window {
    let passed: Vec<(f64, u64)> = after
        .iter()
        .zip(before)
        .map(|((bound, after), (_, before))| (*bound, after - before))
        .collect();
    let total = passed.last().unwrap().1;
    let within = |bound: f64| passed.iter().find(|(at, _)| *at >= bound).unwrap().1;
    let p99 = passed
        .iter()
        .find(|(bound, count)| bound.is_finite() && count * 100 >= total * 99);
    Window {
        runs: total,
        late: total - within(0.05),
        p99: p99.map(|(bound, _)| Duration::from_secs_f64(*bound)),
    }
}

/// Bounds of the histogram and how many runs stayed below each, the last one infinite.
fn lateness(agent: &Agent) -> Vec<(f64, u64)> {
    let metrics = wait_for("the metrics", || agent.text("/metrics"));
    let buckets = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("watchfire_probe_lateness_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((
            bound.replace("+Inf", "inf").parse().ok()?,
            count.parse().ok()?,
        ))
    });
    buckets.collect()
}

/// What the agent holds between calls: the least of some looks, for a guest that runs has its memory.
pub fn footprint(agent: &Agent) -> Footprint {
    let looks = (0..FOOTPRINT_LOOKS).map(|_| {
        std::thread::sleep(BETWEEN_FOOTPRINTS);
        Footprint::of(agent)
    });
    looks
        .reduce(|a, b| Footprint {
            memory_bytes: a.memory_bytes.min(b.memory_bytes),
            mappings: a.mappings.min(b.mappings),
            descriptors: a.descriptors.min(b.descriptors),
        })
        .unwrap()
}
