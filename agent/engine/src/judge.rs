//! Judging: what probes and rules said in one round, and what becomes of each alert.

use crate::alert::{Alert, Ended, Started, Timing};
use crate::buckets::{self, Buckets};
use crate::effect::Happening;
use crate::input::{Observation, ProbeRun, RuleRound, Seen};
use crate::metas::{is_meta, meta, meta_instance};
use crate::model::{Fingerprint, Instance, Moment, RuleId, Severities, Severity};
use crate::policy::{OnMissing, RulePolicy};
use crate::state::{ProbeState, RuleState};
use crate::turn::Turn;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Failures of a rule in a row until its meta-alert.
const RULE_FAILURES: u32 = 3;

/// `stale_after` is this many intervals unless configured.
const STALE_INTERVALS: f64 = 2.5;

/// The least default of `stale_after`.
const STALE_MIN: Duration = Duration::from_secs(10);

/// A rule's memory that changed is written this often, and with every transition (decisions.md 22).
const MEMORY_EVERY: Duration = Duration::from_secs(60);

/// When a dead-man rule was last judged is written in each of its rounds, so that a kill takes nothing from what it counts. One
/// that waits for longer than this can be a minute wrong, a tenth at most, and is written once a minute.
const COARSE_FROM: Duration = Duration::from_secs(600);

impl RuleState {
    /// Whether newcomers may be refused: then each of its instances has a row, a healthy one too.
    pub(crate) fn is_full(&self, rule: &RulePolicy) -> bool {
        self.alerts.len() >= rule.max_instances
    }

    /// Whether healthy instances have rows, too: what is missed of them is written like that of others.
    fn has_all_rows(&self, rule: &RulePolicy, kept_whole: &BTreeSet<RuleId>) -> bool {
        rule.at_least.is_some() || kept_whole.contains(&rule.id) || self.is_full(rule)
    }

    /// Whether the instance is one of those that count. One that is gone may still be remembered.
    fn has_place(&self, fingerprint: &Fingerprint) -> bool {
        let alert = self.alerts.get(fingerprint);
        alert.is_some_and(|alert| !alert.is_gone())
    }

    /// It was observed since the restart.
    fn meet(&mut self, fingerprint: &Fingerprint) {
        if !self.unmet.is_empty() {
            self.unmet.remove(fingerprint);
        }
    }

    /// A healthy observation of a healthy instance: one look-up is all that it costs. False: it needs more.
    fn passes(&mut self, observation: &Observation, now: Moment) -> bool {
        let healthy = observation.seen == Seen::Value
            && observation.breached == Some(Severities::NONE)
            && observation.memory.is_none();
        if !healthy {
            return false;
        }
        match self.alerts.get_mut(&observation.instance.fingerprint) {
            Some(alert) if alert.is_quiet() && alert.observed.is_some() && alert.absences == 0 => {
                alert.observed = Some(now);
                self.meet(&observation.instance.fingerprint);
                true
            }
            _ => false,
        }
    }
}

