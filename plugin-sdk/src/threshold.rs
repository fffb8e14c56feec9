//! Limits per severity with their own clear limits: what most rules end in.
//!
//! ```
//! use watchfire_plugin_sdk::threshold::{Bounds, Thresholds};
//! use watchfire_plugin_sdk::{Severities, Severity};
//!
//! let bounds: Bounds = serde_json::from_str(r#"{"above": {"warning": 85, "critical": 95}, "clear": {"warning": 75}}"#)?;
//! let limits = Thresholds::new(bounds)?;
//! assert_eq!(limits.judge(90.0, Severities::NONE).breached(), Some(Severity::Warning.into()));
//! // Once it fires, warning lasts until the value is down at 75.
//! assert_eq!(limits.judge(80.0, Severity::Warning.into()).breached(), Some(Severity::Warning.into()));
//! assert_eq!(limits.judge(80.0, Severities::NONE).breached(), Some(Severities::NONE));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::{Error, Result, Severities, Severity, Verdict};

/// One number for some of the severities: `{ warning = 85, critical = 95 }`, aliases accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits([Option<f64>; 4]);

impl Limits {
    /// The number for `severity`.
    pub fn get(&self, severity: Severity) -> Option<f64> {
        self.0[severity.index()]
    }

    /// With this number for `severity`.
    #[must_use]
    pub fn with(mut self, severity: Severity, limit: f64) -> Self {
        self.0[severity.index()] = Some(limit);
        self
    }

    /// Whether there is no number at all.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The numbers, lowest severity first.
    pub fn iter(&self) -> impl Iterator<Item = (Severity, f64)> {
        Severity::ALL
            .into_iter()
            .zip(self.0)
            .filter_map(|(severity, limit)| Some((severity, limit?)))
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Limits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a limit for each severity, like { warning = 85, critical = 95 }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Limits, A::Error> {
                let mut limits = Limits::default();
                // The key is read as text: an enum would leave no trace in the path of an error.
                while let Some(key) = table.next_key::<String>()? {
                    let severity: Severity = key.parse().map_err(A::Error::custom)?;
                    let limit = table.next_value::<f64>()?;
                    if limits.0[severity.index()].replace(limit).is_some() {
                        return Err(A::Error::custom(format!(
                            "{severity} is given twice: keep one"
                        )));
                    }
                }
                Ok(limits)
            }
        }

        table.deserialize_map(Table)
    }
}

/// The table of a rule that judges a number: exactly one of the four directions, and where it clears.
///
/// Serde cannot both flatten and refuse unknown keys: a rule with more keys than these lists the five beside its own and
/// puts them together with `Bounds { above, at_least, below, at_most, clear }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Breached while the value is greater.
    #[serde(default)]
    pub above: Option<Limits>,
    /// Breached while the value is greater or equal.
    #[serde(default)]
    pub at_least: Option<Limits>,
    /// Breached while the value is less.
    #[serde(default)]
    pub below: Option<Limits>,
    /// Breached while the value is less or equal.
    #[serde(default)]
    pub at_most: Option<Limits>,
    /// Limits that count instead while the severity is firing; those of the direction where there is none.
    #[serde(default)]
    pub clear: Limits,
}

/// When a value violates a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Greater.
    Above,
    /// Greater or equal.
    AtLeast,
    /// Less.
    Below,
    /// Less or equal.
    AtMost,
}

impl Direction {
    /// The key in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Above => "above",
            Direction::AtLeast => "at_least",
            Direction::Below => "below",
            Direction::AtMost => "at_most",
        }
    }

    /// Whether worse means greater.
    pub fn is_upward(self) -> bool {
        matches!(self, Direction::Above | Direction::AtLeast)
    }

    fn violates(self, value: f64, limit: f64) -> bool {
        match self {
            Direction::Above => value > limit,
            Direction::AtLeast => value >= limit,
            Direction::Below => value < limit,
            Direction::AtMost => value <= limit,
        }
    }
}

/// Checked limits, ready to judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    direction: Direction,
    /// NaN where there is no limit: nothing violates it.
    raise: [f64; 4],
    clear: [f64; 4],
}

