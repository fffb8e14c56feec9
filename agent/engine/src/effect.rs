//! Everything the engine decides.

use crate::model::{
    Fingerprint, Instance, Labels, Moment, NotificationId, NotifierId, ProcedureId, Severity,
    WallTime,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What one step decided. `records` and `events` are committed in one transaction before anything
/// in `sends` or `attempts` leaves the process.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Changes of the durable state.
    pub records: Vec<RecordChange>,
    /// History, append-only.
    pub events: Vec<Event>,
    /// Messages that are due.
    pub sends: Vec<Send>,
    /// Actions that start.
    pub attempts: Vec<StartAttempt>,
}

impl Effects {
    /// Whether there is nothing to commit and nothing to do.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.events.is_empty()
            && self.sends.is_empty()
            && self.attempts.is_empty()
    }
}

/// One row of the durable state: put it, or delete it.
///
/// The body is the engine's own (JSON); the store keeps it under
/// `(table, key)` and hands all of it back to [`crate::State::restore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// Which table.
    pub table: Table,
    /// Unique within the table.
    pub key: String,
    /// None: delete.
    pub body: Option<String>,
}

/// The tables of the durable state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row an alert instance that is not plainly ok: machines, episode, flap ring, what each notifier was told.
    Alert,
    /// One row an undelivered or dead notification.
    Outbox,
    /// One row a notification group that waits or was sent.
    Group,
    /// One row a recovery attempt within its window.
    Attempt,
    /// One row a silence.
    Silence,
    /// One row a probe: its last observation; and the engine's own clock and counters.
    Engine,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 6] = [
        Table::Alert,
        Table::Outbox,
        Table::Group,
        Table::Attempt,
        Table::Silence,
        Table::Engine,
    ];

    /// The table's name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Table::Alert => "alert",
            Table::Outbox => "outbox",
            Table::Group => "notification_group",
            Table::Attempt => "attempt",
            Table::Silence => "silence",
            Table::Engine => "engine",
        }
    }
}

/// One row of the history.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Event {
    /// On the agent's timeline.
    pub at: Moment,
    /// For people.
    pub wall: WallTime,
    /// `cpu` or `disk{mountpoint="/"}`; empty for events of the engine itself.
    pub alert: String,
    /// Identity of the alert.
    pub fingerprint: Option<Fingerprint>,
    /// Counts the alert's episodes.
    pub episode: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Happening {
    /// The alert changed its state.
    Transition {
        /// `ok`, `pending`, `firing:warning`, `recovering:critical`, each with `+stale` where it is.
        from: String,
        /// Likewise.
        to: String,
        /// The value at that time; absent where there was none.
        value: Option<f64>,
        /// `threshold`, `gone`, `ttl`, `rule_removed`, `rule_changed`, `operator`, `meta`.
        cause: &'static str,
        /// Who forbids to speak of the firing alert (silences, inhibiting alerts, flapping), if anybody does.
        suppressed_by: Option<String>,
    },
    /// A notification was decided upon and stands in the outbox.
    Queued {
        /// To whom.
        notifier: NotifierId,
        /// Which.
        id: NotificationId,
        /// Why.
        reason: Reason,
        /// At which severity.
        severity: Option<Severity>,
    },
    /// An attempt to deliver ended.
    Delivered {
        /// To whom.
        notifier: NotifierId,
        /// Which.
        id: NotificationId,
        /// Why.
        reason: Reason,
        /// At which severity.
        severity: Option<Severity>,
        /// Counts from 1.
        attempt: u32,
        /// `accepted`, `failed`, `refused`.
        outcome: &'static str,
        /// What the service said.
        message: Option<String>,
        /// From the transition to the end of this attempt.
        delay_ms: u64,
    },
    /// A newer state took the place of an undelivered notification.
    Superseded {
        /// To whom.
        notifier: NotifierId,
        /// The one that will not be sent.
        id: NotificationId,
        /// Why the newer one.
        by: Reason,
    },
    /// A notification would be due, and is not sent. Written once while message and cause stay the same.
    Suppressed {
        /// To whom; none: no route takes the alert.
        notifier: Option<NotifierId>,
        /// Which message.
        reason: Reason,
        /// At which severity.
        severity: Option<Severity>,
        /// Silences, inhibiting alerts, `flapping`, `acknowledged by …`, `stale: …`, with commas between.
        by: String,
    },
    /// A notification was given up.
    DeadLetter {
        /// To whom.
        notifier: NotifierId,
        /// Which.
        id: NotificationId,
        /// What the service said.
        message: String,
    },
    /// A procedure did or wanted something.
    Action {
        /// Which.
        procedure: ProcedureId,
        /// Its attempt on this alert.
        attempt: u32,
        /// What.
        step: ActionStep,
        /// What it did, or why it did not.
        message: String,
    },
    /// An operator did something.
    Operator {
        /// Who.
        by: String,
        /// What.
        did: String,
    },
    /// Rounds were skipped.
    Missed {
        /// How many.
        rounds: u32,
    },
    /// The agent came back: `restart` or `resume`.
    Back {
        /// Which.
        from: &'static str,
    },
}

