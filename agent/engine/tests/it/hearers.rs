//! Who hears on, and of what: routes that overlap or went away, what became of an undelivered message, how
//! long an acknowledgement keeps people undisturbed.

use crate::common::*;
use crate::hours::{on_call, rotation, schedule};
use std::sync::Arc;
use watchfire_engine::Effects;
use watchfire_engine::effect::{Happening, Reason};
use watchfire_engine::input::{CommandKind, DeliveryOutcome, Input, Observation};
use watchfire_engine::model::{PerSeverity, Severity};
use watchfire_engine::policy::{Flapping, Rank, Recipient, RoutePolicy};
#[test]
fn two_open_routes_to_one_notifier_are_the_first_of_them() {
    let mut policy = policy();
    policy.routes[0].carry_on = true;
    policy.routes[0].repeat = PerSeverity::all(secs(30));
    let mut second = policy.routes[0].clone();
    second.repeat = PerSeverity::all(secs(0));
    policy.routes.push(second);
    let mut engine = Engine::new(policy);
    let said: Vec<_> = (0..40)
        .step_by(10)
        .flat_map(|at| reasons(&turn(&mut engine, at, WARNING).sends))
        .collect();
    assert_eq!(said, ["fire", "repeat"]);
}

#[test]
fn who_is_no_longer_routed_to_hears_on_under_the_route_that_names_it() {
    let mut policy = policy();
    let mut second = policy.routes[0].clone();
    policy.routes[0].matcher.rule = vec!["none".into()];
    policy.routes[0].notify = vec!["spare".into()];
    second.matcher.severity = vec![Severity::Critical];
    second.repeat = PerSeverity::all(secs(30));
    policy.routes.push(second);
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, CRITICAL);
    let said: Vec<_> = (10..50)
        .step_by(10)
        .flat_map(|at| reasons(&turn(&mut engine, at, WARNING).sends))
        .collect();
    assert_eq!(said, ["deescalate", "repeat"]);
}

#[test]
fn who_heard_that_it_flaps_hears_that_it_settled_though_it_is_routed_no_more() {
    let mut policy = policy();
    policy.alerting.flapping = Some(Flapping {
        start: 2,
        stop: 0,
        window: secs(50),
    });
    policy.routes[0].notify = vec!["default".into(), "spare".into()];
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, WARNING);
    turn(&mut engine, 10, HEALTHY);
    engine.policy.routes[0].notify.pop();
    engine.feed(15, Input::Reload);
    let mut stopped = Vec::new();
    for at in (20..90).step_by(10) {
        let effects = turn(&mut engine, at, HEALTHY);
        let stops = effects
            .sends
            .iter()
            .filter(|send| send.notification.reason == Reason::FlapStop);
        stopped.extend(stops.map(|send| send.notifier.to_string()));
    }
    assert_eq!(stopped, ["default", "spare"]);
}

#[test]
fn a_late_receipt_of_a_resolve_does_not_forget_who_heard_that_it_flaps() {
    let mut policy = policy();
    policy.alerting.flapping = Some(Flapping {
        start: 3,
        stop: 0,
        window: secs(50),
    });
    policy.routes[0].notify = vec!["default".into(), "spare".into()];
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, WARNING);
    engine.feed(10, round(vec![shows("0", HEALTHY)]));
    let under_way = std::mem::take(&mut engine.sends);
    assert_eq!(reasons(&under_way), ["resolve", "resolve"]);
    engine.feed(20, round(vec![shows("0", WARNING)]));
    for send in &under_way {
        engine.answer(21, send, DeliveryOutcome::Accepted { remote_id: None });
    }
    assert_eq!(reasons(&engine.sends), ["flap-start", "flap-start"]);
    engine.accept_all(21);
    engine.policy.routes[0].notify.pop();
    engine.feed(25, Input::Reload);
    let mut settled = Vec::new();
    for at in (30..90).step_by(10) {
        let effects = turn(&mut engine, at, WARNING);
        settled.extend(effects.sends.iter().map(|send| send.notifier.to_string()));
    }
    assert_eq!(settled, ["default", "spare"]);
}

/// Numbers of the group messages of a step: firing, new, resolved.
fn groups(effects: &Effects) -> Vec<(u32, u32, u32)> {
    let groups = effects
        .sends
        .iter()
        .filter_map(|send| send.notification.group.as_ref());
    groups
        .map(|group| (group.firing, group.new, group.resolved))
        .collect()
}

#[test]
fn what_an_undelivered_group_called_new_is_new_once_in_the_next() {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    let next = |second: Vec<Observation>| {
        let mut engine = Engine::new(policy.clone());
        let first = engine.feed(0, round(vec![shows("0", WARNING)]));
        assert_eq!(groups(&first), [(1, 1, 0)]);
        let send = engine.sends.remove(0);
        engine.answer(0, &send, failed());
        engine.feed(10, round(second));
        groups(&engine.feed(10, Input::Timer))
            .into_iter()
            .chain(groups(&Effects {
                sends: std::mem::take(&mut engine.sends),
                ..Effects::default()
            }))
            .next()
    };
    let another = vec![shows("0", WARNING), shows("1", WARNING)];
    assert_eq!(next(another), Some((2, 2, 0)));
    let worse = vec![shows("0", CRITICAL)];
    assert_eq!(next(worse), Some((1, 1, 0)), "not counted twice");
    let over = vec![shows("0", HEALTHY)];
    assert_eq!(next(over), Some((0, 0, 1)));
}

