//! Windows longer than the memory of points: running aggregates in buckets of a fixed width.
//!
//! A window of length W is cut into [`PARTS`] buckets ([`PARTS_OF_QUANTILES`] for quantiles) that lie on a
//! fixed grid of the timeline. A bucket holds what one aggregate needs of its stretch and nothing else, 4 to
//! 24 bytes. The answer is what [`super::window::aggregate`] says of a window whose start is moved to
//! the nearest border of a bucket: by at most W/480, for quantiles W/120. Beyond that it differs in two ways:
//!
//! * a quantile is a value that was there, within 2 % of the exact one (coarser where one bucket spans more
//!   than a factor of 150, see [`sketch`]);
//! * where no value ever held (each point came after a gap), means and quantiles are the newest value.
//!
//! A span is judged stale as its end arrives, by the interval its probe had then, not by today's.
//!
//! What happened before this process is read from `metrics.db` by somebody else ([`Past`]); until it
//! comes the window is unknown, and the points of the meantime wait. Nothing here touches a disk.

mod body;
mod cells;
mod sketch;

pub(crate) use body::Body;

use super::window::{Point, Window};
use crate::config::Aggregate;
use std::time::Duration;
use watchfire_engine::model::Moment;

/// Buckets of a window. The start of the window is off by half a bucket at most: 3 min of a day.
pub const PARTS: u64 = 240;

/// Buckets of a window of quantiles: each holds a sketch of up to 4 KiB.
pub const PARTS_OF_QUANTILES: u64 = 60;

/// Points that wait for the past to be read; it takes a second, this many are 40 minutes at an interval
/// of 10 s. Beyond, they are thrown away and the past is asked for again, which then holds them.
const WAITING_MAX: usize = 256;

/// What is kept of a stretch; aggregates that need the same share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// For `avg`.
    Mean,
    /// For `min`.
    Min,
    /// For `max`.
    Max,
    /// For `sum`.
    Sum,
    /// For `last`.
    Last,
    /// For `count`.
    Count,
    /// For `increase` and `rate`.
    Increase,
    /// For `delta`.
    Delta,
    /// For quantiles.
    Sketch,
    /// For `stddev`.
    Spread,
    /// For `changes`.
    Changes,
    /// The newest point of each bucket, for rules that look at points.
    Points,
}

impl From<Aggregate> for Kept {
    fn from(kind: Aggregate) -> Self {
        match kind {
            Aggregate::Avg => Kept::Mean,
            Aggregate::Min => Kept::Min,
            Aggregate::Max => Kept::Max,
            Aggregate::Sum => Kept::Sum,
            Aggregate::Last => Kept::Last,
            Aggregate::Count => Kept::Count,
            Aggregate::Increase | Aggregate::Rate => Kept::Increase,
            Aggregate::Delta => Kept::Delta,
            Aggregate::Quantile(_) => Kept::Sketch,
            Aggregate::Stddev => Kept::Spread,
            Aggregate::Changes => Kept::Changes,
        }
    }
}

/// One declared window of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Its length.
    pub over: Duration,
    /// What of it.
    pub kept: Kept,
}

impl Shape {
    /// Width of a bucket, in milliseconds.
    pub fn width(&self) -> u64 {
        let parts = match self.kept {
            Kept::Sketch => PARTS_OF_QUANTILES,
            _ => PARTS,
        };
        self.over_ms().div_ceil(parts).max(1)
    }

    /// Bytes that one series of it takes when full; of a sketch what usual values take.
    pub fn bytes(&self) -> usize {
        let cells = match self.kept {
            Kept::Last => 0,
            Kept::Sketch => PARTS_OF_QUANTILES as usize + 3,
            _ => PARTS as usize + 3,
        };
        size_of::<Long>() + cells * cells::size_of_cell(self.kept)
    }

    /// Its length in milliseconds.
    fn over_ms(&self) -> u64 {
        u64::try_from(self.over.as_millis()).unwrap_or(u64::MAX / 4)
    }
}

/// How far the past of a window is known.
#[derive(Clone, Debug, PartialEq)]
enum Past {
    /// It has to be asked for.
    Wanted,
    /// It was asked for under this number.
    Asked(u64),
    /// It is in, or there is none.
    In,
}

/// One window of one series.
#[derive(Clone, Debug)]
pub(super) struct Long {
    shape: Shape,
    past: Past,
    /// Points since the past was asked for, with what was stale for each.
    waiting: Vec<(Point, Duration)>,
    body: Body,
}

impl Long {
    /// A window that begins now; `past`: something may be known of before, and is to be asked for.
    pub(super) fn new(shape: Shape, past: bool) -> Self {
        Long {
            shape,
            past: if past { Past::Wanted } else { Past::In },
            waiting: Vec::new(),
            body: Body::new(shape),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether its past has to be asked for.
    pub(super) fn wants_past(&self) -> bool {
        self.past == Past::Wanted
    }

    /// Notes that the past was asked for: all up to the newest point.
    pub(super) fn asked(&mut self, number: u64) {
        self.past = Past::Asked(number);
        self.waiting = Vec::new();
    }

    /// Takes a point later than all others.
    pub(super) fn push(&mut self, point: Point, stale: Duration) {
        match self.past {
            Past::In => self.body.push(point, stale),
            // What comes before the question is in the answer.
            Past::Wanted => {}
            Past::Asked(_) if self.waiting.len() >= WAITING_MAX => {
                self.past = Past::Wanted;
                self.waiting = Vec::new();
            }
            Past::Asked(_) => self.waiting.push((point, stale)),
        }
    }

    /// Takes the past in, if it answers the newest question.
    pub(super) fn fill(&mut self, number: u64, past: Body) {
        if self.past != Past::Asked(number) {
            return;
        }
        self.body = past;
        self.past = Past::In;
        for (point, stale) in std::mem::take(&mut self.waiting) {
            self.body.push(point, stale);
        }
    }

    /// The aggregate; NaN: not known, or not yet.
    pub(super) fn aggregate(&self, kind: Aggregate, window: &Window) -> f64 {
        match self.past {
            Past::In => self.body.aggregate(kind, window),
            _ => f64::NAN,
        }
    }

    /// Adds the newest point of each bucket since `since`; nothing while the past is not known.
    pub(super) fn points(&self, since: Moment, into: &mut Vec<Point>) {
        if self.past == Past::In {
            self.body.points(since, into);
        }
    }

    /// Bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Long>()
            + self.body.heap_bytes()
            + self.waiting.capacity() * size_of::<(Point, Duration)>()
    }
}

#[cfg(test)]
mod tests;
