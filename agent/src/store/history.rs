//! The recent samples of all series, in memory: what rules and `/metrics` read.
//!
//! Owned by the evaluate stage. A series is interned once, under the labels it has with the host's
//! added; from then on it is a [`SeriesId`]. How much of it is kept depends on who asks: the last two
//! points always, more only for metrics over which a rule declared a window ([`History::declare`]):
//! up to 2 h all points, of longer windows running aggregates ([`super::long`]). Nothing here touches
//! the disk; who does ([`super::metrics`]) answers the [`Question`]s for what was before this process.
//!
//! Invariant: an id that was handed out by [`History::select`] stays valid until the next call that
//! takes `&mut self`; ids of forgotten series are given again.

mod declare;
mod entry;
mod forget;
mod read;

pub use declare::{Need, PastOf, Question};

use super::window::{self, Point};
use crate::sandbox::types::{Collection, Family, FamilyKind};
use declare::{Declared, fits};
use entry::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Labels, Moment, ProbeId, Series};
use watchfire_engine::policy::LabelMatcher;

/// Selections remembered for a metric, one an input with matchers of its own: more than the rules that one
/// agent is given. Those beyond are computed each time, which costs time only.
const SELECTIONS_MAX: usize = 1_024;

/// How far ahead in the last answer of a probe a sample is looked for before it is hashed: a few
/// series that went away cost no more than this.
const LOOKAHEAD: usize = 4;

/// Least time between two searches for forgotten series of a probe.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Interval of a probe that nobody told of ([`History::expect`]).
const EVERY_UNTOLD: Duration = Duration::from_secs(10);

/// Bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest window kept as points; of longer ones aggregates are kept.
    pub keep_max: Duration,
    /// A series that its probe no longer mentions is forgotten after so long.
    pub forget_after: Duration,
    /// Series of one probe; newcomers beyond are refused.
    pub series_per_probe: usize,
    /// Bytes of windows longer than `keep_max`, all series together; what comes beyond stays unknown.
    pub long_bytes: usize,
}

impl Default for Limits {
    /// 2 h, 2 h, 20,000 (decisions.md 9), and 64 MiB: means of one long window for 15,000 series.
    fn default() -> Self {
        Limits {
            keep_max: Duration::from_secs(7_200),
            forget_after: Duration::from_secs(7_200),
            series_per_probe: 20_000,
            long_bytes: 64 << 20,
        }
    }
}

/// A series of the history. Small, cheap, and meaningless after the series is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(u32);

/// What the newest run of its probe said about a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is in the answer (its value may be NaN).
    Now,
    /// The probe answered in full, and the series is not in the answer.
    Absent,
    /// The probe failed, or only part of it answered.
    Unknown,
}

/// What became of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Samples taken.
    pub taken: usize,
    /// Series seen for the first time.
    pub new: usize,
    /// Samples of newcomers beyond the probe's limit.
    pub over_limit: usize,
    /// Samples of series that another probe owns.
    pub duplicates: usize,
    /// The first of those series.
    pub first_duplicate: Option<SeriesId>,
}

/// Counts for own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Series now.
    pub series: usize,
    /// Bytes of points now.
    pub point_bytes: usize,
    /// Bytes of windows longer than [`Limits::keep_max`] now.
    pub long_bytes: usize,
    /// Bytes set aside for them.
    pub long_bytes_reserved: usize,
    /// Long windows of a series refused for want of room, since the start.
    pub long_refused_total: u64,
    /// Samples refused because their probe has too many series, since the start.
    pub over_limit_total: u64,
    /// Samples refused because another probe owns the series, since the start.
    pub duplicates_total: u64,
    /// Series forgotten, since the start.
    pub forgotten_total: u64,
}

/// One metric family, as `/metrics` shows it.
#[derive(Clone, Debug)]
pub struct FamilyView<'a> {
    /// Without suffix.
    pub metric: &'a str,
    /// Of the first probe that mentioned it.
    pub kind: FamilyKind,
    /// Likewise.
    pub help: &'a str,
    /// By metric (with suffix), then labels.
    pub series: Vec<(&'a Series, Point, Presence)>,
}