#[test]
fn one_hour_that_closes_two_routes_is_named_once() {
    let mut policy = policy();
    policy.calendar.schedules = vec![schedule("night", 0, 100)];
    policy.routes[0].mute = vec!["night".into()];
    let mut second = policy.routes[0].clone();
    policy.routes[0].carry_on = true;
    second.notify = vec!["spare".into()];
    policy.routes.push(second);
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, WARNING);
    assert_eq!(engine.state.alerts()[0].muted_by, ["schedule night"]);
}

#[test]
fn an_acknowledgement_may_run_out_and_outlives_a_restart_until_then() {
    let mut policy = policy();
    policy.routes[0].repeat = PerSeverity::all(secs(20));
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, CRITICAL);
    let alert = instance("0").fingerprint;
    let lasts = Some(secs(45));
    let did = engine.command(5, CommandKind::Acknowledge { alert, lasts });
    let said = did.events.iter().find_map(|event| match &event.what {
        Happening::Operator { did, .. } => Some(did.clone()),
        _ => None,
    });
    assert_eq!(said.as_deref(), Some("acknowledged cpu{i=\"0\"} for 45s"));
    let mut said = Vec::new();
    for at in (10..70).step_by(10) {
        if at == 30 {
            engine.restart(30);
        }
        let effects = turn(&mut engine, at, CRITICAL);
        let ran_out = |event: &watchfire_engine::effect::Event| matches!(&event.what, Happening::Operator { by, did } if by == "operator" && did == "the acknowledgement ran out");
        said.push((
            at,
            reasons(&effects.sends),
            effects.events.iter().any(ran_out),
        ));
    }
    let quiet = |at| (at, Vec::new(), false);
    assert_eq!(
        said,
        [
            quiet(10),
            quiet(20),
            quiet(30),
            quiet(40),
            (50, vec!["repeat"], true),
            quiet(60)
        ]
    );
    // One without an end stays.
    engine.command(61, CommandKind::Acknowledge { alert, lasts: None });
    for at in (70..600).step_by(10) {
        assert_eq!(
            reasons(&turn(&mut engine, at, CRITICAL).sends),
            [""; 0],
            "{at}"
        );
    }
}

#[test]
fn a_restart_makes_no_retry_due() {
    let mut engine = Engine::new(policy());
    engine.feed(0, round(vec![shows("0", WARNING)]));
    let send = engine.sends.remove(0);
    let wait = DeliveryOutcome::Failed {
        message: "later".to_owned(),
        retry_after: Some(secs(600)),
        answered: true,
    };
    engine.answer(0, &send, wait);
    let effects = engine.restart(10);
    assert_eq!(effects.sends, []);
    assert_eq!(engine.state.next_due(), Some(now(600).at));
}

/// Who is routed to no more hears on under the route that takes the alert and names it by turns; else under
/// the first that could name it. Which one it is shows where one of the two is closed.
#[test]
fn who_is_routed_to_no_more_hears_on_under_an_open_route_of_its_own() {
    let night = || vec!["night".into()];
    let pager = || vec![on_call(Rank::Primary)];
    let route = |notify: Vec<Recipient>, mute: Vec<Arc<str>>| RoutePolicy {
        notify,
        mute,
        ..policy().routes[0].clone()
    };
    // Notifiers and hours of the route of critical alerts, of the route of all; who hears of the step down.
    for (critical, all, told) in [
        (
            route(vec!["default".into()], vec![]),
            route(pager(), night()),
            vec!["deescalate default"],
        ),
        (
            route(vec!["default".into()], vec![]),
            route(vec!["spare".into()], night()),
            vec!["deescalate default"],
        ),
        (
            route(pager(), night()),
            route(pager(), vec![]),
            vec!["fire ben", "deescalate ann"],
        ),
    ] {
        let mut policy = policy();
        policy.notifiers = ["default", "spare", "ann", "ben"].map(Into::into).to_vec();
        policy.calendar.rotations = vec![rotation(&["ann", "ben"])];
        policy.calendar.schedules = vec![schedule("night", 100, 1_000)];
        policy.routes = vec![critical, all];
        policy.routes[0].matcher.severity = vec![Severity::Critical];
        let mut engine = Engine::new(policy);
        turn(&mut engine, 0, CRITICAL);
        let effects = turn(&mut engine, 110, WARNING);
        let said = effects.sends.iter();
        let said = said.map(|s| format!("{} {}", s.notification.reason.name(), s.notifier));
        assert_eq!(said.collect::<Vec<_>>(), told);
    }
}
