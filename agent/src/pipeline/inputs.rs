//! A rule's declared inputs: from the history's series to one column of numbers an input.
//!
//! Instances are told apart by `by`, or by all labels of the series. Where several series of one input
//! fall into one instance, counting aggregates add up, `min` and `max` keep their meaning, and the rest
//! takes the mean. Where an instance is known by another input alone, a counting aggregate of the input
//! without a series is 0 (no errors were counted), and any other is unknown.

use crate::config::{Aggregate, InputConfig, RuleConfig};
use crate::sandbox::types::Needs;
use crate::store::history::{History, Need, Presence, SeriesId};
use crate::store::long::Kept;
use crate::store::window::{Point, Window, stale_after};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::input::Seen;
use watchfire_engine::model::{Instance, Labels, Moment, Now, ProbeId, RuleId};

/// What a rule reads, and the plan by which it is read.
#[derive(Debug)]
pub(super) struct RuleInputs {
    rule: RuleId,
    inputs: Vec<InputConfig>,
    by: Option<Vec<Arc<str>>>,
    /// The selections that the plan was made from; the history hands out the same ones until a series
    /// comes or goes.
    selections: Vec<Arc<[SeriesId]>>,
    plan: Vec<Place>,
}

/// One instance and the series it is made of, for each input.
#[derive(Debug)]
struct Place {
    instance: Arc<Instance>,
    series: Vec<Vec<SeriesId>>,
}

/// One round of a rule's inputs; one entry an instance.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) seen: Vec<Seen>,
    /// One column an input.
    pub(super) values: Vec<Vec<f64>>,
    /// For each input that the rule wants points of, one list an instance.
    pub(super) points: Vec<Vec<Vec<(u64, f64)>>>,
}

impl RuleInputs {
    pub(super) fn new(config: &RuleConfig) -> Self {
        RuleInputs {
            rule: config.id.clone(),
            inputs: config.inputs.clone(),
            by: config.by.clone(),
            selections: Vec::new(),
            plan: Vec::new(),
        }
    }

    /// Reads nothing.
    #[cfg(test)]
    pub(super) fn of_nothing(rule: RuleId) -> Self {
        RuleInputs {
            rule,
            inputs: Vec::new(),
            by: None,
            selections: Vec::new(),
            plan: Vec::new(),
        }
    }

    /// What the history has to keep.
    pub(super) fn windows(&self, needs: &Needs) -> impl Iterator<Item = Need> {
        self.inputs.iter().flat_map(|input| {
            let wants_points = needs.points_of.iter().any(|name| **name == *input.name);
            let aggregate = input.over.map(|over| (over, input.aggregate.into()));
            let points = wants_points.then_some((needs.back, Kept::Points));
            let kept = aggregate.into_iter().chain(points);
            kept.filter(|(over, _)| !over.is_zero())
                .map(|(over, kept)| Need {
                    metric: input.metric.clone(),
                    matches: input.matches.clone(),
                    over,
                    kept,
                })
        })
    }

    /// Probes whose series the rule read last.
    pub(super) fn probes(&self, history: &History) -> BTreeSet<ProbeId> {
        let ids = self.selections.iter().flat_map(|ids| ids.iter());
        ids.filter_map(|id| history.probe(*id)).cloned().collect()
    }

