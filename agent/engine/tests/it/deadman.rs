//! Dead-man rules: since when something is missing, what is no proof of it, and what a restart makes of it.

use crate::common::*;
use std::sync::Arc;
use watchfire_engine::effect::Table;
use watchfire_engine::input::{Input, ProbeRun, Round, RuleRound};
use watchfire_engine::model::{Instance, Labels, RuleId};

/// Fires when nothing was seen for more than a minute.
fn watching() -> Engine {
    let mut policy = policy();
    policy.rules[0].absent = Some(secs(60));
    Engine::new(policy)
}

/// States at these rounds; every message is delivered.
fn states(engine: &mut Engine, rounds: Vec<(u64, Input)>) -> Vec<(u64, String)> {
    let states = rounds.into_iter().map(|(at, input)| {
        engine.feed(at, input);
        engine.accept_all(at);
        let alerts = engine.state.alerts().into_iter();
        let ours = alerts.filter(|alert| alert.instance.rule.as_str() == "cpu");
        let states: Vec<String> = ours.map(|alert| alert.state).collect();
        (at, states.join(" "))
    });
    states.collect()
}

/// The rule answers, and its probe failed.
fn in_vain() -> Input {
    Input::Round(Round {
        probes: vec![ProbeRun {
            probe: "probe".into(),
            every: secs(EVERY),
            result: Err("no answer".into()),
        }],
        rules: vec![RuleRound {
            rule: RuleId::new("cpu"),
            every: secs(EVERY),
            result: Ok(Vec::new()),
        }],
        missed: 0,
    })
}

fn is(at: u64, state: &str) -> (u64, String) {
    (at, state.to_owned())
}

#[test]
fn a_series_is_missed_after_its_time_and_not_at_it() {
    let mut engine = watching();
    let missing = |at| (at, round(vec![absent("0")]));
    engine.feed(0, round(vec![shows("0", HEALTHY)]));
    assert_eq!(
        states(&mut engine, vec![missing(10), missing(60), missing(61)]),
        [is(10, ""), is(60, ""), is(61, "firing:critical")]
    );
}

#[test]
fn a_failed_probe_neither_raises_nor_ends_it() {
    let mut engine = watching();
    let nothing = |at| (at, round(Vec::new()));
    let seen = || shows("0", HEALTHY);
    assert_eq!(
        states(
            &mut engine,
            vec![
                nothing(0),
                (70, in_vain()),
                nothing(80),
                (90, in_vain()),
                (100, round(vec![seen()])),
            ]
        ),
        [
            is(0, ""),
            is(70, ""),
            is(80, "firing:critical"),
            is(90, "firing:critical"),
            is(100, "")
        ]
    );
}

#[test]
fn in_the_first_round_after_a_restart_nothing_is_missed_yet() {
    let mut engine = watching();
    engine.restart(0);
    let nothing = |at| (at, round(Vec::new()));
    assert_eq!(
        states(&mut engine, vec![nothing(100), nothing(110)]),
        [is(100, ""), is(110, "firing:critical")]
    );
}

/// The stand-in of a series that was never seen has no labels; neither has such a series.
#[test]
fn a_series_without_labels_is_judged_by_its_values() {
    let mut engine = watching();
    let itself = Arc::new(Instance::new(RuleId::new("cpu"), Labels::default()));
    for (at, said) in [(0, vec!["fire"]), (10, vec![]), (20, vec![])] {
        let effects = engine.feed(at, round(vec![observation(&itself, Some(CRITICAL))]));
        assert_eq!(reasons(&effects.sends), said, "at {at}");
        engine.accept_all(at);
    }
}

#[test]
fn after_a_restart_what_was_fine_and_what_was_missing_count_from_their_last_value() {
    let missing = |at| (at, round(vec![absent("0")]));
    // It is fine when the agent dies, and was seen last at 100 s.
    let mut fine = watching();
    for (at, breached) in [(0, CRITICAL), (10, HEALTHY), (100, HEALTHY)] {
        turn(&mut fine, at, breached);
    }
    fine.restart(145);
    assert_eq!(
        states(&mut fine, vec![missing(150), missing(160), missing(170)]),
        [is(150, ""), is(160, ""), is(170, "firing:critical")]
    );
    // That it is missing was written down, once.
    let mut gone = watching();
    turn(&mut gone, 0, HEALTHY);
    for (at, rows) in [(10, 1), (20, 0)] {
        let effects = gone.feed(at, round(vec![absent("0")]));
        let of_it = effects.records.iter().filter(|r| r.table == Table::Alert);
        assert_eq!(of_it.count(), rows, "at {at}");
    }
    gone.restart(25);
    assert_eq!(
        states(&mut gone, vec![missing(30), missing(70)]),
        [is(30, ""), is(70, "firing:critical")]
    );
}

#[test]
fn who_was_met_after_a_restart_is_awaited_no_more() {
    let mut engine = watching();
    for (at, breached) in [(0, CRITICAL), (10, HEALTHY)] {
        turn(&mut engine, at, breached);
    }
    engine.restart(15);
    let rule = RuleId::new("cpu");
    for (at, observations, awaited) in [
        (20, vec![], 1),
        (30, vec![shows("1", HEALTHY)], 1),
        (40, vec![shows("0", HEALTHY)], 0),
    ] {
        engine.feed(at, round(observations));
        assert_eq!(engine.state.awaited(&rule).len(), awaited, "at {at}");
    }
}

#[test]
fn nor_in_the_first_round_after_a_suspend_of_more_than_a_minute() {
    for (lost, state) in [(60, "firing:critical"), (61, "")] {
        let mut engine = watching();
        let lost = secs(lost);
        let rounds = vec![
            (0, round(Vec::new())),
            (100, Input::Resumed { lost }),
            (110, round(Vec::new())),
        ];
        assert_eq!(
            states(&mut engine, rounds),
            [is(0, ""), is(100, ""), is(110, state)],
            "{lost:?}"
        );
    }
}

#[test]
fn what_appears_takes_the_place_of_the_word_that_nothing_was_seen() {
    let mut policy = policy();
    policy.rules[0].absent = Some(secs(60));
    policy.rules[0].max_instances = 1;
    let mut engine = Engine::new(policy);
    let rounds = vec![
        (0, round(Vec::new())),
        (70, round(Vec::new())),
        (80, round(vec![shows("0", CRITICAL)])),
    ];
    assert_eq!(
        states(&mut engine, rounds),
        [
            is(0, ""),
            is(70, "firing:critical"),
            is(80, "firing:critical")
        ]
    );
    let alerts = engine.state.alerts();
    let ours = alerts.iter().find(|a| a.instance.rule.as_str() == "cpu");
    assert_eq!(ours.map(|a| a.instance.clone()), Some(instance("0")));
}

#[test]
fn its_last_round_is_written_in_each_or_once_a_minute_where_it_waits_long() {
    for (absent, wanted) in [
        (599, vec![0, 10, 20, 30, 40, 50, 60, 70]),
        (600, vec![0, 60]),
    ] {
        let mut policy = policy();
        policy.rules[0].absent = Some(secs(absent));
        let mut engine = Engine::new(policy);
        let mut written = Vec::new();
        for at in (0..80).step_by(10) {
            let effects = turn(&mut engine, at, HEALTHY);
            let mut records = effects.records.iter();
            if records.any(|row| row.table == Table::Engine && row.key == "round/cpu") {
                written.push(at);
            }
        }
        assert_eq!(written, wanted, "after {absent} s");
    }
}
