use super::*;
use crate::config::Aggregate;
use crate::sandbox::types::{CallError, Point as Sample};
use crate::store::long::Kept;
use crate::store::window::Window;
use proptest::prelude::*;
use std::collections::HashSet;
use watchfire_engine::policy::TextPattern;

fn series(metric: &str, labels: &[(&str, &str)]) -> Series {
    Series {
        metric: metric.into(),
        labels: Labels::new(labels.iter().copied()).unwrap(),
    }
}

/// Metric, labels, value.
type Given<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

fn collection(samples: &[Given<'_>]) -> Collection {
    let mut families: Vec<Family> = Vec::new();
    for (metric, labels, value) in samples {
        let sample = Sample {
            series: series(metric, labels),
            value: *value,
        };
        match families
            .last_mut()
            .filter(|family| *family.metric == **metric)
        {
            Some(family) => family.points.push(sample),
            None => families.push(Family {
                metric: (*metric).into(),
                kind: FamilyKind::Gauge,
                help: format!("help of {metric}").into(),
                points: vec![sample],
            }),
        }
    }
    Collection {
        families,
        failures: Vec::new(),
    }
}

fn secs(at: u64) -> Moment {
    Moment(at * 1000)
}

fn probe(name: &str) -> ProbeId {
    ProbeId::new(name)
}

fn host() -> Labels {
    Labels::new([("host", "h1")]).unwrap()
}

fn exact(name: &str, value: &str) -> LabelMatcher {
    LabelMatcher {
        name: name.into(),
        any_of: vec![TextPattern::Exact(value.into())],
    }
}

fn need(metric: &str, over: u64, kept: Kept) -> Need {
    Need {
        metric: metric.into(),
        matches: Vec::new(),
        over: Duration::from_secs(over),
        kept,
    }
}

fn names(history: &mut History, metric: &str) -> Vec<String> {
    let ids = history.select(metric, &[]);
    ids.iter()
        .map(|id| history.series(*id).unwrap().to_string())
        .collect()
}

fn one(history: &mut History, metric: &str) -> SeriesId {
    let ids = history.select(metric, &[]);
    assert_eq!(ids.len(), 1);
    ids[0]
}

fn values(history: &History, id: SeriesId) -> Vec<f64> {
    let mut points = Vec::new();
    history.points(id, Moment(0), &mut points);
    points.iter().map(|point| point.value).collect()
}

#[test]
fn the_hosts_labels_win_and_series_are_sorted() {
    let mut history = History::new(Limits::default());
    let answer = collection(&[
        ("disk", &[("d", "b"), ("host", "liar")], 1.0),
        ("disk", &[("d", "a")], 2.0),
        ("load", &[], 3.0),
    ]);
    let absorbed = history.absorb(&probe("p"), secs(10), &answer, &host());
    assert_eq!((absorbed.taken, absorbed.new), (3, 3));
    assert_eq!(
        names(&mut history, "disk"),
        [r#"disk{d="a",host="h1"}"#, r#"disk{d="b",host="h1"}"#]
    );
    assert_eq!(names(&mut history, "nothing"), [""; 0]);
    let id = one(&mut history, "load");
    assert_eq!(
        history.last(id),
        Some(Point {
            at: secs(10),
            value: 3.0
        })
    );
    assert_eq!(history.probe(id), Some(&probe("p")));
    assert_eq!(history.previous(id), None);
}

#[test]
fn answers_in_any_order_reach_their_series() {
    let mut history = History::new(Limits::default());
    let labels: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let mut at = 0;
    let mut round = |history: &mut History, picked: &[usize]| {
        at += 10;
        let pairs: Vec<_> = picked.iter().map(|n| [("n", &*labels[*n])]).collect();
        let samples: Vec<_> = picked
            .iter()
            .zip(&pairs)
            .map(|(n, pair)| ("m", &pair[..], (at * 1000 + *n as u64) as f64))
            .collect();
        history.absorb(&probe("p"), secs(at), &collection(&samples), &host());
        let ids = history.select("m", &[]);
        for id in ids.iter() {
            let n: usize = history
                .series(*id)
                .unwrap()
                .labels
                .get("n")
                .unwrap()
                .parse()
                .unwrap();
            let last = history.last(*id).unwrap();
            let wanted = if picked.contains(&n) {
                Presence::Now
            } else {
                Presence::Absent
            };
            assert_eq!(history.presence(*id), wanted, "{n} at {at}");
            if wanted == Presence::Now {
                assert_eq!(last.value, (at * 1000 + n as u64) as f64);
            }
        }
        ids.len()
    };
    let all: Vec<usize> = (0..40).collect();
    assert_eq!(round(&mut history, &all[..20]), 20);
    assert_eq!(round(&mut history, &all[..20]), 20);
    // Some missing, some new in the middle, reversed, shortened, grown again.
    assert_eq!(round(&mut history, &[0, 1, 5, 6, 19, 25]), 21);
    assert_eq!(round(&mut history, &[3, 30, 2, 1]), 22);
    let reversed: Vec<usize> = all.iter().rev().copied().collect();
    assert_eq!(round(&mut history, &reversed), 40);
    assert_eq!(round(&mut history, &[]), 40);
    assert_eq!(round(&mut history, &all), 40);
    assert_eq!(round(&mut history, &all[..7]), 40);
    assert_eq!(round(&mut history, &all[..7]), 40);
}

#[test]
fn only_declared_windows_cost_memory() {
    let mut history = History::new(Limits::default());
    history.declare([need("a", 30, Kept::Mean), need("a", 20, Kept::Count)]);
    for n in 0..100 {
        let answer = collection(&[("a", &[], n as f64), ("b", &[], n as f64)]);
        history.absorb(&probe("p"), secs(n * 10), &answer, &host());
    }
    let (a, b) = (one(&mut history, "a"), one(&mut history, "b"));
    // Three in the window (960, 990], the baseline and what trimming left.
    assert_eq!(values(&history, a), [96.0, 97.0, 98.0, 99.0]);
    assert_eq!(values(&history, b), [98.0, 99.0]);
    let bytes = history.counts().point_bytes;
    assert!(0 < bytes && bytes < 500, "{bytes}");

    history.declare([need("b", 60, Kept::Mean)]);
    assert_eq!(values(&history, a), [98.0, 99.0]);
    for n in 100..103 {
        let answer = collection(&[("a", &[], n as f64), ("b", &[], n as f64)]);
        history.absorb(&probe("p"), secs(n * 10), &answer, &host());
    }
    assert_eq!(values(&history, b), [98.0, 99.0, 100.0, 101.0, 102.0]);

    let mut scratch = Vec::new();
    let window = Window {
        at: secs(1020),
        over: Duration::from_secs(20),
        stale: Duration::from_secs(25),
    };
    assert_eq!(
        history.aggregate(b, Aggregate::Increase, &window, &mut scratch),
        2.0
    );
    assert_eq!(
        history.aggregate(b, Aggregate::Avg, &window, &mut scratch),
        100.5
    );
}

#[test]
fn the_first_owner_of_a_series_keeps_it() {
    let mut history = History::new(Limits::default());
    let first = collection(&[("m", &[], 1.0)]);
    let second = collection(&[("m", &[], 2.0), ("n", &[], 3.0)]);
    history.absorb(&probe("one"), secs(10), &first, &host());
    for at in [10, 20] {
        let absorbed = history.absorb(&probe("two"), secs(at), &second, &host());
        assert_eq!((absorbed.taken, absorbed.duplicates), (1, 1));
    }
    let m = one(&mut history, "m");
    assert_eq!(history.last(m).unwrap().value, 1.0);
    assert_eq!(history.counts().duplicates_total, 2);
    // It is free when its owner goes.
    history.retain_probes(&HashSet::from([probe("two")]));
    let absorbed = history.absorb(&probe("two"), secs(30), &second, &host());
    assert_eq!((absorbed.taken, absorbed.new), (2, 1));
    let m = one(&mut history, "m");
    assert_eq!(history.last(m).unwrap().value, 2.0);
}

#[test]
fn newcomers_beyond_the_limit_are_refused() {
    let mut history = History::new(Limits {
        series_per_probe: 3,
        ..Limits::default()
    });
    let answer = collection(&[
        ("m", &[("n", "1")], 1.0),
        ("m", &[("n", "2")], 2.0),
        ("m", &[("n", "3")], 3.0),
        ("m", &[("n", "4")], 4.0),
    ]);
    let absorbed = history.absorb(&probe("p"), secs(10), &answer, &host());
    assert_eq!((absorbed.taken, absorbed.over_limit), (3, 1));
    // The known ones go on, also behind a newcomer; another probe has room of its own.
    let answer = collection(&[("m", &[("n", "9")], 9.0), ("m", &[("n", "2")], 22.0)]);
    let absorbed = history.absorb(&probe("p"), secs(20), &answer, &host());
    assert_eq!((absorbed.taken, absorbed.over_limit), (1, 1));
    assert_eq!(
        history
            .absorb(&probe("q"), secs(20), &answer, &host())
            .taken,
        1
    );
    assert_eq!(history.counts().over_limit_total, 2);
    assert_eq!(history.counts().series, 4);
}

#[test]
fn presence_tells_absence_from_failure() {
    let mut history = History::new(Limits::default());
    let p = probe("p");
    let both = collection(&[("a", &[], 1.0), ("b", &[], f64::NAN)]);
    history.absorb(&p, secs(10), &both, &host());
    let (a, b) = (one(&mut history, "a"), one(&mut history, "b"));
    assert_eq!(history.presence(a), Presence::Now);
    assert_eq!(history.presence(b), Presence::Now);
    assert!(history.last(b).unwrap().value.is_nan());
    history.failed(&p, secs(20));
    assert_eq!(history.presence(a), Presence::Unknown);
    let mut only_a = collection(&[("a", &[], 2.0)]);
    history.absorb(&p, secs(30), &only_a, &host());
    assert_eq!(history.presence(a), Presence::Now);
    assert_eq!(history.presence(b), Presence::Absent);
    only_a
        .failures
        .push(CallError::Internal("half of it".into()));
    history.absorb(&p, secs(40), &only_a, &host());
    assert_eq!(history.presence(a), Presence::Now);
    assert_eq!(history.presence(b), Presence::Unknown);
    history.absorb(&p, secs(50), &both, &host());
    assert_eq!(history.presence(b), Presence::Now);
}

#[test]
fn what_is_not_seen_for_long_is_forgotten() {
    let mut history = History::new(Limits::default());
    let p = probe("p");
    let both = collection(&[
        ("a", &[], 1.0),
        ("b", &[("x", "1")], 2.0),
        ("b", &[("x", "2")], 2.0),
    ]);
    let only_a = collection(&[("a", &[], 1.0)]);
    history.absorb(&p, secs(0), &both, &host());
    for at in 1..=120 {
        history.absorb(&p, secs(at * 60), &only_a, &host());
    }
    assert_eq!(history.select("b", &[]).len(), 2);
    let b = history.select("b", &[])[0];
    history.absorb(&p, secs(121 * 60), &only_a, &host());
    assert_eq!(history.select("b", &[]).len(), 0);
    assert_eq!(history.presence(b), Presence::Unknown);
    assert_eq!(history.counts().forgotten_total, 2);
    assert_eq!(history.families().count(), 1);
    // Ids are given again, and not mixed up.
    let other = collection(&[("a", &[], 5.0), ("c", &[], 6.0), ("b", &[("x", "1")], 7.0)]);
    let absorbed = history.absorb(&p, secs(122 * 60), &other, &host());
    assert_eq!((absorbed.taken, absorbed.new), (3, 2));
    for (metric, value) in [("a", 5.0), ("c", 6.0), ("b", 7.0)] {
        let id = one(&mut history, metric);
        assert_eq!(history.last(id).unwrap().value, value);
    }
    assert_eq!(history.entries.len(), 3);
    // A failing probe's series go too, in time.
    history.failed(&p, secs(244 * 60));
    assert_eq!(history.counts().series, 0);
    assert!(history.metrics.is_empty() && history.ids.is_empty());
}

#[test]
fn other_host_labels_are_other_series() {
    let mut history = History::new(Limits::default());
    let answer = collection(&[("a", &[], 1.0)]);
    history.absorb(&probe("p"), secs(10), &answer, &host());
    let moved = Labels::new([("host", "h2")]).unwrap();
    let absorbed = history.absorb(&probe("p"), secs(20), &answer, &moved);
    assert_eq!(absorbed.new, 1);
    assert_eq!(names(&mut history, "a"), [r#"a{host="h2"}"#]);
    assert_eq!(history.counts().series, 1);
}

#[test]
fn selections_follow_the_series() {
    let mut history = History::new(Limits::default());
    let p = probe("p");
    let answer = collection(&[("m", &[("x", "1")], 1.0), ("m", &[("y", "1")], 1.0)]);
    history.absorb(&p, secs(10), &answer, &host());
    let with_x = [exact("x", "1")];
    let without_x = [exact("x", ""), exact("host", "h1")];
    assert_eq!(history.select("m", &with_x).len(), 1);
    assert_eq!(history.select("m", &without_x).len(), 1);
    let cached = history.select("m", &with_x);
    assert!(Arc::ptr_eq(&cached, &history.select("m", &with_x)));
    history.absorb(&p, secs(20), &answer, &host());
    assert!(Arc::ptr_eq(&cached, &history.select("m", &with_x)));
    let more = collection(&[("m", &[("x", "1"), ("z", "1")], 1.0)]);
    history.absorb(&p, secs(30), &more, &host());
    assert_eq!(history.select("m", &with_x).len(), 2);
    let any = [LabelMatcher {
        name: "y".into(),
        any_of: vec![
            TextPattern::Exact("2".into()),
            TextPattern::Predicate("~[1]".into(), Arc::new(|text| text == "1")),
        ],
    }];
    assert_eq!(history.select("m", &any).len(), 1);
}

#[test]
fn families_are_shown_by_name_with_their_series() {
    let mut history = History::new(Limits::default());
    let mut answer = collection(&[("zz", &[], 1.0), ("http", &[], 1.0)]);
    answer.families[1].kind = FamilyKind::Histogram;
    for (suffix, labels) in [("http_sum", vec![]), ("http_bucket", vec![("le", "1")])] {
        answer.families[1].points.push(Sample {
            series: series(suffix, &labels),
            value: 4.0,
        });
    }
    answer.families[1].points.remove(0);
    history.absorb(&probe("p"), secs(10), &answer, &host());
    let shown: Vec<_> = history
        .families()
        .map(|family| {
            let series: Vec<_> = family
                .series
                .iter()
                .map(|(series, ..)| series.to_string())
                .collect();
            (family.metric, family.kind, family.help, series)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (
                "http",
                FamilyKind::Histogram,
                "help of http",
                vec![
                    r#"http_bucket{host="h1",le="1"}"#.into(),
                    r#"http_sum{host="h1"}"#.into()
                ]
            ),
            (
                "zz",
                FamilyKind::Gauge,
                "help of zz",
                vec![r#"zz{host="h1"}"#.into()]
            ),
        ]
    );
}

proptest! {
    /// What is trimmed away is never missed.
    #[test]
    fn a_kept_window_says_what_all_points_would(
        steps in proptest::collection::vec((1..40_000_u64, prop_oneof![3 => (0..50_i32).prop_map(f64::from), 1 => Just(f64::NAN)]), 1..120),
        over in 1..300_u64,
        shorter in 1..300_u64,
    ) {
        let mut history = History::new(Limits::default());
        let longest = Duration::from_secs(over.max(shorter));
        history.declare([need("m", longest.as_secs(), Kept::Mean)]);
        let mut all = Vec::new();
        let mut at = 500_000;
        for (step, value) in steps {
            at += step;
            all.push(Point { at: Moment(at), value });
            history.absorb(&probe("p"), Moment(at), &collection(&[("m", &[], value)]), &host());
            let id = one(&mut history, "m");
            for over in [over, shorter] {
                let window = Window {
                    at: Moment(at),
                    over: Duration::from_secs(over),
                    stale: Duration::from_secs(25),
                };
                for kind in [
                    Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Sum, Aggregate::Last,
                    Aggregate::Count, Aggregate::Increase, Aggregate::Rate, Aggregate::Delta,
                    Aggregate::Quantile(95), Aggregate::Stddev, Aggregate::Changes,
                ] {
                    let kept = history.aggregate(id, kind, &window, &mut Vec::new());
                    let whole = window::aggregate(kind, &all, &window);
                    prop_assert!(kept == whole || (kept.is_nan() && whole.is_nan()), "{:?}: {} is not {}", kind, kept, whole);
                }
            }
        }
    }
}

/// A history that asks for the past, with one series seen at second 1,000, and what it asks.
fn restarted() -> (History, SeriesId, Question) {
    let mut history = History::new(Limits::default());
    history.has_past();
    history.declare([need("m", 300, Kept::Points)]);
    let (probe, every) = (probe("p"), Duration::from_secs(10));
    history.expect(&probe, every);
    history.absorb(
        &probe,
        secs(1_000),
        &collection(&[("m", &[], 7.0)]),
        &host(),
    );
    let id = history.select("m", &[])[0];
    let mut asked = Vec::new();
    history.questions(|question| {
        asked.push(question);
        true
    });
    assert_eq!(asked.len(), 1);
    let question = asked.remove(0);
    assert_eq!(
        (question.over(), question.until),
        (Duration::from_secs(300), secs(1_000))
    );
    (history, id, question)
}

fn highest(history: &History, id: SeriesId, at: u64) -> f64 {
    let window = Window {
        at: secs(at),
        over: Duration::from_secs(300),
        stale: Duration::from_secs(25),
    };
    history.aggregate(id, Aggregate::Max, &window, &mut Vec::new())
}

#[test]
fn a_short_window_is_unknown_until_its_past_was_read_and_goes_on_from_it() {
    let (mut history, id, question) = restarted();
    assert!(highest(&history, id, 1_000).is_nan(), "asked for, not in");
    let mut back = Vec::new();
    history.back(id, secs(1_000), Duration::from_secs(300), &mut back);
    assert_eq!(back, []);
    history.absorb(
        &probe("p"),
        secs(1_010),
        &collection(&[("m", &[], 8.0)]),
        &host(),
    );
    let mut past = question.begin();
    for (at, value) in [(600, 90.0), (900, 50.0), (910, 60.0), (1_000, 99.0)] {
        past.push(secs(at), value);
    }
    history.fill(past.clone());
    // What was seen since counts as it was seen, and what lies before the window does not.
    assert_eq!(highest(&history, id, 1_010), 60.0);
    history.back(id, secs(1_010), Duration::from_secs(105), &mut back);
    let back: Vec<(u64, f64)> = back.iter().map(|p| (p.at.0 / 1_000, p.value)).collect();
    assert_eq!(
        back,
        [
            (600, 90.0),
            (900, 50.0),
            (910, 60.0),
            (1_000, 7.0),
            (1_010, 8.0)
        ]
    );
    history.absorb(
        &probe("p"),
        secs(1_215),
        &collection(&[("m", &[], 8.0)]),
        &host(),
    );
    assert_eq!(
        highest(&history, id, 1_215),
        8.0,
        "the past leaves the window"
    );
    history.fill(past);
    assert_eq!(highest(&history, id, 1_215), 8.0, "an answer counts once");
}

#[test]
fn a_disk_that_hangs_keeps_a_short_window_from_judging_for_a_minute() {
    let (mut history, id, question) = restarted();
    for at in (1_010..=1_060).step_by(10) {
        history.absorb(
            &probe("p"),
            secs(at),
            &collection(&[("m", &[], 8.0)]),
            &host(),
        );
        assert!(highest(&history, id, at).is_nan(), "at {at}");
    }
    history.absorb(
        &probe("p"),
        secs(1_070),
        &collection(&[("m", &[], 8.0)]),
        &host(),
    );
    assert_eq!(highest(&history, id, 1_070), 8.0);
    let mut past = question.begin();
    past.push(secs(990), 50.0);
    history.fill(past);
    assert_eq!(
        highest(&history, id, 1_070),
        50.0,
        "late is better than never"
    );
}
