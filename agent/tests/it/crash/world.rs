//! A simulated world around the real engine and the real `state.db`: virtual clock, probes, services,
//! actions, an operator, and a process that dies where it is told to.
//!
//! What is the process's own (the engine's state, messages and actions under way, the open store)
//! is lost with it; what is the world's (the clock, the configuration on disk, what services received,
//! what actions did) stays. The next life begins with a copy of `state.db` and its log as they lay on
//! disk at that instant.

use super::scenarios::{Doing, Scenario};
use super::told::{Arrival, is_meta, name};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use watchfire::config::{Environment, from_texts, render};
use watchfire::store::{Commit, NewEvent, SavedClock, StateStore, StoredEvent};
use watchfire_engine::input::{
    ActionOutcome, ActionReport, Command, CommandKind, Condition, DeliveryOutcome, DeliveryReport,
    Input, Observation, ProbeRun, Round, RuleRound, Seen, Silence,
};
use watchfire_engine::model::{
    Instance, Labels, Moment, Now, RuleId, Severities, Severity, WallTime,
};
use watchfire_engine::{Effects, Policy, Send, StartAttempt, State, step};

/// Milliseconds between rounds.
const EVERY_MS: u64 = 10_000;

/// The wall clock at the begin of a scenario, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// The engine's clock at the begin: not zero, so that nothing leans on it.
const BEGIN_MS: u64 = 1_000_000;

/// An action takes so long, in milliseconds.
const ACTION_MS: u64 = 2_000;

/// After a scenario's end nothing dies any more: the longest back-off, a cooldown, a verification and a
/// round fit in.
const SETTLE_MS: u64 = 600_000;

/// Due timers of one instant: more than a scenario can need, so that a timer that stays due is found.
const TIMERS_MAX: usize = 32;

/// The process died.
#[derive(Debug)]
pub(super) struct Crash;

/// When the process dies.
#[derive(Clone, Debug)]
pub(super) enum Deaths {
    /// At this boundary, counted from 0, and at no other.
    At(usize),
    /// With this chance in a thousand at every boundary, at most so often.
    Often { per_mille: u64, most: usize },
    /// Never.
    Never,
}

/// A message on its way.
#[derive(Clone, Debug)]
struct Flight {
    send: Send,
    arrives: u64,
    answers: u64,
    /// The service's answer, once the message is there.
    outcome: Option<DeliveryOutcome>,
}

/// An action under way.
#[derive(Clone, Debug)]
struct Running {
    start: StartAttempt,
    middle: u64,
    ends: u64,
    halfway: bool,
}

/// One boundary at which the process could die.
#[derive(Clone, Debug)]
pub(super) struct Boundary {
    pub(super) at: u64,
    pub(super) what: &'static str,
}

/// A scenario under way. Times are milliseconds from its begin.
pub(super) struct World {
    scenario: &'static Scenario,
    deaths: Deaths,
    dice: Dice,
    /// How long the process stays away after a death, in milliseconds at most; 0: it is back at once.
    pub(super) away_max: u64,
    root: tempfile::TempDir,
    lives: usize,
    runtime: tokio::runtime::Runtime,

    now: u64,
    policy: Policy,
    next_event: usize,
    next_round: u64,
    /// Actions that did what they do.
    pub(super) acted: Vec<(u64, String)>,
    /// Messages that services received.
    pub(super) arrivals: Vec<Arrival>,
    pub(super) boundaries: Vec<Boundary>,
    pub(super) died: Vec<Boundary>,
    /// Ids that were under way when the process died, and had arrived: the only ones that may come twice.
    pub(super) uncertain: BTreeSet<String>,

    state: State,
    store: Option<StateStore>,
    flights: Vec<Flight>,
    running: Vec<Running>,
}

/// Small and seeded: a failure is reproduced by its seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Between 0 and `below`, exclusive (splitmix64).
    pub(super) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}

