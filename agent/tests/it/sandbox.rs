//! The sandbox against real components: every limit has a guest that breaks it, every call is alone.

use crate::support::guests;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use watchfire::sandbox::types::{
    Alert, Batch, CallError, Collection, CommandSpec, Cost, Grants, Kind, Limits, Message, Use,
};
use watchfire::sandbox::{
    Component, HostConfig, HostServices, LoadError, LogLine, LogSink, MemoryState, NoEvents, Probe,
    Sandbox, SandboxSettings, compatibility_key, compile, wants,
};
use watchfire_engine::model::{Severities, Severity};

/// Between the limit and the answer: two ticks, and what a busy machine takes to run two threads.
const SLACK: Duration = Duration::from_millis(250);

/// Keeps lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl LogSink for Lines {
    fn line(&self, line: LogLine<'_>) {
        self.0.lock().unwrap().push(line.message.to_owned());
    }
}

struct Bench {
    sandbox: Sandbox,
    state: Arc<MemoryState>,
    lines: Lines,
}

impl Bench {
    fn new() -> Self {
        Bench::with(SandboxSettings::default())
    }

    fn with(settings: SandboxSettings) -> Self {
        let state = Arc::new(MemoryState::default());
        let lines = Lines::default();
        let mut services = HostServices::new(
            Arc::clone(&state) as _,
            Arc::new(NoEvents),
            Arc::new(lines.clone()),
        );
        services.config = HostConfig {
            commands: BTreeMap::from([
                ("greet".to_owned(), command("cat >&2; echo hello $0")),
                ("fix".to_owned(), command("exit 0")),
            ]),
            ..HostConfig::default()
        };
        Bench {
            sandbox: Sandbox::new(settings, services).unwrap(),
            state,
            lines,
        }
    }

    fn load(&self, name: &str) -> Component {
        let artefact = artefact(name, self.sandbox.settings());
        self.sandbox.load(name, [7; 32], &artefact, false).unwrap()
    }

    fn hostile(&self, deed: &str, change: impl FnOnce(&mut Limits, &mut Grants)) -> Probe {
        let mut limits = Limits::of(Kind::Probe);
        let mut grants = Grants::default();
        change(&mut limits, &mut grants);
        let settings = Use {
            id: "test".into(),
            config: serde_json::json!({ "do": deed }).to_string().into(),
            grants: Arc::new(grants),
            limits,
        };
        self.load("hostile").probe(settings).unwrap()
    }

    async fn collect(&self, deed: &str) -> (Result<Collection, CallError>, Cost) {
        self.hostile(deed, |_, _| ()).collect().await
    }
}

fn command(script: &str) -> CommandSpec {
    CommandSpec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        user: None,
        cwd: None,
        env: BTreeMap::new(),
        stdin: true,
        timeout: Duration::from_secs(2),
        max_output_bytes: 1_000,
    }
}

/// Compiled once for all tests; an unoptimised compiler takes its time.
fn artefact(name: &str, settings: SandboxSettings) -> Arc<Vec<u8>> {
    type Artefacts = Mutex<BTreeMap<(String, bool, bool), Arc<Vec<u8>>>>;
    static MADE: OnceLock<Artefacts> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    let key = (
        name.to_owned(),
        settings.small_address_space,
        settings.interpreter,
    );
    let artefact = made.entry(key).or_insert_with(|| {
        let bytes = std::fs::read(guests::component(name)).unwrap();
        Arc::new(compile(&bytes, settings).unwrap())
    });
    Arc::clone(artefact)
}

fn value(collection: &Collection) -> f64 {
    collection.families[0].points[0].value
}

fn alert() -> Alert {
    Alert {
        fingerprint: "f".into(),
        episode: 1,
        rule: "queue-long".into(),
        severity: Severity::High,
        labels: Vec::new(),
        value: None,
        limit: None,
        summary: String::new(),
        started_at_ms: 1,
        ended_at_ms: None,
        extra: Vec::new(),
    }
}

