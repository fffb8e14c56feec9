//! What the rules need of the past, and how the past of long windows comes in.

use super::entry::Entry;
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

/// A question for the past of one window of one series: all its samples in `(until - over, until]`, and
/// the newest known one before. They go through [`Question::begin`] and come back by [`History::fill`].
#[derive(Clone, Debug)]
pub struct Question {
    /// Tells the answer to the newest question from one that is no longer waited for.
    number: u64,
    /// Which series.
    pub series: Series,
    shape: Shape,
    /// A span between two samples longer than this is a gap.
    stale: Duration,
    /// The newest point that belongs to the past; later ones come by themselves.
    pub until: Moment,
}

/// A window's past, as it is gathered and then handed to [`History::fill`].
#[derive(Clone, Debug)]
pub struct PastOf {
    number: u64,
    series: Series,
    shape: Shape,
    stale: Duration,
    body: Body,
}

impl Question {
    /// How far back.
    pub fn over(&self) -> Duration {
        self.shape.over
    }

    /// An answer without a sample so far.
    pub fn begin(self) -> PastOf {
        PastOf {
            number: self.number,
            body: Body::new(self.shape),
            series: self.series,
            shape: self.shape,
            stale: self.stale,
        }
    }
}

impl PastOf {
    /// Adds a sample later than all others; NaN: not known from then on.
    pub fn push(&mut self, at: Moment, value: f64) {
        self.body.push(super::Point { at, value }, self.stale);
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
    /// window begins with the last two points, one longer than [`Limits::keep_max`] with what is known of
    /// its past.
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

    /// From now on the past of long windows is asked for, and they are unknown until it is in. Without
    /// this call they begin empty.
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
            for long in &mut entry.longs {
                if !long.wants_past() {
                    continue;
                }
                let number = self.next_question;
                let question = Question {
                    number,
                    series: entry.series.clone(),
                    shape: long.shape(),
                    stale: stale.unwrap_or_default(),
                    until: entry.last.at,
                };
                if !ask(question) {
                    return;
                }
                self.next_question += 1;
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
        for long in &mut entry.longs {
            if long.shape() == past.shape {
                return long.fill(past.number, past.body);
            }
        }
    }

    /// Gives a series the windows that are declared for it, within the bound of memory. True: the past of
    /// one has to be asked for.
    pub(super) fn take_up(&mut self, entry: &mut Entry) -> bool {
        if self.declared.ring(&entry.series.metric).is_none() {
            entry.ring = None;
        } else if entry.ring.is_none() {
            entry.ring = Some(entry.start_ring());
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
        entry.longs.iter().any(Long::wants_past)
    }
}

/// Whether all of `matchers` fit. A label that is not there is the empty text.
pub(super) fn fits(matchers: &[LabelMatcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| {
        let value = labels.get(&matcher.name).unwrap_or_default();
        matcher.any_of.iter().any(|pattern| pattern.matches(value))
    })
}
