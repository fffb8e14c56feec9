//! What is learnt, when it is not, and what is said about it.

use serde_json::{Value, json};

use super::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// As the host allows it.
const MEMORY_BYTES_MAX: usize = 4 << 10;

fn configure(config: &Value) -> Baseline {
    Baseline::configure(&config.to_string(), &["value"]).unwrap()
}

/// A rule and the memory of one instance of it.
struct Watched {
    rule: Baseline,
    memory: Vec<u8>,
    now: u64,
    active: Severities,
}

impl Watched {
    fn by(config: &Value) -> Self {
        Watched {
            rule: configure(config),
            memory: Vec::new(),
            now: 1_700_000_000_000,
            active: Severities::NONE,
        }
    }

    /// One round `after` milliseconds; the verdict's severities, `None` = unknown. They fire from then on.
    fn sees(&mut self, after: u64, value: f64) -> Option<Severities> {
        self.now += after;
        let mut batch = Batch::of(&["value"])
            .at(Timestamp(self.now))
            .firing(&[value], self.active);
        let mut before = Verdicts::default();
        before.push(Verdict::unknown().memory(self.memory.clone()));
        batch = batch.after(&before);
        let verdicts = self.rule.evaluate(&batch).unwrap();
        self.memory = verdicts.memory(0).to_vec();
        assert!(
            self.memory.len() <= MEMORY_BYTES_MAX,
            "{}",
            self.memory.len()
        );
        if let Some(breached) = verdicts.breached(0) {
            self.active = breached;
        }
        verdicts.breached(0)
    }

    /// `value` of the round, every minute.
    fn minutes(&mut self, count: u64, value: impl Fn(u64) -> f64) {
        for n in 0..count {
            self.sees(MINUTE, value(n));
        }
    }

    fn level(&self) -> Level {
        let memory = Memory::decode(&self.memory, self.rule.shape, self.now);
        memory.learnt.level(self.now).unwrap()
    }
}

fn some(severity: Severity) -> Option<Severities> {
    Some(severity.into())
}

const NONE: Option<Severities> = Some(Severities::NONE);

/// Between -1 and 1, always the same.
fn noise(n: u64) -> f64 {
    let mixed = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)) % 2_001) as f64 / 1_000.0 - 1.0
}

