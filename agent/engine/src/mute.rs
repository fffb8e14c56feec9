//! Who is muted: silences, maintenance and closed routes (wall clock), inhibitions (other alerts), and
//! how names are matched.

use crate::alert::{Alert, Muted};
use crate::effect::Happening;
use crate::model::{ByFingerprint, Fingerprint, Labels, RuleId, Severity};
use crate::policy::{AlertMatcher, InhibitPolicy, RoutePolicy};
use crate::reconcile::Named;
use crate::turn::Turn;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Begins the name of a mute that another alert is the reason of.
pub(crate) const INHIBITED: &str = "inhibited by";

/// A rule id against a pattern; a trailing `*` matches any rest.
pub(crate) fn name_matches(pattern: &str, rule: &RuleId) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => rule.as_str().starts_with(start),
        None => pattern == rule.as_str(),
    }
}

pub(crate) fn any_matches(patterns: &[Arc<str>], rule: &RuleId) -> bool {
    patterns.iter().any(|pattern| name_matches(pattern, rule))
}

/// What a silence or a maintenance window stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) notify: bool,
    pub(crate) recover: bool,
}

/// An alert that fires, as a source of inhibition.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) rule: RuleId,
    pub(crate) fingerprint: Fingerprint,
    /// Those that its rule adds, too.
    pub(crate) labels: Labels,
}

/// The names of firing alerts that mute this one.
fn inhibited_by(
    policies: &[InhibitPolicy],
    sources: &[Source],
    rule: &RuleId,
    fingerprint: Fingerprint,
    labels: &Labels,
) -> Option<String> {
    let policies = policies
        .iter()
        .filter(|policy| any_matches(&policy.target, rule));
    let mut mutes = policies.flat_map(|policy| {
        // What stands on both sides mutes, and is not muted by its like: two such alerts would keep
        // each other quiet, and nobody would hear of either (Alertmanager does the same).
        let both = any_matches(&policy.source, rule);
        sources.iter().filter(move |source| {
            let itself = source.fingerprint == fingerprint;
            let like = both && any_matches(&policy.target, &source.rule);
            let equal = policy.equal.iter().all(|name| {
                let ours = labels.get(name).unwrap_or_default();
                ours == source.labels.get(name).unwrap_or_default()
            });
            !itself && !like && equal && any_matches(&policy.source, &source.rule)
        })
    });
    mutes
        .next()
        .map(|source| format!("{}{}", source.rule, source.labels))
}

impl AlertMatcher {
    /// Whether a route takes an alert of this rule, at this severity, with these labels.
    pub fn takes(&self, rule: &RuleId, severity: Severity, labels: &Labels) -> bool {
        let severity_fits = self.severity.is_empty() || self.severity.contains(&severity);
        let rule_fits = self.rule.is_empty() || any_matches(&self.rule, rule);
        severity_fits
            && rule_fits
            && self.labels.iter().all(|matcher| {
                let value = labels.get(&matcher.name).unwrap_or_default();
                matcher.any_of.iter().any(|pattern| pattern.matches(value))
            })
    }
}

