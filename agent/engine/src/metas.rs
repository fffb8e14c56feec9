//! Meta-alerts: what the engine, or the agent, observed about itself (decisions.md, meta-alerts).

use crate::alert::{Alert, Standing, Timing};
use crate::input::{Condition, ProbeRun};
use crate::model::{Instance, Labels, PerSeverity, ProbeId, RuleId, Severities, Severity};
use crate::turn::Turn;
use std::sync::Arc;
use std::time::Duration;

/// How the names of all meta-alerts begin; no rule may be called so.
const PREFIX: &str = "watchfire_";

/// Names of the meta-alerts that the engine raises itself.
pub(crate) mod meta {
    pub(crate) const PROBE_FAILING: &str = "watchfire_probe_failing";
    pub(crate) const RULE_FAILING: &str = "watchfire_rule_failing";
    pub(crate) const DEAD_LETTER: &str = "watchfire_dead_letter";
    pub(crate) const CARDINALITY: &str = "watchfire_cardinality";
}

/// Whether this is the name of a meta-alert.
pub(crate) fn is_meta(rule: &RuleId) -> bool {
    rule.as_str().starts_with(PREFIX)
}

impl Turn<'_> {
    pub(crate) fn condition(&mut self, condition: Condition) {
        let Condition {
            alert,
            severity,
            active,
            summary,
        } = condition;
        // The agent says what holds: a corrected file is corrected, and needs no time to settle.
        self.meta_kept(&alert, severity, active, Some(&summary), Duration::ZERO);
    }

    /// `watchfire_probe_failing` turns on with age, and off with a success alone.
    pub(crate) fn failing_probes(&mut self, runs: &[ProbeRun]) {
        for run in runs {
            let Some(probe) = self.state.probes.get(&run.probe) else {
                continue;
            };
            let old = self.now.at.since(probe.good) > self.stale_after(probe.every);
            let error = probe.error.clone();
            let instance = meta_instance(meta::PROBE_FAILING, "probe", run.probe.as_str());
            match error {
                Some(error) if old => {
                    self.meta(&instance, Severity::Warning, true, Some(&error));
                }
                Some(_) => {}
                None => self.meta(&instance, Severity::Warning, false, None),
            }
        }
    }

    /// Turns a meta-alert on or off. It goes out at once.
    pub(crate) fn meta(
        &mut self,
        instance: &Arc<Instance>,
        severity: Severity,
        active: bool,
        summary: Option<&Arc<str>>,
    ) {
        let keep = self.policy.alerting.meta_keep;
        self.meta_kept(instance, severity, active, summary, keep);
    }

    fn meta_kept(
        &mut self,
        instance: &Arc<Instance>,
        severity: Severity,
        active: bool,
        summary: Option<&Arc<str>>,
        keep: Duration,
    ) {
        let rule = &instance.rule;
        let known = self.state.alert(rule, &instance.fingerprint).is_some();
        if !active && !known {
            return;
        }
        let state = self.state.rules.entry(rule.clone()).or_default();
        let alert = state
            .alerts
            .entry(instance.fingerprint)
            .or_insert_with(|| Alert::new(instance.clone()));
        if !active && alert.is_quiet() {
            return;
        }
        let more = alert.more();
        more.meta = true;
        if let Some(summary) = summary
            && more.note.as_ref() != Some(summary)
        {
            more.note = Some(summary.clone());
            self.dirty
                .alerts
                .insert((rule.clone(), instance.fingerprint));
        }
        let timing = Timing {
            now: self.now.at,
            born: self.state.born,
            stale_after: Duration::MAX,
            tolerance: Duration::MAX,
            wait: PerSeverity::all(Duration::ZERO),
            keep: PerSeverity::all(keep),
            at_least: None,
        };
        let breached = if active {
            [severity].into_iter().collect()
        } else {
            Severities::NONE
        };
        let severity_of = |turn: &Self| {
            let alert = turn.state.alert(rule, &instance.fingerprint);
            alert.and_then(|alert| alert.standing().severity())
        };
        let before = severity_of(self);
        self.change(rule, &instance.fingerprint, "meta", |alert| {
            alert.observe(breached, &timing);
        });
        // What else there is to say of it (to whom a reload routes it now) is a round's.
        if !self.in_round && severity_of(self) != before {
            self.notify_one(rule, &instance.fingerprint);
        }
    }

    /// Recovering meta-alerts end with time; every round looks.
    pub(crate) fn settle_metas(&mut self) {
        let metas: Vec<(Arc<Instance>, Severity)> = self
            .state
            .rules
            .iter()
            .filter(|(id, _)| is_meta(id))
            .flat_map(|(_, rule)| rule.live.values().filter_map(|f| rule.alerts.get(f)))
            .filter(|alert| !self.is_failing_still(&alert.instance))
            .filter_map(|alert| match alert.standing() {
                Standing::Recovering(severity) => Some((alert.instance.clone(), severity)),
                _ => None,
            })
            .collect();
        for (instance, severity) in metas {
            self.meta(&instance, severity, false, None);
        }
    }

    /// `watchfire_probe_failing` of a probe whose last run failed: only a successful run ends it.
    fn is_failing_still(&self, instance: &Instance) -> bool {
        let probe = instance.labels.get("probe").map(ProbeId::new);
        let probe = probe.and_then(|probe| self.state.probes.get(&probe));
        instance.rule.as_str() == meta::PROBE_FAILING && probe.is_some_and(|p| p.error.is_some())
    }

    /// Ends all meta-alerts of a name, whatever their labels.
    pub(crate) fn end_meta(&mut self, name: &str) {
        let all: Vec<Arc<Instance>> = self
            .state
            .rules
            .get(&RuleId::new(name))
            .into_iter()
            .flat_map(|rule| rule.alerts.values())
            .map(|alert| alert.instance.clone())
            .collect();
        for instance in all {
            self.meta(&instance, Severity::Warning, false, None);
        }
    }
}

/// A meta-alert with one label.
pub(crate) fn meta_instance(name: &str, label: &str, value: &str) -> Arc<Instance> {
    let labels = Labels::new([(label, value)]).unwrap_or_default();
    Arc::new(Instance::new(RuleId::new(name), labels))
}
