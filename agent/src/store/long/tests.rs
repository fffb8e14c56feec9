use super::*;
use crate::store::window;
use proptest::prelude::*;

const STALE: Duration = Duration::from_secs(25);

const ALL: &[Aggregate] = &[
    Aggregate::Avg,
    Aggregate::Min,
    Aggregate::Max,
    Aggregate::Sum,
    Aggregate::Last,
    Aggregate::Count,
    Aggregate::Increase,
    Aggregate::Rate,
    Aggregate::Delta,
    Aggregate::Quantile(0),
    Aggregate::Quantile(50),
    Aggregate::Quantile(90),
    Aggregate::Quantile(99),
    Aggregate::Quantile(100),
    Aggregate::Stddev,
    Aggregate::Changes,
];

fn shape(over_ms: u64, kind: Aggregate) -> Shape {
    Shape {
        over: Duration::from_millis(over_ms),
        kept: kind.into(),
    }
}

/// The window that the buckets stand for: its start on the nearest border.
fn rounded(shape: Shape, at: u64) -> Window {
    let width = shape.width();
    let start = at.saturating_sub(shape.over_ms());
    let start = (start + width / 2) / width * width;
    assert!(start.abs_diff(at.saturating_sub(shape.over_ms())) <= width / 2 + 1);
    Window {
        at: Moment(at),
        over: Duration::from_millis(at - start),
        stale: STALE,
    }
}

/// Whether any value held for some time within the window.
fn held(points: &[Point], window: &Window) -> bool {
    let start = window.at - window.over;
    let until = |n: usize| points.get(n + 1).map_or(window.at, |next| next.at);
    points.iter().enumerate().any(|(n, point)| {
        let until = until(n);
        let known = !point.value.is_nan() && until.since(point.at) <= window.stale;
        known && until > point.at.max(start)
    })
}

#[track_caller]
fn check(kind: Aggregate, points: &[Point], at: u64, over_ms: u64) {
    let shape = shape(over_ms, kind);
    let mut body = Body::new(shape);
    points.iter().for_each(|point| body.push(*point, STALE));
    let declared = Window {
        at: Moment(at),
        over: Duration::from_millis(over_ms),
        stale: STALE,
    };
    let got = body.aggregate(kind, &declared);
    let window = rounded(shape, at);
    let mut exact = window::aggregate(kind, points, &window);
    if kind == Aggregate::Rate {
        // The increase is that of the window as it was rounded, the divisor the declared one.
        exact *= window.over.as_secs_f64() / declared.over.as_secs_f64();
    }
    let weighted = matches!(
        kind,
        Aggregate::Avg | Aggregate::Quantile(_) | Aggregate::Stddev
    );
    if weighted && !held(points, &window) {
        // The documented exception.
        let last = window::last(points, &window);
        exact = match kind {
            Aggregate::Stddev if !last.is_nan() => 0.0,
            _ => last,
        };
    }
    let tolerance = match kind {
        Aggregate::Quantile(_) => 0.0201 * exact.abs(),
        // Single values reach 1,000, squares a million.
        Aggregate::Stddev => 1e-6,
        _ => 1e-9 * exact.abs().max(1000.0),
    };
    let same = (got.is_nan() && exact.is_nan()) || (got - exact).abs() <= tolerance;
    assert!(
        same,
        "{kind:?} over {over_ms} ms at {at}: {got}, exact {exact}"
    );
    if matches!(kind, Aggregate::Quantile(_)) && !got.is_nan() {
        assert!(points.iter().any(|point| point.value == got));
    }
}

/// Points mostly a few seconds apart, with some gaps, some NaN, some resets.
fn any_points() -> impl Strategy<Value = Vec<Point>> {
    let value = prop_oneof![9 => (-1000..1000_i32).prop_map(f64::from), 1 => Just(f64::NAN)];
    let step = prop_oneof![12 => 1..25_001_u64, 1 => 25_001..400_000_u64];
    (
        0..3_000_000_u64,
        proptest::collection::vec((step, value), 0..150),
    )
        .prop_map(|(start, steps)| {
            let mut at = start;
            let mut all = Vec::new();
            for (step, value) in steps {
                at += step;
                let at = Moment(at);
                all.push(Point { at, value });
            }
            all
        })
}

