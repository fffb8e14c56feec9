//! What is withheld: how it is called, from when on, and who forbids it.

use crate::common::*;
use crate::hours::schedule;
use watchfire_engine::Effects;
use watchfire_engine::effect::{Happening, Reason};
use watchfire_engine::model::{PerSeverity, Severity};

/// From whom, which message, at which severity, by whom.
fn withheld(effects: &Effects) -> impl Iterator<Item = (&str, Reason, Option<Severity>, &str)> {
    effects.events.iter().filter_map(|event| match &event.what {
        Happening::Suppressed {
            notifier,
            reason,
            severity,
            by,
        } => {
            let from = notifier.as_ref().map_or("", |id| id.as_str());
            Some((from, *reason, *severity, &**by))
        }
        _ => None,
    })
}

#[test]
fn a_muted_step_is_named_by_what_was_told_before() {
    const UP_TO_HIGH: &[Severity] = &[Severity::Low, Severity::Warning, Severity::High];
    // Told; then, muted: what it is now, and what that is called.
    for (told, now, reason) in [
        (CRITICAL, WARNING, Some(Reason::Deescalate)),
        (CRITICAL, UP_TO_HIGH, Some(Reason::Deescalate)),
        (CRITICAL, CRITICAL, None),
        (WARNING, UP_TO_HIGH, Some(Reason::Escalate)),
        (WARNING, CRITICAL, Some(Reason::Escalate)),
        (HEALTHY, CRITICAL, Some(Reason::Fire)),
        (CRITICAL, HEALTHY, None),
    ] {
        let mut engine = Engine::new(policy());
        turn(&mut engine, 0, told);
        engine.command(5, silenced(0, 500, None));
        let effects = turn(&mut engine, 10, now);
        let withheld = withheld(&effects).map(|(_, reason, severity, _)| (reason, severity));
        let wanted = reason.map(|reason| (reason, now.last().copied()));
        assert_eq!(
            withheld.collect::<Vec<_>>(),
            Vec::from_iter(wanted),
            "from {told:?} to {now:?}"
        );
    }
}

#[test]
fn a_repeat_is_withheld_when_it_is_due() {
    let mut policy = policy();
    policy.routes[0].repeat = PerSeverity::all(secs(60));
    let mut engine = Engine::new(policy);
    turn(&mut engine, 0, WARNING);
    engine.command(5, silenced(0, 500, None));
    for at in (10..100).step_by(10) {
        let effects = turn(&mut engine, at, WARNING);
        let wanted = (
            "default",
            Reason::Repeat,
            Some(Severity::Warning),
            "silence s",
        );
        let wanted = (at == 60).then_some(wanted);
        assert!(withheld(&effects).eq(wanted), "at {at}: {effects:?}");
    }
}

#[test]
fn a_closed_route_is_named_once_whether_others_are_open_or_not() {
    for both in [false, true] {
        let mut policy = policy();
        policy.calendar.schedules = vec![schedule("night", 0, 100)];
        let mut second = policy.routes[0].clone();
        policy.routes[0].carry_on = true;
        policy.routes[0].mute = vec!["night".into()];
        second.notify = vec!["spare".into()];
        if both {
            second.mute = vec!["night".into()];
        }
        policy.routes.push(second);
        let effects = turn(&mut Engine::new(policy), 0, WARNING);
        let by = |to| (to, Reason::Fire, Some(Severity::Warning), "schedule night");
        let wanted = [Some(by("default")), both.then(|| by("spare"))];
        assert!(
            withheld(&effects).eq(wanted.into_iter().flatten()),
            "{both}"
        );
    }
}
