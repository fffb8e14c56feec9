//! Everything around the engine, simulated: the virtual clock, probes, services, actions, the store.

mod events;
mod rounds;

use crate::config::{Config, Span, merge};
use crate::judge::History;
use crate::parse::Samples;
use crate::print::{self, Numbers};
use crate::timeline::Line;
use events::At;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use toml::{Table, Value};
use watchfire_engine::effect::{AlertSnapshot, Happening, Table as Rows};
use watchfire_engine::input::{
    ActionOutcome, ActionReport, DeliveryOutcome, DeliveryReport, Input,
};
use watchfire_engine::model::{Fingerprint, Moment, Now, WallTime};
use watchfire_engine::{Effects, Policy, Send, State, step};

/// The wall clock at second 0 of a scenario, in milliseconds since 1970.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The engine's own clock at second 0: not zero, so that nothing leans on it.
const BEGIN_MS: u64 = 1_000_000;

/// How long an action takes unless the scenario says so.
const ACTION_MS: u64 = 2_000;

/// When the process dies.
#[derive(Clone, Copy, PartialEq)]
enum CrashMode {
    BeforeSend,
    AfterSend,
}

/// How the world is at the moment.
#[derive(Clone, Copy, PartialEq)]
enum Outage {
    None,
    Dead { until: u64 },
    Asleep { from: u64, until: u64 },
}

/// One scenario under way. All times are milliseconds from its begin.
pub(crate) struct Driver {
    tables: Table,
    config: Config,
    policy: Policy,
    state: State,
    /// Committed rows.
    rows: BTreeMap<(Rows, String), String>,
    samples: Vec<Samples>,
    history: Vec<History>,
    /// Series that answered at least once.
    seen: BTreeSet<usize>,
    answers: BTreeMap<String, VecDeque<String>>,
    takes: BTreeMap<String, u64>,
    events: VecDeque<At>,
    running: Vec<(u64, ActionReport)>,
    /// Next collection, interval and calm rounds of each probe.
    probes: BTreeMap<String, (u64, u64, u32)>,
    outage: Outage,
    /// Armed: the next send of this instant kills the process.
    crash: Option<(CrashMode, u64)>,
    /// The running evaluation ends then.
    busy_until: u64,
    slow: Option<u64>,
    /// Rounds so far.
    rounds: u64,
    traps: Vec<(String, u64, u64)>,
    wall_step: i64,
    /// Silences so far.
    silenced: u64,
    /// Second in which each alert last began to fire.
    started: BTreeMap<Fingerprint, u64>,
    now: u64,
    end: u64,
    numbers: Numbers,
    lines: Vec<Line>,
    /// The rule whose states are shown without its name.
    first: String,
    states: BTreeMap<String, String>,
    state_lines: Vec<Line>,
}

fn ms(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).expect("milliseconds")
}

