//! What is written and how it is numbered: rows of alerts and rounds, attempts, ids, causes. Each test
//! fails under one change of the engine that nothing else notices.

use crate::common::*;
use watchfire_engine::Effects;
use watchfire_engine::effect::{Happening, Reason, RecordChange, Table};
use watchfire_engine::input::{CommandKind, Input, Observation, Pushed, Seen, Silence};
use watchfire_engine::model::PerSeverity;
use watchfire_engine::policy::{AtLeast, Mode};
/// Rows of a table that the step wrote or deleted.
fn of(effects: &Effects, table: Table) -> Vec<&RecordChange> {
    let records = effects.records.iter();
    records.filter(|change| change.table == table).collect()
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
fn of_calm_buckets_one_word_a_bucket_is_written_however_many_instances_there_are() {
    let mut policy = policy();
    policy.rules[0].at_least = Some(AtLeast {
        m: 2,
        of: 2,
        period: secs(2 * EVERY),
    });
    let mut engine = Engine::new(policy);
    // Alerts' rows, and whether the rule's last round is written.
    let mut rows = |at, breached| {
        let effects = turn(&mut engine, at, breached);
        let rounds = of(&effects, Table::Engine).into_iter();
        let rounds = rounds.filter(|row| row.key.starts_with("round/")).count();
        (of(&effects, Table::Alert).len(), rounds)
    };
    for (at, breached, wanted) in [
        (0, HEALTHY, (1, 1)), // First sight.
        (10, HEALTHY, (0, 0)),
        (20, HEALTHY, (0, 1)),
        (30, CRITICAL, (1, 0)), // The last verdict of a bucket is another one.
        (40, HEALTHY, (1, 1)),  // Calm from here on.
        (50, HEALTHY, (0, 0)),
        (60, HEALTHY, (1, 1)), // None of the last two breaches: nobody looks after it any more.
        (70, HEALTHY, (0, 0)),
        (80, HEALTHY, (0, 1)),
        (140, HEALTHY, (1, 1)), // A bucket passed without a round.
        (160, HEALTHY, (1, 1)),
        (180, HEALTHY, (0, 1)),
    ] {
        assert_eq!(rows(at, breached), wanted, "at {at}");
    }
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
fn an_acknowledgement_names_its_alert() {
    let mut engine = Engine::new(policy());
    turn(&mut engine, 0, CRITICAL);
    let alert = instance("0").fingerprint;
    let effects = engine.command(5, CommandKind::Acknowledge { alert, lasts: None });
    let named: Vec<&str> = effects.events.iter().map(|event| &*event.alert).collect();
    assert_eq!(named, ["cpu{i=\"0\"}"]);
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
fn a_group_is_written_when_its_time_changes_and_not_with_each_change_in_it() {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_wait = secs(15);
    policy.routes[0].group_interval = secs(30);
    let mut engine = Engine::new(policy);
    let mut rows = |at, a, b| {
        let effects = engine.feed(at, round(vec![shows("a", a), shows("b", b)]));
        engine.accept_all(at);
        of(&effects, Table::Group).len()
    };
    assert_eq!(rows(0, WARNING, HEALTHY), 1, "due at 15");
    assert_eq!(rows(10, WARNING, WARNING), 0, "due at 15 still");
    assert_eq!(rows(20, WARNING, WARNING), 1, "sent, due at 50");
    assert_eq!(rows(30, HEALTHY, WARNING), 0);
    assert_eq!(rows(40, HEALTHY, CRITICAL), 1, "at once");
}

#[test]
fn a_group_with_nothing_new_to_say_is_not_written() {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    let mut engine = Engine::new(policy);
    assert_eq!(of(&turn(&mut engine, 0, WARNING), Table::Group).len(), 1);
    for at in [10, 20] {
        let effects = turn(&mut engine, at, WARNING);
        assert_eq!(of(&effects, Table::Group), [] as [&RecordChange; 0]);
    }
}

#[test]
fn two_messages_of_a_group_at_one_instant_are_two() {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    let mut engine = Engine::new(policy);
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let effects = engine.feed(0, round(vec![shows(name, CRITICAL)]));
        ids.extend(effects.sends.iter().map(|s| s.notification.id.to_string()));
        engine.accept_all(0);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_silence_is_written_when_it_first_covers_something_that_it_may_end_with() {
    for (on_resolve, wanted) in [(false, [0, 0, 0]), (true, [1, 0, 0])] {
        let mut engine = Engine::new(policy());
        engine.command(
            0,
            CommandKind::Silence(Silence {
                on_resolve,
                ..silence("s", 0, 500)
            }),
        );
        let rows = [10, 20, 30].map(|at| of(&turn(&mut engine, at, WARNING), Table::Silence).len());
        assert_eq!(rows, wanted, "on_resolve: {on_resolve}");
    }
}

#[test]
fn of_an_alert_that_is_over_and_told_only_its_counts_stay() {
    let mut policy = policy();
    policy.alerting.flapping = None;
    policy.rules[0].keep = PerSeverity::all(secs(0));
    let mut engine = Engine::new(policy);
    for (at, value) in [(0, CRITICAL), (10, HEALTHY), (20, HEALTHY)] {
        engine.feed(at, round(vec![shows("0", value)]));
        engine.accept_all(at);
    }
    let rows = engine.rows.iter();
    let ours = rows.filter(|((table, _), _)| *table == Table::Alert);
    let bodies: Vec<&str> = ours.map(|(_, body)| body.as_str()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let counts = r#""counts":{"episode":1,"sequence":2}"#;
    assert!(bodies[0].contains(counts), "{bodies:?}");
    assert!(!bodies[0].contains(r#""more""#), "{bodies:?}");
    // Rows of before said what is not there, too.
    let was = r#"{"probes":[],"absences":0,"memory":null,"more":null,"#;
    for body in engine.rows.values_mut() {
        if body.contains(counts) {
            *body = body.replacen('{', was, 1);
        }
    }
    engine.restart(30);
    engine.feed(40, round(vec![shows("0", CRITICAL)]));
    let again = r#""counts":{"episode":2,"#;
    assert!(engine.rows.values().any(|body| body.contains(again)));
}
