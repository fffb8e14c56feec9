//! The exponentially weighted mean: what was an hour ago counts for a third, where the history is an hour.

use super::{Level, NUMBERS_MIN, blend};
use crate::memory::{put, take};

/// After a pause the newest number weighs at most as if half the history had passed: it is one number all the same.
const PAUSE_MAX: f64 = 0.5;

/// Mean and variance, and how many numbers they were made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moving {
    /// After so long a number counts for 1/e, in milliseconds.
    history_ms: f64,
    newest_at: u64,
    count: u64,
    mean: f64,
    variance: f64,
}

impl Moving {
    pub(super) fn new(history_ms: u64) -> Self {
        Moving {
            history_ms: history_ms.max(1) as f64,
            newest_at: 0,
            count: 0,
            mean: 0.0,
            variance: 0.0,
        }
    }

    pub(super) fn learn(&mut self, now: u64, value: f64) {
        self.count += 1;
        let passed = now.saturating_sub(self.newest_at) as f64 / self.history_ms;
        self.newest_at = now;
        // At first it is the plain mean: the first number is not a baseline.
        let weight = (1.0 - (-passed.min(PAUSE_MAX)).exp()).max(1.0 / self.count as f64);
        let weight = if self.count > 1 && passed == 0.0 {
            0.0
        } else {
            weight
        };
        blend(&mut self.mean, &mut self.variance, value, weight);
    }

    pub(super) fn level(&self) -> Option<Level> {
        (self.count >= NUMBERS_MIN as u64).then(|| Level {
            center: self.mean,
            spread: self.variance.sqrt(),
        })
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        put(into, self.newest_at.to_le_bytes());
        put(into, self.count.to_le_bytes());
        put(into, self.mean.to_le_bytes());
        put(into, self.variance.to_le_bytes());
    }

    pub(super) fn decode(&mut self, mut bytes: &[u8]) -> Option<()> {
        self.newest_at = u64::from_le_bytes(take(&mut bytes)?);
        self.count = u64::from_le_bytes(take(&mut bytes)?);
        self.mean = f64::from_le_bytes(take(&mut bytes)?);
        self.variance = f64::from_le_bytes(take(&mut bytes)?);
        bytes.is_empty().then_some(())
    }
}
