//! The world around the engine: what commits, sends and acts for it, on a virtual clock.
//!
//! Owns the engine's state and its committed rows. Deliveries take no time, actions as long as the test
//! says; a killed process loses everything but the rows.

use crate::entry::Entry;
use crate::file::Reply;
use crate::happening::CrashMode;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::effect::{
    ActionStep, AlertSnapshot, Event, Happening, Reason, Table as Rows,
};
use watchfire_engine::input::{
    ActionOutcome, ActionReport, DeliveryOutcome, DeliveryReport, Input,
};
use watchfire_engine::model::{Fingerprint, Instance, Moment, NotificationId, Now, WallTime};
use watchfire_engine::{Effects, Policy, Send, State, step};

/// The wall clock at second 0 of a test, in milliseconds since 1970.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

/// The engine's own clock at second 0: not zero, so that nothing leans on it.
const BEGIN_MS: u64 = 1_000_000;

/// How long an action takes unless the test says so.
const ACTION: Duration = Duration::from_secs(2);

/// Turns of timers at one instant. A timer that stays due would hang the test; sound ones need two or
/// three.
const TIMER_TURNS_MAX: usize = 8;

/// What the state of an alert ends with whose last observation is too old.
const STALE: &str = "+stale";

/// The engine and what surrounds it. All times are milliseconds from the begin.
#[derive(Debug)]
pub struct World {
    policy: Arc<Policy>,
    state: State,
    /// Committed rows.
    rows: BTreeMap<(Rows, String), String>,
    /// Notifiers with answers.
    answers: BTreeMap<String, VecDeque<Reply>>,
    takes: BTreeMap<String, Duration>,
    running: Vec<(u64, ActionReport)>,
    /// Armed: the next send of this instant kills the process, which is back then.
    pub(crate) crash: Option<(CrashMode, u64)>,
    /// The process is dead until then.
    pub(crate) dead_until: Option<u64>,
    wall_step: i64,
    /// Wall clock at the begin.
    epoch_ms: u64,
    /// Second in which each alert last began to fire.
    started: BTreeMap<Fingerprint, u64>,
    now: u64,
    /// Names of the alerts, without the labels that their rules add.
    names: BTreeMap<Fingerprint, String>,
    /// Handed out and not sent yet.
    sends: Vec<Send>,
    /// One is on its way: what its report makes due joins those that stand behind it.
    delivering: bool,
    /// Numbers the ids of notifications of the notifiers that have answers.
    numbers: BTreeMap<NotificationId, usize>,
    entries: Vec<Entry>,
    /// The first rule, until its first state was noted.
    first: Option<String>,
    states: BTreeMap<String, String>,
    state_entries: Vec<Entry>,
    /// Alerts that began to fire.
    fired: Vec<Entry>,
}

impl World {
    /// An engine that has seen nothing, at the begin of `epoch_ms` since 1970.
    pub fn new(policy: Arc<Policy>, epoch_ms: u64) -> Self {
        let now = Now {
            at: Moment(BEGIN_MS),
            wall: WallTime(epoch_ms),
        };
        World {
            state: State::new(&policy, now),
            first: policy.rules.first().map(|rule| rule.id.to_string()),
            policy,
            rows: BTreeMap::new(),
            answers: BTreeMap::new(),
            takes: BTreeMap::new(),
            running: Vec::new(),
            crash: None,
            dead_until: None,
            wall_step: 0,
            epoch_ms,
            started: BTreeMap::new(),
            now: 0,
            names: BTreeMap::new(),
            sends: Vec::new(),
            delivering: false,
            numbers: BTreeMap::new(),
            entries: Vec::new(),
            states: BTreeMap::new(),
            state_entries: Vec::new(),
            fired: Vec::new(),
        }
    }

    /// With services that answer, and actions that take their time.
    #[must_use]
    pub(crate) fn with(
        self,
        answers: BTreeMap<String, VecDeque<Reply>>,
        takes: BTreeMap<String, Duration>,
    ) -> Self {
        World {
            answers,
            takes,
            ..self
        }
    }

