//! A small policy and inputs for tests that feed the engine by hand. Times are seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::calendar::Calendar;
use watchfire_engine::effect::{Event, Happening, Table};
use watchfire_engine::input::{
    ActionOutcome, ActionReport, Command, CommandKind, DeliveryOutcome, DeliveryReport, Input,
    LabelTest, Observation, ProbeRun, Pushed, Round, RuleRound, Seen, Silence,
};
use watchfire_engine::model::{
    Instance, Labels, Moment, Now, PerSeverity, RuleId, Severities, Severity, WallTime,
};
use watchfire_engine::policy::{
    AlertMatcher, AlertingPolicy, DeliveryPolicy, Mode, OnMissing, ProcedurePolicy, RecoverPolicy,
    Regexes, RoutePolicy, RulePolicy, RuleSource,
};
use watchfire_engine::{Effects, Policy, StartAttempt, State, step};

/// Seconds between rounds.
pub(crate) const EVERY: u64 = 10;

pub(crate) const CRITICAL: &[Severity] = &[Severity::Critical];
pub(crate) const WARNING: &[Severity] = &[Severity::Warning];
pub(crate) const HEALTHY: &[Severity] = &[];

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The clocks at second `at` of a test.
pub(crate) fn now(at: u64) -> Now {
    Now {
        at: Moment(1_000_000 + at * 1_000),
        wall: WallTime(1_700_000_000_000 + at * 1_000),
    }
}

pub(crate) fn rule(id: &str) -> RulePolicy {
    RulePolicy {
        id: RuleId::new(id),
        source: RuleSource::Component,
        wait: PerSeverity::all(Duration::ZERO),
        keep: PerSeverity::all(Duration::ZERO),
        absent: None,
        on_missing: OnMissing::Keep,
        missing: [Severity::Critical].into_iter().collect(),
        at_least: None,
        severity: Severity::Critical,
        hold: Duration::ZERO,
        labels: Labels::default(),
        max_instances: 20_000,
        probes: vec!["probe".into()],
        digest: 0,
    }
}

pub(crate) fn procedure(mode: Mode) -> ProcedurePolicy {
    ProcedurePolicy {
        id: "fix".into(),
        rules: vec![RuleId::new("cpu")],
        severity: Severity::Critical,
        mode,
        after: Duration::ZERO,
        max_attempts: 2,
        window: secs(3_600),
        cooldown: secs(20),
        backoff: 1.0,
        timeout: secs(30),
        verify_after: secs(15),
    }
}

/// The rule `cpu`, one route to `default`, every alert by itself.
pub(crate) fn policy() -> Policy {
    Policy {
        host: "test".into(),
        rules: vec![rule("cpu")],
        routes: vec![RoutePolicy {
            matcher: AlertMatcher::default(),
            notify: vec!["default".into()],
            active: Vec::new(),
            mute: Vec::new(),
            group_by: Vec::new(),
            group_wait: Duration::ZERO,
            group_interval: Duration::ZERO,
            repeat: PerSeverity::all(Duration::ZERO),
            escalate: Vec::new(),
            carry_on: false,
        }],
        inhibitions: Vec::new(),
        maintenance: Vec::new(),
        calendar: Calendar::default(),
        regexes: Regexes::default(),
        procedures: Vec::new(),
        notifiers: vec!["default".into(), "spare".into()],
        alerting: AlertingPolicy {
            stale_after: Some(secs(25)),
            meta_keep: Duration::ZERO,
            flapping: None,
            ..AlertingPolicy::default()
        },
        delivery: DeliveryPolicy {
            jitter: 0.0,
            ..DeliveryPolicy::default()
        },
        recover: RecoverPolicy {
            boot_grace: Duration::ZERO,
            ..RecoverPolicy::default()
        },
        seed: 1,
    }
}

pub(crate) fn instance(name: &str) -> Arc<Instance> {
    let labels = Labels::new([("i", name)]).expect("labels");
    Arc::new(Instance::new(RuleId::new("cpu"), labels))
}

