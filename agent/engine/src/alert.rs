//! One alert: an instance of a rule, its machines, its episode, and what each notifier was told of it.

use crate::buckets::Buckets;
use crate::effect::{AlertSnapshot, AlertView, Reason};
use crate::external::External;
use crate::flaps::Flaps;
use crate::machine::Phase;
use crate::model::{
    Instance, Labels, Moment, NotifierId, PerSeverity, Severities, Severity, WallTime,
};
use crate::policy::{AtLeast, Flapping, RulePolicy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything known of one instance. What can be left out for a plainly ok one stands in [`Alert::more`].
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    pub(crate) instance: Arc<Instance>,
    pub(crate) phases: [Phase; 4],
    /// The last observation: a value, or what `on_missing` makes of an absent series.
    pub(crate) observed: Option<Moment>,
    /// Successful collections without the series, in a row.
    pub(crate) absences: u32,
    /// What the rule itself remembers of it.
    pub(crate) memory: Option<Arc<[u8]>>,
    pub(crate) counts: Counts,
    /// None: it never was anything but ok, or that is over and told.
    pub(crate) more: Option<Box<More>>,
}

/// What goes on counting when an episode is over and forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// Firings.
    pub(crate) episode: u64,
    /// Notifications, so that each has an id of its own.
    pub(crate) sequence: u64,
}

/// What an alert remembers that is not ok, or was not until a while ago.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct More {
    /// Start of this firing.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) started: Option<Started>,
    /// End of the last one, until all were told.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ended: Option<Ended>,
    /// Since when in the current state, for people.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) since: WallTime,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) value: Option<f64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) limit: Option<f64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) note: Option<Arc<str>>,
    /// The worst severity told last, for the snapshot of a resolve.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) severity: Option<Severity>,
    /// Labels the rule adds, as of the last round.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) added: Labels,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) buckets: Buckets,
    #[serde(skip_serializing_if = "Flaps::is_empty")]
    pub(crate) flaps: Flaps,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) flapping: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) acknowledged_by: Option<Arc<str>>,
    /// When that runs out; none: not by itself.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) acknowledged_until: Option<Moment>,
    /// What each notifier was told.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) told: BTreeMap<NotifierId, Told>,
    /// None: nobody.
    #[serde(skip)]
    pub(crate) muted: Option<Box<Muted>>,
    /// It was not observed in its rule's last round: its own record holds when it last was.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) lagging: bool,
    /// Raised by the agent or the engine about itself, not by a rule.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) meta: bool,
    /// It fires, and that no route takes it was written down.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) unrouted: bool,
    /// Pushed from outside, not judged by a rule.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) external: Option<Box<External>>,
}

/// Who keeps an alert quiet now.
#[derive(Clone, Debug)]
pub(crate) struct Muted {
    /// Who mutes it.
    pub(crate) by: Vec<String>,
    /// What closes all of its routes.
    pub(crate) closed: Vec<String>,
}

/// Start of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) at: Moment,
    pub(crate) wall: WallTime,
}

/// End of a firing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) wall: WallTime,
    /// None: a threshold.
    pub(crate) cause: Option<String>,
}

/// What one notifier was told of one alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    /// The newest content in the outbox, delivered or not; none: nothing, or that it is over.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) content: Option<Severity>,
    /// When something was last delivered.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) delivered_at: Option<Moment>,
    /// When the first message of this episode was delivered.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) first_delivered_at: Option<Moment>,
    /// It hears the fire and the resolve, nothing in between (escalation steps, the fallback).
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ends_only: bool,
    /// End of `group_wait` of an alert that goes out by itself.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) waits_until: Option<Moment>,
    /// Start of the episode of which it was last told.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) heard: Option<Moment>,
    /// What it would be told now if nobody forbade it.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) withheld: Option<Withheld>,
    /// It heard that the alert flaps, and not yet that it settled.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) flap: bool,
}

/// A message that is not sent, and who forbids it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Withheld {
    pub(crate) reason: Reason,
    pub(crate) severity: Option<Severity>,
    pub(crate) by: String,
}

/// Most of an alert's memory is empty most of the time; its row leaves that out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl More {
    /// Who mutes it now.
    pub(crate) fn muted_by(&self) -> &[String] {
        self.muted.as_ref().map_or(&[], |muted| &muted.by)
    }

    /// What closes all of its routes now.
    pub(crate) fn closed_by(&self) -> &[String] {
        self.muted.as_ref().map_or(&[], |muted| &muted.closed)
    }

    /// Nobody looks after it any more.
    pub(crate) fn unacknowledge(&mut self) {
        self.acknowledged_by = None;
        self.acknowledged_until = None;
    }
}

impl Told {
    /// It is over, and the notifier knows: only what outlives an episode stays.
    pub(crate) fn close(&mut self) {
        *self = Told {
            waits_until: self.waits_until,
            heard: self.heard,
            flap: self.flap,
            // It is still to hear what the flapping settles on, and no more than before.
            ends_only: self.ends_only && self.flap,
            ..Told::default()
        };
    }

