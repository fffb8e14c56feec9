//! The buckets of one window and what is computed from them.

use super::Shape;
use super::cells::{Cells, Column, Mean, Spread};
use crate::config::Aggregate;
use crate::store::window::{Point, Window};
use std::time::Duration;
use watchfire_engine::model::Moment;

/// Buckets kept beyond the window's own: the one that is cut by its start, the one that is open, and one
/// for a start that is rounded down.
const SPARE: u64 = 3;

/// All that is known of one window of one series.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    shape: Shape,
    /// Width of a bucket, milliseconds.
    width: u64,
    /// The newest point, NaN included.
    newest: Option<Point>,
    /// The newest known point.
    known: Option<Point>,
    column: Column,
}

impl Body {
    /// Knows nothing.
    pub(crate) fn new(shape: Shape) -> Self {
        Body {
            shape,
            width: shape.width(),
            newest: None,
            known: None,
            column: Column::new(shape),
        }
    }

    /// Takes a point later than all others; one that is not is left out. A span to it of more than `stale`
    /// is a gap.
    pub(crate) fn push(&mut self, point: Point, stale: Duration) {
        if let Some(before) = self.newest {
            if point.at <= before.at {
                return;
            }
            if !before.value.is_nan() && point.at.since(before.at) <= stale {
                self.hold(before, point.at);
            }
        }
        self.newest = Some(point);
        if point.value.is_nan() {
            return;
        }
        let number = self.number(point.at);
        let at = u32::try_from(point.at.0 - number * self.width).unwrap_or(u32::MAX);
        let before = self.known.map(|known| known.value);
        let keep = self.keep();
        self.column.point(number, keep, point.value, at, before);
        self.known = Some(point);
    }

    /// The aggregate of the window, its start moved to the nearest border of a bucket. `kind` must be one
    /// that the shape keeps; of others nothing is known.
    pub(crate) fn aggregate(&self, kind: Aggregate, window: &Window) -> f64 {
        let from = self.start(window.at);
        let start = Moment(from * self.width);
        // Without a point in the window, nothing stepped.
        let within = self.known.filter(|known| from == 0 || known.at > start);
        // The newest value still holds.
        let tail = self.newest.and_then(|newest| {
            let held = window.at.since(newest.at) <= window.stale;
            let ms = window.at.since(newest.at.max(start)).as_millis();
            let ms = u64::try_from(ms).ok()?;
            (held && ms > 0 && !newest.value.is_nan()).then_some((newest.value, ms))
        });
        match (&self.column, kind) {
            (Column::Mean(cells), Aggregate::Avg) => mean(cells, from, tail, within),
            (Column::Least(cells), Aggregate::Min) => {
                let held = cells.since(from).map(|(_, cell)| cell.0);
                held.chain(tail.map(|(value, _)| value))
                    .fold(f64::NAN, f64::min)
            }
            (Column::Most(cells), Aggregate::Max) => {
                let held = cells.since(from).map(|(_, cell)| cell.0);
                held.chain(tail.map(|(value, _)| value))
                    .fold(f64::NAN, f64::max)
            }
            (Column::Sum(cells), Aggregate::Sum) => known_sum(cells.since(from).map(|c| c.1.0)),
            (Column::Last, Aggregate::Last) => within.map_or(f64::NAN, |known| known.value),
            (Column::Count(cells), Aggregate::Count) => {
                cells.since(from).map(|(_, cell)| f64::from(cell.0)).sum()
            }
            (Column::Risen(cells), Aggregate::Increase) => {
                known_sum(cells.since(from).map(|c| c.1.0))
            }
            (Column::Risen(cells), Aggregate::Rate) => {
                known_sum(cells.since(from).map(|c| c.1.0)) / window.over.as_secs_f64()
            }
            (Column::Base(cells), Aggregate::Delta) => {
                let mut base = cells.since(from).map(|(_, cell)| cell.0);
                let base = base.find(|value| !value.is_nan());
                base.zip(within)
                    .map_or(f64::NAN, |(base, newest)| newest.value - base)
            }
            (Column::Sketch(cells), Aggregate::Quantile(percent)) => {
                let mut all: Vec<(f64, u64)> = cells
                    .since(from)
                    .flat_map(|(_, cell)| cell.values())
                    .chain(tail)
                    .collect();
                quantile(&mut all, f64::from(percent) / 100.0)
                    .or(within.map(|known| known.value))
                    .unwrap_or(f64::NAN)
            }
            (Column::Spread(cells), Aggregate::Stddev) => {
                let mut all = Spread::default();
                cells.since(from).for_each(|(_, cell)| all.join(cell));
                if let Some((value, ms)) = tail {
                    all.join(&Spread {
                        ms: ms as f64,
                        mean: value,
                        squares: 0.0,
                    });
                }
                if all.ms > 0.0 {
                    (all.squares / all.ms).sqrt()
                } else {
                    within.map_or(f64::NAN, |_| 0.0)
                }
            }
            (Column::Changes(cells), Aggregate::Changes) => {
                known_sum(cells.since(from).map(|(_, cell)| match cell.count() {
                    Some(count) => f64::from(count),
                    None => f64::NAN,
                }))
            }
            _ => f64::NAN,
        }
    }

