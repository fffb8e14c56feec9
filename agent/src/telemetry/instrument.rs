//! Counters, gauges, histograms and families of them: atomics that any task may touch without waiting.
//!
//! A family keeps its children in a map behind a mutex that is held for a look-up only; a hot path
//! asks once and keeps the handle.

use super::exposition::Exposition;
use crate::sandbox::types::FamilyKind;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most label sets one family keeps. Labels come from ids of the configuration, so this is far
/// above what a host has; what comes later shares one child whose labels are all [`OVERFLOW`].
const CHILDREN_MAX: usize = 4_096;

/// Label value of the child that stands for all label sets beyond the bound.
const OVERFLOW: &str = "_other";

/// Name, help, labels and buckets of one metric of our own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// Full name, without the suffixes of a histogram.
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    /// Its type.
    pub kind: FamilyKind,
    /// Label names; empty for a metric without labels.
    pub labels: &'static [&'static str],
    /// Upper bounds, ascending; empty unless it is a histogram.
    pub buckets: &'static [f64],
}

/// Something that can stand in the list of metrics.
pub trait Instrument {
    /// Its type.
    const KIND: FamilyKind;

    /// Starts at zero.
    fn new(info: &Info) -> Self;

    /// Writes all its samples, without HELP and TYPE.
    fn write(&self, info: &Info, labels: &[(&str, &str)], to: &mut Exposition);
}

/// Adds to a float that lives in an atomic integer.
fn add_to(cell: &AtomicU64, by: f64) {
    let add = |bits| Some((f64::from_bits(bits) + by).to_bits());
    // `Some` is returned always, so the update cannot fail.
    let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Adds `by`; what is not a positive number is left out.
    pub fn add(&self, by: f64) {
        if by > 0.0 {
            add_to(&self.0, by);
        }
    }

    /// Adds a number of things.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53, which no step reaches"
    )]
    pub fn add_count(&self, by: u64) {
        self.add(by as f64);
    }

    /// Raises it to a count that is kept elsewhere and only goes up.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53, which no count reaches"
    )]
    pub(super) fn catch_up(&self, to: u64) {
        self.0.store((to as f64).to_bits(), Ordering::Relaxed);
    }

    /// Adds a time, in seconds.
    pub fn add_time(&self, by: Duration) {
        self.add(by.as_secs_f64());
    }

    /// The current value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Instrument for Counter {
    const KIND: FamilyKind = FamilyKind::Counter;

    fn new(_: &Info) -> Self {
        Counter::default()
    }

    fn write(&self, info: &Info, labels: &[(&str, &str)], to: &mut Exposition) {
        to.sample(info.name, labels.iter().copied(), self.get());
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, to: f64) {
        self.0.store(to.to_bits(), Ordering::Relaxed);
    }

    /// Sets it to a number of things.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53, which no count reaches"
    )]
    pub fn set_count(&self, to: usize) {
        self.set(to as f64);
    }

    /// Sets it to 1 or 0.
    pub fn set_flag(&self, to: bool) {
        self.set(f64::from(u8::from(to)));
    }

    /// Raises it to `to` where that is more.
    pub fn raise(&self, to: f64) {
        let raise = |bits| (f64::from_bits(bits) < to).then(|| to.to_bits());
        // An error means that it already stands at least so high.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise);
    }

    /// The current value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Instrument for Gauge {
    const KIND: FamilyKind = FamilyKind::Gauge;

    fn new(_: &Info) -> Self {
        Gauge::default()
    }

    fn write(&self, info: &Info, labels: &[(&str, &str)], to: &mut Exposition) {
        to.sample(info.name, labels.iter().copied(), self.get());
    }
}

/// Counts observations by size.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, ascending; the bucket of the rest comes after them.
    bounds: &'static [f64],
    /// One more than `bounds`; each counts its own range only.
    counts: Box<[AtomicU64]>,
    /// Bits of a float.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one observation; NaN is left out.
    pub fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        add_to(&self.sum, value);
    }

    /// Counts a time, in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

impl Instrument for Histogram {
    const KIND: FamilyKind = FamilyKind::Histogram;

    fn new(info: &Info) -> Self {
        Histogram {
            bounds: info.buckets,
            counts: (0..=info.buckets.len())
                .map(|_| AtomicU64::new(0))
                .collect(),
            sum: AtomicU64::new(0),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53, which no count reaches"
    )]
    fn write(&self, info: &Info, labels: &[(&str, &str)], to: &mut Exposition) {
        let bucket = format!("{}_bucket", info.name);
        let mut below = 0;
        for (at, count) in self.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let bound = self.bounds.get(at).copied().unwrap_or(f64::INFINITY);
            let le = super::exposition::number(bound);
            let labels = labels.iter().copied().chain([("le", &*le)]);
            to.sample(&bucket, labels, below as f64);
        }
        let all = labels.iter().copied();
        to.sample(&format!("{}_sum", info.name), all.clone(), self.sum());
        // The total is that of the buckets as read above: the two never disagree in one answer.
        to.sample(&format!("{}_count", info.name), all, below as f64);
    }
}

