//! Who is muted: silences (wall clock), inhibitions (other alerts), and how names are matched.

use crate::input::Silence;
use crate::model::{Labels, RuleId, Severity, WallTime};
use crate::policy::{AlertMatcher, InhibitPolicy, Policy};
use std::sync::Arc;

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
pub(crate) fn inhibited_by(
    policies: &[InhibitPolicy],
    sources: &[Source],
    rule: &RuleId,
    labels: &Labels,
) -> Option<String> {
    let policies = policies
        .iter()
        .filter(|policy| any_matches(&policy.target, rule));
    let mut mutes = policies.flat_map(|policy| {
        sources.iter().filter(move |source| {
            let itself = source.rule == *rule && source.labels == *labels;
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

/// Whether any rule can be a source: else nothing needs to be gathered.
pub(crate) fn inhibits_anything(policy: &Policy) -> bool {
    !policy.inhibitions.is_empty()
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
