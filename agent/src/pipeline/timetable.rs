//! Who is due when: the collect stage's decisions as plain state, without a clock, a task or a sandbox.
//!
//! Every probe has a grid of its own, which begins at its first turn. A turn that nobody took is
//! skipped and counted, never made up for.

use super::collect::GRACE;
use super::view::ProbeView;
use crate::config::{Adaptive, ProbeConfig};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use watchfire_engine::model::{ProbeId, WallTime};
use watchfire_engine::pace::Pace;

/// The timetable.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    turns: BTreeMap<ProbeId, Turn>,
}

/// What falls due at one instant.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Due {
    /// To be run now.
    pub(super) start: Vec<Start>,
    /// Still busy with the run before.
    pub(super) skipped: Vec<ProbeId>,
    /// Turns nobody took.
    pub(super) missed: u32,
}

/// One run to start.
#[derive(Debug, PartialEq)]
pub(super) struct Start {
    pub(super) probe: ProbeId,
    /// Its current interval.
    pub(super) every: Duration,
    /// Behind its grid by so much.
    pub(super) lateness: Duration,
    /// The round waits for it: its last run was quick.
    pub(super) waited_for: bool,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) at: WallTime,
    pub(super) took: Duration,
    /// Samples, or why there are none.
    pub(super) result: Result<usize, String>,
}

/// One probe in the timetable.
#[derive(Debug)]
struct Turn {
    /// Interval as configured.
    configured: Duration,
    adaptive: Option<Adaptive>,
    /// Current interval; differs from the configured one where it is adaptive.
    pace: Pace,
    /// When it is due next.
    next: Instant,
    /// A run is under way.
    busy: bool,
    /// The last run took longer than [`GRACE`].
    slow: bool,
    view: ProbeView,
}

impl Timetable {
    /// Takes up a configuration: new probes get their first turn at once, gone ones lose theirs, changed
    /// ones keep their place on the grid unless their interval changed.
    pub(super) fn take_up<'a>(
        &mut self,
        probes: impl IntoIterator<Item = &'a ProbeConfig>,
        host: &str,
        now: Instant,
    ) {
        let mut old = std::mem::take(&mut self.turns);
        for config in probes {
            let turn = match old.remove(&config.id) {
                Some(mut turn) => {
                    let same_pace =
                        turn.configured == config.every && turn.adaptive == config.adaptive;
                    if !same_pace {
                        turn.pace = Pace::new(config.every);
                        turn.next = turn.next.min(now + config.every);
                    }
                    turn.configured = config.every;
                    turn.adaptive = config.adaptive;
                    turn.view.plugin = config.plugin.clone();
                    turn.view.every = turn.pace.every;
                    turn
                }
                None => Turn {
                    configured: config.every,
                    adaptive: config.adaptive,
                    pace: Pace::new(config.every),
                    next: now + spread(config.id.as_str(), host, config.jitter),
                    busy: false,
                    slow: false,
                    view: ProbeView {
                        id: config.id.clone(),
                        plugin: config.plugin.clone(),
                        every: config.every,
                        last_run: None,
                        last_success: None,
                        error: None,
                        duration: None,
                        samples: 0,
                        skipped: 0,
                    },
                },
            };
            self.turns.insert(config.id.clone(), turn);
        }
    }

    pub(super) fn next_turn(&self) -> Option<Instant> {
        self.turns.values().map(|turn| turn.next).min()
    }

    /// For everybody to see.
    pub(super) fn views(&self) -> Vec<ProbeView> {
        self.turns.values().map(|turn| turn.view.clone()).collect()
    }

    /// Why the probe's last run failed.
    pub(super) fn error_of(&self, id: &ProbeId) -> Option<String> {
        self.turns.get(id)?.view.error.clone()
    }

    /// Takes everything that is due at `now` and sets its next turn on its grid. `room`: whether the
    /// next stage can take a round at all.
    pub(super) fn due(&mut self, now: Instant, room: bool) -> Due {
        let mut due = Due::default();
        for (id, turn) in &mut self.turns {
            if turn.next > now {
                continue;
            }
            let lateness = now - turn.next;
            let passed = lateness.as_nanos() / turn.pace.every.as_nanos().max(1);
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            turn.next += turn.pace.every * passed.saturating_add(1);
            due.missed = due.missed.saturating_add(passed);
            if turn.busy {
                turn.view.skipped += 1;
                due.skipped.push(id.clone());
            } else if room {
                turn.busy = true;
                due.start.push(Start {
                    probe: id.clone(),
                    every: turn.pace.every,
                    lateness,
                    waited_for: !turn.slow,
                });
            } else {
                due.missed = due.missed.saturating_add(1);
            }
        }
        due
    }

    /// Takes the end of a run: the probe is free again, its view and its adaptive interval follow.
    pub(super) fn finish(&mut self, id: &ProbeId, ended: Ended, worried: bool) {
        let Some(turn) = self.turns.get_mut(id) else {
            return;
        };
        turn.busy = false;
        turn.slow = ended.took > GRACE;
        turn.view.last_run = Some(ended.at);
        turn.view.duration = Some(ended.took);
        let failed = ended.result.is_err();
        match ended.result {
            Ok(samples) => {
                turn.view.last_success = Some(ended.at);
                turn.view.error = None;
                turn.view.samples = samples;
            }
            Err(error) => {
                turn.view.error = Some(error);
                turn.view.samples = 0;
            }
        }
        let Some(adaptive) = &turn.adaptive else {
            return;
        };
        let before = turn.pace.every;
        turn.pace.adapt(adaptive, turn.configured, failed, worried);
        let every = turn.pace.every;
        if every != before {
            turn.next = turn.next - before + every;
            turn.view.every = every;
        }
    }
}

