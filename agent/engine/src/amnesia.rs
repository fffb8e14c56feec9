//! Amnesia: the state of before was lost (alerting.md 1.4).
//!
//! What fires is told again, under the same key, so that services which fold by it show the incident they
//! have. What is certainly fine is told to those services once: whatever they still show as open closes, and
//! the rest they drop. Recovery holds back for a window: nobody knows what was tried.

use crate::alert::Alert;
use crate::effect::{ActionStep, Happening, Notification, Reason};
use crate::group;
use crate::model::{Fingerprint, Moment, NotifierId, ProcedureId, RuleId, Severity};
use crate::outbox::{self, Item, Subject};
use crate::policy::{ProcedurePolicy, Recipient, RoutePolicy};
use crate::turn::Turn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Resolves queued in one round: PagerDuty takes about 120 calls a minute and key, and a page must not
/// stand behind thousands of them.
const RESOLVES_A_ROUND: usize = 20;

/// How long what turns out to be fine is told: what was pending, stale or failing at the first look
/// needs its time.
const CLOSING: Duration = Duration::from_secs(3_600);

/// An amnesia under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Amnesia {
    pub(crate) since: Moment,
    /// Notifiers that fold by the key.
    pub(crate) receivers: Vec<NotifierId>,
    /// Procedures that an operator let go.
    pub(crate) released: BTreeSet<ProcedureId>,
    /// What was told; a restart tells it again, which is of no consequence.
    #[serde(skip)]
    pub(crate) closed: BTreeSet<(NotifierId, Subject)>,
}

impl Amnesia {
    /// The end of a procedure's hold; none: an operator ended it.
    pub(crate) fn held_until(&self, procedure: &ProcedureId, window: Duration) -> Option<Moment> {
        (!self.released.contains(procedure)).then(|| self.since + window)
    }
}