impl Turn<'_> {
    pub(crate) fn probe(&mut self, run: &ProbeRun) {
        let boot = self.state.boot;
        let now = self.now.at;
        let probes = &mut self.state.probes;
        let probe = probes.entry(run.probe.clone()).or_insert(ProbeState {
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

    pub(crate) fn stale_after(&self, every: Duration) -> Duration {
        let default = || every.mul_f64(STALE_INTERVALS).max(STALE_MIN);
        self.policy.alerting.stale_after.unwrap_or_else(default)
    }

    /// `stale_after` of a rule that was judged; before its first round as configured, if it is; endless for
    /// meta-alerts.
    pub(crate) fn stale_after_of(&self, rule: &RuleId) -> Duration {
        let known = self.state.stale_after.get(rule).copied();
        let configured = || {
            let ours = !is_meta(rule) && !self.state.is_external(rule);
            self.policy.alerting.stale_after.filter(|_| ours)
        };
        known.or_else(configured).unwrap_or(Duration::MAX)
    }

    pub(crate) fn judge(&mut self, round: RuleRound) {
        let policy = self.policy;
        let Some(rule) = policy.rules.iter().find(|rule| rule.id == round.rule) else {
            return;
        };
        let stale_after = self.stale_after(round.every);
        self.state.stale_after.insert(rule.id.clone(), stale_after);
        let state = self.state.rules.entry(rule.id.clone()).or_default();
        let failing = meta_instance(meta::RULE_FAILING, "rule", rule.id.as_str());
        let observations = match round.result {
            Err(error) => {
                state.failures += 1;
                // It was collected, if not judged: the first round is over.
                state.fresh = false;
                if state.failures >= RULE_FAILURES {
                    self.meta(&failing, Severity::Warning, true, Some(&error));
                }
                self.interrupt_all_absences(rule);
                return;
            }
            Ok(observations) => observations,
        };
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
        self.former_dead_man(rule, &observations, &timing);
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return;
        };
        let plain = rule.at_least.is_none();
        let mut rest = observations;
        rest.retain(|observation| !(plain && state.passes(observation, timing.now)));
        for observation in rest {
            self.observe(rule, observation, &timing);
        }
        self.close_round(rule);
    }

    /// Remembers when the rule was judged, which of its alerts were not, and its memory now and then.
    pub(crate) fn close_round(&mut self, rule: &RulePolicy) {
        let now = self.now.at;
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return;
        };
        state.fresh = false;
        if let Some(at_least) = rule.at_least {
            let bucket = |at| buckets::index(at_least, self.state.born, at);
            if state.observed.is_none_or(|last| bucket(last) < bucket(now)) {
                self.dirty.rounds.insert(rule.id.clone());
            }
            for (fingerprint, alert) in &mut state.alerts {
                let unseen = alert.observed != Some(now);
                if let Some(more) = alert.more.as_mut().filter(|_| unseen)
                    && more.buckets.pass(at_least, self.state.born, now)
                {
                    self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
                }
            }
        }
        if let Some(absent) = rule.absent {
            let exact = absent < COARSE_FROM;
            let old = state.written.is_none_or(|at| now.since(at) >= MEMORY_EVERY);
            if exact || old {
                state.written = Some(now);
                self.dirty.rounds.insert(rule.id.clone());
            }
        }
        state.observed = Some(now);
        let alerts = &state.alerts;
        state.unmet.retain(|f| alerts.contains_key(f));
        for fingerprint in state.live.values() {
            let Some(alert) = state.alerts.get_mut(fingerprint) else {
                continue;
            };
            if alert.is_quiet() {
                continue;
            }
            self.dirty.rounds.insert(rule.id.clone());
            let lagging = alert.observed != Some(now);
            let more = alert.more();
            if more.lagging != lagging {
                more.lagging = lagging;
                self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
            }
        }
        let old = state
            .saved
            .is_none_or(|saved| now.since(saved) >= MEMORY_EVERY);
        if old && !state.unsaved.is_empty() {
            state.saved = Some(now);
            let unsaved = std::mem::take(&mut state.unsaved);
            let named = unsaved.into_iter().map(|f| (rule.id.clone(), f));
            self.dirty.alerts.extend(named);
        }
        if self.state.kept_whole.contains(&rule.id) && self.dirty.rounds.contains(&rule.id) {
            self.note_lagging(&rule.id);
        }
    }

    /// One instance in one round.
    fn observe(&mut self, rule: &RulePolicy, observation: Observation, timing: &Timing) {
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return;
        };
        let fresh = state.fresh;
        let fingerprint = observation.instance.fingerprint;
        if !state.has_place(&fingerprint) {
            // What was never there cannot be missed, unless the rule is about that.
            let speaks = match observation.seen {
                Seen::Value => true,
                Seen::Absent => rule.absent.is_some() || rule.on_missing == OnMissing::Breach,
                Seen::Unknown => false,
            };
            if !speaks || !self.admit(rule, &observation.instance) {
                return;
            }
        }
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return;
        };
        let Some(alert) = state.alerts.get_mut(&fingerprint) else {
            return;
        };
        // Who yields its series may have changed. What says the same stays as it is: of a storm's blocks of memory
        // none shall be kept for long.
        if alert.instance.probes != observation.instance.probes {
            alert.instance = observation.instance;
        }
        if observation.memory.is_some() && observation.memory != alert.memory {
            alert.memory = observation.memory;
            state.unsaved.insert(fingerprint);
        }
        match observation.seen {
            Seen::Unknown => self.interrupt_absences(rule, &fingerprint),
            Seen::Value => {
                self.interrupt_absences(rule, &fingerprint);
                let Some(breached) = observation.breached else {
                    return;
                };
                let Some(alert) = self.state.alert_mut(&rule.id, &fingerprint) else {
                    return;
                };
                if !breached.is_empty() || !alert.is_quiet() {
                    let known = |value: f64| (!value.is_nan()).then_some(value);
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

    /// A verdict that is missing says of no series that it is absent.
    fn interrupt_all_absences(&mut self, rule: &RulePolicy) {
        let Some(state) = self.state.rules.get(&rule.id) else {
            return;
        };
        let counting = state.alerts.iter().filter(|(_, alert)| alert.absences > 0);
        let counting: Vec<Fingerprint> = counting.map(|(fingerprint, _)| *fingerprint).collect();
        for fingerprint in counting {
            self.interrupt_absences(rule, &fingerprint);
        }
    }

    /// Only absences in a row count.
    pub(crate) fn interrupt_absences(&mut self, rule: &RulePolicy, fingerprint: &Fingerprint) {
        let Some(alert) = self.state.alert_mut(&rule.id, fingerprint) else {
            return;
        };
        if alert.absences > 0 {
            alert.absences = 0;
            let quiet = alert.is_quiet();
            let state = self.state.rules.get(&rule.id);
            let has_row = |state: &RuleState| state.has_all_rows(rule, &self.state.kept_whole);
            if !quiet || state.is_some_and(has_row) {
                self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
            }
        }
    }

    /// The probe answered, and the series is not in its answer.
    pub(crate) fn absent(&mut self, rule: &RulePolicy, fingerprint: &Fingerprint, timing: &Timing) {
        let born = self.state.born;
        let gone_after = self.policy.alerting.gone_after;
        let Some(alert) = self.state.alert_mut(&rule.id, fingerprint) else {
            return;
        };
        if let Some(absent) = rule.absent {
            let since = alert.observed.unwrap_or(born);
            alert.absences = alert.absences.saturating_add(1);
            if alert.absences == 1 {
                // Written once, so that a restart while it is absent knows since when.
                let labels = alert.instance.labels.clone();
                self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
                if let Some(state) = self.state.rules.get_mut(&rule.id) {
                    state.live.insert(labels, *fingerprint);
                }
            }
            if timing.now.since(since) > absent {
                self.dead_man(rule, fingerprint, timing);
            }
            return;
        }
        match rule.on_missing {
            OnMissing::Ok => self.see(rule, fingerprint, Severities::NONE, timing),
            OnMissing::Breach => {
                let breached = rule.missing;
                let alert = alert.more();
                (alert.value, alert.limit, alert.note) = (None, None, None);
                alert.added = rule.labels.clone();
                self.see(rule, fingerprint, breached, timing);
            }
            OnMissing::Keep => {
                alert.absences += 1;
                let gone = alert.absences >= gone_after;
                let quiet = alert.is_quiet();
                let state = self.state.rules.get(&rule.id);
                let has_row = |state: &RuleState| state.has_all_rows(rule, &self.state.kept_whole);
                let counts = !quiet || gone || state.is_some_and(has_row);
                if gone {
                    self.change(&rule.id, fingerprint, "gone", |alert| {
                        alert.silence_machines();
                        alert.absences = 0;
                        alert.observed = None;
                        alert.memory = None;
                        if let Some(more) = &mut alert.more {
                            more.buckets = Buckets::default();
                        }
                    });
                    self.drop_gone(&rule.id, fingerprint);
                }
                if counts {
                    self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
                }
            }
        }
    }

    /// What is gone frees its place; what it still has to say, or to remember of flapping, keeps it in view.
    fn drop_gone(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let Some(state) = self.state.rules.get_mut(rule) else {
            return;
        };
        // What is said of it may be under way yet, and the fallback may have to be told.
        let over = |alert: &Alert| {
            let mut told = alert.more.iter().flat_map(|more| &more.told);
            alert.is_idle() && told.next().is_none()
        };
        if state.alerts.get(fingerprint).is_some_and(over) {
            if let Some(alert) = state.alerts.remove(fingerprint) {
                state.live.remove(&alert.instance.labels);
            }
            state.unsaved.remove(fingerprint);
        } else if let Some(alert) = state.alerts.get(fingerprint) {
            state
                .live
                .insert(alert.instance.labels.clone(), *fingerprint);
        }
    }

    /// Takes a new instance in, unless the rule has too many.
    pub(crate) fn admit(&mut self, rule: &RulePolicy, instance: &Arc<Instance>) -> bool {
        let Some(state) = self.state.rules.get_mut(&rule.id) else {
            return false;
        };
        if state.has_place(&instance.fingerprint) {
            return true;
        }
        // Those that are gone are all in the list of those looked at, and so is the one without labels by which
        // a dead-man rule said that nothing was ever seen: it takes no place from what is seen.
        let full = state.alerts.len() >= rule.max_instances && {
            let live = state.live.values().filter_map(|f| state.alerts.get(f));
            let placeless = live.filter(|alert| {
                let of_the_rule = rule.absent.is_some() && alert.instance.labels.is_empty();
                alert.is_gone() || of_the_rule
            });
            state.alerts.len() - placeless.count() >= rule.max_instances
        };
        if full {
            let full = meta_instance(meta::CARDINALITY, "rule", rule.id.as_str());
            let words = format!(
                "rule {:?} has {} instances: further ones are not judged; narrow its match, or raise max_instances",
                rule.id.as_str(),
                rule.max_instances
            );
            self.meta(&full, Severity::Warning, true, Some(&words.into()));
            return false;
        }
        // One that comes back finds what outlived it.
        state
            .alerts
            .entry(instance.fingerprint)
            .or_insert_with(|| Alert::new(instance.clone()));
        if state.is_full(rule) {
            // Who has a place keeps it over a restart.
            let all = state.alerts.keys().map(|f| (rule.id.clone(), *f));
            self.dirty.alerts.extend(all);
        } else if self.state.kept_whole.contains(&rule.id) {
            let new = (rule.id.clone(), instance.fingerprint);
            self.dirty.alerts.insert(new);
        }
        true
    }

    /// One known observation of an instance that exists.
    pub(crate) fn see(
        &mut self,
        rule: &RulePolicy,
        fingerprint: &Fingerprint,
        breached: Severities,
        timing: &Timing,
    ) {
        if let Some(state) = self.state.rules.get_mut(&rule.id) {
            state.meet(fingerprint);
        }
        let mut news = false;
        self.change(&rule.id, fingerprint, "threshold", |alert| {
            news = alert.observe(breached, timing);
        });
        // Verdicts outlive a restart, so that a bucket that was known is not held for unknown.
        if news
            && let Some(state) = self.state.rules.get_mut(&rule.id)
            && let Some(alert) = state.alerts.get(fingerprint)
        {
            if !alert.is_idle() {
                let labels = alert.instance.labels.clone();
                state.live.insert(labels, *fingerprint);
            }
            self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
        }
    }

    /// Changes an alert's machines and draws the consequences: episode, history, flapping, acknowledgement.
    pub(crate) fn change(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        cause: &'static str,
        how: impl FnOnce(&mut Alert),
    ) {
        let now = self.now;
        let stale_after = self.stale_after_of(rule);
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
        if alert.phases != phases {
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
        let firing = (before.severity().is_some(), after.severity().is_some());
        alert.counts.episode += u64::from(firing == (false, true));
        let more = alert.more();
        more.since = now.wall;
        match firing {
            (false, true) => {
                more.started = Some(Started {
                    at: now.at,
                    wall: now.wall,
                });
                more.ended = None;
                more.unacknowledge();
                // Whose group never said that the last episode was over knows of this one already:
                // what counts from the first delivery counts from here. Who is still to hear the end of
                // the last one has heard nothing of this one.
                for told in more.told.values_mut() {
                    let known = told.content.is_some() && told.first_delivered_at.is_some();
                    told.first_delivered_at = known.then_some(now.at);
                }
            }
            (true, false) => {
                more.ended = Some(Ended {
                    wall: now.wall,
                    cause: (cause != "threshold" && cause != "meta").then(|| cause.to_owned()),
                });
                more.severity = before.severity();
                more.unacknowledge();
            }
            _ => {}
        }
        if after.severity() > before.severity() {
            more.unacknowledge();
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
        let stale = if was_stale { "+stale" } else { "" };
        self.event(
            Some((rule, fingerprint)),
            Happening::Transition {
                from: format!("{}{stale}", before.name()),
                to: after.name(),
                value,
                cause,
                suppressed_by: None,
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
}
