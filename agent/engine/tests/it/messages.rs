//! Messages in corners that mutation testing showed nobody looked at: groups, escalation, flapping, dead
//! letters, what a message says.

use crate::common::*;
use std::collections::BTreeSet;
use watchfire_engine::effect::{Happening, Reason};
use watchfire_engine::input::{DeliveryOutcome, Input, Observation, RuleRound};
use watchfire_engine::model::{Fingerprint, Instance, RuleId, Severity};
use watchfire_engine::policy::{AlertMatcher, EscalationStep, Flapping, RoutePolicy};
use watchfire_engine::{Effects, Policy, Send};

fn refused() -> DeliveryOutcome {
    DeliveryOutcome::Refused {
        message: "never".to_owned(),
    }
}

/// One rule's round beside those of `cpu`.
fn also(input: Input, rule: &str, observations: Vec<Observation>) -> Input {
    let Input::Round(mut round) = input else {
        panic!("a round")
    };
    round.rules.push(RuleRound {
        rule: RuleId::new(rule),
        every: secs(EVERY),
        result: Ok(observations),
    });
    Input::Round(round)
}

fn to(sends: &[Send], notifier: &str) -> Vec<&'static str> {
    let of_it = sends.iter().filter(|s| s.notifier.as_str() == notifier);
    of_it.map(|s| s.notification.reason.name()).collect()
}

/// Firing, new and resolved of a group message, and the alerts in it.
fn group(effects: &Effects) -> (u32, u32, u32, BTreeSet<Fingerprint>) {
    let sends: Vec<_> = effects
        .sends
        .iter()
        .filter(|send| send.notification.reason == Reason::Group)
        .collect();
    assert_eq!(sends.len(), 1, "{:?}", effects.sends);
    let group = sends[0].notification.group.as_ref().expect("a group");
    let alerts = sends[0].notification.alerts.iter();
    let alerts = alerts.map(|alert| alert.fingerprint).collect();
    (group.firing, group.new, group.resolved, alerts)
}

fn grouped() -> Policy {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_wait = secs(15);
    policy.routes[0].group_interval = secs(30);
    policy
}

#[test]
fn a_resolve_says_the_value_that_ended_it() {
    let mut engine = Engine::new(policy());
    engine.judge(0, true);
    let mut healthy = shows("0", HEALTHY);
    healthy.value = 3.5;
    let resolve = engine.feed(10, round(vec![healthy])).sends.remove(0);
    assert_eq!(resolve.notification.reason, Reason::Resolve);
    assert_eq!(resolve.notification.alerts[0].value, Some(3.5));
}

#[test]
fn a_group_holds_what_its_route_sends_to_its_notifier_and_no_more() {
    let mut policy = grouped();
    policy.rules.push(rule("other"));
    policy.routes[0].group_by = vec!["i".into()];
    policy.routes[0].matcher.rule = vec!["cpu".into()];
    let mut second = policy.routes[0].clone();
    second.matcher.rule = vec!["other".into()];
    second.notify = vec!["spare".into()];
    policy.routes.push(second);
    let mut engine = Engine::new(policy);
    let other = Instance::new(RuleId::new("other"), instance("0").labels.clone());
    let other = observation(&other.into(), Some(WARNING));
    engine.feed(
        0,
        also(round(vec![shows("0", WARNING)]), "other", vec![other]),
    );
    let flushed = engine.feed(15, Input::Timer);
    let mut told: Vec<_> = flushed
        .sends
        .iter()
        .map(|send| {
            let alerts = send.notification.alerts.iter().map(|a| a.rule.to_string());
            (send.notifier.to_string(), alerts.collect::<Vec<_>>())
        })
        .collect();
    told.sort();
    let wanted = [("default", "cpu"), ("spare", "other")];
    let wanted = wanted.map(|(to, rule)| (to.to_owned(), vec![rule.to_owned()]));
    assert_eq!(told, wanted);
}

#[test]
fn a_group_message_in_place_of_an_undelivered_one_says_what_that_one_said_was_over() {
    let mut policy = grouped();
    policy.delivery.first_retry = secs(100);
    let mut engine = Engine::new(policy);
    let [a, b, c] = ["a", "b", "c"].map(|name| instance(name).fingerprint);
    engine.feed(0, round(vec![shows("a", WARNING), shows("b", WARNING)]));
    let first = engine.feed(15, Input::Timer);
    assert_eq!(group(&first), (2, 2, 0, [a, b].into()));
    engine.accept_all(15);
    engine.feed(20, round(vec![shows("a", HEALTHY), shows("b", WARNING)]));
    engine.sends.clear();
    let second = engine.feed(45, Input::Timer);
    assert_eq!(group(&second), (1, 0, 1, [a, b].into()));
    engine.answer(45, &second.sends[0], failed());
    let all = vec![
        shows("a", HEALTHY),
        shows("b", WARNING),
        shows("c", WARNING),
    ];
    engine.feed(50, round(all));
    // Due at 75, held up by the back-off of the message whose place it takes.
    let taken = engine.feed(75, Input::Timer);
    assert_eq!(happenings(&taken.events), ["superseded by group"]);
    let third = engine.feed(145, Input::Timer);
    assert_eq!(group(&third), (2, 1, 1, [a, b, c].into()));
    let ended = third.sends[0]
        .notification
        .alerts
        .iter()
        .filter(|x| x.ended_at.is_some());
    assert_eq!(ended.map(|x| x.fingerprint).collect::<Vec<_>>(), [a]);
}

