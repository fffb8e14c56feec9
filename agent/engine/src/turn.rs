//! One step of the engine: what happened, in the order of the pipeline.
//!
//! A round: missed turns, probes, rules in the order of the file and their instances by label,
//! composites, meta-alerts; then who is told (`notify`), then what is done (`act`). Everything else
//! is taken in at once and acts where it must.

use crate::alert::{Alert, Ended, Standing, Started, Timing};
use crate::effect::{Effects, Event, Happening};
use crate::input::{
    ActionReport, Command, CommandKind, Condition, Observation, ProbeRun, Round, RuleRound, Seen,
};
use crate::model::{
    Fingerprint, Instance, Labels, Moment, NotifierId, Now, PerSeverity, ProcedureId, RuleId,
    Severities, Severity,
};
use crate::outbox::Subject;
use crate::policy::{OnMissing, Operator, Policy, RulePolicy, RuleSource};
use crate::state::{ProbeState, RuleState, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Failures of a rule in a row until its meta-alert.
const RULE_FAILURES: u32 = 3;

/// `stale_after` is this many intervals unless configured.
const STALE_INTERVALS: f64 = 2.5;

/// The least default of `stale_after`.
const STALE_MIN: Duration = Duration::from_secs(10);

/// Names of the meta-alerts that the engine raises itself.
pub(crate) mod meta {
    pub(crate) const PROBE_FAILING: &str = "watchfire_probe_failing";
    pub(crate) const RULE_FAILING: &str = "watchfire_rule_failing";
    pub(crate) const DEAD_LETTER: &str = "watchfire_dead_letter";
    pub(crate) const CARDINALITY: &str = "watchfire_cardinality";
}

/// What changed and has to be written.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) alerts: BTreeSet<(RuleId, Fingerprint)>,
    pub(crate) slots: BTreeSet<(NotifierId, Subject)>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) ledgers: BTreeSet<(ProcedureId, Fingerprint)>,
    pub(crate) silences: BTreeSet<Arc<str>>,
    /// Rules whose last round is to be remembered.
    pub(crate) rounds: BTreeSet<RuleId>,
    pub(crate) engine: bool,
}

