//! What the agent notices about itself and nobody else would say: turns that are missed again and
//! again, a notifier that accepts nothing, descriptors that run out, a wall clock that cannot be right,
//! samples that cannot be written.
//!
//! Reads the stages' views now and then; tells the engine what holds as [`Condition`]s.

use crate::clock::Clock;
use crate::pipeline::view::Views;
use crate::plugin::Notice;
use crate::store::RecorderView;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use watchfire_engine::input::Condition;
use watchfire_engine::model::{Instance, Labels, Moment, Now, RuleId, Severity, WallTime};

/// Names of what is told here; no other part of the agent raises them.
pub(super) const NAMES: [&str; 5] = [
    MISSED_ROUNDS,
    NOTIFIER_FAILING,
    DESCRIPTORS_LOW,
    CLOCK_UNSOUND,
    HISTORY_DEGRADED,
];
const MISSED_ROUNDS: &str = "watchfire_missed_rounds";
const NOTIFIER_FAILING: &str = "watchfire_notifier_failing";
const DESCRIPTORS_LOW: &str = "watchfire_descriptors_low";
const CLOCK_UNSOUND: &str = "watchfire_clock_unsound";
const HISTORY_DEGRADED: &str = "watchfire_history_degraded";

/// Time between two looks: a twentieth of the shortest time that is judged here.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// One late turn is a hiccup; this many within [`MISSED_WITHIN`] are a probe too slow for its interval.
const MISSED_TURNS: u64 = 3;
/// The window of missed turns, and how long none may be missed until it is over.
const MISSED_WITHIN: Duration = Duration::from_secs(300);
/// Failures without a success for as long as the longest back-off: several attempts were made by then.
const FAILING_AFTER: Duration = Duration::from_secs(300);
/// Percent of the descriptor limit in use at which somebody has to know.
const DESCRIPTORS_HIGH: u64 = 80;
/// Percent below which it is over: apart from the above, so that it does not flap.
const DESCRIPTORS_CALM: u64 = 70;
/// 2024-01-01: no wall clock of a host that runs this can be earlier.
const EARLIEST_WALL: WallTime = WallTime(1_704_067_200_000);
/// A wall clock that steps back by more than a time server's usual correction.
const STEP_BACK_MS: u64 = 300_000;
/// After so long a clock that stepped back is taken for right: the time before was the wrong one.
const STEP_FORGOTTEN: Duration = Duration::from_secs(3_600);

/// Looks for as long as it is polled.
/// `history`: how the samples on disk fare; None: they are not kept.
pub(super) async fn watch(
    clock: Clock,
    views: Views,
    history: Option<RecorderView>,
    notices: mpsc::Sender<Notice>,
) {
    let mut vitals = Vitals::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let reading = Reading::take(clock.now(), &views, history.as_ref());
        for condition in vitals.look(&reading) {
            tracing::warn!(
                alert = %condition.alert,
                active = condition.active,
                "{}", condition.summary
            );
            // The alert stage drains them while this waits; without it the agent ends.
            let _ = notices.send(Notice::Condition(condition)).await;
        }
    }
}

/// What one look sees.
#[derive(Debug)]
struct Reading {
    now: Now,
    /// Turns skipped since the start, by probe.
    skipped: Vec<(Arc<str>, u64)>,
    /// Why the last attempt failed, by notifier; none: it did not.
    failing: Vec<(Arc<str>, Option<String>)>,
    /// Open descriptors and their limit; none where the system does not tell.
    descriptors: Option<(u64, u64)>,
    /// Why samples are not written to disk; none: they are.
    unwritten: Option<String>,
}

impl Reading {
    fn take(now: Now, views: &Views, history: Option<&RecorderView>) -> Self {
        let probes = views.probes.borrow();
        let notifiers = views.notifiers.borrow();
        Reading {
            now,
            skipped: probes
                .iter()
                .map(|probe| (probe.id.as_str().into(), probe.skipped))
                .collect(),
            failing: notifiers
                .iter()
                .map(|notifier| (notifier.id.as_str().into(), notifier.error.clone()))
                .collect(),
            descriptors: descriptors(),
            unwritten: history.and_then(|history| history.health().degraded),
        }
    }
}