    /// Brings the plan up to date with the series there are. Tells the longest interval of the probes
    /// that ran and that the rule reads; none: this round is not about it. A rule none of whose series
    /// was ever seen is judged each time, so that absence can be noticed.
    pub(super) fn touched(
        &mut self,
        history: &mut History,
        ran: &BTreeMap<ProbeId, Duration>,
    ) -> Option<Duration> {
        let selections: Vec<Arc<[SeriesId]>> = self
            .inputs
            .iter()
            .map(|input| history.select(&input.metric, &input.matches))
            .collect();
        let same = selections.len() == self.selections.len()
            && selections
                .iter()
                .zip(&self.selections)
                .all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.plan = plan(&self.rule, &self.by, &selections, history);
            self.selections = selections;
        }
        if self.plan.is_empty() {
            return ran.values().max().copied();
        }
        let mut ran = Ran::new(ran);
        let ids = self.selections.iter().flat_map(|ids| ids.iter());
        ids.filter_map(|id| ran.every(history.probe(*id)?)).max()
    }

    /// Whether a series of the instance is known.
    pub(super) fn is_planned(&self, instance: &Instance) -> bool {
        // The plan stands in the order of labels.
        self.plan
            .binary_search_by(|place| place.instance.labels.cmp(&instance.labels))
            .is_ok()
    }

    /// The columns of this round: the instances of which a series was asked for in it.
    pub(super) fn columns(
        &self,
        history: &History,
        needs: &Needs,
        ran: &BTreeMap<ProbeId, Duration>,
        at: Now,
    ) -> Columns {
        let mut columns = Columns {
            values: vec![Vec::with_capacity(self.plan.len()); self.inputs.len()],
            points: vec![Vec::new(); needs.points_of.len()],
            ..Columns::default()
        };
        let mut scratch = Vec::new();
        let mut ran = Ran::new(ran);
        for place in &self.plan {
            let ids = place.series.iter().flatten();
            let every = ids.filter_map(|id| ran.every(history.probe(*id)?)).max();
            let Some(every) = every else { continue };
            let stale = stale_after(every);
            let mut first = f64::NAN;
            for (at_input, (input, ids)) in self.inputs.iter().zip(&place.series).enumerate() {
                let window = Window {
                    at: at.at,
                    over: input.over.unwrap_or_default(),
                    stale,
                };
                let value = combined(input, ids, history, &window, &mut scratch);
                columns.values[at_input].push(value);
                if at_input == 0 {
                    first = value;
                }
            }
            for (wanted, name) in needs.points_of.iter().enumerate() {
                let place_of_input = self.inputs.iter().position(|input| *input.name == **name);
                let ids = place_of_input.map_or(&[][..], |input| &place.series[input]);
                columns.points[wanted].push(points(ids, history, at, needs.back));
            }
            columns.instances.push(place.instance.clone());
            columns.seen.push(seen(&place.series, history, first));
        }
        columns
    }
}

/// The probes that ran. Thousands of series in a row ask for the same one.
struct Ran<'a> {
    all: &'a BTreeMap<ProbeId, Duration>,
    last: Option<(&'a ProbeId, Option<Duration>)>,
}

impl<'a> Ran<'a> {
    fn new(all: &'a BTreeMap<ProbeId, Duration>) -> Self {
        Ran { all, last: None }
    }

    /// Its interval; none: it did not run.
    fn every(&mut self, probe: &'a ProbeId) -> Option<Duration> {
        match self.last {
            Some((last, every)) if std::ptr::eq(last.as_str(), probe.as_str()) => every,
            _ => {
                let every = self.all.get(probe).copied();
                self.last = Some((probe, every));
                every
            }
        }
    }
}

/// One place for each distinct instance, in the order of labels.
fn plan(
    rule: &RuleId,
    by: &Option<Vec<Arc<str>>>,
    selections: &[Arc<[SeriesId]>],
    history: &History,
) -> Vec<Place> {
    let mut places: BTreeMap<Labels, Vec<Vec<SeriesId>>> = BTreeMap::new();
    for (input, ids) in selections.iter().enumerate() {
        for id in ids.iter() {
            let Some(series) = history.series(*id) else {
                continue;
            };
            let labels = match by {
                Some(by) => series.labels.only(by),
                None => series.labels.clone(),
            };
            places
                .entry(labels)
                .or_insert_with(|| vec![Vec::new(); selections.len()])[input]
                .push(*id);
        }
    }
    let mut last: Arc<[ProbeId]> = Arc::default();
    places
        .into_iter()
        .map(|(labels, series)| {
            let ids = series.iter().flatten();
            let probes: BTreeSet<&ProbeId> = ids.filter_map(|id| history.probe(*id)).collect();
            // Most places of a rule have the same probe: they share one list.
            if !last.iter().eq(probes.iter().copied()) {
                last = probes.into_iter().cloned().collect();
            }
            let instance = Instance::new(rule.clone(), labels).yielded_by(last.clone());
            Place {
                instance: Arc::new(instance),
                series,
            }
        })
        .collect()
}

