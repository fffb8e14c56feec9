//! What the rules need of the past, and how the past of long windows comes in.

use super::entry::{Entry, RingPast};
use super::{History, Limits, SeriesId};
use crate::store::long::{Body, Kept, Long, Shape};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Labels, Moment, Series};
use watchfire_engine::policy::LabelMatcher;

/// One input of a rule that looks back.
#[derive(Clone, Debug)]
pub struct Need {
    /// Full name.
    pub metric: Arc<str>,
    /// Of which series.
    pub matches: Vec<LabelMatcher>,
    /// How far back.
    pub over: Duration,
    /// What of it. Up to [`Limits::keep_max`] the points themselves are kept, whatever this says.
    pub kept: Kept,
}

/// A question for the past of one window of one series, or of its ring: all its samples in
/// `(until - over, until]`, and the newest known one before. They go through [`Question::begin`] and come
/// back by [`History::fill`].
#[derive(Clone, Debug)]
pub struct Question {
    /// Tells the answer to the newest question from one that is no longer waited for.
    number: u64,
    /// Which series.
    pub series: Series,
    what: Asked,
    /// A span between two samples longer than this is a gap.
    stale: Duration,
    /// The newest point that belongs to the past; later ones come by themselves.
    pub until: Moment,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// The points of a ring, so far back.
    Points(Duration),
    /// A longer window.
    Window(Shape),
}

/// A window's past, as it is gathered and then handed to [`History::fill`].
#[derive(Clone, Debug)]
pub struct PastOf {
    number: u64,
    series: Series,
    stale: Duration,
    gathered: Gathered,
}

#[derive(Clone, Debug)]
enum Gathered {
    Points(Vec<super::Point>),
    Window(Shape, Body),
}

impl Question {
    /// How far back.
    pub fn over(&self) -> Duration {
        match self.what {
            Asked::Points(over) => over,
            Asked::Window(shape) => shape.over,
        }
    }

    /// An answer without a sample so far.
    pub fn begin(self) -> PastOf {
        PastOf {
            number: self.number,
            series: self.series,
            stale: self.stale,
            gathered: match self.what {
                Asked::Points(_) => Gathered::Points(Vec::new()),
                Asked::Window(shape) => Gathered::Window(shape, Body::new(shape)),
            },
        }
    }
}

impl PastOf {
    /// Adds a sample later than all others; NaN: not known from then on.
    pub fn push(&mut self, at: Moment, value: f64) {
        let point = super::Point { at, value };
        match &mut self.gathered {
            Gathered::Points(points) => points.push(point),
            Gathered::Window(_, body) => body.push(point, self.stale),
        }
    }
}

/// The declared windows.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// Longest window to keep as points, by metric.
    rings: HashMap<Arc<str>, Duration>,
    /// Longer ones, by metric.
    longs: HashMap<Arc<str>, Vec<Declaration>>,
}

#[derive(Debug)]
struct Declaration {
    shape: Shape,
    matches: Vec<LabelMatcher>,
}

impl Declared {
    /// The longest window of `metric` that is kept as points.
    pub(super) fn ring(&self, metric: &str) -> Option<Duration> {
        self.rings.get(metric).copied()
    }

    fn of(needs: impl IntoIterator<Item = Need>, limits: &Limits) -> Self {
        let mut declared = Declared::default();
        for need in needs {
            if need.over <= limits.keep_max {
                let longest = declared.rings.entry(need.metric).or_default();
                *longest = need.over.max(*longest);
            } else {
                let shape = Shape {
                    over: need.over,
                    kept: need.kept,
                };
                let matches = need.matches;
                let all = declared.longs.entry(need.metric).or_default();
                all.push(Declaration { shape, matches });
            }
        }
        declared
    }

    fn shapes(&self, series: &Series) -> Vec<Shape> {
        let mut shapes = Vec::new();
        for one in self.longs.get(&series.metric).into_iter().flatten() {
            if !shapes.contains(&one.shape) && fits(&one.matches, &series.labels) {
                shapes.push(one.shape);
            }
        }
        shapes
    }
}