impl Thresholds {
    /// Checks the table.
    ///
    /// # Errors
    /// [`Error::Config`] unless there is exactly one direction with at least one limit, a higher severity is never
    /// easier to reach than a lower one, and each clear limit belongs to a limit and lies on its healthy side.
    pub fn new(bounds: Bounds) -> Result<Self> {
        let (direction, raise) = one_direction(&bounds)?;
        let name = direction.name();
        if raise.is_empty() {
            return Err(Error::config(format!(
                "config.{name}: no limit: write one, like {name} = {{ warning = 1 }}"
            )));
        }
        let worse = |a: f64, b: f64| if direction.is_upward() { a > b } else { a < b };
        let limits: Vec<_> = raise.iter().collect();
        for pair in limits.windows(2) {
            let ((lower, at), (higher, beyond)) = (pair[0], pair[1]);
            if worse(at, beyond) {
                return Err(Error::config(format!(
                    "config.{name}: {higher} ({beyond}) is reached before {lower} ({at}): write \
                     {{ {lower} = {beyond}, {higher} = {at} }}, or {} for the other direction",
                    match direction {
                        Direction::Above => "below",
                        Direction::AtLeast => "at_most",
                        Direction::Below => "above",
                        Direction::AtMost => "at_least",
                    }
                )));
            }
        }
        for (severity, clear) in bounds.clear.iter() {
            let Some(limit) = raise.get(severity) else {
                return Err(Error::config(format!(
                    "config.clear.{severity}: {name} has no {severity}: remove it, or add {name}.{severity}"
                )));
            };
            if worse(clear, limit) {
                return Err(Error::config(format!(
                    "config.clear.{severity}: {clear} is beyond {name}.{severity} ({limit}): write {limit} or {}",
                    if direction.is_upward() {
                        "less"
                    } else {
                        "more"
                    }
                )));
            }
        }
        let column = |of: &dyn Fn(Severity) -> Option<f64>| {
            Severity::ALL.map(|severity| of(severity).unwrap_or(f64::NAN))
        };
        Ok(Thresholds {
            direction,
            raise: column(&|severity| raise.get(severity)),
            clear: column(&|severity| bounds.clear.get(severity).or(raise.get(severity))),
        })
    }

    /// The direction.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Judges a value: each severity that is firing (`active`) by its clear limit, the others by their limit. NaN is
    /// unknown. The verdict carries the value and the limit of the highest breached severity, or, where none is, of the
    /// lowest.
    pub fn judge(&self, value: f64, active: Severities) -> Verdict {
        let (breached, limit) = self.judge_plain(value, active);
        match breached {
            Some(breached) => Verdict::breach(breached).value(value).limit(limit),
            None => Verdict::unknown(),
        }
    }

    /// As [`judge`](Thresholds::judge), for rules over columns: what is breached (`None` = unknown) and the limit.
    #[inline]
    pub fn judge_plain(&self, value: f64, active: Severities) -> (Option<Severities>, f64) {
        if value.is_nan() {
            return (None, f64::NAN);
        }
        let (mut breached, mut limit) = (Severities::NONE, f64::NAN);
        for severity in Severity::ALL {
            let column = if active.contains(severity) {
                &self.clear
            } else {
                &self.raise
            };
            let held_against = column[severity.index()];
            if self.direction.violates(value, held_against) {
                breached = breached.with(severity);
                limit = held_against;
            } else if limit.is_nan() {
                limit = held_against;
            }
        }
        (Some(breached), limit)
    }
}