#[test]
fn a_group_leaves_out_what_is_muted() {
    let mut engine = Engine::new(grouped());
    engine.command(0, silenced(0, 60, Some("a")));
    let both = || round(vec![shows("a", WARNING), shows("b", WARNING)]);
    engine.feed(1, both());
    let told = engine.feed(16, Input::Timer);
    assert_eq!(group(&told), (1, 1, 0, [instance("b").fingerprint].into()));
    engine.accept_all(16);
    engine.feed(61, both());
    let later = engine.feed(62, both());
    let all = [instance("a").fingerprint, instance("b").fingerprint];
    let sends: Vec<_> = engine
        .sends
        .iter()
        .map(|s| s.notification.clone())
        .collect();
    assert!(later.sends.is_empty() && sends.len() == 1, "{sends:?}");
    assert_eq!(sends[0].alerts.len(), all.len());
}

#[test]
fn a_flapping_alert_is_not_in_its_group() {
    let mut policy = grouped();
    policy.routes[0].group_wait = secs(0);
    policy.alerting.flapping = Some(Flapping {
        start: 2,
        stop: 0,
        window: secs(500),
    });
    let mut engine = Engine::new(policy);
    for (at, a) in [(0, WARNING), (10, HEALTHY), (20, WARNING)] {
        engine.feed(at, round(vec![shows("a", a), shows("b", HEALTHY)]));
        engine.accept_all(at);
    }
    let told = engine.feed(40, round(vec![shows("a", WARNING), shows("b", CRITICAL)]));
    assert_eq!(group(&told), (1, 1, 0, [instance("b").fingerprint].into()));
}

/// Warning to `default`; after 100 s without an acknowledgement to `spare` too.
fn escalating() -> Policy {
    let mut policy = policy();
    policy.routes[0].escalate = vec![EscalationStep {
        after: secs(100),
        notify: vec!["spare".into()],
    }];
    policy
}

#[test]
fn an_escalation_step_hears_the_fire_and_the_resolve_and_nothing_between() {
    let mut engine = Engine::new(escalating());
    let mut heard = Vec::new();
    for (at, breached) in [
        (0, WARNING),
        (100, WARNING),
        (110, CRITICAL),
        (120, WARNING),
        (130, HEALTHY),
    ] {
        let effects = engine.feed(at, round(vec![shows("0", breached)]));
        heard.extend(to(&effects.sends, "spare"));
        engine.accept_all(at);
    }
    assert_eq!(heard, ["escalation", "resolve"]);
}

#[test]
fn who_heard_of_an_escalation_may_be_told_plainly_in_the_next_episode() {
    let mut policy = escalating();
    // The ring of changes keeps what each notifier was told in memory.
    policy.alerting.flapping = Some(Flapping {
        start: 99,
        stop: 1,
        window: secs(10_000),
    });
    let mut engine = Engine::new(policy);
    for (at, breached) in [(0, WARNING), (100, WARNING), (130, HEALTHY)] {
        engine.feed(at, round(vec![shows("0", breached)]));
        engine.accept_all(at);
    }
    engine.policy.routes[0].notify.push("spare".into());
    engine.feed(135, Input::Reload);
    let next = engine.feed(140, round(vec![shows("0", WARNING)]));
    assert_eq!(to(&next.sends, "spare"), ["fire"]);
}

#[test]
fn a_late_receipt_does_not_restart_the_wait_of_the_next_episode() {
    let mut policy = policy();
    policy.routes[0].group_wait = secs(15);
    let mut engine = Engine::new(policy);
    engine.feed(0, round(vec![shows("0", WARNING)]));
    engine.feed(15, Input::Timer);
    engine.accept_all(15);
    let resolve = engine
        .feed(20, round(vec![shows("0", HEALTHY)]))
        .sends
        .remove(0);
    engine.sends.clear();
    engine.feed(30, round(vec![shows("0", WARNING)]));
    engine.answer(32, &resolve, DeliveryOutcome::Accepted { remote_id: None });
    engine.feed(40, round(vec![shows("0", WARNING)]));
    assert_eq!(engine.state.next_due(), Some(now(45).at));
}