/// One step under way.
pub(crate) struct Turn<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) policy: &'a Policy,
    pub(crate) now: Now,
    pub(crate) effects: Effects,
    pub(crate) dirty: Dirty,
    /// Escalation of the severity in this step, which clears an acknowledgement.
    pub(crate) in_round: bool,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(state: &'a mut State, policy: &'a Policy, now: Now) -> Self {
        state.last = now.at;
        Turn {
            state,
            policy,
            now,
            effects: Effects::default(),
            dirty: Dirty::default(),
            in_round: false,
        }
    }

    /// Hands out what is due, and writes down what changed.
    pub(crate) fn finish(mut self) -> Effects {
        self.dispatch();
        self.forget();
        self.write();
        self.effects
    }

    pub(crate) fn round(&mut self, round: Round) {
        self.in_round = true;
        if round.missed > 0 {
            self.event(
                None,
                Happening::Missed {
                    rounds: round.missed,
                },
            );
        }
        for run in &round.probes {
            self.probe(run);
        }
        for rule in round.rules {
            self.judge(rule);
        }
        self.composites();
        self.failing_probes(&round.probes);
        self.notify_all();
        self.act_all();
    }

    pub(crate) fn timer(&mut self) {
        self.flush_due();
    }

    /// After a suspend unobserved time counts for nothing, and graces begin anew.
    pub(crate) fn resumed(&mut self) {
        self.begin_anew();
        self.event(None, Happening::Back { from: "resume" });
    }

    pub(crate) fn begin_anew(&mut self) {
        self.state.boot = self.now.at;
        for probe in self.state.probes.values_mut() {
            probe.good = self.now.at;
        }
        for rule in self.state.rules.values_mut() {
            rule.fresh = true;
        }
    }

    pub(crate) fn condition(&mut self, condition: Condition) {
        let Condition {
            alert,
            severity,
            active,
            summary,
        } = condition;
        self.meta(&alert, severity, active, Some(&summary));
    }

    /// A new policy: rules that are gone resolve at once, cardinality is counted anew.
    pub(crate) fn reload(&mut self) {
        let known: BTreeSet<&RuleId> = self.policy.rules.iter().map(|rule| &rule.id).collect();
        let gone: Vec<RuleId> = self
            .state
            .rules
            .iter()
            .filter(|(id, _)| !known.contains(id) && !id.as_str().starts_with("watchfire_"))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.remove_rule(&id);
        }
        self.end_meta(meta::CARDINALITY);
        let probes_of_failing: Vec<Arc<Instance>> = self.metas_of_removed_rules(&known);
        for instance in probes_of_failing {
            self.meta(&instance, Severity::Warning, false, None);
        }
        let procedures: BTreeSet<&ProcedureId> = self
            .policy
            .procedures
            .iter()
            .map(|procedure| &procedure.id)
            .collect();
        let dropped: Vec<(ProcedureId, Fingerprint)> = self
            .state
            .ledgers
            .keys()
            .filter(|(procedure, _)| !procedures.contains(procedure))
            .cloned()
            .collect();
        for key in dropped {
            // What runs ends by itself; its report finds nothing and is dropped.
            self.state.ledgers.remove(&key);
            self.dirty.ledgers.insert(key);
        }
    }

    fn metas_of_removed_rules(&self, known: &BTreeSet<&RuleId>) -> Vec<Arc<Instance>> {
        let failing = self.state.rules.get(&RuleId::new(meta::RULE_FAILING));
        let alerts = failing.into_iter().flat_map(|rule| rule.alerts.values());
        alerts
            .filter(|alert| {
                let rule = alert.instance.labels.get("rule").map(RuleId::new);
                rule.is_none_or(|rule| !known.contains(&rule))
            })
            .map(|alert| alert.instance.clone())
            .collect()
    }

    fn remove_rule(&mut self, id: &RuleId) {
        let alerts: Vec<Fingerprint> = self.state.rules[id].live.values().copied().collect();
        for fingerprint in alerts {
            self.change(id, &fingerprint, "rule_removed", |alert| {
                alert.silence_machines()
            });
            self.notify_one(id, &fingerprint);
        }
        if let Some(rule) = self.state.rules.get_mut(id) {
            let live: BTreeSet<Fingerprint> = rule.live.values().copied().collect();
            rule.alerts
                .retain(|fingerprint, _| live.contains(fingerprint));
        }
    }

    fn probe(&mut self, run: &ProbeRun) {
        let boot = self.state.boot;
        let now = self.now.at;
        let probe = self
            .state
            .probes
            .entry(run.probe.clone())
            .or_insert(ProbeState {
                every: run.every,
                good: boot,
                error: None,
            });
        probe.every = run.every;
        match &run.result {
            Ok(()) => {
                probe.good = now;
                probe.error = None;
            }
            Err(error) => probe.error = Some(error.clone()),
        }
    }

    /// `watchfire_probe_failing` turns on with age, and off with a success alone.
    fn failing_probes(&mut self, runs: &[ProbeRun]) {
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

    pub(crate) fn stale_after(&self, every: Duration) -> Duration {
        let default = || every.mul_f64(STALE_INTERVALS).max(STALE_MIN);
        self.policy.alerting.stale_after.unwrap_or_else(default)
    }

    fn judge(&mut self, round: RuleRound) {
        let policy = self.policy;
        let Some(rule) = policy.rules.iter().find(|rule| rule.id == round.rule) else {
            return;
        };
        let stale_after = self.stale_after(round.every);
        self.state.stale_after.insert(rule.id.clone(), stale_after);
        let boot = self.state.boot;
        let state = self
            .state
            .rules
            .entry(rule.id.clone())
            .or_insert_with(|| RuleState {
                fresh: boot == self.now.at,
                ..RuleState::default()
            });
        let failing = meta_instance(meta::RULE_FAILING, "rule", rule.id.as_str());
        match round.result {
            Err(error) => {
                state.failures += 1;
                if state.failures >= RULE_FAILURES {
                    self.meta(&failing, Severity::Warning, true, Some(&error));
                }
            }
            Ok(observations) => {
                state.failures = 0;
                self.meta(&failing, Severity::Warning, false, None);
                let timing = Timing::of_rule(
                    rule,
                    self.now.at,
                    self.state.born,
                    stale_after,
                    policy.alerting.outage_tolerance,
                );
                self.absent_rule(rule, &observations, &timing);
                for observation in observations {
                    self.observe(rule, observation, &timing);
                }
                if let Some(state) = self.state.rules.get_mut(&rule.id) {
                    state.fresh = false;
                    state.observed = Some(self.now.at);
                    if !state.live.is_empty() {
                        self.dirty.rounds.insert(rule.id.clone());
                    }
                }
            }
        }
    }

    /// A dead-man rule of which no series was ever seen stands for itself.
    fn absent_rule(&mut self, rule: &RulePolicy, observations: &[Observation], timing: &Timing) {
        let Some(absent) = rule.absent else { return };
        let itself = Arc::new(Instance::new(rule.id.clone(), Labels::default()));
        let known = self.state.alert(&rule.id, &itself.fingerprint).is_some();
        let fresh = self
            .state
            .rules
            .get(&rule.id)
            .is_some_and(|state| state.fresh);
        let nothing = observations.iter().all(|o| o.seen != Seen::Value);
        let others = self
            .state
            .rules
            .get(&rule.id)
            .is_some_and(|state| state.alerts.keys().any(|f| *f != itself.fingerprint));
        let mentioned = observations
            .iter()
            .any(|o| o.instance.fingerprint == itself.fingerprint);
        if mentioned || fresh {
            return;
        }
        let late = self.now.at.since(self.state.boot) > absent;
        if nothing && !others && late {
            self.admit(rule, &itself);
            let breached = [rule.severity].into_iter().collect();
            self.see(rule, &itself.fingerprint, breached, timing);
        } else if known && !nothing {
            self.see(rule, &itself.fingerprint, Severities::NONE, timing);
        }
    }

    /// One instance in one round. The first lines are all that a healthy one costs.
    fn observe(&mut self, rule: &RulePolicy, observation: Observation, timing: &Timing) {
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return;
        };
        let fingerprint = observation.instance.fingerprint;
        let healthy = observation.seen == Seen::Value
            && observation.breached == Some(Severities::NONE)
            && observation.memory.is_none()
            && rule.at_least.is_none();
        match state.alerts.get_mut(&fingerprint) {
            Some(alert) if healthy && alert.is_quiet() && alert.more.is_none() => {
                alert.observed = Some(timing.now);
                alert.absences = 0;
                return;
            }
            Some(_) => {}
            None => {
                if !self.admit(rule, &observation.instance) {
                    return;
                }
            }
        }
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return;
        };
        let fresh = state.fresh;
        let Some(alert) = state.alerts.get_mut(&fingerprint) else {
            return;
        };
        if let Some(memory) = observation.memory {
            alert.more().memory = Some(memory);
            self.dirty.alerts.insert((rule.id.clone(), fingerprint));
        }
        let known = |value: f64| (!value.is_nan()).then_some(value);
        let unseen = observation.seen != Seen::Value || observation.breached.is_none();
        if unseen != alert.more.as_ref().is_some_and(|more| more.lagging) && !alert.is_quiet() {
            alert.more().lagging = unseen;
            self.dirty.alerts.insert((rule.id.clone(), fingerprint));
        }
        match observation.seen {
            Seen::Unknown => alert.absences = 0,
            Seen::Value => {
                alert.absences = 0;
                let Some(breached) = observation.breached else {
                    return;
                };
                if !breached.is_empty() || !alert.is_quiet() {
                    let more = alert.more();
                    more.value = known(observation.value);
                    more.limit = known(observation.limit);
                    more.note = observation.note;
                    more.added = rule.labels.clone();
                }
                self.see(rule, &fingerprint, breached, timing);
            }
            Seen::Absent if fresh => {}
            Seen::Absent => self.absent(rule, &fingerprint, timing),
        }
    }

    /// The probe answered, and the series is not in its answer.
    fn absent(&mut self, rule: &RulePolicy, fingerprint: &Fingerprint, timing: &Timing) {
        let boot = self.state.boot;
        let gone_after = self.policy.alerting.gone_after;
        let Some(alert) = self.state.alert_mut(&rule.id, fingerprint) else {
            return;
        };
        if let Some(absent) = rule.absent {
            let since = alert.observed.unwrap_or(boot);
            if timing.now.since(since) > absent {
                let breached: Severities = [rule.severity].into_iter().collect();
                let observed = alert.observed;
                self.see(rule, fingerprint, breached, timing);
                // Absence is no observation: the dead-man counts on.
                if let Some(alert) = self.state.alert_mut(&rule.id, fingerprint) {
                    alert.observed = observed;
                }
            }
            return;
        }
        match rule.on_missing {
            OnMissing::Ok => self.see(rule, fingerprint, Severities::NONE, timing),
            OnMissing::Breach => {
                let breached = [rule.severity].into_iter().collect();
                self.see(rule, fingerprint, breached, timing);
            }
            OnMissing::Keep => {
                alert.absences += 1;
                if alert.absences >= gone_after {
                    alert.absences = 0;
                    self.change(&rule.id, fingerprint, "gone", |alert| {
                        alert.silence_machines();
                        alert.observed = None;
                        if let Some(more) = &mut alert.more {
                            more.buckets = crate::buckets::Buckets::default();
                        }
                    });
                    self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
                    if let Some(state) = self.state.rules.get_mut(&rule.id)
                        && state
                            .alerts
                            .get(fingerprint)
                            .is_some_and(|alert| alert.more.is_none())
                    {
                        state.alerts.remove(fingerprint);
                    }
                }
            }
        }
    }

    /// Takes a new instance in, unless the rule has too many.
    fn admit(&mut self, rule: &RulePolicy, instance: &Arc<Instance>) -> bool {
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return false;
        };
        if state.alerts.contains_key(&instance.fingerprint) {
            return true;
        }
        if state.alerts.len() >= rule.max_instances {
            let full = meta_instance(meta::CARDINALITY, "rule", rule.id.as_str());
            let words = format!(
                "rule {:?} has {} instances: further ones are not judged; narrow its match, or raise max_instances",
                rule.id.as_str(),
                rule.max_instances
            );
            self.meta(&full, Severity::Warning, true, Some(&words.into()));
            return false;
        }
        state
            .alerts
            .insert(instance.fingerprint, Alert::new(instance.clone()));
        true
    }

    /// One known observation of an instance that exists.
    fn see(
        &mut self,
        rule: &RulePolicy,
        fingerprint: &Fingerprint,
        breached: Severities,
        timing: &Timing,
    ) {
        self.change(&rule.id, fingerprint, "threshold", |alert| {
            alert.observe(breached, timing)
        });
    }

    /// Changes an alert's machines and draws the consequences: episode, history, flapping, acknowledgement.
    fn change(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        cause: &'static str,
        how: impl FnOnce(&mut Alert),
    ) {
        let now = self.now;
        let stale_after = self
            .state
            .stale_after
            .get(rule)
            .copied()
            .unwrap_or(Duration::MAX);
        let Some(state) = self.state.rules.get_mut(rule) else {
            return;
        };
        let Some(alert) = state.alerts.get_mut(fingerprint) else {
            return;
        };
        let was_stale = !alert.is_quiet() && alert.is_stale(now.at, stale_after);
        let before = alert.standing();
        let phases = alert.phases;
        how(alert);
        let after = alert.standing();
        if alert.phases != phases || was_stale {
            self.dirty.alerts.insert((rule.clone(), *fingerprint));
        }
        if !alert.is_quiet() {
            state
                .live
                .insert(alert.instance.labels.clone(), *fingerprint);
        }
        if before == after {
            return;
        }
        let more = alert.more();
        more.since = now.wall;
        let firing = (before.severity().is_some(), after.severity().is_some());
        match firing {
            (false, true) => {
                more.episode += 1;
                more.started = Some(Started {
                    at: now.at,
                    wall: now.wall,
                });
                more.ended = None;
                more.acknowledged_by = None;
            }
            (true, false) => {
                more.ended = Some(Ended {
                    wall: now.wall,
                    cause: (cause != "threshold" && cause != "meta").then(|| cause.to_owned()),
                });
                more.severity = before.severity();
                more.acknowledged_by = None;
            }
            _ => {}
        }
        if after.severity() > before.severity() {
            more.acknowledged_by = None;
        }
        if after.severity().is_some() {
            more.severity = after.severity();
        }
        if firing.0 != firing.1 && !more.meta && self.policy.alerting.flapping.is_some() {
            alert.flap(now.at);
        }
        let value = alert.more.as_ref().and_then(|more| more.value);
        if firing == (true, false) {
            self.resolve_ledgers(fingerprint);
        }
        let suppressed_by = self.mutes(rule, fingerprint).first().cloned();
        let stale = if was_stale { "+stale" } else { "" };
        self.event(
            Some((rule, fingerprint)),
            Happening::Transition {
                from: format!("{}{stale}", before.name()),
                to: after.name(),
                value,
                cause,
                suppressed_by,
            },
        );
    }

    fn resolve_ledgers(&mut self, fingerprint: &Fingerprint) {
        for (key, ledger) in &mut self.state.ledgers {
            if key.1 == *fingerprint {
                ledger.resolve();
                self.dirty.ledgers.insert(key.clone());
            }
        }
    }

    /// Composites, after their children, in the order of the file; one may stand on another above it.
    fn composites(&mut self) {
        let policy = self.policy;
        for rule in &policy.rules {
            let RuleSource::Composite { operator, rules } = &rule.source else {
                continue;
            };
            let children = rules.iter().map(|child| self.certainty(child));
            let verdict = combine(*operator, children);
            let instance = Arc::new(Instance::new(rule.id.clone(), Labels::default()));
            self.state.rules.entry(rule.id.clone()).or_default();
            if !self.admit(rule, &instance) {
                continue;
            }
            let Some(verdict) = verdict else { continue };
            let every = self.state.probes.values().map(|probe| probe.every).max();
            let stale_after = self.stale_after(every.unwrap_or_default());
            self.state.stale_after.insert(rule.id.clone(), stale_after);
            let tolerance = policy.alerting.outage_tolerance;
            let timing =
                Timing::of_rule(rule, self.now.at, self.state.born, stale_after, tolerance);
            let breached = if verdict {
                [rule.severity].into_iter().collect()
            } else {
                Severities::NONE
            };
            if let Some(alert) = self.state.alert_mut(&rule.id, &instance.fingerprint)
                && verdict
            {
                alert.more().added = rule.labels.clone();
            }
            self.see(rule, &instance.fingerprint, breached, &timing);
        }
    }

    /// Whether any alert of the rule fires: yes, no, or not known because it is stale.
    fn certainty(&self, rule: &RuleId) -> Option<bool> {
        let Some(state) = self.state.rules.get(rule) else {
            return Some(false);
        };
        let stale_after = self
            .state
            .stale_after
            .get(rule)
            .copied()
            .unwrap_or(Duration::MAX);
        let mut known = true;
        for fingerprint in state.live.values() {
            let Some(alert) = state.alerts.get(fingerprint) else {
                continue;
            };
            let stale = alert.is_stale(self.now.at, stale_after);
            match alert.standing().severity() {
                Some(_) if !stale => return Some(true),
                Some(_) => known = false,
                None if !alert.is_quiet() && stale => known = false,
                None => {}
            }
        }
        known.then_some(false)
    }

    /// Turns a meta-alert on or off. It goes out at once.
    pub(crate) fn meta(
        &mut self,
        instance: &Arc<Instance>,
        severity: Severity,
        active: bool,
        summary: Option<&Arc<str>>,
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
            keep: PerSeverity::all(self.policy.alerting.meta_keep),
            at_least: None,
        };
        let breached = if active {
            [severity].into_iter().collect()
        } else {
            Severities::NONE
        };
        self.change(rule, &instance.fingerprint, "meta", |alert| {
            alert.observe(breached, &timing)
        });
        if !self.in_round {
            self.notify_one(rule, &instance.fingerprint);
        }
    }

    /// Recovering meta-alerts end with time; every round looks.
    pub(crate) fn settle_metas(&mut self) {
        let metas: Vec<(Arc<Instance>, Severity)> = self
            .state
            .rules
            .iter()
            .filter(|(id, _)| id.as_str().starts_with("watchfire_"))
            .flat_map(|(_, rule)| rule.live.values().filter_map(|f| rule.alerts.get(f)))
            .filter_map(|alert| match alert.standing() {
                Standing::Recovering(severity) => Some((alert.instance.clone(), severity)),
                _ => None,
            })
            .collect();
        for (instance, severity) in metas {
            self.meta(&instance, severity, false, None);
        }
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

    pub(crate) fn command(&mut self, command: Command) {
        let Command { by, what } = command;
        let did = match what {
            CommandKind::Acknowledge { alert } => self.acknowledge(&alert, &by),
            CommandKind::Silence(silence) => {
                let did = format!("silence {}: {}", silence.id, silence.reason);
                self.dirty.silences.insert(silence.id.clone());
                self.state.silences.insert(silence.id.clone(), silence);
                did
            }
            CommandKind::Unsilence { id } => {
                self.state.silences.remove(&id);
                self.dirty.silences.insert(id.clone());
                format!("ended silence {id}")
            }
            CommandKind::Pause => {
                self.state.paused = true;
                self.dirty.engine = true;
                "paused recovery".to_owned()
            }
            CommandKind::Resume => {
                self.state.paused = false;
                self.dirty.engine = true;
                "resumed recovery".to_owned()
            }
            CommandKind::Approve { procedure } => {
                self.ledgers_of(&procedure, |ledger| {
                    ledger.approved |= ledger.waits;
                    ledger.waits = false;
                });
                format!("approved {procedure}")
            }
            CommandKind::Reset { procedure } => {
                self.ledgers_of(&procedure, |ledger| {
                    ledger.exhausted = false;
                    ledger.starts.clear();
                });
                format!("reset {procedure}")
            }
        };
        self.event(
            None,
            Happening::Operator {
                by: by.to_string(),
                did,
            },
        );
    }

    fn acknowledge(&mut self, alert: &Fingerprint, by: &Arc<str>) -> String {
        let found = self.state.rules.iter().find_map(|(id, rule)| {
            let alert = rule.alerts.get(alert)?;
            Some((id.clone(), alert.instance.to_string()))
        });
        let Some((rule, name)) = found else {
            return format!("acknowledged {alert}, which is not there");
        };
        if let Some(found) = self.state.alert_mut(&rule, alert)
            && found.standing().severity().is_some()
        {
            found.more().acknowledged_by = Some(by.clone());
            self.dirty.alerts.insert((rule, *alert));
        }
        format!("acknowledged {name}")
    }

    fn ledgers_of(
        &mut self,
        procedure: &ProcedureId,
        mut change: impl FnMut(&mut crate::recovery::Ledger),
    ) {
        for (key, ledger) in &mut self.state.ledgers {
            if key.0 == *procedure {
                change(ledger);
                self.dirty.ledgers.insert(key.clone());
            }
        }
    }

    pub(crate) fn action(&mut self, report: ActionReport) {
        self.action_ended(report);
    }

    pub(crate) fn event(&mut self, alert: Option<(&RuleId, &Fingerprint)>, what: Happening) {
        let found = alert.and_then(|(rule, fingerprint)| self.state.alert(rule, fingerprint));
        self.effects.events.push(Event {
            at: self.now.at,
            wall: self.now.wall,
            alert: found
                .map(|alert| alert.instance.to_string())
                .unwrap_or_default(),
            fingerprint: found.map(|alert| alert.instance.fingerprint),
            episode: found
                .and_then(|alert| alert.more.as_ref())
                .map_or(0, |more| more.episode),
            what,
        });
    }

    /// Alerts that are quiet and told leave the list of those looked at.
    fn forget(&mut self) {
        let mut emptied = Vec::new();
        for (id, rule) in &mut self.state.rules {
            if rule.live.is_empty() {
                continue;
            }
            let waits: BTreeMap<Labels, Fingerprint> = std::mem::take(&mut rule.live);
            for (labels, fingerprint) in waits {
                match rule.alerts.get(&fingerprint) {
                    Some(alert) if alert.is_forgettable() => {
                        emptied.push((id.clone(), fingerprint))
                    }
                    Some(_) => {
                        rule.live.insert(labels, fingerprint);
                    }
                    None => {}
                }
            }
        }
        for (id, fingerprint) in emptied {
            let under_way = self.state.outbox.keys().any(
                |(_, subject)| matches!(subject, Subject::Alert(alert) if *alert == fingerprint),
            );
            let Some(rule) = self.state.rules.get_mut(&id) else {
                continue;
            };
            let Some(alert) = rule.alerts.get_mut(&fingerprint) else {
                continue;
            };
            if under_way {
                let labels = alert.instance.labels.clone();
                rule.live.insert(labels, fingerprint);
                continue;
            }
            // The episode counter and the sequence stay with the instance while the process lives;
            // ids of a later episode differ by its start in any case.
            let known = self.policy.rules.iter().any(|rule| rule.id == id);
            if alert.observed.is_none() || !known {
                rule.alerts.remove(&fingerprint);
            } else if let Some(more) = &mut alert.more {
                more.told.clear();
                more.muted_by.clear();
            }
            self.dirty.alerts.insert((id, fingerprint));
        }
    }
}

/// A meta-alert with one label.
pub(crate) fn meta_instance(name: &str, label: &str, value: &str) -> Arc<Instance> {
    let labels = Labels::new([(label, value)]).unwrap_or_default();
    Arc::new(Instance::new(RuleId::new(name), labels))
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

/// Whether a moment has come.
pub(crate) fn is_due(due: Option<Moment>, now: Moment) -> bool {
    due.is_some_and(|due| due <= now)
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