impl Turn<'_> {
    /// All alerts that are looked at, in the order of the file, then of labels; meta-alerts last.
    pub(crate) fn live(&self) -> Vec<Named> {
        let of_file: BTreeSet<&RuleId> = self.policy.rules.iter().map(|rule| &rule.id).collect();
        let others = self.state.rules.keys().filter(|id| !of_file.contains(id));
        let ids = self.policy.rules.iter().map(|rule| &rule.id).chain(others);
        ids.filter_map(|id| Some((id, self.state.rules.get(id)?)))
            .flat_map(|(id, rule)| rule.live.values().map(|f| (id.clone(), *f)))
            .collect()
    }

    fn sources(&self) -> Vec<Source> {
        if self.policy.inhibitions.is_empty() {
            return Vec::new();
        }
        let alerts = self.state.rules.iter().flat_map(|(id, rule)| {
            let live = rule.live.values().filter_map(|f| rule.alerts.get(f));
            live.filter(|alert| alert.standing().severity().is_some())
                .map(|alert| Source {
                    rule: id.clone(),
                    fingerprint: alert.instance.fingerprint,
                    labels: alert.labels(),
                })
        });
        alerts.collect()
    }

    /// Finds out who mutes these alerts now, and notes it with what happened to them in this step.
    pub(crate) fn mute_all(&mut self, live: &[Named]) {
        let sources = self.sources();
        for (rule, fingerprint) in live {
            self.mute(rule, fingerprint, &sources);
        }
        let mut events = std::mem::take(&mut self.effects.events);
        let rules: OnceCell<ByFingerprint<&RuleId>> = OnceCell::new();
        for event in &mut events {
            if let (Happening::Transition { suppressed_by, .. }, Some(fingerprint)) =
                (&mut event.what, event.fingerprint)
                && let rules = rules.get_or_init(|| live.iter().map(|(r, f)| (*f, r)).collect())
                && let Some(rule) = rules.get(&fingerprint)
                && let Some(alert) = self.state.alert(rule, &fingerprint)
            {
                // The word that it is over passes all mutes; there is none of what pends.
                let fires = alert.standing().severity().is_some();
                let more = alert.more.as_ref().filter(|_| fires);
                *suppressed_by = more.and_then(|more| more.suppressors());
            }
        }
        self.effects.events = events;
    }

    fn mute(&mut self, rule: &RuleId, fingerprint: &Fingerprint, sources: &[Source]) {
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        if alert.more.as_ref().is_none_or(|more| more.meta) {
            return;
        }
        let labels = alert.labels();
        let mut muted_by = self.silenced(rule, alert, |scope| scope.notify);
        let by = inhibited_by(
            &self.policy.inhibitions,
            sources,
            rule,
            *fingerprint,
            &labels,
        );
        muted_by.extend(by.map(|source| format!("{INHIBITED} {source}")));
        let closed = self.closed_routes(rule, fingerprint);
        if let Some(alert) = self.state.alert_mut(rule, fingerprint) {
            let muted = !muted_by.is_empty() || !closed.is_empty();
            let by = muted_by;
            alert.more().muted = muted.then(|| Box::new(Muted { by, closed }));
        }
    }

    /// The silences and maintenance windows that hold now for this alert, of the wanted scope.
    pub(crate) fn silenced(
        &self,
        rule: &RuleId,
        alert: &Alert,
        wanted: impl Fn(Scope) -> bool,
    ) -> Vec<String> {
        if self.state.silences.is_empty() && self.policy.maintenance.is_empty() {
            return Vec::new();
        }
        let severity = alert.last_severity();
        let labels = alert.labels();
        let silences = self.state.silences.values().filter(|kept| {
            let scope = Scope {
                notify: kept.silence.notify,
                recover: kept.silence.recover,
            };
            wanted(scope) && self.holds(kept) && kept.fits(rule, severity, &labels)
        });
        let windows = self.policy.maintenance.iter().filter(|window| {
            let scope = Scope {
                notify: window.notify,
                recover: window.recover,
            };
            let now = self.now.wall;
            wanted(scope)
                && window.from.is_none_or(|from| from <= now)
                && window.until.is_none_or(|until| now < until)
                && window.schedule.as_ref().is_none_or(|id| self.is_open(id))
                && window.matcher.takes(rule, severity, &labels)
        });
        silences
            .map(|kept| format!("silence {}", kept.silence.id))
            .chain(windows.map(|window| format!("maintenance {}", window.id)))
            .collect()
    }

    /// Why a route says nothing now, but for resolves; none: it is open.
    pub(crate) fn closed(&self, route: &RoutePolicy) -> Option<String> {
        if let Some(id) = route.mute.iter().find(|id| self.is_open(id)) {
            return Some(format!("schedule {id}"));
        }
        let outside = !route.active.is_empty() && !route.active.iter().any(|id| self.is_open(id));
        outside.then(|| format!("outside schedule {}", route.active.join(", ")))
    }

    /// What closes all routes of the alert; empty where one is open, or none takes it.
    fn closed_routes(&self, rule: &RuleId, fingerprint: &Fingerprint) -> Vec<String> {
        let timed = |route: &RoutePolicy| !(route.active.is_empty() && route.mute.is_empty());
        if !self.policy.routes.iter().any(timed) {
            return Vec::new();
        }
        let mut why: Vec<String> = Vec::new();
        for (at, _) in self.routed(rule, fingerprint) {
            match self.policy.routes.get(at).and_then(|r| self.closed(r)) {
                None => return Vec::new(),
                Some(closed) if why.contains(&closed) => {}
                Some(closed) => why.push(closed),
            }
        }
        why
    }
}
