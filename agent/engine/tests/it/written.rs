//! What is written and how it is numbered: rows of alerts and rounds, attempts, ids, causes. Each test
//! fails under one change of the engine that nothing else notices.

use crate::common::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use watchfire_engine::effect::{Happening, Reason, RecordChange, Table};
use watchfire_engine::input::{
    CommandKind, DeliveryOutcome, Input, Observation, Pushed, Seen, Silence,
};
use watchfire_engine::model::{Instance, Labels, PerSeverity, Severity};
use watchfire_engine::policy::{AtLeast, Flapping, MaintenancePolicy, Mode, Regexes, TextPattern};
use watchfire_engine::silence::LENGTH_MAX;
use watchfire_engine::{Effects, PUSHED_MAX};

fn seen_as(name: &str, seen: Seen) -> Observation {
    Observation {
        seen,
        ..observation(&instance(name), None)
    }
}

/// Rows of a table that the step wrote or deleted.
fn of(effects: &Effects, table: Table) -> Vec<&RecordChange> {
    let records = effects.records.iter();
    records.filter(|change| change.table == table).collect()
}

/// One round of instance `0`; every message is delivered.
fn turn(engine: &mut Engine, at: u64, breached: &[Severity]) -> Effects {
    let effects = engine.feed(at, round(vec![shows("0", breached)]));
    engine.accept_all(at);
    effects
}

#[test]
fn attempts_count_from_one_and_two_messages_of_one_place_are_two() {
    let mut engine = Engine::new(policy());
    engine.feed(0, round(vec![shows("0", WARNING)]));
    let mut attempts = Vec::new();
    for at in [0, 5, 15] {
        engine.feed(at, Input::Timer);
        let send = engine.sends.remove(0);
        attempts.push(send.attempt);
        engine.answer(at, &send, failed());
    }
    assert_eq!(attempts, [1, 2, 3]);
    engine.feed(35, Input::Timer);
    assert_eq!(engine.state.outbox_pending(), 1, "under way");
    engine.feed(40, round(vec![shows("0", CRITICAL)]));
    assert_eq!(
        engine.state.outbox_pending(),
        2,
        "and a newer one waits behind it"
    );
}

#[test]
fn each_time_that_leave_is_asked_is_a_message_of_its_own() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Approve)];
    let mut engine = Engine::new(policy);
    let mut asked = Vec::new();
    for at in (0..200).step_by(10) {
        let effects = engine.feed(at, round(vec![shows("0", CRITICAL)]));
        let all = effects.sends.iter();
        let wants = all.filter(|send| send.notification.reason == Reason::ApprovalWanted);
        asked.extend(wants.map(|send| send.notification.id.clone()));
        engine.accept_all(at);
        let before = engine.attempts.len();
        let procedure = "fix".into();
        engine.command(at, CommandKind::Approve { procedure });
        engine.feed(at, round(vec![shows("0", CRITICAL)]));
        engine.accept_all(at);
        for _ in before..engine.attempts.len() {
            engine.end_attempt(at);
        }
    }
    assert_eq!(asked.len(), 2, "as many as attempts");
    assert_ne!(asked[0], asked[1]);
}

