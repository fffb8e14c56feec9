//! How calls run: on which thread, one at a time, in either address space, as two kinds, in parts.

use super::{Bench, SLACK, artefact};
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use watchfire::sandbox::types::{Alert, Batch, CallError, Grants, Kind, Limits, Message, Use};
use watchfire::sandbox::{
    HostServices, LoadError, LogLine, LogSink, MemoryState, NoEvents, Sandbox, SandboxSettings,
    compatibility_key, compile,
};
use watchfire_engine::model::{Severities, Severity};

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
    assert!(since.elapsed() < SLACK, "{:?}", since.elapsed());
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
    let here = std::thread::current().name().unwrap_or("").to_owned();
    let guests = "watchfire-guest".to_owned();
    assert_ne!(here, guests);
    // A thread that the machine takes away at the wrong moment is given back before the guest says a word.
    for _ in 0..50 {
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
        probe.collect().await.0.unwrap();
        let lines = std::mem::take(&mut *callers.0.lock().unwrap());
        // The second one is not lent the thread again.
        assert_eq!((lines.len(), &lines[1]), (2, &guests));
        // More than one turn: the caller was not held up for 100 ms.
        if lines[0] == here && turns > 1 {
            return;
        }
    }
    panic!("no call ever started on its caller's thread and gave it back");
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
            .arg("containment::calls::the_address_space_is_the_one_that_fits")
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

/// KiB of mapped code without a name: resident ones, and private copies of its pages. Of code only, or also of what lies
/// beside it.
fn nameless() -> (u64, u64) {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut code, mut resident, mut copied) = (false, 0, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Rss:"), Some(kib)) if code => resident += kib.parse::<u64>().unwrap(),
            (Some("Anonymous:"), Some(kib)) if code => copied += kib.parse::<u64>().unwrap(),
            (Some(range), Some(rights)) if range.contains('-') => {
                code = line.ends_with(" (deleted)") && ["r-xp", "r--p"].contains(&rights);
            }
            _ => {}
        }
    }
    (resident, copied)
}

#[tokio::test]
async fn mapped_code_answers_as_copied_code_and_what_cannot_be_mapped_is_copied() {
    let bench = Bench::new();
    let artefact = artefact("hostile", bench.sandbox.settings());
    for (content, maps) in [(&b"something else"[..], false), (&artefact, true)] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let component = bench
            .sandbox
            .load_mapped("hostile", [7; 32], &artefact, &file, false)
            .unwrap();
        drop(file);
        let config = serde_json::json!({ "do": "" });
        let probe = super::probe(&component, &config, |_, _| ());
        probe.collect().await.0.unwrap();
        let (used, copied) = nameless();
        assert_eq!(used > 0, maps);
        assert_eq!(copied, 0, "what is written to must not be let go");
        component.rest();
        assert!(
            nameless().0 < used || !maps,
            "{used} KiB of {:?}",
            nameless()
        );
        probe.collect().await.0.unwrap();
        let again = nameless().0 << 10;
        let whole = artefact.len() as u64;
        assert!(again < whole / 2, "a call maps {again} of {whole} bytes");
    }
}
