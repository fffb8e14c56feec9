//! Silences that recur, end by themselves, are refused, and are bounded.

use crate::common::*;
use crate::hours::{check, did, give, round_at, schedule};
use std::sync::Arc;
use watchfire_engine::effect::Table;
use watchfire_engine::input::{CommandKind, Input, LabelTest, Silence};
use watchfire_engine::model::{Severity, WallTime};
use watchfire_engine::policy::{Mode, Regexes, TextPattern};
use watchfire_engine::silence::{
    ENDED_MAX, KEPT, LENGTH_MAX, Refusal, SILENCES_MAX, SilenceStanding,
};

fn standing(engine: &Engine, id: &str, at: u64) -> Option<SilenceStanding> {
    let mut all = engine.state.silences();
    let kept = all.find(|kept| &*kept.silence.id == id)?;
    Some(kept.standing(now(at).wall))
}

/// Mutes while the schedule `night` is open.
pub(crate) fn nightly() -> Silence {
    Silence {
        schedule: Some("night".into()),
        ..silence("n", 0, 1_000)
    }
}

#[test]
fn a_silence_recurs_by_its_schedule() {
    let mut policy = policy();
    policy.calendar.schedules = vec![schedule("night", 30, 60)];
    policy.procedures = vec![procedure(Mode::Auto)];
    let mut engine = Engine::new(policy);
    give(&mut engine, 0, nightly());
    check(
        &mut engine,
        &[
            (30, CRITICAL, &[]),
            (50, CRITICAL, &[]),
            (60, CRITICAL, &["fire default late"]),
        ],
    );
    assert_eq!(engine.attempts.len(), 1, "recovery waited, too");
    // A schedule that went away mutes nothing.
    engine.policy.calendar.schedules.clear();
    engine.feed(61, Input::Reload);
    check(
        &mut engine,
        &[
            (70, &[], &["resolve default"]),
            (80, WARNING, &["fire default"]),
        ],
    );
}

#[test]
fn a_silence_ends_with_what_it_covered() {
    let mut engine = Engine::new(policy());
    let until_over = Silence {
        on_resolve: true,
        ..silence("r", 0, 1_000)
    };
    give(&mut engine, 0, until_over);
    check(&mut engine, &[(10, &[], &[]), (20, WARNING, &[])]);
    engine.restart(25);
    check(&mut engine, &[(30, WARNING, &[])]);
    let over = engine.feed(40, round(vec![observation(&instance("0"), Some(&[]))]));
    assert_eq!(did(&over), ["silence r is over: resolved"]);
    assert_eq!(standing(&engine, "r", 40), Some(SilenceStanding::Expired));
    check(&mut engine, &[(50, WARNING, &["fire default"])]);
    // For good, over a restart as well.
    engine.restart(55);
    assert_eq!(standing(&engine, "r", 55), Some(SilenceStanding::Expired));
}

#[test]
fn a_silence_ends_when_it_has_nothing_to_do() {
    let mut engine = Engine::new(policy());
    let unless_idle = Silence {
        idle: Some(secs(30)),
        ..silence("i", 20, 1_000)
    };
    give(&mut engine, 0, unless_idle);
    let quiet: &[Severity] = &[];
    check(
        &mut engine,
        &[
            (0, quiet, &[]),
            (10, quiet, &[]),
            (20, quiet, &[]),
            (40, WARNING, &[]),
        ],
    );
    check(&mut engine, &[(50, quiet, &[]), (70, quiet, &[])]);
    assert_eq!(
        standing(&engine, "i", 70),
        Some(SilenceStanding::Active),
        "20 s idle"
    );
    engine.restart(72);
    check(&mut engine, &[(80, quiet, &[])]);
    assert_eq!(standing(&engine, "i", 80), Some(SilenceStanding::Expired));
    let kept = engine.state.silences().next().expect("still shown");
    assert_eq!(kept.ended.as_ref().map(|end| &*end.why), Some("idle"));
    assert_eq!(kept.ends_at(), now(80).wall);
}

#[test]
fn labels_of_a_silence_match_exactly_by_pattern_or_not() {
    let mut policy = policy();
    policy.regexes = Regexes::new(|text| {
        // One letter is all that this needs to understand.
        let text: Arc<str> = text.into();
        (text.len() == 1).then(|| {
            let wanted = text.clone();
            TextPattern::Predicate(text, Arc::new(move |value| value.starts_with(&*wanted)))
        })
    });
    let test = |name: &str, value: &str, regex: bool, negated: bool| LabelTest {
        name: name.into(),
        value: value.into(),
        regex,
        negated,
    };
    for (test, covers) in [
        (test("i", "0", false, false), true),
        (test("i", "1", false, false), false),
        (test("i", "1", false, true), true),
        (test("i", "0", true, false), true),
        (test("i", "0", true, true), false),
        (test("alertname", "cpu", false, false), true),
        (test("rule", "c", true, false), true),
        (test("severity", "warning", false, false), true),
        (test("severity", "critical", false, false), false),
        (test("absent", "", false, false), true),
        (test("absent", "", false, true), false),
    ] {
        let mut engine = Engine::new(policy.clone());
        let silence = Silence {
            rules: Vec::new(),
            labels: vec![test.clone()],
            ..silence("l", 0, 1_000)
        };
        give(&mut engine, 0, silence);
        engine.restart(5);
        let told = round_at(&mut engine, 10, WARNING);
        assert_eq!(told.is_empty(), covers, "{test:?}");
    }
    let pattern = Silence {
        labels: vec![test("i", "a long one", true, false)],
        ..silence("x", 0, 10)
    };
    assert_eq!(
        pattern.check(&policy),
        Err(Refusal::NoRegex("a long one".into()))
    );
}