#[test]
fn buckets_are_written_while_one_of_them_breaches() {
    let mut policy = policy();
    policy.rules[0].at_least = Some(AtLeast {
        m: 2,
        of: 2,
        period: secs(EVERY),
    });
    let mut engine = Engine::new(policy);
    let mut rows = |at, breached| {
        let effects = turn(&mut engine, at, breached);
        let rows = of(&effects, Table::Alert).into_iter();
        rows.map(|row| row.body.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(
        rows(0, HEALTHY),
        [false; 0],
        "an idle engine writes nothing"
    );
    assert_eq!(rows(10, HEALTHY), [false; 0]);
    assert_eq!(rows(20, CRITICAL), [true], "one of two");
    assert_eq!(rows(30, HEALTHY), [true], "still among the last two");
    assert_eq!(rows(40, HEALTHY), [false], "no longer");
    assert_eq!(rows(50, HEALTHY), [false; 0]);
}

#[test]
fn an_interrupted_run_of_absences_is_written_and_nothing_else_of_an_unknown_round() {
    let mut engine = Engine::new(policy());
    turn(&mut engine, 0, CRITICAL);
    let rows = |engine: &mut Engine, at, seen| {
        let effects = engine.feed(at, round(vec![seen_as("0", seen), shows("1", HEALTHY)]));
        of(&effects, Table::Alert).len()
    };
    assert_eq!(
        rows(&mut engine, 10, Seen::Unknown),
        1,
        "since when is it not observed"
    );
    assert_eq!(rows(&mut engine, 20, Seen::Unknown), 0);
    rows(&mut engine, 30, Seen::Absent);
    rows(&mut engine, 40, Seen::Absent);
    assert_eq!(
        rows(&mut engine, 50, Seen::Unknown),
        1,
        "two absences count no more"
    );
    engine.restart(60);
    for at in [60, 70, 80] {
        rows(&mut engine, at, Seen::Absent);
    }
    assert_eq!(
        engine.state.alerts().len(),
        1,
        "the first after a restart is unknown"
    );
    rows(&mut engine, 90, Seen::Absent);
    engine.accept_all(90);
    assert_eq!(engine.state.alerts(), []);
}

#[test]
fn the_last_round_of_a_removed_rule_is_forgotten_and_that_of_a_quiet_one_is_not_deleted_again() {
    let mut policy = policy();
    policy.rules.push(rule("other"));
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, CRITICAL);
    turn(&mut engine, 10, CRITICAL);
    let key = (Table::Engine, "round/cpu".to_owned());
    assert!(engine.rows.contains_key(&key));
    let over = turn(&mut engine, 20, HEALTHY);
    let engine_rows = of(&over, Table::Engine);
    assert!(
        engine_rows.iter().all(|row| row.body.is_some()),
        "{engine_rows:?}"
    );
    turn(&mut engine, 30, CRITICAL);
    engine.policy.rules.remove(0);
    engine.feed(35, Input::Reload);
    engine.accept_all(35);
    assert!(!engine.rows.contains_key(&key));
}

#[test]
fn only_another_cause_than_a_threshold_is_named() {
    let mut engine = Engine::new(policy());
    turn(&mut engine, 0, CRITICAL);
    let over = turn(&mut engine, 10, HEALTHY);
    assert_eq!(over.sends[0].notification.alerts[0].end_cause, None);
    turn(&mut engine, 20, CRITICAL);
    engine.policy.rules.clear();
    let over = engine.feed(25, Input::Reload);
    let cause = over.sends[0].notification.alerts[0].end_cause.as_deref();
    assert_eq!(cause, Some("rule_removed"));
}

#[test]
fn exhaustion_outlasts_every_change_but_the_end() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    policy.rules[0].keep = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    let mut exhausted = 0;
    for at in (0..300).step_by(10) {
        let before = engine.attempts.len();
        // From 200 s on it dips every other round, and never for long.
        let dips = at >= 200 && at % 20 == 0;
        let effects = turn(&mut engine, at, if dips { HEALTHY } else { CRITICAL });
        let said = happenings(&effects.events);
        exhausted += said
            .iter()
            .filter(|word| word.starts_with("Exhausted"))
            .count();
        for _ in before..engine.attempts.len() {
            engine.end_attempt(at);
        }
    }
    assert_eq!((engine.attempts.len(), exhausted), (2, 1));
}

#[test]
fn an_acknowledgement_names_its_alert() {
    let mut engine = Engine::new(policy());
    turn(&mut engine, 0, CRITICAL);
    let alert = instance("0").fingerprint;
    let effects = engine.command(5, CommandKind::Acknowledge { alert, lasts: None });
    let named: Vec<&str> = effects.events.iter().map(|event| &*event.alert).collect();
    assert_eq!(named, ["cpu{i=\"0\"}"]);
}

#[test]
fn a_muted_step_down_is_called_one() {
    let mut engine = Engine::new(policy());
    turn(&mut engine, 0, CRITICAL);
    engine.command(
        5,
        CommandKind::Silence(Silence {
            id: "s".into(),
            rules: vec!["cpu".into()],
            from: now(0).wall,
            until: now(500).wall,
            notify: true,
            owner: "ann".into(),
            reason: "test".into(),
            ..Silence::default()
        }),
    );
    let mut withheld = |at, breached| {
        let effects = turn(&mut engine, at, breached);
        effects.events.iter().find_map(|event| match &event.what {
            Happening::Suppressed {
                reason, severity, ..
            } => Some((*reason, *severity)),
            _ => None,
        })
    };
    let down = (Reason::Deescalate, Some(Severity::Warning));
    assert_eq!(withheld(10, WARNING), Some(down));
    let up = withheld(20, &[Severity::Low, Severity::Warning, Severity::High]);
    assert_eq!(
        up,
        Some((Reason::Deescalate, Some(Severity::High))),
        "still below what was told"
    );
}

