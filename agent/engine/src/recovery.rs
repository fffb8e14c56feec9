//! The recovery gate (alerting.md 1.6, decisions.md 14): may an attempt start, did it help, is it over.

use crate::model::{Fingerprint, Moment, ProcedureId, RuleId};
use crate::policy::ProcedurePolicy;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Host-wide starts are counted over this long.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// What a procedure did is remembered for so long at least when its alert is gone, or it was removed itself: a table that a
/// reload takes out and another brings back goes on where it was. Longer than most windows, and a bound for what is left behind.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// What one procedure did for one alert.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) procedure: ProcedureId,
    pub(crate) rule: RuleId,
    pub(crate) alert: Fingerprint,
    /// The alert as people call it: the ledger outlives an alert that is gone.
    #[serde(default)]
    pub(crate) name: String,
    /// Attempts over the alert's life.
    pub(crate) attempts: u32,
    /// Starts within the window, or the last day.
    pub(crate) starts: VecDeque<Moment>,
    /// An attempt is under way.
    pub(crate) running: bool,
    /// The last attempt ended then and is not verified yet.
    pub(crate) unverified: Option<Moment>,
    /// End of the last attempt: the cooldown counts from it.
    pub(crate) ended: Option<Moment>,
    /// Gave up until the alert resolves or an operator resets it.
    pub(crate) exhausted: bool,
    /// The episode for which it said what it would do, or asked for leave.
    pub(crate) said_for: Option<u64>,
    /// An operator allowed the next attempt.
    pub(crate) approved: bool,
    /// Asks for leave now.
    pub(crate) waits: bool,
}

/// What holds at this round for the alert that a ledger is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) now: Moment,
    /// On, not recovering, at or above the procedure's severity.
    pub(crate) on: bool,
    /// It was observed in this very round.
    pub(crate) fresh: bool,
    /// Flapping, acknowledged, silenced for recovery, inhibited.
    pub(crate) held_back: bool,
    /// Start of the episode.
    pub(crate) started: Option<Moment>,
    pub(crate) episode: u64,
}

/// What the plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing, or not now.
    Wait,
    /// All of its own conditions hold; the host's remain.
    Ready,
    /// It wants to, and has no attempts left.
    GiveUp,
}

impl Ledger {
    pub(crate) fn new(
        procedure: ProcedureId,
        rule: RuleId,
        alert: Fingerprint,
        name: String,
    ) -> Self {
        Ledger {
            name,
            procedure,
            rule,
            alert,
            attempts: 0,
            starts: VecDeque::new(),
            running: false,
            unverified: None,
            ended: None,
            exhausted: false,
            said_for: None,
            approved: false,
            waits: false,
        }
    }

    /// Nothing of it matters to an attempt at `now`: not even to one in `window`.
    pub(crate) fn is_past(&self, window: Duration, now: Moment) -> bool {
        let last = self.ended.max(self.starts.back().copied());
        !self.running && last.is_none_or(|last| now.since(last) >= window.max(KEPT))
    }

    /// Starts in `(now - window, now]`.
    pub(crate) fn within(&self, window: Duration, now: Moment) -> u32 {
        let starts = self.starts.iter().rev();
        let within = starts.take_while(|start| now.since(**start) < window);
        u32::try_from(within.count()).unwrap_or(u32::MAX)
    }

    /// Whether the ended attempt is to be judged now, and how: true, it helped.
    pub(crate) fn verdict(&self, policy: &ProcedurePolicy, scene: &Scene) -> Option<bool> {
        let ended = self.unverified?;
        let due = scene.now >= ended + policy.verify_after;
        (due && scene.fresh && !self.running).then_some(!scene.on)
    }

    /// The alert's own conditions, in the order of the specification.
    pub(crate) fn plan(&self, policy: &ProcedurePolicy, scene: &Scene) -> Plan {
        let waited = scene
            .started
            .is_some_and(|start| scene.now.since(start) >= policy.after);
        let allowed = scene.on && scene.fresh && !scene.held_back && waited;
        if !allowed || self.running || self.unverified.is_some() || self.exhausted {
            return Plan::Wait;
        }
        // Before the cooldown, which grows with the attempts of the window.
        let started = self.within(policy.window, scene.now);
        let cooled = self
            .ended
            .is_none_or(|end| scene.now.since(end) >= cooldown(policy, started));
        if !cooled {
            return Plan::Wait;
        }
        if started >= policy.max_attempts {
            return Plan::GiveUp;
        }
        Plan::Ready
    }

    /// The attempt starts.
    pub(crate) fn start(&mut self, now: Moment, window: Duration) -> u32 {
        self.attempts += 1;
        // A reload may make the window longer: it finds what was done within a day.
        self.starts
            .retain(|start| now.since(*start) < window.max(KEPT));
        self.starts.push_back(now);
        self.running = true;
        self.approved = false;
        self.waits = false;
        self.attempts
    }

    /// The attempt ended, or was lost with the process.
    pub(crate) fn end(&mut self, now: Moment) {
        self.running = false;
        self.ended = Some(now);
        self.unverified = Some(now);
    }

    /// The alert resolved: the next episode begins afresh, with the attempts it has left.
    pub(crate) fn resolve(&mut self) {
        self.exhausted = false;
        self.approved = false;
        self.waits = false;
        self.said_for = None;
    }
}

/// Grows with each attempt of the window where the procedure says so.
fn cooldown(policy: &ProcedurePolicy, attempts: u32) -> Duration {
    let further = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    let factor = policy.backoff.max(1.0).powi(further);
    Duration::try_from_secs_f64(policy.cooldown.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}