impl History {
    /// Replaces what rules need of the past. Points that no window needs any more are dropped; a new
    /// window begins with the last two points, and with what is on disk of its past.
    pub fn declare(&mut self, needs: impl IntoIterator<Item = Need>) {
        self.declared = Declared::of(needs, &self.limits);
        for at in 0..self.entries.len() {
            if let Some(mut entry) = self.entries[at].take() {
                let wants = self.take_up(&mut entry);
                self.entries[at] = Some(entry);
                if let (true, Ok(at)) = (wants, u32::try_from(at)) {
                    self.wanting.push_back(SeriesId(at));
                }
            }
        }
    }

    /// From now on the past of windows is asked for, and they are unknown until it is in; short ones for a
    /// minute at most. Without this call they begin empty.
    pub fn has_past(&mut self) {
        self.past = true;
    }

    /// Hands every question that is due to `ask`, until it takes no more (false); those left are handed
    /// over the next time.
    pub fn questions(&mut self, mut ask: impl FnMut(Question) -> bool) {
        while let Some(id) = self.wanting.front() {
            let Some(Some(entry)) = self.entries.get_mut(id.0 as usize) else {
                self.wanting.pop_front();
                continue;
            };
            let stale = self.probes.get(&entry.probe).map(|probe| probe.stale);
            let mut put = |what: Asked| {
                let number = self.next_question;
                let taken = ask(Question {
                    number,
                    series: entry.series.clone(),
                    what,
                    stale: stale.unwrap_or_default(),
                    until: entry.last.at,
                });
                self.next_question += u64::from(taken);
                taken.then_some(number)
            };
            if let RingPast::Wanted { since } = entry.ring_past {
                let over = self.declared.ring(&entry.series.metric).unwrap_or_default();
                let Some(number) = put(Asked::Points(over)) else {
                    return;
                };
                entry.ring_past = RingPast::Asked { number, since };
            }
            for long in entry.longs.iter_mut().filter(|long| long.wants_past()) {
                let Some(number) = put(Asked::Window(long.shape())) else {
                    return;
                };
                long.asked(number);
            }
            self.wanting.pop_front();
        }
    }

    /// Takes the past of a window in. One that nobody waits for any more is dropped.
    pub fn fill(&mut self, past: PastOf) {
        let Some(id) = self.ids.get(&past.series) else {
            return;
        };
        let Some(Some(entry)) = self.entries.get_mut(id.0 as usize) else {
            return;
        };
        match past.gathered {
            Gathered::Points(points) => {
                let keep = self.declared.ring(&entry.series.metric);
                entry.fill_ring(past.number, &points, keep);
            }
            Gathered::Window(shape, body) => {
                if let Some(long) = entry.longs.iter_mut().find(|long| long.shape() == shape) {
                    long.fill(past.number, body);
                }
            }
        }
    }

    /// Gives a series the windows that are declared for it, within the bound of memory. True: the past of
    /// one has to be asked for.
    pub(super) fn take_up(&mut self, entry: &mut Entry) -> bool {
        if self.declared.ring(&entry.series.metric).is_none() {
            entry.ring = None;
            entry.ring_past = RingPast::Known;
        } else if entry.ring.is_none() {
            entry.ring = Some(entry.start_ring());
            if self.past {
                let since = entry.last.at;
                entry.ring_past = RingPast::Wanted { since };
            }
        }
        let shapes = self.declared.shapes(&entry.series);
        self.counts.long_bytes_reserved -= entry.long_bytes();
        entry.longs.retain(|long| shapes.contains(&long.shape()));
        self.counts.long_bytes_reserved += entry.long_bytes();
        for shape in shapes {
            if entry.long(shape).is_some() {
                continue;
            }
            let bytes = self.counts.long_bytes_reserved + shape.bytes();
            if bytes > self.limits.long_bytes {
                self.counts.long_refused_total += 1;
                continue;
            }
            self.counts.long_bytes_reserved = bytes;
            entry.longs.push(Long::new(shape, self.past));
        }
        let ring_wants = matches!(entry.ring_past, RingPast::Wanted { .. });
        ring_wants || entry.longs.iter().any(Long::wants_past)
    }
}

/// Whether all of `matchers` fit. A label that is not there is the empty text.
pub(super) fn fits(matchers: &[LabelMatcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| {
        let value = labels.get(&matcher.name).unwrap_or_default();
        matcher.any_of.iter().any(|pattern| pattern.matches(value))
    })
}
