//! The native threshold rule: what a rule component would say of one series.

use super::config::{Limits, RawRule, severity};
use std::collections::BTreeMap;
use watchfire_engine::model::{Severities, Severity};
use watchfire_simulate::Answer;

/// Every collected value of a series, oldest first: `(milliseconds, value)`.
pub(crate) type History = Vec<(u64, f64)>;

/// The value a rule looks at: the sample itself, or its aggregate over the window.
pub(crate) fn input(rule: &RawRule, history: &History, answer: Answer, now: u64) -> Option<f64> {
    let Answer::Value(value) = answer else {
        return None;
    };
    let Some(over) = rule.over else {
        return (!value.is_nan()).then_some(value);
    };
    let begin = now.saturating_sub(u64::try_from(over.0.as_millis()).expect("a window"));
    match rule.aggregate.as_deref() {
        Some("increase") => Some(increase(history, begin, now)),
        other => panic!("aggregate = {other:?} is not simulated"),
    }
}

/// Sum of the increases between consecutive samples in `(begin, now]`, starting from the last at or before `begin`.
fn increase(history: &History, begin: u64, now: u64) -> f64 {
    let first = history
        .iter()
        .rposition(|(at, _)| *at <= begin)
        .unwrap_or(0);
    let within = history[first..].iter().filter(|(at, _)| *at <= now);
    let values: Vec<f64> = within.map(|(_, value)| *value).collect();
    values
        .windows(2)
        .map(|pair| {
            if pair[1] < pair[0] {
                pair[1]
            } else {
                pair[1] - pair[0]
            }
        })
        .sum()
}

/// Which severities `value` violates: active ones by their clear limits.
pub(crate) fn verdict(limits: &Limits, value: f64, active: Severities) -> Severities {
    type Violates = fn(f64, f64) -> bool;
    let kinds: [(&BTreeMap<String, f64>, Violates); 4] = [
        (&limits.above, |value, limit| value > limit),
        (&limits.at_least, |value, limit| value >= limit),
        (&limits.below, |value, limit| value < limit),
        (&limits.at_most, |value, limit| value <= limit),
    ];
    let breached = kinds.into_iter().flat_map(|(limits_of, violates)| {
        limits_of.iter().filter_map(move |(name, raise)| {
            let severity: Severity = severity(name);
            let clear = limits.clear.get(name).filter(|_| active.contains(severity));
            violates(value, *clear.unwrap_or(raise)).then_some(severity)
        })
    });
    breached.collect()
}

#[test]
fn increase_counts_resets_and_starts_at_the_window() {
    let history = vec![(0, 5.0), (60_000, 7.0), (120_000, 1.0), (180_000, 4.0)];
    assert_eq!(increase(&history, 0, 180_000), 2.0 + 1.0 + 3.0);
    assert_eq!(increase(&history, 60_000, 180_000), 1.0 + 3.0);
    assert_eq!(increase(&history, 130_000, 180_000), 3.0);
    assert_eq!(increase(&vec![(0, 5.0)], 0, 0), 0.0);
}