pub(crate) fn observation(instance: &Arc<Instance>, breached: Option<&[Severity]>) -> Observation {
    Observation {
        instance: instance.clone(),
        seen: if breached.is_some() {
            Seen::Value
        } else {
            Seen::Unknown
        },
        breached: breached.map(|all| all.iter().copied().collect::<Severities>()),
        value: 1.0,
        limit: f64::NAN,
        note: None,
        memory: None,
    }
}

/// A value of the instance `name`.
pub(crate) fn shows(name: &str, breached: &[Severity]) -> Observation {
    observation(&instance(name), Some(breached))
}

/// What there was to judge of the instance `name`, which is no value.
pub(crate) fn seen_as(name: &str, seen: Seen) -> Observation {
    Observation {
        seen,
        ..observation(&instance(name), None)
    }
}

/// The probe answered, and the instance `name` is not in its answer.
pub(crate) fn absent(name: &str) -> Observation {
    seen_as(name, Seen::Absent)
}

/// One round of instance `0`; every message is delivered.
pub(crate) fn turn(engine: &mut Engine, at: u64, breached: &[Severity]) -> Effects {
    let effects = engine.feed(at, round(vec![shows("0", breached)]));
    engine.accept_all(at);
    effects
}

/// A service that is there and could not.
pub(crate) fn failed() -> DeliveryOutcome {
    DeliveryOutcome::Failed {
        message: "no".to_owned(),
        retry_after: None,
        answered: true,
    }
}

/// Of the rule `cpu`, notifications and recovery, in `[from, until)`.
pub(crate) fn silence(id: &str, from: u64, until: u64) -> Silence {
    Silence {
        id: id.into(),
        rules: vec!["cpu".into()],
        from: now(from).wall,
        until: now(until).wall,
        notify: true,
        recover: true,
        owner: "ann".into(),
        reason: "test".into(),
        ..Silence::default()
    }
}

/// Silences the rule `cpu`, or only its instance `label`, in `[from, until)`; recovery goes on.
pub(crate) fn silenced(from: u64, until: u64, label: Option<&str>) -> CommandKind {
    let labels = label.map(|label| LabelTest {
        name: "i".into(),
        value: label.into(),
        ..LabelTest::default()
    });
    CommandKind::Silence(Silence {
        labels: labels.into_iter().collect(),
        recover: false,
        ..silence("s", from, until)
    })
}

/// The alert `name` with the label `n`, pushed by a sender for 100 s.
pub(crate) fn push(name: &str, number: usize) -> Pushed {
    let labels = Labels::new([("n", number.to_string())]).expect("labels");
    Pushed {
        alert: Arc::new(Instance::new(name.into(), labels)),
        severity: Severity::Warning,
        ttl: secs(100),
        summary: None,
        annotations: BTreeMap::new(),
        link: None,
    }
}

pub(crate) fn round(observations: Vec<Observation>) -> Input {
    let failed = !observations.is_empty() && observations.iter().all(|o| o.seen == Seen::Unknown);
    Input::Round(Round {
        probes: vec![ProbeRun {
            probe: "probe".into(),
            every: secs(EVERY),
            result: if failed {
                Err("no answer".into())
            } else {
                Ok(())
            },
        }],
        rules: vec![RuleRound {
            rule: RuleId::new("cpu"),
            every: secs(EVERY),
            result: Ok(observations),
        }],
        missed: 0,
    })
}

/// An engine with its committed rows, fed by hand.
pub(crate) struct Engine {
    pub(crate) policy: Policy,
    pub(crate) state: State,
    pub(crate) rows: BTreeMap<(Table, String), String>,
    /// Attempts that started, and messages that were handed out.
    pub(crate) attempts: Vec<StartAttempt>,
    pub(crate) sends: Vec<watchfire_engine::Send>,
    /// How far the wall clock is ahead of the engine's own, in milliseconds.
    pub(crate) wall_ahead: u64,
}

impl Engine {
    pub(crate) fn new(policy: Policy) -> Self {
        Engine {
            state: State::new(&policy, now(0)),
            policy,
            rows: BTreeMap::new(),
            attempts: Vec::new(),
            sends: Vec::new(),
            wall_ahead: 0,
        }
    }

