//! Time by the wall clock: hours of routes, turns of a rotation, maintenance.

use crate::common::*;
use std::time::Duration;
use watchfire_engine::calendar::{OfWall, Rotation, Schedule};
use watchfire_engine::effect::Happening;
use watchfire_engine::input::{CommandKind, DeliveryOutcome, Input, Silence};
use watchfire_engine::model::{Now, PerSeverity, ProcedureId, Severity, WallTime};
use watchfire_engine::policy::{
    EscalationStep, Flapping, MaintenancePolicy, Mode, Rank, Recipient,
};
use watchfire_engine::{Effects, Policy, step};

/// Open in the seconds `[from, to)` of the test.
pub(crate) fn schedule(id: &str, from: u64, to: u64) -> Schedule {
    let (begin, end) = (now(from).wall, now(to).wall);
    Schedule {
        id: id.into(),
        open: OfWall::new(format!("{from}-{to}"), move |wall| {
            begin <= wall && wall < end
        }),
    }
}

/// The members take turns of 100 s.
pub(crate) fn rotation(members: &[&str]) -> Rotation {
    let begin = now(0).wall.0;
    Rotation {
        id: "pager".into(),
        members: members.iter().map(|id| (*id).into()).collect(),
        turn: OfWall::new("100 s", move |wall: WallTime| {
            usize::try_from(wall.0.saturating_sub(begin) / 100_000).unwrap_or(0)
        }),
    }
}

pub(crate) fn on_call(rank: Rank) -> Recipient {
    Recipient::OnCall {
        rotation: "pager".into(),
        rank,
    }
}

/// What was said to whom in this step: `fire ann`, a late one as `fire ann late`; groups as
/// `group ann 1/1/0`.
pub(crate) fn said(effects: &Effects) -> Vec<String> {
    let sends = effects.sends.iter().map(|send| {
        let what = &send.notification;
        let late = if what.late { " late" } else { "" };
        let counts = what.group.as_ref().map_or_else(String::new, |group| {
            format!(" {}/{}/{}", group.firing, group.new, group.resolved)
        });
        format!("{} {}{counts}{late}", what.reason.name(), send.notifier)
    });
    sends.collect()
}

/// One round of `cpu{i="0"}`; what is said is accepted.
pub(crate) fn round_at(engine: &mut Engine, at: u64, breached: &[Severity]) -> Vec<String> {
    let effects = engine.feed(at, round(vec![observation(&instance("0"), Some(breached))]));
    let mut all = said(&effects);
    while !engine.sends.is_empty() {
        for send in std::mem::take(&mut engine.sends) {
            let outcome = DeliveryOutcome::Accepted { remote_id: None };
            all.extend(said(&engine.answer(at, &send, outcome)));
        }
    }
    all
}

/// Feeds rounds of `(at, breached)` and compares what is said at each.
#[track_caller]
pub(crate) fn check(engine: &mut Engine, turns: &[(u64, &[Severity], &[&str])]) {
    for (at, breached, wanted) in turns {
        assert_eq!(round_at(engine, *at, breached), *wanted, "at {at} s");
    }
}

pub(crate) fn give(engine: &mut Engine, at: u64, silence: Silence) -> String {
    let effects = engine.command(at, CommandKind::Silence(silence));
    did(&effects).remove(0)
}

/// What operators, and silences by themselves, did in this step.
pub(crate) fn did(effects: &Effects) -> Vec<String> {
    let did = effects.events.iter().filter_map(|event| match &event.what {
        Happening::Operator { did, .. } => Some(did.clone()),
        _ => None,
    });
    did.collect()
}

fn timed(active: &[&str], mute: &[&str]) -> Policy {
    let mut policy = policy();
    policy.calendar.schedules = vec![schedule("day", 30, 100), schedule("break", 60, 80)];
    policy.routes[0].active = active.iter().map(|id| (*id).into()).collect();
    policy.routes[0].mute = mute.iter().map(|id| (*id).into()).collect();
    policy
}

