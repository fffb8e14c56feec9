//! What is asked of the history.

use super::{Counts, Entry, FamilyView, History, Outcome, Presence, SeriesId};
use crate::config::Aggregate;
use crate::store::long::{Kept, Shape};
use crate::store::window::{self, Point, Window};
use std::collections::HashMap;
use std::time::Duration;
use watchfire_engine::model::{Moment, ProbeId, Series};

impl History {
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

    /// Adds to `into` the points of the last `back` until `at`, preceded by one or two before them. Of
    /// more than [`Limits::keep_max`](super::Limits::keep_max) there is one point a bucket, the newest of
    /// it ([`super::super::long::PARTS`] in all), or none as long as the past is not known.
    pub fn back(&self, id: SeriesId, at: Moment, back: Duration, into: &mut Vec<Point>) {
        if back <= self.limits.keep_max {
            return self.points(id, at - back, into);
        }
        let shape = Shape {
            over: back,
            kept: Kept::Points,
        };
        if let Some(long) = self.entry(id).and_then(|entry| entry.long(shape)) {
            long.points(at - back, into);
        }
    }

    /// Adds to `into` the points since `since` (exclusive), preceded by one or two before it; none as long
    /// as the past is not known. Without a declared window these are at most the last two.
    pub fn points(&self, id: SeriesId, since: Moment, into: &mut Vec<Point>) {
        let Some(entry) = self.entry(id) else {
            return;
        };
        match &entry.ring {
            Some(_) if entry.waits_for_past(entry.last.at) => {}
            Some(ring) => ring.copy_from(since, into),
            None => into.extend(entry.previous.into_iter().chain([entry.last])),
        }
    }

    /// One aggregate of one series; NaN: not known. A window longer than
    /// [`Limits::keep_max`](super::Limits::keep_max) must have been declared with this aggregate; it is
    /// unknown until its past was read. `scratch` saves an allocation each time.
    pub fn aggregate(
        &self,
        id: SeriesId,
        kind: Aggregate,
        window: &Window,
        scratch: &mut Vec<Point>,
    ) -> f64 {
        scratch.clear();
        if window.over > self.limits.keep_max {
            let shape = Shape {
                over: window.over,
                kept: kind.into(),
            };
            let long = self.entry(id).and_then(|entry| entry.long(shape));
            return long.map_or(f64::NAN, |long| long.aggregate(kind, window));
        }
        if self
            .entry(id)
            .is_some_and(|entry| entry.ring.is_some() && entry.waits_for_past(entry.last.at))
        {
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

    /// Bytes set aside for windows longer than [`Limits::keep_max`](super::Limits::keep_max).
    pub fn long_bytes_reserved(&self) -> usize {
        self.counts.long_bytes_reserved
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
            long_bytes: self
                .entries
                .iter()
                .flatten()
                .flat_map(|entry| &entry.longs)
                .map(|long| long.bytes())
                .sum(),
            ..self.counts
        }
    }

    /// The newest point of each series of the last answer of `probe`, in the order of that answer.
    pub fn newest(&self, probe: &ProbeId) -> impl Iterator<Item = (&Series, Point)> {
        let order = self.probes.get(probe).map_or(&[][..], |probe| &probe.order);
        let entries = order.iter().filter_map(|(_, id)| self.entry(*id));
        entries.map(|entry| (&entry.series, entry.last))
    }

    pub(super) fn entry(&self, id: SeriesId) -> Option<&Entry> {
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
}