impl Turn<'_> {
    /// The state was lost; these notifiers fold by the key.
    pub(crate) fn lost(&mut self, receivers: Vec<NotifierId>) {
        self.state.amnesia = Some(Amnesia {
            since: self.now.at,
            receivers,
            released: BTreeSet::new(),
            closed: BTreeSet::new(),
        });
        self.dirty.engine = true;
        self.event(None, Happening::Back { from: "amnesia" });
    }

    /// Whether the procedure holds back because nobody knows what was tried before.
    pub(crate) fn is_held_back(&self, procedure: &ProcedurePolicy) -> bool {
        let amnesia = self.state.amnesia.as_ref();
        let until = amnesia.and_then(|a| a.held_until(&procedure.id, procedure.window));
        until.is_some_and(|until| self.now.at < until)
    }

    /// Says once an episode that the procedure holds back.
    pub(crate) fn hold_back(
        &mut self,
        procedure: &ProcedurePolicy,
        rule: &RuleId,
        alert: &Fingerprint,
        episode: u64,
    ) {
        let key = (procedure.id.clone(), *alert);
        let Some(ledger) = self.state.ledgers.get_mut(&key) else {
            return;
        };
        if ledger.said_for == Some(episode) {
            return;
        }
        ledger.said_for = Some(episode);
        let attempt = ledger.attempts + 1;
        self.dirty.ledgers.insert(key);
        let message = format!(
            "held: the record of earlier attempts was lost; it may start one window after the loss, or after `watchfire recovery reset {}`",
            procedure.id
        );
        let what = Happening::Action {
            procedure: procedure.id.clone(),
            attempt,
            step: ActionStep::Held,
            message,
        };
        self.event(Some((rule, alert)), what);
    }

    /// An operator knows better.
    pub(crate) fn release(&mut self, procedure: &ProcedureId) {
        if let Some(amnesia) = &mut self.state.amnesia
            && amnesia.released.insert(procedure.clone())
        {
            self.dirty.engine = true;
        }
    }

    /// In every round: closes what is certainly fine, a few at a time, and ends with the last hold.
    pub(crate) fn recollect(&mut self) {
        let Some(amnesia) = self.state.amnesia.take() else {
            return;
        };
        let age = self.now.at.since(amnesia.since);
        let procedures = self.policy.procedures.iter();
        let longest = procedures.map(|p| p.window).max().unwrap_or_default();
        if age >= CLOSING && age >= longest {
            self.dirty.engine = true;
            return;
        }
        let closing = age < CLOSING && !amnesia.receivers.is_empty();
        let mut amnesia = amnesia;
        if closing {
            self.close_known_ok(&mut amnesia);
        }
        self.state.amnesia = Some(amnesia);
    }

    fn close_known_ok(&mut self, amnesia: &mut Amnesia) {
        let policy = self.policy;
        let mut queued = 0;
        for rule in &policy.rules {
            let Some(state) = self.state.rules.get(&rule.id) else {
                continue;
            };
            // Only a whole round of the rule tells what is fine in it.
            if state.fresh || state.observed.is_none() {
                continue;
            }
            let mut fine: Vec<(&crate::model::Labels, Fingerprint)> = state
                .alerts
                .values()
                .filter(|alert| alert.is_quiet() && alert.observed.is_some())
                // What fired in this life is told by itself.
                .filter(|alert| alert.counts.episode == 0)
                .map(|alert| (&alert.instance.labels, alert.instance.fingerprint))
                .collect();
            fine.sort();
            let fine: Vec<Fingerprint> = fine.into_iter().map(|(_, f)| f).collect();
            for fingerprint in fine {
                for (subject, notifier) in self.could_have_told(&rule.id, &fingerprint, amnesia) {
                    if queued == RESOLVES_A_ROUND {
                        return;
                    }
                    let place = (notifier, subject);
                    if self.state.outbox.contains_key(&place) || amnesia.closed.contains(&place) {
                        continue;
                    }
                    self.close(&rule.id, &fingerprint, &place);
                    amnesia.closed.insert(place);
                    queued += 1;
                }
            }
        }
    }

    /// The places where the alert may have been told before the loss, at whatever severity, as far as
    /// their notifiers fold by the key.
    fn could_have_told(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        amnesia: &Amnesia,
    ) -> BTreeSet<(Subject, NotifierId)> {
        let mut places = BTreeSet::new();
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return places;
        };
        let labels = alert.labels();
        // Whose turn it was then is not known: whoever it may have been.
        let named = |recipients: &[Recipient]| -> Vec<NotifierId> {
            let receivers = amnesia.receivers.iter();
            let named = receivers.filter(|id| recipients.iter().any(|r| r.may_be(self.policy, id)));
            named.cloned().collect()
        };
        for severity in Severity::ALL {
            for (at, route) in self.policy.routes.iter().enumerate() {
                if !route.matcher.takes(rule, severity, &labels) {
                    continue;
                }
                for notifier in named(&route.notify) {
                    let subject = if route.group_by.is_empty() {
                        Some(Subject::Alert(*fingerprint))
                    } else {
                        self.quiet_group(at, route, alert, &notifier)
                    };
                    places.extend(subject.map(|subject| (subject, notifier)));
                }
                let steps = route.escalate.iter().flat_map(|step| named(&step.notify));
                places.extend(steps.map(|id| (Subject::Alert(*fingerprint), id)));
                if !route.carry_on {
                    break;
                }
            }
        }
        places
    }

    /// The alert's group, where nothing of it pends or fires.
    fn quiet_group(
        &self,
        at: usize,
        route: &RoutePolicy,
        alert: &Alert,
        notifier: &NotifierId,
    ) -> Option<Subject> {
        let labels = group::labels_of(route, alert);
        let key = group::key(at, &labels, notifier);
        let busy = self.live().iter().any(|(rule, fingerprint)| {
            let other = self.state.alert(rule, fingerprint);
            other.is_some_and(|o| !o.is_quiet() && group::labels_of(route, o) == labels)
        });
        (!busy && !self.state.groups.contains_key(&key)).then_some(Subject::Group(key))
    }

    /// One resolve that closes what the service may still show, and that it drops otherwise.
    fn close(&mut self, rule: &RuleId, fingerprint: &Fingerprint, place: &(NotifierId, Subject)) {
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let (notifier, subject) = place;
        let mut snapshot = alert.snapshot();
        snapshot.started_at = self.now.wall;
        snapshot.ended_at = Some(self.now.wall);
        self.state.decided += 1;
        let order = self.state.decided;
        let id = outbox::notification_id(subject, self.now.at.0, order, notifier);
        let notification = Notification {
            id: id.clone(),
            dedup_key: outbox::dedup_key(&self.policy.host, subject),
            reason: Reason::Resolve,
            alerts: vec![snapshot],
            group: None,
            decided_at: self.now.at,
            late: false,
            note: Some("the agent's state was lost; this is fine now".to_owned()),
        };
        let item = Item {
            notification: Arc::new(notification),
            severity: None,
            attempts: 0,
            failures: 0,
            next_at: self.now.at,
            order,
            // It tells nothing that is remembered: the alert needs no row for it.
            covers: Vec::new(),
            stood_in: false,
        };
        self.state.outbox.entry(place.clone()).or_default().waiting = Some(item);
        self.dirty.slots.insert(place.clone());
        let what = Happening::Queued {
            notifier: notifier.clone(),
            id,
            reason: Reason::Resolve,
            severity: None,
        };
        self.event(Some((rule, fingerprint)), what);
    }
}
