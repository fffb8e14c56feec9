//! Composites: rules over the states of other rules (decisions.md 19).

use crate::alert::Timing;
use crate::model::{Instance, Labels, RuleId, Severities};
use crate::policy::{Operator, Policy, RulePolicy, RuleSource};
use crate::turn::Turn;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

impl Turn<'_> {
    /// Composites of which a child was judged in this round, each after its children.
    pub(crate) fn composites(&mut self, mut judged: BTreeSet<RuleId>) {
        for (rule, operator, children) in ordered(self.policy) {
            if !children.iter().any(|child| judged.contains(child)) {
                continue;
            }
            judged.insert(rule.id.clone());
            self.composite(rule, operator, children);
        }
    }

    fn composite(&mut self, rule: &RulePolicy, operator: Operator, children: &[RuleId]) {
        let verdict = combine(operator, children.iter().map(|child| self.certainty(child)));
        let known = children
            .iter()
            .filter_map(|child| self.state.stale_after.get(child));
        let stale_after = known.max().copied().unwrap_or(Duration::MAX);
        self.state.stale_after.insert(rule.id.clone(), stale_after);
        let instance = Arc::new(Instance::new(rule.id.clone(), Labels::default()));
        let state = self.state.rules.entry(rule.id.clone()).or_default();
        state.observed = Some(self.now.at);
        if self.admit(rule, &instance)
            && let Some(verdict) = verdict
        {
            let timing = Timing::of_rule(
                rule,
                self.now.at,
                self.state.born,
                stale_after,
                self.policy.alerting.outage_tolerance,
            );
            let mut breached = Severities::NONE;
            if verdict {
                breached = breached.with(rule.severity);
                if let Some(alert) = self.state.alert_mut(&rule.id, &instance.fingerprint) {
                    alert.more().added = rule.labels.clone();
                }
            }
            self.see(rule, &instance.fingerprint, breached, &timing);
        }
        let busy = self.state.alert(&rule.id, &instance.fingerprint);
        if busy.is_some_and(|alert| !alert.is_quiet()) {
            for child in children {
                self.remember_round(child);
            }
        }
        self.close_round(rule);
    }

    /// While a composite pends or fires, what it stands on was observed when it was, though it is healthy:
    /// after a restart that decides what is still known.
    fn remember_round(&mut self, child: &RuleId) {
        let now = self.now.at;
        let Some(state) = self.state.rules.get_mut(child) else {
            return;
        };
        if state.observed != Some(now) {
            return;
        }
        self.dirty.rounds.insert(child.clone());
        self.note_lagging(child);
    }

    /// Which instances of a rule, healthy ones too, were not observed in the round that is written down.
    pub(crate) fn note_lagging(&mut self, rule: &RuleId) {
        let now = self.now.at;
        let Some(state) = self.state.rules.get_mut(rule) else {
            return;
        };
        for (fingerprint, alert) in &mut state.alerts {
            let lagging = alert.observed != Some(now);
            let was = alert.more.as_ref().is_some_and(|more| more.lagging);
            if lagging != was {
                alert.more().lagging = lagging;
                self.dirty.alerts.insert((rule.clone(), *fingerprint));
            }
        }
    }

    /// Whether any alert of the rule fires: yes, no, or not known because one of them is stale.
    fn certainty(&self, rule: &RuleId) -> Option<bool> {
        let Some(state) = self.state.rules.get(rule) else {
            return Some(false);
        };
        let stale_after = self.stale_after_of(rule);
        let mut known = true;
        for alert in state.alerts.values() {
            let fires = alert.standing().severity().is_some();
            // What is gone is no alert.
            if alert.is_gone() {
                continue;
            }
            let stale = alert.is_stale(self.now.at, stale_after);
            if fires && !stale {
                return Some(true);
            }
            known &= !stale;
        }
        known.then_some(false)
    }
}

/// The rules that composites stand on: after a restart an instance that does not answer is unknown to them, and
/// not none at all.
pub(crate) fn children(policy: &Policy) -> impl Iterator<Item = &RuleId> {
    let rules = policy.rules.iter().filter_map(|rule| match &rule.source {
        RuleSource::Composite { rules, .. } => Some(rules),
        _ => None,
    });
    rules.flatten()
}

/// All composites, children before those that stand on them, else in the order of the file.
fn ordered(policy: &Policy) -> Vec<(&RulePolicy, Operator, &[RuleId])> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for rule in &policy.rules {
        visit(policy, rule, &mut seen, &mut order);
    }
    order
}

fn visit<'p>(
    policy: &'p Policy,
    rule: &'p RulePolicy,
    seen: &mut BTreeSet<&'p RuleId>,
    order: &mut Vec<(&'p RulePolicy, Operator, &'p [RuleId])>,
) {
    let RuleSource::Composite { operator, rules } = &rule.source else {
        return;
    };
    // The configuration refuses cycles; one that got through ends here.
    if !seen.insert(&rule.id) {
        return;
    }
    for child in policy
        .rules
        .iter()
        .filter(|other| rules.contains(&other.id))
    {
        visit(policy, child, seen, order);
    }
    order.push((rule, *operator, rules));
}

/// Kleene logic over the children.
fn combine(operator: Operator, children: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let (mut any_true, mut any_false, mut any_unknown) = (false, false, false);
    for child in children {
        match child {
            Some(true) => any_true = true,
            Some(false) => any_false = true,
            None => any_unknown = true,
        }
    }
    let any = if any_true {
        Some(true)
    } else if any_unknown {
        None
    } else {
        Some(false)
    };
    match operator {
        Operator::Any => any,
        Operator::None => any.map(|any| !any),
        Operator::All if any_false => Some(false),
        Operator::All if any_unknown => None,
        Operator::All => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composites_follow_kleene() {
        let (t, f, u) = (Some(true), Some(false), None);
        for (operator, children, wanted) in [
            (Operator::All, [t, t], t),
            (Operator::All, [t, u], u),
            (Operator::All, [f, u], f),
            (Operator::Any, [t, u], t),
            (Operator::Any, [f, u], u),
            (Operator::Any, [f, f], f),
            (Operator::None, [f, f], t),
            (Operator::None, [t, u], f),
            (Operator::None, [f, u], u),
        ] {
            assert_eq!(
                combine(operator, children.into_iter()),
                wanted,
                "{operator:?} {children:?}"
            );
        }
    }
}
