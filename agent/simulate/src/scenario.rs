//! One test under way: the virtual clock, the probes' grid, the order of what happens at one instant.
//!
//! Events come first, then due timers, then the round (product.md 6).

use crate::entry::Entry;
use crate::events::Outage;
use crate::file::Test;
use crate::happening::Event;
use crate::samples::Answer;
use crate::world::{EPOCH_MS, World, millis};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::input::{Input, ProbeRun, Round, RuleRound};
use watchfire_engine::model::{Now, ProbeId, RuleId, Series};
use watchfire_engine::pace::{Adaptive, Pace};
use watchfire_engine::{Policy, State};

/// One configuration of a test, read.
#[derive(Clone, Debug)]
pub struct Setup {
    /// For the engine; `probes` of each rule name the simulated probes that it reads.
    pub policy: Arc<Policy>,
    /// Interval of every simulated probe.
    pub every: Duration,
    /// Whether it adapts.
    pub adaptive: Option<Adaptive>,
}

/// Who judges the rules of a test. Configurations are numbered: 0 is the first, each reload that is not
/// refused adds one.
pub trait Judges {
    /// That configuration holds from now on; said before anything else.
    fn take_up(&mut self, config: usize);

    /// The process began anew with this state: what was only in memory is lost.
    fn restart(&mut self, state: &State);

    /// A probe answered; all its series, always in the same order, with what each of them says. Where all
    /// fail, the probe failed.
    fn collected(&mut self, probe: &ProbeId, at: Now, answers: &[(&Series, Answer)]);

    /// The rules that read one of the probes that `ran`, each with its interval, in the order of the
    /// file. The components of those in `trapped` trap.
    fn judge(
        &mut self,
        ran: &BTreeMap<ProbeId, Duration>,
        at: Now,
        state: &State,
        trapped: &BTreeSet<RuleId>,
    ) -> Vec<RuleRound>;

    /// Probes that a rule which is not ok reads.
    fn worried(&mut self, state: &State) -> BTreeSet<ProbeId>;
}

/// What came of a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What happened, in order.
    pub timeline: Vec<Entry>,
    /// Changes of the alerts' states, in order; meta-alerts are left out.
    pub states: Vec<Entry>,
    /// The first rule of the first configuration: the one that states without a name are about.
    pub first_rule: String,
    /// Rounds that were judged.
    pub rounds: u64,
}

/// One test under way. All times are milliseconds from the begin.
pub struct Scenario<'t, J> {
    pub(crate) world: World,
    pub(crate) judges: J,
    test: &'t Test<'t>,
    setups: &'t [Setup],
    /// Which of them holds.
    pub(crate) config: usize,
    probes: BTreeMap<ProbeId, Turn>,
    pub(crate) events: VecDeque<Event<'t>>,
    pub(crate) outage: Outage,
    /// The running evaluation ends then.
    busy_until: u64,
    /// The round of this instant takes so long.
    pub(crate) slow: Option<u64>,
    /// Rule, from, until.
    pub(crate) traps: Vec<(String, u64, u64)>,
    rounds: u64,
    /// Silences so far.
    pub(crate) silenced: u64,
}

/// One simulated probe in the timetable.
struct Turn {
    /// Its series, by index into the test's samples.
    series: Vec<usize>,
    next: u64,
    pace: Pace,
}

