//! What the operator configured, as far as it concerns the engine. Built by the agent from a
//! resolved configuration; replaced as a whole on reload.

use crate::calendar::Calendar;
use crate::model::{
    Labels, NotifierId, PerSeverity, ProbeId, ProcedureId, RuleId, Severities, Severity, WallTime,
};
use std::sync::Arc;
use std::time::Duration;

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The host's name: part of every `dedup_key`.
    pub host: Arc<str>,
    /// In the order of the file: everything that happens in one round follows it.
    pub rules: Vec<RulePolicy>,
    /// First match; `carry_on` goes on to the next.
    pub routes: Vec<RoutePolicy>,
    /// Which alerts mute which.
    pub inhibitions: Vec<InhibitPolicy>,
    /// Windows in which alerts are muted by configuration.
    pub maintenance: Vec<MaintenancePolicy>,
    /// Schedules and on-call rotations.
    pub calendar: Calendar,
    /// How the regular expressions of silences are compiled.
    pub regexes: Regexes,
    /// Recovery procedures.
    pub procedures: Vec<ProcedurePolicy>,
    /// All configured notifiers.
    pub notifiers: Vec<NotifierId>,
    /// Defaults of the timers.
    pub alerting: AlertingPolicy,
    /// Retries.
    pub delivery: DeliveryPolicy,
    /// Host-wide bounds of recovery.
    pub recover: RecoverPolicy,
    /// Seed of the jitter, so that a replay gives the same retries.
    pub seed: u64,
}

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RulePolicy {
    /// Its id.
    pub id: RuleId,
    /// Judged by a component, or by the states of other rules.
    pub source: RuleSource,
    /// How long a breach lasts before pending turns firing.
    pub wait: PerSeverity<Duration>,
    /// How long a cleared alert stays recovering.
    pub keep: PerSeverity<Duration>,
    /// Dead-man: fires when the last observation is older than this.
    pub absent: Option<Duration>,
    /// What a missing series (of a successful probe) means.
    pub on_missing: OnMissing,
    /// M-of-N over aligned buckets.
    pub at_least: Option<AtLeast>,
    /// Severity of `absent` and of composites; default critical.
    pub severity: Severity,
    /// What a missing series breaches under `on_missing = "breach"`: what the rule can breach at all.
    pub missing: Severities,
    /// Wait before the first notification of a target of inhibition.
    pub hold: Duration,
    /// Added to the alert's labels; no part of its identity.
    pub labels: Labels,
    /// Newcomers beyond this many instances are refused.
    pub max_instances: usize,
    /// Probes whose metrics the rule reads; their interval gives the default of `stale_after`.
    pub probes: Vec<ProbeId>,
    /// A hash of everything that changes the rule's meaning: equal means the reload is a no-op for it.
    pub digest: u64,
}

/// Who judges a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleSource {
    /// A rule component; its verdicts come with each round.
    Component,
    /// `all`, `any` or `none` of other rules.
    Composite {
        /// How they combine.
        operator: Operator,
        /// The children.
        rules: Vec<RuleId>,
    },
}

/// How a composite combines its children (Kleene logic).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// True if all are.
    All,
    /// True if one is.
    Any,
    /// The negation of `Any`.
    None,
}

/// `on_missing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// Hold; gone after `gone_after` collections in a row.
    #[default]
    Keep,
    /// An observation that is healthy.
    Ok,
    /// An observation that breaches, at the severities of [`RulePolicy::missing`].
    Breach,
}