    /// Nothing of it can matter to a later episode.
    fn is_over(&self) -> bool {
        self.content.is_none()
            && self.waits_until.is_none()
            && self.withheld.is_none()
            && !self.flap
    }
}

/// `ok`, `pending`, `firing:S`, `recovering:S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ok,
    Pending,
    Firing(Severity),
    Recovering(Severity),
}

impl Standing {
    pub(crate) fn name(self) -> String {
        match self {
            Standing::Ok => "ok".to_owned(),
            Standing::Pending => "pending".to_owned(),
            Standing::Firing(severity) => format!("firing:{severity}"),
            Standing::Recovering(severity) => format!("recovering:{severity}"),
        }
    }

    /// The severity while it fires or recovers.
    pub(crate) fn severity(self) -> Option<Severity> {
        match self {
            Standing::Firing(severity) | Standing::Recovering(severity) => Some(severity),
            Standing::Ok | Standing::Pending => None,
        }
    }
}

/// The times that judge one observation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) now: Moment,
    /// Begin of the buckets.
    pub(crate) born: Moment,
    pub(crate) stale_after: Duration,
    pub(crate) tolerance: Duration,
    pub(crate) wait: PerSeverity<Duration>,
    pub(crate) keep: PerSeverity<Duration>,
    pub(crate) at_least: Option<AtLeast>,
}

impl Timing {
    pub(crate) fn of_rule(
        rule: &RulePolicy,
        now: Moment,
        born: Moment,
        stale_after: Duration,
        tolerance: Duration,
    ) -> Self {
        Timing {
            now,
            born,
            stale_after,
            tolerance,
            wait: rule.wait,
            keep: rule.keep,
            at_least: rule.at_least,
        }
    }
}

impl Alert {
    pub(crate) fn new(instance: Arc<Instance>) -> Self {
        Alert {
            instance,
            phases: [Phase::Off; 4],
            observed: None,
            absences: 0,
            memory: None,
            counts: Counts::default(),
            more: None,
        }
    }

    /// Nothing pends, fires, recovers.
    pub(crate) fn is_quiet(&self) -> bool {
        self.phases == [Phase::Off; 4]
    }

    /// It is not there, neither seen nor missed: what is left of it belongs to the past.
    pub(crate) fn is_gone(&self) -> bool {
        self.observed.is_none() && self.absences == 0 && self.is_quiet()
    }

