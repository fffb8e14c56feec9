//! Corners that mutation testing showed nobody looked at: each test fails under one change of the engine
//! that all others let pass.

use crate::common::*;
use std::collections::BTreeSet;
use watchfire_engine::Effects;
use watchfire_engine::effect::{Reason, Table};
use watchfire_engine::input::{CommandKind, DeliveryOutcome, Input};
use watchfire_engine::model::{Labels, PerSeverity, Severity};
use watchfire_engine::policy::{AtLeast, Flapping, Mode, Operator, RuleSource, TextPattern};

fn states(engine: &Engine) -> Vec<String> {
    let alerts = engine.state.alerts().into_iter();
    alerts.map(|view| view.state).collect()
}

#[test]
fn what_is_gone_holds_no_place_though_its_resolve_waits() {
    let mut policy = policy();
    policy.rules[0].max_instances = 1;
    let mut engine = Engine::new(policy);
    let fire = engine
        .feed(0, round(vec![shows("0", CRITICAL)]))
        .sends
        .remove(0);
    engine.answer(0, &fire, DeliveryOutcome::Accepted { remote_id: None });
    for at in [10, 20, 30] {
        engine.sends.clear();
        engine.feed(at, round(vec![absent("0")]));
    }
    let resolve = engine.sends.remove(0);
    assert_eq!(resolve.notification.reason, Reason::Resolve);
    engine.answer(30, &resolve, failed());
    let next = engine.feed(32, round(vec![shows("1", CRITICAL)]));
    assert_eq!(reasons(&next.sends), ["fire"], "{:?}", next.events);
    let third = engine.feed(34, round(vec![shows("1", CRITICAL), shows("2", CRITICAL)]));
    let told = third
        .sends
        .iter()
        .map(|s| s.notification.alerts[0].rule.as_str().to_owned());
    assert_eq!(
        told.collect::<Vec<_>>(),
        ["watchfire_cardinality"],
        "one place, one instance"
    );
}

#[test]
fn leave_is_asked_for_as_long_as_the_alert_is_on() {
    let mut policy = policy();
    policy.rules[0].keep = PerSeverity::all(secs(60));
    policy.procedures = vec![procedure(Mode::Approve)];
    let mut engine = Engine::new(policy);
    engine.judge(0, true);
    let fix = "fix".into();
    let alert = instance("0").fingerprint;
    engine.command(2, CommandKind::Acknowledge { alert, lasts: None });
    engine.judge(10, true);
    assert_eq!(
        engine.state.waiting_for_approval(&fix).len(),
        1,
        "held back, still on"
    );
    engine.judge(20, false);
    assert_eq!(states(&engine), ["recovering:critical"]);
    assert!(
        engine.state.waiting_for_approval(&fix).is_empty(),
        "it recovers by itself"
    );
}

#[test]
fn no_attempt_while_one_runs_or_awaits_its_verdict() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    policy.procedures[0].cooldown = secs(0);
    policy.procedures[0].max_attempts = 9;
    policy.recover.concurrency = 5;
    let mut engine = Engine::new(policy);
    for (at, attempts) in [(0, 1), (10, 1)] {
        engine.judge(at, true);
        assert_eq!(engine.attempts.len(), attempts, "it runs");
    }
    engine.end_attempt(12);
    engine.judge(20, true);
    assert_eq!(engine.attempts.len(), 1, "verify_after is 15 s");
    engine.judge(30, true);
    assert_eq!(engine.attempts.len(), 2, "verified, and again");
}

#[test]
fn an_acknowledgement_outlives_a_dip_at_the_same_severity() {
    let mut policy = policy();
    policy.rules[0].keep = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    engine.judge(0, true);
    let alert = instance("0").fingerprint;
    engine.command(2, CommandKind::Acknowledge { alert, lasts: None });
    for (at, fires) in [(10, false), (20, true)] {
        engine.judge(at, fires);
        let by = engine.state.alerts()[0].acknowledged_by.clone();
        assert_eq!(by.as_deref(), Some("operator"), "at {at}");
        engine.restart(at + 5);
    }
}

#[test]
fn a_rule_without_news_of_its_memory_keeps_it() {
    let mut engine = Engine::new(policy());
    let mut one = shows("0", HEALTHY);
    one.memory = Some(vec![7].into());
    engine.feed(0, round(vec![one.clone()]));
    let again = engine.feed(100, round(vec![one]));
    assert!(
        again.records.is_empty(),
        "the same memory is not written again: {again:?}"
    );
    engine.feed(110, round(vec![shows("0", HEALTHY)]));
    let memories = engine.state.memories(&"cpu".into());
    assert_eq!(memories, [(instance("0").fingerprint, vec![7].into())]);
}

