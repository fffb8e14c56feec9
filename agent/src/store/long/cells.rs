//! What a bucket keeps, for each kind of aggregate.

use super::sketch::Sketch;
use super::{Kept, Shape};
use std::collections::VecDeque;

/// Buckets grow by this many at a time, so that little room is wasted.
const GROW: usize = 32;

/// One bucket.
pub(super) trait Cell: Clone + Default {
    /// `value` held for `ms` (more than zero) of the bucket's stretch.
    fn hold(&mut self, value: f64, ms: u64);

    /// A known point lies in the stretch, `before` being the known value before it, anywhere.
    fn point(&mut self, value: f64, at_in_bucket: u32, before: Option<f64>);

    /// Bytes beside its own.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Buckets of one kind, without a hole.
#[derive(Clone, Debug)]
pub(super) struct Cells<C> {
    /// Number of the first on the grid.
    first: u64,
    cells: VecDeque<C>,
}

impl<C> Default for Cells<C> {
    fn default() -> Self {
        Cells {
            first: 0,
            cells: VecDeque::new(),
        }
    }
}

impl<C: Cell> Cells<C> {
    /// The bucket `number`, made where it is missing; what lies more than `keep` before it goes. None:
    /// it went already.
    pub(super) fn at(&mut self, number: u64, keep: u64) -> Option<&mut C> {
        let oldest = number.saturating_sub(keep);
        let end = self.first + self.cells.len() as u64;
        if self.cells.is_empty() || end <= oldest {
            self.cells.clear();
            self.first = number;
        }
        while self.first < oldest {
            self.cells.pop_front();
            self.first += 1;
        }
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        while self.cells.len() <= place {
            if self.cells.len() == self.cells.capacity() {
                self.cells.reserve_exact(GROW);
            }
            self.cells.push_back(C::default());
        }
        self.cells.get_mut(place)
    }

    /// The buckets from `number` on, with their numbers.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = (u64, &C)> {
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let skip = skip.min(self.cells.len());
        (self.first + skip as u64..).zip(self.cells.range(skip..))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<C>()
            + self.cells.iter().map(Cell::heap_bytes).sum::<usize>()
    }
}

/// Values weighted by the milliseconds they held.
#[derive(Clone, Debug, Default)]
pub(super) struct Mean {
    pub(super) sum: f64,
    pub(super) ms: u64,
}

impl Cell for Mean {
    fn hold(&mut self, value: f64, ms: u64) {
        self.sum += value * ms as f64;
        self.ms += ms;
    }

    fn point(&mut self, _: f64, _: u32, _: Option<f64>) {}
}

/// The smallest value that held; NaN: none.
#[derive(Clone, Debug)]
pub(super) struct Least(pub(super) f64);

impl Default for Least {
    fn default() -> Self {
        Least(f64::NAN)
    }
}

impl Cell for Least {
    fn hold(&mut self, value: f64, _: u64) {
        self.0 = self.0.min(value);
    }

    fn point(&mut self, value: f64, _: u32, _: Option<f64>) {
        self.0 = self.0.min(value);
    }
}

/// The largest value that held; NaN: none.
#[derive(Clone, Debug)]
pub(super) struct Most(pub(super) f64);

impl Default for Most {
    fn default() -> Self {
        Most(f64::NAN)
    }
}

impl Cell for Most {
    fn hold(&mut self, value: f64, _: u64) {
        self.0 = self.0.max(value);
    }

    fn point(&mut self, value: f64, _: u32, _: Option<f64>) {
        self.0 = self.0.max(value);
    }
}

/// The sum of the points; NaN: none.
#[derive(Clone, Debug)]
pub(super) struct Sum(pub(super) f64);

impl Default for Sum {
    fn default() -> Self {
        Sum(f64::NAN)
    }
}

impl Cell for Sum {
    fn hold(&mut self, _: f64, _: u64) {}

    fn point(&mut self, value: f64, _: u32, _: Option<f64>) {
        self.0 = if self.0.is_nan() {
            value
        } else {
            self.0 + value
        };
    }
}

/// The number of points.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(pub(super) u32);

impl Cell for Count {
    fn hold(&mut self, _: f64, _: u64) {}

