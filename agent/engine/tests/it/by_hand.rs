//! What the scenarios cannot show: operators, several inputs while a delivery or an attempt is under way,
//! what is written.

use crate::common::*;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::effect::{Happening, Table};
use watchfire_engine::input::{CommandKind, DeliveryOutcome, Input, RuleRound, Seen};
use watchfire_engine::model::{Instance, Labels, ProbeId, ProcedureId, RuleId, Severity};
use watchfire_engine::policy::{InhibitPolicy, Mode};

fn failed(answered: bool, retry_after: Option<u64>) -> DeliveryOutcome {
    DeliveryOutcome::Failed {
        message: "no".to_owned(),
        retry_after: retry_after.map(secs),
        answered,
    }
}

fn fix() -> ProcedureId {
    "fix".into()
}

#[test]
fn approve_asks_once_and_acts_after_leave() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Approve)];
    let mut engine = Engine::new(policy);
    let asked = engine.judge(0, true);
    assert_eq!(happenings(&asked.events), ["ApprovalWanted 1"]);
    assert_eq!(reasons(&asked.sends), ["fire", "approval-wanted"]);
    assert_eq!(happenings(&engine.judge(10, true).events), [""; 0]);
    assert_eq!(engine.state.waiting_for_approval(&fix()), ["cpu{i=\"0\"}"]);

    engine.command(15, CommandKind::Approve { procedure: fix() });
    assert!(engine.attempts.is_empty(), "acts at the next round");
    assert_eq!(happenings(&engine.judge(20, true).events), ["Start 1"]);
    engine.end_attempt(22);
    assert_eq!(
        happenings(&engine.judge(40, true).events),
        ["VerifiedFail 1"]
    );
    let again = engine.judge(50, true);
    assert_eq!(
        happenings(&again.events),
        ["ApprovalWanted 2"],
        "each attempt needs leave"
    );
    engine.judge(60, false);
    assert!(engine.state.waiting_for_approval(&fix()).is_empty());
    engine.command(65, CommandKind::Approve { procedure: fix() });
    let later = engine.judge(70, true);
    assert_eq!(
        happenings(&later.events),
        ["ApprovalWanted 2"],
        "leave for nothing is no leave"
    );
}

#[test]
fn pause_stops_recovery_over_a_restart_and_reset_ends_exhaustion() {
    let mut policy = policy();
    policy.procedures = vec![procedure(Mode::Auto)];
    policy.procedures[0].max_attempts = 1;
    let mut engine = Engine::new(policy);
    engine.command(0, CommandKind::Pause);
    assert_eq!(happenings(&engine.judge(0, true).events), [""; 0]);
    engine.restart(5);
    assert!(engine.state.is_paused());
    assert_eq!(happenings(&engine.judge(10, true).events), [""; 0]);
    engine.command(15, CommandKind::Resume);
    assert_eq!(happenings(&engine.judge(20, true).events), ["Start 1"]);
    engine.end_attempt(22);
    let gave_up = engine.judge(40, true);
    assert_eq!(
        happenings(&gave_up.events),
        ["VerifiedFail 1", "Exhausted 1"]
    );
    assert_eq!(reasons(&gave_up.sends), ["exhausted"]);
    assert_eq!(happenings(&engine.judge(50, true).events), [""; 0]);
    engine.command(55, CommandKind::Reset { procedure: fix() });
    assert_eq!(happenings(&engine.judge(60, true).events), ["Start 2"]);
}

#[test]
fn one_attempt_at_a_time_unless_allowed() {
    for (concurrency, started) in [(1, 1), (2, 2)] {
        let mut policy = policy();
        policy.procedures = vec![procedure(Mode::Auto)];
        policy.recover.concurrency = concurrency;
        let mut engine = Engine::new(policy);
        let both = ["0", "1"].map(|name| observation(&instance(name), Some(CRITICAL)));
        engine.feed(0, round(both.to_vec()));
        assert_eq!(engine.attempts.len(), started);
    }
}

#[test]
fn a_resolve_waits_for_the_fire_that_is_under_way() {
    let mut engine = Engine::new(policy());
    let critical = observation(&instance("0"), Some(CRITICAL));
    let fire = engine.feed(0, round(vec![critical])).sends.remove(0);
    let healthy = observation(&instance("0"), Some(&[]));
    let resolved = engine.feed(10, round(vec![healthy]));
    assert!(resolved.sends.is_empty(), "never before its fire");
    assert_eq!(
        happenings(&resolved.events),
        [""; 0],
        "the fire may yet arrive"
    );

    let failed = engine.answer(12, &fire, failed(true, None));
    assert_eq!(happenings(&failed.events), ["superseded by resolve"]);
    assert!(failed.sends.is_empty());
    let resolve = engine.feed(17, Input::Timer);
    assert_eq!(
        reasons(&resolve.sends),
        ["resolve"],
        "with the back-off of the fire"
    );
    engine.accept_all(17);
    assert_eq!(engine.state.outbox_pending(), 0);
    assert_eq!(engine.state.next_due(), None);
}

