//! Windows: many points become one number, as the inputs of a rule ask for it.
//!
//! Pure functions over points in order of time. A window of length `over` at time `at` is
//! `(at - over, at]`. What stands before it is the *baseline*: the newest point at or before
//! `at - over`. Points after `at` are left out, NaN points too: they mean that nothing was known.
//!
//! | aggregate | of what | window without a point |
//! |---|---|---|
//! | `avg` `pNN` `stddev` | values weighted by the time they held | of the baseline if it still holds, else NaN |
//! | `min` `max` | values that held at any time in the window | likewise |
//! | `sum` `last` | points in the window | NaN |
//! | `count` | points in the window | 0 |
//! | `increase` `rate` `delta` `changes` | steps from the baseline over the points in the window; a first point has no step | NaN |
//!
//! *Holding*: a value holds from its point to the next one, the last one to `at`; before the window
//! it counts from the window's start. A span between two points longer than `stale` is a gap in which
//! nothing was known: it has no weight. Nor has the span after a NaN. Where no span has weight (a
//! single point at `at`), the points of the window weigh the same.

use crate::config::Aggregate;
use std::time::Duration;
use watchfire_engine::model::Moment;

/// A value that was not renewed for this many intervals of its probe does not hold any longer.
const STALE_INTERVALS: f64 = 2.5;

/// The least of it.
const STALE_MIN: Duration = Duration::from_secs(10);

/// One value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// On the agent's timeline.
    pub at: Moment,
    /// NaN: not known.
    pub value: f64,
}

/// Which part of the points counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its end, inclusive.
    pub at: Moment,
    /// Its length.
    pub over: Duration,
    /// A value that was not renewed for longer does not hold.
    pub stale: Duration,
}

/// A value and for how long it held within the window, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    value: f64,
    weight: f64,
}

impl Window {
    /// Where it begins, exclusive; None: before the timeline does, so nothing stands before it.
    fn start(&self) -> Option<Moment> {
        let over = u64::try_from(self.over.as_millis()).ok()?;
        self.at.0.checked_sub(over).map(Moment)
    }

    /// The points of the window, and the baseline with all before it.
    fn split<'a>(&self, points: &'a [Point]) -> (&'a [Point], &'a [Point]) {
        let end = points.partition_point(|point| point.at <= self.at);
        let begin = self.start().map_or(0, |start| {
            points[..end].partition_point(|point| point.at <= start)
        });
        points[..end].split_at(begin)
    }

    fn inside<'a>(&self, points: &'a [Point]) -> impl Iterator<Item = f64> + Clone + use<'a> {
        let (_, inside) = self.split(points);
        inside
            .iter()
            .map(|point| point.value)
            .filter(|value| !value.is_nan())
    }

    /// The known values of the steps: the baseline, then those of the window. Empty without a known
    /// point in the window.
    fn stairs<'a>(&self, points: &'a [Point]) -> impl Iterator<Item = f64> + Clone + use<'a> {
        let (before, inside) = self.split(points);
        let empty = inside.iter().all(|point| point.value.is_nan());
        let baseline = before.iter().rev().find(|point| !point.value.is_nan());
        let all = baseline.into_iter().chain(inside).map(|point| point.value);
        all.filter(move |value| !value.is_nan() && !empty)
    }

    /// The values that held within the window; a point at its very end with weight 0.
    fn held<'a>(&self, points: &'a [Point]) -> impl Iterator<Item = Span> + use<'a> {
        let Window { at, stale, .. } = *self;
        let start = self.start().unwrap_or_default();
        let (before, inside) = self.split(points);
        let from = before.len().saturating_sub(1);
        let all = &points[from..before.len() + inside.len()];
        let first_inside = before.len() - from;
        all.iter().enumerate().filter_map(move |(n, point)| {
            let until = all.get(n + 1).map_or(at, |next| next.at);
            let held = until.since(point.at) <= stale;
            let within = until.0.saturating_sub(point.at.max(start).0);
            // The baseline counts only while it holds; a point of the window is there in any case.
            let counts = n >= first_inside || (held && within > 0);
            (counts && !point.value.is_nan()).then_some(Span {
                value: point.value,
                weight: if held { within as f64 } else { 0.0 },
            })
        })
    }

    /// As [`Window::held`], the weights adding up to more than zero, or nothing at all.
    fn weighted(&self, points: &[Point]) -> Vec<Span> {
        let mut all: Vec<Span> = self.held(points).collect();
        if all.iter().all(|span| span.weight == 0.0) {
            all.iter_mut().for_each(|span| span.weight = 1.0);
        } else {
            // An infinite value of no weight would make the mean NaN.
            all.retain(|span| span.weight > 0.0);
        }
        all
    }
}

/// How long a value holds that its probe renews each `every`: 2.5 intervals, at least 10 s, as for
/// `stale_after` (alerting.md 1.3).
pub fn stale_after(every: Duration) -> Duration {
    every.mul_f64(STALE_INTERVALS).max(STALE_MIN)
}

