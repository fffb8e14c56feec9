//! Lines, trails, and what is said about them.

use serde_json::{Value, json};

use super::*;

const HOUR: u64 = 3_600;

fn configure(config: &Value) -> Result<Forecast> {
    Forecast::configure(&config.to_string(), &["value"])
}

/// Points every ten seconds for `seconds`, the last one now; of `value` at seconds from the first.
fn points(seconds: u64, value: impl Fn(f64) -> f64) -> Vec<(u64, f64)> {
    (0..=seconds / 10)
        .map(|n| (n * 10_000, value((n * 10) as f64)))
        .collect()
}

fn judged(rule: &Forecast, points: &[(u64, f64)], active: Severities) -> Verdict {
    let &(now, value) = points.last().unwrap();
    let batch = Batch::of(&["value"])
        .at(Timestamp(now))
        .firing(&[value], active)
        .with_points("value", 0, points);
    rule.judge(&batch.instances().next().unwrap())
}

fn about(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() <= wanted.abs() * 0.02 + 1e-9
}

/// The value that a verdict shows.
fn shown(verdict: Verdict) -> f64 {
    let mut verdicts = Verdicts::default();
    verdicts.push(verdict);
    verdicts.value(0)
}

#[test]
fn testdata_is_judged_as_expected() {
    mock::judges_testdata::<Forecast>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn a_disk_that_fills_is_told_hours_before() {
    let rule = configure(&json!({"rises_to": 1.0, "within": {"warning": "24h", "critical": "4h"}}))
        .unwrap();
    // 5 % an hour: after an hour at 0.75 it is full in five.
    let slow = points(HOUR, |s| 0.70 + 0.05 * s / 3_600.0);
    let verdict = judged(&rule, &slow, Severities::NONE);
    assert_eq!(verdict.breached(), Some(Severity::Warning.into()));
    assert!(about(shown(verdict), 5.0 * 3_600.0));
    let fast = points(HOUR, |s| 0.70 + 0.08 * s / 3_600.0);
    let both = Severities::NONE
        .with(Severity::Warning)
        .with(Severity::Critical);
    assert_eq!(
        judged(&rule, &fast, Severities::NONE).breached(),
        Some(both)
    );
    for still in [
        points(HOUR, |_| 0.99),
        points(HOUR, |s| 0.99 - 0.01 * s / 3_600.0),
        points(HOUR, |s| 0.5 + 0.01 * s / 3_600.0),
    ] {
        assert_eq!(
            judged(&rule, &still, Severities::NONE).breached(),
            Some(Severities::NONE)
        );
    }
}

#[test]
fn one_rotation_of_a_log_does_not_turn_the_line() {
    let rule = configure(&json!({"falls_to": 0, "within": {"critical": "4h"}})).unwrap();
    // A hundred an hour; for five minutes a copy takes fifty more.
    let free = points(HOUR, |s| {
        400.0
            - 100.0 * s / 3_600.0
            - if (1_800.0..2_100.0).contains(&s) {
                50.0
            } else {
                0.0
            }
    });
    let verdict = judged(&rule, &free, Severities::NONE);
    assert!(about(shown(verdict), 3.0 * 3_600.0));
}

#[test]
fn noise_is_no_trend() {
    let rule = configure(&json!({"rises_to": 1.0, "within": {"critical": "4h"}})).unwrap();
    let mut seed = 7_u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as f64 / f64::from(u32::MAX >> 1) - 0.5
    };
    let values: Vec<f64> = (0..=360).map(|_| 0.8 + 0.2 * noise()).collect();
    let noisy = points(HOUR, |s| values[(s / 10.0) as usize]);
    assert_eq!(
        judged(&rule, &noisy, Severities::NONE).breached(),
        Some(Severities::NONE)
    );
}

#[test]
fn too_little_is_unknown_and_beyond_the_limit_is_not() {
    let rule = configure(&json!({"rises_to": 1.0, "within": {"critical": "4h"}})).unwrap();
    let young = points(20 * 60, |s| 0.5 + s / 3_600.0);
    assert_eq!(
        judged(&rule, &young, Severity::Critical.into()),
        Verdict::unknown()
    );
    let full = points(60, |_| 1.0);
    assert_eq!(
        judged(&rule, &full, Severities::NONE).breached(),
        Some(Severity::Critical.into())
    );
}

#[test]
fn clear_wants_more_time_than_within() {
    let rule = configure(
        &json!({"rises_to": 1.0, "within": {"critical": "4h"}, "clear": {"critical": "6h"}}),
    )
    .unwrap();
    let five = points(HOUR, |s| 0.70 + 0.05 * s / 3_600.0);
    assert_eq!(
        judged(&rule, &five, Severities::NONE).breached(),
        Some(Severities::NONE)
    );
    assert_eq!(
        judged(&rule, &five, Severity::Critical.into()).breached(),
        Some(Severity::Critical.into())
    );
}

