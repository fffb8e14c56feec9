//! Features of the wall clock, of operators and of other senders, through kills, reloads, suspends and
//! steps of the clock.

use crate::common::*;
use crate::hours::{check, give, on_call, rotation, round_at, said, schedule};
use crate::silences::nightly;
use std::time::Duration;
use watchfire_engine::Policy;
use watchfire_engine::input::{CommandKind, Input, Pushed, Silence};
use watchfire_engine::model::{PerSeverity, ProcedureId, Severity};
use watchfire_engine::policy::{EscalationStep, MaintenancePolicy, Mode, Rank};

/// What a timer hands out; all of it is accepted.
fn timer_at(engine: &mut Engine, at: u64) -> Vec<String> {
    let all = said(&engine.feed(at, Input::Timer));
    engine.accept_all(at);
    all
}

fn reload(engine: &mut Engine, at: u64, change: impl FnOnce(&mut Policy)) -> Vec<String> {
    change(&mut engine.policy);
    let all = said(&engine.feed(at, Input::Reload));
    engine.accept_all(at);
    all
}

fn patch(until: u64) -> MaintenancePolicy {
    MaintenancePolicy {
        id: "patch".into(),
        from: None,
        until: Some(now(until).wall),
        schedule: None,
        matcher: Default::default(),
        notify: true,
        recover: true,
    }
}

fn escalating(after: u64) -> EscalationStep {
    EscalationStep {
        after: secs(after),
        notify: vec!["spare".into()],
    }
}

#[test]
fn a_recurring_silence_outlives_kills_and_follows_steps_of_the_clock() {
    let mut policy = policy();
    policy.calendar.schedules = vec![schedule("night", 30, 60)];
    let mut engine = Engine::new(policy);
    give(&mut engine, 0, nightly());
    check(
        &mut engine,
        &[(20, WARNING, &["fire default"]), (30, CRITICAL, &[])],
    );
    engine.restart(35);
    check(&mut engine, &[(40, CRITICAL, &[])]);
    engine.wall_ahead = 30_000;
    check(&mut engine, &[(45, CRITICAL, &["escalate default"])]);
    engine.wall_ahead = 0;
    check(
        &mut engine,
        &[(50, &[], &["resolve default"]), (55, WARNING, &[])],
    );
    engine.restart(57);
    check(&mut engine, &[(60, WARNING, &["fire default late"])]);
}

#[test]
fn what_a_silence_covered_before_a_kill_ends_it_after() {
    let mut engine = Engine::new(policy());
    let until_over = Silence {
        on_resolve: true,
        ..silence("r", 0, 1_000)
    };
    give(&mut engine, 0, until_over);
    check(&mut engine, &[(10, WARNING, &[])]);
    engine.restart(15);
    check(
        &mut engine,
        &[(20, &[], &[]), (30, WARNING, &["fire default"])],
    );
}

#[test]
fn a_silence_that_ends_when_idle_covers_what_fires_right_after_a_suspend() {
    let mut engine = Engine::new(policy());
    let unless_idle = Silence {
        idle: Some(Duration::from_secs(30)),
        ..silence("i", 0, 1_000)
    };
    give(&mut engine, 0, unless_idle);
    check(&mut engine, &[(10, &[], &[])]);
    engine.feed(115, Input::Resumed { lost: secs(100) });
    check(&mut engine, &[(115, WARNING, &[]), (125, &[], &[])]);
    check(
        &mut engine,
        &[
            (150, &[], &[]),
            (160, &[], &[]),
            (170, WARNING, &["fire default"]),
        ],
    );
}

#[test]
fn maintenance_that_a_reload_brings_and_takes_pauses_what_fires_over_a_kill() {
    let mut policy = policy();
    policy.routes[0].repeat = PerSeverity::all(secs(30));
    let mut engine = Engine::new(policy);
    check(&mut engine, &[(0, CRITICAL, &["fire default"])]);
    reload(&mut engine, 5, |policy| {
        policy.maintenance = vec![patch(100)]
    });
    check(&mut engine, &[(10, CRITICAL, &[])]);
    engine.restart(25);
    check(&mut engine, &[(30, CRITICAL, &[])]);
    reload(&mut engine, 35, |policy| policy.maintenance.clear());
    check(&mut engine, &[(40, CRITICAL, &["repeat default"])]);
    // By the clock on the wall: a step leaves it, the step back enters it again.
    reload(&mut engine, 45, |policy| {
        policy.maintenance = vec![patch(100)]
    });
    engine.wall_ahead = 60_000;
    check(&mut engine, &[(70, CRITICAL, &["repeat default"])]);
    engine.wall_ahead = 0;
    check(
        &mut engine,
        &[
            (80, WARNING, &[]),
            (100, WARNING, &["deescalate default"]),
            (110, &[], &["resolve default"]),
        ],
    );
}