#[test]
fn an_old_report_changes_nothing() {
    let mut engine = Engine::new(policy());
    let critical = observation(&instance("0"), Some(CRITICAL));
    let fire = engine.feed(0, round(vec![critical])).sends.remove(0);
    engine.answer(0, &fire, failed(true, None));
    let old = engine.answer(1, &fire, DeliveryOutcome::Accepted { remote_id: None });
    assert!(old.is_empty(), "{old:?}");
    assert_eq!(engine.state.outbox_pending(), 1);
}

#[test]
fn retry_after_is_a_minimum_and_connections_come_back_soon() {
    for (outcome, seconds) in [
        (failed(true, Some(30)), 30),
        (failed(true, Some(999_999)), 3_600),
        (failed(true, Some(1)), 5),
        (failed(false, None), 5),
    ] {
        let mut engine = Engine::new(policy());
        let critical = observation(&instance("0"), Some(CRITICAL));
        let fire = engine.feed(0, round(vec![critical])).sends.remove(0);
        engine.answer(0, &fire, outcome.clone());
        assert_eq!(
            engine.state.next_due(),
            Some(now(seconds).at),
            "{outcome:?}"
        );
    }
}

#[test]
fn many_waiting_messages_keep_the_full_back_off() {
    let mut engine = Engine::new(policy());
    let many: Vec<_> = (0..20)
        .map(|at| observation(&instance(&at.to_string()), Some(CRITICAL)))
        .collect();
    let mut at = 0;
    let mut sends = engine.feed(at, round(many)).sends;
    for wait in [5, 10, 20, 40] {
        for send in &sends {
            engine.answer(at, send, failed(false, None));
        }
        assert_eq!(engine.state.next_due(), Some(now(at + wait).at));
        at += wait;
        sends = engine.feed(at, Input::Timer).sends;
        assert_eq!(sends.len(), 20);
    }
}

#[test]
fn an_idle_healthy_agent_writes_nothing() {
    let mut engine = Engine::new(policy());
    for at in 0..10 {
        let healthy = ["0", "1"].map(|name| observation(&instance(name), Some(&[])));
        let effects = engine.feed(at * EVERY, round(healthy.to_vec()));
        // When its life began it writes once.
        let records = effects.records.len();
        assert_eq!(records, usize::from(at == 0), "{effects:?}");
        assert!(
            effects.events.is_empty() && effects.sends.is_empty(),
            "{effects:?}"
        );
    }
}

#[test]
fn a_rules_memory_is_written_every_minute_and_with_a_transition() {
    let mut engine = Engine::new(policy());
    let mut written = Vec::new();
    for at in 0..=12 {
        let breached: &[Severity] = if at == 3 { CRITICAL } else { &[] };
        let mut one = observation(&instance("0"), Some(breached));
        one.memory = Some(vec![at].into());
        let effects = engine.feed(u64::from(at) * EVERY, round(vec![one]));
        engine.accept_all(u64::from(at) * EVERY);
        let alert = |change: &&_| -> bool {
            let change: &watchfire_engine::effect::RecordChange = change;
            change.table == Table::Alert
        };
        if effects.records.iter().any(|change| alert(&change)) {
            written.push(at);
        }
    }
    assert_eq!(written, [0, 3, 4, 6, 12]);
    engine.restart(125);
    let memories = engine.state.memories(&"cpu".into());
    assert_eq!(memories, [(instance("0").fingerprint, vec![12].into())]);
}