impl Driver {
    pub(crate) fn new(base: &Table, test: &Table) -> Self {
        let empty = Table::new();
        let table = |key: &str| test.get(key).and_then(Value::as_table).unwrap_or(&empty);
        let tables = merge(base, table("config"));
        let config = Config::read(&tables);
        let policy = config.policy();
        let samples: Vec<Samples> = table("samples")
            .iter()
            .map(|(series, text)| Samples::parse(series, text.as_str().expect("samples")))
            .collect();
        let every = config.defaults.every.map_or(10_000, ms);
        let probes = samples
            .iter()
            .map(|s| (s.metric.clone(), (0, every, 0)))
            .collect();
        let answers = table("answers").iter().map(|(notifier, all)| {
            let all = all.as_array().expect("a list of answers");
            let all = all
                .iter()
                .map(|a| a.as_str().expect("an answer").to_owned());
            (notifier.clone(), all.collect())
        });
        let takes = table("actions").iter().map(|(id, action)| {
            let takes = Span::deserialize(action["takes"].clone()).expect("takes");
            (id.clone(), ms(takes))
        });
        let mut events: Vec<At> = test
            .get("at")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|event| At::deserialize(event.clone()).expect("[[test.at]]"))
            .collect();
        // Outages strike after the other events of their instant.
        events.sort_by_key(|e| {
            (
                ms(e.at),
                e.crash_until.is_some() || e.suspend_until.is_some(),
            )
        });
        let now = Now {
            at: Moment(BEGIN_MS),
            wall: WallTime(EPOCH_MS as u64),
        };
        Driver {
            state: State::new(&policy, now),
            rows: BTreeMap::new(),
            history: vec![History::new(); samples.len()],
            seen: BTreeSet::new(),
            answers: answers.collect(),
            takes: takes.collect(),
            events: events.into(),
            running: Vec::new(),
            probes,
            outage: Outage::None,
            crash: None,
            busy_until: 0,
            slow: None,
            rounds: 0,
            traps: Vec::new(),
            wall_step: 0,
            silenced: 0,
            started: BTreeMap::new(),
            now: 0,
            end: ms(Span::deserialize(test["end"].clone()).expect("end")),
            numbers: Numbers::default(),
            lines: Vec::new(),
            first: config
                .rule
                .first()
                .map(|rule| rule.id.clone())
                .unwrap_or_default(),
            states: BTreeMap::new(),
            state_lines: Vec::new(),
            tables,
            config,
            policy,
            samples,
        }
    }

    /// Timeline and states.
    pub(crate) fn run(mut self) -> (Vec<Line>, Vec<Line>) {
        while let Some(next) = self.next_instant() {
            if next > self.end {
                break;
            }
            self.now = next;
            self.instant();
        }
        (self.lines, self.state_lines)
    }

    fn clock(&self) -> Now {
        let wall = EPOCH_MS + i64::try_from(self.now).expect("time") + self.wall_step;
        Now {
            at: Moment(BEGIN_MS + self.now),
            wall: WallTime(wall as u64),
        }
    }

    fn next_due(&self) -> Option<u64> {
        let due = self.state.next_due()?.0;
        Some(due.saturating_sub(BEGIN_MS).max(self.now))
    }

    fn next_instant(&self) -> Option<u64> {
        match self.outage {
            Outage::Dead { until } | Outage::Asleep { until, .. } => return Some(until),
            Outage::None => {}
        }
        let events = self.events.front().map(|event| ms(event.at));
        let ends = self.running.iter().map(|(at, _)| *at).min();
        let rounds = self.probes.values().map(|(at, ..)| *at).min();
        let rounds = rounds.map(|at| at.max(self.busy_until));
        [events, ends, rounds, self.next_due()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(self.now))
    }

    /// Events first, then due timers, then the round.
    fn instant(&mut self) {
        let judged = self.rounds;
        self.happen();
        self.note_states(self.rounds > judged);
    }

    fn happen(&mut self) {
        let outage = std::mem::replace(&mut self.outage, Outage::None);
        match outage {
            Outage::None => {}
            Outage::Dead { .. } => self.restart(),
            Outage::Asleep { from, .. } => self.resume(from),
        }
        while self.events.front().is_some_and(|e| ms(e.at) <= self.now) {
            let event = self.events.pop_front().expect("an event");
            self.event(event);
            if self.outage != Outage::None {
                return;
            }
        }
        // After an outage too: what the engine holds back for the first round, it does not count as due.
        self.timers();
        if self.outage == Outage::None && self.busy_until <= self.now {
            self.round();
        }
        // Nothing was sent in this instant: the process dies at its end.
        if let Some((_, until)) = self.crash.take()
            && self.outage == Outage::None
        {
            self.outage = Outage::Dead { until };
        }
    }

    fn timers(&mut self) {
        let (ended, rest) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|(at, _)| *at <= self.now);
        self.running = rest;
        let ended: Vec<(u64, ActionReport)> = ended;
        for (_, report) in ended {
            self.feed(Input::Action(report));
        }
        // A timer that is due again at once would hang the scenario: eight are more than any needs.
        for _ in 0..8 {
            let due = self
                .state
                .next_due()
                .is_some_and(|due| due <= self.clock().at);
            if !due || self.outage != Outage::None {
                return;
            }
            self.feed(Input::Timer);
        }
        panic!("a timer stays due at {} ms", self.now);
    }

    fn feed(&mut self, input: Input) {
        let now = self.clock();
        let effects = step(&mut self.state, &self.policy, input, now);
        self.carry_out(effects);
    }

    /// Commit, then hand out; deliveries take no time.
    fn carry_out(&mut self, effects: Effects) {
        for change in effects.records {
            let key = (change.table, change.key);
            match change.body {
                Some(body) => self.rows.insert(key, body),
                None => self.rows.remove(&key),
            };
        }
        for event in &effects.events {
            if let (Happening::Transition { from, to, .. }, Some(alert)) =
                (&event.what, event.fingerprint)
            {
                let fires =
                    |state: &str| state.starts_with("firing") || state.starts_with("recovering");
                if !fires(from) && fires(to) {
                    self.started.insert(alert, self.now / 1_000);
                }
            }
            let line = print::event(event, &self.numbers);
            self.line(line);
        }
        for start in effects.attempts {
            let takes = self
                .takes
                .get(start.procedure.as_str())
                .copied()
                .unwrap_or(ACTION_MS);
            let limit = u64::try_from(start.timeout.as_millis()).expect("a limit");
            let outcome = if takes > limit {
                ActionOutcome::TimedOut
            } else {
                ActionOutcome::Done {
                    did: "simulated".to_owned(),
                }
            };
            let report = ActionReport {
                procedure: start.procedure,
                alert: start.alert.fingerprint,
                attempt: start.attempt,
                outcome,
            };
            self.running.push((self.now + takes.min(limit), report));
        }
        for send in effects.sends {
            if self.outage != Outage::None {
                return;
            }
            self.deliver(send);
        }
    }

    fn deliver(&mut self, send: Send) {
        if let Some((CrashMode::BeforeSend, until)) =
            self.crash.take_if(|c| c.0 == CrashMode::BeforeSend)
        {
            self.outage = Outage::Dead { until };
            return;
        }
        let added = |rule: &str| -> Vec<String> {
            let policies = self
                .policy
                .rules
                .iter()
                .filter(|policy| policy.id.as_str() == rule);
            policies
                .flat_map(|p| p.labels.iter().map(|(key, _)| key.to_owned()))
                .collect()
        };
        let since = |alert: &AlertSnapshot| {
            self.started
                .get(&alert.fingerprint)
                .copied()
                .unwrap_or_default()
        };
        let mut line = print::send(&send, &since, &added);
        let meta = send.notification.alerts[0]
            .rule
            .as_str()
            .starts_with("watchfire_");
        let answers = self
            .answers
            .get_mut(send.notifier.as_str())
            .filter(|_| !meta);
        let mut outcome = DeliveryOutcome::Accepted { remote_id: None };
        if let Some(answers) = answers {
            let answer = answers.pop_front().unwrap_or_else(|| "200".to_owned());
            let (status, retry_after) = match answer.split_once('(') {
                Some((status, after)) => {
                    let after: u64 = after.trim_end_matches(')').parse().expect("seconds");
                    (status.to_owned(), Some(Duration::from_secs(after)))
                }
                None => (answer, None),
            };
            let number = self.numbers.of(&send.notification.id);
            line.push_str(&format!(" [#{number} {status}]"));
            outcome = outcome_of(&status, retry_after);
        }
        self.line(Some(line));
        if let Some((_, until)) = self.crash.take() {
            self.outage = Outage::Dead { until };
            return;
        }
        self.feed(Input::Delivery(DeliveryReport {
            id: send.notification.id.clone(),
            attempt: send.attempt,
            outcome,
        }));
    }

    fn line(&mut self, text: Option<String>) {
        let at_secs = self.now / 1_000;
        self.lines.extend(text.map(|text| Line { at_secs, text }));
    }

    /// One line for each change of an alert's state. Time by itself acts at rounds: between them nothing turns stale.
    fn note_states(&mut self, in_round: bool) {
        let first = self.first.clone();
        let mut now: BTreeMap<String, String> = BTreeMap::new();
        for view in self.state.alerts() {
            let alert = view.instance.to_string();
            let was_stale = || {
                self.states
                    .get(&alert)
                    .is_some_and(|s| s.ends_with("+stale"))
            };
            let stale = view.stale && (in_round || was_stale());
            let stale = if stale { "+stale" } else { "" };
            now.insert(alert, format!("{}{stale}", view.state));
        }
        for alert in self.states.keys() {
            now.entry(alert.clone()).or_insert_with(|| "ok".to_owned());
        }
        let at_secs = self.now / 1_000;
        for (alert, state) in now {
            if self.states.get(&alert).map_or("ok", String::as_str) != state
                && !alert.starts_with("watchfire_")
            {
                let text = if alert == first {
                    state.clone()
                } else {
                    format!("{alert}: {state}")
                };
                self.state_lines.push(Line { at_secs, text });
            }
            self.states.insert(alert, state);
        }
        if at_secs == 0 && self.states.is_empty() && self.state_lines.is_empty() {
            self.states.insert(first, "ok".to_owned());
            self.state_lines.push(Line {
                at_secs,
                text: "ok".to_owned(),
            });
        }
    }
}

/// What a service's status means: the table of alerting.md 1.5.
fn outcome_of(status: &str, retry_after: Option<Duration>) -> DeliveryOutcome {
    let message = format!("the service answered {status}");
    match status.parse::<u16>().expect("a status") {
        200..=299 => DeliveryOutcome::Accepted { remote_id: None },
        408 | 425 | 429 | 500..=599 => DeliveryOutcome::Failed {
            message,
            retry_after,
            answered: true,
        },
        _ => DeliveryOutcome::Refused { message },
    }
}
