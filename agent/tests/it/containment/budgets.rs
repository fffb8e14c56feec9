//! Time, memory, tables, instances, stack, host calls: what a guest may spend, and how it ends beyond that.

use super::{Bench, SLACK, hand_made};
use std::time::Duration;
use tokio::time::Instant;
use watchfire::sandbox::types::CallError;
use watchfire::sandbox::{Probe, compile};

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
        assert!(cost.wall < cpu + SLACK, "{cost:?}");
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
    assert!(since.elapsed() < wall + SLACK, "{:?}", since.elapsed());
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
async fn host_calls_are_counted_and_bounded() {
    let bench = Bench::new();
    // The calls are the matter here, not time: a tick is wall time, and the machine may be busy.
    let probe = bench.hostile("call without end", |limits, _| {
        limits.cpu = Duration::from_secs(4);
    });
    let (answer, cost) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), CallError::HostCallLimit(10_000));
    assert_eq!(cost.host_calls, 10_000);
    assert!(
        cost.host > Duration::ZERO && cost.host <= cost.wall,
        "{cost:?}"
    );
}

/// Endless work inside single instructions, which no tick interrupts: the loop around them is what ends.
#[tokio::test]
async fn loops_of_bulk_operations_end_with_their_budget() {
    let bench = Bench::new();
    let cpu = Duration::from_millis(100);
    for (what, before, work) in [
        (
            "memory.fill",
            "(drop (memory.grow (i32.const 900)))",
            "(memory.fill (i32.const 0) (i32.const 1) (i32.const 59000000))",
        ),
        (
            "memory.copy",
            "(drop (memory.grow (i32.const 900)))",
            "(memory.copy (i32.const 0) (i32.const 29500000) (i32.const 29500000))",
        ),
        (
            "table.fill",
            "",
            "(table.fill $t (i32.const 0) (ref.func $collect) (i32.const 20000))",
        ),
        (
            "table.copy",
            "",
            "(table.copy $t $t (i32.const 0) (i32.const 10000) (i32.const 10000))",
        ),
        (
            "table.grow",
            "",
            "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        ),
        ("memory.grow", "", "(drop (memory.grow (i32.const 1)))"),
    ] {
        let collect = format!("{before} (loop {work} (br 0)) (unreachable)");
        let bytes = hand_made::probe(
            &collect,
            "(table $t 20000 funcref) (elem declare func $collect)",
        );
        let probe = bench.by_hand(&bytes, |limits, _| limits.cpu = cpu);
        let (answer, cost) = probe.collect().await;
        assert_eq!(answer.unwrap_err(), CallError::CpuLimit(cpu), "{what}");
        assert_eq!(cost.cpu_ticks, 10, "{what}");
        // How soon is for the benchmark to say: on a busy machine the same CPU time takes longer.
        assert!(cost.wall < cpu + SLACK, "{what}: {cost:?}");
    }
}

#[tokio::test]
async fn a_loop_before_the_first_call_ends_too() {
    let bench = Bench::new();
    let bytes = hand_made::probe(
        "(i32.const 1024)",
        "(func $first (loop (br 0))) (start $first)",
    );
    let cpu = Duration::from_millis(100);
    let probe = bench.by_hand(&bytes, |limits, _| limits.cpu = cpu);
    let (answer, _) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), CallError::CpuLimit(cpu));
}

#[tokio::test]
async fn waiting_for_nobody_ends_with_the_wall_limit_or_before() {
    // An address that answers nothing: a listener whose queue is full, because nobody takes from it.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut full = Vec::new();
    let connect = || {
        let at = ([127, 0, 0, 1], port).into();
        std::net::TcpStream::connect_timeout(&at, Duration::from_millis(100))
    };
    // Twice: one that is merely slow is no full queue.
    while let Ok(stream) = connect().or_else(|_| connect()) {
        full.push(stream);
        assert!(full.len() < 10_000, "the queue has no end here");
    }
    let bench = Bench::new();
    let wall = Duration::from_millis(400);
    let config = serde_json::json!({ "do": "connect", "at": format!("127.0.0.1 {port}") });
    let probe = super::probe(&bench.load("hostile"), &config, |limits, grants| {
        limits.wall = wall;
        grants.tcp = vec![format!("127.0.0.1:{port}")];
    });
    // The host's answer comes a little before the wall limit; a busy machine may need that little.
    for _ in 0..5 {
        let (answer, cost) = probe.collect().await;
        assert!(cost.wall < wall + SLACK, "{cost:?}");
        assert!(cost.cpu_ticks <= 2, "waiting costs no CPU: {cost:?}");
        let error = answer.unwrap_err();
        if error == CallError::WallLimit(wall) {
            continue;
        }
        assert_eq!(error.name(), "unavailable", "{error}");
        let text = error.to_string();
        assert!(text.contains("no connection within"), "{text}");
        return;
    }
    panic!("only the wall limit ever ended it");
}