#[test]
fn the_same_configuration_again_does_nothing() {
    let mut engine = Engine::new(policy());
    engine.judge(0, true);
    let effects = engine.feed(5, Input::Reload);
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn what_a_round_does_not_mention_is_untouched() {
    let mut engine = Engine::new(policy());
    let one = |name: &str| observation(&instance(name), Some(WARNING));
    engine.feed(0, round(vec![one("0"), one("1")]));
    engine.accept_all(0);
    for at in 1..10 {
        let effects = engine.feed(at * EVERY, round(vec![one("1")]));
        assert!(
            effects.events.is_empty() && effects.sends.is_empty(),
            "{effects:?}"
        );
    }
    let states: Vec<_> = engine
        .state
        .alerts()
        .into_iter()
        .map(|v| (v.state, v.stale))
        .collect();
    let firing = || "firing:warning".to_owned();
    assert_eq!(states, [(firing(), true), (firing(), false)]);
    // A restart must not take the round for an observation of it.
    engine.restart(95);
    engine.feed(100, round(vec![one("1")]));
    let stale: Vec<_> = engine
        .state
        .alerts()
        .into_iter()
        .map(|view| view.stale)
        .collect();
    assert_eq!(stale, [true, false]);
}

#[test]
fn a_new_episode_has_new_ids_and_a_higher_number_even_over_restarts() {
    let mut engine = Engine::new(policy());
    let mut seen = Vec::new();
    for episode in 0..3_u64 {
        let at = episode * 100;
        let fire = engine.judge(at, true).sends.remove(0).notification;
        let resolve = engine.judge(at + 10, false).sends.remove(0).notification;
        assert_eq!(fire.alerts[0].episode, episode + 1);
        assert_eq!(resolve.alerts[0].episode, episode + 1);
        seen.extend([fire.id.clone(), resolve.id.clone()]);
        engine.restart(at + 50);
    }
    let mut ids = seen.clone();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), seen.len());
}

#[test]
fn history_says_who_muted() {
    let mut policy = policy();
    policy.rules.push(rule("other"));
    policy.inhibitions = vec![InhibitPolicy {
        source: vec!["other".into(), "cpu".into()],
        target: vec!["cpu".into()],
        equal: Vec::new(),
    }];
    let mut engine = Engine::new(policy);
    let both = ["0", "1"].map(|name| observation(&instance(name), Some(WARNING)));
    let effects = engine.feed(0, round(both.to_vec()));
    assert_eq!(
        reasons(&effects.sends),
        ["fire", "fire"],
        "what stands on both sides is not muted by its like: nobody would hear of either"
    );
    let cleared = ["0", "1"].map(|name| observation(&instance(name), Some(&[])));
    engine.feed(10, round(cleared.to_vec()));
    engine.accept_all(10);

    let source = Arc::new(Instance::new(RuleId::new("other"), Labels::default()));
    let Input::Round(mut next) = round(both.to_vec()) else {
        unreachable!("a round is a round");
    };
    next.rules.push(RuleRound {
        rule: RuleId::new("other"),
        every: secs(EVERY),
        result: Ok(vec![observation(&source, Some(WARNING))]),
    });
    let effects = engine.feed(20, Input::Round(next));
    let told: Vec<_> = effects
        .sends
        .iter()
        .map(|send| &send.notification)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].alerts[0].rule.as_str(), "other");
    let muted = effects.events.iter().filter_map(|event| match &event.what {
        Happening::Transition { suppressed_by, .. } => suppressed_by.clone(),
        _ => None,
    });
    let muted: Vec<_> = muted.collect();
    assert_eq!(muted, ["inhibited by other", "inhibited by other"]);
}

#[test]
fn a_notifier_that_is_gone_leaves_nothing_behind() {
    let mut engine = Engine::new(policy());
    let critical = observation(&instance("0"), Some(CRITICAL));
    let fire = engine
        .feed(0, round(vec![critical.clone()]))
        .sends
        .remove(0);
    engine.answer(0, &fire, failed(true, None));
    engine.policy.notifiers = vec!["spare".into()];
    engine.policy.routes[0].notify = vec!["spare".into()];
    engine.feed(5, Input::Reload);
    assert_eq!(engine.state.outbox_pending(), 0);
    let moved = engine.feed(10, round(vec![critical]));
    assert_eq!(reasons(&moved.sends), ["fire"]);
    assert_eq!(moved.sends[0].notifier.as_str(), "spare");
}

#[test]
fn a_removed_rule_leaves_no_rows() {
    let mut engine = Engine::new(policy());
    engine.judge(0, true);
    engine.policy.rules.clear();
    let removed = engine.feed(5, Input::Reload);
    assert_eq!(reasons(&removed.sends), ["resolve"]);
    engine.accept_all(5);
    let tables: Vec<_> = engine
        .rows
        .keys()
        .map(|(table, key)| (*table, key.as_str()))
        .collect();
    assert_eq!(tables, [(Table::Engine, "engine")]);
    assert!(engine.feed(6, Input::Reload).is_empty());
}

