//! The recent samples of all series, in memory: what rules and `/metrics` read.
//!
//! Owned by the collect stage. A series is interned once, under the labels it has with the host's
//! added; from then on it is a [`SeriesId`]. How much of it is kept depends on who asks: the last two
//! points always, more only for metrics over which a rule declared a window ([`History::declare`]).
//! Lost with the process; nothing here touches the disk.
//!
//! Invariant: an id that was handed out by [`History::select`] stays valid until the next call that
//! takes `&mut self`; ids of forgotten series are given again.

use super::ring::Ring;
use super::window::{self, Point, Window};
use crate::config::Aggregate;
use crate::sandbox::types::{Collection, Family, FamilyKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Labels, Moment, ProbeId, Series};
use watchfire_engine::policy::LabelMatcher;

/// Selections remembered for a metric: inputs of rules on it. Beyond, they are forgotten and computed
/// again, which costs time only.
const SELECTIONS_MAX: usize = 64;

/// How far ahead in the last answer of a probe a sample is looked for before it is hashed: a few
/// series that went away cost no more than this.
const LOOKAHEAD: usize = 4;

/// Least time between two searches for forgotten series of a probe.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest window kept as points; of longer ones only this much is there.
    pub keep_max: Duration,
    /// A series that its probe no longer mentions is forgotten after so long.
    pub forget_after: Duration,
    /// Series of one probe; newcomers beyond are refused.
    pub series_per_probe: usize,
}

