//! The recent points of one series, 12 bytes each.

use super::window::Point;
use std::collections::VecDeque;
use watchfire_engine::model::Moment;

/// Points in order of time, held as two columns: a struct of both would waste four bytes on padding.
///
/// Of several unknown points in a row only the first is kept: it ends what held before, the others
/// say nothing more.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    /// What `times` count from, in milliseconds of the timeline.
    origin: u64,
    times: VecDeque<u32>,
    values: VecDeque<f64>,
}

/// Room of the first points; it grows by a quarter from there on, so that at most that is wasted.
const ROOM_MIN: usize = 8;

impl Ring {
    /// Takes a point later than all others; a point that is not is left out.
    pub(super) fn push(&mut self, point: Point) {
        let Some(&newest) = self.times.back() else {
            self.origin = point.at.0;
            self.put(0, point.value);
            return;
        };
        let known = !point.value.is_nan();
        if !known && self.values.back().is_some_and(|value| value.is_nan()) {
            return;
        }
        if point.at.0 <= self.origin + u64::from(newest) {
            return;
        }
        match u32::try_from(point.at.0 - self.origin) {
            Ok(time) => self.put(time, point.value),
            Err(_) => {
                self.rebase();
                match u32::try_from(point.at.0 - self.origin) {
                    Ok(time) => self.put(time, point.value),
                    // 49 days between two points: what was before is of no use.
                    Err(_) => {
                        *self = Ring::default();
                        self.push(point);
                    }
                }
            }
        }
    }

    /// Lets go of what lies at or before `start`, except for the newest known point there: the baseline.
    pub(super) fn trim(&mut self, start: Moment) {
        let before = |ring: &Ring, n: usize| {
            ring.times
                .get(n)
                .is_some_and(|time| ring.origin + u64::from(*time) <= start.0)
        };
        // No two unknown points stand in a row, so one of the second and the third is known.
        while (before(self, 1) && !self.values[1].is_nan()) || before(self, 2) {
            self.times.pop_front();
            self.values.pop_front();
        }
    }

    /// Adds the points from the baseline of a window that begins at `start` on.
    pub(super) fn copy_from(&self, start: Moment, into: &mut Vec<Point>) {
        let after = self
            .times
            .partition_point(|time| self.origin + u64::from(*time) <= start.0);
        // Two back: the last before the window may be unknown, then the one before it is known.
        let from = after.saturating_sub(2);
        let times = self.times.range(from..);
        into.extend(
            times
                .zip(self.values.range(from..))
                .map(|(time, value)| Point {
                    at: Moment(self.origin + u64::from(*time)),
                    value: *value,
                }),
        );
    }

    /// Bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Ring>() + self.times.capacity() * 4 + self.values.capacity() * 8
    }

    fn put(&mut self, time: u32, value: f64) {
        if self.times.len() == self.times.capacity() {
            let more = (self.times.len() / 4).max(ROOM_MIN);
            self.times.reserve_exact(more);
            self.values.reserve_exact(more);
        }
        self.times.push_back(time);
        self.values.push_back(value);
    }

    fn rebase(&mut self) {
        let by = self.times.front().copied().unwrap_or(0);
        self.times.iter_mut().for_each(|time| *time -= by);
        self.origin += u64::from(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: u64, value: f64) -> Point {
        Point {
            at: Moment(at),
            value,
        }
    }

    fn all(ring: &Ring, start: u64) -> Vec<(u64, f64)> {
        let mut points = Vec::new();
        ring.copy_from(Moment(start), &mut points);
        points.iter().map(|p| (p.at.0, p.value)).collect()
    }

    #[test]
    fn the_baseline_stays() {
        let mut ring = Ring::default();
        for n in 0..100 {
            ring.push(point(n * 10, n as f64));
            ring.trim(Moment((n * 10).saturating_sub(55)));
        }
        // 935 is the start: 930 is the baseline.
        assert_eq!(all(&ring, 935)[0], (930, 93.0));
        assert_eq!(all(&ring, 935).len(), 7);
        assert!(ring.bytes() < 400, "{}", ring.bytes());
    }

    #[test]
    fn an_unknown_point_does_not_hide_the_baseline() {
        let mut ring = Ring::default();
        ring.push(point(10, 1.0));
        for n in 2..50 {
            ring.push(point(n * 10, f64::NAN));
            ring.trim(Moment(n * 10));
        }
        let seen = all(&ring, 490);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], (10, 1.0));
        ring.push(point(500, 2.0));
        ring.push(point(510, 3.0));
        ring.trim(Moment(500));
        assert_eq!(all(&ring, 500), [(500, 2.0), (510, 3.0)]);
    }

    #[test]
    fn points_go_forward_only() {
        let mut ring = Ring::default();
        ring.push(point(10, 1.0));
        ring.push(point(10, 2.0));
        ring.push(point(5, 3.0));
        assert_eq!(all(&ring, 0), [(10, 1.0)]);
    }

    #[test]
    fn time_may_be_long() {
        let month = 31 * 86_400_000;
        let mut ring = Ring::default();
        for n in 0..6 {
            ring.push(point(n * month, n as f64));
            ring.trim(Moment((n * month).saturating_sub(1)));
        }
        assert_eq!(
            all(&ring, 5 * month - 1),
            [(4 * month, 4.0), (5 * month, 5.0)]
        );
        ring.push(point(100 * month, 7.0));
        assert_eq!(all(&ring, 0), [(100 * month, 7.0)]);
    }
}
