//! Attempts of recovery procedures, and what is heard of them.

use crate::common::*;
use watchfire_engine::Effects;
use watchfire_engine::effect::Table;
use watchfire_engine::input::{ActionOutcome, ActionReport, Input};
use watchfire_engine::policy::Mode;

#[test]
fn the_end_of_an_attempt_is_heard_once() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    let mut engine = Engine::new(policy);
    engine.judge(0, true);
    assert_eq!(happenings(&engine.end_attempt(2).events), ["End 1"]);
    let again: Effects = engine.end_attempt(12);
    assert!(again.is_empty(), "{again:?}");
    // Judged 15 s after its end, not after the second report of it.
    let verified = engine.judge(20, true);
    assert_eq!(happenings(&verified.events), ["VerifiedFail 1"]);
    engine.judge(30, true);
    assert_eq!(engine.attempts.len(), 2);
    let first = engine.attempts[0].clone();
    let late = engine.feed(
        32,
        Input::Action(ActionReport {
            procedure: first.procedure,
            alert: first.alert.fingerprint,
            attempt: first.attempt,
            outcome: ActionOutcome::TimedOut,
        }),
    );
    assert!(late.is_empty(), "the second one runs: {late:?}");
    assert_eq!(happenings(&engine.end_attempt(34).events), ["End 2"]);
}

#[test]
fn the_cooldown_grows_with_each_attempt_of_the_window() {
    for (backoff, wanted) in [(1.0, [0, 20, 40, 60]), (2.0, [0, 20, 60, 140])] {
        let mut policy = policy();
        policy.procedures = vec![procedure(Mode::Auto)];
        policy.procedures[0].max_attempts = 4;
        policy.procedures[0].backoff = backoff;
        let mut engine = Engine::new(policy);
        let mut starts = Vec::new();
        for at in (0..300).step_by(10) {
            engine.judge(at, true);
            if engine.attempts.len() > starts.len() {
                starts.push(at);
                engine.end_attempt(at);
            }
        }
        assert_eq!(starts, wanted, "factor {backoff}");
    }
}

const DAY: u64 = 24 * 3_600;

/// Whether it is stored what was done for the alert: an attempt that ended at 2 s, and then what `meanwhile` makes of it.
fn is_remembered(meanwhile: impl FnOnce(&mut Engine), window: u64, at: u64) -> bool {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    policy.procedures[0].window = secs(window);
    let mut engine = Engine::new(policy);
    engine.judge(0, true);
    engine.end_attempt(2);
    turn(&mut engine, 20, HEALTHY);
    meanwhile(&mut engine);
    engine.feed(at, round(vec![]));
    engine
        .rows
        .keys()
        .any(|(table, _)| *table == Table::Attempt)
}

#[test]
fn what_was_done_for_what_is_gone_counts_for_a_day_or_as_long_as_the_window() {
    let gone = |engine: &mut Engine| {
        for at in [30, 40, 50] {
            engine.feed(at, round(vec![absent("0")]));
            engine.accept_all(at);
        }
    };
    assert!(is_remembered(gone, 3_600, 2 + DAY - 1));
    assert!(!is_remembered(gone, 3_600, 2 + DAY));
    assert!(is_remembered(gone, 2 * DAY, 2 + 2 * DAY - 1));
    assert!(!is_remembered(gone, 2 * DAY, 2 + 2 * DAY));
}

#[test]
fn what_a_removed_procedure_did_counts_for_a_day() {
    let removed = |engine: &mut Engine| {
        engine.policy.procedures.clear();
        engine.feed(30, Input::Reload);
    };
    assert!(is_remembered(removed, 3_600, 2 + DAY - 1));
    assert!(!is_remembered(removed, 3_600, 2 + DAY));
    let nothing = |_: &mut Engine| {};
    assert!(
        is_remembered(nothing, 3_600, 2 + 2 * DAY),
        "the alert is there"
    );
}
