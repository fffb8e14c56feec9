use super::*;
use proptest::prelude::*;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// `(seconds, value)`.
fn points(all: &[(u64, f64)]) -> Vec<Point> {
    let point = |&(secs, value): &(u64, f64)| Point {
        at: Moment(secs * 1000),
        value,
    };
    all.iter().map(point).collect()
}

fn window(at: u64, over: u64) -> Window {
    Window {
        at: Moment(at * 1000),
        over: Duration::from_secs(over),
        stale: Duration::from_secs(25),
    }
}

#[track_caller]
fn check(kind: Aggregate, all: &[(u64, f64)], (at, over): (u64, u64), expected: f64) {
    let got = aggregate(kind, &points(all), &window(at, over));
    let same = (got.is_nan() && expected.is_nan())
        || got == expected
        || (got - expected).abs() <= 1e-9 * expected.abs();
    assert!(
        same,
        "{kind:?} at {at} over {over}: {got}, expected {expected}"
    );
}

use Aggregate::*;

#[test]
fn increase_follows_the_words_of_the_product() {
    let counter = &[(0, 0.0), (60, 1.0), (120, 2.0), (180, 3.0)];
    // Scenario B04: 3 at 180 s; at 960 s the baseline is the point at 60 s.
    check(Increase, counter, (180, 900), 3.0);
    let held = &[(60, 1.0), (120, 2.0), (180, 3.0), (900, 3.0), (960, 3.0)];
    check(Increase, held, (960, 900), 2.0);
    check(Increase, held, (959, 900), 2.0);
    // A first point adds nothing.
    check(Increase, &[(100, 70.0)], (100, 60), 0.0);
    check(Increase, &[(100, 70.0), (110, 75.0)], (110, 60), 5.0);
    // The baseline is at or before the start, however old.
    check(
        Increase,
        &[(10, 5.0), (40, 7.0), (100, 12.0)],
        (100, 60),
        5.0,
    );
    check(Increase, &[(10, 5.0), (100, 12.0)], (100, 60), 7.0);
    // Reset: up to 10, then 0 -> 3, then 1 -> 1.
    check(
        Increase,
        &[(0, 8.0), (10, 10.0), (20, 3.0), (30, 1.0)],
        (30, 30),
        2.0 + 3.0 + 1.0,
    );
    // Unknown in between.
    check(Increase, &[(0, 8.0), (10, NAN), (20, 11.0)], (20, 20), 3.0);
    check(Increase, &[(0, NAN), (10, 4.0), (20, 11.0)], (20, 20), 7.0);
    check(Increase, &[(0, 8.0), (10, NAN)], (10, 5), NAN);
    check(Increase, &[], (10, 5), NAN);
    check(Increase, &[(0, 8.0)], (100, 60), NAN);
    check(Rate, &[(0, 8.0), (10, 14.0), (60, 38.0)], (60, 60), 0.5);
}

#[test]
fn time_weighs_not_the_number_of_points() {
    // 10 for 10 s, then 40 for 20 s; the point at the end has not held yet.
    let all = &[(0, 10.0), (10, 40.0), (30, 1000.0)];
    check(Avg, all, (30, 30), 30.0);
    check(Stddev, all, (30, 30), 200.0_f64.sqrt());
    check(Quantile(50), all, (30, 30), 40.0);
    check(Quantile(33), all, (30, 30), 10.0);
    check(Max, all, (30, 30), 1000.0);
    // One second later it has.
    check(
        Avg,
        all,
        (31, 30),
        (9.0 * 10.0 + 20.0 * 40.0 + 1000.0) / 30.0,
    );
    // The baseline counts from the start only: 5 s of 10, 15 s of 40.
    check(Avg, all, (25, 20), 32.5);
    check(Min, all, (25, 20), 10.0);
    // It stops counting with the first point inside.
    check(Avg, all, (30, 20), 40.0);
    check(Min, all, (30, 20), 40.0);
}

