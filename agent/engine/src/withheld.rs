//! What was *not* sent, and why: the history's answer to "why did nobody call me" (A9).
//!
//! Level-triggered like everything about messages: each look at an alert and one of its notifiers asks
//! what would be said now, and who forbids it. A pair of message and cause is written down when it
//! begins to hold, and not again while it lasts.

use crate::alert::{Alert, More, Told, Withheld};
use crate::effect::{Happening, Reason};
use crate::model::{Fingerprint, NotifierId, RuleId, Severity};
use crate::policy::RoutePolicy;
use crate::turn::{Turn, is_due};

/// Names flapping as the cause.
const FLAPPING: &str = "flapping";

/// Names the lack of a route as the cause.
const NO_ROUTE: &str = "no route takes it";

impl More {
    /// Who forbids to speak of a firing alert to anybody: flapping, mutes, the hour; with commas between.
    pub(crate) fn suppressors(&self) -> Option<String> {
        let flapping = self.flapping.then(|| FLAPPING.to_owned());
        let mutes = self.muted_by().iter().chain(self.closed_by()).cloned();
        joined(flapping.into_iter().chain(mutes))
    }

    /// Who forbids to bother people further with what they know.
    pub(crate) fn hushers(&self) -> Option<String> {
        let acknowledged = self.acknowledged_by.as_ref();
        let acknowledged = acknowledged.map(|by| format!("acknowledged by {by}"));
        joined(acknowledged.into_iter().chain(self.suppressors()))
    }
}

fn joined(all: impl Iterator<Item = String>) -> Option<String> {
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then(|| all.join(", "))
}

impl Turn<'_> {
    /// Notes what this look at the alert and one notifier withholds; `route` is the one that leads there.
    pub(crate) fn note_withheld(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        route: Option<usize>,
        notifier: &NotifierId,
    ) {
        let told = self.told(rule, fingerprint, notifier);
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let route = route.and_then(|at| self.policy.routes.get(at));
        let withheld = self.withheld(rule, alert, &told, route, notifier);
        if withheld == told.withheld {
            return;
        }
        match withheld {
            Some(withheld) => self.withhold(rule, fingerprint, notifier, withheld),
            None => {
                if let Some(alert) = self.state.alert_mut(rule, fingerprint)
                    && let Some(told) = alert.more().told.get_mut(notifier)
                {
                    told.withheld = None;
                    self.dirty.alerts.insert((rule.clone(), *fingerprint));
                }
            }
        }
    }

    fn withheld(
        &self,
        rule: &RuleId,
        alert: &Alert,
        told: &Told,
        route: Option<&RoutePolicy>,
        notifier: &NotifierId,
    ) -> Option<Withheld> {
        let more = alert.more.as_deref().filter(|more| !more.meta)?;
        let severity = alert.standing().severity();
        let reason = match (severity, told.content) {
            (None, None) => return None,
            (None, Some(_)) => Reason::Resolve,
            (Some(_), _) if told.ends_only => return None,
            (Some(_), None) => Reason::Fire,
            (Some(now), Some(before)) if now > before => Reason::Escalate,
            (Some(now), Some(before)) if now < before => Reason::Deescalate,
            (Some(_), Some(_)) => Reason::Repeat,
        };
        // A route may be closed while others of the alert are open.
        let closed = route.and_then(|route| self.closed(route));
        let closed = closed.filter(|why| !more.closed_by().contains(why));
        let by = match reason {
            // Nothing but flapping holds back the word that it is over.
            Reason::Resolve => more.flapping.then(|| FLAPPING.to_owned())?,
            Reason::Repeat => {
                let stale = alert.is_stale(self.now.at, self.stale_after_of(rule));
                let stale = stale.then(|| "stale: no fresh value".to_owned());
                let by = joined(more.hushers().into_iter().chain(closed)).or(stale)?;
                let every = route?.repeat[severity?];
                let due = told.delivered_at.map(|delivered| delivered + every);
                let said_else = || self.is_undelivered(notifier, &alert.instance.fingerprint);
                if every.is_zero() || !is_due(due, self.now.at) || said_else() {
                    return None;
                }
                by
            }
            _ => joined(more.suppressors().into_iter().chain(closed))?,
        };
        Some(Withheld {
            reason,
            severity,
            by,
        })
    }

    /// Writes down that a message is withheld, unless that is known.
    pub(crate) fn withhold(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        notifier: &NotifierId,
        withheld: Withheld,
    ) {
        let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
            return;
        };
        let told = alert.more().told.entry(notifier.clone()).or_default();
        if told.withheld.as_ref() == Some(&withheld) {
            return;
        }
        told.withheld = Some(withheld.clone());
        self.dirty.alerts.insert((rule.clone(), *fingerprint));
        let what = Happening::Suppressed {
            notifier: Some(notifier.clone()),
            reason: withheld.reason,
            severity: withheld.severity,
            by: withheld.by,
        };
        self.event(Some((rule, fingerprint)), what);
    }

    /// An alert that fires and that no route takes: said once an episode.
    pub(crate) fn note_unrouted(&mut self, rule: &RuleId, fingerprint: &Fingerprint, routed: bool) {
        let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
            return;
        };
        let severity = alert.standing().severity();
        let Some(more) = &mut alert.more else { return };
        let unrouted = severity.filter(|_| !routed && !more.meta);
        if more.unrouted == unrouted.is_some() {
            return;
        }
        more.unrouted = unrouted.is_some();
        self.dirty.alerts.insert((rule.clone(), *fingerprint));
        let Some(severity) = unrouted else { return };
        let what = Happening::Suppressed {
            notifier: None,
            reason: Reason::Fire,
            severity: Some(severity),
            by: NO_ROUTE.to_owned(),
        };
        self.event(Some((rule, fingerprint)), what);
    }

    /// An escalation step whose time has come, and that somebody forbids.
    pub(crate) fn withhold_step(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        notifier: &NotifierId,
        severity: Severity,
        by: &str,
    ) {
        let withheld = Withheld {
            reason: Reason::Escalation,
            severity: Some(severity),
            by: by.to_owned(),
        };
        self.withhold(rule, fingerprint, notifier, withheld);
    }
}