/// Computes one aggregate over `points`, in order of time; earlier ones than the baseline do no harm.
/// NaN: not known.
pub fn aggregate(kind: Aggregate, points: &[Point], window: &Window) -> f64 {
    match kind {
        Aggregate::Avg => avg(points, window),
        Aggregate::Min => min(points, window),
        Aggregate::Max => max(points, window),
        Aggregate::Sum => sum(points, window),
        Aggregate::Last => last(points, window),
        Aggregate::Count => count(points, window),
        Aggregate::Increase => increase(points, window),
        Aggregate::Rate => rate(points, window),
        Aggregate::Delta => delta(points, window),
        Aggregate::Quantile(percent) => quantile(points, window, f64::from(percent) / 100.0),
        Aggregate::Stddev => stddev(points, window),
        Aggregate::Changes => changes(points, window),
    }
}

/// Mean over time.
pub fn avg(points: &[Point], window: &Window) -> f64 {
    mean(&window.weighted(points))
}

/// Smallest value that held.
pub fn min(points: &[Point], window: &Window) -> f64 {
    // `f64::min` prefers a number to NaN, so NaN is its neutral element.
    window
        .held(points)
        .map(|span| span.value)
        .fold(f64::NAN, f64::min)
}

/// Largest value that held.
pub fn max(points: &[Point], window: &Window) -> f64 {
    window
        .held(points)
        .map(|span| span.value)
        .fold(f64::NAN, f64::max)
}

/// Sum of the points.
pub fn sum(points: &[Point], window: &Window) -> f64 {
    window
        .inside(points)
        .reduce(|a, b| a + b)
        .unwrap_or(f64::NAN)
}

/// Newest point.
pub fn last(points: &[Point], window: &Window) -> f64 {
    window.inside(points).last().unwrap_or(f64::NAN)
}

/// Number of points.
pub fn count(points: &[Point], window: &Window) -> f64 {
    window.inside(points).count() as f64
}

/// How much a counter rose; a decrease is a reset, after which it rose by its new value.
pub fn increase(points: &[Point], window: &Window) -> f64 {
    over_steps(points, window, risen)
}

/// How much a counter rose from one point to the next.
pub(super) fn risen(from: f64, to: f64) -> f64 {
    if to < from { to } else { to - from }
}

/// [`increase`] per second of the window.
pub fn rate(points: &[Point], window: &Window) -> f64 {
    increase(points, window) / window.over.as_secs_f64()
}

/// Newest value minus the baseline's, or the oldest of the window where there is none.
pub fn delta(points: &[Point], window: &Window) -> f64 {
    let mut stairs = window.stairs(points);
    match stairs.next() {
        Some(first) => stairs.last().unwrap_or(first) - first,
        None => f64::NAN,
    }
}

/// How often the value differs from the one before.
pub fn changes(points: &[Point], window: &Window) -> f64 {
    over_steps(points, window, |from, to| f64::from(u8::from(from != to)))
}

/// Smallest value that was not exceeded for the share `q` (0 to 1) of the time: always a value that
/// was there, never one in between.
pub fn quantile(points: &[Point], window: &Window, q: f64) -> f64 {
    let mut all = window.weighted(points);
    all.sort_by(|a, b| a.value.total_cmp(&b.value));
    let total: f64 = all.iter().map(|span| span.weight).sum();
    let wanted = q.clamp(0.0, 1.0) * total;
    let mut so_far = 0.0;
    for span in &all {
        so_far += span.weight;
        if so_far >= wanted {
            return span.value;
        }
    }
    // Rounding may leave the sum a hair below.
    all.last().map_or(f64::NAN, |span| span.value)
}

/// Standard deviation over time, of the whole and not of a sample.
pub fn stddev(points: &[Point], window: &Window) -> f64 {
    let all = window.weighted(points);
    let mean = mean(&all);
    let total: f64 = all.iter().map(|span| span.weight).sum();
    let squares: f64 = all
        .iter()
        .map(|span| span.weight * (span.value - mean).powi(2))
        .sum();
    // Not the difference of two large sums: that loses all digits of a small deviation.
    (squares / total).sqrt()
}

/// NaN for nothing (0 / 0).
fn mean(all: &[Span]) -> f64 {
    let total: f64 = all.iter().map(|span| span.weight).sum();
    all.iter().map(|span| span.weight * span.value).sum::<f64>() / total
}

fn over_steps(points: &[Point], window: &Window, step: impl Fn(f64, f64) -> f64) -> f64 {
    let stairs = window.stairs(points);
    if stairs.clone().next().is_none() {
        return f64::NAN;
    }
    // Not `sum`: that of nothing is -0.
    let steps = stairs.clone().zip(stairs.skip(1));
    steps.fold(0.0, |sum, (from, to)| sum + step(from, to))
}

#[cfg(test)]
mod tests;