#[tokio::test]
async fn tables_and_instances_are_bounded() {
    let bench = Bench::new();
    let good = "(i32.const 1024)";
    let many_tables = "(table 20000 funcref)".repeat(65);
    let grow = "(drop (table.grow $t (ref.null func) (i32.const 19999)))
        (if (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable))
        (i32.const 1024)";
    let whole = hand_made::probe(good, "(table 20000 funcref)");
    // What fits is served, and a table that may not grow says so to the guest alone.
    bench.by_hand(&whole, |_, _| ()).collect().await.0.unwrap();
    let growing = hand_made::probe(grow, "(table $t 1 funcref)");
    bench
        .by_hand(&growing, |_, _| ())
        .collect()
        .await
        .0
        .unwrap();

    let module = wat::parse_str("(module (memory 1))").unwrap();
    let with_instances = |count: usize| {
        let module: (u8, &[u8]) = (1, &module);
        let instances = hand_made::instances(1, count);
        hand_made::with_sections(hand_made::probe(good, ""), &[module, (2, &instances)])
    };
    bench
        .by_hand(&with_instances(7), |_, _| ())
        .collect()
        .await
        .0
        .unwrap();
    let module = wat::parse_str("(module)").unwrap();
    let without_memory = hand_made::with_sections(
        hand_made::probe(good, ""),
        &[(1, &module), (2, &hand_made::instances(1, 100))],
    );
    for (what, bytes, told) in [
        (
            "a table of two million",
            hand_made::probe(good, "(table 2000000 funcref)"),
            "20000",
        ),
        ("65 tables", hand_made::probe(good, &many_tables), "64"),
        ("20 memories", with_instances(19), "and 8 memories"),
        ("100 instances", without_memory, "64 core instances"),
        (
            "10,000 instances",
            with_instances(10_000),
            "instances count exceeds limit of 1000",
        ),
    ] {
        let settings = bench.sandbox.settings();
        let error = match compile(&bytes, settings) {
            Err(error) => error.to_string(),
            Ok(artefact) => match bench.sandbox.load("hand-made", [0; 32], &artefact, false) {
                Err(error) => error.to_string(),
                Ok(component) => {
                    let probe = super::probe(&component, &serde_json::json!({}), |_, _| ());
                    probe.collect().await.0.unwrap_err().to_string()
                }
            },
        };
        println!("{what}: {error}");
        assert!(error.contains(told), "{what}: {error}");
        assert!(
            !error.contains("pooling"),
            "not in wasmtime's words: {error}"
        );
    }
}

#[tokio::test]
async fn recursion_ends_however_large_its_frames_are() {
    let bench = Bench::new();
    let many_locals = "(local ".to_owned() + &"i64 ".repeat(2_000) + ")";
    for (what, down) in [
        ("small frames", "(call $down (local.get 0))".to_owned()),
        (
            "large frames",
            format!(
                "{many_locals} (local.set 7 (i64.const 1)) (call $down (local.get 0)) (drop (local.get 7))"
            ),
        ),
        (
            "through a table",
            "(call_indirect $t (param i32) (local.get 0) (i32.const 0))".to_owned(),
        ),
    ] {
        let rest = format!(
            "(table $t 1 funcref) (elem $t (i32.const 0) func $down) (func $down (param i32) {down})"
        );
        let bytes = hand_made::probe("(call $down (i32.const 1)) (i32.const 1024)", &rest);
        let probe = bench.by_hand(&bytes, |_, _| ());
        for _ in 0..2 {
            let error = probe.collect().await.0.unwrap_err().to_string();
            assert!(error.contains("call stack exhausted"), "{what}: {error}");
        }
    }
}

#[tokio::test]
async fn handles_are_bounded_and_close_with_the_call() {
    let bench = Bench::new();
    // A pollable each time, kept for ever.
    let leak = hand_made::ByHand {
        world: "test:worlds/with-clock",
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
            (func $wait (param i64) (result i32)))"#,
        collect: "(loop (drop (call $wait (i64.const 1))) (br 0)) (unreachable)",
        ..hand_made::ByHand::default()
    };
    let probe = bench.by_hand(&leak.bytes(), |_, _| ());
    let error = probe.collect().await.0.unwrap_err().to_string();
    println!("pollables: {error}");
    assert!(error.contains("256 handles"), "{error}");

    // Connections: four, however many are forgotten; the next call has its four again.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&open);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = std::sync::Arc::clone(&counted);
            tokio::spawn(async move {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8]).await;
                counted.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
    });
    let config =
        serde_json::json!({ "do": "connect and forget", "at": format!("127.0.0.1 {port}") });
    let probe = super::probe(&bench.load("hostile"), &config, |_, grants| {
        grants.tcp = vec![format!("127.0.0.1:{port}")];
    });
    for _ in 0..2 {
        let error = probe.collect().await.0.unwrap_err().to_string();
        assert!(error.starts_with("after 4: "), "{error}");
    }
    let closed = async {
        while open.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed)
        .await
        .expect("nothing stays open behind a call");
}

/// A network outage: every remote check hangs until its limit. Or as many plugins that sleep on purpose.
#[tokio::test]
async fn those_that_wait_do_not_hold_up_those_that_work() {
    let bench = Bench::new();
    let component = bench.load("hostile");
    let sleeping: Vec<_> = (0..48)
        .map(|_| {
            let config = serde_json::json!({ "do": "sleep" });
            let sleeper = super::probe(&component, &config, |limits, _| {
                limits.wall = Duration::from_secs(60);
            });
            tokio::spawn(async move { sleeper.collect().await.0 })
        })
        .collect();
    let good = bench.hostile("", |_, _| ());
    let since = Instant::now();
    for _ in 0..10 {
        good.collect().await.0.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(since.elapsed() < SLACK, "{:?}", since.elapsed());
    for sleeper in &sleeping {
        assert!(!sleeper.is_finished(), "it sleeps while the others work");
        sleeper.abort();
    }
}