/// All series.
#[derive(Debug)]
pub struct History {
    limits: Limits,
    /// What rules need.
    declared: Declared,
    /// Whether something may be known of the time before this process.
    past: bool,
    /// Series with a window whose past is to be asked for.
    wanting: VecDeque<SeriesId>,
    next_question: u64,
    /// By [`SeriesId`]; None: free.
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    ids: HashMap<Series, SeriesId>,
    metrics: HashMap<Arc<str>, Metric>,
    families: BTreeMap<Arc<str>, FamilyEntry>,
    probes: HashMap<ProbeId, Probe>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Metric {
    ids: Vec<SeriesId>,
    /// Emptied when a series comes or goes.
    selections: Vec<(Vec<LabelMatcher>, Arc<[SeriesId]>)>,
}

#[derive(Debug)]
struct FamilyEntry {
    kind: FamilyKind,
    help: Arc<str>,
    /// Series of it; the family goes with the last.
    series: usize,
}

#[derive(Debug)]
struct Probe {
    /// The labels that were added to its series.
    base: Labels,
    /// Its series as it spells them, in the order of its last answer: probes answer in the same order
    /// each time, so a comparison takes the place of joining labels and hashing them.
    order: Vec<(Series, SeriesId)>,
    /// How many series it owns.
    series: usize,
    /// Its newest run.
    ran_at: Moment,
    /// How that ended.
    outcome: Outcome,
    swept_at: Moment,
    /// Its values hold so long without being renewed.
    stale: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Probe {
            base: Labels::default(),
            order: Vec::new(),
            series: 0,
            ran_at: Moment::default(),
            outcome: Outcome::default(),
            swept_at: Moment::default(),
            stale: window::stale_after(EVERY_UNTOLD),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outcome {
    Answered,
    Partly,
    #[default]
    Failed,
}

impl History {
    /// An empty history.
    pub fn new(limits: Limits) -> Self {
        History {
            limits,
            declared: Declared::default(),
            past: false,
            wanting: VecDeque::new(),
            next_question: 0,
            entries: Vec::new(),
            free: Vec::new(),
            ids: HashMap::new(),
            metrics: HashMap::new(),
            families: BTreeMap::new(),
            probes: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Tells the interval at which `probe` runs now. Long windows judge by it what is a gap.
    pub fn expect(&mut self, probe: &ProbeId, every: Duration) {
        let stale = window::stale_after(every);
        match self.probes.get_mut(probe) {
            Some(known) => known.stale = stale,
            None => {
                let new = Probe {
                    stale,
                    ..Probe::default()
                };
                self.probes.insert(probe.clone(), new);
            }
        }
    }

    /// Takes the answer of `probe` at `at`. `base` are the host's labels: they are added to each
    /// series and win over its own.
    pub fn absorb(
        &mut self,
        probe: &ProbeId,
        at: Moment,
        collection: &Collection,
        base: &Labels,
    ) -> Absorbed {
        let mut state = self.probes.remove(probe).unwrap_or_default();
        if state.base != *base {
            // Other labels are other series.
            self.forget(|entry| entry.probe == *probe);
            state = Probe {
                base: base.clone(),
                stale: state.stale,
                ..Probe::default()
            };
        }
        state.ran_at = at;
        state.outcome = if collection.failures.is_empty() {
            Outcome::Answered
        } else {
            Outcome::Partly
        };
        let mut absorbed = Absorbed::default();
        // None: the answer is that of the last time, so far.
        let mut order: Option<Vec<(Series, SeriesId)>> = None;
        let mut next = 0;
        for family in &collection.families {
            for point in &family.points {
                let ahead = state.order.iter().skip(next).take(LOOKAHEAD);
                let hit = ahead
                    .enumerate()
                    .find(|(_, (series, _))| *series == point.series)
                    .map(|(n, (_, id))| (n, *id));
                if !matches!(hit, Some((0, _))) && order.is_none() {
                    order = Some(state.order[..absorbed.taken].to_vec());
                }
                let id = match hit {
                    Some((skipped, id)) => {
                        next += skipped + 1;
                        id
                    }
                    None => {
                        let series = &point.series;
                        match self.intern(probe, &mut state, family, series, &mut absorbed) {
                            Some(id) => id,
                            None => continue,
                        }
                    }
                };
                if let Some(order) = &mut order {
                    order.push((point.series.clone(), id));
                }
                let value = point.value;
                self.put(id, Point { at, value }, state.stale);
                absorbed.taken += 1;
            }
        }
        match order {
            Some(order) => state.order = order,
            None => state.order.truncate(absorbed.taken),
        }
        self.counts.over_limit_total += absorbed.over_limit as u64;
        self.counts.duplicates_total += absorbed.duplicates as u64;
        self.probes.insert(probe.clone(), state);
        self.sweep(probe);
        absorbed
    }

    /// How many series a probe may have; newcomers beyond are refused.
    pub fn series_per_probe(&self) -> usize {
        self.limits.series_per_probe
    }

    /// Takes note that `probe` failed at `at`.
    pub fn failed(&mut self, probe: &ProbeId, at: Moment) {
        let state = self.probes.entry(probe.clone()).or_default();
        state.ran_at = at;
        state.outcome = Outcome::Failed;
        self.sweep(probe);
    }

    /// The series of `metric` (full name) whose labels match all of `matchers`, by their labels. A
    /// label that is not there is the empty text. Remembered until a series of the metric comes or goes.
    pub fn select(&mut self, metric: &str, matchers: &[LabelMatcher]) -> Arc<[SeriesId]> {
        let Some(found) = self.metrics.get_mut(metric) else {
            return Arc::new([]);
        };
        if let Some((_, ids)) = found.selections.iter().find(|(of, _)| of == matchers) {
            return Arc::clone(ids);
        }
        let entries = &self.entries;
        let labels = |id: &SeriesId| entries[id.0 as usize].as_ref().map(|e| &e.series.labels);
        let mut ids: Vec<SeriesId> = found
            .ids
            .iter()
            .filter(|id| labels(id).is_some_and(|labels| fits(matchers, labels)))
            .copied()
            .collect();
        ids.sort_by(|a, b| labels(a).cmp(&labels(b)));
        let ids: Arc<[SeriesId]> = ids.into();
        // What is remembered stays: to begin anew would compute all of them in each round.
        if found.selections.len() < SELECTIONS_MAX {
            found.selections.push((matchers.to_vec(), Arc::clone(&ids)));
        }
        ids
    }

    /// None: refused.
    fn intern(
        &mut self,
        probe: &ProbeId,
        state: &mut Probe,
        family: &Family,
        raw: &Series,
        absorbed: &mut Absorbed,
    ) -> Option<SeriesId> {
        let series = Series {
            metric: Arc::clone(&raw.metric),
            labels: raw.labels.with(&state.base),
        };
        if let Some(&id) = self.ids.get(&series) {
            if self.entry(id).is_some_and(|entry| entry.probe == *probe) {
                return Some(id);
            }
            absorbed.duplicates += 1;
            absorbed.first_duplicate.get_or_insert(id);
            return None;
        }
        if state.series >= self.limits.series_per_probe {
            absorbed.over_limit += 1;
            return None;
        }
        state.series += 1;
        absorbed.new += 1;

        // One text for all series of a metric, not one a sample.
        let metric = match self.metrics.get_key_value(&series.metric) {
            Some((metric, _)) => Arc::clone(metric),
            None => Arc::clone(&series.metric),
        };
        let series = Series {
            metric: Arc::clone(&metric),
            ..series
        };
        let known = self
            .families
            .entry(Arc::clone(&family.metric))
            .or_insert_with(|| FamilyEntry {
                kind: family.kind,
                help: Arc::clone(&family.help),
                series: 0,
            });
        known.series += 1;
        let (name, _) = self.families.get_key_value(&family.metric)?;
        let mut entry = Entry::new(series.clone(), Arc::clone(name), probe.clone());
        let wants = self.take_up(&mut entry);
        let id = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = Some(entry);
                SeriesId(at)
            }
            None => {
                let at = u32::try_from(self.entries.len()).ok()?;
                self.entries.push(Some(entry));
                SeriesId(at)
            }
        };
        if wants {
            self.wanting.push_back(id);
        }
        self.ids.insert(series, id);
        let metric = self.metrics.entry(metric).or_default();
        metric.ids.push(id);
        metric.selections.clear();
        Some(id)
    }

    fn put(&mut self, id: SeriesId, point: Point, stale: Duration) {
        if let Some(Some(entry)) = self.entries.get_mut(id.0 as usize) {
            let keep = self.declared.ring(&entry.series.metric);
            if entry.put(point, stale, keep) {
                self.wanting.push_back(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