    /// It was pushed from outside.
    pub(crate) fn is_external(&self) -> bool {
        self.more
            .as_ref()
            .is_some_and(|more| more.external.is_some())
    }

    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_with(Box::default)
    }

    pub(crate) fn standing(&self) -> Standing {
        let highest = Severity::ALL
            .into_iter()
            .rev()
            .find(|severity| self.phases[severity.index()].is_active());
        match highest {
            Some(severity) if self.phases[severity.index()] == Phase::On => {
                Standing::Firing(severity)
            }
            Some(severity) => Standing::Recovering(severity),
            None if self.is_quiet() => Standing::Ok,
            None => Standing::Pending,
        }
    }

    /// Severities that fire or recover: judged by their clear thresholds.
    pub(crate) fn active(&self) -> Severities {
        let active = |severity: &Severity| self.phases[severity.index()].is_active();
        Severity::ALL.into_iter().filter(active).collect()
    }

    /// The highest severity that is plainly on.
    pub(crate) fn on(&self) -> Option<Severity> {
        let on = |severity: &Severity| self.phases[severity.index()] == Phase::On;
        Severity::ALL.into_iter().rev().find(on)
    }

    /// One observation, known: the gap rule, then each severity's machine. Tells whether its buckets have to
    /// be written.
    pub(crate) fn observe(&mut self, breached: Severities, timing: &Timing) -> bool {
        let now = timing.now;
        let gap = self.observed.map_or(Duration::ZERO, |last| now.since(last));
        self.observed = Some(now);
        let news = timing.at_least.is_some_and(|rule| {
            let buckets = &mut self.more().buckets;
            buckets.put(rule, timing.born, now, breached)
        });
        let mut forced = false;
        for severity in Severity::ALL.into_iter().rev() {
            let phase = &mut self.phases[severity.index()];
            let before = phase.after_gap(gap, timing.stale_after, timing.tolerance, now);
            let breach = match (timing.at_least, &self.more) {
                (Some(rule), Some(more)) => more.buckets.judge(rule, timing.born, now, severity),
                _ => Some(breached.contains(severity)),
            };
            let next = match breach {
                Some(true) if forced => Phase::On,
                Some(breach) => {
                    before.next(breach, now, timing.wait[severity], timing.keep[severity])
                }
                None => before,
            };
            // What lies below a severity that turns on is on with it, so that falling back
            // de-escalates instead of resolving and firing anew.
            forced |= !before.is_active() && next == Phase::On;
            *phase = next;
        }
        news
    }

    /// All machines off: gone, or its rule removed.
    pub(crate) fn silence_machines(&mut self) {
        self.phases = [Phase::Off; 4];
    }

    pub(crate) fn is_stale(&self, now: Moment, stale_after: Duration) -> bool {
        self.observed
            .is_none_or(|last| now.since(last) > stale_after)
    }

    /// Counts a change between firing and not firing.
    pub(crate) fn flap(&mut self, now: Moment) {
        self.more().flaps.push(now);
    }

    /// Forgets changes that left the window; tells how many are in it.
    pub(crate) fn flaps_within(&mut self, flapping: &Flapping, now: Moment) -> u32 {
        let Some(more) = &mut self.more else { return 0 };
        more.flaps.forget(flapping.window, now);
        u32::try_from(more.flaps.len()).unwrap_or(u32::MAX)
    }

    /// The instance's labels and those that the rule adds.
    pub(crate) fn labels(&self) -> Labels {
        let more = self.more.as_ref();
        more.map_or_else(
            || self.instance.labels.clone(),
            |more| self.instance.labels.with(&more.added),
        )
    }

    /// When the last episode began; 0: none is remembered.
    pub(crate) fn begun(&self) -> u64 {
        let started = self.more.as_ref().and_then(|more| more.started);
        started.map_or(0, |started| started.at.0)
    }

    /// The current severity; of a resolved alert, the last one.
    pub(crate) fn last_severity(&self) -> Severity {
        let last = || self.more.as_ref().and_then(|more| more.severity);
        let now = self.standing().severity();
        now.or_else(last).unwrap_or(Severity::Warning)
    }

    /// As messages show it.
    pub(crate) fn snapshot(&self) -> AlertSnapshot {
        let empty = More::default();
        let more = self.more.as_deref().unwrap_or(&empty);
        AlertSnapshot {
            fingerprint: self.instance.fingerprint,
            episode: self.counts.episode,
            rule: self.instance.rule.clone(),
            severity: self.last_severity(),
            labels: self.labels(),
            value: more.value,
            limit: more.limit,
            note: more.note.as_deref().map(str::to_owned),
            started_at: more.started.map_or(more.since, |started| started.wall),
            ended_at: more.ended.as_ref().map(|ended| ended.wall),
            end_cause: more.ended.as_ref().and_then(|ended| ended.cause.clone()),
        }
    }

    pub(crate) fn view(&self, now: Moment, stale_after: Duration) -> AlertView {
        let empty = More::default();
        let more = self.more.as_deref().unwrap_or(&empty);
        let standing = self.standing();
        AlertView {
            instance: self.instance.clone(),
            state: standing.name(),
            severity: standing.severity(),
            since: more.since,
            stale: !more.meta && standing != Standing::Ok && self.is_stale(now, stale_after),
            flapping: more.flapping,
            acknowledged_by: more.acknowledged_by.as_deref().map(str::to_owned),
            muted_by: [more.muted_by(), more.closed_by()].concat(),
            external: more.external.as_ref().map(|external| external.view(now)),
            snapshot: self.snapshot(),
        }
    }

    /// Nothing will come of it before its next observation: nobody needs to look at it.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_quiet()
            && self.more.as_ref().is_none_or(|more| {
                let mut told = more.told.values();
                more.flaps.is_empty()
                    && !more.flapping
                    && more.buckets.breaches() == 0
                    && told.all(|told| told.content.is_none() && told.waits_until.is_none())
            })
    }

    /// It is quiet, and what it remembers of the notifiers is about an episode that is over for all of them.
    pub(crate) fn is_told_for_nothing(&self) -> bool {
        let told = self.more.as_ref().map(|more| &more.told);
        self.is_quiet()
            && told.is_some_and(|told| !told.is_empty() && told.values().all(Told::is_over))
    }

    /// Of an idle one: lets go of what only its last episode needed. A storm of thousands leaves little behind.
    pub(crate) fn forget_episode(&mut self) {
        let Some(more) = &mut self.more else { return };
        if more.buckets == Buckets::default()
            && !more.lagging
            && !more.meta
            && more.external.is_none()
        {
            self.more = None;
        } else {
            more.told.clear();
            more.muted = None;
        }
    }

    /// Whether a restart must find it again. Episodes count on, so that an incident keeps its name.
    pub(crate) fn is_worth_a_row(&self) -> bool {
        !self.is_idle()
            || self.memory.is_some()
            || self.counts != Counts::default()
            || self.absences > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half an hour after a storm thousands of alerts may yet flap.
    #[test]
    fn what_may_yet_flap_is_small() {
        assert!(size_of::<More>() <= 248, "{}", size_of::<More>());
        assert!(size_of::<Flaps>() <= 32, "{}", size_of::<Flaps>());
    }
}