#[test]
fn a_step_counts_from_the_late_fire_of_a_route_with_hours_over_a_kill() {
    let mut policy = policy();
    policy.calendar.schedules = vec![schedule("day", 30, 100)];
    policy.routes[0].active = vec!["day".into()];
    policy.routes[0].escalate = vec![escalating(20)];
    let mut engine = Engine::new(policy);
    check(
        &mut engine,
        &[(10, WARNING, &[]), (30, WARNING, &["fire default late"])],
    );
    engine.restart(45);
    check(
        &mut engine,
        &[(45, WARNING, &[]), (55, WARNING, &["escalation spare"])],
    );
    engine.restart(95);
    check(
        &mut engine,
        &[
            (100, CRITICAL, &[]),
            (110, &[], &["resolve default", "resolve spare"]),
        ],
    );
}

fn team() -> Policy {
    let mut policy = policy();
    let names = ["ann", "ben", "cat", "default", "spare"];
    policy.notifiers = names.map(Into::into).to_vec();
    policy.calendar.rotations = vec![rotation(&["ann", "ben"])];
    policy.routes[0].notify = vec![on_call(Rank::Primary)];
    policy
}

#[test]
fn a_handover_during_an_outage_reaches_both() {
    let mut engine = Engine::new(team());
    let fire = engine.feed(10, round(vec![shows("0", WARNING)]));
    assert_eq!(said(&fire), ["fire ann"]);
    engine.answer(10, &fire.sends[0], failed());
    engine.restart(105);
    assert_eq!(timer_at(&mut engine, 105), ["fire ann"], "as committed");
    check(
        &mut engine,
        &[
            (110, WARNING, &["fire ben late"]),
            (120, &[], &["resolve ben", "resolve ann"]),
        ],
    );
}

#[test]
fn members_that_a_reload_exchanges_hand_over_like_others() {
    let mut engine = Engine::new(team());
    check(&mut engine, &[(10, WARNING, &["fire ann"])]);
    reload(&mut engine, 15, |policy| {
        policy.calendar.rotations = vec![rotation(&["cat", "ben"])];
    });
    check(
        &mut engine,
        &[
            (20, WARNING, &["fire cat late"]),
            (30, CRITICAL, &["escalate cat", "escalate ann"]),
            (40, &[], &["resolve cat", "resolve ann"]),
        ],
    );
}

#[test]
fn the_second_in_line_is_asked_who_it_is_when_the_step_is_due() {
    let mut policy = team();
    policy.routes[0].escalate = vec![EscalationStep {
        after: secs(40),
        notify: vec![on_call(Rank::Secondary)],
    }];
    let mut engine = Engine::new(policy);
    check(&mut engine, &[(80, WARNING, &["fire ann"])]);
    engine.restart(85);
    // At the handover ben is first and ann is second: each hears already.
    check(
        &mut engine,
        &[
            (90, WARNING, &[]),
            (100, WARNING, &["fire ben late"]),
            (120, WARNING, &[]),
            (130, &[], &["resolve ben", "resolve ann"]),
        ],
    );
}

fn pushed(severity: Severity) -> Input {
    let ttl = secs(300);
    Input::Pushed(vec![Pushed {
        severity,
        ttl,
        ..push("Backup", 1)
    }])
}

#[test]
fn a_pushed_alert_keeps_its_acknowledgement_its_step_and_its_end_over_a_kill_and_a_step_of_the_clock()
 {
    let mut policy = policy();
    policy.routes[0].escalate = vec![escalating(30)];
    let mut engine = Engine::new(policy);
    let fire = engine.feed(0, pushed(Severity::Warning));
    assert_eq!(said(&fire), ["fire default"]);
    engine.accept_all(0);
    engine.wall_ahead = 3_600_000;
    check(&mut engine, &[(20, &[], &[])]);
    engine.wall_ahead = 0;
    let alert = engine.state.alerts()[0].instance.fingerprint;
    let lasts = None;
    engine.command(25, CommandKind::Acknowledge { alert, lasts });
    engine.restart(28);
    check(&mut engine, &[(40, &[], &[])]);
    let worse = engine.feed(45, pushed(Severity::Critical));
    assert_eq!(said(&worse), ["escalate default"]);
    engine.accept_all(45);
    check(&mut engine, &[(50, &[], &["escalation spare"])]);
    // The warning had until 300 s, and 28 s more because of the kill; the critical one has until 345 s.
    assert_eq!(timer_at(&mut engine, 328), [""; 0]);
    assert_eq!(engine.state.next_due(), Some(now(345).at));
    assert_eq!(
        timer_at(&mut engine, 345),
        ["resolve default", "resolve spare"]
    );
}

