//! Alerts from outside, what was not sent and why, and an engine that begins without its state.

use crate::common::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use watchfire_engine::effect::{ActionStep, Event, Happening, Reason, Table};
use watchfire_engine::input::{CommandKind, Input, Pushed, Silence};
use watchfire_engine::model::{Instance, Labels, NotifierId, PerSeverity, Severity};
use watchfire_engine::policy::{EscalationStep, Flapping, InhibitPolicy, Mode, OnMissing};

fn push(name: &str, severity: Severity, ttl: u64) -> Pushed {
    let labels = Labels::new([("job", "backup")]).expect("labels");
    Pushed {
        alert: Arc::new(Instance::new(name.into(), labels)),
        severity,
        ttl: secs(ttl),
        summary: Some("no backup".into()),
        annotations: BTreeMap::new(),
        link: None,
    }
}

/// Pushes one batch; every message is delivered. The transitions and messages, as words.
fn pushes(engine: &mut Engine, at: u64, batch: Vec<Pushed>) -> Vec<String> {
    let effects = engine.feed(at, Input::Pushed(batch));
    engine.accept_all(at);
    words(&effects.events)
}

fn timer(engine: &mut Engine, at: u64) -> Vec<String> {
    let effects = engine.feed(at, Input::Timer);
    engine.accept_all(at);
    words(&effects.events)
}

fn words(events: &[Event]) -> Vec<String> {
    let words = events.iter().filter_map(|event| match &event.what {
        Happening::Transition { to, cause, .. } => Some(format!("{to} ({cause})")),
        Happening::Queued { reason, .. } => Some(reason.name().to_owned()),
        Happening::Suppressed { .. } => suppressed(event),
        _ => None,
    });
    words.collect()
}

fn suppressed(event: &Event) -> Option<String> {
    match &event.what {
        Happening::Suppressed {
            notifier,
            reason,
            severity,
            by,
        } => {
            let to = notifier.as_ref().map_or("nobody", NotifierId::as_str);
            let severity = severity.map_or("-", Severity::name);
            Some(format!("no {} {severity} to {to}: {by}", reason.name()))
        }
        _ => None,
    }
}

fn all_suppressed(events: &[Event]) -> Vec<String> {
    events.iter().filter_map(suppressed).collect()
}

fn quiet(from: u64, until: u64) -> CommandKind {
    CommandKind::Silence(Silence {
        recover: false,
        ..silence("s1", from, until)
    })
}

#[test]
fn a_pushed_alert_lives_as_long_as_it_is_renewed() {
    let mut engine = Engine::new(policy());
    let warning = || vec![push("Backup", Severity::Warning, 300)];
    assert_eq!(
        pushes(&mut engine, 0, warning()),
        ["firing:warning (threshold)", "fire"]
    );
    assert_eq!(pushes(&mut engine, 200, warning()), [""; 0], "renewed");
    assert_eq!(timer(&mut engine, 499), [""; 0]);
    assert_eq!(engine.state.next_due(), Some(now(500).at));
    assert_eq!(timer(&mut engine, 500), ["ok (ttl)", "resolve"]);
    assert_eq!(engine.state.next_due(), None);
    assert_eq!(engine.state.alerts().len(), 0);
    assert!(
        !engine.rows.keys().any(|(table, _)| table.name() == "alert"),
        "it leaves no row behind"
    );
}

#[test]
fn the_end_that_the_sender_names_is_no_expiry() {
    let mut engine = Engine::new(policy());
    pushes(&mut engine, 0, vec![push("Backup", Severity::High, 300)]);
    assert_eq!(
        pushes(&mut engine, 10, vec![push("Backup", Severity::High, 0)]),
        ["ok (threshold)", "resolve"]
    );
    assert_eq!(
        pushes(&mut engine, 20, vec![push("Backup", Severity::High, 0)]),
        [""; 0],
        "an end of nothing is nothing"
    );
}

