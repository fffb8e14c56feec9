//! One series: its newest points and what of its past the rules need.

use crate::store::long::{Long, Shape};
use crate::store::ring::Ring;
use crate::store::window::Point;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Moment, ProbeId, Series};

/// How long windows of a ring may be unknown because its past is not in yet. Usually it comes before the
/// next round; a disk that hangs must not keep rules from judging what is seen now.
const PAST_WAIT_MAX: Duration = Duration::from_secs(60);

/// What was before the first point of a ring: on disk, if anywhere.
#[derive(Clone, Copy, Debug)]
pub(super) enum RingPast {
    /// It is in, or there is none to ask for.
    Known,
    /// It is to be asked for.
    Wanted {
        /// The series' newest point then.
        since: Moment,
    },
    /// It is asked for.
    Asked {
        /// The question.
        number: u64,
        /// As above.
        since: Moment,
    },
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) series: Series,
    pub(super) family: Arc<str>,
    pub(super) probe: ProbeId,
    pub(super) last: Point,
    pub(super) previous: Option<Point>,
    /// Only where a window needs it.
    pub(super) ring: Option<Box<Ring>>,
    /// What was before the ring's first point.
    pub(super) ring_past: RingPast,
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
            ring_past: RingPast::Known,
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
        } else if let RingPast::Wanted { since } = &mut self.ring_past {
            *since = point.at;
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

    /// Whether the ring's windows are unknown at `at`, because its past is still to come.
    pub(super) fn waits_for_past(&self, at: Moment) -> bool {
        match self.ring_past {
            RingPast::Known => false,
            RingPast::Wanted { since } | RingPast::Asked { since, .. } => {
                at.since(since) <= PAST_WAIT_MAX
            }
        }
    }

    /// Puts the past in front of what came since.
    pub(super) fn fill_ring(&mut self, number: u64, past: &[Point], keep: Option<Duration>) {
        let awaited =
            matches!(self.ring_past, RingPast::Asked { number: asked, .. } if asked == number);
        let Some(ring) = self.ring.as_mut().filter(|_| awaited) else {
            return;
        };
        self.ring_past = RingPast::Known;
        let mut own = Vec::new();
        ring.copy_from(Moment(0), &mut own);
        // A ring that was begun with its series holds an unknown point at 0.
        own.retain(|point| point.at > Moment(0));
        let first = own.first().map_or(Moment(u64::MAX), |point| point.at);
        let before = past.iter().filter(|point| point.at < first);
        let mut whole = Box::<Ring>::default();
        before.chain(&own).for_each(|point| whole.push(*point));
        if let Some(over) = keep {
            whole.trim(self.last.at - over);
        }
        *ring = whole;
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
