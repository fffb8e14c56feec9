//! Attempts of recovery procedures, and what is heard of them.

use crate::common::*;
use watchfire_engine::Effects;
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