#[test]
fn a_closed_route_says_late_what_still_holds_when_it_opens() {
    let mut engine = Engine::new(timed(&["day"], &[]));
    check(
        &mut engine,
        &[
            (10, WARNING, &[]),
            (20, WARNING, &[]),
            (30, WARNING, &["fire default late"]),
            (40, CRITICAL, &["escalate default"]),
            (90, CRITICAL, &[]),
            (100, WARNING, &[]), // Closed: the fall is told at the next opening, the end at once.
            (110, &[], &["resolve default"]),
            (120, WARNING, &[]),
            (130, &[], &[]), // Never told, so there is nothing to close.
        ],
    );
    let started = engine.state.alerts();
    assert!(started.is_empty(), "{started:?}");
}

#[test]
fn a_muted_route_pauses_and_views_say_what_mutes() {
    let mut engine = Engine::new(timed(&[], &["break"]));
    engine.policy.routes[0].repeat = PerSeverity::all(secs(30));
    check(
        &mut engine,
        &[
            (10, WARNING, &["fire default"]),
            (40, WARNING, &["repeat default"]),
            (70, CRITICAL, &[]),
        ],
    );
    assert_eq!(engine.state.alerts()[0].muted_by, ["schedule break"]);
    check(&mut engine, &[(80, CRITICAL, &["escalate default"])]);
    assert!(engine.state.alerts()[0].muted_by.is_empty());

    let mut engine = Engine::new(timed(&["day"], &[]));
    let effects = engine.feed(10, round(vec![observation(&instance("0"), Some(WARNING))]));
    assert_eq!(engine.state.alerts()[0].muted_by, ["outside schedule day"]);
    let suppressed = effects.events.iter().find_map(|event| match &event.what {
        Happening::Transition { suppressed_by, .. } => suppressed_by.clone(),
        _ => None,
    });
    assert_eq!(suppressed.as_deref(), Some("outside schedule day"));
}

#[test]
fn a_closed_route_is_not_passed_over_but_an_open_one_of_the_same_notifier_serves() {
    let mut policy = timed(&["day"], &[]);
    let mut below = policy.routes[0].clone();
    below.active = Vec::new();
    below.notify = vec!["spare".into()];
    policy.routes.push(below);
    let mut engine = Engine::new(policy.clone());
    // Not rerouted: the route took the alert.
    check(
        &mut engine,
        &[(10, WARNING, &[]), (30, WARNING, &["fire default late"])],
    );

    policy.routes[0].carry_on = true;
    policy.routes[1].notify = vec!["default".into(), "spare".into()];
    let mut engine = Engine::new(policy);
    check(
        &mut engine,
        &[
            (10, WARNING, &["fire default", "fire spare"]),
            (30, WARNING, &[]),
        ],
    );
    assert!(engine.state.alerts()[0].muted_by.is_empty());
}

#[test]
fn steps_of_the_wall_clock_open_and_close_and_move_no_timer() {
    let mut engine = Engine::new(timed(&["day"], &[]));
    engine.policy.rules[0].wait[Severity::Warning] = secs(20);
    let mut at = |boot: u64, wall: u64, breached: &[Severity]| {
        let moment = Now {
            at: now(boot).at,
            wall: now(wall).wall,
        };
        let input = round(vec![observation(&instance("0"), Some(breached))]);
        let effects = step(&mut engine.state, &engine.policy, input, moment);
        let told = said(&effects);
        for send in effects.sends {
            let report = watchfire_engine::input::DeliveryReport {
                id: send.notification.id.clone(),
                attempt: send.attempt,
                outcome: DeliveryOutcome::Accepted { remote_id: None },
            };
            step(
                &mut engine.state,
                &engine.policy,
                Input::Deliveries(vec![report]),
                moment,
            );
        }
        told
    };
    assert!(
        at(0, 40, WARNING).is_empty(),
        "pending, though the route is open"
    );
    assert!(at(10, 4_000, WARNING).is_empty());
    assert!(
        at(20, 4_010, WARNING).is_empty(),
        "fires, and the route is closed"
    );
    assert_eq!(at(30, 50, WARNING), ["fire default late"], "stepped back");
    assert!(at(40, 4_000, CRITICAL).is_empty(), "no escalation");
    assert_eq!(at(50, 4_010, &[]), ["resolve default"]);
}