#[test]
fn severity_is_no_identity_and_each_ends_by_itself() {
    let mut engine = Engine::new(policy());
    let both = vec![
        push("Backup", Severity::Warning, 600),
        push("Backup", Severity::Critical, 300),
    ];
    assert_eq!(
        pushes(&mut engine, 0, both),
        ["firing:critical (threshold)", "fire"],
        "one batch, one change"
    );
    assert_eq!(
        timer(&mut engine, 300),
        ["firing:warning (ttl)", "deescalate"]
    );
    let again = vec![push("Backup", Severity::Critical, 60)];
    assert_eq!(
        pushes(&mut engine, 310, again),
        ["firing:critical (threshold)", "escalate"]
    );
    assert_eq!(
        timer(&mut engine, 370),
        ["firing:warning (ttl)", "deescalate"]
    );
    assert_eq!(timer(&mut engine, 600), ["ok (ttl)", "resolve"]);
}

#[test]
fn expiry_is_judged_at_rounds_too() {
    let mut engine = Engine::new(policy());
    pushes(&mut engine, 0, vec![push("Backup", Severity::High, 15)]);
    engine.judge(10, false);
    assert_eq!(
        words(&engine.judge(20, false).events),
        ["ok (ttl)", "resolve"]
    );
}

#[test]
fn nobody_can_renew_while_the_agent_is_away() {
    let mut engine = Engine::new(policy());
    pushes(&mut engine, 0, vec![push("Backup", Severity::High, 60)]);
    let back = engine.restart(1_000);
    assert_eq!(words(&back.events), [""; 0], "neither ended nor removed");
    assert_eq!(engine.state.next_due(), Some(now(1_060).at));
    engine.judge(1_010, false);
    assert_eq!(timer(&mut engine, 1_060), ["ok (ttl)", "resolve"]);

    // A long life is not made longer.
    pushes(
        &mut engine,
        2_000,
        vec![push("Backup", Severity::High, 86_400)],
    );
    engine.restart(2_100);
    assert_eq!(engine.state.next_due(), Some(now(88_400).at));
    engine.feed(2_200, Input::Resumed { lost: secs(90) });
    assert_eq!(engine.state.next_due(), Some(now(88_400).at));
}

#[test]
fn a_pushed_alert_is_muted_grouped_and_acknowledged_like_any_other() {
    let mut grouped = policy();
    grouped.routes[0].group_by = vec!["job".into()];
    grouped.routes[0].group_wait = secs(30);
    let mut engine = Engine::new(grouped);
    let batch = vec![
        push("Backup", Severity::Warning, 900),
        push("Copy", Severity::Warning, 900),
    ];
    pushes(&mut engine, 0, batch);
    assert_eq!(timer(&mut engine, 30), ["group"], "one message for both");

    let mut muted = policy();
    muted.inhibitions = vec![InhibitPolicy {
        source: vec!["cpu".into()],
        target: vec!["Back*".into()],
        equal: Vec::new(),
    }];
    let mut engine = Engine::new(muted);
    engine.judge(0, true);
    assert_eq!(
        pushes(&mut engine, 5, vec![push("Backup", Severity::High, 900)]),
        [
            "firing:high (threshold)",
            "no fire high to default: inhibited by cpu{i=\"0\"}"
        ]
    );
    assert_eq!(
        words(&engine.judge(10, false).events)[..],
        ["ok (threshold)", "resolve", "fire"]
    );

    let mut repeating = policy();
    repeating.routes[0].repeat = PerSeverity::all(secs(20));
    let mut engine = Engine::new(repeating);
    let high = push("Backup", Severity::High, 900);
    let alert = high.alert.fingerprint;
    pushes(&mut engine, 0, vec![high]);
    engine.command(5, CommandKind::Acknowledge { alert, lasts: None });
    assert_eq!(
        words(&engine.judge(20, false).events),
        ["no repeat high to default: acknowledged by operator"]
    );
    assert_eq!(words(&engine.judge(40, false).events), [""; 0], "said once");
}

#[test]
fn a_pushed_group_leaves_at_the_first_round_after_a_restart_though_no_probe_ran() {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_wait = secs(30);
    policy.routes[0].repeat = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    engine.feed(0, Input::Pushed(vec![push("backup", Severity::High, 600)]));
    engine.restart(40);
    assert_eq!(timer(&mut engine, 40), [""; 0], "nobody has looked yet");
    let mut said = Vec::new();
    for at in (40..120).step_by(10) {
        let effects = engine.feed(at, Input::Round(Default::default()));
        said.extend(
            reasons(&effects.sends)
                .into_iter()
                .map(|reason| (at, reason)),
        );
        engine.accept_all(at);
    }
    assert_eq!(said, [(40, "group"), (100, "repeat")]);
}