#[test]
fn a_pushed_group_whose_route_opens_later_leaves_then_and_ends_with_its_time() {
    let mut policy = policy();
    policy.calendar.schedules = vec![schedule("day", 50, 500)];
    policy.routes[0].active = vec!["day".into()];
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_wait = secs(20);
    policy.routes[0].group_interval = secs(60);
    let mut engine = Engine::new(policy);
    engine.feed(0, pushed(Severity::Warning));
    assert_eq!(round_at(&mut engine, 40, &[]), [""; 0]);
    engine.restart(45);
    check(&mut engine, &[(50, &[], &[]), (60, &[], &[])]);
    assert_eq!(timer_at(&mut engine, 70), ["group default 1/1/0"]);
    // Until 345 s: the kill gave it as long again. Then the group's next moment.
    for at in [130, 190, 250, 310, 345] {
        assert_eq!(timer_at(&mut engine, at), [""; 0], "at {at}");
    }
    assert_eq!(engine.state.next_due(), Some(now(370).at));
    assert_eq!(timer_at(&mut engine, 370), ["group default 0/0/1"]);
}

fn approving() -> Engine {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Approve)];
    Engine::new(policy)
}

fn fix() -> ProcedureId {
    "fix".into()
}

#[test]
fn leave_that_was_asked_for_and_given_outlives_kills() {
    let mut engine = approving();
    let did = |effects: watchfire_engine::Effects| happenings(&effects.events);
    assert_eq!(did(engine.judge(0, true)), ["ApprovalWanted 1"]);
    engine.restart(5);
    assert_eq!(did(engine.judge(10, true)), [""; 0], "asked once");
    assert_eq!(engine.state.waiting_for_approval(&fix()).len(), 1);
    engine.command(12, CommandKind::Approve { procedure: fix() });
    engine.restart(15);
    assert_eq!(did(engine.judge(20, true)), ["Start 1"]);
    // Killed while it runs: it counts, is judged from the restart on, and the next one needs leave.
    assert_eq!(did(engine.restart(30)), ["restart", "Lost 1"]);
    assert_eq!(did(engine.judge(40, true)), [""; 0]);
    assert_eq!(
        did(engine.judge(50, true)),
        ["VerifiedFail 1", "ApprovalWanted 2"]
    );
    // The leave for an episode that is over is none for the next.
    engine.command(52, CommandKind::Approve { procedure: fix() });
    engine.judge(60, false);
    engine.restart(65);
    assert_eq!(did(engine.judge(70, true)), ["ApprovalWanted 2"]);
}

#[test]
fn leave_waits_for_the_end_of_a_silence_and_a_reload_may_make_it_needless() {
    let mut engine = approving();
    let did = |effects: watchfire_engine::Effects| happenings(&effects.events);
    engine.judge(0, true);
    give(&mut engine, 5, silence("s", 5, 40));
    engine.command(6, CommandKind::Approve { procedure: fix() });
    assert_eq!(did(engine.judge(10, true)), [""; 0]);
    engine.restart(15);
    assert_eq!(did(engine.judge(30, true)), [""; 0]);
    assert_eq!(did(engine.judge(40, true)), ["Start 1"]);

    let mut engine = approving();
    engine.judge(0, true);
    reload(&mut engine, 5, |p| p.procedures[0].mode = Mode::Auto);
    assert_eq!(did(engine.judge(10, true)), ["Start 1"]);
    assert_eq!(engine.state.waiting_for_approval(&fix()), [""; 0]);
}

#[test]
fn leave_that_was_not_used_ends_with_the_severity_it_was_given_for() {
    let mut engine = approving();
    let did = |effects: watchfire_engine::Effects| happenings(&effects.events);
    turn(&mut engine, 0, CRITICAL);
    give(&mut engine, 5, silence("s", 5, 100));
    engine.command(6, CommandKind::Approve { procedure: fix() });
    assert_eq!(did(turn(&mut engine, 10, CRITICAL)), [""; 0], "held back");
    assert_eq!(did(turn(&mut engine, 20, WARNING)), [""; 0]);
    engine.restart(25);
    // Hours later it is critical again: nobody was asked about that.
    assert_eq!(
        did(turn(&mut engine, 9_000, CRITICAL)),
        ["ApprovalWanted 1"]
    );
}
