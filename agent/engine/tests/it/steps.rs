//! Escalation steps: from when they count, and what is no business of theirs.

use crate::common::*;
use watchfire_engine::Policy;
use watchfire_engine::effect::{Happening, Reason};
use watchfire_engine::input::{DeliveryOutcome, Input};
use watchfire_engine::policy::EscalationStep;

/// To `default`; after `seconds` without an acknowledgement to `spare` too.
fn escalating(seconds: u64) -> Policy {
    let mut policy = policy();
    policy.routes[0].escalate = vec![EscalationStep {
        after: secs(seconds),
        notify: vec!["spare".into()],
    }];
    policy
}

#[test]
fn a_step_counts_from_a_delivery_and_not_from_an_episode_that_nobody_was_told_of() {
    let mut policy = escalating(30);
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_interval = secs(200);
    policy.delivery.first_retry = secs(100);
    let mut engine = Engine::new(policy);
    let group = engine.feed(0, round(vec![shows("0", WARNING)])).sends;
    engine.sends.clear();
    engine.answer(0, &group[0], failed());
    // The group's next message would be due at 200: it never said that the first episode was over.
    engine.feed(10, round(vec![shows("0", HEALTHY)]));
    for at in (20..100).step_by(10) {
        let told = engine.feed(at, round(vec![shows("0", WARNING)])).sends;
        assert_eq!(reasons(&told), [""; 0], "at {at}");
    }
    engine.feed(100, Input::Timer);
    engine.accept_all(100);
    let mut told = |at| reasons(&engine.feed(at, round(vec![shows("0", WARNING)])).sends);
    assert_eq!(told(129), [""; 0]);
    assert_eq!(told(130), ["escalation"]);
}

#[test]
fn steps_of_every_route_that_takes_the_alert_count_though_an_earlier_one_names_the_notifier() {
    let mut policy = escalating(30);
    let mut first = policy.routes[0].clone();
    first.escalate.clear();
    first.carry_on = true;
    policy.routes.insert(0, first);
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, WARNING);
    let told = turn(&mut engine, 30, WARNING).sends;
    let told = told.iter().map(|send| send.notifier.as_str());
    assert_eq!(told.collect::<Vec<_>>(), ["spare"]);
}

#[test]
fn what_a_step_would_not_hear_anyway_is_not_called_withheld_from_it() {
    let mut engine = Engine::new(escalating(100));
    for at in [0, 100] {
        turn(&mut engine, at, WARNING);
    }
    engine.command(105, silenced(0, 500, None));
    let worse = turn(&mut engine, 110, CRITICAL);
    let withheld = worse.events.iter().filter_map(|event| match &event.what {
        Happening::Suppressed { notifier, .. } => notifier.as_ref().map(ToString::to_string),
        _ => None,
    });
    assert_eq!(withheld.collect::<Vec<_>>(), ["default"]);
}

#[test]
fn a_step_that_heard_of_the_end_may_be_routed_to_though_another_has_yet_to_hear_of_it() {
    let mut engine = Engine::new(escalating(100));
    for at in [0, 100] {
        turn(&mut engine, at, WARNING);
    }
    engine.feed(110, round(vec![shows("0", HEALTHY)]));
    for send in std::mem::take(&mut engine.sends) {
        let outcome = match send.notifier.as_str() {
            "spare" => DeliveryOutcome::Accepted { remote_id: None },
            _ => failed(),
        };
        engine.answer(110, &send, outcome);
    }
    engine.policy.routes[0].notify.push("spare".into());
    engine.feed(111, Input::Reload);
    let next = engine.feed(112, round(vec![shows("0", WARNING)])).sends;
    let told = next
        .iter()
        .map(|send| (send.notifier.as_str(), send.notification.reason));
    assert_eq!(told.collect::<Vec<_>>(), [("spare", Reason::Fire)]);
}