/// `at_least = { m, of, period }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeast {
    /// Breaching buckets needed.
    pub m: u32,
    /// Buckets looked at.
    pub of: u32,
    /// Length of a bucket, aligned to the engine's start.
    pub period: Duration,
}

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePolicy {
    /// Which alerts it takes.
    pub matcher: AlertMatcher,
    /// To whom.
    pub notify: Vec<Recipient>,
    /// Ids of schedules: while none of them is open the route is closed. Empty: always open.
    pub active: Vec<Arc<str>>,
    /// Ids of schedules: while one of them is open the route is closed.
    pub mute: Vec<Arc<str>>,
    /// Label names, or `rule`; empty: every alert by itself.
    pub group_by: Vec<Arc<str>>,
    /// Wait before a group's first message; critical never waits.
    pub group_wait: Duration,
    /// Least time between two messages of a group.
    pub group_interval: Duration,
    /// Zero: never.
    pub repeat: PerSeverity<Duration>,
    /// Who hears when nobody acknowledges.
    pub escalate: Vec<EscalationStep>,
    /// Go on to the next route after this one matched.
    pub carry_on: bool,
}

/// `escalate = [{ after, notify }]`.
#[derive(Clone, Debug, PartialEq)]
pub struct EscalationStep {
    /// Counted from the first delivered fire.
    pub after: Duration,
    /// Who.
    pub notify: Vec<Recipient>,
}

/// Whom a route or an escalation step names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recipient {
    /// Always the same.
    Notifier(NotifierId),
    /// Whoever's turn it is.
    OnCall {
        /// Id of the `[[on_call]]`.
        rotation: Arc<str>,
        /// The first or the second in line.
        rank: Rank,
    },
}

/// A place in an on-call rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// `ID`: whose turn it is.
    Primary,
    /// `ID:secondary`: whose turn is next.
    Secondary,
}

impl<T: Into<NotifierId>> From<T> for Recipient {
    fn from(id: T) -> Self {
        Recipient::Notifier(id.into())
    }
}

/// Empty lists match everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertMatcher {
    /// Severities.
    pub severity: Vec<Severity>,
    /// Rule ids; a trailing `*` matches any rest.
    pub rule: Vec<Arc<str>>,
    /// Labels that must match.
    pub labels: Vec<LabelMatcher>,
}

/// One label of a matcher.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelMatcher {
    /// The label's name.
    pub name: Arc<str>,
    /// Any of these.
    pub any_of: Vec<TextPattern>,
}

/// How a text is matched. Regular expressions are compiled by the agent and handed in as a
/// predicate, so that the engine needs no regex engine.
#[derive(Clone)]
pub enum TextPattern {
    /// Exactly this.
    Exact(Arc<str>),
    /// The source text (for equality and printing) and what it means; anchored at both ends.
    Predicate(
        Arc<str>,
        Arc<dyn Fn(&str) -> bool + std::marker::Send + Sync>,
    ),
}

impl TextPattern {
    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            TextPattern::Exact(wanted) => &**wanted == text,
            TextPattern::Predicate(_, predicate) => predicate(text),
        }
    }

    /// The text of the configuration; a regular expression starts with `~`.
    pub fn source(&self) -> &str {
        match self {
            TextPattern::Exact(text) | TextPattern::Predicate(text, _) => text,
        }
    }
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.source() == other.source()
    }
}

impl std::fmt::Debug for TextPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.source())
    }
}

/// One `[[inhibit]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct InhibitPolicy {
    /// Rule ids, a trailing `*` matches any rest.
    pub source: Vec<Arc<str>>,
    /// Rule ids, likewise.
    pub target: Vec<Arc<str>>,
    /// Labels that must be equal; none: any firing alert of the source mutes the target.
    pub equal: Vec<Arc<str>>,
}

/// One `[[maintenance]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MaintenancePolicy {
    /// Its id.
    pub id: Arc<str>,
    /// Not before; none: no bound.
    pub from: Option<WallTime>,
    /// Not at or after; none: no bound.
    pub until: Option<WallTime>,
    /// Id of a schedule: only while that one is open.
    pub schedule: Option<Arc<str>>,
    /// Which alerts.
    pub matcher: AlertMatcher,
    /// Stops notifications.
    pub notify: bool,
    /// Stops recovery.
    pub recover: bool,
}

/// Compiles regular expressions; handed in by the agent, so that the engine needs no regex engine.
#[derive(Clone, Default)]
pub struct Regexes(Option<Compile>);