/// One instrument for each set of label values.
#[derive(Debug)]
pub struct Family<M, const N: usize> {
    info: Info,
    children: Mutex<BTreeMap<[Box<str>; N], Arc<M>>>,
}

impl<M: Instrument, const N: usize> Family<M, N> {
    /// The child with these label values, in the order of the declared labels; made where there is none.
    pub fn with(&self, values: [&str; N]) -> Arc<M> {
        let mut children = self.children();
        let mut key = values.map(Box::from);
        if children.len() >= CHILDREN_MAX && !children.contains_key(&key) {
            key = [OVERFLOW; N].map(Box::from);
        }
        let child = children
            .entry(key)
            .or_insert_with(|| Arc::new(M::new(&self.info)));
        Arc::clone(child)
    }

    /// Keeps only the children whose label values pass: after a reload, what no longer exists goes.
    pub fn retain(&self, keep: impl Fn([&str; N]) -> bool) {
        self.children()
            .retain(|key, _| keep(std::array::from_fn(|at| &*key[at])));
    }

    /// All children with their label values.
    pub fn all(&self) -> Vec<([Box<str>; N], Arc<M>)> {
        let children = self.children();
        children
            .iter()
            .map(|(key, child)| (key.clone(), child.clone()))
            .collect()
    }

    fn children(&self) -> MutexGuard<'_, BTreeMap<[Box<str>; N], Arc<M>>> {
        // No caller can leave the map half changed, so a panic elsewhere does not spoil it.
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> Family<Gauge, N> {
    /// Replaces all children at once: a label set that is not among `all` disappears.
    pub fn replace(&self, all: impl IntoIterator<Item = ([String; N], f64)>) {
        let fresh = all.into_iter().take(CHILDREN_MAX).map(|(key, value)| {
            let gauge = Gauge::default();
            gauge.set(value);
            (key.map(Box::from), Arc::new(gauge))
        });
        *self.children() = fresh.collect();
    }
}

impl<M: Instrument, const N: usize> Instrument for Family<M, N> {
    const KIND: FamilyKind = M::KIND;

    fn new(info: &Info) -> Self {
        assert_eq!(info.labels.len(), N, "labels of {}", info.name);
        Family {
            info: *info,
            children: Mutex::default(),
        }
    }

    fn write(&self, info: &Info, outer: &[(&str, &str)], to: &mut Exposition) {
        for (values, child) in self.children().iter() {
            let labels: Vec<(&str, &str)> = outer
                .iter()
                .copied()
                .chain(info.labels.iter().copied().zip(values.iter().map(|v| &**v)))
                .collect();
            child.write(info, &labels, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: Info = Info {
        name: "watchfire_thing_seconds",
        help: "Things.",
        kind: FamilyKind::Histogram,
        labels: &["a"],
        buckets: &[0.1, 1.0],
    };

    #[test]
    fn a_histogram_counts_upwards_and_bounds_are_inclusive() {
        let histogram = Histogram::new(&INFO);
        for value in [0.1, 0.5, 1.0, 7.0, f64::NAN] {
            histogram.observe(value);
        }
        let mut out = Exposition::default();
        histogram.write(&INFO, &[("a", "x")], &mut out);
        assert_eq!(
            out.finish(),
            "watchfire_thing_seconds_bucket{a=\"x\",le=\"0.1\"} 1\n\
             watchfire_thing_seconds_bucket{a=\"x\",le=\"1\"} 3\n\
             watchfire_thing_seconds_bucket{a=\"x\",le=\"+Inf\"} 4\n\
             watchfire_thing_seconds_sum{a=\"x\"} 8.6\n\
             watchfire_thing_seconds_count{a=\"x\"} 4\n"
        );
        assert_eq!((histogram.count(), histogram.sum()), (4, 8.6));
    }

    #[test]
    fn counters_never_fall_and_gauges_can_be_raised() {
        let counter = Counter::default();
        counter.add(-1.0);
        counter.add(f64::NAN);
        counter.add_time(Duration::from_millis(250));
        counter.inc();
        assert_eq!(counter.get(), 1.25);
        let gauge = Gauge::default();
        gauge.raise(3.0);
        gauge.raise(2.0);
        assert_eq!(gauge.get(), 3.0);
    }

    #[test]
    fn a_family_keeps_handles_forgets_and_is_bounded() {
        let family: Family<Gauge, 1> = Family::new(&INFO);
        let handle = family.with(["a"]);
        handle.set(2.0);
        assert_eq!(family.with(["a"]).get(), 2.0);
        family.retain(|[label]| label != "a");
        assert_eq!(family.with(["a"]).get(), 0.0);
        for n in 0..CHILDREN_MAX + 10 {
            family.with([&n.to_string()]).set(1.0);
        }
        assert_eq!(family.children().len(), CHILDREN_MAX + 1);
        family.replace([(["z".to_owned()], 4.0)]);
        assert_eq!(family.children().len(), 1);
    }
}