#[test]
fn a_dead_letters_alarm_ends_some_time_after_the_next_success() {
    let mut policy = policy();
    policy.alerting.meta_keep = secs(30);
    policy.notifiers = vec!["default".into()];
    let mut engine = Engine::new(policy);
    let fire = engine
        .feed(0, round(vec![shows("0", CRITICAL)]))
        .sends
        .remove(0);
    engine.sends.clear();
    let dead = engine.answer(0, &fire, refused());
    assert_eq!(happenings(&dead.events), ["dead letter"]);
    engine.accept_all(0);
    engine.feed(10, round(vec![shows("0", HEALTHY)]));
    engine.accept_all(10);
    let dead_letter = |engine: &Engine| {
        let alerts = engine.state.alerts();
        alerts
            .iter()
            .any(|a| a.instance.rule.as_str() == "watchfire_dead_letter")
    };
    for at in [20, 30] {
        engine.judge(at, false);
        assert!(dead_letter(&engine), "at {at}: meta_keep");
    }
    engine.judge(40, false);
    assert!(!dead_letter(&engine));
}

/// Services keep an incident by this key: it must fit, whatever the host is called.
#[test]
fn a_long_host_name_leaves_room_for_the_identity() {
    let mut policy = policy();
    policy.host = "ä".repeat(500).into();
    let mut engine = Engine::new(policy);
    let fire = engine
        .feed(0, round(vec![shows("0", CRITICAL)]))
        .sends
        .remove(0);
    let key = &fire.notification.dedup_key;
    let identity = instance("0").fingerprint.to_string();
    assert!(key.len() <= 255, "{}", key.len());
    assert!(key.ends_with(&format!(":{identity}")));
    // Four bytes are kept free for each character: PagerDuty counts characters, others bytes.
    let room = (255 - "wf1::".len() - identity.len()) / 4;
    assert_eq!(*key, format!("wf1:{}:{identity}", "ä".repeat(room)));
}

#[test]
fn a_route_takes_what_all_of_its_matchers_take() {
    let mut policy = policy();
    policy.routes.insert(
        0,
        RoutePolicy {
            matcher: AlertMatcher {
                severity: vec![Severity::Critical],
                rule: vec!["cpu*".into()],
                ..AlertMatcher::default()
            },
            notify: vec!["spare".into()],
            ..policy.routes[0].clone()
        },
    );
    let mut engine = Engine::new(policy);
    let told = engine.feed(0, round(vec![shows("0", WARNING), shows("1", CRITICAL)]));
    let told: Vec<_> = told.sends.iter().map(|s| s.notifier.to_string()).collect();
    assert_eq!(told, ["default", "spare"]);
}

#[test]
fn only_changes_between_firing_and_not_count_as_flapping() {
    let mut policy = policy();
    policy.alerting.flapping = Some(Flapping {
        start: 3,
        stop: 1,
        window: secs(1_000),
    });
    let mut engine = Engine::new(policy);
    let both = &[Severity::Warning, Severity::Critical];
    let mut said = Vec::new();
    for (at, breached) in [
        (0, WARNING),
        (10, both),
        (20, WARNING),
        (30, both),
        (40, WARNING),
        (50, HEALTHY),
    ] {
        let effects = engine.feed(at, round(vec![shows("0", breached)]));
        said.extend(reasons(&effects.sends));
        engine.accept_all(at);
    }
    assert_eq!(said.last(), Some(&"resolve"), "two changes: {said:?}");
    let third = engine.feed(60, round(vec![shows("0", WARNING)]));
    assert_eq!(reasons(&third.sends), ["flap-start"]);
    let flips = third
        .events
        .iter()
        .filter(|e| matches!(e.what, Happening::Transition { .. }));
    assert_eq!(flips.count(), 1);
}

#[test]
fn a_message_lost_under_way_with_a_newer_one_behind_it_is_told_as_superseded() {
    let mut engine = Engine::new(policy());
    engine.feed(0, round(vec![shows("0", CRITICAL)]));
    engine.feed(10, round(vec![shows("0", HEALTHY)]));
    let back = engine.restart(12);
    assert_eq!(
        happenings(&back.events),
        ["restart", "superseded by resolve"]
    );
    assert_eq!(back.sends, [], "what comes of the outage goes first");
    assert!(engine.state.next_due().is_some_and(|due| due <= now(12).at));
    let retried = engine.feed(12, Input::Timer);
    assert_eq!(reasons(&retried.sends), ["resolve"]);
}

#[test]
fn a_fire_says_its_value_and_its_limit() {
    let mut engine = Engine::new(policy());
    let mut one = shows("0", CRITICAL);
    (one.value, one.limit) = (95.5, 90.0);
    let fire = engine.feed(0, round(vec![one])).sends.remove(0);
    let alert = &fire.notification.alerts[0];
    assert_eq!((alert.value, alert.limit), (Some(95.5), Some(90.0)));
}

#[test]
fn a_connection_that_fails_again_and_again_is_tried_every_five_seconds_while_few_wait() {
    let mut engine = Engine::new(policy());
    let mut send = engine
        .feed(0, round(vec![shows("0", CRITICAL)]))
        .sends
        .remove(0);
    for at in [0, 5, 10, 15] {
        let gone = DeliveryOutcome::Failed {
            message: "refused".to_owned(),
            retry_after: None,
            answered: false,
        };
        engine.answer(at, &send, gone);
        assert_eq!(engine.state.next_due(), Some(now(at + 5).at));
        send = engine.feed(at + 5, Input::Timer).sends.remove(0);
    }
}
