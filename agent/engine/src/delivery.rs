//! What becomes of a message: its place in the outbox, its attempts, its end (alerting.md 1.5,
//! decisions.md 18, 24).

use crate::alert::Standing;
use crate::effect::{Happening, Notification, Reason, Send};
use crate::input::{DeliveryOutcome, DeliveryReport};
use crate::metas::{is_meta, meta, meta_instance};
use crate::model::{Fingerprint, NotifierId, RuleId, Severity};
use crate::outbox::{self, Cover, FEW, Item, Slot, Subject};
use crate::policy::ProcedurePolicy;
use crate::reconcile::Decision;
use crate::turn::Turn;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Whose message, about what.
pub(crate) type Key = (NotifierId, Subject);

impl Turn<'_> {
    /// Whether a message that says something of the alert still waits for its delivery.
    pub(crate) fn is_undelivered(&self, notifier: &NotifierId, fingerprint: &Fingerprint) -> bool {
        let undelivered = self.undelivered.get_or_init(|| self.all_undelivered());
        undelivered.contains(&(notifier.clone(), *fingerprint))
    }

    /// Of the whole outbox: when the repeats of a storm are due, thousands of alerts ask.
    fn all_undelivered(&self) -> HashSet<(NotifierId, Fingerprint)> {
        let mut all = HashSet::new();
        for ((notifier, _), slot) in &self.state.outbox {
            for item in slot.waiting.iter().chain(&slot.flying) {
                if changes_what_is_told(item.notification.reason) {
                    let covers = item.covers.iter();
                    all.extend(covers.map(|cover| (notifier.clone(), cover.alert)));
                }
            }
        }
        all
    }

    /// Puts a message about one alert into the outbox.
    pub(crate) fn queue_alert(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        notifier: &NotifierId,
        decision: Decision,
    ) {
        let host = self.policy.host.clone();
        let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
            return;
        };
        let snapshot = alert.snapshot();
        alert.counts.sequence += 1;
        let sequence = alert.counts.sequence;
        let told = alert.more.as_ref().and_then(|more| more.told.get(notifier));
        let before = told.and_then(|told| told.content);
        let begun = alert.begun();
        let subject = Subject::Alert(*fingerprint);
        let id = outbox::notification_id(&subject, begun, sequence, notifier);
        let notification = Notification {
            id,
            dedup_key: outbox::dedup_key(&host, &subject),
            reason: decision.reason,
            alerts: vec![snapshot],
            group: None,
            decided_at: self.now.at,
            late: decision.late,
            note: decision.note,
        };
        let cover = Cover {
            rule: rule.clone(),
            alert: *fingerprint,
            content: decision.content,
            new: false,
            before,
        };
        self.queue(subject, notifier, notification, vec![cover]);
    }

    /// A message to the alert's notifiers that says nothing of its state: recovery gave up, or asks.
    pub(crate) fn announce(
        &mut self,
        procedure: &ProcedurePolicy,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        reason: Reason,
        note: &str,
    ) {
        let listeners = match reason {
            Reason::Exhausted => self.last_resort(rule, fingerprint),
            _ => {
                let routed = self.routed(rule, fingerprint);
                routed.into_iter().map(|(_, notifier)| notifier).collect()
            }
        };
        for notifier in listeners {
            let told = self.told(rule, fingerprint, &notifier);
            let host = self.policy.host.clone();
            let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
                return;
            };
            let snapshot = alert.snapshot();
            alert.counts.sequence += 1;
            let sequence = alert.counts.sequence;
            let begun = alert.begun();
            // A place of its own, so that it takes none from the alert's own messages.
            let subject = format!("{}/{}/{fingerprint}", reason.name(), procedure.id);
            let subject = Subject::Group(subject);
            let id = outbox::notification_id(&subject, begun, sequence, &notifier);
            let notification = Notification {
                id,
                dedup_key: outbox::dedup_key(&host, &Subject::Alert(*fingerprint)),
                reason,
                alerts: vec![snapshot],
                group: None,
                decided_at: self.now.at,
                late: false,
                note: Some(note.to_owned()),
            };
            let cover = Cover {
                rule: rule.clone(),
                alert: *fingerprint,
                content: told.content,
                new: false,
                before: told.content,
            };
            self.queue(subject, &notifier, notification, vec![cover]);
        }
    }

    /// Who hears that recovery gave up: the escalation steps of what a critical alert is routed by; where
    /// there are none, the routes' own notifiers (alerting.md 1.6).
    fn last_resort(&self, rule: &RuleId, fingerprint: &Fingerprint) -> Vec<NotifierId> {
        let critical = Some(Severity::Critical);
        let routes = self.routes_of(rule, fingerprint, critical);
        let routes = routes.iter().filter_map(|at| self.policy.routes.get(*at));
        let steps = routes.flat_map(|route| &route.escalate);
        let mut listeners: Vec<NotifierId> = Vec::new();
        let named = steps.flat_map(|step| &step.notify);
        for notifier in named.filter_map(|recipient| self.meant(recipient)) {
            if !listeners.contains(&notifier) {
                listeners.push(notifier);
            }
        }
        if listeners.is_empty() {
            let routed = self.routed_at(rule, fingerprint, critical);
            listeners = routed.into_iter().map(|(_, notifier)| notifier).collect();
        }
        listeners
    }

    /// The newest state takes the place of what was not delivered, and inherits its back-off.
    pub(crate) fn queue(
        &mut self,
        subject: Subject,
        notifier: &NotifierId,
        notification: Notification,
        mut covers: Vec<Cover>,
    ) {
        let reason = notification.reason;
        let id = notification.id.clone();
        let severity = notification.alerts.iter().map(|alert| alert.severity).max();
        for cover in &covers {
            self.dirty.alerts.insert((cover.rule.clone(), cover.alert));
            if changes_what_is_told(reason) {
                self.tell(notifier, cover);
                if let Some(undelivered) = self.undelivered.get_mut() {
                    undelivered.insert((notifier.clone(), cover.alert));
                }
            }
        }
        let about = covers.first().cloned();
        let key = (notifier.clone(), subject);
        let slot = self.state.outbox.entry(key.clone()).or_default();
        let over_taken = slot.waiting.take();
        let now = self.now.at;
        let mut untold = over_taken.as_ref().map_or(Vec::new(), undelivered_news);
        if reason == Reason::Group {
            untold.extend(self.overtake(notifier, &covers));
        }
        for old in untold {
            match covers.iter_mut().find(|cover| cover.alert == old.alert) {
                Some(cover) => cover.before = old.before,
                None if old.content.is_some() => self.untell(notifier, &old),
                None => {}
            }
        }
        self.state.decided += 1;
        let slot = self.state.outbox.entry(key.clone()).or_default();
        slot.waiting = Some(Item {
            notification: Arc::new(notification),
            severity,
            attempts: 0,
            failures: over_taken.as_ref().map_or(0, |item| item.failures),
            next_at: over_taken
                .as_ref()
                .map_or(now, |item| item.next_at.max(now)),
            order: self.state.decided,
            covers,
            stood_in: false,
        });
        self.dirty.slots.insert(key);
        if let Some(old) = over_taken {
            self.superseded(notifier, &old, reason);
        }
        let what = Happening::Queued {
            notifier: notifier.clone(),
            id,
            reason,
            severity,
        };
        let about = about.as_ref();
        self.event(about.map(|cover| (&cover.rule, &cover.alert)), what);
    }

    /// A group's message takes the place of what its alerts have not delivered by themselves (repeats, the
    /// end of flapping): after it, that would be old news.
    fn overtake(&mut self, notifier: &NotifierId, covers: &[Cover]) -> Vec<Cover> {
        let mut untold = Vec::new();
        for cover in covers {
            let key = (notifier.clone(), Subject::Alert(cover.alert));
            let Some(slot) = self.state.outbox.get_mut(&key) else {
                continue;
            };
            let Some(old) = slot.waiting.take() else {
                continue;
            };
            if slot.is_empty() {
                self.state.outbox.remove(&key);
            }
            self.dirty.slots.insert(key);
            self.superseded(notifier, &old, Reason::Group);
            drop(self.undelivered.take());
            untold.extend(undelivered_news(&old));
        }
        untold
    }

    /// A message goes out no more, and none that takes its place speaks of the alert (it is muted by now): so
    /// the notifier knows what it knew before, and hears of it in time.
    pub(crate) fn untell(&mut self, notifier: &NotifierId, cover: &Cover) {
        let alert = self.state.alert_mut(&cover.rule, &cover.alert);
        let more = alert.and_then(|alert| alert.more.as_mut());
        let Some(told) = more.and_then(|more| more.told.get_mut(notifier)) else {
            return;
        };
        if told.content == cover.content {
            told.content = cover.before;
            if told.content.is_none() {
                told.heard = None;
            } else {
                // When it was told is forgotten by now: reminders count from here.
                told.delivered_at.get_or_insert(self.now.at);
            }
            self.dirty.alerts.insert((cover.rule.clone(), cover.alert));
            drop(self.undelivered.take());
        }
    }

    /// What the notifier will know of the alert once the message arrives.
    fn tell(&mut self, notifier: &NotifierId, cover: &Cover) {
        let Some(alert) = self.state.alert_mut(&cover.rule, &cover.alert) else {
            return;
        };
        let more = alert.more();
        let begun = more.started.map(|started| started.at);
        let told = more.told.entry(notifier.clone()).or_default();
        if told.content.is_none() && cover.content.is_some() {
            // A new episode: what was delivered in the last one counts no more.
            told.delivered_at = None;
            told.first_delivered_at = None;
        }
        told.heard = begun;
        told.content = cover.content;
        told.withheld = None;
    }

    pub(crate) fn superseded(&mut self, notifier: &NotifierId, old: &Item, by: Reason) {
        let what = Happening::Superseded {
            notifier: notifier.clone(),
            id: old.notification.id.clone(),
            by,
        };
        let about = old.covers.first();
        self.event(about.map(|cover| (&cover.rule, &cover.alert)), what);
    }

    /// Hands out what is due, one message a place, in the order in which they were decided upon.
    pub(crate) fn dispatch(&mut self) {
        let now = self.now.at;
        let left = self.left_to_timer;
        let trials = self.trials();
        let behind = self.state.behind_others();
        let mut due: Vec<Send> = Vec::new();
        for (key, slot) in &mut self.state.outbox {
            let gated = self.state.gates.contains_key(&key.0) && !trials.contains(key);
            if slot.flying.is_some() || gated || behind.contains(key) {
                continue;
            }
            let awake = self.awake.contains(&key.0);
            let ours = |item: &mut Item| item.next_at <= now && (awake || item.order > left);
            let Some(mut item) = slot.waiting.take_if(ours) else {
                continue;
            };
            item.attempts += 1;
            let send = Send {
                notifier: key.0.clone(),
                attempt: item.attempts,
                order: item.order,
                notification: item.notification.clone(),
            };
            due.push(send);
            slot.flying = Some(item);
            self.dirty.slots.insert(key.clone());
        }
        due.sort_by_key(|send| send.order);
        self.effects.sends.extend(due);
    }

    /// A group's next message that waited for one of these reports is the timer's.
    pub(crate) fn deliveries(&mut self, reports: Vec<DeliveryReport>) {
        for report in reports {
            self.delivery(report);
        }
    }

    fn delivery(&mut self, report: DeliveryReport) {
        let found = self.state.outbox.iter().find(|(_, slot)| {
            slot.flying.as_ref().is_some_and(|item| {
                item.notification.id == report.id && item.attempts == report.attempt
            })
        });
        let Some(key) = found.map(|(key, _)| key.clone()) else {
            return;
        };
        let Some(item) = self
            .state
            .outbox
            .get_mut(&key)
            .and_then(|slot| slot.flying.take())
        else {
            return;
        };
        self.dirty.slots.insert(key.clone());
        let (outcome, message) = match &report.outcome {
            DeliveryOutcome::Accepted { remote_id } => ("accepted", remote_id.clone()),
            DeliveryOutcome::Failed { message, .. } => ("failed", Some(message.clone())),
            DeliveryOutcome::Quarantined { message, .. } => ("quarantined", Some(message.clone())),
            DeliveryOutcome::Refused { message } => ("refused", Some(message.clone())),
        };
        let delay = self.now.at.since(item.notification.decided_at).as_millis();
        let about = item.covers.first().cloned();
        let about = about.as_ref().map(|cover| (&cover.rule, &cover.alert));
        self.event(
            about,
            Happening::Delivered {
                notifier: key.0.clone(),
                id: report.id.clone(),
                reason: item.notification.reason,
                severity: item.severity,
                attempt: report.attempt,
                outcome,
                message,
                delay_ms: u64::try_from(delay).unwrap_or(u64::MAX),
            },
        );
        if !matches!(report.outcome, DeliveryOutcome::Quarantined { .. }) {
            // It answered, so it is called again; whatever it said.
            self.state.gates.remove(&key.0);
        }
        match report.outcome {
            DeliveryOutcome::Accepted { .. } => self.accepted(&key, &item),
            DeliveryOutcome::Failed {
                retry_after,
                answered,
                ..
            } => {
                self.failed(&key, item, retry_after, answered);
            }
            DeliveryOutcome::Quarantined { retry_after, .. } => {
                self.quarantined(&key, item, retry_after);
            }
            DeliveryOutcome::Refused { message } => self.refused(&key, &item, &message),
        }
        if self.state.outbox.get(&key).is_some_and(Slot::is_empty) {
            self.state.outbox.remove(&key);
        }
    }

    fn accepted(&mut self, key: &(NotifierId, Subject), item: &Item) {
        let now = self.now.at;
        self.delivered(&key.0, item);
        if item_is_meta(item) {
            // The agent's word about itself proves nothing about what waits: that would be how the fire
            // of a dead letter ends itself.
            return;
        }
        let instance = meta_instance(meta::DEAD_LETTER, "notifier", key.0.as_str());
        let settles = self
            .state
            .alert(&instance.rule, &instance.fingerprint)
            .is_some_and(|alert| matches!(alert.standing(), Standing::Recovering(_)));
        if !settles {
            // Once; time by itself ends it at rounds.
            self.meta(&instance, Severity::Warning, false, None);
        }
        // The service is back: what else waits for it goes out at once.
        self.awake.insert(key.0.clone());
        let others = self
            .state
            .outbox
            .iter_mut()
            .filter(|((id, _), _)| *id == key.0);
        for (other, slot) in others {
            if let Some(waiting) = &mut slot.waiting
                && waiting.next_at > now
            {
                waiting.next_at = now;
                self.dirty.slots.insert(other.clone());
            }
        }
    }

    fn delivered(&mut self, notifier: &NotifierId, item: &Item) {
        if !changes_what_is_told(item.notification.reason) {
            return;
        }
        let now = self.now.at;
        for cover in &item.covers {
            let Some(alert) = self.state.alert_mut(&cover.rule, &cover.alert) else {
                continue;
            };
            let told = alert.more().told.entry(notifier.clone()).or_default();
            if cover.content.is_some() {
                told.delivered_at = Some(now);
                told.first_delivered_at.get_or_insert(now);
            } else if told.content.is_none() {
                told.close();
            }
            self.dirty.alerts.insert((cover.rule.clone(), cover.alert));
        }
    }

    fn failed(
        &mut self,
        key: &(NotifierId, Subject),
        mut item: Item,
        retry_after: Option<Duration>,
        answered: bool,
    ) {
        let waiting = self
            .state
            .outbox
            .iter()
            .filter(|((id, _), _)| *id == key.0)
            .count();
        item.failures += 1;
        let wait = outbox::back_off(
            &self.policy.delivery,
            self.policy.seed,
            &item.notification.id,
            item.failures,
            answered,
            waiting < FEW,
            retry_after,
        );
        self.put_back(key, item, wait);
    }

    /// An attempt was in vain: the message is due again after `wait`, unless a newer one took its place.
    pub(crate) fn put_back(&mut self, key: &Key, mut item: Item, wait: Duration) {
        let next_at = self.now.at + wait;
        if self.is_old_news(key, &item) {
            self.superseded(&key.0, &item, Reason::Group);
            return;
        }
        let Some(slot) = self.state.outbox.get_mut(key) else {
            return;
        };
        match &mut slot.waiting {
            Some(newer) => {
                newer.next_at = newer.next_at.max(next_at);
                newer.failures = item.failures;
                let by = newer.notification.reason;
                self.superseded(&key.0, &item, by);
            }
            None => {
                item.next_at = next_at;
                slot.waiting = Some(item);
            }
        }
    }

    /// Whether a group's message told, or is about to tell, something else of the one alert that the failed
    /// message is about.
    fn is_old_news(&self, key: &Key, item: &Item) -> bool {
        let newest = self.state.outbox.get(key);
        let alone =
            matches!(key.1, Subject::Alert(_)) && changes_what_is_told(item.notification.reason);
        alone
            && newest.is_some_and(|slot| slot.waiting.is_none())
            && item.covers.iter().all(|cover| {
                let told = self.told(&cover.rule, &cover.alert, &key.0);
                told.content != cover.content
            })
    }

    /// Given up: counts as told, somebody hears of it, the fallback gets a copy.
    fn refused(&mut self, key: &(NotifierId, Subject), item: &Item, message: &str) {
        let about = item.covers.first().cloned();
        let about = about.as_ref().map(|cover| (&cover.rule, &cover.alert));
        let what = Happening::DeadLetter {
            notifier: key.0.clone(),
            id: item.notification.id.clone(),
            message: message.to_owned(),
        };
        self.event(about, what);
        if item_is_meta(item) {
            // Nothing is said of it by the same way, least of all that it is barred. But somebody hears that it began, and
            // then by himself that it is over; of a begin that was overtaken nobody needs to hear the end (I2).
            if item.covers.iter().any(|cover| cover.content.is_some()) {
                self.stand_in(key, item);
            }
            return;
        }
        let now = self.now.at;
        let told = changes_what_is_told(item.notification.reason);
        for cover in item
            .covers
            .iter()
            .filter(|cover| told && cover.content.is_some())
        {
            // It counts as told: the next repeat is due a whole interval from here.
            if let Some(alert) = self.state.alert_mut(&cover.rule, &cover.alert)
                && let Some(told) = alert.more().told.get_mut(&key.0)
            {
                told.delivered_at = Some(now);
                self.dirty.alerts.insert((cover.rule.clone(), cover.alert));
            }
        }
        let instance = meta_instance(meta::DEAD_LETTER, "notifier", key.0.as_str());
        let words = format!("{} refuses messages for good: {message}", key.0);
        self.meta(&instance, Severity::Warning, true, Some(&words.into()));
        self.stand_in(key, item);
    }
}

/// What a message that goes out no more would have told.
fn undelivered_news(item: &Item) -> Vec<Cover> {
    if changes_what_is_told(item.notification.reason) {
        item.covers.clone()
    } else {
        Vec::new()
    }
}

/// Whether the message is about the alert's state, and not about its recovery.
pub(crate) fn changes_what_is_told(reason: Reason) -> bool {
    !matches!(reason, Reason::Exhausted | Reason::ApprovalWanted)
}

/// Whether the message says which severity holds now, and nothing else.
pub(crate) fn states(reason: Reason) -> bool {
    use Reason::{Deescalate, Escalate, Escalation, Fire, Group};
    matches!(reason, Fire | Escalation | Escalate | Deescalate | Group)
}

fn item_is_meta(item: &Item) -> bool {
    item.covers.iter().all(|cover| is_meta(&cover.rule))
}