#[tokio::test]
async fn a_component_says_what_it_is_with_nothing_granted() {
    let bench = Bench::new();
    let component = bench.load("hostile");
    assert_eq!(component.kinds(), [Kind::Probe]);
    assert_eq!(component.sha256(), [7; 32]);
    assert!(
        component.imports().iter().all(|import| {
            import.starts_with("watchfire:plugin/") || import.starts_with("wasi:")
        })
    );
    let description = component.describe().await.unwrap();
    assert_eq!(description.name, "guest-hostile");
    assert_eq!(
        wants(&description),
        "grant = { commands = [\"greet\"], system = true }\n"
    );
    let settings = Use {
        id: "x".into(),
        config: "{}".into(),
        grants: Arc::default(),
        limits: Limits::of(Kind::Rule),
    };
    let wrong = component.rule(settings).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "plugin 'hostile' is no rule: it is probe"
    );
}

#[tokio::test]
async fn a_wrong_configuration_is_told_in_the_plugins_words() {
    let bench = Bench::new();
    let probe = bench.hostile("refuse", |_, _| ());
    let refused = probe.configure().await.unwrap_err();
    assert_eq!(
        refused,
        CallError::Config("config.do: write something else".into())
    );
    let (answer, _) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), refused);
    bench.hostile("", |_, _| ()).configure().await.unwrap();
}

#[tokio::test]
async fn a_loop_ends_with_its_budget() {
    let bench = Bench::new();
    for deed in ["spin", "spin in configure"] {
        let cpu = Duration::from_millis(200);
        let probe = bench.hostile(deed, |limits, _| limits.cpu = cpu);
        let (answer, cost) = probe.collect().await;
        assert_eq!(answer.unwrap_err(), CallError::CpuLimit(cpu), "{deed}");
        assert_eq!(cost.cpu_ticks, 20);
        assert!(cost.wall >= Duration::from_millis(190), "{cost:?}");
        // The ticks are the budget; on a busy machine the same ticks take longer.
        assert!(cost.wall < 10 * cpu, "{cost:?}");
    }
}

#[tokio::test]
async fn a_sleeper_ends_with_the_wall_limit() {
    let bench = Bench::new();
    let wall = Duration::from_millis(300);
    let probe = bench.hostile("sleep", |limits, _| limits.wall = wall);
    let (answer, cost) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), CallError::WallLimit(wall));
    assert!(cost.wall < wall + SLACK, "{cost:?}");
}

#[tokio::test]
async fn spinners_on_every_thread_do_not_outlive_their_wall_limit() {
    let bench = Bench::new();
    let wall = Duration::from_millis(300);
    let all: Vec<Probe> = (0..4)
        .map(|_| {
            bench.hostile("spin", |limits, _| {
                limits.wall = wall;
                limits.cpu = Duration::from_secs(60);
            })
        })
        .collect();
    let since = Instant::now();
    let calls = all.iter().map(Probe::collect);
    for (answer, _) in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap_err(), CallError::WallLimit(wall));
    }
    assert!(since.elapsed() < wall + 2 * SLACK, "{:?}", since.elapsed());
}

#[tokio::test]
async fn memory_is_bounded_and_named() {
    let bench = Bench::new();
    let probe = bench.hostile("allocate", |limits, _| limits.memory_bytes = 16 << 20);
    let (answer, cost) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), CallError::MemoryLimit(16 << 20));
    assert!(cost.memory_bytes <= 16 << 20, "{cost:?}");
    // What does not even start says the same.
    let probe = bench.hostile("", |limits, _| limits.memory_bytes = 64 << 10);
    let (answer, _) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), CallError::MemoryLimit(64 << 10));
}

#[tokio::test]
async fn faults_say_what_happened() {
    let bench = Bench::new();
    let (answer, _) = bench.collect("panic").await;
    let CallError::Trapped(text) = answer.unwrap_err() else {
        panic!("another case")
    };
    assert!(text.ends_with("the words of the plugin"), "{text:?}");
    assert!(text.contains("src/lib.rs"), "{text:?}");

    let (answer, _) = bench.collect("exit").await;
    // WASI 0.2 knows success and failure only.
    assert_eq!(answer.unwrap_err(), CallError::Exited(1));

    let (answer, _) = bench.collect("recurse").await;
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("call stack exhausted"), "{error}");
}

#[tokio::test]
async fn host_calls_are_counted_and_bounded() {
    let bench = Bench::new();
    let (answer, cost) = bench.collect("call without end").await;
    assert_eq!(answer.unwrap_err(), CallError::HostCallLimit(10_000));
    assert_eq!(cost.host_calls, 10_000);
    assert!(
        cost.host > Duration::ZERO && cost.host <= cost.wall,
        "{cost:?}"
    );
}