#[test]
fn what_lies_below_a_severity_that_turns_on_is_on_with_it() {
    let mut policy = policy();
    policy.rules[0].wait[Severity::Warning] = secs(60);
    let mut engine = Engine::new(policy);
    let both = &[Severity::Warning, Severity::Critical];
    engine.feed(0, round(vec![shows("0", both)]));
    engine.accept_all(0);
    let back = engine.feed(10, round(vec![shows("0", WARNING)]));
    assert_eq!(reasons(&back.sends), ["deescalate"]);
    assert_eq!(states(&engine), ["firing:warning"]);
}

#[test]
fn a_bucket_is_as_its_last_verdict() {
    let mut policy = policy();
    policy.rules[0].at_least = Some(AtLeast {
        m: 2,
        of: 3,
        period: secs(60),
    });
    let mut engine = Engine::new(policy);
    for (at, breached, state) in [
        (0, CRITICAL, None),
        (10, HEALTHY, None),
        (60, CRITICAL, None),
        (70, CRITICAL, None),
        (120, CRITICAL, Some("firing:critical")),
        (180, HEALTHY, Some("firing:critical")),
        (240, HEALTHY, None),
    ] {
        engine.feed(at, round(vec![shows("0", breached)]));
        engine.accept_all(at);
        let found = states(&engine).first().cloned();
        assert_eq!(found.as_deref(), state, "at {at}");
    }
}

#[test]
fn a_removed_rules_failure_ends_with_it() {
    let mut engine = Engine::new(policy());
    for at in [0, 10, 20] {
        let Input::Round(mut one) = round(vec![]) else {
            panic!("a round")
        };
        one.rules[0].result = Err("trapped".into());
        engine.feed(at, Input::Round(one));
        engine.accept_all(at);
    }
    assert_eq!(states(&engine), ["firing:warning"]);
    engine.policy.rules = vec![rule("other")];
    let removed = engine.feed(25, Input::Reload);
    assert_eq!(reasons(&removed.sends), ["resolve"]);
}

#[test]
fn a_composite_takes_what_is_gone_for_healthy() {
    let mut policy = policy();
    policy.rules.push(watchfire_engine::policy::RulePolicy {
        source: RuleSource::Composite {
            operator: Operator::Any,
            rules: vec!["cpu".into()],
        },
        ..rule("any")
    });
    // The ring of changes keeps the gone one in memory.
    policy.alerting.flapping = Some(Flapping {
        start: 99,
        stop: 1,
        window: secs(10_000),
    });
    let mut engine = Engine::new(policy);
    engine.feed(0, round(vec![shows("0", CRITICAL), shows("1", HEALTHY)]));
    engine.accept_all(0);
    assert_eq!(states(&engine).len(), 2, "the alert and the composite");
    for at in [10, 20, 30] {
        engine.feed(at, round(vec![absent("0"), shows("1", HEALTHY)]));
        engine.accept_all(at);
    }
    engine.feed(40, round(vec![absent("0"), shows("1", HEALTHY)]));
    assert_eq!(states(&engine), [""; 0]);
}

#[test]
fn stale_begins_after_its_time_not_at_it() {
    let mut engine = Engine::new(policy());
    engine.judge(0, true);
    for (at, stale) in [(25, false), (26, true)] {
        engine.feed(at, round(vec![observation(&instance("0"), None)]));
        assert_eq!(engine.state.alerts()[0].stale, stale, "at {at}");
    }
}

#[test]
fn a_healthy_instance_that_never_fired_has_no_row() {
    let mut policy = policy();
    policy.rules[0].wait = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    engine.judge(0, true);
    assert!(
        engine.rows.keys().any(|(table, _)| *table == Table::Alert),
        "it pends"
    );
    engine.judge(10, false);
    assert!(!engine.rows.keys().any(|(table, _)| *table == Table::Alert));
}

#[test]
fn the_operators_view_is_what_they_did() {
    let mut engine = Engine::new(policy());
    assert!(!engine.state.is_paused());
    engine.command(0, CommandKind::Pause);
    assert!(engine.state.is_paused());
    engine.command(1, silenced(0, 100, None));
    let ended = |engine: &Engine| {
        let all = engine.state.silences();
        let all = all.map(|kept| (kept.silence.id.to_string(), kept.ended.is_some()));
        all.collect::<Vec<_>>()
    };
    assert_eq!(ended(&engine), [("s".to_owned(), false)]);
    engine.command(2, CommandKind::Unsilence { id: "s".into() });
    assert_eq!(ended(&engine), [("s".to_owned(), true)]);
}