type Compile = Arc<dyn Fn(&str) -> Option<TextPattern> + std::marker::Send + Sync>;

impl Regexes {
    /// `compile` anchors at both ends, and answers none where the text is no regular expression.
    pub fn new(
        compile: impl Fn(&str) -> Option<TextPattern> + std::marker::Send + Sync + 'static,
    ) -> Self {
        Regexes(Some(Arc::new(compile)))
    }

    /// None: it is no regular expression, or there is nobody to compile it.
    pub fn compile(&self, text: &str) -> Option<TextPattern> {
        self.0.as_ref()?(text)
    }
}

/// There is one way to compile in a process.
impl PartialEq for Regexes {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_some() == other.0.is_some()
    }
}

impl std::fmt::Debug for Regexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Regexes")
    }
}

/// One `[[recovery]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcedurePolicy {
    /// Its id.
    pub id: ProcedureId,
    /// Rules that trigger it.
    pub rules: Vec<RuleId>,
    /// At or above.
    pub severity: Severity,
    /// How far it may go by itself.
    pub mode: Mode,
    /// Counted from the start of the episode.
    pub after: Duration,
    /// Attempts within `window`.
    pub max_attempts: u32,
    /// Sliding: starts in `(t - window, t]` count.
    pub window: Duration,
    /// Least time from the end of one attempt to the next.
    pub cooldown: Duration,
    /// Factor on the cooldown for each further attempt of an episode; 1: constant.
    pub backoff: f64,
    /// Wall limit of the action.
    pub timeout: Duration,
    /// Wait after the end before the first sample that may judge it.
    pub verify_after: Duration,
}

/// How far a procedure may go by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Says what it would do.
    #[default]
    Observe,
    /// Asks, and waits for an operator.
    Approve,
    /// Acts.
    Auto,
}

/// `[alerting]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertingPolicy {
    /// Default: 2.5 times the probe's current interval, at least 10 s.
    pub stale_after: Option<Duration>,
    /// Successful collections without the series until it is gone.
    pub gone_after: u32,
    /// A longer gap drops pending and restarts recovering.
    pub outage_tolerance: Duration,
    /// `keep` of meta-alerts.
    pub meta_keep: Duration,
    /// None: off.
    pub flapping: Option<Flapping>,
}

/// `flapping = { start, stop, window }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flapping {
    /// This many transitions in the window start it.
    pub start: u32,
    /// At most this many stop it.
    pub stop: u32,
    /// Half-open: `(t - window, t]`.
    pub window: Duration,
}

/// `[delivery]`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryPolicy {
    /// Wait after the first failure.
    pub first_retry: Duration,
    /// Growth.
    pub factor: f64,
    /// Longest wait of our own.
    pub max_retry: Duration,
    /// Relative, both ways.
    pub jitter: f64,
    /// Gets a copy of dead letters.
    pub fallback: Option<NotifierId>,
}

/// `[recover]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoverPolicy {
    /// Attempts that may run at once on this host.
    pub concurrency: u32,
    /// Starts in any hour on this host.
    pub per_hour: u32,
    /// No attempt so soon after the start.
    pub boot_grace: Duration,
    /// No attempt at all.
    pub paused: bool,
}

impl Default for AlertingPolicy {
    fn default() -> Self {
        AlertingPolicy {
            stale_after: None,
            gone_after: 3,
            outage_tolerance: Duration::from_secs(3_600),
            meta_keep: Duration::from_secs(300),
            flapping: Some(Flapping {
                start: 6,
                stop: 2,
                window: Duration::from_secs(1_800),
            }),
        }
    }
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        DeliveryPolicy {
            first_retry: Duration::from_secs(5),
            factor: 2.0,
            max_retry: Duration::from_secs(300),
            jitter: 0.2,
            fallback: None,
        }
    }
}

impl Default for RecoverPolicy {
    fn default() -> Self {
        RecoverPolicy {
            concurrency: 1,
            per_hour: 10,
            boot_grace: Duration::from_secs(60),
            paused: false,
        }
    }
}
