//! Figures of the whole agent, taken from outside on the real binary.
//!
//! ```text
//! cargo bench -p watchfire --bench end_to_end -- start latency reload idle
//! cargo bench -p watchfire --bench end_to_end -- idle --every 1s --minutes 10 --binary target/dist/watchfire
//! ```
//!
//! Machines are shared: quote medians, and compare two things in one run.

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

use std::fs;
use std::time::Duration;
use support::{Agent, Answer, Folder, Server, guests, now, wait_for};

/// Trials of the latency figure.
const TRIALS: usize = 100;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let mut which = Vec::new();
    let mut every = "10s".to_owned();
    let mut minutes = 1.0;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .unwrap_or_else(|| panic!("{argument} takes a value"))
        };
        match argument.as_str() {
            "--every" => every = value(),
            "--minutes" => minutes = value().parse().expect("a number of minutes"),
            "--binary" => support::use_binary(value().into()),
            _ => which.push(argument),
        }
    }
    if which.is_empty() {
        which = ["start", "latency", "reload"].map(str::to_owned).to_vec();
    }
    for figure in which {
        match figure.as_str() {
            "start" => start(),
            "latency" => latency(),
            "reload" => reload(),
            "idle" => idle(&every, minutes),
            other => println!("there is no figure {other:?}: start, latency, reload, idle"),
        }
    }
}

/// From the start of the process to the first evaluated round, with nothing compiled and with everything.
fn start() {
    let mut cold = Vec::new();
    let mut warm = Vec::new();
    for _ in 0..5 {
        let folder = Folder::empty();
        for times in [&mut cold, &mut warm] {
            let since = now();
            let agent = Agent::start_without_configuration(&folder);
            times.push(since.elapsed());
            agent.terminate();
        }
    }
    print("start to first evaluated round, empty code cache", cold);
    print("start to first evaluated round, filled code cache", warm);
}

/// From the sample's arrival to the first byte at the webhook.
fn latency() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    let often = configs::queue_probe_every("50ms", "45ms", &source);
    let alerting = "\n[alerting]\nflapping = false\n";
    let config = [&often, configs::QUEUE_RULE, alerting, &configs::hook(&sink)].concat();
    let folder = Folder::new(&config);
    let _agent = Agent::start(&folder);
    let mut fires = Vec::new();
    let mut resolves = Vec::new();
    for trial in 0..TRIALS {
        for (value, times) in [(250, &mut fires), (7, &mut resolves)] {
            let told = sink.received().len();
            let asked = source.received().len();
            source.always(Answer::json(format!("{{\"queue\": {value}}}")));
            let page = wait_for(&format!("message {trial}"), || {
                sink.received().get(told).cloned()
            });
            // The newest sample asked for before the page is the one that carries the switch.
            let sample = source.received()[asked..]
                .iter()
                .rfind(|request| request.at <= page.at)
                .map(|request| request.at)
                .expect("a sample came before the page");
            times.push(page.at - sample);
        }
    }
    print("sample asked for to page received, fire", fires);
    print("sample asked for to page received, resolve", resolves);
}

/// From the rename of a new file into place to the event that it serves.
fn reload() {
    let folder = Folder::new("\n[defaults]\nevery = \"1s\"\ntimeout = \"500ms\"\n");
    let place = folder.path("data/plugins/example.wasm");
    let component = fs::read(guests::component("example-probe")).unwrap();
    fs::write(&place, &component).unwrap();
    let agent = Agent::start(&folder);
    let mut times = Vec::new();
    for trial in 0..10 {
        // Each trial is a component that was never seen: a custom section makes it another file.
        let mut bytes = component.clone();
        let name = format!("trial-{trial}");
        let length = u8::try_from(name.len()).unwrap();
        bytes.extend([0, length + 1, length]);
        bytes.extend(name.as_bytes());
        let beside = folder.path("data/plugins/.new");
        fs::write(&beside, &bytes).unwrap();
        let seen = reloads(&agent).len();
        let wall = std::time::SystemTime::now();
        fs::rename(&beside, &place).unwrap();
        let at_ms = wait_for("the reload", || reloads(&agent).get(seen).copied());
        let since = wall.duration_since(std::time::UNIX_EPOCH).unwrap();
        times.push(Duration::from_millis(at_ms).saturating_sub(since));
    }
    print(
        "plugin renamed into place to serving, never compiled before",
        times,
    );
}

fn reloads(agent: &Agent) -> Vec<u64> {
    let Some(events) = agent.get("/events?since=0&type=plugin&limit=1000") else {
        return Vec::new();
    };
    let events = events["events"].as_array().cloned().unwrap_or_default();
    events
        .iter()
        .filter_map(|event| event["wall_ms"].as_u64())
        .collect()
}

/// Memory and CPU of the stock host monitoring.
fn idle(every: &str, minutes: f64) {
    let folder = Folder::with_host_pack(&format!(
        "[[probe]]\nid = \"host\"\nplugin = \"probe-host\"\nevery = \"{every}\"\ntimeout = \"900ms\"\ngrant = {{ system = true }}\n"
    ));
    let agent = Agent::start(&folder);
    let rules = agent
        .get("/api/v1/rules")
        .and_then(|r| r.as_array().map(Vec::len))
        .unwrap_or(0);
    std::thread::sleep(Duration::from_secs(5));
    let before = cpu_ticks(agent.pid());
    let since = now();
    std::thread::sleep(Duration::from_secs_f64(minutes * 60.0));
    let ticks = cpu_ticks(agent.pid()) - before;
    let share = ticks as f64 / 100.0 / since.elapsed().as_secs_f64() * 100.0;
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", agent.pid())).unwrap();
    let kib = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    println!("idle, every {every}, {rules} rules, {minutes} min: {share:.3} % of a core");
    println!(
        "  PSS {:.1} MiB, of it anonymous {:.1} MiB",
        kib("Pss:") / 1024.0,
        kib("Pss_Anon:") / 1024.0
    );
}

/// User and system time, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(") ").next().unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    println!(
        "{name}: median {:.2?}, p99 {:.2?}, min {:.2?}, max {:.2?} of {}",
        at(0.5),
        at(0.99),
        times[0],
        times[times.len() - 1],
        times.len()
    );
}
