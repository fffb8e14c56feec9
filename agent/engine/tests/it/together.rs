//! Answers of services that come in together: what they lead to is what they would lead to one by one,
//! and each alert is written once. Repeats beside undelivered messages.

use crate::common::*;
use watchfire_engine::effect::{Reason, Table};
use watchfire_engine::input::{DeliveryOutcome, DeliveryReport, Input};
use watchfire_engine::model::PerSeverity;
use watchfire_engine::{Effects, Policy, Send};

/// Two notifiers hear of groups by rule.
fn grouped() -> Policy {
    let mut policy = policy();
    policy.routes[0].notify = vec!["default".into(), "spare".into()];
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_interval = secs(60);
    policy
}

fn fires(engine: &mut Engine, at: u64, names: &[&str]) -> Effects {
    let all = names.iter().map(|name| instance(name));
    let all = all.map(|instance| observation(&instance, Some(CRITICAL)));
    engine.feed(at, round(all.collect()))
}

fn report(send: &Send, outcome: DeliveryOutcome) -> DeliveryReport {
    DeliveryReport {
        id: send.notification.id.clone(),
        attempt: send.attempt,
        outcome,
    }
}

/// One accepts, the other one does not.
fn answers(sends: &[Send]) -> Vec<DeliveryReport> {
    let failed = DeliveryOutcome::Failed {
        message: "no".to_owned(),
        retry_after: None,
        answered: true,
    };
    let accepted = DeliveryOutcome::Accepted { remote_id: None };
    let outcomes = [accepted, failed].into_iter().cycle();
    let pairs = sends.iter().zip(outcomes);
    pairs.map(|(send, outcome)| report(send, outcome)).collect()
}

#[test]
fn a_batch_comes_to_what_its_reports_come_to_one_by_one() {
    let ends: Vec<_> = [true, false]
        .into_iter()
        .map(|together| {
            let mut engine = Engine::new(grouped());
            let sends = fires(&mut engine, 10, &["a", "b", "c"]).sends;
            assert_eq!(sends.len(), 2, "one message a notifier");
            let mut events = Vec::new();
            let mut written = 0;
            let batches: Vec<Vec<DeliveryReport>> = match together {
                true => vec![answers(&sends)],
                false => answers(&sends).into_iter().map(|one| vec![one]).collect(),
            };
            for batch in batches {
                let effects = engine.feed(11, Input::Deliveries(batch));
                let alerts = effects.records.iter().filter(|r| r.table == Table::Alert);
                written += alerts.count();
                events.extend(effects.events);
            }
            (engine.rows, events, written, together)
        })
        .collect();
    let [batch, single] = &ends[..] else {
        panic!("two ways")
    };
    assert_eq!(batch.0, single.0, "the same rows");
    assert_eq!(batch.1, single.1, "the same events, in the same order");
    assert_eq!(batch.2, 3, "each alert of the accepted message once");
}

#[test]
fn a_group_that_waited_for_its_report_goes_out_after_the_batch() {
    let mut engine = Engine::new(grouped());
    let sends = fires(&mut engine, 10, &["a"]).sends;
    // A critical newcomer waits for nothing but the message that is under way.
    assert!(fires(&mut engine, 20, &["a", "b"]).sends.is_empty());
    let accepted = |send| report(send, DeliveryOutcome::Accepted { remote_id: None });
    let batch = sends.iter().map(accepted).collect();
    assert_eq!(engine.feed(21, Input::Deliveries(batch)).sends, []);
    assert!(engine.state.next_due().is_some_and(|due| due <= now(21).at));
    let next = engine.feed(21, Input::Timer).sends;
    let told: Vec<_> = next.iter().map(|send| send.notifier.as_str()).collect();
    assert_eq!(told, ["default", "spare"]);
    for send in next {
        let group = send.notification.group.as_ref().expect("a group");
        assert_eq!((group.firing, group.new), (2, 1));
    }
}