impl World {
    pub(super) fn new(scenario: &'static Scenario, deaths: Deaths, seed: u64) -> Self {
        // In memory where there is such a folder: the process dies here, never the disk.
        let shm = Path::new("/dev/shm");
        let root = match tempfile::tempdir_in(shm) {
            Ok(root) => root,
            Err(_) => tempfile::tempdir().expect("a folder"),
        };
        let policy = policy(scenario.config, scenario.flapping);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let mut world = World {
            state: State::new(&policy, clock(0)),
            store: None,
            scenario,
            deaths,
            dice: Dice(seed),
            away_max: 0,
            root,
            lives: 0,
            runtime,
            now: 0,
            policy,
            next_event: 0,
            next_round: 0,
            acted: Vec::new(),
            arrivals: Vec::new(),
            boundaries: Vec::new(),
            died: Vec::new(),
            uncertain: BTreeSet::new(),
            flights: Vec::new(),
            running: Vec::new(),
        };
        let (store, opened) = StateStore::open(&world.folder()).expect("a fresh store");
        assert_eq!(opened.lost, None);
        world.store = Some(store);
        world
    }

    /// To the end of the scenario, through every death, and on until everything could settle.
    pub(super) fn run(mut self) -> Self {
        let end = self.scenario.end * 1_000 + SETTLE_MS + self.away_max;
        loop {
            match self.instant(end) {
                Ok(true) => {}
                Ok(false) => return self,
                Err(Crash) => while let Err(Crash) = self.come_back() {},
            }
        }
    }

    /// Whether nothing is left to say: alerts that are not ok (meta-alerts left out), and messages that
    /// wait.
    pub(super) fn left(&self) -> (Vec<String>, usize) {
        let alerts = self.state.alerts().into_iter();
        let own = alerts.filter(|view| !is_meta(view.instance.rule.as_str()));
        let states = own.map(|view| format!("{} {}", view.instance, view.state));
        (states.collect(), self.state.outbox_pending())
    }