#[test]
fn a_leak_grows_steadily_and_a_sawtooth_does_not() {
    let rule = configure(&json!({"grows_by": {"warning": 0.2}})).unwrap();
    let leak = points(HOUR, |s| 100.0 + 30.0 * s / 3_600.0);
    let verdict = judged(&rule, &leak, Severities::NONE);
    assert_eq!(verdict.breached(), Some(Severity::Warning.into()));
    assert!(about(shown(verdict), 0.3));
    let collected = points(HOUR, |s| 100.0 + 30.0 * (s % 900.0) / 900.0);
    assert_eq!(
        judged(&rule, &collected, Severities::NONE).breached(),
        Some(Severities::NONE)
    );
    let from_nothing = points(HOUR, |s| s);
    assert_eq!(
        judged(&rule, &from_nothing, Severities::NONE).breached(),
        Some(Severity::Warning.into())
    );
}

#[test]
fn a_long_window_is_remembered_and_agrees_with_a_short_one() {
    let long =
        configure(&json!({"rises_to": 1.0, "within": {"warning": "48h"}, "window": "6h"})).unwrap();
    assert_eq!(long.needs(), Needs::memory());
    let short =
        configure(&json!({"rises_to": 1.0, "within": {"warning": "48h"}, "window": "2h"})).unwrap();
    assert_eq!(
        short.needs(),
        Needs::default().points("value", std::time::Duration::from_secs(7_200))
    );

    let mut memory = Vec::new();
    let mut first_known = None;
    for minute in 0..=720_u64 {
        let value = 0.2 + 0.02 * minute as f64 / 60.0;
        let trail = Trail::decode(&memory, long.window);
        let mut trail = trail;
        trail.add(Timestamp(minute * 60_000), value);
        trail.forget(Timestamp(minute * 60_000));
        let verdict = long.verdict(&trail, Timestamp(minute * 60_000), value, Severities::NONE);
        if verdict.breached().is_some() && first_known.is_none() {
            first_known = Some(minute);
        }
        memory = trail.encode();
        assert!(memory.len() < 2_048, "{}", memory.len());
        if minute == 720 {
            // At 0.44 with 0.02 an hour: 28 hours.
            assert!(about(shown(verdict), 28.0 * 3_600.0));
        }
    }
    // The first mean stands in the middle of its slot of six minutes.
    assert!(
        (180..=186).contains(&first_known.unwrap()),
        "{first_known:?}: half the window must be covered"
    );
}

#[test]
fn another_encoding_or_window_starts_anew() {
    let mut trail = Trail::new(rough(6.0 * 3_600.0));
    for n in 0..50_u64 {
        trail.add(Timestamp(n * 360_000), n as f64);
    }
    let now = Timestamp(49 * 360_000);
    let bytes = trail.encode();
    let known = |bytes: &[u8], hours: f64| {
        Trail::decode(bytes, rough(hours * 3_600.0))
            .trend(now)
            .is_some()
    };
    assert!(known(&bytes, 6.0));
    assert!(!known(&bytes, 7.0), "another window");
    let mut other = bytes.clone();
    other[0] += 1;
    assert!(!known(&other, 6.0), "another version");
    for cut in 0..bytes.len() {
        Trail::decode(&bytes[..cut], rough(6.0 * 3_600.0)).trend(now);
    }
}

#[test]
fn a_clock_that_is_set_back_forgets_the_future() {
    let mut trail = Trail::new(rough(3_600.0));
    trail.add(Timestamp(10_000_000), 5.0);
    trail.add(Timestamp(1_000_000), 1.0);
    trail.forget(Timestamp(1_000_000));
    for n in 0..40_u64 {
        trail.add(Timestamp(1_000_000 + n * 60_000), 1.0);
    }
    let trend = trail.trend(Timestamp(1_000_000 + 39 * 60_000)).unwrap();
    assert_eq!((trend.slope, trend.last), (0.0, 1.0));
}

#[test]
fn no_numbers_are_beyond_it() {
    let rule = configure(&json!({"falls_to": 0, "within": {"critical": "4h"}})).unwrap();
    for odd in [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        5e-324,
    ] {
        for other in [0.0, odd, -odd] {
            let mixed = points(HOUR, |s| {
                if ((s / 10.0) as u64).is_multiple_of(2) {
                    odd
                } else {
                    other
                }
            });
            let _ = judged(&rule, &mixed, Severities::NONE);
            let last = points(HOUR, |s| if s >= 3_600.0 { odd } else { other });
            let verdict = judged(&rule, &last, Severities::NONE);
            assert!(!odd.is_nan() || verdict == Verdict::unknown());
        }
    }
}