#[test]
fn a_report_of_a_message_that_nobody_sent_changes_nothing() {
    let mut engine = Engine::new(grouped());
    let sends = fires(&mut engine, 10, &["a"]).sends;
    let mut stranger = report(&sends[0], DeliveryOutcome::Accepted { remote_id: None });
    stranger.attempt += 1;
    let effects = engine.feed(11, Input::Deliveries(vec![stranger]));
    assert!(effects.records.is_empty() && effects.events.is_empty());
}

#[test]
fn what_is_undelivered_is_not_repeated_beside() {
    let mut policy = policy();
    policy.routes[0].repeat = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    let sends = fires(&mut engine, 10, &["a", "b"]).sends;
    let accepted = |send| report(send, DeliveryOutcome::Accepted { remote_id: None });
    engine.feed(10, Input::Deliveries(sends.iter().map(accepted).collect()));
    let repeats = fires(&mut engine, 70, &["a", "b"]).sends;
    let reasons: Vec<_> = repeats.iter().map(|s| s.notification.reason).collect();
    assert_eq!(reasons, [Reason::Repeat, Reason::Repeat]);
    // Only the first of them is answered: the other one is still under way at the next repeat's time.
    engine.feed(71, Input::Deliveries(vec![accepted(&repeats[0])]));
    for at in [80, 90, 100, 110, 120] {
        assert!(fires(&mut engine, at, &["a", "b"]).sends.is_empty());
    }
    let next = fires(&mut engine, 140, &["a", "b"]).sends;
    let about: Vec<_> = next
        .iter()
        .map(|send| send.notification.alerts[0].labels.get("i").unwrap_or("?"))
        .collect();
    assert_eq!(about, ["a"]);
}

#[test]
fn a_group_is_due_once_the_report_of_its_last_message_is_there() {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_interval = secs(60);
    let mut engine = Engine::new(policy);
    let sends = fires(&mut engine, 0, &["a"]).sends;
    let both = |b| round(vec![shows("a", CRITICAL), shows("b", b)]);
    engine.feed(10, both(CRITICAL));
    assert_eq!(engine.state.next_due(), None, "it waits for the report");
    // What was over by then is not told at all.
    engine.feed(20, both(HEALTHY));
    let accepted = DeliveryOutcome::Accepted { remote_id: None };
    let next = engine.answer(25, &sends[0], accepted);
    assert_eq!(next.sends, []);
}

#[test]
fn what_a_group_says_is_over_waits_for_a_repeat_under_way_and_drops_one_that_fails() {
    let mut policy = grouped();
    policy.routes[0].notify = vec!["default".into()];
    policy.routes[0].group_interval = secs(20);
    policy.routes[0].repeat = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    fires(&mut engine, 10, &["a"]);
    engine.accept_all(10);
    for at in [20, 30, 40, 50, 60] {
        fires(&mut engine, at, &["a"]);
    }
    let repeat = fires(&mut engine, 70, &["a"]).sends.remove(0);
    assert_eq!(repeat.notification.reason, Reason::Repeat);
    engine.sends.clear();
    let well = vec![observation(&instance("a"), Some(HEALTHY))];
    engine.feed(80, round(well.clone()));
    engine.feed(90, Input::Timer);
    let told = |engine: &Engine| -> Vec<_> {
        let sends = engine.sends.iter();
        sends.map(|send| send.notification.reason).collect()
    };
    assert_eq!(told(&engine), [], "the repeat may arrive yet");
    assert_eq!(engine.state.next_due(), None);
    engine.answer(95, &repeat, failed());
    assert!(engine.state.next_due().is_some_and(|due| due <= now(95).at));
    engine.feed(95, Input::Timer);
    assert_eq!(
        told(&engine),
        [Reason::Group],
        "what it would remind of is over"
    );
    engine.accept_all(95);
    engine.feed(100, round(well));
    assert_eq!(told(&engine), []);
    assert_eq!(engine.state.outbox_pending(), 0);
}