/// One input of one instance, over all its series; NaN: unknown.
fn combined(
    input: &InputConfig,
    ids: &[SeriesId],
    history: &History,
    window: &Window,
    scratch: &mut Vec<Point>,
) -> f64 {
    let counts = matches!(
        input.aggregate,
        Aggregate::Sum
            | Aggregate::Count
            | Aggregate::Increase
            | Aggregate::Rate
            | Aggregate::Changes
    );
    if ids.is_empty() {
        return if counts { 0.0 } else { f64::NAN };
    }
    let one = |id: SeriesId, scratch: &mut Vec<Point>| match input.over {
        Some(_) => history.aggregate(id, input.aggregate, window, scratch),
        // Without a window, what the probe said just now; an old value says nothing about now.
        None if history.presence(id) == Presence::Now => {
            history.last(id).map_or(f64::NAN, |point| point.value)
        }
        None => f64::NAN,
    };
    if let [only] = ids {
        return one(*only, scratch);
    }
    // A series that is not known says nothing; the others still do.
    let known = ids
        .iter()
        .map(|id| one(*id, scratch))
        .filter(|value| !value.is_nan());
    let (count, sum, min, max) = known.fold(
        (0_u32, 0.0, f64::INFINITY, f64::NEG_INFINITY),
        |(count, sum, min, max), value| (count + 1, sum + value, min.min(value), max.max(value)),
    );
    match input.aggregate {
        _ if count == 0 => f64::NAN,
        _ if counts => sum,
        Aggregate::Min => min,
        Aggregate::Max | Aggregate::Quantile(_) => max,
        _ => sum / f64::from(count),
    }
}

/// What there was to judge: a value, its absence from a full answer, or nothing that is known.
fn seen(series: &[Vec<SeriesId>], history: &History, first: f64) -> Seen {
    // The first input that has series of this instance speaks for it.
    let ids = series
        .iter()
        .find(|ids| !ids.is_empty())
        .map_or(&[][..], Vec::as_slice);
    let presence = |wanted: Presence| ids.iter().any(|id| history.presence(*id) == wanted);
    if presence(Presence::Now) {
        // A window may hold values although nothing is known of now.
        let known = ids.iter().any(|id| {
            let last = history.last(*id);
            history.presence(*id) == Presence::Now && last.is_some_and(|p| !p.value.is_nan())
        });
        if first.is_nan() || !known {
            Seen::Unknown
        } else {
            Seen::Value
        }
    } else if presence(Presence::Unknown) {
        Seen::Unknown
    } else {
        Seen::Absent
    }
}

/// Raw points of all series of one input, oldest first, in wall time.
fn points(ids: &[SeriesId], history: &History, now: Now, back: Duration) -> Vec<(u64, f64)> {
    let since = now.at - back;
    let mut all = Vec::new();
    for id in ids {
        history.back(*id, now.at, back, &mut all);
    }
    all.retain(|point| point.at > since && point.at <= now.at);
    all.sort_by_key(|point| point.at);
    all.iter()
        .map(|point| (wall_of(point.at, now), point.value))
        .collect()
}