    /// The engine's state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What holds.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What happened so far, and the changes of states; taken out.
    pub fn take_entries(&mut self) -> (Vec<Entry>, Vec<Entry>) {
        (
            std::mem::take(&mut self.entries),
            std::mem::take(&mut self.state_entries),
        )
    }

    /// Alerts that began to fire so far, meta-alerts among them; taken out.
    pub fn take_fired(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.fired)
    }

    /// Milliseconds from the begin.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Goes on to `now`, which is not before.
    pub fn set_now(&mut self, now: u64) {
        debug_assert!(now >= self.now, "time goes on");
        self.now = now;
    }

    /// Moves the wall clock alone.
    pub(crate) fn step_wall(&mut self, by_ms: i64) {
        self.wall_step += by_ms;
    }

    /// The engine's clocks.
    pub fn clock(&self) -> Now {
        let wall = self.epoch_ms.saturating_add(self.now);
        Now {
            at: Moment(BEGIN_MS + self.now),
            wall: WallTime(wall.saturating_add_signed(self.wall_step)),
        }
    }

    /// When a timer or the end of an action is due next.
    pub fn next_due(&self) -> Option<u64> {
        let timer = self.state.next_due();
        let timer = timer.map(|due| due.0.saturating_sub(BEGIN_MS).max(self.now));
        let ends = self.running.iter().map(|(at, _)| *at).min();
        timer.into_iter().chain(ends).min()
    }

    /// Feeds what is due now: the engine's timers, then ends of actions.
    pub fn timers(&mut self) {
        self.due_now();
        if self.dead_until.is_some() {
            return;
        }
        let (ended, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|(at, _)| *at <= self.now);
        self.running = rest;
        for (_, report) in ended {
            self.feed(Input::Action(report));
        }
        self.due_now();
    }

    fn due_now(&mut self) {
        for _ in 0..TIMER_TURNS_MAX {
            let due = self.state.next_due();
            if self.dead_until.is_some() || due.is_none_or(|due| due > self.clock().at) {
                return;
            }
            self.feed(Input::Timer);
        }
        let due = self.state.next_due();
        assert!(
            due.is_none_or(|due| due > self.clock().at),
            "a timer stays due at {} ms: a defect of the engine",
            self.now
        );
    }

    /// One step of the engine, with everything that follows at once.
    pub fn feed(&mut self, input: Input) {
        let now = self.clock();
        let effects = step(&mut self.state, &self.policy, input, now);
        self.carry_out(effects);
    }

    /// Another policy holds from now on. Where a test lists no notifiers, one that no route names any more
    /// still hears the end of what it was told.
    pub(crate) fn reload(&mut self, policy: &Policy) {
        let mut policy = policy.clone();
        policy
            .notifiers
            .extend(self.policy.notifiers.iter().cloned());
        policy.notifiers.sort();
        policy.notifiers.dedup();
        self.policy = Arc::new(policy);
        self.feed(Input::Reload);
    }

    /// The process begins anew with what was committed. `between` runs with the new state before the
    /// effects of the restart are carried out.
    ///
    /// # Panics
    /// The engine cannot read its own records.
    pub(crate) fn restart(&mut self, between: impl FnOnce(&State)) {
        let rows = self
            .rows
            .iter()
            .map(|((table, key), body)| (*table, key.clone(), body.clone()));
        let rows: Vec<_> = rows.collect();
        let (state, effects, errors) = State::restore(rows, &self.policy, self.clock());
        assert_eq!(errors, [], "own records can be read");
        self.state = state;
        self.running.clear();
        between(&self.state);
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
                self.names.insert(alert, event.alert.clone());
                let fires =
                    |state: &str| state.starts_with("firing") || state.starts_with("recovering");
                if !fires(from) && fires(to) {
                    self.started.insert(alert, self.now / 1_000);
                    self.fired.push(Entry {
                        t: self.now / 1_000,
                        event: "state",
                        alert: Some(event.alert.clone()),
                        state: Some(to.clone()),
                        ..Entry::default()
                    });
                }
            }
            let entry = self.event(event);
            self.entries.extend(entry);
        }
        for start in effects.attempts {
            let takes = self.takes.get(start.procedure.as_str());
            let takes = takes.copied().unwrap_or(ACTION);
            let outcome = if takes > start.timeout {
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
            let ends = self.now + millis(takes.min(start.timeout));
            self.running.push((ends, report));
        }
        let outermost = !self.delivering;
        let nested = |send: &Send| !outermost && is_meta(send);
        let (at_once, rest): (Vec<_>, Vec<_>) = effects.sends.into_iter().partition(nested);
        self.sends.extend(rest);
        // What a report makes the agent say of itself goes out at once.
        for send in at_once {
            if self.dead_until.is_none() {
                self.deliver(send);
            }
        }
        // What else it makes due takes its place among those that still stand here.
        while outermost && !self.sends.is_empty() {
            if self.dead_until.is_some() {
                self.sends.clear();
                break;
            }
            self.delivering = true;
            let sends = self.sends.iter().enumerate();
            let first = sends.min_by_key(|(_, send)| send.order);
            let first = first.map_or(0, |(at, _)| at);
            let send = self.sends.remove(first);
            self.deliver(send);
        }
        if outermost {
            self.delivering = false;
        }
    }

    fn deliver(&mut self, send: Send) {
        let dies = |mode: CrashMode| move |crash: &mut (CrashMode, u64)| crash.0 == mode;
        if let Some((_, until)) = self.crash.take_if(dies(CrashMode::BeforeSend)) {
            self.dead_until = Some(until);
            return;
        }
        let mut entry = self.send(&send);
        // The timeline has a line of its own for what would start if somebody allowed it, whoever is asked.
        let asks = send.notification.reason == Reason::ApprovalWanted;
        let plain = is_meta(&send) || asks;
        let answers = self.answers.get_mut(send.notifier.as_str());
        let mut outcome = DeliveryOutcome::Accepted { remote_id: None };
        if let Some(answers) = answers.filter(|_| !plain) {
            let reply = answers.pop_front().unwrap_or(Reply {
                status: 200,
                retry_after: None,
            });
            let next = self.numbers.len() + 1;
            let id = send.notification.id.clone();
            entry.notification = Some(*self.numbers.entry(id).or_insert(next));
            entry.status = Some(reply.status);
            outcome = outcome_of(reply);
        }
        if !asks {
            self.entries.push(entry);
        }
        if let Some((_, until)) = self.crash.take() {
            self.dead_until = Some(until);
            return;
        }
        self.feed(Input::Deliveries(vec![DeliveryReport {
            id: send.notification.id.clone(),
            attempt: send.attempt,
            outcome,
        }]));
    }

    /// One attempt to send, without its answer.
    fn send(&self, send: &Send) -> Entry {
        let notification = &send.notification;
        let alert = &notification.alerts[0];
        let mut entry = Entry {
            t: self.now / 1_000,
            alert: Some(self.name(alert)),
            notifier: Some(send.notifier.to_string()),
            ..Entry::default()
        };
        let with_severity = match notification.reason {
            Reason::Fire | Reason::Escalation => Some("fire"),
            Reason::Escalate => Some("escalate"),
            Reason::Deescalate => Some("deescalate"),
            Reason::Repeat => Some("repeat"),
            _ => None,
        };
        entry.severity = with_severity.map(|_| alert.severity);
        entry.event = match notification.reason {
            Reason::Resolve => {
                entry.reason = alert.end_cause.clone();
                "resolve"
            }
            Reason::FlapStart => "flap_start",
            Reason::FlapStop => {
                entry.state = notification.note.clone();
                "flap_stop"
            }
            Reason::Group => {
                entry.alert = Some(alert.rule.to_string());
                if let Some(group) = &notification.group {
                    entry.firing = Some(group.firing);
                    entry.new = Some(group.new);
                    entry.resolved = Some(group.resolved);
                }
                "group"
            }
            Reason::Exhausted => "exhausted",
            _ => with_severity.unwrap_or_default(),
        };
        if notification.late {
            let started = self.started.get(&alert.fingerprint);
            entry.since = Some(started.copied().unwrap_or_default());
        }
        entry
    }

    /// The alert's name without the labels that its rule adds.
    fn name(&self, alert: &AlertSnapshot) -> String {
        let known = self.names.get(&alert.fingerprint).cloned();
        known.unwrap_or_else(|| Instance::new(alert.rule.clone(), alert.labels.clone()).to_string())
    }

    /// One row of the engine's history, where the timeline shows it.
    fn event(&self, event: &Event) -> Option<Entry> {
        let mut entry = Entry {
            t: self.now / 1_000,
            ..Entry::default()
        };
        let number = |id: &NotificationId| self.numbers.get(id).copied();
        entry.event = match &event.what {
            Happening::Back { from } => from,
            Happening::Missed { rounds } => {
                entry.n = Some(*rounds);
                "missed"
            }
            Happening::Superseded { id, by, .. } => {
                entry.notification = Some(number(id)?);
                // An escalation step is a fire to somebody else, and is printed as one.
                let by = match by {
                    Reason::Escalation => Reason::Fire,
                    other => *other,
                };
                entry.reason = Some(by.name().replace('-', "_"));
                "supersede"
            }
            Happening::DeadLetter { id, .. } => {
                entry.notification = Some(number(id)?);
                "dead_letter"
            }
            Happening::Action { attempt, step, .. } => {
                entry.alert = Some(event.alert.clone());
                entry.attempt = Some(*attempt);
                match step {
                    ActionStep::Start => "action_start",
                    ActionStep::End => "action_end",
                    ActionStep::Timeout => "action_timeout",
                    ActionStep::VerifiedOk | ActionStep::VerifiedFail => {
                        entry.ok = Some(*step == ActionStep::VerifiedOk);
                        "action_verify"
                    }
                    ActionStep::Exhausted | ActionStep::WouldStart | ActionStep::ApprovalWanted => {
                        entry.attempt = None;
                        match step {
                            ActionStep::Exhausted => "action_exhausted",
                            _ => "action_would_start",
                        }
                    }
                    ActionStep::Lost | ActionStep::Held => return None,
                }
            }
            _ => return None,
        };
        Some(entry)
    }

    /// One entry for each alert whose state changed since the last instant; `in_round`: a round was judged
    /// in this one. Time by itself acts at rounds: between them nothing turns stale.
    pub fn note_states(&mut self, in_round: bool) {
        let mut now: BTreeMap<String, String> = BTreeMap::new();
        for view in self.state.alerts() {
            if view.instance.rule.as_str().starts_with("watchfire_") {
                continue;
            }
            let alert = view.instance.to_string();
            let before = self.states.get(&alert);
            let was_stale = before.is_some_and(|state| state.ends_with(STALE));
            let mut state = view.state;
            if view.stale && (in_round || was_stale) {
                state.push_str(STALE);
            }
            now.insert(alert, state);
        }
        let first = std::mem::take(&mut self.first);
        if let Some(first) = first.filter(|_| self.now < 1_000) {
            // What there is before anything happens.
            if now.is_empty() {
                self.note_state(&first, "ok");
            }
            self.states.insert(first, "ok".to_owned());
        }
        for alert in self.states.keys() {
            now.entry(alert.clone()).or_insert_with(|| "ok".to_owned());
        }
        for (alert, state) in now {
            if self.states.get(&alert).map_or("ok", String::as_str) != state {
                self.note_state(&alert, &state);
            }
            self.states.insert(alert, state);
        }
    }

    fn note_state(&mut self, alert: &str, state: &str) {
        self.state_entries.push(Entry {
            t: self.now / 1_000,
            event: "state",
            alert: Some(alert.to_owned()),
            state: Some(state.to_owned()),
            ..Entry::default()
        });
    }
}

/// Whether it is the agent's word about itself.
fn is_meta(send: &Send) -> bool {
    let alert = &send.notification.alerts[0];
    alert.rule.as_str().starts_with("watchfire_")
}

/// What a service's status means: the table of alerting.md 1.5.
fn outcome_of(reply: Reply) -> DeliveryOutcome {
    let message = format!("the service answered {}", reply.status);
    match reply.status {
        200..=299 => DeliveryOutcome::Accepted { remote_id: None },
        408 | 425 | 429 | 500..=599 => DeliveryOutcome::Failed {
            message,
            retry_after: reply.retry_after,
            answered: true,
        },
        _ => DeliveryOutcome::Refused { message },
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