#[test]
fn names_of_our_own_cannot_be_pushed() {
    let mut engine = Engine::new(policy());
    for (name, word) in [
        ("cpu", "is the id of a rule"),
        ("watchfire_x", "the agent's own"),
    ] {
        let pushed = push(name, Severity::High, 60);
        let refusal = engine.state.refuses(&engine.policy, &pushed);
        assert!(refusal.is_some_and(|text| text.contains(word)), "{name}");
        assert_eq!(pushes(&mut engine, 0, vec![pushed]), [""; 0]);
    }
}

#[test]
fn a_rule_that_is_configured_takes_its_name_back() {
    let mut engine = Engine::new(policy());
    pushes(&mut engine, 0, vec![push("Backup", Severity::High, 900)]);
    engine.feed(5, Input::Reload);
    assert_eq!(engine.state.alerts().len(), 1, "a reload is not about it");
    engine.policy.rules.push(rule("Backup"));
    let reload = engine.feed(10, Input::Reload);
    assert_eq!(words(&reload.events), ["ok (rule_changed)", "resolve"]);
}

#[test]
fn what_is_not_sent_is_recorded_once_for_each_cause() {
    let mut engine = Engine::new(policy());
    engine.command(0, quiet(0, 100));
    let onset = engine.judge(0, true);
    let word = "no fire critical to default: silence s1";
    assert_eq!(all_suppressed(&onset.events), [word]);
    let by = onset.events.iter().find_map(|event| match &event.what {
        Happening::Transition { suppressed_by, .. } => suppressed_by.clone(),
        _ => None,
    });
    assert_eq!(by.as_deref(), Some("silence s1"));
    assert_eq!(all_suppressed(&engine.judge(10, true).events), [""; 0]);
    engine.restart(15);
    assert_eq!(
        all_suppressed(&engine.judge(20, true).events),
        [""; 0],
        "known over a restart"
    );
    engine.command(25, CommandKind::Silence(silence("s2", 25, 200)));
    assert_eq!(
        all_suppressed(&engine.judge(30, true).events),
        ["no fire critical to default: silence s1, silence s2"],
        "another cause"
    );
    assert_eq!(
        all_suppressed(&engine.judge(110, true).events),
        ["no fire critical to default: silence s2"]
    );
    let late = engine.judge(210, true);
    assert_eq!(words(&late.events), ["fire"]);
    let over = engine.judge(220, false);
    assert_eq!(words(&over.events), ["ok (threshold)", "resolve"]);
}

#[test]
fn a_resolve_passes_and_is_not_called_suppressed() {
    let mut engine = Engine::new(policy());
    engine.judge(0, true);
    engine.command(5, quiet(0, 1_000));
    assert_eq!(all_suppressed(&engine.judge(10, true).events), [""; 0]);
    let over = engine.judge(20, false);
    assert_eq!(words(&over.events), ["ok (threshold)", "resolve"]);
    assert!(over.events.iter().all(|event| !matches!(
        &event.what,
        Happening::Transition {
            suppressed_by: Some(_),
            ..
        }
    )));
}

#[test]
fn flapping_and_missing_routes_are_causes() {
    let mut flapping = policy();
    flapping.alerting.flapping = Some(Flapping {
        start: 3,
        stop: 0,
        window: secs(600),
    });
    let mut engine = Engine::new(flapping);
    let mut seen = Vec::new();
    for (at, fires) in [(0, true), (10, false), (20, true), (30, false), (40, true)] {
        seen.extend(all_suppressed(&engine.judge(at, fires).events));
    }
    assert_eq!(
        seen, ["no fire critical to default: flapping"; 2],
        "once for each firing of which nobody hears"
    );

    let mut unrouted = policy();
    unrouted.routes.clear();
    let mut engine = Engine::new(unrouted);
    let word = "no fire critical to nobody: no route takes it";
    assert_eq!(all_suppressed(&engine.judge(0, true).events), [word]);
    assert_eq!(all_suppressed(&engine.judge(10, true).events), [""; 0]);
    engine.judge(20, false);
    assert_eq!(
        all_suppressed(&engine.judge(30, true).events),
        [word],
        "each episode"
    );
}