    /// The whole history as it was committed.
    pub(super) fn history(&self) -> Vec<StoredEvent> {
        let store = self.store.as_ref().expect("an open store");
        let mut all = Vec::new();
        loop {
            let since = all.last().map_or(0, |event: &StoredEvent| event.seq);
            let more = self
                .runtime
                .block_on(store.events(since, &[], usize::MAX))
                .expect("events");
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// What is next, whatever it is. False: the scenario is over.
    fn instant(&mut self, end: u64) -> Result<bool, Crash> {
        let event = self.scenario.events.get(self.next_event);
        let event = event.map(|(at, _)| at * 1_000);
        let arrives = self.flights.iter().filter(|f| f.outcome.is_none());
        let arrives = arrives.map(|f| f.arrives).min();
        let answers = self.flights.iter().filter(|f| f.outcome.is_some());
        let answers = answers.map(|f| f.answers).min();
        let acts = self.running.iter();
        let acts = acts
            .map(|r| if r.halfway { r.ends } else { r.middle })
            .min();
        let timer = self.state.next_due();
        let timer = timer.map(|due| due.0.saturating_sub(BEGIN_MS));
        let kinds = [event, arrives, answers, acts, timer, Some(self.next_round)];
        let Some(at) = kinds.into_iter().flatten().min() else {
            return Ok(false);
        };
        if at > end {
            return Ok(false);
        }
        self.now = self.now.max(at);
        let is_now = |at: Option<u64>| at.is_some_and(|at| at <= self.now);
        if is_now(event) {
            self.event()?;
        } else if is_now(arrives) {
            self.arrival()?;
        } else if is_now(answers) {
            self.answer()?;
        } else if is_now(acts) {
            self.action()?;
        } else if is_now(timer) {
            self.timers()?;
        } else {
            self.round()?;
        }
        Ok(true)
    }

    fn boundary(&mut self, what: &'static str) -> Result<(), Crash> {
        let boundary = Boundary { at: self.now, what };
        let number = self.boundaries.len();
        self.boundaries.push(boundary.clone());
        let dies = match self.deaths {
            Deaths::Never => false,
            Deaths::At(at) => at == number,
            Deaths::Often { per_mille, most } => {
                let over = self.now > self.scenario.end * 1_000;
                !over && self.died.len() < most && self.dice.roll(1_000) < per_mille
            }
        };
        if !dies {
            return Ok(());
        }
        self.died.push(boundary);
        Err(Crash)
    }

    /// As the alert stage does it: decide, commit, hand out.
    fn take(&mut self, input: Input) -> Result<(), Crash> {
        self.boundary("taken in, not decided")?;
        let effects = step(&mut self.state, &self.policy, input, clock(self.now));
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Effects) -> Result<(), Crash> {
        if effects.is_empty() {
            return Ok(());
        }
        self.boundary("decided, not committed")?;
        let Effects {
            records,
            events,
            sends,
            attempts,
        } = effects;
        if !records.is_empty() || !events.is_empty() {
            let commit = Commit {
                records,
                events: events.iter().map(NewEvent::from_engine).collect(),
                clock: SavedClock {
                    boot_id: "simulated".to_owned(),
                    boottime_ms: self.now,
                    moment_ms: BEGIN_MS + self.now,
                    wall_ms: EPOCH_MS + self.now,
                },
                plugin_state: Vec::new(),
            };
            let store = self.store.as_ref().expect("an open store");
            self.runtime
                .block_on(store.commit(commit))
                .expect("a commit");
        }
        self.boundary("committed, nothing handed out")?;
        for send in sends {
            let takes = self.scenario.delivery_takes_ms;
            self.flights.push(Flight {
                arrives: self.now + takes / 2,
                answers: self.now + takes,
                send,
                outcome: None,
            });
            self.boundary("a message handed out")?;
        }
        for start in attempts {
            self.running.push(Running {
                start,
                middle: self.now + ACTION_MS / 2,
                ends: self.now + ACTION_MS,
                halfway: false,
            });
            self.boundary("an action handed out")?;
        }
        Ok(())
    }

    fn arrival(&mut self) -> Result<(), Crash> {
        self.boundary("about to send")?;
        let first = self.flights.iter_mut().filter(|f| f.outcome.is_none());
        let Some(flight) = first.min_by_key(|f| f.arrives) else {
            return Ok(());
        };
        let notifier = flight.send.notifier.as_str();
        let outcome = self.scenario.answer(notifier, self.now / 1_000);
        flight.outcome = Some(outcome.clone());
        self.arrivals.push(Arrival {
            at: self.now,
            notifier: notifier.to_owned(),
            notification: flight.send.notification.clone(),
            accepted: matches!(outcome, DeliveryOutcome::Accepted { .. }),
        });
        self.boundary("sent, no answer yet")
    }

    fn answer(&mut self) -> Result<(), Crash> {
        self.boundary("answered, not taken in")?;
        let answered = self.flights.iter().filter(|f| f.outcome.is_some());
        let Some(flight) = answered.min_by_key(|f| f.answers) else {
            return Ok(());
        };
        let report = DeliveryReport {
            id: flight.send.notification.id.clone(),
            attempt: flight.send.attempt,
            outcome: flight.outcome.clone().expect("an answer"),
        };
        // Under way until its report is committed.
        self.take(Input::Deliveries(vec![report.clone()]))?;
        self.flights.retain(|flight| {
            flight.send.notification.id != report.id || flight.send.attempt != report.attempt
        });
        Ok(())
    }

    fn action(&mut self) -> Result<(), Crash> {
        let next = self.running.iter_mut();
        let next = next.min_by_key(|r| if r.halfway { r.ends } else { r.middle });
        let Some(running) = next else { return Ok(()) };
        if !running.halfway {
            running.halfway = true;
            return self.boundary("an action under way");
        }
        let start = running.start.clone();
        self.running
            .retain(|r| r.start.attempt != start.attempt || r.start.procedure != start.procedure);
        let named = format!(
            "{} #{} for {}",
            start.procedure,
            start.attempt,
            name(&start.alert)
        );
        self.acted.push((self.now, named));
        self.boundary("an action done, not taken in")?;
        self.take(Input::Action(ActionReport {
            procedure: start.procedure,
            alert: start.alert.fingerprint,
            attempt: start.attempt,
            outcome: ActionOutcome::Done {
                did: "it".to_owned(),
            },
        }))
    }

    fn timers(&mut self) -> Result<(), Crash> {
        for _ in 0..TIMERS_MAX {
            let now = clock(self.now).at;
            if self.state.next_due().is_none_or(|due| due > now) {
                return Ok(());
            }
            self.take(Input::Timer)?;
        }
        panic!("a timer stays due at {} ms", self.now);
    }

    fn round(&mut self) -> Result<(), Crash> {
        let secs = self.now / 1_000;
        let mut rules: BTreeMap<&str, Vec<Observation>> = BTreeMap::new();
        let mut failed = true;
        for (name, _) in self.scenario.shows {
            let (rule, label) = name.split_once('/').unwrap_or((*name, ""));
            let labels = Labels::new((!label.is_empty()).then_some(("i", label)));
            let instance = Instance::new(RuleId::new(rule), labels.expect("labels"));
            let shown = self.scenario.shown(name, secs, self.acted.len());
            failed &= shown == "E";
            let breached: Option<&[Severity]> = match shown {
                "ok" => Some(&[]),
                "warn" => Some(&[Severity::Warning]),
                "crit" => Some(&[Severity::Warning, Severity::Critical]),
                "_" | "E" => None,
                other => panic!("a series shows {other:?}"),
            };
            rules.entry(rule).or_default().push(Observation {
                instance: Arc::new(instance),
                seen: match shown {
                    "_" => Seen::Absent,
                    "E" => Seen::Unknown,
                    _ => Seen::Value,
                },
                breached: breached.map(|all| all.iter().copied().collect::<Severities>()),
                value: breached.map_or(f64::NAN, |all| all.len() as f64),
                limit: f64::NAN,
                note: None,
                memory: None,
            });
        }
        let every = Duration::from_millis(EVERY_MS);
        // In the order of the file; rules that a reload took away are not judged.
        let known = self.policy.rules.iter().filter_map(|policy| {
            let (rule, all) = rules.remove_entry(policy.id.as_str())?;
            Some(RuleRound {
                rule: RuleId::new(rule),
                every,
                result: Ok(all),
            })
        });
        let round = Round {
            rules: known.collect(),
            probes: vec![ProbeRun {
                probe: "probe".into(),
                every,
                result: if failed {
                    Err("no answer".into())
                } else {
                    Ok(())
                },
            }],
            missed: 0,
        };
        self.take(Input::Round(round))?;
        self.next_round = self.now - self.now % EVERY_MS + EVERY_MS;
        Ok(())
    }

    /// Something from outside. Whoever asked and got no answer asks again.
    fn event(&mut self) -> Result<(), Crash> {
        let (_, doing) = &self.scenario.events[self.next_event];
        match doing {
            Doing::Reload(config) => {
                // The file is there, whatever becomes of the process.
                self.policy = policy(config, self.scenario.flapping);
                self.take(Input::Reload)?;
            }
            Doing::ConfigInvalid(active) => {
                let rule = RuleId::new("watchfire_config_invalid");
                self.take(Input::Condition(Condition {
                    alert: Arc::new(Instance::new(rule, Labels::default())),
                    severity: Severity::Warning,
                    active: *active,
                    summary: "refused".into(),
                }))?;
            }
            Doing::Acknowledge(rule) => {
                let alerts = self.state.alerts();
                let found = alerts.iter().filter(|a| a.instance.rule.as_str() == *rule);
                for alert in found.map(|a| a.instance.fingerprint).collect::<Vec<_>>() {
                    self.command(CommandKind::Acknowledge { alert, lasts: None })?;
                }
            }
            Doing::Silence { rule, from, until } => {
                self.command(CommandKind::Silence(Silence {
                    id: format!("{rule}@{from}").into(),
                    rules: vec![(*rule).into()],
                    from: WallTime(EPOCH_MS + from * 1_000),
                    until: WallTime(EPOCH_MS + until * 1_000),
                    notify: true,
                    recover: true,
                    owner: "operator".into(),
                    reason: "test".into(),
                    ..Silence::default()
                }))?;
            }
            Doing::Pause => self.command(CommandKind::Pause)?,
            Doing::Resume => self.command(CommandKind::Resume)?,
            Doing::Approve(id) => {
                let procedure = (*id).into();
                self.command(CommandKind::Approve { procedure })?;
            }
        }
        self.next_event += 1;
        Ok(())
    }

    fn command(&mut self, what: CommandKind) -> Result<(), Crash> {
        self.take(Input::Command(Command {
            by: "operator".into(),
            what,
        }))
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join(format!("life-{}", self.lives))
    }

    /// kill -9 and a new start: what lies on disk, and nothing else.
    fn come_back(&mut self) -> Result<(), Crash> {
        for flight in self.flights.drain(..) {
            let id = flight.send.notification.id.to_string();
            if flight.outcome.is_some() {
                self.uncertain.insert(id);
            }
        }
        self.running.clear();
        let old = self.folder();
        self.lives += 1;
        let new = self.folder();
        std::fs::create_dir(&new).expect("a folder");
        for name in ["state.db", "state.db-wal"] {
            std::fs::copy(old.join(name), new.join(name)).expect("a copy");
        }
        // Its threads; whatever closing writes goes into the folder that nobody reads again.
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
        std::fs::remove_dir_all(&old).expect("the old folder goes");
        if self.away_max > 0 {
            let away = self.dice.roll(self.away_max);
            self.now += away - away % 1_000;
            self.next_round = self.now;
        }
        let (store, opened) = StateStore::open(&new).expect("the state opens");
        self.store = Some(store);
        assert_eq!(opened.lost, None, "nothing is lost");
        let saved = opened.clock.as_ref();
        assert!(saved.is_none_or(|saved| saved.moment_ms <= BEGIN_MS + self.now));
        let now = clock(self.now);
        if opened.rows.is_empty() {
            self.state = State::new(&self.policy, now);
            return Ok(());
        }
        let (state, effects, errors) = State::restore(opened.rows, &self.policy, now);
        assert_eq!(errors, [], "own records can be read");
        self.state = state;
        self.carry_out(effects)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
        if std::thread::panicking() {
            for line in self.log() {
                eprintln!("{line}");
            }
        }
    }
}

fn clock(now: u64) -> Now {
    Now {
        at: Moment(BEGIN_MS + now),
        wall: WallTime(EPOCH_MS + now),
    }
}

/// The engine's part of a configuration, by the agent's own way of reading it.
fn policy(text: &str, flapping: &str) -> Policy {
    let environment = Environment {
        cwd: "/nowhere".into(),
        hostname: "simulated".to_owned(),
        variables: BTreeMap::from([("HOME".to_owned(), PathBuf::from("/home/me"))]),
        ..Environment::default()
    };
    let head = super::scenarios::HEAD.replace("FLAPPING", flapping);
    let whole = format!("{head}{text}");
    let texts = [(PathBuf::from("/etc/wf/w.toml"), whole.into())];
    match from_texts(&texts, &environment) {
        Ok(loaded) => (*loaded.config.policy).clone(),
        Err(rejected) => panic!("refused:\n{}", render(&rejected.mistakes, false)),
    }
}
