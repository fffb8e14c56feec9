//! A storm of alerts, and the commit that every transition waits for: the engine and `state.db` by
//! themselves, on the disk of the temporary folder. Prints; BENCHMARKS.md says what the figures mean.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watchfire::config::{Environment, from_texts, render};
use watchfire::store::{Commit, NewEvent, SavedClock, StateStore};
use watchfire_engine::input::{
    DeliveryOutcome, DeliveryReport, Input, Observation, ProbeRun, Round, RuleRound, Seen,
};
use watchfire_engine::model::{
    Instance, Labels, Moment, Now, RuleId, Severities, Severity, WallTime,
};
use watchfire_engine::{Effects, Policy, Send, State, step};

/// Rules of the storm, each a group of its own towards every notifier.
const RULES: usize = 100;

/// Instances of each rule: 5,000 alerts in all.
const INSTANCES: usize = 50;

const NOTIFIERS: usize = 20;

/// Answers that come in together: one of each notifier, as each works on one message at a time.
const REPORTS: usize = NOTIFIERS;

/// Commits of one transition each.
const COMMITS: usize = 2_000;

/// Milliseconds between two messages of a group.
const INTERVAL_MS: u64 = 60_000;

/// Milliseconds between rounds.
const EVERY_MS: u64 = 10_000;

struct Bed {
    policy: Policy,
    state: State,
    store: StateStore,
    runtime: tokio::runtime::Runtime,
    now_ms: u64,
    /// What each part of the last step took.
    decided: Duration,
    committed: Duration,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

impl Bed {
    fn new(config: &str, folder: &std::path::Path) -> Self {
        let environment = Environment {
            cwd: "/nowhere".into(),
            hostname: "bench".to_owned(),
            ..Environment::default()
        };
        let texts = [(PathBuf::from("/etc/wf/w.toml"), Arc::from(config))];
        let policy = match from_texts(&texts, &environment) {
            Ok(loaded) => (*loaded.config.policy).clone(),
            Err(rejected) => panic!("refused:\n{}", render(&rejected.mistakes, false)),
        };
        let (store, _) = StateStore::open(folder).expect("a store");
        let mut bed = Bed {
            state: State::new(&policy, now(0)),
            policy,
            store,
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            now_ms: 0,
            decided: Duration::ZERO,
            committed: Duration::ZERO,
        };
        // The first commit makes the file what it is.
        bed.commit(&Effects::default());
        bed
    }

    fn take(&mut self, input: Input) -> Vec<Send> {
        let begin = clock();
        let effects = step(&mut self.state, &self.policy, input, now(self.now_ms));
        self.decided = begin.elapsed();
        let begin = clock();
        if !effects.is_empty() {
            self.commit(&effects);
        }
        self.committed = begin.elapsed();
        effects.sends
    }

    fn commit(&mut self, effects: &Effects) {
        let commit = Commit {
            records: effects.records.clone(),
            events: effects.events.iter().map(NewEvent::from_engine).collect(),
            clock: SavedClock {
                boot_id: "bench".to_owned(),
                boottime_ms: self.now_ms,
                moment_ms: self.now_ms,
                wall_ms: self.now_ms,
            },
            plugin_state: Vec::new(),
        };
        self.runtime
            .block_on(self.store.commit(commit))
            .expect("a commit");
    }

    /// As the agent does each minute.
    fn rest(&self) {
        self.runtime.block_on(self.store.rest());
        watchfire::heap::settle();
        watchfire::heap::give_back();
    }

    fn round(&mut self, fires: bool, rules: usize, instances: usize) -> Vec<Send> {
        let every = Duration::from_millis(EVERY_MS);
        let breached: Severities = fires.then_some(Severity::Critical).into_iter().collect();
        let rules = (0..rules).map(|rule| {
            let id = RuleId::new(format!("rule{rule}"));
            let observations = (0..instances).map(|instance| {
                let labels = Labels::new([("instance", instance.to_string())]).expect("labels");
                Observation {
                    instance: Arc::new(Instance::new(id.clone(), labels)),
                    seen: Seen::Value,
                    breached: Some(breached),
                    value: 99.0,
                    limit: 90.0,
                    note: None,
                    memory: None,
                }
            });
            RuleRound {
                every,
                result: Ok(observations.collect()),
                rule: id,
            }
        });
        let round = Round {
            rules: rules.collect(),
            probes: vec![ProbeRun {
                probe: "probe".into(),
                every,
                result: Ok(()),
            }],
            missed: 0,
        };
        self.take(Input::Round(round))
    }

    /// Every service answers, and the stage takes the answers in as they come in together; tells how many
    /// messages there were and how long all of it took.
    fn deliver(&mut self, mut sends: Vec<Send>) -> (usize, Duration) {
        let begin = clock();
        let mut count = 0;
        while !sends.is_empty() {
            let batch = sends.split_off(sends.len().saturating_sub(REPORTS));
            count += batch.len();
            let reports = batch.into_iter().map(|send| DeliveryReport {
                id: send.notification.id.clone(),
                attempt: send.attempt,
                outcome: DeliveryOutcome::Accepted { remote_id: None },
            });
            let reports = reports.collect();
            sends.extend(self.take(Input::Deliveries(reports)));
        }
        (count, begin.elapsed())
    }
}

fn now(ms: u64) -> Now {
    Now {
        at: Moment(ms),
        wall: WallTime(1_700_000_000_000 + ms),
    }
}

/// What this process keeps in memory, in MiB: resident, how much of it is its own (the heap, stacks; the rest are
/// pages of files, code above all, which go when others need room), and how much of the heap is in use: what lies
/// between are holes.
fn memory() -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1_024.0
    };
    format!(
        "{:.1} MiB ({:.1} its own, {:.1} of the heap in use)",
        of("VmRSS:"),
        of("RssAnon:"),
        in_use() / 1_048_576.0
    )
}