#[test]
fn maintenance_begins_and_ends_at_its_instants() {
    let mut policy = policy();
    policy.maintenance = vec![MaintenancePolicy {
        id: "patch".into(),
        from: Some(now(20).wall),
        until: Some(now(40).wall),
        schedule: None,
        matcher: Default::default(),
        notify: true,
        recover: false,
    }];
    let mut engine = Engine::new(policy);
    let mut muted = Vec::new();
    for at in [10, 20, 30, 40] {
        turn(&mut engine, at, WARNING);
        muted.push(!engine.state.alerts()[0].muted_by.is_empty());
    }
    assert_eq!(muted, [false, true, true, false]);
}

#[test]
fn the_longest_silence_is_as_long_as_its_bound() {
    let mut silence = Silence {
        id: "s".into(),
        rules: vec!["cpu".into()],
        from: now(0).wall,
        until: now(LENGTH_MAX.as_secs()).wall,
        notify: true,
        owner: "ann".into(),
        reason: "a year".into(),
        ..Silence::default()
    };
    assert_eq!(silence.check(&policy()), Ok(()));
    silence.owner = "a".repeat(1_024).into();
    assert_eq!(silence.check(&policy()), Ok(()));
    silence.until.0 += 1;
    assert!(silence.check(&policy()).is_err());
    silence.until.0 -= 1;
    silence.owner = "a".repeat(1_025).into();
    assert!(silence.check(&policy()).is_err());
    silence.owner = "ann".into();
    let fits = |rules: usize, bytes: usize| {
        let mut silence = silence.clone();
        silence.rules = vec!["r".repeat(bytes).into(); rules];
        silence.check(&policy()).is_ok()
    };
    assert!(fits(64, 1_024));
    assert!(!fits(65, 1_024));
    assert!(!fits(1, 1_025) && !fits(1, 1_026));
}

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

fn push(name: &str, number: usize) -> Pushed {
    let labels = Labels::new([("n", number.to_string())]).expect("labels");
    Pushed {
        alert: Arc::new(Instance::new(name.into(), labels)),
        severity: Severity::Warning,
        ttl: secs(100),
        summary: None,
        annotations: BTreeMap::new(),
        link: None,
    }
}

#[test]
fn when_no_place_is_left_for_pushed_alerts_those_that_live_are_renewed_and_ended() {
    let mut engine = Engine::new(policy());
    engine.policy.routes.clear();
    let all = (0..PUSHED_MAX).map(|number| push("batch", number));
    engine.feed(0, Input::Pushed(all.collect()));
    let refused =
        |engine: &Engine, pushed: &Pushed| engine.state.refuses(&engine.policy, pushed).is_some();
    assert!(!refused(&engine, &push("batch", 7)), "it lives");
    let newcomer = push("batch", PUSHED_MAX);
    assert!(refused(&engine, &newcomer));
    let over = Pushed {
        ttl: secs(0),
        ..newcomer.clone()
    };
    assert!(!refused(&engine, &over), "an end takes no place");
    engine.feed(
        1,
        Input::Pushed(vec![Pushed {
            ttl: secs(0),
            ..push("batch", 7)
        }]),
    );
    assert!(!refused(&engine, &newcomer), "one place is free");
}

#[test]
fn a_push_that_says_something_else_is_written_and_a_renewal_is_not() {
    let mut engine = Engine::new(policy());
    let mut rows = |at, pushed| {
        let effects = engine.feed(at, Input::Pushed(vec![pushed]));
        engine.accept_all(at);
        of(&effects, Table::Alert).len()
    };
    rows(0, push("job", 0));
    assert_eq!(rows(10, push("job", 0)), 0);
    let link = Pushed {
        link: Some("https://example.org".into()),
        ..push("job", 0)
    };
    assert_eq!(rows(20, link.clone()), 1);
    assert_eq!(rows(30, link.clone()), 0);
    let summary = Pushed {
        summary: Some("late".into()),
        ..link
    };
    assert_eq!(rows(40, summary.clone()), 1);
    let annotations = [("a".into(), "b".into())].into();
    assert_eq!(
        rows(
            50,
            Pushed {
                annotations,
                ..summary
            }
        ),
        1
    );
}

