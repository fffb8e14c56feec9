//! A line through points, by Theil and Sen: the median of the slopes of all pairs.
//!
//! Least squares would be cheaper, but one log rotation or one restart inside the window turns its line around; the
//! median bears up to 29 % of such points.

use watchfire_plugin_sdk::stats::median;

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// The line, and how far the points agree with it. Seconds and the metric's unit.
#[derive(Clone, Debug)]
pub(crate) struct Trend {
    /// By second.
    pub(crate) slope: f64,
    /// On the line, at the oldest point and now.
    pub(crate) first: f64,
    pub(crate) last: f64,
    /// Of the points.
    pub(crate) mean: f64,
    /// From the oldest point to now.
    pub(crate) covered: f64,
    /// Shares of the pairs that rise and that fall.
    rising: f64,
    falling: f64,
}

impl Trend {
    /// The line through `points` (seconds before now, negative; value), oldest first. None: fewer than two, or all at one time.
    pub(crate) fn through(points: &[(f64, f64)]) -> Option<Trend> {
        let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
        let (mut rising, mut falling) = (0_u32, 0_u32);
        for (n, (at, value)) in points.iter().enumerate() {
            for (later, then) in &points[n + 1..] {
                if later > at {
                    rising += u32::from(then > value);
                    falling += u32::from(then < value);
                    slopes.push((then - value) / (later - at));
                }
            }
        }
        if slopes.is_empty() {
            return None;
        }
        let pairs = slopes.len() as f64;
        let slope = median(&mut slopes);
        let mut offsets: Vec<f64> = points.iter().map(|(at, v)| v - slope * at).collect();
        let last = median(&mut offsets);
        let oldest = points[0].0;
        Some(Trend {
            slope,
            first: last + slope * oldest,
            last,
            mean: points.iter().map(|(_, v)| v).sum::<f64>() / points.len() as f64,
            covered: -oldest,
            rising: f64::from(rising) / pairs,
            falling: f64::from(falling) / pairs,
        })
    }

    /// Share of the pairs that go this way, 0 to 1.
    pub(crate) fn share(&self, direction: Direction) -> f64 {
        match direction {
            Direction::Up => self.rising,
            Direction::Down => self.falling,
        }
    }

    /// Seconds until the line reaches `limit`; infinite where it leads elsewhere.
    pub(crate) fn until(&self, limit: f64, direction: Direction) -> f64 {
        let (distance, speed) = match direction {
            Direction::Up => (limit - self.last, self.slope),
            Direction::Down => (self.last - limit, -self.slope),
        };
        if speed > 0.0 {
            (distance / speed).max(0.0)
        } else {
            f64::INFINITY
        }
    }
}
