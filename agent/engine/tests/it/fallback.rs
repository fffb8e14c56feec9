//! What the fallback hears: only what its notifier cannot be told, and all of that.

use crate::common::*;
use std::sync::Arc;
use watchfire_engine::Policy;
use watchfire_engine::input::{Condition, DeliveryOutcome, Input};
use watchfire_engine::model::{Instance, Labels, RuleId, Severity};

/// What was handed out about `cpu`: to whom and why. `default` answers as said, the others accept.
fn heard(engine: &mut Engine, at: u64, default: &DeliveryOutcome) -> Vec<String> {
    let mut heard = Vec::new();
    while !engine.sends.is_empty() {
        for send in std::mem::take(&mut engine.sends) {
            let about = &send.notification.alerts[0];
            let ours = about.rule.as_str() == "cpu";
            if ours {
                let labels = about.labels.get("i").unwrap_or_default();
                let why = send.notification.reason.name();
                heard.push(format!("{why} {labels} to {}", send.notifier));
            }
            let outcome = match &*send.notifier.to_string() {
                "default" if ours => default.clone(),
                _ => DeliveryOutcome::Accepted { remote_id: None },
            };
            engine.answer(at, &send, outcome);
        }
    }
    heard
}

fn with_spare() -> Policy {
    let mut policy = policy();
    policy.delivery.fallback = Some("spare".into());
    policy
}

#[test]
fn a_dead_resolve_is_told_to_a_fallback_that_heard_of_the_last_episode_only() {
    let mut engine = Engine::new(with_spare());
    let accepted = DeliveryOutcome::Accepted { remote_id: None };
    let refused = DeliveryOutcome::Refused {
        message: "never".to_owned(),
    };
    let resolves = ["resolve 0 to default", "resolve 0 to spare"];
    for (at, input, answer, wanted) in [
        (
            0,
            round(vec![shows("0", CRITICAL)]),
            &refused,
            &["fire 0 to default", "fire 0 to spare"][..],
        ),
        (10, round(vec![shows("0", HEALTHY)]), &failed(), &resolves),
        // The next episode begins while `default` has yet to hear of the end of the first.
        (12, round(vec![shows("0", CRITICAL)]), &accepted, &[]),
        (15, Input::Timer, &accepted, &["fire 0 to default"]),
        (20, round(vec![shows("0", HEALTHY)]), &refused, &resolves),
    ] {
        engine.feed(at, input);
        assert_eq!(heard(&mut engine, at, answer), wanted, "at {at}");
    }
}

#[test]
fn a_quarantine_concerns_no_message_of_another_notifier() {
    let mut policy = with_spare();
    policy.notifiers.push("other".into());
    let mut second = policy.routes[0].clone();
    policy.routes[0].matcher.severity = vec![Severity::Warning];
    second.notify = vec!["other".into()];
    policy.routes.push(second);
    let mut engine = Engine::new(policy);
    let two = vec![shows("0", WARNING), shows("1", CRITICAL)];
    let both = engine.feed(0, round(two)).sends;
    engine.sends.clear();
    let [to_default, to_other] = &both[..] else {
        panic!("two messages: {both:?}")
    };
    engine.answer(0, to_default, failed());
    let quarantined = DeliveryOutcome::Quarantined {
        message: "it trapped five times".to_owned(),
        retry_after: secs(4),
    };
    engine.answer(1, to_other, quarantined);
    let copies: Vec<_> = engine
        .sends
        .iter()
        .map(|s| s.notifier.to_string())
        .collect();
    assert_eq!(copies, ["spare"], "of what the quarantined one should say");
    engine.accept_all(1);
    engine.feed(5, Input::Timer);
    let retries: Vec<_> = engine
        .sends
        .iter()
        .map(|s| s.notifier.to_string())
        .collect();
    assert_eq!(
        retries,
        ["default", "other"],
        "both are due, each by itself"
    );
}

#[test]
fn what_the_agent_says_of_itself_and_is_refused_goes_to_the_fallback_and_so_does_its_end() {
    let mut engine = Engine::new(with_spare());
    let refuse = |engine: &mut Engine, at| {
        let mut told = Vec::new();
        while !engine.sends.is_empty() {
            for send in std::mem::take(&mut engine.sends) {
                let about = &send.notification.alerts[0].rule;
                let why = send.notification.reason.name();
                told.push(format!("{why} {} to {}", about.as_str(), send.notifier));
                let message = "never".to_owned();
                let outcome = match send.notifier.as_str() {
                    "default" => DeliveryOutcome::Refused { message },
                    _ => DeliveryOutcome::Accepted { remote_id: None },
                };
                engine.answer(at, &send, outcome);
            }
        }
        told
    };
    let invalid = |active| {
        Input::Condition(Condition {
            alert: Arc::new(Instance::new(
                RuleId::new("watchfire_config_invalid"),
                Labels::default(),
            )),
            severity: Severity::Warning,
            active,
            summary: "line 1".into(),
        })
    };
    engine.feed(0, invalid(true));
    assert_eq!(
        refuse(&mut engine, 0),
        [
            "fire watchfire_config_invalid to default",
            "fire watchfire_config_invalid to spare"
        ]
    );
    engine.restart(5);
    engine.feed(10, invalid(false));
    let mut ends = refuse(&mut engine, 10);
    ends.sort();
    assert_eq!(
        ends,
        [
            "resolve watchfire_config_invalid to default",
            "resolve watchfire_config_invalid to spare"
        ]
    );
    assert!(engine.state.alerts().is_empty(), "no word of a dead letter");
}
