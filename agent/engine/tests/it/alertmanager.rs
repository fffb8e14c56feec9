//! Grouping against Alertmanager's table of decisions: `DedupStage.needsUpdate` of
//! prometheus/alertmanager, notify/dedup_stage.go at 35aed4e, and the cases of its
//! `TestDedupStageNeedsUpdate` (alerting.md 1.5: our group decision is theirs).
//!
//! Where we differ: every notifier hears of resolves (`send_resolved` is always on), repeats are told
//! alert by alert, and what was not delivered is tried again instead of counting as never sent.

use crate::common::*;
use std::collections::BTreeSet;
use watchfire_engine::input::Input;
use watchfire_engine::model::{PerSeverity, Severity};
use watchfire_engine::{Effects, Policy};

/// Why Alertmanager sends, in its words.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decision {
    FirstNotification,
    NewAlertsInGroup,
    AllAlertsResolved,
    NewResolvedAlerts,
    DoNotNotify,
}

type Set = BTreeSet<u8>;

/// The table. `entry`: what the last message said fires; none: there was none.
fn needs_update(entry: Option<&Set>, firing: &Set, newly_resolved: bool) -> Decision {
    match entry {
        None if firing.is_empty() => Decision::DoNotNotify,
        None => Decision::FirstNotification,
        Some(told) if !firing.is_subset(told) && told.is_empty() => Decision::FirstNotification,
        Some(told) if !firing.is_subset(told) => Decision::NewAlertsInGroup,
        Some(told) if firing.is_empty() && told.is_empty() => Decision::DoNotNotify,
        Some(_) if firing.is_empty() => Decision::AllAlertsResolved,
        Some(_) if newly_resolved => Decision::NewResolvedAlerts,
        Some(_) => Decision::DoNotNotify,
    }
}

fn grouped() -> Policy {
    let mut policy = policy();
    policy.routes[0].group_by = vec!["rule".into()];
    policy.routes[0].group_wait = secs(15);
    policy.routes[0].group_interval = secs(60);
    policy
}

/// One round of alerts 1 to 4: these fire, the others are healthy.
fn fires(engine: &mut Engine, at: u64, firing: &Set) -> Effects {
    let all = (1..=4_u8).map(|alert| {
        let breached: &[Severity] = if firing.contains(&alert) {
            &[Severity::Warning]
        } else {
            &[]
        };
        observation(&instance(&alert.to_string()), Some(breached))
    });
    engine.feed(at, round(all.collect()))
}

/// Firing, new and resolved of the message that goes out by itself until `until`, if one does.
fn message(engine: &mut Engine, until: u64) -> Option<(u32, u32, u32)> {
    let mut sends = std::mem::take(&mut engine.sends);
    while let Some(due) = engine.state.next_due().filter(|due| *due <= now(until).at) {
        let at = due.since(now(0).at).as_secs();
        sends.extend(engine.feed(at, Input::Timer).sends);
        engine.sends.clear();
    }
    assert!(sends.len() <= 1, "{sends:?}");
    let send = sends.pop()?;
    let group = send.notification.group.clone().expect("a group message");
    let accepted = watchfire_engine::input::DeliveryOutcome::Accepted { remote_id: None };
    engine.answer(until, &send, accepted);
    Some((group.firing, group.new, group.resolved))
}

fn subset(bits: u8) -> Set {
    (1..=4)
        .filter(|alert| bits & (1 << (alert - 1)) != 0)
        .collect()
}

/// Every set of alerts that was told, against every set that fires at the next interval.
#[test]
fn every_change_of_a_group_is_told_as_alertmanager_would() {
    for (before, after) in (0..16).flat_map(|b| (0..16).map(move |a| (subset(b), subset(a)))) {
        let mut engine = Engine::new(grouped());
        fires(&mut engine, 0, &before);
        let first = message(&mut engine, 19);
        let decision = needs_update(None, &before, false);
        assert_eq!(
            first.is_some(),
            decision == Decision::FirstNotification,
            "{before:?}"
        );

        fires(&mut engine, 20, &after);
        let second = message(&mut engine, 80);
        let entry = (!before.is_empty()).then_some(&before);
        let newly_resolved = before.difference(&after).count() > 0;
        let decision = needs_update(entry, &after, newly_resolved);
        let what = format!("{before:?} to {after:?}: {decision:?}, {second:?}");
        assert_eq!(
            second.is_some(),
            decision != Decision::DoNotNotify,
            "{what}"
        );
        let Some((firing, new, resolved)) = second else {
            continue;
        };
        assert_eq!(firing as usize, after.len(), "{what}");
        assert_eq!(new as usize, after.difference(&before).count(), "{what}");
        assert_eq!(
            resolved as usize,
            before.difference(&after).count(),
            "{what}"
        );
    }
}

/// The cases of their test, by their comments; those with `send_resolved` off, and the entry without a
/// timestamp, have no counterpart here.
#[test]
fn the_cases_of_alertmanagers_own_test() {
    let set = |alerts: &[u8]| -> Set { alerts.iter().copied().collect() };
    for (comment, told, firing, wanted) in [
        (
            "No matching nflog entry should update",
            &[][..],
            &[2, 3, 4][..],
            true,
        ),
        (
            "No matching nflog entry shouldn't update if no alert fires",
            &[],
            &[],
            false,
        ),
        (
            "Different sets of firing alerts should update",
            &[1, 2, 3],
            &[2, 3, 4],
            true,
        ),
        (
            "Identical sets of alerts shouldn't update before repeat_interval",
            &[1, 2, 3],
            &[1, 2, 3],
            false,
        ),
        (
            "Different sets of resolved alerts should update when resolve is true",
            &[1, 2],
            &[1],
            true,
        ),
        (
            "Empty sets of firing alerts should update when resolve is true",
            &[1, 2],
            &[],
            true,
        ),
    ] {
        let mut engine = Engine::new(grouped());
        fires(&mut engine, 0, &set(told));
        message(&mut engine, 19);
        fires(&mut engine, 20, &set(firing));
        assert_eq!(message(&mut engine, 80).is_some(), wanted, "{comment}");
    }
}

/// "Identical sets of alerts should update after repeat_interval", ours one by one.
#[test]
fn an_unchanged_group_repeats_after_its_interval() {
    let mut policy = grouped();
    policy.routes[0].repeat = PerSeverity::all(secs(600));
    let mut engine = Engine::new(policy);
    let all: Set = [1, 2, 3].into();
    fires(&mut engine, 0, &all);
    message(&mut engine, 15);
    let mut told = Vec::new();
    for at in (20..=900).step_by(10) {
        let effects = fires(&mut engine, at, &all);
        told.extend(
            reasons(&effects.sends)
                .into_iter()
                .map(|reason| (at, reason)),
        );
        engine.accept_all(at);
    }
    assert_eq!(told, [(620, "repeat"); 3]);
}

/// "If the current alert group and last notification contain no firing alert, it means that some alerts
/// have been fired and resolved during the last interval": nobody hears of them.
#[test]
fn what_fires_and_resolves_between_two_messages_is_not_told() {
    let mut engine = Engine::new(grouped());
    let one: Set = [1].into();
    fires(&mut engine, 0, &one);
    assert!(message(&mut engine, 19).is_some());
    fires(&mut engine, 20, &Set::new());
    assert_eq!(message(&mut engine, 80), Some((0, 0, 1)));
    fires(&mut engine, 90, &[2, 3].into());
    fires(&mut engine, 100, &Set::new());
    assert_eq!(message(&mut engine, 300), None);
}
