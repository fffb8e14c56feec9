//! An engine whose state was lost: in which order, when, and of which groups it says that they are fine; for how
//! long it tries no recovery.

use crate::common::*;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::Effects;
use watchfire_engine::input::{Input, Observation, Round};
use watchfire_engine::model::{Instance, Labels, PerSeverity, RuleId, Severity};
use watchfire_engine::policy::Mode;

/// The label `i` of the alert that each message is about.
fn about(effects: &Effects) -> Vec<&str> {
    let alerts = effects
        .sends
        .iter()
        .map(|send| &send.notification.alerts[0]);
    alerts.filter_map(|alert| alert.labels.get("i")).collect()
}

#[test]
fn what_is_fine_is_closed_in_the_order_of_its_labels() {
    let mut engine = amnesiac(policy());
    let names: Vec<String> = (0..20).map(|at| format!("{at:02}")).collect();
    let all = names.iter().map(|name| shows(name, HEALTHY));
    let closed = engine.feed(10, round(all.collect()));
    assert_eq!(about(&closed), names);
}

#[test]
fn after_a_suspend_nothing_is_called_fine_before_it_was_judged_again() {
    let mut engine = amnesiac(policy());
    let all = || {
        let all = (0..25).map(|at| shows(&at.to_string(), HEALTHY));
        round(all.collect())
    };
    assert_eq!(engine.feed(10, all()).sends.len(), 20, "a round's worth");
    engine.accept_all(10);
    let lost = secs(120);
    engine.feed(150, Input::Resumed { lost });
    let of_another = engine.feed(155, Input::Round(Round::default()));
    assert_eq!(about(&of_another), [""; 0]);
    assert_eq!(engine.feed(160, all()).sends.len(), 5);
}

#[test]
fn a_group_is_closed_while_nothing_of_it_pends_whatever_pends_elsewhere() {
    let mut policy = policy();
    policy.rules[0].wait = PerSeverity::all(secs(60));
    policy.routes[0].group_by = vec!["g".into()];
    let mut engine = amnesiac(policy);
    let shows = |group: &str, name: &str, breached: &[Severity]| -> Observation {
        let labels = Labels::new([("g", group), ("i", name)]).expect("labels");
        let instance = Instance::new(RuleId::new("cpu"), labels);
        observation(&Arc::new(instance), Some(breached))
    };
    let closed = engine.feed(
        10,
        round(vec![
            shows("1", "fine, but for its neighbour", HEALTHY),
            shows("1", "pends", CRITICAL),
            shows("2", "pends too", CRITICAL),
            shows("3", "fine", HEALTHY),
        ]),
    );
    assert_eq!(about(&closed), ["fine"]);
}

#[test]
fn a_procedure_is_held_for_its_own_window_and_says_which_attempt() {
    for (hours, allowed) in [(0.5, 1_800), (2.0, 7_200)] {
        let mut policy = policy();
        policy.procedures = vec![procedure(Mode::Auto)];
        policy.procedures[0].window = Duration::from_secs_f64(hours * 3_600.0);
        let mut engine = amnesiac(policy);
        let held = engine.judge(10, true);
        assert_eq!(happenings(&held.events), ["Held 1"]);
        for at in [1_790, 1_800, 3_600, 3_700, 7_190, 7_200] {
            engine.judge(at, true);
            let started = !engine.attempts.is_empty();
            assert_eq!(started, at >= allowed, "{hours} h, at {at}");
            let held = engine.state.held_until(&engine.policy.procedures[0]);
            assert_eq!(held, (at < allowed).then(|| now(allowed).at));
        }
    }
}
