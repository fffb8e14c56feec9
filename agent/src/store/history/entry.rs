//! One series: its newest points and what of its past the rules need.

use crate::store::long::{Long, Shape};
use crate::store::ring::Ring;
use crate::store::window::Point;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Moment, ProbeId, Series};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) series: Series,
    pub(super) family: Arc<str>,
    pub(super) probe: ProbeId,
    pub(super) last: Point,
    pub(super) previous: Option<Point>,
    /// Only where a window needs it.
    pub(super) ring: Option<Box<Ring>>,
    /// Windows longer than the ring.
    pub(super) longs: Vec<Long>,
}

impl Entry {
    /// A series that was just seen for the first time, before its first point.
    pub(super) fn new(series: Series, family: Arc<str>, probe: ProbeId) -> Self {
        Entry {
            series,
            family,
            probe,
            last: Point {
                at: Moment(0),
                value: f64::NAN,
            },
            previous: None,
            ring: None,
            longs: Vec::new(),
        }
    }

    /// Takes a point; one that is not later than the last is left out. `keep` is the longest window that
    /// the ring serves. True: the past of a window has to be asked for again.
    pub(super) fn put(&mut self, point: Point, stale: Duration, keep: Option<Duration>) -> bool {
        let first = self.last.value.is_nan() && self.last.at == Moment(0);
        if !first {
            if point.at <= self.last.at {
                return false;
            }
            self.previous = Some(self.last);
        }
        self.last = point;
        if let Some(ring) = &mut self.ring {
            ring.push(point);
            if let Some(over) = keep {
                ring.trim(point.at - over);
            }
        }
        let mut again = false;
        for long in &mut self.longs {
            let wanted = long.wants_past();
            long.push(point, stale);
            again |= long.wants_past() && !wanted;
        }
        again
    }

    /// The window of this shape.
    pub(super) fn long(&self, shape: Shape) -> Option<&Long> {
        self.longs.iter().find(|long| long.shape() == shape)
    }

    /// A ring with what is known.
    pub(super) fn start_ring(&self) -> Box<Ring> {
        let mut ring = Box::<Ring>::default();
        for point in self.previous.into_iter().chain([self.last]) {
            ring.push(point);
        }
        ring
    }

    /// Bytes set aside for its long windows.
    pub(super) fn long_bytes(&self) -> usize {
        self.longs.iter().map(|long| long.shape().bytes()).sum()
    }
}