impl Default for Limits {
    /// 2 h, 2 h, 20,000 (decisions.md 9).
    fn default() -> Self {
        Limits {
            keep_max: Duration::from_secs(7_200),
            forget_after: Duration::from_secs(7_200),
            series_per_probe: 20_000,
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
}

/// Counts for own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Series now.
    pub series: usize,
    /// Bytes of points now.
    pub point_bytes: usize,
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
    /// Longest declared window by metric.
    windows: HashMap<Arc<str>, Duration>,
    /// By [`SeriesId`]; None: free.
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    ids: HashMap<Series, SeriesId>,
    metrics: HashMap<Arc<str>, Metric>,
    families: BTreeMap<Arc<str>, FamilyEntry>,
    probes: HashMap<ProbeId, Probe>,
    counts: Counts,
}

#[derive(Debug)]
struct Entry {
    series: Series,
    family: Arc<str>,
    probe: ProbeId,
    last: Point,
    previous: Option<Point>,
    /// Only where a window needs it.
    ring: Option<Box<Ring>>,
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

#[derive(Debug, Default)]
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
            windows: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            ids: HashMap::new(),
            metrics: HashMap::new(),
            families: BTreeMap::new(),
            probes: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Replaces the windows that rules need, by full metric name. Points that no window needs any more
    /// are dropped; a new window begins with the last two points.
    pub fn declare(&mut self, windows: impl IntoIterator<Item = (Arc<str>, Duration)>) {
        self.windows.clear();
        for (metric, over) in windows {
            let longest = self.windows.entry(metric).or_default();
            *longest = over.min(self.limits.keep_max).max(*longest);
        }
        for entry in self.entries.iter_mut().flatten() {
            if !self.windows.contains_key(&entry.series.metric) {
                entry.ring = None;
            } else if entry.ring.is_none() {
                entry.ring = Some(entry.start_ring());
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
                self.put(id, at, point.value);
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

    /// Takes note that `probe` failed at `at`.
    pub fn failed(&mut self, probe: &ProbeId, at: Moment) {
        let state = self.probes.entry(probe.clone()).or_default();
        state.ran_at = at;
        state.outcome = Outcome::Failed;
        self.sweep(probe);
    }

    /// Forgets the series of all probes but these, after a reload.
    pub fn retain_probes(&mut self, keep: &HashSet<ProbeId>) {
        self.forget(|entry| !keep.contains(&entry.probe));
        self.probes.retain(|probe, _| keep.contains(probe));
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
        let fits = |labels: &Labels| {
            matchers.iter().all(|matcher| {
                let value = labels.get(&matcher.name).unwrap_or_default();
                matcher.any_of.iter().any(|pattern| pattern.matches(value))
            })
        };
        let mut ids: Vec<SeriesId> = found
            .ids
            .iter()
            .filter(|id| labels(id).is_some_and(fits))
            .copied()
            .collect();
        ids.sort_by(|a, b| labels(a).cmp(&labels(b)));
        let ids: Arc<[SeriesId]> = ids.into();
        if found.selections.len() >= SELECTIONS_MAX {
            found.selections.clear();
        }
        found.selections.push((matchers.to_vec(), Arc::clone(&ids)));
        ids
    }

    /// The series itself; None: forgotten.
    pub fn series(&self, id: SeriesId) -> Option<&Series> {
        self.entry(id).map(|entry| &entry.series)
    }

    /// The probe it comes from.
    pub fn probe(&self, id: SeriesId) -> Option<&ProbeId> {
        self.entry(id).map(|entry| &entry.probe)
    }

    /// Its newest point, however old; NaN may be its value.
    pub fn last(&self, id: SeriesId) -> Option<Point> {
        self.entry(id).map(|entry| entry.last)
    }

    /// The point before the newest.
    pub fn previous(&self, id: SeriesId) -> Option<Point> {
        self.entry(id).and_then(|entry| entry.previous)
    }

    /// What the newest run of its probe said about it; a forgotten series is unknown.
    pub fn presence(&self, id: SeriesId) -> Presence {
        self.entry(id)
            .map_or(Presence::Unknown, |entry| self.presence_of(entry))
    }

    /// Adds to `into` the points since `since` (exclusive), preceded by one or two before it. Without
    /// a declared window these are at most the last two.
    pub fn points(&self, id: SeriesId, since: Moment, into: &mut Vec<Point>) {
        let Some(entry) = self.entry(id) else {
            return;
        };
        match &entry.ring {
            Some(ring) => ring.copy_from(since, into),
            None => into.extend(entry.previous.into_iter().chain([entry.last])),
        }
    }

    /// One aggregate of one series; NaN: not known, as is that of a window longer than
    /// [`Limits::keep_max`]. `scratch` saves an allocation each time.
    pub fn aggregate(
        &self,
        id: SeriesId,
        kind: Aggregate,
        window: &Window,
        scratch: &mut Vec<Point>,
    ) -> f64 {
        scratch.clear();
        if window.over > self.limits.keep_max {
            // A part of the window would pass for the whole.
            return f64::NAN;
        }
        self.points(id, window.at - window.over, scratch);
        window::aggregate(kind, scratch, window)
    }

    /// All families by name, with all series that are remembered.
    pub fn families(&self) -> impl Iterator<Item = FamilyView<'_>> {
        let mut by_family: HashMap<&str, Vec<_>> = HashMap::new();
        for entry in self.entries.iter().flatten() {
            let one = (&entry.series, entry.last, self.presence_of(entry));
            by_family.entry(&*entry.family).or_default().push(one);
        }
        self.families.iter().map(move |(metric, family)| {
            let mut series = by_family.remove(&**metric).unwrap_or_default();
            series.sort_by_key(|(series, _, _)| *series);
            FamilyView {
                metric,
                kind: family.kind,
                help: &family.help,
                series,
            }
        })
    }

    /// Counts for own metrics.
    pub fn counts(&self) -> Counts {
        let rings = self
            .entries
            .iter()
            .flatten()
            .filter_map(|entry| entry.ring.as_ref());
        Counts {
            series: self.ids.len(),
            point_bytes: rings.map(|ring| ring.bytes()).sum(),
            ..self.counts
        }
    }

    fn entry(&self, id: SeriesId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    fn presence_of(&self, entry: &Entry) -> Presence {
        match self.probes.get(&entry.probe) {
            Some(probe) if entry.last.at == probe.ran_at && probe.outcome != Outcome::Failed => {
                Presence::Now
            }
            Some(probe) if probe.outcome == Outcome::Answered => Presence::Absent,
            _ => Presence::Unknown,
        }
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
        let needs_ring = self.windows.contains_key(&metric);
        let entry = Entry {
            series: series.clone(),
            family: Arc::clone(name),
            probe: probe.clone(),
            last: Point {
                at: Moment(0),
                value: f64::NAN,
            },
            previous: None,
            ring: needs_ring.then(Box::default),
        };
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
        self.ids.insert(series, id);
        let metric = self.metrics.entry(metric).or_default();
        metric.ids.push(id);
        metric.selections.clear();
        Some(id)
    }

    fn put(&mut self, id: SeriesId, at: Moment, value: f64) {
        let Some(Some(entry)) = self.entries.get_mut(id.0 as usize) else {
            return;
        };
        let first = entry.last.value.is_nan() && entry.last.at == Moment(0);
        if !first {
            if at <= entry.last.at {
                return;
            }
            entry.previous = Some(entry.last);
        }
        entry.last = Point { at, value };
        if let Some(ring) = &mut entry.ring {
            ring.push(entry.last);
            if let Some(over) = self.windows.get(&entry.series.metric) {
                ring.trim(at - *over);
            }
        }
    }

    /// Forgets what this probe no longer mentions.
    fn sweep(&mut self, probe: &ProbeId) {
        let Some(state) = self.probes.get_mut(probe) else {
            return;
        };
        if state.ran_at.since(state.swept_at) < SWEEP_EVERY {
            return;
        }
        let now = state.ran_at;
        state.swept_at = now;
        let after = self.limits.forget_after;
        self.forget(|entry| entry.probe == *probe && now.since(entry.last.at) > after);
    }

    fn forget(&mut self, gone: impl Fn(&Entry) -> bool) {
        let mut metrics = HashSet::new();
        let mut probes = HashSet::new();
        for (at, slot) in (0_u32..).zip(&mut self.entries) {
            let Some(entry) = slot.take_if(|entry| gone(entry)) else {
                continue;
            };
            self.free.push(at);
            self.ids.remove(&entry.series);
            self.counts.forgotten_total += 1;
            if let Some(family) = self.families.get_mut(&entry.family) {
                family.series -= 1;
                if family.series == 0 {
                    self.families.remove(&entry.family);
                }
            }
            if let Some(probe) = self.probes.get_mut(&entry.probe) {
                probe.series -= 1;
                probes.insert(entry.probe);
            }
            metrics.insert(entry.series.metric);
        }
        // Once for each metric and probe, not once a series: thousands may go together.
        let entries = &self.entries;
        let lives = |id: SeriesId| entries[id.0 as usize].is_some();
        for name in metrics {
            if let Some(metric) = self.metrics.get_mut(&name) {
                metric.ids.retain(|id| lives(*id));
                metric.selections.clear();
                if metric.ids.is_empty() {
                    self.metrics.remove(&name);
                }
            }
        }
        for probe in probes {
            if let Some(probe) = self.probes.get_mut(&probe) {
                probe.order.retain(|(_, id)| lives(*id));
            }
        }
    }
}

impl Entry {
    fn start_ring(&self) -> Box<Ring> {
        let mut ring = Box::<Ring>::default();
        for point in self.previous.into_iter().chain([self.last]) {
            ring.push(point);
        }
        ring
    }
}

#[cfg(test)]
mod tests;