#[test]
fn what_disappeared_for_good_leaves_no_rows() {
    let mut engine = Engine::new(policy());
    engine.judge(0, true);
    let mut missing = observation(&instance("0"), None);
    missing.seen = Seen::Absent;
    for at in 1..=3 {
        engine.feed(at * EVERY, round(vec![missing.clone()]));
        engine.accept_all(at * EVERY);
    }
    assert!(!engine.rows.keys().any(|(table, _)| *table == Table::Alert));
    assert!(engine.state.alerts().is_empty());
}

#[test]
fn rows_that_cannot_be_read_are_named_and_left_out() {
    let mut engine = Engine::new(policy());
    engine.judge(0, true);
    let mut rows: Vec<_> = engine
        .rows
        .iter()
        .map(|((t, k), b)| (*t, k.clone(), b.clone()))
        .collect();
    rows.push((Table::Alert, "broken".to_owned(), "{".to_owned()));
    let (state, _, errors) = watchfire_engine::State::restore(rows, &engine.policy, now(5));
    assert_eq!(errors.len(), 1);
    assert_eq!(
        (errors[0].table, errors[0].key.as_str()),
        (Table::Alert, "broken")
    );
    assert_eq!(state.alerts().len(), 1);
}

#[test]
fn the_jitter_of_a_seed_is_the_same_after_a_restart() {
    let mut policy = policy();
    policy.delivery.jitter = 0.2;
    policy.delivery.first_retry = Duration::from_secs(100);
    let due = |policy: &watchfire_engine::Policy| {
        let mut engine = Engine::new(policy.clone());
        let critical = observation(&instance("0"), Some(CRITICAL));
        let fire = engine.feed(0, round(vec![critical])).sends.remove(0);
        engine.answer(0, &fire, failed(true, None));
        engine.state.next_due()
    };
    let first = due(&policy);
    assert_eq!(first, due(&policy));
    policy.seed = 2;
    assert_ne!(first, due(&policy));
}

#[test]
fn who_was_awaited_before_a_restart_is_awaited_after_it_and_can_be_gone() {
    let mut engine = Engine::new(policy());
    let labels = instance("0").labels.clone();
    let known = Instance::new(RuleId::new("cpu"), labels).yielded_by([ProbeId::new("host")]);
    let known = Arc::new(known);
    engine.feed(0, round(vec![observation(&known, Some(CRITICAL))]));
    engine.accept_all(0);
    engine.restart(5);
    let awaited = engine.state.awaited(&RuleId::new("cpu"));
    assert_eq!(awaited.len(), 1);
    assert_eq!(*awaited[0].probes, [ProbeId::new("host")]);

    let absent = || {
        let mut absent = observation(&awaited[0], Some(&[]));
        absent.seen = Seen::Absent;
        round(vec![absent])
    };
    let mut sends = Vec::new();
    for at in [10, 20, 30, 40] {
        sends.extend(engine.feed(at, absent()).sends);
    }
    assert_eq!(reasons(&sends), ["resolve"], "the first round is unsure");
    let told = &sends[0].notification.alerts[0];
    assert_eq!(told.end_cause.as_deref(), Some("gone"));
    assert_eq!(engine.state.awaited(&RuleId::new("cpu")), []);
}

#[test]
fn a_healthy_instance_with_a_past_is_awaited_after_a_restart_and_loses_its_place_when_it_is_gone() {
    let mut policy = policy();
    policy.rules[0].max_instances = 1;
    let mut engine = Engine::new(policy);
    engine.judge(0, true);
    engine.judge(10, false);
    let cpu = RuleId::new("cpu");
    assert_eq!(engine.state.awaited(&cpu), [], "its series answers for it");
    engine.restart(20);
    let awaited = engine.state.awaited(&cpu);
    assert_eq!(awaited, [instance("0")]);
    for at in [20, 30, 40, 50] {
        let mut absent = observation(&awaited[0], None);
        absent.seen = Seen::Absent;
        let other = observation(&instance("1"), Some(&[]));
        engine.feed(at, round(vec![absent, other]));
        engine.accept_all(at);
    }
    assert_eq!(
        engine.state.awaited(&cpu),
        [],
        "gone: three rounds after the first"
    );
    let key = |name: &str| (Table::Alert, instance(name).fingerprint.to_string());
    assert!(!engine.rows.contains_key(&key("0")));
    assert!(
        engine.rows.contains_key(&key("1")),
        "it holds the last place"
    );
    let effects = engine.feed(60, round(vec![observation(&instance("1"), Some(CRITICAL))]));
    assert_eq!(reasons(&effects.sends), ["fire"], "its place is free");
}