#[test]
fn an_escalation_step_that_an_acknowledgement_holds_back_is_recorded() {
    let mut steps = policy();
    steps.routes[0].escalate = vec![EscalationStep {
        after: secs(20),
        notify: vec!["spare".into()],
    }];
    let mut engine = Engine::new(steps);
    engine.judge(0, true);
    let alert = instance("0").fingerprint;
    engine.command(5, CommandKind::Acknowledge { alert, lasts: None });
    assert_eq!(all_suppressed(&engine.judge(10, true).events), [""; 0]);
    assert_eq!(
        all_suppressed(&engine.judge(20, true).events),
        ["no escalation critical to spare: acknowledged by operator"]
    );
    assert_eq!(all_suppressed(&engine.judge(30, true).events), [""; 0]);
}

#[test]
fn what_is_certainly_fine_is_closed_once_at_those_who_fold() {
    let mut two = policy();
    let mut spare = two.routes[0].clone();
    two.routes[0].carry_on = true;
    spare.notify = vec!["spare".into()];
    two.routes.push(spare);
    two.rules[0].wait = PerSeverity::all(secs(30));
    two.rules[0].on_missing = OnMissing::Keep;
    let mut before = Engine::new(two.clone());
    for at in [0, 10, 20, 30] {
        before.feed(
            at,
            round(vec![observation(&instance("ok"), Some(CRITICAL))]),
        );
    }
    let opened = before.sends[0].notification.dedup_key.clone();

    let mut engine = amnesiac(two);
    let first = engine.feed(
        10,
        round(vec![
            observation(&instance("ok"), Some(&[])),
            observation(&instance("pending"), Some(CRITICAL)),
            observation(&instance("unknown"), None),
        ]),
    );
    let told: Vec<_> = first
        .sends
        .iter()
        .map(|send| (send.notifier.as_str(), send.notification.reason))
        .collect();
    assert_eq!(told, [("default", Reason::Resolve)], "not to the spare one");
    assert_eq!(first.sends[0].notification.dedup_key, opened);
    assert_eq!(
        first.sends[0].notification.alerts[0].ended_at,
        Some(now(10).wall)
    );
    engine.accept_all(10);
    let second = engine.feed(
        20,
        round(vec![
            observation(&instance("ok"), Some(&[])),
            observation(&instance("pending"), Some(&[])),
            observation(&instance("unknown"), Some(CRITICAL)),
        ]),
    );
    assert_eq!(reasons(&second.sends), ["resolve"], "what settled, once");
    engine.accept_all(20);
    // What fires now is told by itself, under the same key, and resolves by itself.
    for at in [30, 40] {
        engine.feed(
            at,
            round(vec![observation(&instance("unknown"), Some(CRITICAL))]),
        );
    }
    let fired = engine.feed(
        50,
        round(vec![observation(&instance("unknown"), Some(CRITICAL))]),
    );
    assert_eq!(reasons(&fired.sends), ["fire", "fire"]);
    engine.accept_all(50);
    let over = engine.feed(
        60,
        round(vec![observation(&instance("unknown"), Some(&[]))]),
    );
    assert_eq!(reasons(&over.sends), ["resolve", "resolve"]);
    engine.accept_all(60);
    assert_eq!(
        reasons(
            &engine
                .feed(70, round(vec![observation(&instance("ok"), Some(&[]))]))
                .sends
        ),
        [""; 0]
    );
}

#[test]
fn a_page_does_not_stand_behind_the_closing_of_thousands() {
    let mut engine = amnesiac(policy());
    let names: Vec<String> = (0..50).map(|at| format!("{at:03}")).collect();
    let all = || {
        let all = names
            .iter()
            .map(|name| observation(&instance(name), Some(&[])));
        round(all.collect())
    };
    let counts: Vec<usize> = [10, 20, 30, 40]
        .iter()
        .map(|at| {
            let sends = engine.feed(*at, all()).sends.len();
            engine.accept_all(*at);
            sends
        })
        .collect();
    assert_eq!(counts, [20, 20, 10, 0]);
}