/// Steps in the life of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionStep {
    /// Mode observe: it would have started.
    WouldStart,
    /// Mode approve: it waits for an operator.
    ApprovalWanted,
    /// It starts; written before it runs.
    Start,
    /// It ended by itself, well or not.
    End,
    /// It was stopped at its limit.
    Timeout,
    /// The process died while it ran: outcome unknown, never run again.
    Lost,
    /// A later sample says it helped.
    VerifiedOk,
    /// A later sample says it did not.
    VerifiedFail,
    /// No attempts are left.
    Exhausted,
    /// It would start, but the record of earlier attempts was lost.
    Held,
}

/// Why a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The first message of an episode.
    Fire,
    /// The severity rose.
    Escalate,
    /// The severity fell.
    Deescalate,
    /// It still fires.
    Repeat,
    /// It is over.
    Resolve,
    /// It changes too often; silence until `FlapStop`.
    FlapStart,
    /// It settled.
    FlapStop,
    /// Several alerts in one message.
    Group,
    /// Recovery gave up.
    Exhausted,
    /// A recovery asks for leave.
    ApprovalWanted,
    /// Nobody acknowledged: sent to the next step.
    Escalation,
}

impl Reason {
    /// As the plugins see it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Fire => "fire",
            Reason::Escalate => "escalate",
            Reason::Deescalate => "deescalate",
            Reason::Repeat => "repeat",
            Reason::Resolve => "resolve",
            Reason::FlapStart => "flap-start",
            Reason::FlapStop => "flap-stop",
            Reason::Group => "group",
            Reason::Exhausted => "exhausted",
            Reason::ApprovalWanted => "approval-wanted",
            Reason::Escalation => "escalation",
        }
    }
}

/// One message to hand to a notifier now.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// To whom.
    pub notifier: NotifierId,
    /// Counts from 1; comes back with the report.
    pub attempt: u32,
    /// Numbers the decisions: what was decided upon first has the lowest.
    pub order: u64,
    /// What.
    pub notification: Arc<Notification>,
}

/// The content of a message, as it was when it was decided upon.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Notification {
    /// Stable over retries.
    pub id: NotificationId,
    /// `wf1:<host>:<fingerprint>`, or of the group; at most 255 characters.
    pub dedup_key: String,
    /// Why.
    pub reason: Reason,
    /// At least one; a group lists at most 20.
    pub alerts: Vec<AlertSnapshot>,
    /// For a group.
    pub group: Option<GroupSummary>,
    /// When it was decided upon.
    pub decided_at: Moment,
    /// Whether the decision came later than the firing, so that the message names the original start.
    pub late: bool,
    /// `FlapStop`'s state, what an exhausted procedure tried …
    pub note: Option<String>,
}

/// Counts of a group message.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GroupSummary {
    /// Values of `group_by`.
    pub labels: Labels,
    /// Now firing.
    pub firing: u32,
    /// At a severity not yet told.
    pub new: u32,
    /// Since the last message.
    pub resolved: u32,
}

/// One alert as a notification or an attempt sees it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AlertSnapshot {
    /// Identity.
    pub fingerprint: Fingerprint,
    /// Counts the episodes.
    pub episode: u64,
    /// The rule, or the meta-alert's name.
    pub rule: crate::model::RuleId,
    /// The current severity; of a resolved alert, the last one.
    pub severity: Severity,
    /// The instance's labels and those the rule adds.
    pub labels: Labels,
    /// The judged value.
    pub value: Option<f64>,
    /// The limit it was held against.
    pub limit: Option<f64>,
    /// What the rule said about it; for a meta-alert, its summary.
    pub note: Option<String>,
    /// Start of the firing.
    pub started_at: WallTime,
    /// Its end; none while it fires.
    pub ended_at: Option<WallTime>,
    /// Why it ended, where it is not a threshold: `gone`, `rule_removed`, `ttl`.
    pub end_cause: Option<String>,
}

/// One attempt to start now. Its record is committed before.
#[derive(Clone, Debug, PartialEq)]
pub struct StartAttempt {
    /// Which procedure.
    pub procedure: ProcedureId,
    /// Its number on this alert, from 1.
    pub attempt: u32,
    /// What it is for.
    pub alert: AlertSnapshot,
    /// Wall limit.
    pub timeout: Duration,
}

/// A live alert, for views.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertView {
    /// Identity.
    pub instance: Arc<Instance>,
    /// `ok`, `pending`, `firing:warning`, `recovering:critical`.
    pub state: String,
    /// The severity while firing or recovering.
    pub severity: Option<Severity>,
    /// Since when in this state.
    pub since: WallTime,
    /// The last observation is too old.
    pub stale: bool,
    /// Changes too often.
    pub flapping: bool,
    /// Who acknowledged.
    pub acknowledged_by: Option<String>,
    /// `silence ID`, `maintenance ID`, `inhibited by ALERT`; where all of its routes are closed also
    /// `schedule ID`, `outside schedule ID`.
    pub muted_by: Vec<String>,
    /// Of an alert that was pushed from outside.
    pub external: Option<ExternalView>,
    /// As a notification would show it; none before the first firing.
    pub snapshot: AlertSnapshot,
}

/// What the sender said of an alert that was pushed from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalView {
    /// Until it ends, unless it is pushed again.
    pub ends_in: Duration,
    /// As sent.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// Where the sender shows it.
    pub link: Option<Arc<str>>,
}