#[test]
fn what_a_silence_lacks_is_refused() {
    let policy = policy();
    let good = silence("s", 0, 10);
    assert_eq!(good.check(&policy), Ok(()));
    let year = u64::try_from(LENGTH_MAX.as_millis()).expect("a year");
    let cases: [(Silence, Refusal); 8] = [
        (
            Silence {
                owner: " ".into(),
                ..good.clone()
            },
            Refusal::Lacks("owner"),
        ),
        (
            Silence {
                reason: "".into(),
                ..good.clone()
            },
            Refusal::Lacks("reason"),
        ),
        (
            Silence {
                rules: Vec::new(),
                ..good.clone()
            },
            Refusal::MatchesAll,
        ),
        (
            Silence {
                until: good.from,
                ..good.clone()
            },
            Refusal::Backwards,
        ),
        (
            Silence {
                until: WallTime(good.from.0 + year + 1),
                ..good.clone()
            },
            Refusal::TooLong,
        ),
        (
            Silence {
                reason: "x".repeat(5_000).into(),
                ..good.clone()
            },
            Refusal::TooLarge("reason"),
        ),
        (
            Silence {
                rules: vec!["a".into(); 65],
                ..good.clone()
            },
            Refusal::TooLarge("list of rules"),
        ),
        (
            Silence {
                schedule: Some("x".into()),
                ..good.clone()
            },
            Refusal::NoSchedule("x".into()),
        ),
    ];
    for (silence, wanted) in cases {
        assert_eq!(silence.check(&policy), Err(wanted.clone()));
        let mut engine = Engine::new(policy.clone());
        let did = give(&mut engine, 0, silence);
        assert_eq!(did, format!("silence s refused: {wanted}"));
        assert_eq!(engine.state.silences().count(), 0);
    }
    let longest = Silence {
        until: WallTime(good.from.0 + year),
        ..good
    };
    assert_eq!(longest.check(&policy), Ok(()));
}

#[test]
fn an_ended_silence_is_shown_for_a_while_and_then_forgotten() {
    let mut engine = Engine::new(policy());
    give(&mut engine, 0, silence("a", 0, 1_000));
    let end = |engine: &mut Engine, at| {
        did(&engine.command(at, CommandKind::Unsilence { id: "a".into() })).remove(0)
    };
    assert_eq!(end(&mut engine, 5), "ended silence a");
    assert_eq!(
        end(&mut engine, 6),
        "ended silence a, which is not there or over"
    );
    let kept = engine.state.silences().next().expect("still shown");
    assert_eq!(
        kept.ended.as_ref().map(|end| &*end.why),
        Some("by operator")
    );
    check(&mut engine, &[(10, WARNING, &["fire default"])]);
    let gone = 5 + KEPT.as_secs();
    check(&mut engine, &[(gone - 1, &[], &["resolve default"])]);
    assert_eq!(engine.state.silences().count(), 1);
    check(&mut engine, &[(gone, &[], &[])]);
    assert_eq!(engine.state.silences().count(), 0);
    let rows = engine
        .rows
        .keys()
        .filter(|(table, _)| *table == Table::Silence);
    assert_eq!(rows.count(), 0, "its row is gone, too");
}

#[test]
fn the_number_of_silences_is_bounded() {
    let mut engine = Engine::new(policy());
    for n in 0..SILENCES_MAX {
        give(&mut engine, 0, silence(&format!("s{n:04}"), 0, 100));
    }
    assert_eq!(engine.state.silences().count(), SILENCES_MAX);
    let refused = give(&mut engine, 1, silence("more", 0, 100));
    assert!(
        refused.contains("refused") && refused.contains("1000"),
        "{refused}"
    );
    // One that is there may be changed, and over ones make room.
    assert_eq!(
        give(&mut engine, 1, silence("s0000", 0, 50)),
        "silence s0000: test"
    );
    assert_eq!(
        give(&mut engine, 60, silence("more", 0, 100)),
        "silence more: test"
    );
    for n in 0..SILENCES_MAX {
        give(&mut engine, 101, silence(&format!("t{n:04}"), 101, 200));
    }
    round_at(&mut engine, 201, &[]);
    assert_eq!(engine.state.silences().count(), ENDED_MAX);
    assert!(
        standing(&engine, "s0000", 201).is_none(),
        "the oldest go first"
    );
    assert!(standing(&engine, "t0999", 201).is_some());
}