/// Bytes of the heap that are in use, as glibc counts them.
#[cfg(target_env = "gnu")]
fn in_use() -> f64 {
    /// `struct mallinfo2` of malloc.h: sums over all arenas.
    #[repr(C)]
    struct Info {
        _arena_ordblks_smblks_hblks: [usize; 4],
        /// Bytes of blocks that are mappings of their own.
        mapped: usize,
        _usmblks_fsmblks: [usize; 2],
        /// Bytes of the others.
        used: usize,
        _fordblks_keepcost: [usize; 2],
    }
    #[expect(unsafe_code, reason = "no crate of ours offers it in a safe wrapper")]
    // SAFETY: the signature of malloc.h; it may be called at any time from any thread.
    unsafe extern "C" {
        safe fn mallinfo2() -> Info;
    }
    let info = mallinfo2();
    (info.mapped + info.used) as f64
}

#[cfg(not(target_env = "gnu"))]
fn in_use() -> f64 {
    f64::NAN
}

fn config(rules: usize, notifiers: usize) -> String {
    let mut text = "[alerting]\nkeep = \"0s\"\n".to_owned();
    let names: Vec<String> = (0..notifiers).map(|n| format!("\"n{n}\"")).collect();
    for name in &names {
        let _ = write!(
            text,
            "\n[[notifier]]\nid = {name}\nplugin = \"notifier-log\"\n"
        );
    }
    let _ = write!(
        text,
        "\n[[route]]\nnotify = [{}]\ngroup_by = [\"rule\"]\ngroup_wait = \"10s\"\ngroup_interval = \"{}s\"\n",
        names.join(", "),
        INTERVAL_MS / 1_000
    );
    for rule in 0..rules {
        let _ = write!(
            text,
            "\n[[rule]]\nid = \"rule{rule}\"\nmetric = \"m{rule}\"\nconfig = {{ above = {{ critical = 90 }} }}\n"
        );
    }
    text
}

/// One alert that fires and resolves, over and over: a transition with its outbox row in each commit.
fn commits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bed = Bed::new(&config(1, 1), folder.path());
    let mut times = Vec::new();
    while times.len() < COMMITS {
        bed.now_ms += EVERY_MS * 10;
        let fires = times.len().is_multiple_of(2);
        let sends = bed.round(fires, 1, 1);
        times.push(bed.committed);
        bed.deliver(sends);
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "commit of a transition with its outbox row: p50 {:?}, p99 {:?}, worst {:?} of {COMMITS}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn storm() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bed = Bed::new(&config(RULES, NOTIFIERS), folder.path());
    bed.round(false, RULES, INSTANCES);
    println!("memory before: {}", memory());
    for (what, fires) in [("fires", true), ("resolves", false)] {
        bed.now_ms += EVERY_MS * 10;
        let mut sends = bed.round(fires, RULES, INSTANCES);
        let (decided, committed) = (bed.decided, bed.committed);
        let at_once = sends.len();
        let (mut count, mut took) = bed.deliver(std::mem::take(&mut sends));
        // What waits for its group's interval; a group that fires is looked at in each, for ever.
        let end = bed.now_ms + 2 * INTERVAL_MS;
        while let Some(due) = bed.state.next_due().filter(|due| due.0 <= end) {
            bed.now_ms = due.0.max(bed.now_ms);
            let sends = bed.take(Input::Timer);
            let (more, longer) = bed.deliver(sends);
            count += more;
            took += longer;
        }
        println!(
            "{} alerts, {NOTIFIERS} notifiers: the round in which it {what} is decided in {decided:?} and committed in {committed:?}; {count} messages for {} groups ({at_once} at once), all told in {took:?}",
            RULES * INSTANCES,
            RULES * NOTIFIERS,
        );
        println!("memory: {}", memory());
    }
    // Half an hour the alerts could yet flap; then they are as if they had never fired.
    for (what, minutes) in [("a minute", 1), ("half an hour", 31)] {
        for _ in 0..minutes * 6 {
            bed.now_ms += EVERY_MS;
            bed.round(false, RULES, INSTANCES);
        }
        bed.rest();
        println!(
            "{what} of healthy rounds later, and what is idle given back as the agent does each minute: {} alerts, {} messages left; memory: {}",
            bed.state.alerts().len(),
            bed.state.outbox_pending(),
            memory()
        );
    }
}

fn main() {
    // As the agent begins.
    watchfire::heap::keep_together();
    // `cargo test` runs benchmarks too, for a moment; this one has nothing to say there.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let wanted = |name: &str| {
        let named = |argument: &&String| !argument.starts_with("--");
        !arguments.iter().any(|argument| named(&argument)) || arguments.iter().any(|a| a == name)
    };
    if wanted("commits") {
        commits();
    }
    if wanted("storm") {
        storm();
    }
}
