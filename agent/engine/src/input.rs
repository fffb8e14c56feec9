//! Everything that can happen to the engine.

use crate::model::{
    Fingerprint, Instance, NotificationId, NotifierId, ProbeId, ProcedureId, RuleId, Severities,
    Severity, WallTime,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// One input of [`crate::step`].
#[derive(Clone, Debug)]
pub enum Input {
    /// Probes answered and rules were judged.
    Round(Round),
    /// [`crate::State::next_due`] has come.
    Timer,
    /// Notifiers answered. What came in together is taken in as one: the messages of a group have their
    /// alerts in common, and each alert is then looked at and written once.
    Deliveries(Vec<DeliveryReport>),
    /// An action ended.
    Action(ActionReport),
    /// An operator wants something.
    Command(Command),
    /// Alerts came from outside: one batch of a sender.
    Pushed(Vec<Pushed>),
    /// The agent observed something about itself.
    Condition(Condition),
    /// The state of before was lost: the first input of an engine that begins without it.
    Lost {
        /// Notifiers whose service folds messages by their key and drops a resolve of what it does not show.
        receivers: Vec<NotifierId>,
    },
    /// Procedures whose action may not be called for now; takes the place of what was said before. They start
    /// nothing until they are no longer among these.
    Unfit(BTreeSet<ProcedureId>),
    /// The policy of this step is a new one; nothing else happens at this instant.
    Reload,
    /// The host was suspended, or stopped otherwise, for so long.
    Resumed {
        /// Boottime minus monotonic growth.
        lost: Duration,
    },
}

/// One collection round, judged.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Probes that ran, or should have.
    pub probes: Vec<ProbeRun>,
    /// Rules one of whose inputs was collected, or should have been; in the order of the file.
    pub rules: Vec<RuleRound>,
    /// Rounds skipped since the last one because the pipeline was late.
    pub missed: u32,
}

/// How a probe's turn ended.
#[derive(Clone, Debug)]
pub struct ProbeRun {
    /// Which.
    pub probe: ProbeId,
    /// Its current interval (adaptive ones change).
    pub every: Duration,
    /// Error text for people.
    pub result: Result<(), Arc<str>>,
}

/// What a rule said.
#[derive(Clone, Debug)]
pub struct RuleRound {
    /// Which.
    pub rule: RuleId,
    /// The longest current interval of the probes it reads.
    pub every: Duration,
    /// Whether the component answered; an instance that is not mentioned is unknown.
    pub result: Result<Vec<Observation>, Arc<str>>,
}

/// One instance in one round.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which.
    pub instance: Arc<Instance>,
    /// What there was to judge.
    pub seen: Seen,
    /// The verdict; none: unknown (NaN, not enough data).
    pub breached: Option<Severities>,
    /// The judged value; NaN: nothing to say.
    pub value: f64,
    /// The limit it was held against; NaN: nothing to say.
    pub limit: f64,
    /// What the rule wants to tell people.
    pub note: Option<Arc<str>>,
    /// The rule's own memory after this round, if it keeps one.
    pub memory: Option<Arc<[u8]>>,
}

/// What there was to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A value of this round.
    Value,
    /// The probe succeeded, and the series is not in its answer.
    Absent,
    /// The probe failed, or the value is NaN.
    Unknown,
}

