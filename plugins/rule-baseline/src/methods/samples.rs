//! Mean and median: numbers of the history, thinned out to 256, evenly spread over it.
//!
//! Numbers, not means of stretches: the deviation of means is smaller than that of the numbers they were made of.

use watchfire_plugin_sdk::stats::median;

use super::{Level, NUMBERS_MIN};
use crate::memory::{put, take};

/// Numbers kept. The deviation of 256 is known to 4 %; as memory they are 3 KiB.
const KEPT_MAX: usize = 256;

/// How many times the spacing doubles from the first number on until it is that of the whole history.
const DOUBLINGS: u32 = 8;

/// Numbers older than the history that go with each one that comes: after a pause, or an incident that was not learnt from,
/// what is usual changes step by step and is known all the while.
const STALE_A_NUMBER: usize = 2;

/// For normally distributed numbers the standard deviation is so many times the median distance.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Numbers, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Samples {
    robust: bool,
    history_secs: u64,
    /// The spacing of a full history, in milliseconds.
    spacing_max: u64,
    spacing: u64,
    newest_at: u64,
    values: Vec<f64>,
    /// When each was, in seconds since 1970: good until 2106.
    times: Vec<u32>,
}

impl Samples {
    pub(super) fn new(history_ms: u64, robust: bool) -> Self {
        let spacing_max = (history_ms / KEPT_MAX as u64).max(1);
        Samples {
            robust,
            history_secs: history_ms / 1_000,
            spacing_max,
            // Close together at first, so that a young baseline rests on more than a few numbers.
            spacing: (spacing_max >> DOUBLINGS).max(1),
            newest_at: 0,
            values: Vec::new(),
            times: Vec::new(),
        }
    }

    pub(super) fn learn(&mut self, now: u64, value: f64) {
        // A clock that was set back must not stop the learning until it is where it was.
        let due = now >= self.newest_at.saturating_add(self.spacing) || now < self.newest_at;
        if !due {
            return;
        }
        let now_secs = u32::try_from(now / 1_000).unwrap_or(u32::MAX);
        let stale = |at: &&u32| u64::from(now_secs.saturating_sub(**at)) > self.history_secs;
        let stale = self.times.iter().take(STALE_A_NUMBER).filter(stale).count();
        let spare = self.values.len().saturating_sub(NUMBERS_MIN);
        self.drop_first(stale.min(spare));
        if self.values.len() == KEPT_MAX && self.spacing < self.spacing_max {
            thin_out(&mut self.values);
            thin_out(&mut self.times);
            self.spacing = (self.spacing * 2).min(self.spacing_max);
        } else if self.values.len() == KEPT_MAX {
            self.drop_first(1);
        }
        self.values.push(value);
        self.times.push(now_secs);
        self.newest_at = now;
    }

    fn drop_first(&mut self, count: usize) {
        self.values.drain(..count);
        self.times.drain(..count);
    }

    pub(super) fn level(&self) -> Option<Level> {
        if self.values.len() < NUMBERS_MIN {
            return None;
        }
        if self.robust {
            let mut values = self.values.clone();
            let center = median(&mut values);
            values.iter_mut().for_each(|v| *v = (*v - center).abs());
            let spread = median(&mut values) * MAD_TO_SIGMA;
            return Some(Level { center, spread });
        }
        let count = self.values.len() as f64;
        let center = self.values.iter().sum::<f64>() / count;
        let squares: f64 = self.values.iter().map(|v| (v - center).powi(2)).sum();
        Some(Level {
            center,
            spread: (squares / (count - 1.0)).sqrt(),
        })
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        put(into, self.spacing.to_le_bytes());
        put(into, self.newest_at.to_le_bytes());
        for (value, at) in self.values.iter().zip(&self.times) {
            put(into, value.to_le_bytes());
            put(into, at.to_le_bytes());
        }
    }

    pub(super) fn decode(&mut self, mut bytes: &[u8]) -> Option<()> {
        self.spacing = u64::from_le_bytes(take(&mut bytes)?).clamp(1, self.spacing_max);
        self.newest_at = u64::from_le_bytes(take(&mut bytes)?);
        while !bytes.is_empty() {
            self.values.push(f64::from_le_bytes(take(&mut bytes)?));
            self.times.push(u32::from_le_bytes(take(&mut bytes)?));
        }
        (self.values.len() <= KEPT_MAX).then_some(())
    }
}

/// Leaves every second one, the oldest among them.
fn thin_out<T>(list: &mut Vec<T>) {
    let mut stays = false;
    list.retain(|_| {
        stays = !stays;
        stays
    });
}