    /// Adds the newest point of each bucket after `since`.
    pub(crate) fn points(&self, since: Moment, into: &mut Vec<Point>) {
        let Column::Points(cells) = &self.column else {
            return;
        };
        let known = cells.since(since.0 / self.width);
        let known = known.filter(|(_, cell)| !cell.value.is_nan());
        let points = known.map(|(number, cell)| Point {
            at: Moment(number * self.width + u64::from(cell.at)),
            value: cell.value,
        });
        into.extend(points.filter(|point| point.at > since));
    }

    /// Bytes beside its own.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.column.heap_bytes()
    }

    /// The first bucket of a window that ends at `at`.
    fn start(&self, at: Moment) -> u64 {
        match at.0.checked_sub(self.shape.over_ms()) {
            Some(start) => (start + self.width / 2) / self.width,
            None => 0,
        }
    }

    /// The bucket of an instant: `(number * width, (number + 1) * width]`, as windows are open at their
    /// start.
    fn number(&self, at: Moment) -> u64 {
        at.0.saturating_sub(1) / self.width
    }

    fn keep(&self) -> u64 {
        self.shape.over_ms().div_ceil(self.width) + SPARE
    }

    /// Spreads the time that a value held over its buckets.
    fn hold(&mut self, from: Point, until: Moment) {
        let keep = self.keep();
        // The first millisecond of the span belongs to the bucket that ends after its start.
        let last = self.number(until);
        let first = (from.at.0 / self.width).max(last.saturating_sub(keep));
        for number in first..=last {
            let start = from.at.0.max(number * self.width);
            let end = until.0.min((number + 1) * self.width);
            if end > start {
                self.column.hold(number, keep, from.value, end - start);
            }
        }
    }
}

fn mean(cells: &Cells<Mean>, from: u64, tail: Option<(f64, u64)>, within: Option<Point>) -> f64 {
    let mut sum = 0.0;
    let mut ms = 0;
    for (_, cell) in cells.since(from) {
        sum += cell.sum;
        ms += cell.ms;
    }
    if let Some((value, held)) = tail {
        sum += value * held as f64;
        ms += held;
    }
    if ms > 0 {
        sum / ms as f64
    } else {
        within.map_or(f64::NAN, |known| known.value)
    }
}

/// NaN where all are.
fn known_sum(all: impl Iterator<Item = f64>) -> f64 {
    all.filter(|value| !value.is_nan())
        .reduce(|a, b| a + b)
        .unwrap_or(f64::NAN)
}

/// The smallest value that was not exceeded for the share `q` of the time.
fn quantile(all: &mut [(f64, u64)], q: f64) -> Option<f64> {
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: u64 = all.iter().map(|(_, ms)| ms).sum();
    let wanted = q.clamp(0.0, 1.0) * total as f64;
    let mut so_far = 0;
    for (value, ms) in all.iter() {
        so_far += ms;
        if so_far as f64 >= wanted {
            return Some(*value);
        }
    }
    all.last().map(|(value, _)| *value)
}
