//! What is done: recovery procedures, after everybody was told (alerting.md 1.6, decisions.md 14).

use crate::effect::{ActionStep, Happening, Reason, StartAttempt};
use crate::input::{ActionOutcome, ActionReport};
use crate::model::{Fingerprint, Moment, ProcedureId, RuleId};
use crate::mute::INHIBITED;
use crate::policy::{Mode, ProcedurePolicy};
use crate::recovery::{HOUR, Ledger, Plan, Scene};
use crate::turn::Turn;
use std::collections::BTreeSet;

impl Turn<'_> {
    /// The act part of a round: verification first, then new attempts, in the order of alerts.
    pub(crate) fn act_all(&mut self) {
        self.forget_ledgers();
        let policy = self.policy;
        if policy.procedures.is_empty() {
            return;
        }
        // Ledgers outlive the alert's live list: an ended attempt is verified on a healthy sample.
        let mut order: Vec<(RuleId, Fingerprint)> = self.live();
        let known: BTreeSet<(RuleId, Fingerprint)> = order.iter().cloned().collect();
        let ledgers = self.state.ledgers.values();
        let rest: BTreeSet<(RuleId, Fingerprint)> = ledgers
            .map(|ledger| (ledger.rule.clone(), ledger.alert))
            .filter(|named| !known.contains(named))
            .collect();
        order.extend(rest);
        for (rule, fingerprint) in order {
            for procedure in policy.procedures.iter().filter(|p| p.rules.contains(&rule)) {
                self.verify(procedure, &rule, &fingerprint);
                self.attempt(procedure, &rule, &fingerprint);
            }
        }
    }

    /// What was done for an alert that is no more, or by a procedure that was removed, counts until it is past.
    fn forget_ledgers(&mut self) {
        let procedures = &self.policy.procedures;
        let past = self.state.ledgers.iter().filter(|(key, ledger)| {
            let procedure = procedures.iter().find(|procedure| procedure.id == key.0);
            let alert = self.state.alert(&ledger.rule, &key.1);
            let window = procedure.map(|procedure| procedure.window);
            (procedure.is_none() || alert.is_none())
                && ledger.is_past(window.unwrap_or_default(), self.now.at)
        });
        let past: Vec<_> = past.map(|(key, _)| key.clone()).collect();
        for key in past {
            self.state.ledgers.remove(&key);
            self.dirty.ledgers.insert(key);
        }
    }

    fn scene(&self, procedure: &ProcedurePolicy, rule: &RuleId, alert: &Fingerprint) -> Scene {
        let now = self.now.at;
        // What is not there any more does not breach; its rule must have been judged to know so.
        let state = self.state.rules.get(rule);
        let of_rule = self.policy.rules.iter().find(|policy| policy.id == *rule);
        let fails = |probe| {
            let probe = self.state.probes.get(probe);
            probe.is_some_and(|probe| probe.error.is_some())
        };
        let seen = of_rule.is_some_and(|policy| !policy.probes.iter().any(fails));
        let judged = seen && state.is_some_and(|state| state.observed == Some(now));
        let gone = Scene {
            now,
            on: false,
            fresh: judged,
            held_back: false,
            started: None,
            episode: 0,
        };
        let Some(alert) = self.state.alert(rule, alert) else {
            return gone;
        };
        let more = alert.more.as_deref();
        let silenced = !self.silenced(rule, alert, |scope| scope.recover).is_empty();
        let held_back = more.is_some_and(|more| {
            let inhibited = more.muted_by().iter().any(|by| by.starts_with(INHIBITED));
            more.flapping || more.acknowledged_by.is_some() || inhibited
        });
        Scene {
            now,
            on: alert
                .on()
                .is_some_and(|severity| severity >= procedure.severity),
            // What fires without ever having been seen (a dead-man's verdict) is nothing to act on.
            fresh: alert.observed == Some(now) || (alert.is_gone() && judged),
            held_back: held_back || silenced,
            started: more.and_then(|more| more.started).map(|started| started.at),
            episode: alert.counts.episode,
        }
    }

    fn verify(&mut self, procedure: &ProcedurePolicy, rule: &RuleId, alert: &Fingerprint) {
        let scene = self.scene(procedure, rule, alert);
        let key = (procedure.id.clone(), *alert);
        let Some(ledger) = self.state.ledgers.get_mut(&key) else {
            return;
        };
        let Some(helped) = ledger.verdict(procedure, &scene) else {
            return;
        };
        ledger.unverified = None;
        let attempt = ledger.attempts;
        let spent = ledger.within(procedure.window, scene.now) >= procedure.max_attempts;
        let gives_up = !helped && spent && !ledger.exhausted;
        ledger.exhausted |= gives_up;
        self.dirty.ledgers.insert(key);
        let (step, words) = if helped {
            (ActionStep::VerifiedOk, "a later sample says that it helped")
        } else {
            (
                ActionStep::VerifiedFail,
                "a later sample says that it did not help",
            )
        };
        self.told_action(procedure, rule, alert, attempt, step, words);
        if gives_up {
            self.gives_up(procedure, rule, alert, attempt);
        }
    }

    fn gives_up(
        &mut self,
        procedure: &ProcedurePolicy,
        rule: &RuleId,
        alert: &Fingerprint,
        attempt: u32,
    ) {
        let words = format!(
            "recovery {:?} gave up after {} attempts; nothing more is done by itself until the alert resolves, or until `watchfire recovery reset {}`",
            procedure.id.as_str(),
            procedure.max_attempts,
            procedure.id
        );
        self.told_action(
            procedure,
            rule,
            alert,
            attempt,
            ActionStep::Exhausted,
            &words,
        );
        self.announce(procedure, rule, alert, Reason::Exhausted, &words);
    }

    fn attempt(&mut self, procedure: &ProcedurePolicy, rule: &RuleId, alert: &Fingerprint) {
        let scene = self.scene(procedure, rule, alert);
        let key = (procedure.id.clone(), *alert);
        let known = self.state.ledgers.contains_key(&key);
        if !scene.on && !known {
            return;
        }
        let name = self.state.alert(rule, alert);
        let name = name.map(|alert| alert.instance.to_string());
        let ledger = self.state.ledgers.entry(key.clone()).or_insert_with(|| {
            let name = name.unwrap_or_default();
            Ledger::new(procedure.id.clone(), rule.clone(), *alert, name)
        });
        match ledger.plan(procedure, &scene) {
            Plan::Wait => {
                // What asked for leave asks no longer once its alert is no more on; leave that was not used
                // was for what held then.
                if (ledger.waits || ledger.approved) && !scene.on {
                    ledger.waits = false;
                    ledger.approved = false;
                    self.dirty.ledgers.insert(key);
                } else if !known {
                    self.state.ledgers.remove(&key);
                }
            }
            Plan::GiveUp => {
                ledger.exhausted = true;
                let attempt = ledger.attempts;
                self.dirty.ledgers.insert(key);
                self.gives_up(procedure, rule, alert, attempt);
            }
            Plan::Ready => self.ready(procedure, rule, alert, &key, scene.episode),
        }
    }

    /// The alert's conditions hold; now the host's, and the operator's.
    fn ready(
        &mut self,
        procedure: &ProcedurePolicy,
        rule: &RuleId,
        alert: &Fingerprint,
        key: &(ProcedureId, Fingerprint),
        episode: u64,
    ) {
        let now = self.now.at;
        let allowed = self.host_allows(now) && !self.state.unfit.contains(&procedure.id);
        let held = self.is_held_back(procedure);
        let Some(ledger) = self.state.ledgers.get_mut(key) else {
            return;
        };
        if !allowed {
            return;
        }
        if procedure.mode != Mode::Observe && held {
            self.hold_back(procedure, rule, alert, episode);
            return;
        }
        let said = ledger.said_for == Some(episode);
        let next = ledger.attempts + 1;
        match procedure.mode {
            Mode::Observe if said => {}
            Mode::Observe => {
                ledger.said_for = Some(episode);
                self.dirty.ledgers.insert(key.clone());
                let words = "mode observe: it would have started now";
                self.told_action(procedure, rule, alert, next, ActionStep::WouldStart, words);
            }
            Mode::Approve if !ledger.approved => {
                if ledger.waits {
                    return;
                }
                ledger.waits = true;
                self.dirty.ledgers.insert(key.clone());
                let words = format!("it waits for `watchfire recovery approve {}`", procedure.id);
                let step = ActionStep::ApprovalWanted;
                self.told_action(procedure, rule, alert, next, step, &words);
                self.announce(procedure, rule, alert, Reason::ApprovalWanted, &words);
            }
            Mode::Approve | Mode::Auto => {
                let attempt = ledger.start(now, procedure.window);
                self.state.host_starts.push_back(now);
                self.dirty.ledgers.insert(key.clone());
                self.dirty.engine = true;
                let words = format!("attempt {attempt} of {}", procedure.max_attempts);
                self.told_action(procedure, rule, alert, attempt, ActionStep::Start, &words);
                let Some(found) = self.state.alert(rule, alert) else {
                    return;
                };
                self.effects.attempts.push(StartAttempt {
                    procedure: procedure.id.clone(),
                    attempt,
                    alert: found.snapshot(),
                    timeout: procedure.timeout,
                });
            }
        }
    }

    /// Concurrency, starts an hour, boot grace, the switch.
    fn host_allows(&mut self, now: Moment) -> bool {
        let policy = &self.policy.recover;
        let starts = &mut self.state.host_starts;
        while starts
            .front()
            .is_some_and(|first| now.since(*first) >= HOUR)
        {
            starts.pop_front();
        }
        let this_hour = u32::try_from(starts.len()).unwrap_or(u32::MAX);
        let running = self
            .state
            .ledgers
            .values()
            .filter(|ledger| ledger.running)
            .count();
        u32::try_from(running).unwrap_or(u32::MAX) < policy.concurrency
            && this_hour < policy.per_hour
            && now.since(self.state.started) >= policy.boot_grace
            && !policy.paused
            && !self.state.paused
    }

    /// An attempt ended.
    pub(crate) fn action_ended(&mut self, report: ActionReport) {
        let key = (report.procedure.clone(), report.alert);
        let now = self.now.at;
        let Some(ledger) = self.state.ledgers.get_mut(&key) else {
            return;
        };
        if !ledger.running || ledger.attempts != report.attempt {
            return;
        }
        ledger.end(now);
        let rule = ledger.rule.clone();
        self.dirty.ledgers.insert(key.clone());
        let (step, words) = match report.outcome {
            ActionOutcome::Done { did } => (ActionStep::End, did),
            ActionOutcome::Failed { message } => (ActionStep::End, format!("failed: {message}")),
            ActionOutcome::TimedOut => (ActionStep::Timeout, "stopped at its limit".to_owned()),
        };
        self.event(
            Some((&rule, &report.alert)),
            Happening::Action {
                procedure: report.procedure,
                attempt: report.attempt,
                step,
                message: words,
            },
        );
    }

    /// After a restart: what ran is lost, counts, and is judged like any other end.
    pub(crate) fn lose_attempts(&mut self) {
        let now = self.now.at;
        let mut lost = Vec::new();
        for (key, ledger) in &mut self.state.ledgers {
            if ledger.running {
                ledger.end(now);
                lost.push((key.clone(), ledger.rule.clone(), ledger.attempts));
            } else if ledger.unverified.is_some() {
                // Verification counts from the restart; the cooldown stands.
                ledger.unverified = Some(now);
            } else {
                continue;
            }
            self.dirty.ledgers.insert(key.clone());
        }
        for ((procedure, alert), rule, attempt) in lost {
            self.event(
                Some((&rule, &alert)),
                Happening::Action {
                    procedure,
                    attempt,
                    step: ActionStep::Lost,
                    message: "the agent ended while it ran: its outcome is not known".to_owned(),
                },
            );
        }
    }

    fn told_action(
        &mut self,
        procedure: &ProcedurePolicy,
        rule: &RuleId,
        alert: &Fingerprint,
        attempt: u32,
        step: ActionStep,
        words: &str,
    ) {
        self.event(
            Some((rule, alert)),
            Happening::Action {
                procedure: procedure.id.clone(),
                attempt,
                step,
                message: words.to_owned(),
            },
        );
    }
}