#[test]
fn groups_obey_the_hours_of_their_route() {
    let mut policy = timed(&["day"], &[]);
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_wait = secs(15);
    policy.routes[0].group_interval = secs(20);
    let mut engine = Engine::new(policy);
    check(&mut engine, &[(10, WARNING, &[]), (30, WARNING, &[])]);
    let timer = |engine: &mut Engine, at: u64| {
        let told = said(&engine.feed(at, Input::Timer));
        engine.accept_all(at);
        told
    };
    assert_eq!(
        engine.state.next_due(),
        Some(now(45).at),
        "the wait begins when it opens"
    );
    assert_eq!(timer(&mut engine, 45), ["group default 1/1/0"]);
    // What is due when the route is closed waits for its opening, and does not turn in circles.
    check(
        &mut engine,
        &[(90, &[Severity::High], &["group default 1/1/0"])],
    );
    check(&mut engine, &[(95, WARNING, &[])]);
    assert_eq!(engine.state.next_due(), Some(now(110).at));
    assert!(timer(&mut engine, 110).is_empty());
    assert_eq!(engine.state.next_due(), Some(now(130).at));
    check(&mut engine, &[(120, &[], &[])]);
    assert_eq!(timer(&mut engine, 130), ["group default 0/0/1"]);
    assert_eq!(engine.state.next_due(), None);
}

#[test]
fn flapping_is_told_to_whom_it_concerns() {
    let mut policy = timed(&["day"], &[]);
    policy.alerting.flapping = Some(Flapping {
        start: 4,
        stop: 1,
        window: secs(60),
    });
    // All of it while closed: nothing is said, then the state in one message.
    let mut engine = Engine::new(policy.clone());
    engine.policy.calendar.schedules[0] = schedule("day", 200, 300);
    for at in [10, 30, 50] {
        check(&mut engine, &[(at, WARNING, &[]), (at + 10, &[], &[])]);
    }
    check(
        &mut engine,
        &[
            (70, WARNING, &[]),
            (130, WARNING, &[]),
            (200, WARNING, &["fire default late"]),
        ],
    );
    // Begun while open: who heard of it hears of its end, whatever the hour.
    let mut engine = Engine::new(policy);
    check(
        &mut engine,
        &[
            (30, WARNING, &["fire default"]),
            (40, &[], &["resolve default"]),
            (50, WARNING, &["fire default"]),
            (60, &[], &["flap-start default"]),
            (120, &[], &["flap-stop default"]),
            (130, &[], &[]),
        ],
    );
}

#[test]
fn meta_alerts_know_no_hours() {
    let mut policy = timed(&["day"], &[]);
    policy.maintenance = vec![window(true, true)];
    let mut engine = Engine::new(policy);
    let failed = || round(vec![observation(&instance("0"), None)]);
    engine.feed(0, failed());
    let mut told = Vec::new();
    for at in [10, 20, 30] {
        told.extend(engine.feed(at, failed()).sends);
    }
    let names: Vec<_> = told
        .iter()
        .map(|send| send.notification.alerts[0].rule.as_str().to_owned())
        .collect();
    assert_eq!(names, ["watchfire_probe_failing"]);
}

fn window(notify: bool, recover: bool) -> MaintenancePolicy {
    MaintenancePolicy {
        id: "patch".into(),
        from: None,
        until: Some(now(50).wall),
        schedule: None,
        matcher: Default::default(),
        notify,
        recover,
    }
}

#[test]
fn maintenance_mutes_what_it_is_told_to() {
    let mut policy = policy();
    policy.maintenance = vec![window(true, false)];
    policy.procedures = vec![procedure(Mode::Auto)];
    let mut engine = Engine::new(policy.clone());
    check(&mut engine, &[(10, CRITICAL, &[])]);
    assert_eq!(engine.attempts.len(), 1, "notify only: recovery acts");
    assert_eq!(engine.state.alerts()[0].muted_by, ["maintenance patch"]);
    check(&mut engine, &[(50, CRITICAL, &["fire default late"])]);

    policy.maintenance = vec![window(false, true)];
    let mut engine = Engine::new(policy.clone());
    check(&mut engine, &[(10, CRITICAL, &["fire default"])]);
    assert!(engine.attempts.is_empty(), "recover only");
    check(&mut engine, &[(50, CRITICAL, &[])]);
    assert_eq!(engine.attempts.len(), 1);

    // A schedule within its bounds, and other alerts than those it matches.
    policy.calendar.schedules = vec![schedule("night", 20, 100)];
    policy.maintenance = vec![MaintenancePolicy {
        schedule: Some("night".into()),
        ..window(true, true)
    }];
    policy.maintenance[0].matcher.severity = vec![Severity::Warning];
    let mut engine = Engine::new(policy);
    check(
        &mut engine,
        &[
            (10, WARNING, &["fire default"]),
            (20, &[], &["resolve default"]),
            (30, WARNING, &[]),
            (40, CRITICAL, &["fire default late"]),
        ],
    );
}

