//! One mean and deviation for each of the 168 hours of a week, in UTC: Monday at nine is compared with Mondays at nine.
//!
//! A clock change shifts the habits of people by an hour; two weeks later the hours have learnt it.

use super::{Level, blend};
use crate::memory::{put, take};

/// Hours of a week.
const HOURS: usize = 168;
const HOUR_MS: u64 = 3_600_000;
const WEEK_MS: u64 = HOURS as u64 * HOUR_MS;

/// One number in five minutes: more say little, and a week's worth of an hour is twelve.
const SPACING_MS: u64 = 300_000;
const NUMBERS_AN_HOUR: u64 = HOUR_MS / SPACING_MS;

/// An hour of which fewer numbers are known has no level yet.
const NUMBERS_MIN: u32 = 6;

/// The hours of the week.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weekly {
    /// Numbers that an hour remembers: later ones push the older ones out.
    count_max: u32,
    newest_at: u64,
    hours: Vec<Hour>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hour {
    count: u32,
    mean: f64,
    variance: f64,
}

impl Weekly {
    pub(super) fn new(history_ms: u64) -> Self {
        let weeks = (history_ms / WEEK_MS).max(1);
        Weekly {
            count_max: u32::try_from(weeks * NUMBERS_AN_HOUR).unwrap_or(u32::MAX),
            newest_at: 0,
            hours: vec![Hour::default(); HOURS],
        }
    }

    pub(super) fn learn(&mut self, now: u64, value: f64) {
        let due = now >= self.newest_at.saturating_add(SPACING_MS) || now < self.newest_at;
        if !due {
            return;
        }
        self.newest_at = now;
        let hour = &mut self.hours[hour_of(now)];
        hour.count = hour.count.saturating_add(1).min(self.count_max);
        let weight = 1.0 / f64::from(hour.count);
        blend(&mut hour.mean, &mut hour.variance, value, weight);
    }

    pub(super) fn level(&self, now: u64) -> Option<Level> {
        let hour = self.hours[hour_of(now)];
        (hour.count >= NUMBERS_MIN).then(|| Level {
            center: hour.mean,
            spread: hour.variance.sqrt(),
        })
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        put(into, self.newest_at.to_le_bytes());
        for hour in &self.hours {
            put(into, hour.count.to_le_bytes());
            put(into, hour.mean.to_le_bytes());
            put(into, hour.variance.to_le_bytes());
        }
    }

    pub(super) fn decode(&mut self, mut bytes: &[u8]) -> Option<()> {
        self.newest_at = u64::from_le_bytes(take(&mut bytes)?);
        for hour in &mut self.hours {
            *hour = Hour {
                count: u32::from_le_bytes(take(&mut bytes)?).min(self.count_max),
                mean: f64::from_le_bytes(take(&mut bytes)?),
                variance: f64::from_le_bytes(take(&mut bytes)?),
            };
        }
        bytes.is_empty().then_some(())
    }
}

/// Which hour of the week it is, from an arbitrary but fixed one.
fn hour_of(now: u64) -> usize {
    usize::try_from(now / HOUR_MS % HOURS as u64).unwrap_or(0)
}
