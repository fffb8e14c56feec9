//! Notifiers and actions whose component is quarantined: nobody's page is lost, nothing is done in vain.

use crate::common::{
    Engine, happenings, instance, now, observation, policy, procedure, reasons, round, secs,
};
use std::collections::BTreeSet;
use watchfire_engine::Policy;
use watchfire_engine::effect::Reason;
use watchfire_engine::input::{Condition, DeliveryOutcome, Input};
use watchfire_engine::model::{Instance, Labels, RuleId, Severity};
use watchfire_engine::policy::Mode;

fn quarantined(seconds: u64) -> DeliveryOutcome {
    DeliveryOutcome::Quarantined {
        message: "it trapped five times".to_owned(),
        retry_after: secs(seconds),
    }
}

fn accepted() -> DeliveryOutcome {
    DeliveryOutcome::Accepted { remote_id: None }
}

/// With a spare notifier behind the one that is routed to.
fn with_spare() -> Policy {
    let mut policy = policy();
    policy.delivery.fallback = Some("spare".into());
    policy
}

fn breach(engine: &mut Engine, at: u64, fires: bool) {
    let breached: &[Severity] = if fires { &[Severity::Critical] } else { &[] };
    engine.feed(at, round(vec![observation(&instance("0"), Some(breached))]));
}

fn receivers(engine: &mut Engine) -> Vec<(String, Reason, watchfire_engine::Send)> {
    let sends = std::mem::take(&mut engine.sends).into_iter();
    sends
        .map(|send| (send.notifier.to_string(), send.notification.reason, send))
        .collect()
}

#[test]
fn the_page_waits_and_the_fallback_hears_of_it_once() {
    let mut engine = Engine::new(with_spare());
    breach(&mut engine, 0, true);
    let (to, reason, fire) = receivers(&mut engine).remove(0);
    assert_eq!((&*to, reason), ("default", Reason::Fire));
    engine.answer(1, &fire, quarantined(2));
    let (to, reason, copy) = receivers(&mut engine).remove(0);
    assert_eq!((&*to, reason), ("spare", Reason::Fire));
    engine.answer(1, &copy, accepted());

    // The trial, in vain: no second copy.
    engine.feed(3, Input::Timer);
    let (to, _, trial) = receivers(&mut engine).remove(0);
    assert_eq!((&*to, trial.attempt), ("default", 2));
    assert_eq!(trial.notification.id, fire.notification.id);
    engine.answer(3, &trial, quarantined(4));
    assert_eq!(reasons(&engine.sends), [] as [&str; 0]);

    // The next one goes well: the page was late, not lost.
    engine.feed(6, Input::Timer);
    assert_eq!(
        reasons(&engine.sends),
        [] as [&str; 0],
        "not before its time"
    );
    engine.feed(7, Input::Timer);
    let (to, _, trial) = receivers(&mut engine).remove(0);
    assert_eq!((&*to, trial.attempt), ("default", 3));
    engine.answer(7, &trial, accepted());
    assert_eq!(engine.state.outbox_pending(), 0);

    // Both hear of the end.
    breach(&mut engine, 10, false);
    let ends = receivers(&mut engine);
    let mut told: Vec<_> = ends.iter().map(|(to, why, _)| (&**to, *why)).collect();
    told.sort_by_key(|(to, _)| *to);
    assert_eq!(
        told,
        [("default", Reason::Resolve), ("spare", Reason::Resolve)]
    );
}

/// A hundred alerts at once.
fn storm(engine: &mut Engine, at: u64) {
    let instances = (0..100).map(|n| instance(&n.to_string()));
    let all = instances.map(|i| observation(&i, Some(&[Severity::Critical])));
    engine.feed(at, round(all.collect()));
}

#[test]
fn one_message_tries_and_the_others_wait_behind_it() {
    let mut engine = Engine::new(with_spare());
    storm(&mut engine, 0);
    let first = receivers(&mut engine);
    assert_eq!(first.len(), 100);
    for (_, _, send) in &first {
        engine.answer(1, send, quarantined(2));
    }
    let copies = receivers(&mut engine);
    assert_eq!(copies.len(), 100);
    assert!(copies.iter().all(|(to, ..)| to == "spare"));
    for (_, _, copy) in &copies {
        engine.answer(1, copy, accepted());
    }
    // What fires meanwhile goes to the fallback at once, and to nobody in vain.
    let late = instance("late");
    engine.feed(
        2,
        round(vec![observation(&late, Some(&[Severity::Critical]))]),
    );
    let late = receivers(&mut engine);
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].0, "spare");
    engine.answer(2, &late[0].2, accepted());
    for (at, next) in [(3, 4), (7, 8), (15, 16)] {
        assert_eq!(engine.state.next_due(), Some(now(at).at));
        engine.feed(at, Input::Timer);
        let trial = receivers(&mut engine);
        assert_eq!(trial.len(), 1, "at {at}");
        assert_eq!(trial[0].2.notification.id, first[0].2.notification.id);
        assert!(engine.state.next_due() > Some(now(at + 30).at), "they wait");
        engine.answer(at, &trial[0].2, quarantined(next));
        assert!(receivers(&mut engine).is_empty());
    }
    engine.feed(31, Input::Timer);
    let trial = receivers(&mut engine).remove(0).2;
    engine.answer(31, &trial, accepted());
    let rest = receivers(&mut engine);
    assert_eq!(rest.len(), 100, "the other 99 and the late one");
    assert!(rest.iter().all(|(to, ..)| to == "default"));
}

