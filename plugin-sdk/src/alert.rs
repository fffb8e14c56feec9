//! The alert as notifiers and actions see it, and moments in time.

use std::fmt;
use std::time::Duration;

use crate::Severity;

/// Names with values: labels, extra fields, headers. In the order given; a name may stand twice.
pub type Pairs = Vec<(String, String)>;

/// The value of the first pair called `name`.
pub(crate) fn lookup<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| &**value)
}

/// Owned pairs of anything that looks like pairs.
pub(crate) fn pairs<K: Into<String>, V: Into<String>>(
    all: impl IntoIterator<Item = (K, V)>,
) -> Pairs {
    all.into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// A moment: milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(
    /// Milliseconds since 1970-01-01 UTC.
    pub u64,
);

impl Timestamp {
    /// Milliseconds since 1970-01-01 UTC.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970-01-01 UTC.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero where it is not after.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC: `2026-11-21T04:20:17Z`, with milliseconds only where there are any.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days to a date by Howard Hinnant's civil_from_days, for days since 1970.
        let (days, millis) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        match millis % 1000 {
            0 => f.write_str("Z"),
            rest => write!(f, ".{rest:03}Z"),
        }
    }
}

/// A rule's breach for one label set.
///
/// For tests there is [`mock::alert`](crate::mock::alert).
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Who this alert is, over severities, values and restarts.
    pub fingerprint: String,
    /// Counts how often it went from ok to firing.
    pub episode: u64,
    /// Id of the rule.
    pub rule: String,
    /// Severity now, or the last one where it has ended.
    pub severity: Severity,
    /// Labels of the series, with the agent's.
    pub labels: Pairs,
    /// The judged value.
    pub value: Option<f64>,
    /// The limit the value was held against.
    pub limit: Option<f64>,
    /// One line for people.
    pub summary: String,
    /// Start of the firing.
    pub started_at: Timestamp,
    /// End of the episode; `None` while it fires.
    pub ended_at: Option<Timestamp>,
    /// `runbook`, `dashboard`, `metric`, `correlation` and whatever else there is.
    pub extra: Pairs,
}

impl Alert {
    /// The label called `name`.
    pub fn label(&self, name: &str) -> Option<&str> {
        lookup(&self.labels, name)
    }

    /// The extra field called `name`.
    pub fn extra(&self, name: &str) -> Option<&str> {
        lookup(&self.extra, name)
    }

    /// Whether it fires still.
    pub fn is_firing(&self) -> bool {
        self.ended_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_234_817_000, "2026-11-21T04:20:17Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
        }
    }

    #[test]
    fn time_never_runs_backwards() {
        assert_eq!(Timestamp(5).since(Timestamp(2)), Duration::from_millis(3));
        assert_eq!(Timestamp(2).since(Timestamp(5)), Duration::ZERO);
    }
}
