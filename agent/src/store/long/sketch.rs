//! Quantiles of one bucket: how long values held, by their magnitude.
//!
//! Values of one bin lie within 2 % of each other, and the bin remembers one that was there. A bucket that
//! needs more than [`BINS_MAX`] bins halves its resolution: 4 % from a factor of 150 between its smallest
//! and largest value on, 8 % from 25,000, and so forth (both signs count for their own).

/// Natural logarithm of the ratio between one bin's borders.
const LN_RATIO: f64 = 0.019_802_627_296_179_712;

/// Bins of one bucket: 4 KiB, a factor of 158 (2 % each) at full resolution.
const BINS_MAX: usize = 256;

/// Magnitudes are counted from here so that the key of the smallest is above zero; zero has key 0.
const OFFSET: f64 = 40_000.0;

/// What the bins of a bucket usually take: 16 bins.
pub(super) const USUAL_BYTES: usize = 16 * size_of::<Bin>();

/// Time by magnitude.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    /// By key.
    bins: Vec<Bin>,
    /// How often the resolution was halved.
    coarse: u8,
}

#[derive(Clone, Debug)]
struct Bin {
    /// Sign and magnitude.
    key: i32,
    /// Milliseconds; a bucket is shorter than 49 days.
    ms: u32,
    /// A value of it.
    value: f64,
}

impl Sketch {
    /// Adds a value that held for so long.
    pub(super) fn add(&mut self, value: f64, ms: u64) {
        let ms = u32::try_from(ms).unwrap_or(u32::MAX);
        let key = coarser(key(value), self.coarse);
        match self.bins.binary_search_by_key(&key, |bin| bin.key) {
            Ok(at) => self.bins[at].ms = self.bins[at].ms.saturating_add(ms),
            Err(at) => {
                if self.bins.len() == self.bins.capacity() {
                    self.bins.reserve_exact((self.bins.len() / 2).max(2));
                }
                self.bins.insert(at, Bin { key, ms, value });
            }
        }
        while self.bins.len() > BINS_MAX {
            self.halve();
        }
    }

    /// Values and how long they held, in milliseconds.
    pub(super) fn values(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bins.iter().map(|bin| (bin.value, u64::from(bin.ms)))
    }

    /// Bytes of its bins.
    pub(super) fn bytes(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>()
    }

    fn halve(&mut self) {
        self.coarse += 1;
        self.bins.dedup_by(|later, kept| {
            let same = coarser(later.key, 1) == coarser(kept.key, 1);
            if same {
                kept.ms = kept.ms.saturating_add(later.ms);
            }
            same
        });
        self.bins
            .iter_mut()
            .for_each(|bin| bin.key = coarser(bin.key, 1));
    }
}

/// Of no coarseness.
fn key(value: f64) -> i32 {
    if value == 0.0 {
        return 0;
    }
    // The logarithm of f64 lies within ±745, and so the quotient within ±37,700; infinity is cut.
    let magnitude = (value.abs().ln() / LN_RATIO).floor().min(OFFSET);
    #[expect(clippy::cast_possible_truncation, reason = "within ±80,000")]
    let key = (magnitude + OFFSET) as i32;
    if value < 0.0 { -key } else { key }
}

fn coarser(key: i32, by: u8) -> i32 {
    key.signum() * (key.abs() >> by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_bin_are_close_and_order_is_kept() {
        let mut before = i32::MIN;
        let mut value = -1e9;
        while value < 1e9 {
            let at = key(value);
            assert!(at >= before, "{value}");
            assert_eq!(key(value * 1.021) == at, value == 0.0, "{value}");
            before = at;
            value += (value.abs() * 0.01).max(1e-3);
        }
        assert_eq!(key(f64::INFINITY), 80_000);
        assert!(key(f64::MIN_POSITIVE) > 0 && key(-5e-324) < 0);
    }

    #[test]
    fn a_wide_bucket_gets_coarser_and_stays_small() {
        let mut sketch = Sketch::default();
        for n in 0..10_000_u32 {
            sketch.add(f64::from(n).powi(3) - 1e5, 10);
        }
        assert!(sketch.bins.len() <= BINS_MAX && sketch.bytes() <= 2 * BINS_MAX * 16);
        assert!(sketch.coarse >= 1);
        assert_eq!(sketch.values().map(|(_, ms)| ms).sum::<u64>(), 100_000);
        assert!(sketch.bins.is_sorted_by(|a, b| a.key < b.key));
        assert!(sketch.bins.is_sorted_by(|a, b| a.value < b.value));
    }
}