    fn point(&mut self, _: f64, _: u32, _: Option<f64>) {
        self.0 = self.0.saturating_add(1);
    }
}

/// How much a counter rose; NaN: no point.
#[derive(Clone, Debug)]
pub(super) struct Risen(pub(super) f64);

impl Default for Risen {
    fn default() -> Self {
        Risen(f64::NAN)
    }
}

impl Cell for Risen {
    fn hold(&mut self, _: f64, _: u64) {}

    fn point(&mut self, value: f64, _: u32, before: Option<f64>) {
        let step = before.map_or(0.0, |before| super::super::window::risen(before, value));
        self.0 = if self.0.is_nan() { step } else { self.0 + step };
    }
}

/// How often the value changed; None: no point.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(pub(super) Option<std::num::NonZeroU32>);

impl Changes {
    /// One is added so that a bucket without a change is told from one without a point.
    pub(super) fn count(&self) -> Option<u32> {
        self.0.map(|count| count.get() - 1)
    }
}

impl Cell for Changes {
    fn hold(&mut self, _: f64, _: u64) {}

    fn point(&mut self, value: f64, _: u32, before: Option<f64>) {
        let step = u32::from(before.is_some_and(|before| before != value));
        let count = self.count().unwrap_or(0).saturating_add(step);
        self.0 = std::num::NonZeroU32::new(count.saturating_add(1));
    }
}

/// The known value before the first point, or that point itself where nothing is before; NaN: no point.
/// A bucket carries its own baseline, so that one older than all buckets is not lost.
#[derive(Clone, Debug)]
pub(super) struct Base(pub(super) f64);

impl Default for Base {
    fn default() -> Self {
        Base(f64::NAN)
    }
}

impl Cell for Base {
    fn hold(&mut self, _: f64, _: u64) {}

    fn point(&mut self, value: f64, _: u32, before: Option<f64>) {
        if self.0.is_nan() {
            self.0 = before.unwrap_or(value);
        }
    }
}

/// The newest value; NaN: no point.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    pub(super) value: f64,
    /// Milliseconds from the start of the bucket.
    pub(super) at: u32,
}

impl Default for Newest {
    fn default() -> Self {
        Newest {
            value: f64::NAN,
            at: 0,
        }
    }
}

impl Cell for Newest {
    fn hold(&mut self, _: f64, _: u64) {}

    fn point(&mut self, value: f64, at: u32, _: Option<f64>) {
        *self = Newest { value, at };
    }
}

/// Weight, mean and squared deviation of the values that held, such that two can be joined without the
/// difference of large sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    pub(super) ms: f64,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

impl Spread {
    /// Both together (Chan's formula).
    pub(super) fn join(&mut self, other: &Spread) {
        if other.ms == 0.0 {
            return;
        }
        let ms = self.ms + other.ms;
        let apart = other.mean - self.mean;
        self.mean += apart * other.ms / ms;
        self.squares += other.squares + apart * apart * self.ms * other.ms / ms;
        self.ms = ms;
    }
}

impl Cell for Spread {
    fn hold(&mut self, value: f64, ms: u64) {
        self.join(&Spread {
            ms: ms as f64,
            mean: value,
            squares: 0.0,
        });
    }

    fn point(&mut self, _: f64, _: u32, _: Option<f64>) {}
}

impl Cell for Sketch {
    fn hold(&mut self, value: f64, ms: u64) {
        self.add(value, ms);
    }

    fn point(&mut self, _: f64, _: u32, _: Option<f64>) {}

    fn heap_bytes(&self) -> usize {
        self.bytes()
    }
}

/// Buckets of one of the kinds.
#[derive(Clone, Debug)]
pub(super) enum Column {
    Mean(Cells<Mean>),
    Least(Cells<Least>),
    Most(Cells<Most>),
    Sum(Cells<Sum>),
    /// Needs no bucket: the newest point says it.
    Last,
    Count(Cells<Count>),
    Risen(Cells<Risen>),
    Base(Cells<Base>),
    Sketch(Cells<Sketch>),
    Spread(Cells<Spread>),
    Changes(Cells<Changes>),
    Points(Cells<Newest>),
}