/// A notifier's answer.
#[derive(Clone, Debug)]
pub struct DeliveryReport {
    /// Which notification.
    pub id: NotificationId,
    /// The attempt that [`crate::Send::attempt`] numbered.
    pub attempt: u32,
    /// How it ended.
    pub outcome: DeliveryOutcome,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryOutcome {
    /// The service has it.
    Accepted {
        /// The service's own id of it.
        remote_id: Option<String>,
    },
    /// Try again.
    Failed {
        /// For people; secrets already masked.
        message: String,
        /// The service said how long to wait: a minimum, clamped to one hour.
        retry_after: Option<Duration>,
        /// Whether a service answered at all (429, 5xx) or the connection failed.
        answered: bool,
    },
    /// Try again then: the notifier's component is quarantined, whether this attempt was its last failure or was
    /// not made for it. Meanwhile the fallback hears of it.
    Quarantined {
        /// For people; secrets already masked.
        message: String,
        /// Until the component may be tried again.
        retry_after: Duration,
    },
    /// Never: the service refused for good, or the configuration is wrong.
    Refused {
        /// For people; secrets already masked.
        message: String,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct ActionReport {
    /// The procedure.
    pub procedure: ProcedureId,
    /// The alert it ran for.
    pub alert: Fingerprint,
    /// The attempt's number.
    pub attempt: u32,
    /// How it ended.
    pub outcome: ActionOutcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionOutcome {
    /// It says it did this. Whether it helped is for the next samples to tell.
    Done {
        /// For people.
        did: String,
    },
    /// It says it could not.
    Failed {
        /// For people.
        message: String,
    },
    /// It was stopped at its limit.
    TimedOut,
}

/// What an operator wants.
#[derive(Clone, Debug)]
pub struct Command {
    /// Who, for the record.
    pub by: Arc<str>,
    /// What.
    pub what: CommandKind,
}

/// What an operator wants.
#[derive(Clone, Debug)]
pub enum CommandKind {
    /// Acknowledge a firing alert.
    Acknowledge {
        /// Which.
        alert: Fingerprint,
        /// How long it holds at most; none: until it gets worse or resolves.
        lasts: Option<Duration>,
    },
    /// Mute.
    Silence(Silence),
    /// End a silence.
    Unsilence {
        /// Its id.
        id: Arc<str>,
    },
    /// Stop all recovery.
    Pause,
    /// Allow recovery again.
    Resume,
    /// Allow the attempt that a procedure waits to make.
    Approve {
        /// The procedure.
        procedure: ProcedureId,
    },
    /// Forget exhaustion and the attempts counted so far.
    Reset {
        /// The procedure.
        procedure: ProcedureId,
    },
}

/// A mute by an operator.
///
/// It holds while `from <= wall clock < until` and, where it names one, while its schedule is open.
/// Bounds and what must be there: [`crate::silence::Refusal`].
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Silence {
    /// Its id.
    pub id: Arc<str>,
    /// Rule ids, a trailing `*` matches any rest. Empty: every rule.
    pub rules: Vec<Arc<str>>,
    /// All of them must hold.
    pub labels: Vec<LabelTest>,
    /// Inclusive.
    pub from: WallTime,
    /// Exclusive; at most a year after `from`.
    pub until: WallTime,
    /// Stops notifications.
    pub notify: bool,
    /// Stops recovery.
    pub recover: bool,
    /// Who.
    pub owner: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// It recurs: it holds only while this `[[schedule]]` is open. One that the configuration does
    /// not know (any more) is never open: an alert too many is better than one that nobody hears.
    #[serde(default)]
    pub schedule: Option<Arc<str>>,
    /// It ends at the first round in which it covers no firing alert any more, once it covered one.
    #[serde(default)]
    pub on_resolve: bool,
    /// It ends when it covered no firing alert for so long while it held.
    #[serde(default)]
    pub idle: Option<Duration>,
}

/// One label of a silence. `alertname` and `rule` stand for the rule's id, `severity` for the
/// alert's severity, where the alert has no label of that name; a missing label is empty.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LabelTest {
    /// The label's name.
    pub name: Arc<str>,
    /// What it is held against.
    pub value: Arc<str>,
    /// `value` is a regular expression, anchored at both ends.
    #[serde(default)]
    pub regex: bool,
    /// The test holds when the label does not match.
    #[serde(default)]
    pub negated: bool,
}

/// Something the agent observed about itself: a meta-alert is on or off.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Name (`watchfire_config_invalid` …) and labels.
    pub alert: Arc<Instance>,
    /// How bad.
    pub severity: Severity,
    /// On or off.
    pub active: bool,
    /// The reason, for people.
    pub summary: Arc<str>,
}

/// One alert that somebody outside says is firing, or over.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The sender's name of the alert as the rule, and its labels without the severity.
    pub alert: Arc<Instance>,
    /// How bad. Each severity of an alert ends by itself.
    pub severity: Severity,
    /// How long this holds unless it is pushed again; zero: it is over.
    pub ttl: Duration,
    /// For people.
    pub summary: Option<Arc<str>>,
    /// As sent.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// Where the sender shows it.
    pub link: Option<Arc<str>>,
}