#[test]
fn gaps_weigh_nothing() {
    // 10 holds 20 s; then a gap of 60 s; then 30 holds 10 s.
    let all = &[(0, 10.0), (20, 99.0), (80, 30.0), (90, 30.0)];
    check(Avg, all, (90, 90), (20.0 * 10.0 + 10.0 * 30.0) / 30.0);
    check(Quantile(99), all, (90, 90), 30.0);
    // Yet the value was there.
    check(Max, all, (90, 90), 99.0);
    // The end is a gap too when nothing came for too long.
    check(Avg, &[(0, 10.0), (20, 99.0)], (80, 90), 10.0);
    // The baseline is stale.
    check(Avg, &[(0, 10.0), (60, 20.0)], (60, 30), 20.0);
    check(Min, &[(0, 10.0), (60, 20.0)], (60, 30), 20.0);
    check(Avg, &[(0, 10.0)], (60, 30), NAN);
    check(Max, &[(0, 10.0)], (60, 30), NAN);
    // Nothing inside, but the baseline holds.
    check(Avg, &[(0, 10.0)], (20, 10), 10.0);
    check(Max, &[(0, 10.0)], (20, 10), 10.0);
    check(Last, &[(0, 10.0)], (20, 10), NAN);
    check(Count, &[(0, 10.0)], (20, 10), 0.0);
}

#[test]
fn unknown_is_skipped_and_ends_what_held() {
    let all = &[(0, 10.0), (10, NAN), (20, 40.0), (30, 7.0)];
    check(Avg, all, (30, 30), 25.0);
    check(Count, all, (30, 30), 2.0);
    check(Sum, all, (30, 30), 47.0);
    check(Last, &[(0, 1.0), (10, 2.0), (20, NAN)], (20, 20), 2.0);
    check(Min, &[(0, NAN), (10, 2.0)], (10, 10), 2.0);
    for kind in [
        Avg,
        Min,
        Max,
        Sum,
        Last,
        Increase,
        Rate,
        Delta,
        Quantile(95),
        Stddev,
        Changes,
    ] {
        check(kind, &[(0, NAN), (10, NAN)], (10, 20), NAN);
        check(kind, &[], (10, 20), NAN);
    }
    check(Count, &[(10, NAN)], (10, 20), 0.0);
}

#[test]
fn one_point_is_its_own_average() {
    for kind in [Avg, Min, Max, Sum, Last, Quantile(50), Quantile(99)] {
        check(kind, &[(10, 5.0)], (10, 60), 5.0);
    }
    check(Stddev, &[(10, 5.0)], (10, 60), 0.0);
    check(Count, &[(10, 5.0)], (10, 60), 1.0);
    for kind in [Delta, Changes, Increase, Rate] {
        check(kind, &[(10, 5.0)], (10, 60), 0.0);
    }
}

#[test]
fn the_window_is_open_at_its_start() {
    let all = &[(0, 1.0), (10, 2.0), (20, 4.0), (30, 8.0), (40, 16.0)];
    check(Sum, all, (30, 20), 12.0);
    check(Count, all, (30, 20), 2.0);
    check(Sum, all, (30, 21), 14.0);
    check(Delta, all, (30, 20), 6.0);
    check(Delta, all, (30, 300), 7.0);
    check(Last, all, (30, 20), 8.0);
    check(
        Changes,
        &[(0, 1.0), (10, 1.0), (20, 2.0), (30, 1.0)],
        (30, 20),
        2.0,
    );
    check(Delta, &[(0, 9.0), (10, 4.0)], (10, 10), -5.0);
}

#[test]
fn quantiles_are_values_that_were_there() {
    let all: Vec<(u64, f64)> = (0..=100).map(|n| (n, ((n * 37) % 100) as f64)).collect();
    check(Quantile(50), &all, (100, 100), 49.0);
    check(Quantile(95), &all, (100, 100), 94.0);
    check(Quantile(99), &all, (100, 100), 98.0);
    check(Quantile(100), &all, (100, 100), 99.0);
    check(Quantile(0), &all, (100, 100), 0.0);
}