#[tokio::test]
async fn answers_that_are_too_large_are_refused_whole() {
    let bench = Bench::new();
    for (deed, words) in [
        ("million", "more than"),
        (
            "eleven thousand",
            "11000 samples in 1 families, more than 10000",
        ),
        ("long value", "more than 4194304 bytes at once"),
        ("twice", "series twice stands twice"),
    ] {
        let (answer, _) = bench.collect(deed).await;
        let error = answer.unwrap_err();
        // A million samples may fail for their memory or for their transfer, whichever is first.
        let named = matches!(error, CallError::BadResult(_) | CallError::MemoryLimit(_));
        assert!(named, "{deed}: {error}");
        assert!(error.to_string().contains(words), "{deed}: {error}");
    }
}

#[tokio::test]
async fn strange_text_survives() {
    let bench = Bench::new();
    let (answer, _) = bench.collect("strange text").await;
    let collection = answer.unwrap();
    let text = "\u{1b}[31m<b>\"\\\n\u{202e}\0";
    let family = &collection.families[0];
    assert_eq!(&*family.help, text);
    assert_eq!(family.points[0].series.labels.get("text"), Some(text));
    assert!(family.points[0].value.is_nan());
}

#[tokio::test]
async fn floods_of_words_are_cut() {
    // Words are the matter here, not time: a tick is wall time, and the machine may be busy.
    let patient = |limits: &mut Limits| limits.cpu = Duration::from_secs(4);
    let bench = Bench::new();
    let (answer, _) = bench.collect("log without end").await;
    answer.unwrap();
    // A burst of 100, and what twenty a second adds meanwhile.
    let lines = bench.lines.0.lock().unwrap().len();
    assert!((100..200).contains(&lines), "{lines}");

    let bench = Bench::new();
    let probe = bench.hostile("log much", |limits, _| patient(limits));
    probe.collect().await.0.unwrap();
    assert_eq!(bench.lines.0.lock().unwrap()[0].len(), 4 << 10);

    let bench = Bench::new();
    let probe = bench.hostile("print", |limits, _| patient(limits));
    probe.collect().await.0.unwrap();
    let lines = bench.lines.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("stdout: ") && lines[0].len() < 5_000);
    assert!(lines[0].contains("line 19999 "), "the end is what counts");
}

#[tokio::test]
async fn state_is_kept_only_by_calls_that_succeed() {
    let bench = Bench::new();
    let counted = || bench.state.of("test").get("count").cloned();
    let (answer, _) = bench.collect("count").await;
    assert_eq!(value(&answer.unwrap()), 1.0);
    assert_eq!(counted().unwrap(), b"1");
    for deed in ["count and panic", "count and fail", "count and spin"] {
        let (answer, _) = bench.collect(deed).await;
        answer.unwrap_err();
        assert_eq!(counted().unwrap(), b"1", "{deed}");
    }
    let (answer, _) = bench.hostile("count", |_, _| ()).trial().await;
    assert_eq!(value(&answer.unwrap()), 2.0);
    assert_eq!(counted().unwrap(), b"1", "a trial leaves no trace");
    let (answer, _) = bench.collect("count").await;
    assert_eq!(value(&answer.unwrap()), 2.0);
}

