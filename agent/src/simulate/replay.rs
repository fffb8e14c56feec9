//! Recorded samples through a configuration: what would have fired, been sent and been done.
//!
//! Each metric is one probe, whose interval is that of its samples. At each turn a series answers with
//! its newest sample; one that has none while others of its metric have is absent. Where a metric has no
//! samples at all nobody ran the probe, or it failed: nothing is known, and nothing is made up. Every
//! message is delivered, every action takes two seconds and does nothing, so what would have got better
//! by it does not.

use super::cases::{Prepared, setup};
use super::components::{Components, Rules};
use super::library::Library;
use super::recording::{Recording, Track};
use crate::config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::runtime::Handle;
use watchfire_engine::input::{Input, ProbeRun, Round};
use watchfire_engine::model::{ProbeId, Series};
use watchfire_simulate::{Answer, Entry, Judges, World};

/// A sample counts until it is this much older than its turn, in intervals: a late one is no gap.
const FRESH_INTERVALS: f64 = 1.5;

/// Gaps looked at to find a metric's interval: enough for the median.
const GAPS: usize = 1_001;

/// Shortest interval that is believed; below, samples stand beside each other by accident.
const EVERY_MIN_MS: u64 = 1_000;

/// Interval of a metric with a single sample.
const EVERY_UNKNOWN_MS: u64 = 10_000;

/// Rounds between two looks at how far it is.
const PROGRESS_ROUNDS: u64 = 1_024;

/// A configuration that recorded samples go through.
#[derive(Debug)]
pub struct Candidate {
    prepared: [Prepared; 1],
}

/// What would have happened.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Wall time of second 0 of the entries, in milliseconds since 1970.
    pub begin_ms: u64,
    /// Wall time of the last round.
    pub end_ms: u64,
    /// Rounds that were judged.
    pub rounds: u64,
    /// Alerts that began to fire: `state` entries.
    pub fired: Vec<Entry>,
    /// Messages.
    pub sent: Vec<Entry>,
    /// Actions.
    pub done: Vec<Entry>,
}

impl Candidate {
    /// Makes the rules of a configuration ready to judge a recording of these metrics.
    ///
    /// # Errors
    /// Every rule whose component is not there or refuses its table; for people.
    pub async fn new(
        config: &Config,
        metrics: &BTreeSet<&str>,
        library: &Library,
    ) -> Result<Self, Vec<String>> {
        let mut rules = Rules::new();
        let mut refused = Vec::new();
        for rule in &config.rules {
            match library.live(config, rule, 0).await {
                Ok(live) => rules.extend(live),
                Err(reason) => refused.push(format!(
                    "{}: rule {:?}: {reason}",
                    rule.origin,
                    rule.id.as_str()
                )),
            }
        }
        if refused.is_empty() {
            let setup = setup(config, metrics);
            Ok(Candidate {
                prepared: [Prepared { setup, rules }],
            })
        } else {
            Err(refused)
        }
    }
}

/// One metric under replay.
struct Turn<'r> {
    probe: ProbeId,
    every_ms: u64,
    /// Each series with the number of its samples that are past.
    tracks: Vec<(&'r Track, usize)>,
    /// Wall time; none: it is at its end.
    next: Option<u64>,
}

/// Lets a recording pass. `progress` hears now and then which share of it is done.
pub fn replay(
    recording: &Recording,
    candidate: &Candidate,
    runtime: &Handle,
    mut progress: impl FnMut(f64),
) -> Replayed {
    let mut turns = turns(recording);
    let Some(first) = turns.iter().filter_map(|turn| turn.next).min() else {
        return Replayed::default();
    };
    let ends = recording
        .tracks
        .iter()
        .filter_map(|track| track.points.last());
    let end = ends.map(|(at, _)| *at).max().unwrap_or(first);
    let probes = turns.iter().map(|turn| turn.probe.clone()).collect();
    let mut judges = Components::new(runtime.clone(), &candidate.prepared, probes);
    judges.take_up(0);
    let mut world = World::new(candidate.prepared[0].setup.policy.clone(), first);
    let mut replayed = Replayed {
        begin_ms: first,
        ..Replayed::default()
    };
    while let Some(at) = turns.iter().filter_map(|turn| turn.next).min() {
        let now = at - first;
        while let Some(due) = world.next_due().filter(|due| *due < now) {
            world.set_now(due);
            world.timers();
        }
        world.set_now(now);
        world.timers();
        let judged = round(&mut turns, at, &mut world, &mut judges);
        if judged {
            replayed.end_ms = at;
            replayed.rounds += 1;
        }
        sort_out(&mut world, &mut replayed);
        if replayed.rounds.is_multiple_of(PROGRESS_ROUNDS) {
            progress(now as f64 / (end - first).max(1) as f64);
        }
    }
    replayed
}