#[test]
fn patterns_are_equal_where_kind_and_text_are() {
    let exact = |text: &str| TextPattern::Exact(text.into());
    let predicate = |text: &str| TextPattern::Predicate(text.into(), std::sync::Arc::new(|_| true));
    assert_eq!(exact("a"), exact("a"));
    assert_ne!(exact("a"), exact("b"));
    assert_ne!(exact("a"), predicate("a"));
    assert_ne!(predicate("~a"), predicate("~b"));
    assert_eq!(predicate("~a"), predicate("~a"));
    assert_eq!(predicate("~a").source(), "~a");
    assert_eq!(format!("{:?}", exact("a")), "\"a\"");
}

#[test]
fn tables_have_names_of_their_own() {
    let names: BTreeSet<_> = Table::ALL.iter().map(|table| table.name()).collect();
    assert_eq!(names.len(), Table::ALL.len());
    assert!(names.iter().all(|name| !name.is_empty()));
    assert_eq!(Table::Outbox.name(), "outbox");
}

#[test]
fn effects_are_empty_only_where_all_of_them_are() {
    let mut engine = Engine::new(policy());
    let fire = engine.judge(0, true);
    let only = |effects: Effects| assert!(!effects.is_empty());
    only(Effects {
        records: fire.records,
        ..Effects::default()
    });
    only(Effects {
        events: fire.events,
        ..Effects::default()
    });
    only(Effects {
        sends: fire.sends,
        ..Effects::default()
    });
    assert!(Effects::default().is_empty());
}

#[test]
fn mistakes_in_labels_are_named() {
    let said = |pairs: &[(&'static str, &'static str)]| {
        let labels = Labels::new(pairs.iter().copied());
        labels.expect_err("no labels").to_string()
    };
    assert!(said(&[("1a", "x")]).contains("\"1a\""));
    assert!(said(&[("a", "x"), ("a", "y")]).contains("\"a\" is given twice"));
}

#[test]
fn severities_come_and_go_alone() {
    use watchfire_engine::model::Severities;
    let both: Severities = [Severity::Low, Severity::Critical].into_iter().collect();
    let one = both.without(Severity::Low);
    assert!(one.contains(Severity::Critical) && !one.contains(Severity::Low));
    assert_eq!(one.without(Severity::Low), one);
    assert_eq!(
        both.without(Severity::Low).without(Severity::Critical),
        Severities::NONE
    );
}

#[test]
fn a_probe_fails_and_a_dead_man_speaks_after_the_time_not_at_it() {
    let mut policy = policy();
    policy.rules[0].absent = Some(secs(40));
    let mut engine = Engine::new(policy);
    let failing = |engine: &Engine| states(engine).len();
    engine.feed(0, round(vec![]));
    for (at, alerts) in [(40, 0), (41, 1)] {
        engine.feed(at, round(vec![]));
        assert_eq!(failing(&engine), alerts, "the dead man at {at}");
    }

    let mut engine = Engine::new(self::policy());
    engine.judge(0, false);
    for (at, alerts) in [(25, 0), (26, 1)] {
        engine.feed(at, round(vec![observation(&instance("0"), None)]));
        assert_eq!(failing(&engine), alerts, "the failed probe at {at}");
    }
}

#[test]
fn a_healthy_alert_with_a_ledger_writes_nothing() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    let mut engine = Engine::new(policy);
    engine.judge(0, true);
    engine.end_attempt(2);
    for at in [10, 20, 30] {
        engine.judge(at, false);
    }
    for at in [40, 50, 60] {
        let effects = engine.judge(at, false);
        assert!(effects.is_empty(), "at {at}: {effects:?}");
    }
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    let taken = |name: &'static str| Labels::new([(name, "x")]).is_ok();
    for name in ["a", "_a", "a1", "A_b"] {
        assert!(taken(name), "{name}");
    }
    for name in ["", "1a", "a-b", "a:b", "ä", "a b"] {
        assert!(!taken(name), "{name}");
    }
    let labels = Labels::new([("a", "x"), ("b", "y")]).expect("labels");
    assert_eq!((labels.len(), labels.is_empty()), (2, false));
    use watchfire_engine::model::is_metric_name;
    for (name, taken) in [
        ("a:b", true),
        ("_", true),
        (":a", true),
        ("", false),
        ("1", false),
        ("a-b", false),
    ] {
        assert_eq!(is_metric_name(name), taken, "{name}");
    }
}