#[tokio::test]
async fn what_is_not_granted_is_refused_with_the_line_to_add() {
    let bench = Bench::new();
    for (deed, line) in [
        (
            "read system",
            "add `grant = { system = true }` to [[probe]] \"test\"",
        ),
        (
            "read what is not granted",
            "add `grant = { files = [\"/etc/shadow\"] }` to [[probe]] \"test\"",
        ),
        (
            "run",
            "add `grant = { commands = [\"greet\"] }` to [[probe]] \"test\"",
        ),
    ] {
        let (answer, cost) = bench.collect(deed).await;
        let error = answer.unwrap_err();
        assert_eq!(error.name(), "denied");
        assert!(error.to_string().ends_with(line), "{error}");
        assert_eq!(cost.refusals, 1);
    }
    let granted = bench.hostile("read system", |_, grants| grants.system = true);
    granted.collect().await.0.unwrap();
    let granted = bench.hostile("run", |_, grants| grants.commands = vec!["greet".into()]);
    granted.collect().await.0.unwrap();
    // Logged once in these words, however often it happens.
    let probe = bench.hostile("read system", |_, _| ());
    bench.lines.0.lock().unwrap().clear();
    for _ in 0..3 {
        probe.collect().await.0.unwrap_err();
    }
    assert_eq!(bench.lines.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_starts_from_nothing() {
    let bench = Bench::new();
    let probe = bench.hostile("static", |_, _| ());
    for _ in 0..3 {
        assert_eq!(value(&probe.collect().await.0.unwrap()), 0.0);
    }
    let (answer, _) = bench.collect("look around").await;
    assert_eq!(value(&answer.unwrap()), 0.0, "no environment, no arguments");
}

#[tokio::test]
async fn a_use_runs_one_call_at_a_time_and_a_dropped_one_ends() {
    let bench = Bench::new();
    let probe = bench.hostile("work for 100 ms", |_, _| ());
    let since = Instant::now();
    let (first, second) = tokio::join!(probe.collect(), probe.collect());
    first.0.unwrap();
    second.0.unwrap();
    assert!(since.elapsed() >= Duration::from_millis(200));

    let spinner = bench.hostile("spin", |limits, _| limits.cpu = Duration::from_secs(60));
    let dropped = tokio::time::timeout(Duration::from_millis(50), spinner.collect()).await;
    dropped.unwrap_err();
    // Its place is free at the next tick: the next call gets it long before a limit.
    let since = Instant::now();
    let next = tokio::time::timeout(Duration::from_millis(50), spinner.collect()).await;
    next.unwrap_err();
    bench.collect("").await.0.unwrap();
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
}

/// Keeps the names of the threads that guests log from.
#[derive(Clone, Default)]
struct Callers(Arc<Mutex<Vec<String>>>);

impl LogSink for Callers {
    fn line(&self, _: LogLine<'_>) {
        let name = std::thread::current().name().unwrap_or("").to_owned();
        self.0.lock().unwrap().push(name);
    }
}

#[tokio::test]
async fn a_call_starts_with_its_caller_and_works_on_elsewhere() {
    let callers = Callers::default();
    let services = HostServices::new(
        Arc::new(MemoryState::default()),
        Arc::new(NoEvents),
        Arc::new(callers.clone()),
    );
    let mut bench = Bench::new();
    bench.sandbox = Sandbox::new(SandboxSettings::default(), services).unwrap();
    let probe = bench.hostile("log and work for 100 ms", |_, _| ());
    // While the guest works, its caller's thread does something else.
    let answered = std::cell::Cell::new(false);
    let first = async {
        let (answer, _) = probe.collect().await;
        answered.set(true);
        answer
    };
    let other = async {
        let mut turns = 0;
        while !answered.get() {
            tokio::task::yield_now().await;
            turns += 1;
        }
        turns
    };
    let (first, turns) = tokio::join!(biased; first, other);
    first.unwrap();
    assert!(turns > 1, "the caller was held up for 100 ms");
    probe.collect().await.0.unwrap();
    let here = std::thread::current().name().unwrap_or("").to_owned();
    let guests = "watchfire-guest".to_owned();
    assert_ne!(here, guests);
    // The second one is not lent the thread again.
    assert_eq!(*callers.0.lock().unwrap(), [here, guests]);
}

#[tokio::test]
async fn the_small_address_space_runs_the_same_components() {
    let small = SandboxSettings {
        small_address_space: true,
        ..Bench::new().sandbox.settings()
    };
    let bench = Bench::with(small);
    bench.collect("").await.0.unwrap();
    let probe = bench.hostile("allocate", |_, _| ());
    let (answer, _) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), CallError::MemoryLimit(64 << 20));
    // Code for the other one is refused, cleanly.
    let large = Bench::new().sandbox.settings();
    let other = artefact("hostile", large);
    let refused = bench.sandbox.load("hostile", [0; 32], &other, false);
    assert!(
        matches!(refused, Err(LoadError::Artefact { .. })),
        "{refused:?}"
    );
    assert_ne!(
        compatibility_key(small).unwrap(),
        compatibility_key(large).unwrap()
    );
}

/// Whether as many memories as calls would not fit: the engine has to find that out by itself.
fn address_space_is_short() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As);
    limit.current.is_some_and(|bytes| bytes < 32 << 30)
}