/// A delay in `[0, jitter)` that is always the same for this probe on this host.
fn spread(probe: &str, host: &str, jitter: Duration) -> Duration {
    let digest = Sha256::new()
        .chain_update(host)
        .chain_update([0])
        .chain_update(probe)
        .finalize();
    let mut first = [0; 4];
    first.copy_from_slice(&digest[..4]);
    jitter.mul_f64(f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX).next_up())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::types::Grants;
    use std::sync::Arc;
    use watchfire_engine::model::Labels;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn probe(id: &str, every: u64) -> ProbeConfig {
        ProbeConfig {
            id: id.into(),
            plugin: "probe-test".into(),
            every: secs(every),
            timeout: secs(1),
            jitter: Duration::ZERO,
            adaptive: None,
            grant: Arc::new(Grants::default()),
            config: "{}".into(),
            labels: Labels::default(),
        }
    }

    fn table(probes: &[ProbeConfig], begin: Instant) -> Timetable {
        let mut table = Timetable::default();
        table.take_up(probes, "host", begin);
        table
    }

    fn ended(took_ms: u64, result: Result<usize, &str>) -> Ended {
        Ended {
            at: WallTime(1),
            took: Duration::from_millis(took_ms),
            result: result.map_err(str::to_owned),
        }
    }

    /// Runs everything that is due at `at` seconds, at once and well; tells who.
    fn turn(table: &mut Timetable, begin: Instant, at: u64) -> Vec<String> {
        let due = table.due(begin + secs(at), true);
        let started = due.start.iter().map(|start| start.probe.clone());
        let started: Vec<ProbeId> = started.collect();
        for id in &started {
            table.finish(id, ended(1, Ok(3)), false);
        }
        started.iter().map(ProbeId::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_probe_has_its_own_grid() {
        let begin = Instant::now();
        let mut table = table(&[probe("a", 10), probe("b", 15)], begin);
        assert_eq!(turn(&mut table, begin, 0), ["a", "b"]);
        for (at, wanted) in [
            (10, &["a"][..]),
            (15, &["b"]),
            (20, &["a"]),
            (30, &["a", "b"]),
        ] {
            assert_eq!(table.next_turn(), Some(begin + secs(at)));
            assert_eq!(turn(&mut table, begin, at), wanted, "at {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn late_turns_are_counted_and_the_grid_stays() {
        let begin = Instant::now();
        let mut table = table(&[probe("a", 10)], begin);
        turn(&mut table, begin, 0);
        let due = table.due(begin + secs(34), true);
        assert_eq!(due.missed, 2, "those of 10 and 20; the one of 30 is late");
        assert_eq!(due.start[0].lateness, secs(24));
        assert_eq!(table.next_turn(), Some(begin + secs(40)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_probe_skips_and_a_full_pipeline_misses() {
        let begin = Instant::now();
        let mut table = table(&[probe("a", 10), probe("b", 10)], begin);
        table.due(begin, true);
        table.finish(&"b".into(), ended(1, Ok(1)), false);
        let due = table.due(begin + secs(10), true);
        assert_eq!(due.skipped, ["a".into()]);
        assert_eq!((due.start.len(), due.missed), (1, 0));
        assert_eq!(table.views()[0].skipped, 1);
        table.finish(&"a".into(), ended(1, Ok(1)), false);
        table.finish(&"b".into(), ended(1, Ok(1)), false);
        let due = table.due(begin + secs(20), false);
        assert_eq!((due.start.len(), due.skipped.len(), due.missed), (0, 0, 2));
        assert_eq!(turn(&mut table, begin, 30), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_does_not_wait_for_who_was_slow() {
        let begin = Instant::now();
        let mut table = table(&[probe("a", 10)], begin);
        for (at, took_ms, waited_for) in [
            (0, 100, true),
            (10, 101, true),
            (20, 1, false),
            (30, 1, true),
        ] {
            let due = table.due(begin + secs(at), true);
            assert_eq!(due.start[0].waited_for, waited_for, "at {at}");
            table.finish(&"a".into(), ended(took_ms, Ok(1)), false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn views_say_how_the_last_run_ended() {
        let begin = Instant::now();
        let mut table = table(&[probe("a", 10)], begin);
        let id = ProbeId::new("a");
        table.finish(&id, ended(7, Ok(3)), false);
        let view = &table.views()[0];
        assert_eq!(
            (view.samples, view.duration),
            (3, Some(Duration::from_millis(7)))
        );
        assert_eq!(
            (view.last_run, view.last_success),
            (Some(WallTime(1)), Some(WallTime(1)))
        );
        let failed = Ended {
            at: WallTime(2),
            ..ended(7, Err("no answer"))
        };
        table.finish(&id, failed, false);
        let view = &table.views()[0];
        assert_eq!(
            (view.last_run, view.last_success),
            (Some(WallTime(2)), Some(WallTime(1)))
        );
        assert_eq!(
            (view.samples, view.error.as_deref()),
            (0, Some("no answer"))
        );
        assert_eq!(table.error_of(&id).as_deref(), Some("no answer"));
        table.finish(&"gone".into(), ended(1, Ok(1)), false);
        assert_eq!(
            table.views().len(),
            1,
            "who is not there any more is not taken up again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_moves_no_one_but_those_whose_interval_changed() {
        let begin = Instant::now();
        let mut table = table(&[probe("a", 10), probe("b", 60), probe("c", 10)], begin);
        turn(&mut table, begin, 0);
        let mut other = probe("a", 10);
        other.plugin = "probe-other".into();
        let probes = [other, probe("b", 20), probe("d", 10)];
        table.take_up(&probes, "host", begin + secs(4));
        for (at, wanted) in [
            (4, &["d"][..]),
            (10, &["a"]),
            (14, &["d"]),
            (20, &["a"]),
            (24, &["b", "d"]),
        ] {
            assert_eq!(turn(&mut table, begin, at), wanted, "at {at}");
        }
        assert_eq!(&*table.views()[0].plugin, "probe-other");
        // A longer interval does not put off a turn that was near.
        table.take_up(&[probe("a", 600)], "host", begin + secs(29));
        assert_eq!(turn(&mut table, begin, 30), ["a"]);
        assert_eq!(table.next_turn(), Some(begin + secs(630)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_adaptive_interval_shrinks_with_worry_and_grows_with_calm() {
        let begin = Instant::now();
        let mut one = probe("a", 40);
        one.adaptive = Some(Adaptive {
            min: secs(10),
            max: secs(100),
            calm: 1,
            grow: 2.0,
            shrink: 2.0,
        });
        let mut table = table(&[one], begin);
        let id = ProbeId::new("a");
        let mut at = 0;
        for (worried, result, every) in [
            (false, Ok(1), 40),
            (false, Ok(1), 80),
            (false, Ok(1), 100),
            (true, Ok(1), 50),
            (true, Ok(1), 25),
            (true, Ok(1), 12),
            (true, Ok(1), 10),
            (false, Ok(1), 10),
            (false, Ok(1), 20),
            (false, Err("no answer"), 40),
            (false, Ok(1), 40),
        ] {
            let due = table.due(begin + secs(at), true);
            assert_eq!(due.start.len(), 1, "at {at}");
            table.finish(&id, ended(1, result), worried);
            let now = table.views()[0].every;
            assert_eq!(now.as_secs(), every, "at {at}");
            assert_eq!(
                table.next_turn(),
                Some(begin + secs(at) + now),
                "from the turn, not from its end"
            );
            at = (table.next_turn().unwrap() - begin).as_secs_f64().ceil() as u64;
            table.turns.get_mut(&id).unwrap().next = begin + secs(at);
        }
    }

    #[test]
    fn jitter_is_a_fixed_place_of_its_own() {
        let all: Vec<Duration> = (0..50)
            .map(|n| spread(&format!("p{n}"), "host", secs(10)))
            .collect();
        assert!(all.iter().all(|delay| *delay < secs(10)));
        assert!(
            all.iter().any(|delay| *delay < secs(3)) && all.iter().any(|delay| *delay > secs(7))
        );
        assert_eq!(spread("p0", "host", secs(10)), all[0]);
        assert_ne!(spread("p0", "other", secs(10)), all[0]);
        assert_eq!(spread("p0", "host", Duration::ZERO), Duration::ZERO);
    }
}