#[test]
fn a_trial_without_a_report_holds_the_others_up_for_a_minute() {
    let mut engine = Engine::new(policy());
    storm(&mut engine, 0);
    for (_, _, send) in receivers(&mut engine) {
        engine.answer(1, &send, quarantined(2));
    }
    engine.feed(3, Input::Timer);
    assert_eq!(receivers(&mut engine).len(), 1);
    engine.feed(62, Input::Timer);
    assert!(receivers(&mut engine).is_empty());
    engine.feed(63, Input::Timer);
    assert_eq!(receivers(&mut engine).len(), 1, "the next one tries");
}

#[test]
fn a_reload_opens_the_gate() {
    let mut engine = Engine::new(policy());
    breach(&mut engine, 0, true);
    let (_, _, fire) = receivers(&mut engine).remove(0);
    engine.answer(1, &fire, quarantined(2));
    engine.feed(3, Input::Timer);
    let (_, _, trial) = receivers(&mut engine).remove(0);
    engine.answer(3, &trial, quarantined(200));
    engine.feed(4, Input::Reload);
    let (_, _, again) = receivers(&mut engine).remove(0);
    assert_eq!(again.notification.id, fire.notification.id);
    let other = instance("1");
    engine.feed(
        5,
        round(vec![observation(&other, Some(&[Severity::Critical]))]),
    );
    assert_eq!(receivers(&mut engine).len(), 1, "it is asked again");
}

#[test]
fn a_restart_forgets_neither_the_page_nor_that_it_was_copied() {
    let mut engine = Engine::new(with_spare());
    breach(&mut engine, 0, true);
    let (_, _, fire) = receivers(&mut engine).remove(0);
    engine.answer(1, &fire, quarantined(100));
    let (_, _, copy) = receivers(&mut engine).remove(0);
    engine.answer(1, &copy, accepted());
    engine.restart(20);
    breach(&mut engine, 200, true);
    let again = receivers(&mut engine);
    assert_eq!(again.len(), 1, "{again:?}");
    let (to, reason, retry) = &again[0];
    assert_eq!((&**to, *reason), ("default", Reason::Fire));
    engine.answer(200, retry, quarantined(100));
    assert!(receivers(&mut engine).is_empty(), "no second copy");
}

#[test]
fn without_a_fallback_it_waits_and_the_wait_is_bounded() {
    let mut engine = Engine::new(policy());
    breach(&mut engine, 0, true);
    let (_, _, fire) = receivers(&mut engine).remove(0);
    engine.answer(1, &fire, quarantined(100_000));
    assert!(receivers(&mut engine).is_empty());
    engine.feed(301, Input::Timer);
    let (_, _, trial) = receivers(&mut engine).remove(0);
    engine.answer(301, &trial, quarantined(0));
    engine.feed(301, Input::Timer);
    assert!(receivers(&mut engine).is_empty(), "no busy loop");
    engine.feed(302, Input::Timer);
    assert_eq!(receivers(&mut engine).len(), 1);
}

#[test]
fn the_word_about_the_quarantine_reaches_the_fallback_too() {
    let mut engine = Engine::new(with_spare());
    let labels = Labels::new([("plugin", "notifier-x")]).expect("labels");
    let alert = Instance::new(RuleId::new("watchfire_plugin_quarantined"), labels);
    engine.feed(
        0,
        Input::Condition(Condition {
            alert: alert.into(),
            severity: Severity::High,
            active: true,
            summary: "it traps".into(),
        }),
    );
    let (to, _, fire) = receivers(&mut engine).remove(0);
    assert_eq!(to, "default");
    engine.answer(1, &fire, quarantined(10));
    let (to, _, copy) = receivers(&mut engine).remove(0);
    assert_eq!(to, "spare");
    assert_eq!(copy.notification.alerts, fire.notification.alerts);
}

#[test]
fn a_quarantined_action_starts_nothing_and_spends_no_attempt() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    let mut engine = Engine::new(policy);
    engine.feed(0, Input::Unfit(BTreeSet::from(["fix".into()])));
    for at in [0, 10, 20] {
        let effects = engine.judge(at, true);
        assert!(happenings(&effects.events).is_empty(), "{effects:?}");
    }
    assert!(engine.attempts.is_empty());
    engine.feed(25, Input::Unfit(BTreeSet::new()));
    let effects = engine.judge(30, true);
    assert_eq!(happenings(&effects.events), ["Start 1"]);
    assert_eq!(engine.attempts.len(), 1, "{:?}", now(30));
}