proptest! {
    #[test]
    fn buckets_say_what_the_points_say(points in any_points(), over in 1..2_000_000_u64, later in 0..60_000_u64) {
        let at = points.last().map_or(1_000, |point| point.at.0) + later;
        for kind in ALL {
            check(*kind, &points, at, over);
        }
    }

    /// The same at every step on the way, so that nothing goes too early.
    #[test]
    fn they_say_so_at_every_step(points in any_points(), over in 1..600_000_u64, kind in 0..ALL.len()) {
        for n in 1..=points.len() {
            check(ALL[kind], &points[..n], points[n - 1].at.0, over);
        }
    }

    /// A past that is read back and the points since make what an unbroken run would have.
    #[test]
    fn the_seam_is_not_seen(points in any_points(), over in 1..600_000_u64, kind in 0..ALL.len(), cut in 0.0..1.0_f64, read in 0.0..1.0_f64) {
        prop_assume!(!points.is_empty());
        let kind = ALL[kind];
        let shape = shape(over, kind);
        let cut = (points.len() as f64 * cut) as usize;
        let read = cut + ((points.len() - cut) as f64 * read) as usize;
        let mut whole = Long::new(shape, false);
        points.iter().for_each(|point| whole.push(*point, STALE));
        let mut long = Long::new(shape, true);
        points[..cut].iter().for_each(|point| long.push(*point, STALE));
        prop_assert!(long.wants_past());
        long.asked(7);
        points[cut..read].iter().for_each(|point| long.push(*point, STALE));
        let window = Window {
            at: points[points.len() - 1].at,
            over: shape.over,
            stale: STALE,
        };
        prop_assert!(long.aggregate(kind, &window).is_nan());
        let mut past = Body::new(shape);
        points[..cut].iter().for_each(|point| past.push(*point, STALE));
        long.fill(6, Body::new(shape));
        prop_assert!(long.past != Past::In, "an answer to another question");
        long.fill(7, past);
        points[read..].iter().for_each(|point| long.push(*point, STALE));
        let (one, other) = (long.aggregate(kind, &window), whole.aggregate(kind, &window));
        prop_assert_eq!(one.to_bits(), other.to_bits());
    }
}

#[test]
fn a_day_takes_little_memory() {
    let day = 86_400_000;
    for kind in ALL {
        let shape = shape(day, *kind);
        let mut long = Long::new(shape, false);
        for n in 0..30_000_u64 {
            let value = 50.0 + 10.0 * (n as f64 / 300.0).sin();
            let at = Moment(n * 10_000);
            long.push(Point { at, value }, STALE);
        }
        let bytes = long.bytes();
        assert!(bytes < 24_000, "{kind:?}: {bytes}");
        // What is set aside is about what is taken.
        let set_aside = shape.bytes();
        assert!(bytes <= 2 * set_aside, "{kind:?}: {bytes} of {set_aside}");
    }
}

#[test]
fn points_are_thinned_to_one_a_bucket() {
    let shape = Shape {
        over: Duration::from_secs(2_400),
        kept: Kept::Points,
    };
    let mut long = Long::new(shape, false);
    for n in 0..1_000_u64 {
        let at = Moment(n * 5_000);
        long.push(
            Point {
                at,
                value: n as f64,
            },
            STALE,
        );
    }
    let since = Moment(4_995_000 - 2_400_000);
    let mut points = Vec::new();
    long.points(since, &mut points);
    assert_eq!(points.len(), 241);
    assert_eq!(points[240].value, 999.0);
    assert!(points.iter().all(|point| point.at > since));
    assert!(points.iter().all(|p| p.value * 5_000.0 == p.at.0 as f64));
}

#[test]
fn a_past_that_takes_too_long_is_asked_for_again() {
    let mut long = Long::new(shape(10_000_000, Aggregate::Count), true);
    long.asked(1);
    let mut at = 0;
    while !long.wants_past() {
        at += 10_000;
        let point = Point {
            at: Moment(at),
            value: 1.0,
        };
        long.push(point, STALE);
    }
    assert_eq!(at, (WAITING_MAX as u64 + 1) * 10_000);
    assert!(long.waiting.is_empty());
}
