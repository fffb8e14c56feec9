//! Where something ends: windows at their instants, lists and lives at their bounds.

use crate::common::*;
use watchfire_engine::PUSHED_MAX;
use watchfire_engine::input::{Input, LabelTest, Pushed, Seen, Silence};
use watchfire_engine::model::PerSeverity;
use watchfire_engine::policy::{Flapping, MaintenancePolicy, Mode};
use watchfire_engine::silence::{KEPT, LENGTH_MAX};
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
fn a_silence_may_last_a_year_and_is_shown_for_five_days_after() {
    assert_eq!(LENGTH_MAX.as_secs(), 31_622_400, "a leap year");
    assert_eq!(KEPT.as_secs(), 432_000);
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
    let fits = |tests: usize, name: usize, value: usize| {
        let mut silence = silence.clone();
        let test = LabelTest {
            name: "n".repeat(name).into(),
            value: "v".repeat(value).into(),
            ..LabelTest::default()
        };
        silence.labels = vec![test; tests];
        silence.check(&policy()).is_ok()
    };
    assert!(fits(64, 1_024, 1_024));
    assert!(!fits(65, 1, 1));
    for too_long in [1_025, 1_026] {
        assert!(!fits(1, too_long, 1) && !fits(1, 1, too_long));
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
fn a_place_that_others_wait_for_is_counted_down_over_a_restart() {
    let mut policy = policy();
    policy.rules[0].max_instances = 1;
    let mut engine = Engine::new(policy);
    engine.feed(0, round(vec![shows("0", HEALTHY)]));
    let mut missing = |at| {
        let both = vec![absent("0"), shows("1", CRITICAL)];
        let effects = engine.feed(at, round(both));
        if at == 20 {
            engine.restart(25);
        }
        let mut told = effects.sends.iter();
        told.any(|send| send.notification.alerts[0].rule.as_str() == "cpu")
    };
    // Twice absent; the first round after a restart counts nothing; the third time frees the place.
    let told: Vec<bool> = [10, 20, 30, 40, 50].into_iter().map(&mut missing).collect();
    assert_eq!(told, [false, false, false, true, false]);
}

#[test]
fn what_was_pushed_and_is_over_is_not_awaited_after_a_restart() {
    let mut policy = policy();
    // The ring of changes keeps it in memory.
    policy.alerting.flapping = Some(Flapping {
        start: 99,
        stop: 1,
        window: secs(10_000),
    });
    let mut engine = Engine::new(policy);
    engine.feed(0, Input::Pushed(vec![push("job", 0)]));
    engine.accept_all(0);
    let over = Pushed {
        ttl: secs(0),
        ..push("job", 0)
    };
    engine.feed(10, Input::Pushed(vec![over]));
    engine.accept_all(10);
    engine.restart(20);
    assert_eq!(engine.state.awaited(&"job".into()), []);
}
