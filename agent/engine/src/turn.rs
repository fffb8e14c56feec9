//! One step of the engine: what happened, in the order of the pipeline.
//!
//! A round: missed turns, probes, rules in the order of the file and their instances by label,
//! composites, meta-alerts; then who is told (`notify`), then what is done (`act`). Everything else
//! is taken in at once and acts where it must.

use crate::calendar::Hours;
use crate::effect::{Effects, Event, Happening};
use crate::input::{ActionReport, Round};
use crate::model::{Fingerprint, Moment, NotifierId, Now, ProcedureId, RuleId};
use crate::outbox::Subject;
use crate::policy::Policy;
use crate::state::State;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A shorter suspend is no more than a late round (alerting.md 1.3).
const SUSPEND_MIN: Duration = Duration::from_secs(60);

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
    /// Time by itself acts at rounds alone: repeats, escalation steps.
    pub(crate) in_round: bool,
    /// Messages up to this number are left to the timer: what an operator or a reload does comes before
    /// the retries of its instant (product.md, section 6).
    pub(crate) left_to_timer: u64,
    /// But not those of notifiers that just took a message: a success makes the others due.
    pub(crate) awake: BTreeSet<NotifierId>,
    /// What the calendar says now.
    pub(crate) hours: OnceCell<Hours>,
    /// Which alerts an undelivered message speaks of, once somebody asked.
    pub(crate) undelivered: OnceCell<HashSet<(NotifierId, Fingerprint)>>,
    /// Rules that hold their first message back, once somebody asked.
    holds: OnceCell<HashMap<&'a RuleId, Duration>>,
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
            left_to_timer: 0,
            awake: BTreeSet::new(),
            hours: OnceCell::new(),
            undelivered: OnceCell::new(),
            holds: OnceCell::new(),
        }
    }

    /// Hands out what is due, and writes down what changed.
    pub(crate) fn finish(mut self) -> Effects {
        self.dispatch();
        if !self.state.gates.is_empty() {
            self.stand_in_behind_gates();
            // The copies are due now.
            self.dispatch();
        }
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
        let judged: BTreeSet<RuleId> = round.rules.iter().map(|r| r.rule.clone()).collect();
        for rule in round.rules {
            self.judge(rule);
        }
        self.composites(judged);
        self.state.unjudged = false;
        self.expire();
        self.failing_probes(&round.probes);
        self.notify_all();
        self.recollect();
        self.act_all();
        self.state.reloaded = false;
    }

    pub(crate) fn timer(&mut self) {
        // Retries before flushes: what was decided earlier goes out first (product.md, section 6). What
        // becomes of them may make others due, so the flushes of this moment are the next timer's.
        self.dispatch();
        self.expire();
        if self.effects.sends.is_empty() {
            self.flush_due();
        }
    }

    /// After a suspend unobserved time counts for nothing, and graces begin anew.
    pub(crate) fn resumed(&mut self, lost: Duration) {
        self.begin_anew(lost > SUSPEND_MIN);
        self.event(None, Happening::Back { from: "resume" });
    }

    /// `unsure`: what is absent in the next round may just not be there yet.
    pub(crate) fn begin_anew(&mut self, unsure: bool) {
        self.state.boot = self.now.at;
        self.state.unjudged = true;
        self.state.grant_grace();
        for probe in self.state.probes.values_mut() {
            probe.good = self.now.at;
        }
        if unsure {
            // Also of a rule that was not judged yet.
            for rule in &self.policy.rules {
                self.state.rules.entry(rule.id.clone()).or_default();
            }
            for rule in self.state.rules.values_mut() {
                rule.fresh = true;
            }
        }
    }

    /// For how long the rule's fires are held back, so that what inhibits them can fire first.
    pub(crate) fn hold(&self, rule: &RuleId) -> Duration {
        let policy: &'a Policy = self.policy;
        let holds = self.holds.get_or_init(|| {
            let held = policy.rules.iter().filter(|rule| !rule.hold.is_zero());
            held.map(|rule| (&rule.id, rule.hold)).collect()
        });
        holds.get(rule).copied().unwrap_or_default()
    }

    pub(crate) fn action(&mut self, report: ActionReport) {
        self.action_ended(report);
    }

    pub(crate) fn event(&mut self, alert: Option<(&RuleId, &Fingerprint)>, what: Happening) {
        let found = alert.and_then(|(rule, fingerprint)| self.state.alert(rule, fingerprint));
        let mut name = found
            .map(|alert| alert.instance.to_string())
            .unwrap_or_default();
        // An attempt can be judged when its alert is gone already.
        if let (true, Some((_, fingerprint)), Happening::Action { procedure, .. }) =
            (name.is_empty(), alert, &what)
            && let Some(ledger) = self.state.ledgers.get(&(procedure.clone(), *fingerprint))
        {
            name.clone_from(&ledger.name);
        }
        self.effects.events.push(Event {
            at: self.now.at,
            wall: self.now.wall,
            alert: name,
            fingerprint: found.map(|alert| alert.instance.fingerprint),
            episode: found.map_or(0, |alert| alert.counts.episode),
            what,
        });
    }

    /// Alerts that are quiet and told leave the list of those looked at.
    fn forget(&mut self) {
        let state = &mut *self.state;
        let mut removed = Vec::new();
        // Worked out for the first alert that asks: after a storm thousands do.
        let under_way: OnceCell<HashSet<Fingerprint>> = OnceCell::new();
        for (id, rule) in &mut state.rules {
            let known = self.policy.rules.iter().any(|policy| policy.id == *id);
            let alerts = &mut rule.alerts;
            let unsaved = &mut rule.unsaved;
            rule.live.retain(|_, fingerprint: &mut Fingerprint| {
                let Some(alert) = alerts.get_mut(fingerprint) else {
                    return false;
                };
                let idle = alert.is_idle();
                if !idle && !alert.is_told_for_nothing() {
                    return true;
                }
                let under_way = under_way.get_or_init(|| {
                    let slots = state.outbox.values();
                    let items = slots.flat_map(|slot| slot.flying.iter().chain(&slot.waiting));
                    let covers = items.flat_map(|item| &item.covers);
                    covers.map(|cover| cover.alert).collect()
                });
                if under_way.contains(fingerprint) {
                    return true;
                }
                if !idle {
                    // Half an hour it may yet flap; what twenty notifiers knew is most of its memory.
                    alert.more().told.clear();
                    self.dirty.alerts.insert((id.clone(), *fingerprint));
                    return true;
                }
                // A dead-man rule goes on counting from when it began to miss what it never saw.
                let missed = alert.absences > 0;
                if (alert.observed.is_none() && !missed) || !known {
                    alerts.remove(fingerprint);
                    unsaved.remove(fingerprint);
                } else {
                    alert.forget_episode();
                }
                self.dirty.alerts.insert((id.clone(), *fingerprint));
                false
            });
            if rule.live.is_empty() {
                // Without this each keeps the last block of memory that the storm's list needed.
                rule.live = BTreeMap::new();
            }
            if !known && rule.alerts.is_empty() {
                removed.push(id.clone());
            }
        }
        for id in removed {
            state.rules.remove(&id);
        }
    }
}

/// Whether a moment has come.
pub(crate) fn is_due(due: Option<Moment>, now: Moment) -> bool {
    due.is_some_and(|due| due <= now)
}