#[tokio::test]
async fn the_address_space_is_the_one_that_fits() {
    let bench = Bench::new();
    let small = bench.sandbox.settings().small_address_space;
    assert_eq!(small, address_space_is_short());
    bench.collect("").await.0.unwrap();
}

#[test]
fn it_fits_under_a_limit_of_address_space_too() {
    // Too little for eight memories of 4 GiB; enough for those but not for the pool of all that may ever be.
    for kibibytes in ["8000000", "100000000"] {
        #[expect(
            clippy::disallowed_methods,
            reason = "a limit holds for a whole process"
        )]
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -v \"$2\" && exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg("sandbox::the_address_space_is_the_one_that_fits")
            .arg(kibibytes)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{kibibytes}: {text}"
        );
    }
}

#[tokio::test]
async fn damaged_artefacts_are_refused() {
    let bench = Bench::new();
    let whole = artefact("hostile", bench.sandbox.settings());
    for part in [&whole[..0], &whole[..100], &whole[..whole.len() / 2]] {
        let refused = bench.sandbox.load("hostile", [0; 32], part, false);
        assert!(
            matches!(refused, Err(LoadError::Artefact { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn one_component_serves_two_kinds() {
    let bench = Bench::new();
    let component = bench.load("two-kinds");
    assert_eq!(component.kinds(), [Kind::Notifier, Kind::Action]);
    let settings = |kind, grants: Grants| Use {
        id: "both".into(),
        config: "{}".into(),
        grants: Arc::new(grants),
        limits: Limits::of(kind),
    };
    let notifier = component
        .notifier(settings(Kind::Notifier, Grants::default()))
        .unwrap();
    let message = Message {
        id: "m1".into(),
        dedup_key: "d".into(),
        reason: "fire".into(),
        alerts: vec![alert()],
        title: "the title".into(),
        text: String::new(),
        extra: Vec::new(),
    };
    let (receipt, _) = notifier.notify(message).await;
    assert_eq!(
        receipt.unwrap().remote_id.as_deref(),
        Some("the title 1 High")
    );
    assert_eq!(bench.state.of("both").get("sent").unwrap(), b"m1");

    let grants = Grants {
        commands: vec!["fix".into()],
        ..Grants::default()
    };
    let action = component.action(settings(Kind::Action, grants)).unwrap();
    let (outcome, _) = action.act(alert(), 1, false).await;
    assert!(outcome.unwrap().changed);
    let (refused, _) = action.act(alert(), 1, true).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.name(), "denied");
    assert!(refused.to_string().contains("dry run"), "{refused}");
}

#[tokio::test]
async fn a_large_batch_is_judged_in_parts_and_twice_the_same() {
    let bench = Bench::new();
    let stock = watchfire::plugin::stock::find("rule-threshold").unwrap();
    let bytes = stock.bytes();
    let artefact = compile(&bytes, bench.sandbox.settings()).unwrap();
    let component = bench
        .sandbox
        .load("rule-threshold", [0; 32], &artefact, false)
        .unwrap();
    let settings = Use {
        id: "cpu".into(),
        config: r#"{"above": {"warning": 10.0}}"#.into(),
        grants: Arc::default(),
        limits: Limits::of(Kind::Rule),
    };
    let rule = component.rule(settings).unwrap();
    let unasked = rule.evaluate(Batch::default()).await.0.unwrap_err();
    assert_eq!(unasked.name(), "internal");
    rule.configure(&["value".to_owned()]).await.unwrap();
    let instances = 4_500;
    let batch = Batch {
        now_ms: 1_000,
        columns: vec![(0..instances).map(|n| f64::from(n % 20)).collect()],
        active: vec![Severities::NONE; instances as usize],
        ..Batch::default()
    };
    let (first, _) = rule.evaluate(batch.clone()).await;
    let (second, _) = rule.evaluate(batch).await;
    let first = first.unwrap();
    assert_eq!(first.breached, second.unwrap().breached);
    let breached = first
        .breached
        .iter()
        .filter(|breached| breached.is_some_and(|set| set.contains(Severity::Warning)));
    // 11 to 19 of each twenty.
    assert_eq!(breached.count(), 4_500 / 20 * 9);
    assert_eq!(first.values.len(), 4_500);
}