impl<'t, J: Judges> Scenario<'t, J> {
    /// A test before its begin. `setups`: its configurations, at least one, in the order of [`Judges`].
    ///
    /// # Panics
    /// There is no configuration.
    pub fn new(test: &'t Test<'t>, setups: &'t [Setup], mut judges: J) -> Self {
        let first = setups.first().unwrap_or_else(|| panic!("a configuration"));
        let mut probes: BTreeMap<ProbeId, Turn> = BTreeMap::new();
        for (at, samples) in test.samples.iter().enumerate() {
            let probe = ProbeId::new(samples.series.metric.clone());
            let turn = probes.entry(probe).or_insert_with(|| Turn {
                series: Vec::new(),
                next: 0,
                pace: Pace::new(first.every),
            });
            turn.series.push(at);
        }
        judges.take_up(0);
        let world = World::new(first.policy.clone(), EPOCH_MS);
        Scenario {
            world: world.with(test.answers.clone(), test.takes.clone()),
            judges,
            test,
            setups,
            config: 0,
            probes,
            events: test.events.iter().cloned().collect(),
            outage: Outage::None,
            busy_until: 0,
            slow: None,
            traps: Vec::new(),
            rounds: 0,
            silenced: 0,
        }
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Outcome {
        let end = millis(self.test.end);
        while let Some(next) = self.next_instant() {
            if next > end {
                break;
            }
            self.world.set_now(next);
            self.instant();
        }
        let (timeline, states) = self.world.take_entries();
        let first = self.setups[0].policy.rules.first();
        Outcome {
            timeline,
            states,
            first_rule: first.map(|rule| rule.id.to_string()).unwrap_or_default(),
            rounds: self.rounds,
        }
    }

    fn next_instant(&self) -> Option<u64> {
        if let Some(until) = self.outage.until() {
            return Some(until);
        }
        let events = self.events.front().map(|event| millis(event.at));
        let rounds = self.probes.values().map(|turn| turn.next).min();
        let rounds = rounds.map(|at| at.max(self.busy_until));
        let next = [events, rounds, self.world.next_due()];
        let next = next.into_iter().flatten().min();
        next.map(|at| at.max(self.world.now()))
    }

    fn instant(&mut self) {
        let judged = self.rounds;
        self.happen();
        self.world.note_states(self.rounds > judged);
    }

    fn happen(&mut self) {
        match std::mem::replace(&mut self.outage, Outage::None) {
            Outage::None => {}
            Outage::Dead { .. } => self.restart(),
            Outage::Asleep { from, .. } => self.resume(from),
        }
        let now = self.world.now();
        while self.events.front().is_some_and(|e| millis(e.at) <= now) {
            let Some(event) = self.events.pop_front() else {
                break;
            };
            self.event(event);
            if self.outage != Outage::None {
                return;
            }
        }
        // After an outage too: what the engine holds back for the first round, it does not count as due.
        self.timers();
        if self.outage == Outage::None && self.busy_until <= now {
            self.round();
        }
        // Nothing was sent in this instant: the process dies at its end.
        if let Some((_, until)) = self.world.crash.take()
            && self.outage == Outage::None
        {
            self.outage = Outage::Dead { until };
        }
    }

    fn timers(&mut self) {
        self.world.timers();
        self.notice_death();
    }

    fn round(&mut self) {
        let now = self.world.now();
        if self.probes.values().all(|turn| turn.next > now) {
            return;
        }
        if let Some(takes) = self.slow.take() {
            self.busy_until = now + takes;
        }
        let at = self.world.clock();
        let mut round = Round::default();
        let mut ran = BTreeMap::new();
        let mut failed = BTreeSet::new();
        for (probe, turn) in &mut self.probes {
            if turn.next > now {
                continue;
            }
            // A zero interval would hang; configuration has none.
            let step = millis(turn.pace.every).max(1);
            turn.next = now + step;
            let mut missed = 0;
            while turn.next < self.busy_until {
                turn.next += step;
                missed += 1;
            }
            round.missed = round.missed.max(missed);
            let secs = now as f64 / 1_000.0;
            let answers: Vec<_> = turn
                .series
                .iter()
                .map(|at| &self.test.samples[*at])
                .map(|samples| (&samples.series, samples.at(secs)))
                .collect();
            // It fails where all its series do (decisions.md 17).
            let answered = answers.iter().any(|(_, answer)| *answer != Answer::Error);
            self.judges.collected(probe, at, &answers);
            ran.insert(probe.clone(), turn.pace.every);
            round.probes.push(ProbeRun {
                probe: probe.clone(),
                every: turn.pace.every,
                result: if answered {
                    Ok(())
                } else {
                    failed.insert(probe.clone());
                    Err("the probe failed".into())
                },
            });
        }
        let traps = self.traps.iter();
        let trapped = traps
            .filter(|(_, from, until)| (*from..*until).contains(&now))
            .map(|(rule, ..)| RuleId::new(rule.as_str()))
            .collect();
        let state = self.world.state();
        round.rules = self.judges.judge(&ran, at, state, &trapped);
        self.rounds += 1;
        self.world.feed(Input::Round(round));
        self.adapt(&ran, &failed);
        self.notice_death();
    }

    /// Probes of rules that are not ok run faster, the others slower.
    fn adapt(&mut self, ran: &BTreeMap<ProbeId, Duration>, failed: &BTreeSet<ProbeId>) {
        let setup = &self.setups[self.config];
        let Some(adaptive) = &setup.adaptive else {
            return;
        };
        let worried = self.judges.worried(self.world.state());
        for probe in ran.keys() {
            let Some(turn) = self.probes.get_mut(probe) else {
                continue;
            };
            let before = millis(turn.pace.every);
            let is_worried = worried.contains(probe);
            turn.pace
                .adapt(adaptive, setup.every, failed.contains(probe), is_worried);
            turn.next = turn.next - before + millis(turn.pace.every);
        }
    }

    /// A message of this instant killed the process.
    pub(crate) fn notice_death(&mut self) {
        if let Some(until) = self.world.dead_until {
            self.outage = Outage::Dead { until };
        }
    }

    fn restart(&mut self) {
        self.world.dead_until = None;
        self.begin_grid();
        let judges = &mut self.judges;
        self.world.restart(|state| judges.restart(state));
        self.notice_death();
    }

    fn resume(&mut self, from: u64) {
        self.begin_grid();
        let lost = Duration::from_millis(self.world.now() - from);
        self.world.feed(Input::Resumed { lost });
    }

    /// The first round is at once, and the grid starts there.
    fn begin_grid(&mut self) {
        let now = self.world.now();
        self.busy_until = now;
        for turn in self.probes.values_mut() {
            turn.next = now;
        }
    }

    /// The next configuration holds.
    pub(crate) fn reload(&mut self) {
        let before = &self.setups[self.config];
        let next = (self.config + 1).min(self.setups.len() - 1);
        let setup = &self.setups[next];
        if (before.every, &before.adaptive) != (setup.every, &setup.adaptive) {
            // As the agent does: the next turn comes no later than the new interval wants it.
            let latest = self.world.now() + millis(setup.every);
            for turn in self.probes.values_mut() {
                turn.pace = Pace::new(setup.every);
                turn.next = turn.next.min(latest);
            }
        }
        self.config = next;
        self.judges.take_up(next);
        self.world.reload(&setup.policy);
    }
}