fn team() -> Policy {
    let mut policy = policy();
    policy.notifiers = ["ann", "ben", "boss", "default"].map(Into::into).to_vec();
    policy.calendar.rotations = vec![rotation(&["ann", "ben"])];
    policy.routes[0].notify = vec![on_call(Rank::Primary)];
    policy
}

#[test]
fn a_handover_tells_the_next_and_the_last_hears_of_the_end() {
    let mut policy = team();
    policy.routes[0].repeat = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    check(
        &mut engine,
        &[
            (10, WARNING, &["fire ann"]),
            (90, WARNING, &["repeat ann"]),
            (100, WARNING, &["fire ben late"]), // 100 s is the handover.
            (160, WARNING, &["repeat ben"]),    // Who is off duty is not reminded …
            (170, CRITICAL, &["escalate ben", "escalate ann"]), // … and hears of changes.
            (180, &[], &["resolve ben", "resolve ann"]),
            (190, WARNING, &["fire ben"]),
        ],
    );
    // Over a restart the same one is on duty, and nothing is said twice.
    engine.restart(195);
    check(
        &mut engine,
        &[(200, WARNING, &["fire ann late"]), (210, WARNING, &[])],
    );
}

#[test]
fn the_second_in_line_hears_when_the_first_does_not_answer() {
    let mut policy = team();
    policy.routes[0].escalate = vec![EscalationStep {
        after: secs(30),
        notify: vec![on_call(Rank::Secondary), "boss".into()],
    }];
    let mut engine = Engine::new(policy.clone());
    check(
        &mut engine,
        &[
            (10, WARNING, &["fire ann"]),
            (30, WARNING, &[]),
            (40, WARNING, &["escalation ben", "escalation boss"]),
            (50, WARNING, &[]),
            (60, &[], &["resolve ann", "resolve ben", "resolve boss"]),
        ],
    );
    // A closed route escalates to nobody.
    policy.calendar.schedules = vec![schedule("day", 0, 35)];
    policy.routes[0].active = vec!["day".into()];
    let mut engine = Engine::new(policy);
    check(
        &mut engine,
        &[(10, WARNING, &["fire ann"]), (40, WARNING, &[])],
    );
}

#[test]
fn both_ranks_of_one_member_are_one_and_a_group_ends_with_who_was_told() {
    let mut policy = team();
    policy.calendar.rotations = vec![rotation(&["ann"])];
    policy.routes[0].notify = vec![on_call(Rank::Primary), on_call(Rank::Secondary)];
    let mut engine = Engine::new(policy);
    check(&mut engine, &[(10, WARNING, &["fire ann"])]);

    let mut policy = team();
    policy.routes[0].group_by = vec!["rule".into()];
    let mut engine = Engine::new(policy.clone());
    check(
        &mut engine,
        &[
            (10, CRITICAL, &["group ann 1/1/0"]),
            (110, CRITICAL, &["group ben 1/1/0"]),
        ],
    );
    // A reload keeps the groups of members who are off duty.
    engine.policy.host = "test".into();
    engine.feed(111, Input::Reload);
    assert_eq!(
        round_at(&mut engine, 120, &[]),
        ["group ann 0/0/1", "group ben 0/0/1"]
    );
}

#[test]
fn an_idle_engine_with_hours_writes_nothing() {
    let mut policy = timed(&["day"], &["break"]);
    policy.calendar.rotations = vec![rotation(&["default", "spare"])];
    let mut engine = Engine::new(policy);
    let unless_idle = Silence {
        idle: Some(Duration::from_secs(3_600)),
        on_resolve: true,
        ..silence("i", 0, 10_000)
    };
    give(&mut engine, 0, unless_idle);
    round_at(&mut engine, 10, &[]);
    for at in [20, 30, 100, 110] {
        let effects = engine.feed(at, round(vec![observation(&instance("0"), Some(&[]))]));
        assert!(effects.is_empty(), "{effects:?}");
    }
    assert!(
        engine
            .state
            .waiting_for_approval(&ProcedureId::new("fix"))
            .is_empty()
    );
}
