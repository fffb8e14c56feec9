//! Stock rules as components, at the sizes that the pipeline asks of them.

use std::sync::Arc;
use watchfire::sandbox::types::{Batch, Kind, Limits, Use, Verdicts};
use watchfire::sandbox::{
    HostServices, MemoryState, NoEvents, Rule, Sandbox, SandboxSettings, TracingLog, compile,
};
use watchfire_engine::model::{Severities, Severity};

/// What the pipeline hands to one call of a rule that remembers, and what a rule may remember of an instance.
const REMEMBERING_A_CALL: usize = 500;
const MEMORY_BYTES_MAX: usize = 4 << 10;

const MINUTE: u64 = 60_000;

fn rule(plugin: &str, config: &str) -> Rule {
    let services = HostServices::new(
        Arc::new(MemoryState::default()),
        Arc::new(NoEvents),
        Arc::new(TracingLog),
    );
    let sandbox = Sandbox::new(SandboxSettings::default(), services).unwrap();
    let bytes = watchfire::plugin::stock::find(plugin).unwrap().bytes();
    let artefact = compile(&bytes, sandbox.settings()).unwrap();
    let component = sandbox.load(plugin, [0; 32], &artefact, false).unwrap();
    let settings = Use {
        id: "r".into(),
        config: config.into(),
        grants: Arc::default(),
        limits: Limits::of(Kind::Rule),
    };
    component.rule(settings).unwrap()
}

fn warning() -> Severities {
    [Severity::Warning].into_iter().collect()
}

/// A round of one input in which all instances see the same value.
async fn round(rule: &Rule, now_ms: u64, value: f64, memory: Vec<Vec<u8>>) -> Verdicts {
    let instances = memory.len();
    let batch = Batch {
        now_ms,
        columns: vec![vec![value; instances]],
        active: vec![Severities::NONE; instances],
        memory,
        ..Batch::default()
    };
    rule.evaluate(batch).await.0.unwrap()
}

#[tokio::test]
async fn baselines_of_a_whole_call_fit_and_are_carried_on() {
    for method in ["mad", "seasonal"] {
        let config =
            format!(r#"{{"method": "{method}", "warm_up": "40m", "above": {{"warning": 0.5}}}}"#);
        let rule = rule("rule-baseline", &config);
        let needs = rule.configure(&["value".to_owned()]).await.unwrap();
        assert!(needs.memory && needs.points_of.is_empty());
        let mut memory = vec![Vec::new(); REMEMBERING_A_CALL];
        for n in 0..10 {
            let verdicts = round(&rule, n * 5 * MINUTE, 100.0, memory).await;
            memory = verdicts.memory;
        }
        let longest = memory.iter().map(Vec::len).max().unwrap();
        assert!(
            (1..=MEMORY_BYTES_MAX).contains(&longest),
            "{method}: {longest}"
        );
        let verdicts = round(&rule, 50 * MINUTE, 160.0, memory.clone()).await;
        assert_eq!(
            verdicts.breached,
            vec![Some(warning()); REMEMBERING_A_CALL],
            "{method}"
        );
        // Equal rounds give equal verdicts and equal memories, byte for byte.
        assert_eq!(
            verdicts,
            round(&rule, 50 * MINUTE, 160.0, memory).await,
            "{method}"
        );
    }
}

#[tokio::test]
async fn forecasts_over_all_points_of_two_hours_end_in_time() {
    let rule = rule(
        "rule-forecast",
        r#"{"rises_to": 1.0, "within": {"warning": "4h"}, "window": "2h"}"#,
    );
    let needs = rule.configure(&["value".to_owned()]).await.unwrap();
    assert_eq!((needs.memory, needs.back.as_secs()), (false, 7_200));
    // 2 h at 10 s, in as many instances as the pipeline puts into one call.
    let points: Vec<(u64, f64)> = (1..=720)
        .map(|n| (n * 10_000, 0.5 + 0.4 * n as f64 / 720.0))
        .collect();
    let instances = 182;
    let batch = Batch {
        now_ms: 7_200_000,
        columns: vec![vec![0.9; instances]],
        active: vec![Severities::NONE; instances],
        points: vec![vec![points; instances]],
        ..Batch::default()
    };
    let (verdicts, cost) = rule.evaluate(batch).await;
    let verdicts = verdicts.unwrap();
    println!("{instances} forecasts: {cost:?}");
    assert_eq!(verdicts.breached, vec![Some(warning()); instances]);
    // 0.2 an hour, 0.1 to go.
    assert!(
        (verdicts.values[0] - 1_800.0).abs() < 1.0,
        "{}",
        verdicts.values[0]
    );
}