fn wall_of(at: Moment, now: Now) -> u64 {
    now.wall.0.saturating_sub(now.at.0.saturating_sub(at.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::types::{Collection, Family, FamilyKind, Point as Sample};
    use crate::store::history::Limits;
    use watchfire_engine::model::{Series, WallTime};

    /// Collections of one probe at 0 s, 10 s …; each a list of `(metric, labels, value)`.
    type Rounds<'a> = &'a [&'a [Told<'a>]];

    /// Metric, labels, value.
    type Told<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

    fn collection(samples: &[Told<'_>]) -> Collection {
        let family = |(metric, labels, value): &Told<'_>| Family {
            metric: (*metric).into(),
            kind: FamilyKind::Gauge,
            help: "".into(),
            points: vec![Sample {
                series: Series {
                    metric: (*metric).into(),
                    labels: Labels::new(labels.iter().copied()).unwrap(),
                },
                value: *value,
            }],
        };
        Collection {
            families: samples.iter().map(family).collect(),
            failures: Vec::new(),
        }
    }

    fn input(name: &str, metric: &str, over: Option<u64>, aggregate: Aggregate) -> InputConfig {
        InputConfig {
            name: name.into(),
            metric: metric.into(),
            matches: Vec::new(),
            over: over.map(Duration::from_secs),
            aggregate,
        }
    }

    /// The columns after all rounds, as `labels: [values] seen`.
    fn columns(inputs: Vec<InputConfig>, by: Option<&[&str]>, rounds: Rounds<'_>) -> Vec<String> {
        let every = Duration::from_secs(10);
        let probe = ProbeId::new("p");
        let ran = BTreeMap::from([(probe.clone(), every)]);
        let mut history = History::new(Limits::default());
        let mut rule = RuleInputs {
            rule: RuleId::new("r"),
            inputs,
            by: by.map(|names| names.iter().map(|name| (*name).into()).collect()),
            selections: Vec::new(),
            plan: Vec::new(),
        };
        history.declare(rule.windows(&Needs::default()).collect::<Vec<_>>());
        let mut at = Now {
            at: Moment(0),
            wall: WallTime(0),
        };
        for samples in rounds {
            at.at = at.at + every;
            history.absorb(&probe, at.at, &collection(samples), &Labels::default());
        }
        assert_eq!(rule.touched(&mut history, &ran), Some(every));
        let columns = rule.columns(&history, &Needs::default(), &ran, at);
        (0..columns.instances.len())
            .map(|row| {
                let values: Vec<String> =
                    columns.values.iter().map(|c| c[row].to_string()).collect();
                let labels = &columns.instances[row].labels;
                format!("{labels}: {} {:?}", values.join(" "), columns.seen[row])
            })
            .collect()
    }

    #[test]
    fn without_a_window_the_newest_answer_counts() {
        let last = || vec![input("value", "m", None, Aggregate::Last)];
        let (a, b): (&[_], &[_]) = (&[("d", "a")], &[("d", "b")]);
        let rows = columns(
            last(),
            None,
            &[&[("m", a, 1.0), ("m", b, 2.0)], &[("m", a, 3.0)]],
        );
        assert_eq!(rows, ["{d=\"a\"}: 3 Value", "{d=\"b\"}: NaN Absent"]);
        let rows = columns(last(), None, &[&[("m", a, f64::NAN)]]);
        assert_eq!(rows, ["{d=\"a\"}: NaN Unknown"]);
    }

    #[test]
    fn series_of_one_instance_are_combined_as_the_aggregate_means() {
        let (a, b): (&[_], &[_]) = (&[("d", "a")], &[("d", "b")]);
        let rounds: Rounds<'_> = &[
            &[("m", a, 1.0), ("m", b, 2.0)],
            &[("m", a, 4.0), ("m", b, 8.0)],
        ];
        for (aggregate, wanted) in [
            (Aggregate::Increase, "9"),
            (Aggregate::Min, "1"),
            (Aggregate::Max, "8"),
            (Aggregate::Last, "6"),
        ] {
            let rows = columns(
                vec![input("value", "m", Some(60), aggregate)],
                Some(&[]),
                rounds,
            );
            assert_eq!(rows, [format!(": {wanted} Value")], "{aggregate:?}");
        }
    }

    #[test]
    fn inputs_are_joined_and_what_was_not_counted_is_zero() {
        let inputs = vec![
            input("errors", "e", Some(60), Aggregate::Increase),
            input("total", "t", Some(60), Aggregate::Increase),
        ];
        let (a, b): (&[_], &[_]) = (
            &[("s", "a"), ("code", "500")],
            &[("s", "b"), ("code", "200")],
        );
        let rounds: Rounds<'_> = &[
            &[("e", a, 0.0), ("t", a, 10.0), ("t", b, 10.0)],
            &[("e", a, 3.0), ("t", a, 30.0), ("t", b, 15.0)],
        ];
        let rows = columns(inputs, Some(&["s"]), rounds);
        assert_eq!(rows, ["{s=\"a\"}: 3 20 Value", "{s=\"b\"}: 0 5 Value"]);
    }

    #[test]
    fn a_rule_that_never_saw_a_series_is_judged_so_that_absence_is_noticed() {
        let mut history = History::new(Limits::default());
        let mut rule = RuleInputs {
            rule: RuleId::new("r"),
            inputs: vec![input("value", "nothing", None, Aggregate::Last)],
            by: None,
            selections: Vec::new(),
            plan: Vec::new(),
        };
        let ran = BTreeMap::from([(ProbeId::new("p"), Duration::from_secs(10))]);
        assert_eq!(
            rule.touched(&mut history, &ran),
            Some(Duration::from_secs(10))
        );
        let nobody = BTreeMap::new();
        assert_eq!(rule.touched(&mut history, &nobody), None);
    }
}