    pub(crate) fn feed(&mut self, at: u64, input: Input) -> Effects {
        let mut now = now(at);
        now.wall.0 += self.wall_ahead;
        let effects = step(&mut self.state, &self.policy, input, now);
        self.keep(&effects);
        effects
    }

    fn keep(&mut self, effects: &Effects) {
        for change in &effects.records {
            let key = (change.table, change.key.clone());
            match &change.body {
                Some(body) => self.rows.insert(key, body.clone()),
                None => self.rows.remove(&key),
            };
        }
        self.attempts.extend(effects.attempts.iter().cloned());
        self.sends.extend(effects.sends.iter().cloned());
    }

    /// One round of the rule `cpu` with one instance, at critical or not at all; delivered at once.
    pub(crate) fn judge(&mut self, at: u64, fires: bool) -> Effects {
        let breached: &[Severity] = if fires { &[Severity::Critical] } else { &[] };
        let observations = vec![observation(&instance("0"), Some(breached))];
        let effects = self.feed(at, round(observations));
        self.accept_all(at);
        effects
    }

    /// Answers every message that was handed out.
    pub(crate) fn accept_all(&mut self, at: u64) {
        while !self.sends.is_empty() {
            for send in std::mem::take(&mut self.sends) {
                self.answer(at, &send, DeliveryOutcome::Accepted { remote_id: None });
            }
        }
    }

    pub(crate) fn answer(
        &mut self,
        at: u64,
        send: &watchfire_engine::Send,
        outcome: DeliveryOutcome,
    ) -> Effects {
        let id = send.notification.id.clone();
        let attempt = send.attempt;
        self.feed(
            at,
            Input::Deliveries(vec![DeliveryReport {
                id,
                attempt,
                outcome,
            }]),
        )
    }

    pub(crate) fn command(&mut self, at: u64, what: CommandKind) -> Effects {
        self.feed(
            at,
            Input::Command(Command {
                by: "operator".into(),
                what,
            }),
        )
    }

    /// Ends the newest attempt.
    pub(crate) fn end_attempt(&mut self, at: u64) -> Effects {
        let start = self.attempts.last().expect("an attempt").clone();
        self.feed(
            at,
            Input::Action(ActionReport {
                procedure: start.procedure,
                alert: start.alert.fingerprint,
                attempt: start.attempt,
                outcome: ActionOutcome::Done {
                    did: "it".to_owned(),
                },
            }),
        )
    }

    /// The process dies and comes back with what was committed.
    pub(crate) fn restart(&mut self, at: u64) -> Effects {
        let rows = self
            .rows
            .iter()
            .map(|((table, key), body)| (*table, key.clone(), body.clone()));
        let (state, effects, errors) =
            State::restore(rows.collect::<Vec<_>>(), &self.policy, now(at));
        assert_eq!(errors, [], "own rows can be read");
        self.state = state;
        self.sends.clear();
        self.keep(&effects);
        effects
    }
}

/// An engine without its state; `default` folds by the key.
pub(crate) fn amnesiac(policy: Policy) -> Engine {
    let mut engine = Engine::new(policy);
    let receivers = vec!["default".into()];
    engine.feed(0, Input::Lost { receivers });
    engine
}

/// What happened, as words; transitions and queueing left out.
pub(crate) fn happenings(events: &[Event]) -> Vec<String> {
    let words = events.iter().filter_map(|event| match &event.what {
        Happening::Action { step, attempt, .. } => Some(format!("{step:?} {attempt}")),
        Happening::Superseded { by, .. } => Some(format!("superseded by {}", by.name())),
        Happening::DeadLetter { .. } => Some("dead letter".to_owned()),
        Happening::Back { from } => Some((*from).to_owned()),
        _ => None,
    });
    words.collect()
}

/// Why each message was handed out.
pub(crate) fn reasons(sends: &[watchfire_engine::Send]) -> Vec<&'static str> {
    sends
        .iter()
        .map(|send| send.notification.reason.name())
        .collect()
}