#[test]
fn a_quiet_group_is_closed_under_its_own_key() {
    let mut grouped = policy();
    grouped.routes[0].group_by = vec!["rule".into()];
    let mut before = Engine::new(grouped.clone());
    let opened = before.feed(0, round(vec![observation(&instance("0"), Some(CRITICAL))]));
    assert_eq!(reasons(&opened.sends), ["group"]);

    let mut engine = amnesiac(grouped);
    let both = |first: &[Severity]| {
        round(vec![
            observation(&instance("0"), Some(first)),
            observation(&instance("1"), Some(&[])),
        ])
    };
    let busy = engine.feed(10, both(CRITICAL));
    assert_eq!(reasons(&busy.sends), ["group"], "something of it fires");
    engine.accept_all(10);

    let mut quiet = amnesiac(engine.policy.clone());
    let closed = quiet.feed(10, both(&[]));
    assert_eq!(reasons(&closed.sends), ["resolve"], "one for the group");
    assert_eq!(
        closed.sends[0].notification.dedup_key,
        opened.sends[0].notification.dedup_key
    );
}

#[test]
fn recovery_holds_back_for_a_window_unless_an_operator_resets() {
    let held = |effects: &watchfire_engine::Effects| {
        let mut steps = effects.events.iter().filter_map(|event| match &event.what {
            Happening::Action { step, .. } => Some(*step),
            _ => None,
        });
        steps.next()
    };
    let mut auto = policy();
    auto.procedures = vec![procedure(Mode::Auto)];
    let mut engine = amnesiac(auto.clone());
    assert_eq!(held(&engine.judge(10, true)), Some(ActionStep::Held));
    assert_eq!(held(&engine.judge(20, true)), None, "said once");
    assert!(engine.state.held_until(&auto.procedures[0]).is_some());
    engine.restart(30);
    assert_eq!(
        held(&engine.judge(3_590, true)),
        None,
        "known over a restart"
    );
    assert_eq!(held(&engine.judge(3_600, true)), Some(ActionStep::Start));

    let mut engine = amnesiac(auto.clone());
    engine.judge(10, true);
    let procedure = auto.procedures[0].id.clone();
    engine.command(15, CommandKind::Reset { procedure });
    assert_eq!(held(&engine.judge(20, true)), Some(ActionStep::Start));
    assert_eq!(engine.state.held_until(&auto.procedures[0]), None);

    let mut observing = auto;
    observing.procedures[0].mode = Mode::Observe;
    let mut engine = amnesiac(observing);
    assert_eq!(held(&engine.judge(10, true)), Some(ActionStep::WouldStart));
}

#[test]
fn a_first_start_is_no_loss() {
    let mut auto = policy();
    auto.procedures = vec![procedure(Mode::Auto)];
    let mut engine = Engine::new(auto);
    let quiet = engine.judge(0, false);
    assert_eq!(reasons(&quiet.sends), [""; 0]);
    engine.judge(10, true);
    assert_eq!(engine.attempts.len(), 1);
}

#[test]
fn what_notifiers_knew_of_an_episode_goes_with_it_though_the_alert_may_yet_flap() {
    let mut watched = policy();
    watched.alerting.flapping = Some(Flapping {
        start: 6,
        stop: 1,
        window: secs(600),
    });
    let mut engine = Engine::new(watched);
    let names = |engine: &Engine| {
        let alert = |((table, _), _): &(&(Table, _), _)| *table == Table::Alert;
        let (_, row) = engine.rows.iter().find(alert).expect("its row");
        (row.contains("\"default\""), row.contains("\"flaps\":["))
    };
    engine.judge(0, true);
    assert_eq!(names(&engine), (true, true));
    let resolved = engine.feed(10, round(vec![shows("0", &[])]));
    assert_eq!(reasons(&resolved.sends), ["resolve"]);
    assert!(names(&engine).0, "the resolve may yet be refused");
    engine.accept_all(11);
    engine.judge(20, false);
    assert_eq!(names(&engine), (false, true));
    let again = engine.judge(30, true);
    assert_eq!(reasons(&again.sends), ["fire"]);
}