#[test]
fn after_a_loss_a_procedure_may_start_when_its_window_is_over_not_after() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    policy.procedures[0].window = secs(60);
    let mut engine = Engine::new(policy);
    engine.feed(
        0,
        Input::Lost {
            receivers: Vec::new(),
        },
    );
    let starts: Vec<usize> = (0..70)
        .step_by(10)
        .map(|at| turn(&mut engine, at, CRITICAL).attempts.len())
        .collect();
    assert_eq!(starts, [0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn after_a_loss_what_is_fine_is_closed_for_an_hour_and_under_all_of_its_routes() {
    let mut policy = policy();
    let mut spare = policy.routes[0].clone();
    policy.routes[0].carry_on = true;
    spare.notify = vec!["spare".into()];
    policy.routes.push(spare);
    // A hold that is longer than the closing.
    policy.procedures = vec![procedure(Mode::Auto)];
    policy.procedures[0].window = secs(7_200);
    let mut engine = Engine::new(policy);
    let receivers = vec!["default".into(), "spare".into()];
    engine.feed(0, Input::Lost { receivers });
    let closes = |engine: &mut Engine, at, name: &str| {
        let effects = engine.feed(at, round(vec![shows(name, HEALTHY)]));
        engine.accept_all(at);
        effects.sends.len()
    };
    assert_eq!(closes(&mut engine, 3_590, "0"), 2, "both");
    assert_eq!(closes(&mut engine, 3_600, "1"), 0, "the hour is over");
}

#[test]
fn what_is_another_is_not_equal() {
    assert_ne!(instance("0"), instance("1"));
    assert_eq!(instance("0"), instance("0"));
    let labels = Labels::new([("a", "1"), ("b", "2")]).expect("labels");
    let left = labels.without(&["a"]);
    assert_eq!(left.iter().collect::<Vec<_>>(), [("b", "2")]);
    let compiles = || Regexes::new(|_| None::<TextPattern>);
    assert_eq!(compiles(), compiles());
    assert_eq!(Regexes::default(), Regexes::default());
    assert_ne!(compiles(), Regexes::default());
    assert_eq!(format!("{:?}", compiles()), "Regexes");
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

#[test]
fn only_what_is_not_ok_is_called_stale() {
    let mut engine = Engine::new(policy());
    let mut from = |at, observed: Observation| {
        let effects = engine.feed(at, round(vec![observed]));
        engine.accept_all(at);
        effects.events.iter().find_map(|event| match &event.what {
            Happening::Transition { from, .. } if event.alert.starts_with("cpu") => {
                Some(from.clone())
            }
            _ => None,
        })
    };
    from(0, shows("0", HEALTHY));
    assert_eq!(from(30, shows("0", CRITICAL)).as_deref(), Some("ok"));
    assert_eq!(
        from(60, shows("0", HEALTHY)).as_deref(),
        Some("firing:critical+stale")
    );
}

#[test]
fn what_was_never_there_takes_no_place() {
    let mut policy = policy();
    policy.rules[0].max_instances = 1;
    let mut engine = Engine::new(policy);
    let both = vec![seen_as("0", Seen::Absent), shows("1", CRITICAL)];
    let effects = engine.feed(0, round(both));
    assert_eq!(reasons(&effects.sends), ["fire"]);
    assert_eq!(engine.state.alerts()[0].instance, instance("1"));
}

#[test]
fn one_hour_that_closes_two_routes_is_named_once() {
    let mut policy = policy();
    policy.calendar.schedules = vec![crate::hours::schedule("night", 0, 100)];
    policy.routes[0].mute = vec!["night".into()];
    let mut second = policy.routes[0].clone();
    policy.routes[0].carry_on = true;
    second.notify = vec!["spare".into()];
    policy.routes.push(second);
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, WARNING);
    assert_eq!(engine.state.alerts()[0].muted_by, ["schedule night"]);
}
