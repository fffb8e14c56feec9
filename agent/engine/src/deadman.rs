//! Dead-man rules: what fires because nothing is seen (decisions.md 17).
//!
//! A rule of which no series was ever seen stands for itself, as an instance without labels.

use crate::alert::Timing;
use crate::input::{Observation, Seen};
use crate::model::{Fingerprint, Instance, Labels, Severities};
use crate::policy::RulePolicy;
use crate::turn::Turn;
use std::sync::Arc;

impl Turn<'_> {
    /// A dead-man rule of which no series was ever seen stands for itself.
    pub(crate) fn absent_rule(
        &mut self,
        rule: &RulePolicy,
        observations: &[Observation],
        timing: &Timing,
    ) {
        let Some(absent) = rule.absent else { return };
        let Some(state) = self.state.rules.get(&rule.id) else {
            return;
        };
        let itself = Arc::new(Instance::new(rule.id.clone(), Labels::default()));
        let known = state.alerts.contains_key(&itself.fingerprint);
        let others = state.alerts.keys().any(|f| *f != itself.fingerprint);
        let nothing = observations.iter().all(|o| o.seen != Seen::Value);
        let unknown = observations.iter().any(|o| o.seen == Seen::Unknown);
        let mentioned = observations
            .iter()
            .any(|o| o.instance.fingerprint == itself.fingerprint);
        // One that was seen once stands for itself.
        let missed = observations.iter().any(|o| o.seen == Seen::Absent);
        let failed = self.has_failed(rule);
        if mentioned {
            return;
        }
        // The first round after a restart shows what is there, and misses nothing yet.
        let fresh = state.fresh;
        let late = !fresh && timing.now.since(self.state.born) > absent;
        if nothing && !unknown && !others && !missed && !failed && late {
            self.admit(rule, &itself);
            self.dead_man(rule, &itself.fingerprint, timing);
        } else if known && !failed && (!nothing || (others && !fresh)) {
            self.see(rule, &itself.fingerprint, Severities::NONE, timing);
            self.free_place(rule, &itself.fingerprint);
        }
    }

    /// What fires, or waits to, because no series was ever seen, of a rule that is no dead-man rule any more:
    /// nobody else speaks of it, so it is a missing series like others.
    pub(crate) fn former_dead_man(
        &mut self,
        rule: &RulePolicy,
        observations: &[Observation],
        timing: &Timing,
    ) {
        let itself = Fingerprint::of(&rule.id, &Labels::default());
        let Some(alert) = self.state.alert(&rule.id, &itself) else {
            return;
        };
        let mentioned = || {
            let mut all = observations.iter();
            all.any(|one| one.instance.fingerprint == itself)
        };
        let never_seen = alert.observed.is_none() && !alert.is_quiet();
        if rule.absent.is_some() || !never_seen || mentioned() {
            return;
        }
        let state = self.state.rules.get(&rule.id);
        if self.has_failed(rule) {
            self.interrupt_absences(rule, &itself);
        } else if state.is_some_and(|state| !state.fresh) {
            self.absent(rule, &itself, timing);
            self.free_place(rule, &itself);
        }
    }

    /// What stood for series that were never seen has no place among those that are, once it is over.
    fn free_place(&mut self, rule: &RulePolicy, itself: &Fingerprint) {
        if let Some(alert) = self.state.alert_mut(&rule.id, itself)
            && alert.is_quiet()
        {
            alert.observed = None;
        }
    }

    /// Whether a probe of the rule failed last, or never answered: it says nothing of what is there.
    fn has_failed(&self, rule: &RulePolicy) -> bool {
        rule.probes.iter().any(|probe| {
            let probe = self.state.probes.get(probe);
            probe.is_none_or(|probe| probe.error.is_some())
        })
    }

    /// The dead-man's verdict: it speaks of its own severity alone, and is no observation.
    pub(crate) fn dead_man(
        &mut self,
        rule: &RulePolicy,
        fingerprint: &Fingerprint,
        timing: &Timing,
    ) {
        let (severity, now) = (rule.severity, timing.now);
        if let Some(alert) = self.state.alert_mut(&rule.id, fingerprint) {
            alert.more().added = rule.labels.clone();
        }
        self.change(&rule.id, fingerprint, "threshold", |alert| {
            let phase = &mut alert.phases[severity.index()];
            *phase = phase.next(true, now, timing.wait[severity], timing.keep[severity]);
        });
    }
}
