//! What the operator reads of a guest: panics, traps, floods.

use super::{Bench, hand_made};
use std::time::Duration;
use watchfire::sandbox::compile;
use watchfire::sandbox::types::{CallError, Limits};

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
async fn floods_of_words_are_cut() {
    // Words are the matter here, not time: a tick is wall time, and the machine may be busy.
    let patient = |limits: &mut Limits| limits.cpu = Duration::from_secs(4);
    let bench = Bench::new();
    let probe = bench.hostile("log without end", |limits, _| patient(limits));
    let (answer, _) = probe.collect().await;
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
async fn wherever_it_fails_the_operator_reads_its_words() {
    let bench = Bench::new();
    for (deed, name, told) in [
        ("panic in configure", "trapped", "the words of configure"),
        ("exit in configure", "exited", "exit(0)"),
        ("panic", "trapped", "the words of the plugin"),
    ] {
        let probe = bench.hostile(deed, |_, _| ());
        let error = match probe.configure().await {
            Err(error) => error,
            Ok(()) => probe.collect().await.0.unwrap_err(),
        };
        assert_eq!(error.name(), name, "{deed}: {error}");
        assert!(error.to_string().contains(told), "{deed}: {error}");
    }
    // A describe that traps: a component without words of its own.
    let bytes = hand_made::ByHand {
        describe: "(unreachable)",
        ..hand_made::ByHand::default()
    };
    let compiled = compile(&bytes.bytes(), bench.sandbox.settings()).unwrap();
    let component = bench
        .sandbox
        .load("hand-made", [0; 32], &compiled, false)
        .unwrap();
    let error = component.describe().await.unwrap_err();
    assert_eq!(error.name(), "trapped", "{error}");
    assert!(error.to_string().contains("unreachable"), "{error}");
}

#[tokio::test]
async fn traps_are_told_apart() {
    let bench = Bench::new();
    for (collect, told) in [
        (
            "(i32.div_u (i32.const 1) (i32.const 0))",
            "integer divide by zero",
        ),
        ("(i32.load (i32.const -8))", "out of bounds memory access"),
        (
            "(i32.trunc_f64_u (f64.const nan))",
            "invalid conversion to integer",
        ),
        (
            "(call_indirect $t (result i32) (i32.const 3))",
            "undefined element",
        ),
    ] {
        let bytes = hand_made::probe(collect, "(table $t 1 funcref)");
        let error = bench
            .by_hand(&bytes, |_, _| ())
            .collect()
            .await
            .0
            .unwrap_err();
        assert_eq!(error.name(), "trapped", "{error}");
        assert!(error.to_string().contains(told), "{told}: {error}");
    }
}

#[tokio::test]
async fn floods_of_events_and_fields_are_cut() {
    let patient = |limits: &mut Limits| limits.cpu = Duration::from_secs(4);
    let bench = Bench::new();
    let probe = bench.hostile("tell events without end", |limits, _| patient(limits));
    probe.collect().await.0.unwrap();
    // A burst of 500, and what ten a second adds meanwhile.
    let events = bench.events.0.lock().unwrap().len();
    assert!((500..600).contains(&events), "{events}");
}