/// Runs who is due; whether anybody had something to say.
fn round(turns: &mut [Turn<'_>], at: u64, world: &mut World, judges: &mut Components<'_>) -> bool {
    let clock = world.clock();
    let mut round = Round::default();
    let mut ran = BTreeMap::new();
    let mut answers: Vec<(&Series, Answer)> = Vec::new();
    for turn in turns {
        if turn.next != Some(at) {
            continue;
        }
        answers.clear();
        let fresh = (turn.every_ms as f64 * FRESH_INTERVALS) as u64;
        let mut heard = false;
        for (track, past) in &mut turn.tracks {
            while track.points.get(*past).is_some_and(|(t, _)| *t <= at) {
                *past += 1;
                heard = true;
            }
            let newest = past.checked_sub(1).map(|newest| track.points[newest]);
            answers.push(match newest {
                Some((t, value)) if at - t < fresh => (&track.series, Answer::Value(value)),
                _ => (&track.series, Answer::Absent),
            });
        }
        if heard {
            turn.next = Some(at + turn.every_ms);
        } else {
            turn.next = turn.upcoming();
            continue;
        }
        let every = Duration::from_millis(turn.every_ms);
        judges.collected(&turn.probe, clock, &answers);
        ran.insert(turn.probe.clone(), every);
        round.probes.push(ProbeRun {
            probe: turn.probe.clone(),
            every,
            result: Ok(()),
        });
    }
    if ran.is_empty() {
        return false;
    }
    round.rules = judges.judge(&ran, clock, world.state(), &BTreeSet::new());
    world.feed(Input::Round(round));
    true
}

impl Turn<'_> {
    /// The turn at which the next sample is heard of.
    fn upcoming(&self) -> Option<u64> {
        let next = self
            .tracks
            .iter()
            .filter_map(|(track, past)| track.points.get(*past));
        let next = next.map(|(at, _)| *at).min()?;
        Some(next.next_multiple_of(self.every_ms))
    }
}

/// One turn a metric. They stand on multiples of their intervals, so that metrics of one interval are
/// judged together.
fn turns(recording: &Recording) -> Vec<Turn<'_>> {
    let mut by_metric: BTreeMap<&str, Vec<(&Track, usize)>> = BTreeMap::new();
    for track in recording
        .tracks
        .iter()
        .filter(|track| !track.points.is_empty())
    {
        by_metric
            .entry(&track.series.metric)
            .or_default()
            .push((track, 0));
    }
    let turns = by_metric.into_iter().map(|(metric, tracks)| {
        let longest = tracks.iter().max_by_key(|(track, _)| track.points.len());
        let mut turn = Turn {
            probe: ProbeId::new(metric),
            every_ms: longest.map_or(EVERY_UNKNOWN_MS, |(track, _)| interval(&track.points)),
            tracks,
            next: None,
        };
        turn.next = turn.upcoming();
        turn
    });
    turns.collect()
}

/// The median gap, to the tenth of a second.
fn interval(points: &[(u64, f64)]) -> u64 {
    let gaps = points
        .windows(2)
        .take(GAPS)
        .map(|pair| pair[1].0 - pair[0].0);
    let mut gaps: Vec<u64> = gaps.filter(|gap| *gap > 0).collect();
    gaps.sort_unstable();
    let median = gaps.get(gaps.len() / 2).copied();
    let median = median.map(|gap| (gap + 50) / 100 * 100);
    median.map_or(EVERY_UNKNOWN_MS, |gap| gap.max(EVERY_MIN_MS))
}

/// Puts what happened where it belongs.
fn sort_out(world: &mut World, replayed: &mut Replayed) {
    replayed.fired.extend(world.take_fired());
    let (entries, _) = world.take_entries();
    for entry in entries {
        if entry.event.starts_with("action_") {
            replayed.done.push(entry);
        } else if entry.notifier.is_some() {
            replayed.sent.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_usual_gap() {
        let points = |times: &[u64]| times.iter().map(|at| (*at, 0.0)).collect::<Vec<_>>();
        assert_eq!(
            interval(&points(&[0, 10_010, 20_000, 29_990, 300_000])),
            10_000
        );
        assert_eq!(interval(&points(&[0, 1, 2])), EVERY_MIN_MS);
        assert_eq!(interval(&points(&[5])), EVERY_UNKNOWN_MS);
    }

    #[test]
    fn turns_stand_on_multiples_and_jump_over_gaps() {
        let mut recording = Recording::default();
        let series = watchfire_simulate::parse_series("cpu").unwrap();
        recording.push(
            series,
            vec![(12_000, 1.0), (22_000, 1.0), (32_000, 1.0), (95_000, 1.0)],
        );
        let mut turn = turns(&recording).remove(0);
        assert_eq!(turn.next, Some(20_000));
        turn.tracks[0].1 = 3;
        assert_eq!(turn.upcoming(), Some(100_000));
        turn.tracks[0].1 = 4;
        assert_eq!(turn.upcoming(), None);
    }
}