#[test]
fn testdata_is_judged_as_expected() {
    mock::judges_testdata::<Baseline>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn half_as_much_again_is_a_warning_and_twice_is_critical() {
    for method in ["mean", "mad", "ewma"] {
        let config = json!({"method": method, "history": "2h", "warm_up": "1h",
            "above": {"warning": 0.5, "critical": 1.0}});
        let mut watched = Watched::by(&config);
        watched.minutes(180, |n| 100.0 + 5.0 * noise(n));
        assert_eq!(watched.sees(MINUTE, 140.0), NONE, "{method}");
        assert_eq!(
            watched.sees(MINUTE, 160.0),
            some(Severity::Warning),
            "{method}"
        );
        let both = Severities::NONE
            .with(Severity::Warning)
            .with(Severity::Critical);
        assert_eq!(watched.sees(MINUTE, 210.0), Some(both), "{method}");
        assert_eq!(watched.sees(MINUTE, 100.0), NONE, "{method}");
    }
}

#[test]
fn so_many_deviations_away() {
    for method in ["mean", "mad", "ewma"] {
        let config = json!({"method": method, "history": "4h", "warm_up": "1h", "unit": "sigma",
            "above": {"warning": 3}, "both_sides": true});
        let mut watched = Watched::by(&config);
        watched.minutes(300, |n| 100.0 + 10.0 * noise(n));
        // Evenly spread over ±10: the deviation is 5.8, the median distance 5 (7.4 as a deviation).
        let spread = watched.level().spread;
        assert!((4.5..9.0).contains(&spread), "{method}: {spread}");
        assert_eq!(watched.sees(MINUTE, 112.0), NONE, "{method}");
        assert_eq!(
            watched.sees(MINUTE, 130.0),
            some(Severity::Warning),
            "{method}"
        );
        assert_eq!(watched.sees(MINUTE, 100.0), NONE, "{method}");
        assert_eq!(
            watched.sees(MINUTE, 70.0),
            some(Severity::Warning),
            "{method}"
        );
    }
}

#[test]
fn nothing_is_said_before_it_is_warm() {
    let mut watched = Watched::by(&json!({"history": "1d", "above": {"warning": 0.5}}));
    for minute in 0..60 {
        assert_eq!(watched.sees(MINUTE, 100.0), None, "{minute}");
    }
    assert_eq!(watched.sees(MINUTE, 100.0), NONE);
    assert_eq!(watched.sees(MINUTE, 151.0), some(Severity::Warning));
}

#[test]
fn an_incident_is_not_learnt_from() {
    for method in ["mean", "mad", "ewma"] {
        let mut watched = Watched::by(
            &json!({"method": method, "history": "1h", "warm_up": "30m", "above": {"warning": 0.5}}),
        );
        watched.minutes(90, |_| 100.0);
        let before = watched.level();
        watched.minutes(600, |_| 200.0);
        assert_eq!(watched.active, Severity::Warning.into(), "{method}");
        assert_eq!(watched.level(), before, "{method}");
        assert_eq!(watched.sees(MINUTE, 100.0), NONE, "{method}");
    }
}

#[test]
fn a_new_normal_is_learnt_after_all_where_asked_for() {
    let mut watched = Watched::by(
        &json!({"history": "1h", "warm_up": "30m", "relearn_after": "2h", "above": {"warning": 0.5}}),
    );
    watched.minutes(90, |_| 100.0);
    watched.minutes(119, |_| 200.0);
    assert_eq!(watched.active, Severity::Warning.into());
    watched.minutes(60, |_| 200.0);
    assert_eq!(watched.active, Severities::NONE);
    assert_eq!(watched.level().center, 200.0);
}

#[test]
fn monday_is_compared_with_mondays() {
    let mut watched =
        Watched::by(&json!({"method": "seasonal", "above": {"warning": 0.5}, "below": null}));
    let load = |now: u64| if now / HOUR % 24 < 12 { 100.0 } else { 10.0 };
    for _ in 0..8 * 24 * 12 {
        let value = load(watched.now + 5 * MINUTE);
        watched.sees(5 * MINUTE, value);
    }
    // Forward to the middle of a quiet hour.
    while load(watched.now + 5 * MINUTE) > 50.0 {
        watched.sees(5 * MINUTE, 100.0);
    }
    assert_eq!(watched.sees(30 * MINUTE, 11.0), NONE);
    assert_eq!(
        watched.sees(MINUTE, 100.0),
        some(Severity::Warning),
        "usual by day, not by night"
    );
    assert_eq!(watched.sees(12 * HOUR, 100.0), NONE);
}

#[test]
fn a_constant_series_needs_a_floor() {
    let with = |floor: f64| {
        let mut watched = Watched::by(
            &json!({"history": "1h", "warm_up": "10m", "unit": "sigma", "floor": floor, "above": {"warning": 4}}),
        );
        watched.minutes(60, |_| 7.0);
        watched.sees(MINUTE, 7.5)
    };
    assert_eq!(with(0.0), some(Severity::Warning));
    assert_eq!(with(1.0), NONE);
    // Half as much again of nothing.
    let mut idle = Watched::by(
        &json!({"history": "1h", "warm_up": "10m", "floor": 10, "above": {"warning": 0.5}}),
    );
    idle.minutes(60, |_| 0.0);
    assert_eq!(idle.sees(MINUTE, 4.0), NONE);
    assert_eq!(idle.sees(MINUTE, 6.0), some(Severity::Warning));
}

#[test]
fn another_encoding_method_or_history_starts_anew() {
    for method in ["mean", "mad", "ewma", "seasonal"] {
        let mut watched = Watched::by(
            &json!({"method": method, "history": "7d", "warm_up": "1h", "above": {"warning": 0.5}}),
        );
        // To the middle of an hour: a seasonal baseline knows nothing of one that just began.
        watched.minutes(150, |_| 100.0);
        assert!(watched.sees(MINUTE, 100.0).is_some(), "{method}");
        let (bytes, shape, now) = (watched.memory.clone(), watched.rule.shape, watched.now);
        let fresh = Memory::decode(&[], shape, now);
        assert_ne!(Memory::decode(&bytes, shape, now), fresh);
        let mut version = bytes.clone();
        version[0] += 1;
        assert_eq!(Memory::decode(&version, shape, now), fresh);
        let longer = Shape {
            history: shape.history * 2,
            ..shape
        };
        assert_eq!(
            Memory::decode(&bytes, longer, now),
            Memory::decode(&[], longer, now)
        );
        let other = Shape {
            method: if shape.method == methods::Method::Mean {
                methods::Method::Mad
            } else {
                methods::Method::Mean
            },
            ..shape
        };
        assert_eq!(
            Memory::decode(&bytes, other, now),
            Memory::decode(&[], other, now)
        );
        for cut in 0..bytes.len() {
            Memory::decode(&bytes[..cut], shape, now).learnt.level(now);
        }
        // With the memory gone while it fires, the alert is held until it is warm again.
        watched.active = Severity::Warning.into();
        watched.memory = version;
        for _ in 0..60 {
            assert_eq!(watched.sees(MINUTE, 200.0), None, "{method}");
        }
        assert_eq!(watched.sees(2 * MINUTE, 200.0), NONE, "{method}");
    }
}

#[test]
fn a_history_is_thinned_out_and_forgets() {
    let mut watched =
        Watched::by(&json!({"method": "mean", "history": "1d", "above": {"warning": 9}}));
    watched.minutes(3 * 24 * 60, |n| if n < 24 * 60 { 100.0 } else { 200.0 });
    let center = watched.level().center;
    assert!((center - 200.0).abs() < 1.0, "{center}");
    // Outage: a day without numbers neither harms nor counts.
    assert_eq!(watched.sees(DAY, 200.0), NONE);
    assert_eq!(watched.sees(MINUTE, f64::NAN), None);
}

#[test]
fn no_numbers_are_beyond_it() {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        5e-324,
        0.0,
        -0.0,
    ];
    for method in ["mean", "mad", "ewma", "seasonal"] {
        for unit in ["share", "sigma"] {
            let mut watched = Watched::by(
                &json!({"method": method, "unit": unit, "history": "7d", "warm_up": "10m", "above": {"warning": 1}}),
            );
            for n in 0..200 {
                let value = odd[n % odd.len()];
                let breached = watched.sees(5 * MINUTE, value);
                assert!(value.is_finite() || breached.is_none(), "{method} {value}");
            }
        }
    }
}