/// Open descriptors of this process and its soft limit.
fn descriptors() -> Option<(u64, u64)> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    Some((open, limit))
}

/// What was seen so far, as far as it is needed to judge, and what is on.
#[derive(Debug, Default)]
struct Vitals {
    /// Skipped turns of each look within the window, by probe.
    skipped: BTreeMap<Arc<str>, VecDeque<(Moment, u64)>>,
    /// Since when each notifier only fails.
    failing: BTreeMap<Arc<str>, Moment>,
    /// The latest wall time that was seen, and when.
    newest: Option<(WallTime, Moment)>,
    on: BTreeMap<(&'static str, Option<Arc<str>>), Arc<str>>,
}

impl Vitals {
    /// Takes one look; tells what changed.
    fn look(&mut self, reading: &Reading) -> Vec<Condition> {
        let mut holds: BTreeMap<(&'static str, Option<Arc<str>>), String> = BTreeMap::new();
        self.missed_turns(reading, &mut holds);
        self.failing_notifiers(reading, &mut holds);
        if let Some(words) = self.descriptors_low(reading) {
            holds.insert((DESCRIPTORS_LOW, None), words);
        }
        if let Some(words) = self.clock_unsound(reading.now) {
            holds.insert((CLOCK_UNSOUND, None), words);
        }
        if let Some(reason) = &reading.unwritten {
            let words = format!(
                "samples are not written to metrics.db: {reason}; alerting goes on, what is not written is missing after a restart"
            );
            holds.insert((HISTORY_DEGRADED, None), words);
        }

        let mut changes = Vec::new();
        let on = std::mem::take(&mut self.on);
        for key in on.keys().filter(|key| !holds.contains_key(key)) {
            changes.push(condition(key, false, "over".into()));
        }
        for (key, words) in holds {
            // The first words stay: figures that change at each look are no news.
            let words = on.get(&key).cloned().unwrap_or_else(|| words.into());
            if !on.contains_key(&key) {
                changes.push(condition(&key, true, words.clone()));
            }
            self.on.insert(key, words);
        }
        changes
    }

    fn missed_turns(
        &mut self,
        reading: &Reading,
        holds: &mut BTreeMap<(&'static str, Option<Arc<str>>), String>,
    ) {
        let now = reading.now.at;
        let known = |probe: &Arc<str>| reading.skipped.iter().any(|(id, _)| id == probe);
        self.skipped.retain(|probe, _| known(probe));
        for (probe, total) in &reading.skipped {
            let looks = self.skipped.entry(probe.clone()).or_default();
            // A probe that was configured anew counts from zero again.
            if looks.back().is_some_and(|(_, before)| before > total) {
                looks.clear();
            }
            looks.push_back((now, *total));
            // The oldest look kept is the last one at or before the window's begin.
            while looks
                .get(1)
                .is_some_and(|(at, _)| now.since(*at) >= MISSED_WITHIN)
            {
                looks.pop_front();
            }
            let missed = total - looks.front().map_or(*total, |(_, first)| *first);
            let key = (MISSED_ROUNDS, Some(probe.clone()));
            if missed >= MISSED_TURNS || (missed > 0 && self.on.contains_key(&key)) {
                let words = format!(
                    "probe {:?} missed {missed} turns within 5 minutes: it takes longer than its interval; raise every, or lower timeout",
                    &**probe
                );
                holds.insert(key, words);
            }
        }
    }

    fn failing_notifiers(
        &mut self,
        reading: &Reading,
        holds: &mut BTreeMap<(&'static str, Option<Arc<str>>), String>,
    ) {
        let now = reading.now.at;
        let fails = |id: &Arc<str>| {
            let mut all = reading.failing.iter();
            all.any(|(other, error)| other == id && error.is_some())
        };
        self.failing.retain(|notifier, _| fails(notifier));
        for (notifier, error) in &reading.failing {
            let Some(error) = error else { continue };
            let since = *self.failing.entry(notifier.clone()).or_insert(now);
            if now.since(since) >= FAILING_AFTER {
                let words = format!(
                    "notifier {:?} has delivered nothing for 5 minutes: {error}",
                    &**notifier
                );
                holds.insert((NOTIFIER_FAILING, Some(notifier.clone())), words);
            }
        }
    }

    fn descriptors_low(&self, reading: &Reading) -> Option<String> {
        let (open, limit) = reading.descriptors?;
        let percent = if self.on.contains_key(&(DESCRIPTORS_LOW, None)) {
            DESCRIPTORS_CALM
        } else {
            DESCRIPTORS_HIGH
        };
        (open.saturating_mul(100) >= limit.saturating_mul(percent)).then(|| {
            format!("{open} of {limit} descriptors are open: raise LimitNOFILE= (ulimit -n)")
        })
    }

    fn clock_unsound(&mut self, now: Now) -> Option<String> {
        if now.wall < EARLIEST_WALL {
            return Some(
                "the wall clock stands before 2024: set it, or start a time service".into(),
            );
        }
        let (newest, seen) = self.newest.unwrap_or((now.wall, now.at));
        if newest.0.saturating_sub(now.wall.0) > STEP_BACK_MS && now.at.since(seen) < STEP_FORGOTTEN
        {
            self.newest = Some((newest, seen));
            return Some(format!(
                "the wall clock stepped back by {} s: schedules, silences and times shown follow it",
                (newest.0 - now.wall.0) / 1_000
            ));
        }
        self.newest = Some((now.wall, now.at));
        None
    }
}

fn condition(
    (name, subject): &(&'static str, Option<Arc<str>>),
    active: bool,
    summary: Arc<str>,
) -> Condition {
    let (label, severity) = match *name {
        MISSED_ROUNDS => ("probe", Severity::Warning),
        NOTIFIER_FAILING => ("notifier", Severity::High),
        DESCRIPTORS_LOW => ("", Severity::High),
        _ => ("", Severity::Warning),
    };
    let labels = subject.iter().map(|subject| (label, subject.clone()));
    let labels = Labels::new(labels).expect("label names are written down here");
    Condition {
        alert: Arc::new(Instance::new(RuleId::new(*name), labels)),
        severity,
        active,
        summary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026, in milliseconds.
    const WALL: u64 = 1_790_000_000_000;

    fn reading(secs: u64) -> Reading {
        Reading {
            now: Now {
                at: Moment(secs * 1_000),
                wall: WallTime(WALL + secs * 1_000),
            },
            skipped: Vec::new(),
            failing: Vec::new(),
            descriptors: Some((100, 1_024)),
            unwritten: None,
        }
    }

    /// What a look tells, as `+name{label}` and `-name{label}`.
    fn told(vitals: &mut Vitals, reading: &Reading) -> Vec<String> {
        let changes = vitals.look(reading);
        let sign = |condition: &Condition| if condition.active { '+' } else { '-' };
        changes
            .iter()
            .map(|condition| format!("{}{}", sign(condition), condition.alert))
            .collect()
    }

    #[test]
    fn a_probe_that_misses_turns_again_and_again_is_named_until_it_keeps_up() {
        let mut vitals = Vitals::default();
        let mut look = |secs: u64, skipped: u64| {
            let mut reading = reading(secs);
            reading.skipped.push(("slow".into(), skipped));
            told(&mut vitals, &reading)
        };
        assert_eq!(look(0, 7), [""; 0], "turns before the first look are past");
        assert_eq!(look(15, 8), [""; 0], "a hiccup");
        assert_eq!(look(30, 9), [""; 0]);
        let name = "watchfire_missed_rounds{probe=\"slow\"}";
        assert_eq!(look(45, 10), [format!("+{name}")]);
        assert_eq!(look(60, 11), [""; 0], "said once");
        assert_eq!(look(330, 11), [""; 0], "one turn was missed in this window");
        assert_eq!(look(360, 11), [format!("-{name}")]);
    }

    #[test]
    fn a_probe_that_is_gone_or_new_misses_nothing() {
        let mut vitals = Vitals::default();
        let mut with = |secs: u64, skipped: Option<u64>| {
            let mut reading = reading(secs);
            reading
                .skipped
                .extend(skipped.map(|skipped| ("slow".into(), skipped)));
            told(&mut vitals, &reading)
        };
        with(0, Some(0));
        assert_eq!(with(15, Some(5)).len(), 1);
        assert_eq!(with(30, None).len(), 1, "over with the probe");
        assert_eq!(with(45, Some(9)), [""; 0]);
        assert_eq!(with(60, Some(0)), [""; 0]);
    }

    #[test]
    fn a_notifier_that_only_fails_is_named_until_it_delivers() {
        let mut vitals = Vitals::default();
        let mut look = |secs: u64, error: Option<&str>| {
            let mut reading = reading(secs);
            let error = error.map(str::to_owned);
            reading.failing.push(("ops".into(), error));
            told(&mut vitals, &reading)
        };
        look(0, Some("refused"));
        assert_eq!(look(150, None), [""; 0], "a success in between");
        look(165, Some("refused"));
        assert_eq!(look(464, Some("refused")), [""; 0]);
        let name = "watchfire_notifier_failing{notifier=\"ops\"}";
        assert_eq!(look(465, Some("refused")), [format!("+{name}")]);
        assert_eq!(look(480, None), [format!("-{name}")]);
    }

    #[test]
    fn descriptors_are_low_from_80_percent_to_70() {
        let mut vitals = Vitals::default();
        let mut look = |open: u64| {
            let mut reading = reading(0);
            reading.descriptors = Some((open, 1_000));
            told(&mut vitals, &reading)
        };
        assert_eq!(look(799), [""; 0]);
        assert_eq!(look(800), ["+watchfire_descriptors_low"]);
        assert_eq!(look(700), [""; 0]);
        assert_eq!(look(699), ["-watchfire_descriptors_low"]);
    }

    #[test]
    fn a_wall_clock_that_stands_in_1970_or_steps_back_is_unsound() {
        let mut vitals = Vitals::default();
        let mut look = |secs: u64, step_secs: i64| {
            let mut reading = reading(secs);
            reading.now.wall.0 = reading.now.wall.0.saturating_add_signed(step_secs * 1_000);
            told(&mut vitals, &reading)
        };
        assert_eq!(look(0, -1_790_000_000), ["+watchfire_clock_unsound"]);
        assert_eq!(look(15, 0), ["-watchfire_clock_unsound"]);
        assert_eq!(look(30, -200), [""; 0], "a correction");
        assert_eq!(look(45, 36_000), [""; 0], "forward is no contradiction");
        assert_eq!(look(60, 0), ["+watchfire_clock_unsound"]);
        assert_eq!(look(3_600, 0), [""; 0]);
        assert_eq!(look(3_645, 0), ["-watchfire_clock_unsound"]);
    }

    #[test]
    fn samples_that_cannot_be_written_are_told_until_they_can() {
        let mut vitals = Vitals::default();
        let mut look = |reason: Option<&str>| {
            let mut reading = reading(0);
            reading.unwritten = reason.map(str::to_owned);
            told(&mut vitals, &reading)
        };
        assert_eq!(look(None), [""; 0]);
        assert_eq!(look(Some("disk full")), ["+watchfire_history_degraded"]);
        assert_eq!(look(Some("still full")), [""; 0], "said once");
        assert_eq!(look(None), ["-watchfire_history_degraded"]);
    }

    #[test]
    fn this_process_has_descriptors_and_a_limit() {
        let (open, limit) = descriptors().expect("/proc and a limit");
        assert!(open > 0 && open < limit, "{open} of {limit}");
    }
}
