//! Who is muted: silences (wall clock), inhibitions (other alerts), and how names are matched.

use crate::effect::Happening;
use crate::input::Silence;
use crate::model::{Fingerprint, Labels, RuleId, Severity, WallTime};
use crate::policy::{AlertMatcher, InhibitPolicy};
use crate::reconcile::Named;
use crate::turn::Turn;
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

fn any_matches(patterns: &[Arc<str>], rule: &RuleId) -> bool {
    patterns.iter().any(|pattern| name_matches(pattern, rule))
}

/// An alert that fires, as a source of inhibition.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) rule: RuleId,
    pub(crate) fingerprint: Fingerprint,
    /// Those that its rule adds, too.
    pub(crate) labels: Labels,
}

impl Silence {
    /// Whether it holds now for this alert.
    pub(crate) fn covers(&self, rule: &RuleId, labels: &Labels, wall: WallTime) -> bool {
        let rule_fits = self.rules.is_empty() || any_matches(&self.rules, rule);
        let labels_fit = self.labels.iter().all(|(k, v)| labels.get(k) == Some(&**v));
        self.from <= wall && wall < self.until && rule_fits && labels_fit
    }
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
        sources.iter().filter(move |source| {
            let itself = source.fingerprint == fingerprint;
            let equal = policy
                .equal
                .iter()
                .all(|name| labels.get(name) == source.labels.get(name));
            !itself && equal && any_matches(&policy.source, &source.rule)
        })
    });
    mutes
        .next()
        .map(|source| format!("{}{}", source.rule, source.labels))
}

impl AlertMatcher {
    /// Whether a route takes an alert of this rule, at this severity, with these labels.
    pub(crate) fn takes(&self, rule: &RuleId, severity: Severity, labels: &Labels) -> bool {
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
        for event in &mut events {
            if let (Happening::Transition { suppressed_by, .. }, Some(fingerprint)) =
                (&mut event.what, event.fingerprint)
                && let Some((rule, _)) = live.iter().find(|(_, f)| *f == fingerprint)
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
        let silences = self
            .state
            .silences
            .values()
            .filter(|silence| silence.notify && silence.covers(rule, &labels, self.now.wall));
        let mut muted_by: Vec<String> = silences
            .map(|silence| format!("silence {}", silence.id))
            .collect();
        let by = inhibited_by(
            &self.policy.inhibitions,
            sources,
            rule,
            *fingerprint,
            &labels,
        );
        muted_by.extend(by.map(|source| format!("{INHIBITED} {source}")));
        if let Some(alert) = self.state.alert_mut(rule, fingerprint) {
            alert.more().muted_by = muted_by;
        }
    }
}