impl Column {
    pub(super) fn new(shape: Shape) -> Self {
        match shape.kept {
            Kept::Mean => Column::Mean(Cells::default()),
            Kept::Min => Column::Least(Cells::default()),
            Kept::Max => Column::Most(Cells::default()),
            Kept::Sum => Column::Sum(Cells::default()),
            Kept::Last => Column::Last,
            Kept::Count => Column::Count(Cells::default()),
            Kept::Increase => Column::Risen(Cells::default()),
            Kept::Delta => Column::Base(Cells::default()),
            Kept::Sketch => Column::Sketch(Cells::default()),
            Kept::Spread => Column::Spread(Cells::default()),
            Kept::Changes => Column::Changes(Cells::default()),
            Kept::Points => Column::Points(Cells::default()),
        }
    }

    /// [`Cell::hold`] on the bucket `number`.
    pub(super) fn hold(&mut self, number: u64, keep: u64, value: f64, ms: u64) {
        self.each(number, keep, |cell| cell.hold(value, ms));
    }

    /// [`Cell::point`] on the bucket `number`.
    pub(super) fn point(
        &mut self,
        number: u64,
        keep: u64,
        value: f64,
        at: u32,
        before: Option<f64>,
    ) {
        self.each(number, keep, |cell| cell.point(value, at, before));
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Column::Mean(cells) => cells.heap_bytes(),
            Column::Least(cells) => cells.heap_bytes(),
            Column::Most(cells) => cells.heap_bytes(),
            Column::Sum(cells) => cells.heap_bytes(),
            Column::Last => 0,
            Column::Count(cells) => cells.heap_bytes(),
            Column::Risen(cells) => cells.heap_bytes(),
            Column::Base(cells) => cells.heap_bytes(),
            Column::Points(cells) => cells.heap_bytes(),
            Column::Sketch(cells) => cells.heap_bytes(),
            Column::Spread(cells) => cells.heap_bytes(),
            Column::Changes(cells) => cells.heap_bytes(),
        }
    }

    fn each(&mut self, number: u64, keep: u64, put: impl FnOnce(&mut dyn Put)) {
        fn dynamic<C: Cell>(
            cells: &mut Cells<C>,
            number: u64,
            keep: u64,
            put: impl FnOnce(&mut dyn Put),
        ) {
            if let Some(cell) = cells.at(number, keep) {
                put(cell);
            }
        }
        match self {
            Column::Mean(cells) => dynamic(cells, number, keep, put),
            Column::Least(cells) => dynamic(cells, number, keep, put),
            Column::Most(cells) => dynamic(cells, number, keep, put),
            Column::Sum(cells) => dynamic(cells, number, keep, put),
            Column::Last => {}
            Column::Count(cells) => dynamic(cells, number, keep, put),
            Column::Risen(cells) => dynamic(cells, number, keep, put),
            Column::Base(cells) => dynamic(cells, number, keep, put),
            Column::Points(cells) => dynamic(cells, number, keep, put),
            Column::Sketch(cells) => dynamic(cells, number, keep, put),
            Column::Spread(cells) => dynamic(cells, number, keep, put),
            Column::Changes(cells) => dynamic(cells, number, keep, put),
        }
    }
}

/// [`Cell`] without its type.
trait Put {
    fn hold(&mut self, value: f64, ms: u64);
    fn point(&mut self, value: f64, at_in_bucket: u32, before: Option<f64>);
}

impl<C: Cell> Put for C {
    fn hold(&mut self, value: f64, ms: u64) {
        Cell::hold(self, value, ms);
    }

    fn point(&mut self, value: f64, at_in_bucket: u32, before: Option<f64>) {
        Cell::point(self, value, at_in_bucket, before);
    }
}

/// Bytes of one bucket.
pub(super) fn size_of_cell(kept: Kept) -> usize {
    match kept {
        Kept::Mean => size_of::<Mean>(),
        Kept::Min | Kept::Max | Kept::Sum | Kept::Increase | Kept::Delta => size_of::<f64>(),
        Kept::Last => 0,
        Kept::Count | Kept::Changes => size_of::<u32>(),
        Kept::Points => size_of::<Newest>(),
        Kept::Sketch => size_of::<Sketch>() + super::sketch::USUAL_BYTES,
        Kept::Spread => size_of::<Spread>(),
    }
}