fn one_direction(bounds: &Bounds) -> Result<(Direction, Limits)> {
    let given = [
        (Direction::Above, bounds.above),
        (Direction::AtLeast, bounds.at_least),
        (Direction::Below, bounds.below),
        (Direction::AtMost, bounds.at_most),
    ];
    let mut given = given
        .into_iter()
        .filter_map(|(direction, limits)| Some((direction, limits?)));
    match (given.next(), given.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Error::config(
            "config: no limit: write one of above, at_least, below, at_most, like above = { warning = 85 }",
        )),
        (Some((first, _)), Some((second, _))) => Err(Error::config(format!(
            "config: both {} and {}: write one of them, and the other in a rule of its own",
            first.name(),
            second.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds(config: &str) -> Result<Thresholds> {
        Thresholds::new(crate::error::parse_config(config)?)
    }

    fn set(words: &str) -> Severities {
        words
            .split_whitespace()
            .map(|word| word.parse::<Severity>().unwrap())
            .collect()
    }

    #[test]
    fn equality_violates_only_the_inclusive_directions() {
        for (direction, less, equal, greater) in [
            ("above", false, false, true),
            ("at_least", false, true, true),
            ("below", true, false, false),
            ("at_most", true, true, false),
        ] {
            let limits = thresholds(&format!(r#"{{"{direction}": {{"warning": 5}}}}"#)).unwrap();
            for (value, breached) in [(4.9, less), (5.0, equal), (5.1, greater)] {
                let expected = if breached {
                    set("warning")
                } else {
                    Severities::NONE
                };
                assert_eq!(
                    limits.judge_plain(value, Severities::NONE),
                    (Some(expected), 5.0),
                    "{direction} {value}"
                );
            }
        }
    }

    #[test]
    fn what_is_active_is_held_against_its_clear_limit() {
        let config = r#"{"above": {"warning": 70, "critical": 85}, "clear": {"warning": 60, "critical": 80}}"#;
        let limits = thresholds(config).unwrap();
        for (value, active, breached, limit) in [
            (70.0, "", "", 70.0),
            (71.0, "", "warning", 70.0),
            (86.0, "", "warning critical", 85.0),
            (82.0, "", "warning", 70.0),
            (82.0, "warning critical", "warning critical", 80.0),
            (80.0, "warning critical", "warning", 60.0),
            (61.0, "warning", "warning", 60.0),
            (60.0, "warning", "", 60.0),
            (60.0, "critical", "", 70.0),
            (f64::INFINITY, "", "warning critical", 85.0),
            (f64::NEG_INFINITY, "warning", "", 60.0),
        ] {
            let found = limits.judge_plain(value, set(active));
            assert_eq!(
                found,
                (Some(set(breached)), limit),
                "{value} while {active:?}"
            );
        }
    }

    #[test]
    fn clear_is_the_limit_itself_unless_given() {
        let limits =
            thresholds(r#"{"below": {"low": 100, "P2": 10}, "clear": {"high": 20}}"#).unwrap();
        assert_eq!(limits.judge_plain(99.0, set("low")).0, Some(set("low")));
        assert_eq!(
            limits.judge_plain(100.0, set("low")).0,
            Some(Severities::NONE)
        );
        assert_eq!(
            limits.judge_plain(19.0, set("low high")).0,
            Some(set("low high"))
        );
        assert_eq!(
            limits.judge_plain(20.0, set("low high")).0,
            Some(set("low"))
        );
    }

    #[test]
    fn nan_is_unknown() {
        let limits = thresholds(r#"{"below": {"warning": 1}}"#).unwrap();
        assert_eq!(
            limits.judge(f64::NAN, Severity::Warning.into()),
            Verdict::unknown()
        );
    }

    #[test]
    fn a_wrong_table_is_told_what_to_write() {
        for (config, says) in [
            (
                "{}",
                "config: no limit: write one of above, at_least, below, at_most, like above = { warning = 85 }",
            ),
            (
                r#"{"above": {"warning": 1}, "below": {"warning": 0}}"#,
                "config: both above and below: write one of them, and the other in a rule of its own",
            ),
            (
                r#"{"above": {}}"#,
                "config.above: no limit: write one, like above = { warning = 1 }",
            ),
            (
                r#"{"above": {"warning": 85, "critical": 70}}"#,
                "config.above: critical (70) is reached before warning (85): write { warning = 70, critical = 85 }, or \
                 below for the other direction",
            ),
            (
                r#"{"at_most": {"low": 1, "high": 2}}"#,
                "config.at_most: high (2) is reached before low (1): write { low = 2, high = 1 }, or at_least for the \
                 other direction",
            ),
            (
                r#"{"above": {"warning": 85}, "clear": {"warning": 90}}"#,
                "config.clear.warning: 90 is beyond above.warning (85): write 85 or less",
            ),
            (
                r#"{"below": {"warning": 5}, "clear": {"warning": 4}}"#,
                "config.clear.warning: 4 is beyond below.warning (5): write 5 or more",
            ),
            (
                r#"{"above": {"warning": 85}, "clear": {"critical": 80}}"#,
                "config.clear.critical: above has no critical: remove it, or add above.critical",
            ),
            (
                r#"{"above": {"warning": 85, "medium": 86}}"#,
                "config.above: warning is given twice: keep one",
            ),
            (
                r#"{"above": {"urgent": 85}}"#,
                "config.above: unknown severity \"urgent\": write low, warning, high or critical",
            ),
            (
                r#"{"above": {"warning": "85%"}}"#,
                "config.above.warning: invalid type: string \"85%\", expected f64",
            ),
            (
                r#"{"over": {"warning": 85}}"#,
                "config.over: unknown field `over`, expected one of `above`, `at_least`, `below`, `at_most`, `clear`",
            ),
        ] {
            assert_eq!(
                thresholds(config).unwrap_err(),
                Error::config(says),
                "{config}"
            );
        }
    }

    #[test]
    fn equal_limits_are_in_order() {
        let limits = thresholds(r#"{"at_least": {"warning": 3, "critical": 3}}"#).unwrap();
        assert_eq!(
            limits.judge_plain(3.0, Severities::NONE).0,
            Some(set("warning critical"))
        );
    }
}
