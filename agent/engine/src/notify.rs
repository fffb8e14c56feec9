//! Who is told what: desired against told, for every alert and notifier (alerting.md 1.5, decisions.md
//! 12, 16, 18), and what becomes of each delivery.

use crate::alert::Told;
use crate::effect::{GroupSummary, Happening, Notification, Reason, Send};
use crate::group::{self, Group, LISTED_MAX};
use crate::input::{DeliveryOutcome, DeliveryReport};
use crate::model::{Fingerprint, Labels, NotifierId, RuleId, Severity};
use crate::mute::{self, Source};
use crate::outbox::{self, Cover, FEW, Item, Subject};
use crate::policy::{Policy, RoutePolicy};
use crate::turn::{Turn, is_due, meta, meta_instance};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longest `dedup_key` that services take (PagerDuty).
const DEDUP_KEY_MAX: usize = 255;

/// One alert in need of a look.
type Named = (RuleId, Fingerprint);

/// Why a message goes out, and what it says of its alert.
struct Decision {
    reason: Reason,
    content: Option<Severity>,
    late: bool,
    note: Option<String>,
}

impl Turn<'_> {
    /// The notify part of a round: every live alert, in order.
    pub(crate) fn notify_all(&mut self) {
        self.settle_metas();
        let live = self.live();
        let sources = self.sources();
        for (rule, fingerprint) in &live {
            self.mute(rule, fingerprint, &sources);
        }
        for (rule, fingerprint) in &live {
            self.flaps(rule, fingerprint);
            self.reconcile(rule, fingerprint);
        }
        for (rule, fingerprint) in &live {
            self.escalate(rule, fingerprint);
        }
        self.flush_due();
    }

    /// One alert outside a round: a meta-alert, or one whose rule was removed.
    pub(crate) fn notify_one(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        self.reconcile(rule, fingerprint);
        self.flush_due();
    }

    /// All alerts that are looked at, in the order of the file, then of labels; meta-alerts last.
    pub(crate) fn live(&self) -> Vec<Named> {
        let of_file: BTreeSet<&RuleId> = self.policy.rules.iter().map(|rule| &rule.id).collect();
        let others = self.state.rules.keys().filter(|id| !of_file.contains(id));
        let ids = self.policy.rules.iter().map(|rule| &rule.id).chain(others);
        ids.filter_map(|id| Some((id, self.state.rules.get(id)?)))
            .flat_map(|(id, rule)| rule.live.values().map(|f| (id.clone(), *f)))
            .collect()
    }

    fn sources(&self) -> Vec<Source> {
        if !mute::inhibits_anything(self.policy) {
            return Vec::new();
        }
        let alerts = self.state.rules.iter().flat_map(|(id, rule)| {
            rule.live
                .values()
                .filter_map(|f| rule.alerts.get(f))
                .filter(|alert| alert.standing().severity().is_some())
                .map(|alert| Source {
                    rule: id.clone(),
                    labels: alert.instance.labels.clone(),
                })
        });
        alerts.collect()
    }

    /// Who mutes the alert now, as remembered by the last [`Turn::mute`].
    pub(crate) fn mutes(&self, rule: &RuleId, fingerprint: &Fingerprint) -> Vec<String> {
        let more = self
            .state
            .alert(rule, fingerprint)
            .and_then(|alert| alert.more.as_ref());
        more.map(|more| more.muted_by.clone()).unwrap_or_default()
    }

    /// Finds out who mutes the alert's notifications.
    fn mute(&mut self, rule: &RuleId, fingerprint: &Fingerprint, sources: &[Source]) {
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let Some(more) = &alert.more else { return };
        if more.meta {
            return;
        }
        let labels = alert.instance.labels.with(&more.added);
        let silences = self
            .state
            .silences
            .values()
            .filter(|silence| silence.notify && silence.covers(rule, &labels, self.now.wall));
        let mut muted_by: Vec<String> = silences
            .map(|silence| format!("silence {}", silence.id))
            .collect();
        let by = mute::inhibited_by(&self.policy.inhibitions, sources, rule, &labels);
        muted_by.extend(by.map(|source| format!("inhibited by {source}")));
        if let Some(alert) = self.state.alert_mut(rule, fingerprint) {
            alert.more().muted_by = muted_by;
        }
    }

    /// Too many changes: one message, then silence until it settles.
    fn flaps(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let now = self.now.at;
        let policy = self.policy.alerting.flapping;
        let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
            return;
        };
        let Some(policy) = policy else {
            if let Some(more) = &mut alert.more {
                more.flaps.clear();
                more.flapping = false;
            }
            return;
        };
        let changes = alert.flaps_within(&policy, now);
        let content = alert.standing().severity();
        let state = content.map_or("ok", Severity::name);
        let Some(more) = &mut alert.more else { return };
        let (reason, note) = match more.flapping {
            false if changes >= policy.start => (Reason::FlapStart, None),
            true if changes <= policy.stop => (Reason::FlapStop, Some(state.to_owned())),
            _ => return,
        };
        more.flapping = reason == Reason::FlapStart;
        self.dirty.alerts.insert((rule.clone(), *fingerprint));
        for (_, notifier) in self.routed(rule, fingerprint) {
            let told = self.told(rule, fingerprint, &notifier).content;
            let content = if reason == Reason::FlapStart {
                told
            } else {
                content
            };
            let decision = Decision {
                reason,
                content,
                late: false,
                note: note.clone(),
            };
            self.queue_alert(rule, fingerprint, &notifier, decision);
        }
    }

    /// Notifiers of the matching routes, in order, each with its route; each once.
    fn routed(&self, rule: &RuleId, fingerprint: &Fingerprint) -> Vec<(usize, NotifierId)> {
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return Vec::new();
        };
        let snapshot = alert.snapshot();
        let severity = alert.standing().severity().unwrap_or(snapshot.severity);
        let mut found: Vec<(usize, NotifierId)> = Vec::new();
        for (at, route) in self.policy.routes.iter().enumerate() {
            if !route.matcher.takes(rule, severity, &snapshot.labels) {
                continue;
            }
            for notifier in &route.notify {
                if !found.iter().any(|(_, known)| known == notifier) {
                    found.push((at, notifier.clone()));
                }
            }
            if !route.carry_on {
                break;
            }
        }
        found
    }

    fn told(&self, rule: &RuleId, fingerprint: &Fingerprint, notifier: &NotifierId) -> Told {
        let more = self
            .state
            .alert(rule, fingerprint)
            .and_then(|alert| alert.more.as_ref());
        more.and_then(|more| more.told.get(notifier))
            .cloned()
            .unwrap_or_default()
    }

    /// Every notifier that should hear of the alert, or did.
    fn reconcile(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let routed = self.routed(rule, fingerprint);
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let Some(more) = &alert.more else { return };
        let also = more
            .told
            .iter()
            .filter(|(id, told)| told.content.is_some() && !routed.iter().any(|(_, r)| r == *id))
            .map(|(id, _)| (None, id.clone()));
        let all: Vec<(Option<usize>, NotifierId)> = routed
            .iter()
            .map(|(route, id)| (Some(*route), id.clone()))
            .chain(also)
            .collect();
        for (route, notifier) in all {
            self.reconcile_with(rule, fingerprint, route, &notifier);
        }
        let due = self
            .state
            .alert(rule, fingerprint)
            .and_then(|alert| alert.more.as_ref()?.waits_until);
        if is_due(due, self.now.at)
            && let Some(alert) = self.state.alert_mut(rule, fingerprint)
        {
            alert.more().waits_until = None;
            self.dirty.alerts.insert((rule.clone(), *fingerprint));
        }
    }

    fn reconcile_with(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        route: Option<usize>,
        notifier: &NotifierId,
    ) {
        let policy = self.policy;
        let route = route
            .and_then(|at| Some((at, policy.routes.get(at)?)))
            .or_else(|| route_of(policy, notifier));
        let told = self.told(rule, fingerprint, notifier);
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let Some(more) = &alert.more else { return };
        if more.flapping {
            return;
        }
        let desired = alert.standing().severity();
        if let Some((at, route)) = route
            && !route.group_by.is_empty()
            && !more.meta
            && !told.ends_only
        {
            let news = desired.is_some() && told.content != desired && more.muted_by.is_empty();
            let over = desired.is_none() && told.content.is_some();
            if news || over {
                let labels = group::labels_of(route, alert);
                self.touch_group(at, labels, notifier, news.then_some(desired).flatten());
            } else if let Some(decision) = self.repeat(rule, fingerprint, &told, Some(route)) {
                self.queue_alert(rule, fingerprint, notifier, decision);
            }
            return;
        }
        let decision = match (desired, told.content) {
            (None, None) => None,
            (None, Some(_)) => Some(Decision {
                reason: Reason::Resolve,
                content: None,
                late: false,
                note: None,
            }),
            (Some(_), None) if told.ends_only => None,
            (Some(_), None) => self.first(rule, fingerprint, route.map(|(_, route)| route)),
            (Some(now), Some(before)) if now == before => {
                let route = route.map(|(_, route)| route);
                self.repeat(rule, fingerprint, &told, route)
            }
            (Some(_), Some(_)) if told.ends_only || !more.muted_by.is_empty() => None,
            (Some(now), Some(before)) => Some(Decision {
                reason: if now > before {
                    Reason::Escalate
                } else {
                    Reason::Deescalate
                },
                content: Some(now),
                late: false,
                note: None,
            }),
        };
        if let Some(decision) = decision {
            self.queue_alert(rule, fingerprint, notifier, decision);
        }
    }

    /// The first message of an episode: not while muted, held or waiting.
    fn first(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        route: Option<&RoutePolicy>,
    ) -> Option<Decision> {
        let now = self.now.at;
        let hold = self
            .policy
            .rules
            .iter()
            .find(|r| r.id == *rule)
            .map(|r| r.hold);
        let alert = self.state.alert_mut(rule, fingerprint)?;
        let severity = alert.standing().severity()?;
        let more = alert.more();
        let started = more.started.map_or(now, |started| started.at);
        let held = hold.is_some_and(|hold| now.since(started) < hold);
        if !more.muted_by.is_empty() || held {
            return None;
        }
        let wait = route.map_or(Duration::ZERO, |route| route.group_wait);
        let waits = !wait.is_zero() && severity < Severity::Critical && !more.meta;
        if waits {
            let first_look = more.waits_until.is_none();
            let until = *more.waits_until.get_or_insert(now + wait);
            if first_look {
                self.dirty.alerts.insert((rule.clone(), *fingerprint));
            }
            if now < until {
                return None;
            }
        }
        Some(Decision {
            reason: Reason::Fire,
            content: Some(severity),
            late: now > started,
            note: None,
        })
    }

    fn repeat(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        told: &Told,
        route: Option<&RoutePolicy>,
    ) -> Option<Decision> {
        let alert = self.state.alert(rule, fingerprint)?;
        let more = alert.more.as_ref()?;
        let severity = alert.standing().severity()?;
        let stale_after = self
            .state
            .stale_after
            .get(rule)
            .copied()
            .unwrap_or(Duration::MAX);
        let still = more.muted_by.is_empty()
            && more.acknowledged_by.is_none()
            && !more.meta
            && !told.ends_only
            && self.in_round
            && !alert.is_stale(self.now.at, stale_after);
        let every = route?.repeat[severity];
        let due = told.delivered_at? + every;
        (still && told.content == Some(severity) && !every.is_zero() && self.now.at >= due).then(
            || Decision {
                reason: Reason::Repeat,
                content: Some(severity),
                late: false,
                note: None,
            },
        )
    }

    /// Nobody acknowledged: the next step hears the fire.
    fn escalate(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let policy = self.policy;
        let routed = self.routed(rule, fingerprint);
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let Some(more) = &alert.more else { return };
        let quiet = more.acknowledged_by.is_some() || !more.muted_by.is_empty() || more.flapping;
        let Some(severity) = alert.standing().severity() else {
            return;
        };
        if quiet || more.meta {
            return;
        }
        let routes: BTreeSet<usize> = routed.iter().map(|(route, _)| *route).collect();
        let mut steps = Vec::new();
        for route in routes.iter().filter_map(|at| policy.routes.get(*at)) {
            let firsts = route
                .notify
                .iter()
                .filter_map(|id| more.told.get(id)?.first_delivered_at);
            let Some(first) = firsts.min() else { continue };
            for step in &route.escalate {
                if self.now.at.since(first) >= step.after {
                    steps.extend(step.notify.iter().cloned());
                }
            }
        }
        for notifier in steps {
            let hears_anyway = routed.iter().any(|(_, id)| *id == notifier);
            if hears_anyway || self.told(rule, fingerprint, &notifier).content.is_some() {
                continue;
            }
            self.ends_only(rule, fingerprint, &notifier);
            let decision = Decision {
                reason: Reason::Fire,
                content: Some(severity),
                late: false,
                note: Some("nobody acknowledged".to_owned()),
            };
            self.queue_alert(rule, fingerprint, &notifier, decision);
        }
    }

    fn ends_only(&mut self, rule: &RuleId, fingerprint: &Fingerprint, notifier: &NotifierId) {
        if let Some(alert) = self.state.alert_mut(rule, fingerprint) {
            alert
                .more()
                .told
                .entry(notifier.clone())
                .or_default()
                .ends_only = true;
        }
    }

    /// Puts a message about one alert into the outbox.
    fn queue_alert(
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
        let more = alert.more();
        more.sequence += 1;
        let begun = more.started.map_or(0, |started| started.at.0);
        let subject = Subject::Alert(*fingerprint);
        let id = outbox::notification_id(&subject, begun, more.sequence, notifier);
        let notification = Notification {
            id,
            dedup_key: dedup_key(&host, &subject),
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
        };
        self.queue(subject, notifier, notification, vec![cover]);
    }

    /// A message to the alert's notifiers that says nothing of its state: recovery gave up, or asks.
    pub(crate) fn announce(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        reason: Reason,
        note: &str,
    ) {
        for (_, notifier) in self.routed(rule, fingerprint) {
            let told = self.told(rule, fingerprint, &notifier);
            let host = self.policy.host.clone();
            let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
                return;
            };
            let snapshot = alert.snapshot();
            let more = alert.more();
            more.sequence += 1;
            let begun = more.started.map_or(0, |started| started.at.0);
            // A place of its own, so that it takes none from the alert's own messages.
            let subject = Subject::Group(format!("{}/{fingerprint}", reason.name()));
            let id = outbox::notification_id(&subject, begun, more.sequence, &notifier);
            let notification = Notification {
                id,
                dedup_key: dedup_key(&host, &Subject::Alert(*fingerprint)),
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
            };
            self.queue(subject, &notifier, notification, vec![cover]);
        }
    }

    fn queue(
        &mut self,
        subject: Subject,
        notifier: &NotifierId,
        notification: Notification,
        covers: Vec<Cover>,
    ) {
        let reason = notification.reason;
        let id = notification.id.clone();
        let severity = notification.alerts.iter().map(|alert| alert.severity).max();
        let changes_state = !matches!(reason, Reason::Exhausted | Reason::ApprovalWanted);
        for cover in &covers {
            if let Some(alert) = self.state.alert_mut(&cover.rule, &cover.alert) {
                if changes_state {
                    let told = alert.more().told.entry(notifier.clone()).or_default();
                    told.content = cover.content;
                }
                self.dirty.alerts.insert((cover.rule.clone(), cover.alert));
            }
        }
        let key = (notifier.clone(), subject);
        let slot = self.state.outbox.entry(key.clone()).or_default();
        let over_taken = slot.waiting.take();
        let flying = slot.flying.as_mut().filter(|item| !item.superseded);
        let over_taken_id = match (&over_taken, flying) {
            (Some(item), _) => Some(item.notification.id.clone()),
            (None, Some(item)) => {
                item.superseded = true;
                Some(item.notification.id.clone())
            }
            (None, None) => None,
        };
        // A newer message inherits the back-off of the one it takes the place of.
        let next_at = over_taken.map_or(self.now.at, |item| item.next_at.max(self.now.at));
        slot.waiting = Some(Item {
            notification: Arc::new(notification),
            severity,
            attempts: 0,
            next_at,
            covers: covers.clone(),
            superseded: false,
        });
        self.dirty.slots.insert(key);
        let about = covers
            .first()
            .map(|cover| (cover.rule.clone(), cover.alert));
        let about = about.as_ref().map(|(rule, alert)| (rule, alert));
        if let Some(old) = over_taken_id {
            let what = Happening::Superseded {
                notifier: notifier.clone(),
                id: old,
                by: reason,
            };
            self.event(about, what);
        }
        let what = Happening::Queued {
            notifier: notifier.clone(),
            id,
            reason,
            severity,
        };
        self.event(about, what);
    }

    /// Something of a group changed: it goes out at its time.
    fn touch_group(
        &mut self,
        route: usize,
        labels: Labels,
        notifier: &NotifierId,
        news: Option<Severity>,
    ) {
        let Some(policy) = self.policy.routes.get(route) else {
            return;
        };
        let key = group::key(route, &labels, notifier);
        let now = self.now.at;
        let group = self
            .state
            .groups
            .entry(key.clone())
            .or_insert_with(|| Group {
                notifier: notifier.clone(),
                route,
                labels,
                due: None,
                last_sent: None,
                sequence: 0,
            });
        let due = match group.last_sent {
            _ if news == Some(Severity::Critical) => now,
            None => now + policy.group_wait,
            Some(sent) => (sent + policy.group_interval).max(now),
        };
        if group.due.is_none_or(|before| due < before) {
            group.due = Some(due);
            self.dirty.groups.insert(key);
        }
    }

    /// Groups and waits whose time has come. A flush obeys the mutes of its moment.
    pub(crate) fn flush_due(&mut self) {
        let now = self.now.at;
        let due: Vec<String> = self
            .state
            .groups
            .iter()
            .filter(|(_, group)| is_due(group.due, now))
            .map(|(key, _)| key.clone())
            .collect();
        if !due.is_empty() {
            let sources = self.sources();
            let live = self.live();
            for (rule, fingerprint) in &live {
                self.mute(rule, fingerprint, &sources);
            }
            for key in due {
                self.flush(&key, &live);
            }
        }
        if !self.in_round {
            let waiting: Vec<Named> = self
                .live()
                .into_iter()
                .filter(|(rule, fingerprint)| {
                    let alert = self.state.alert(rule, fingerprint);
                    is_due(alert.and_then(|a| a.more.as_ref()?.waits_until), now)
                })
                .collect();
            let sources = if waiting.is_empty() {
                Vec::new()
            } else {
                self.sources()
            };
            for (rule, fingerprint) in waiting {
                self.mute(&rule, &fingerprint, &sources);
                self.reconcile(&rule, &fingerprint);
            }
        }
    }

    fn flush(&mut self, key: &str, live: &[Named]) {
        let Some(group) = self.state.groups.get(key).cloned() else {
            return;
        };
        self.dirty.groups.insert(key.to_owned());
        let Some(route) = self.policy.routes.get(group.route) else {
            self.state.groups.remove(key);
            return;
        };
        let mut firing = Vec::new();
        let mut resolved = Vec::new();
        let mut new = 0;
        for (rule, fingerprint) in live {
            let Some(alert) = self.state.alert(rule, fingerprint) else {
                continue;
            };
            let Some(more) = &alert.more else { continue };
            if more.meta || more.flapping || group::labels_of(route, alert) != group.labels {
                continue;
            }
            let told = more.told.get(&group.notifier).cloned().unwrap_or_default();
            let routed = self.routed(rule, fingerprint);
            let here = routed
                .iter()
                .any(|(at, id)| *at == group.route && *id == group.notifier);
            let severity = alert.standing().severity();
            if told.ends_only || !(here || told.content.is_some()) {
                continue;
            }
            let cover = Cover {
                rule: rule.clone(),
                alert: *fingerprint,
                content: severity,
            };
            match severity {
                Some(_) if more.muted_by.is_empty() => {
                    new += u32::from(told.content != severity);
                    firing.push(cover);
                }
                Some(_) => {}
                None if told.content.is_some() => resolved.push(cover),
                None => {}
            }
        }
        let count = |covers: &[Cover]| u32::try_from(covers.len()).unwrap_or(u32::MAX);
        let summary = GroupSummary {
            labels: group.labels.clone(),
            firing: count(&firing),
            new,
            resolved: count(&resolved),
        };
        let over = firing.is_empty();
        if new == 0 && resolved.is_empty() {
            if let Some(group) = self.state.groups.get_mut(key) {
                group.due = None;
            }
            if over {
                self.state.groups.remove(key);
            }
            return;
        }
        let covers: Vec<Cover> = firing.into_iter().chain(resolved).collect();
        let alerts = covers
            .iter()
            .filter_map(|cover| self.state.alert(&cover.rule, &cover.alert))
            .take(LISTED_MAX)
            .map(crate::alert::Alert::snapshot)
            .collect();
        let subject = Subject::Group(key.to_owned());
        let sequence = self.now.at.0;
        let notification = Notification {
            id: outbox::notification_id(&subject, group.sequence, sequence, &group.notifier),
            dedup_key: dedup_key(&self.policy.host, &subject),
            reason: Reason::Group,
            alerts,
            group: Some(summary),
            decided_at: self.now.at,
            late: false,
            note: None,
        };
        if let Some(group) = self.state.groups.get_mut(key) {
            group.due = None;
            group.last_sent = Some(self.now.at);
            group.sequence += 1;
        }
        if over {
            // The next one starts anew, with its wait.
            self.state.groups.remove(key);
        }
        self.queue(subject, &group.notifier, notification, covers);
    }

    /// Hands out what is due, one message a place.
    pub(crate) fn dispatch(&mut self) {
        let now = self.now.at;
        for (key, slot) in &mut self.state.outbox {
            let due = slot
                .waiting
                .as_ref()
                .is_some_and(|item| item.next_at <= now);
            if slot.flying.is_some() || !due {
                continue;
            }
            let Some(mut item) = slot.waiting.take() else {
                continue;
            };
            item.attempts += 1;
            self.effects.sends.push(Send {
                notifier: key.0.clone(),
                attempt: item.attempts,
                notification: item.notification.clone(),
            });
            slot.flying = Some(item);
            self.dirty.slots.insert(key.clone());
        }
        // In the order in which they were decided upon.
        self.effects
            .sends
            .sort_by_key(|send| (send.notification.decided_at, send.attempt));
    }

    pub(crate) fn delivery(&mut self, report: DeliveryReport) {
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
                reason: outbox::reason_of(&item),
                severity: item.severity,
                attempt: report.attempt,
                outcome,
                message,
                delay_ms: u64::try_from(delay).unwrap_or(u64::MAX),
            },
        );
        match report.outcome {
            DeliveryOutcome::Accepted { .. } => self.accepted(&key, &item),
            DeliveryOutcome::Failed {
                retry_after,
                answered,
                ..
            } => {
                self.failed(&key, item, retry_after, answered);
            }
            DeliveryOutcome::Refused { message } => self.refused(&key, &item, &message),
        }
        if self
            .state
            .outbox
            .get(&key)
            .is_some_and(|slot| slot.waiting.is_none() && slot.flying.is_none())
        {
            self.state.outbox.remove(&key);
        }
    }

    fn accepted(&mut self, key: &(NotifierId, Subject), item: &Item) {
        let now = self.now.at;
        self.delivered(&key.0, item);
        let instance = meta_instance(meta::DEAD_LETTER, "notifier", key.0.as_str());
        if !item_is_meta(item) {
            self.meta(&instance, Severity::Warning, false, None);
        }
        // The service is back: what else waits for it goes out at once.
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
                *told = Told::default();
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
        let wait = outbox::back_off(
            &self.policy.delivery,
            self.policy.seed,
            &item.notification.id,
            item.attempts,
            answered,
            waiting < FEW,
            retry_after,
        );
        let next_at = self.now.at + wait;
        let Some(slot) = self.state.outbox.get_mut(key) else {
            return;
        };
        match &mut slot.waiting {
            Some(newer) => {
                newer.next_at = newer.next_at.max(next_at);
                newer.attempts = item.attempts;
            }
            None => {
                item.next_at = next_at;
                item.superseded = false;
                slot.waiting = Some(item);
            }
        }
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
            return;
        }
        let instance = meta_instance(meta::DEAD_LETTER, "notifier", key.0.as_str());
        let words = format!("{} refuses messages for good: {message}", key.0);
        self.meta(&instance, Severity::Warning, true, Some(&words.into()));
        let Some(fallback) = self.policy.delivery.fallback.clone() else {
            return;
        };
        if fallback == key.0 {
            return;
        }
        for cover in &item.covers {
            let known = self
                .told(&cover.rule, &cover.alert, &fallback)
                .content
                .is_some();
            let told_now = cover.content.is_some();
            if !known && told_now {
                self.ends_only(&cover.rule, &cover.alert, &fallback);
            }
        }
        let mut copy = (*item.notification).clone();
        let subject = key.1.clone();
        copy.id = outbox::notification_id(&subject, copy.decided_at.0, u64::MAX, &fallback);
        self.queue(subject, &fallback, copy, item.covers.clone());
    }
}

fn item_is_meta(item: &Item) -> bool {
    item.covers
        .iter()
        .all(|cover| cover.rule.as_str().starts_with("watchfire_"))
}

/// The first route that names the notifier, for one that is no longer routed to.
fn route_of<'p>(policy: &'p Policy, notifier: &NotifierId) -> Option<(usize, &'p RoutePolicy)> {
    policy
        .routes
        .iter()
        .enumerate()
        .find(|(_, route)| route.notify.contains(notifier))
}

fn dedup_key(host: &str, subject: &Subject) -> String {
    let subject = match subject {
        Subject::Alert(fingerprint) => fingerprint.to_string(),
        Subject::Group(key) => {
            let rule = RuleId::new("group");
            let labels: BTreeMap<&str, &str> = [("key", key.as_str())].into();
            let labels = Labels::new(labels).unwrap_or_default();
            Fingerprint::of(&rule, &labels).to_string()
        }
    };
    let room = DEDUP_KEY_MAX - "wf1::".len() - subject.len();
    let host: String = host.chars().take(room / 4).collect();
    format!("wf1:{host}:{subject}")
}