#[test]
fn infinite_values_count_as_values() {
    check(Avg, &[(0, 1.0), (10, INF)], (10, 10), 1.0);
    check(Avg, &[(0, 1.0), (10, INF), (20, 1.0)], (20, 20), INF);
    check(Max, &[(0, 1.0), (10, INF)], (10, 10), INF);
    check(
        Quantile(50),
        &[(0, 1.0), (10, INF), (20, 1.0)],
        (20, 20),
        1.0,
    );
}

/// Points up to 30 s apart, values with some NaN.
fn any_points() -> impl Strategy<Value = Vec<Point>> {
    let value = prop_oneof![9 => (-1000..1000_i32).prop_map(f64::from), 1 => Just(NAN)];
    proptest::collection::vec((1..30_000_u64, value), 0..40).prop_map(|steps| {
        let mut at = 1_000_000;
        let mut all = Vec::new();
        for (step, value) in steps {
            at += step;
            let at = Moment(at);
            all.push(Point { at, value });
        }
        all
    })
}

fn any_kind() -> impl Strategy<Value = Aggregate> {
    prop_oneof![
        Just(Avg),
        Just(Min),
        Just(Max),
        Just(Sum),
        Just(Last),
        Just(Count),
        Just(Increase),
        Just(Rate),
        Just(Delta),
        Just(Stddev),
        Just(Changes),
        (0..=100_u8).prop_map(Quantile)
    ]
}

fn of(at: u64, over: u64) -> Window {
    Window {
        at: Moment(at),
        over: Duration::from_millis(over),
        stale: Duration::from_secs(25),
    }
}

proptest! {
    #[test]
    fn increase_adds_up(all in any_points(), first in 1..600_000_u64, second in 1..600_000_u64) {
        let at = 1_600_000;
        let of = |window: Window| {
            let sum = increase(&all, &window);
            if sum.is_nan() { 0.0 } else { sum }
        };
        let whole = of(self::of(at, first + second));
        let parts = of(self::of(at - second, first)) + of(self::of(at, second));
        prop_assert!((whole - parts).abs() < 1e-6, "{whole} is not {parts}");
    }

    #[test]
    fn means_lie_between_the_extremes(all in any_points(), at in 1_000_000..2_000_000_u64, over in 1..900_000_u64, percent in 0..=100_u8) {
        let window = of(at, over);
        let (low, high) = (min(&all, &window), max(&all, &window));
        for value in [avg(&all, &window), quantile(&all, &window, f64::from(percent) / 100.0)] {
            prop_assert_eq!(value.is_nan(), low.is_nan());
            prop_assert!(value.is_nan() || (low - 1e-9..=high + 1e-9).contains(&value), "{low} {value} {high}");
        }
        let spread = stddev(&all, &window);
        prop_assert!(spread.is_nan() || spread <= (high - low) / 2.0 + 1e-9);
    }

    #[test]
    fn shifting_time_changes_nothing(all in any_points(), kind in any_kind(), at in 1_000_000..2_000_000_u64, over in 1..900_000_u64, shift in 0..u64::from(u32::MAX)) {
        let later: Vec<Point> = all.iter().map(|p| Point { at: Moment(p.at.0 + shift), ..*p }).collect();
        let one = aggregate(kind, &all, &of(at, over));
        let other = aggregate(kind, &later, &of(at + shift, over));
        prop_assert_eq!(one.to_bits(), other.to_bits());
    }

    #[test]
    fn what_lies_outside_is_not_seen(all in any_points(), kind in any_kind(), at in 1_000_000..2_000_000_u64, over in 1..900_000_u64) {
        let window = of(at, over);
        let until: Vec<Point> = all.iter().copied().filter(|p| p.at.0 <= at).collect();
        let baseline = until.iter().rposition(|p| p.at.0 + over <= at && !p.value.is_nan());
        let from = &until[baseline.unwrap_or(0)..];
        prop_assert_eq!(aggregate(kind, &all, &window).to_bits(), aggregate(kind, from, &window).to_bits());
    }
}
