//! Groups of alerts that share one message (decisions.md 12).

use crate::alert::Alert;
use crate::effect::{AlertSnapshot, GroupSummary, Notification, Reason};
use crate::model::{ByFingerprint, Fingerprint, Labels, Moment, NotifierId, RuleId, Severity};
use crate::outbox::{self, Cover, Subject};
use crate::policy::RoutePolicy;
use crate::reconcile::Named;
use crate::turn::{Turn, is_due};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Alerts in one message at most; the rest is counted.
pub(crate) const LISTED_MAX: usize = 20;

/// One group towards one notifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) notifier: NotifierId,
    /// The route's place in the file when it was made.
    pub(crate) route: usize,
    /// What its route grouped by when it was made; empty in records of before.
    #[serde(default)]
    pub(crate) by: Arc<[Arc<str>]>,
    /// Values of `group_by`; `rule` among them where the route groups by it.
    pub(crate) labels: Labels,
    /// When it is looked at next: `group_wait` after the first change, then every `group_interval`.
    pub(crate) due: Option<Moment>,
    /// When it was last looked at, whether or not there was something to say.
    #[serde(alias = "last_sent")]
    pub(crate) flushed: Option<Moment>,
    /// Numbers the messages.
    pub(crate) sequence: u64,
}

/// The values by which an alert is grouped.
pub(crate) fn labels_of(route: &RoutePolicy, alert: &Alert) -> Labels {
    let labels = alert.labels();
    let rule: (Arc<str>, Arc<str>) = ("rule".into(), alert.instance.rule.as_str().into());
    let by_rule = route.group_by.iter().any(|name| &**name == "rule");
    let only = labels.only(&route.group_by);
    // Both are valid label sets, and `rule` stands once.
    Labels::new(by_rule.then_some(rule)).map_or_else(|_| only.clone(), |rule| only.with(&rule))
}

/// The group's key in the outbox and in the store.
pub(crate) fn key(route: usize, labels: &Labels, notifier: &NotifierId) -> String {
    format!("{}{notifier}", prefix(route, labels))
}

/// How the keys of all notifiers of the group begin.
fn prefix(route: usize, labels: &Labels) -> String {
    format!("{route}/{labels}/")
}

/// What a group has to say at one moment.
#[derive(Default)]
struct Content {
    firing: Vec<Cover>,
    new: u32,
    resolved: Vec<Cover>,
    /// One that was told of fires still, but may not be spoken of now.
    withheld: bool,
}

/// Live alerts by route and the values that it groups by, each list in the order of the file.
type Members = BTreeMap<(usize, Labels), Vec<Member>>;

/// One live alert of a group.
struct Member {
    /// Among all live alerts.
    place: usize,
    rule: RuleId,
    fingerprint: Fingerprint,
    /// To whom the group's route sends it now, or once did.
    listeners: Vec<NotifierId>,
}

fn listeners(routed: &[(usize, NotifierId)], route: usize) -> Vec<NotifierId> {
    let here = routed.iter().filter(|(at, _)| *at == route);
    here.map(|(_, notifier)| notifier.clone()).collect()
}

impl Turn<'_> {
    /// Something of a group changed: it goes out at its time.
    pub(crate) fn touch_group(
        &mut self,
        route: usize,
        labels: Labels,
        notifier: &NotifierId,
        news: Option<Severity>,
    ) {
        let Some(policy) = self.policy.routes.get(route) else {
            return;
        };
        let key = key(route, &labels, notifier);
        let now = self.now.at;
        if !self.state.groups.contains_key(&key) {
            let group = self.join(route, policy, labels, notifier);
            self.state.groups.insert(key.clone(), group);
            self.dirty.groups.insert(key.clone());
        }
        let Some(group) = self.state.groups.get_mut(&key) else {
            return;
        };
        let due = match group.flushed {
            _ if news == Some(Severity::Critical) => now,
            None => now + policy.group_wait,
            Some(flushed) => (flushed + policy.group_interval).max(now),
        };
        if group.due.is_none_or(|before| due < before) {
            group.due = Some(due);
            self.dirty.groups.insert(key);
        }
    }

    /// One group has one timetable: who is told of it later than others joins in.
    fn join(
        &self,
        route: usize,
        policy: &RoutePolicy,
        labels: Labels,
        notifier: &NotifierId,
    ) -> Group {
        let all = prefix(route, &labels);
        let mut same = self.state.groups.range(all.clone()..);
        let same = same.next().filter(|(key, _)| key.starts_with(&all));
        Group {
            notifier: notifier.clone(),
            route,
            by: policy.group_by.as_slice().into(),
            labels,
            due: same.and_then(|(_, group)| group.due),
            flushed: same.and_then(|(_, group)| group.flushed),
            sequence: 0,
        }
    }

    /// Groups and waits whose time has come. A flush obeys the mutes of its moment.
    pub(crate) fn flush_due(&mut self) {
        // As in a round: alerts that go out by themselves, then groups.
        if !self.in_round && !self.state.unjudged {
            self.end_due_waits();
        }
        self.flush_groups();
    }

    pub(crate) fn flush_groups(&mut self) {
        if self.state.unjudged {
            // Nobody knows yet what became of the alerts during the outage: the next round does.
            return;
        }
        let now = self.now.at;
        let groups = &self.state.groups;
        // Where there is no interval, every round looks.
        let in_round = self.in_round;
        let looked_at = |due: Option<Moment>| is_due(due, now) || (in_round && due.is_none());
        let due = groups.values().filter(|group| looked_at(group.due));
        // Of all its notifiers at once: one timetable.
        let due: BTreeSet<(usize, Labels)> = due.map(|g| (g.route, g.labels.clone())).collect();
        if self.in_round || !self.state.reloaded {
            self.call_in_the_others(&due);
        }
        let groups = &self.state.groups;
        let due: Vec<String> = groups
            .iter()
            .filter(|(_, group)| due.contains(&(group.route, group.labels.clone())))
            .filter(|(key, group)| !self.state.is_flying(key, group))
            .map(|(key, _)| key.clone())
            .collect();
        if !due.is_empty() {
            let live = self.live();
            self.mute_all(&live);
            let members = self.members(&due, live);
            for key in self.in_file_order(due, &members) {
                self.flush(&key, &members);
            }
        }
    }

    /// Notifiers of the route that have heard nothing of the group yet: this is their moment, too.
    fn call_in_the_others(&mut self, due: &BTreeSet<(usize, Labels)>) {
        for (route, labels) in due {
            let Some(policy) = self.policy.routes.get(*route) else {
                continue;
            };
            let named = policy.notify.iter().filter_map(|r| self.meant(r));
            for notifier in named.collect::<Vec<_>>() {
                let key = key(*route, labels, &notifier);
                if !self.state.groups.contains_key(&key) {
                    let group = self.join(*route, policy, labels.clone(), &notifier);
                    self.state.groups.insert(key, group);
                }
            }
        }
    }

    /// The live alerts of every group that is due: in a storm thousands of alerts meet thousands of
    /// groups, so each is looked at once, not once a group.
    fn members(&self, due: &[String], live: Vec<Named>) -> Members {
        let groups = due.iter().filter_map(|key| self.state.groups.get(key));
        let mut members: Members = groups
            .map(|group| ((group.route, group.labels.clone()), Vec::new()))
            .collect();
        let routes: BTreeSet<usize> = members.keys().map(|(route, _)| *route).collect();
        for (place, (rule, fingerprint)) in live.into_iter().enumerate() {
            let Some(alert) = self.state.alert(&rule, &fingerprint) else {
                continue;
            };
            if alert.more.as_ref().is_none_or(|more| more.meta) {
                continue;
            }
            let heard_by = OnceCell::new();
            for at in &routes {
                let Some(route) = self.policy.routes.get(*at) else {
                    continue;
                };
                let Some(of_group) = members.get_mut(&(*at, labels_of(route, alert))) else {
                    continue;
                };
                let heard_by =
                    heard_by.get_or_init(|| self.listeners_by_route(&rule, &fingerprint));
                let listeners = listeners(heard_by, *at);
                if listeners.is_empty() {
                    continue;
                }
                of_group.push(Member {
                    place,
                    rule: rule.clone(),
                    fingerprint,
                    listeners,
                });
            }
        }
        members
    }

    /// Groups in the order of the rules in the file, then of series: by the first of their alerts that fires,
    /// or did for somebody.
    fn in_file_order(&self, mut due: Vec<String>, members: &Members) -> Vec<String> {
        due.sort_by_cached_key(|key| {
            let group = self.state.groups.get(key);
            let of_group = group.and_then(|g| members.get(&(g.route, g.labels.clone())));
            let mut all = of_group.into_iter().flatten();
            all.find(|member| self.is_of_interest(member))
                .map_or(usize::MAX, |member| member.place)
        });
        due
    }

    fn is_of_interest(&self, member: &Member) -> bool {
        let alert = self.state.alert(&member.rule, &member.fingerprint);
        alert.is_some_and(|alert| {
            let more = alert.more.as_ref();
            alert.standing().severity().is_some()
                || more.is_some_and(|more| more.told.values().any(|told| told.content.is_some()))
        })
    }

    /// What the group's alerts are now, against what its notifier was told of them.
    fn content(&self, group: &Group, route: &RoutePolicy, members: &[Member]) -> Content {
        let mut content = Content::default();
        let closed = self.closed(route).is_some();
        for Member {
            rule,
            fingerprint,
            listeners,
            ..
        } in members
        {
            let Some(alert) = self.state.alert(rule, fingerprint) else {
                continue;
            };
            let Some(more) = &alert.more else { continue };
            let told = self.told(rule, fingerprint, &group.notifier);
            if told.ends_only || !listeners.contains(&group.notifier) {
                continue;
            }
            let severity = alert.standing().severity();
            let cover = Cover {
                rule: rule.clone(),
                alert: *fingerprint,
                content: severity,
                new: severity.is_some() && told.content != severity,
                before: told.content,
            };
            match severity {
                Some(_) if closed || more.flapping || self.is_held(rule, alert, &told) => {
                    content.withheld |= told.content.is_some();
                }
                Some(_) => {
                    content.new += u32::from(told.content != severity);
                    content.firing.push(cover);
                }
                None if told.content.is_some() && !more.flapping => content.resolved.push(cover),
                None => {}
            }
        }
        content
    }

    fn flush(&mut self, key: &str, members: &Members) {
        let Some(group) = self.state.groups.get(key).cloned() else {
            return;
        };
        let Some(route) = self.policy.routes.get(group.route) else {
            self.state.groups.remove(key);
            self.dirty.groups.insert(key.to_owned());
            return;
        };
        let of_group = members.get(&(group.route, group.labels.clone()));
        let content = self.content(&group, route, of_group.map_or(&[], Vec::as_slice));
        // Only when all of them resolved does the next message wait for `group_wait` again.
        let over = content.firing.is_empty() && !content.withheld;
        let interval = route.group_interval;
        let silent = content.new == 0 && content.resolved.is_empty();
        if silent && !over && interval.is_zero() && group.due.is_none() {
            return;
        }
        self.dirty.groups.insert(key.to_owned());
        if !silent {
            let members = of_group.map_or(&[][..], Vec::as_slice);
            let notification = self.compose(key, &group, &content, members);
            let (summary, covers) = notification;
            self.queue(
                Subject::Group(key.to_owned()),
                &group.notifier,
                summary,
                covers,
            );
        }
        if over {
            self.state.groups.remove(key);
        } else if let Some(group) = self.state.groups.get_mut(key) {
            // With no interval every round is one: the next change says when.
            group.due = (!interval.is_zero()).then(|| self.now.at + interval);
            group.flushed = Some(self.now.at);
            group.sequence += u64::from(!silent);
        }
    }

    fn compose(
        &self,
        key: &str,
        group: &Group,
        content: &Content,
        members: &[Member],
    ) -> (Notification, Vec<Cover>) {
        let subject = Subject::Group(key.to_owned());
        let mut covers = content.firing.clone();
        covers.extend(content.resolved.iter().cloned());
        // This message takes the place of one that is still undelivered: what that one says is new or
        // over is not said by any other.
        let place = (group.notifier.clone(), subject.clone());
        let undelivered = self.state.outbox.get(&place);
        let mut new = content.new;
        let mut gone: Vec<AlertSnapshot> = Vec::new();
        if let Some(item) = undelivered.and_then(|slot| slot.waiting.as_ref()) {
            for untold in item.covers.iter().filter(|cover| cover.new) {
                let same = |cover: &&mut Cover| cover.alert == untold.alert;
                let again = covers.iter_mut().find(same);
                if let Some(cover) = again.filter(|cover| cover.content.is_some() && !cover.new) {
                    cover.new = true;
                    new += 1;
                }
            }
            for cover in item.covers.iter().filter(|cover| cover.content.is_none()) {
                if covers.iter().any(|other| other.alert == cover.alert) {
                    continue;
                }
                let listed = item.notification.alerts.iter();
                gone.extend(listed.filter(|a| a.fingerprint == cover.alert).cloned());
                covers.push(cover.clone());
            }
        }
        // What is over in the order of the file, too.
        let places: ByFingerprint<usize> = members
            .iter()
            .map(|member| (member.fingerprint, member.place))
            .collect();
        let place = |cover: &Cover| places.get(&cover.alert).copied().unwrap_or(usize::MAX);
        covers[content.firing.len()..].sort_by_cached_key(place);
        let resolved = covers.len() - content.firing.len();
        let alerts = covers.iter().filter_map(|cover| {
            // What was over may fire again by now, and be muted: it is said as it was.
            let was = gone.iter().find(|alert| alert.fingerprint == cover.alert);
            let alert = self.state.alert(&cover.rule, &cover.alert);
            was.cloned().or_else(|| alert.map(Alert::snapshot))
        });
        let alerts: Vec<AlertSnapshot> = alerts.take(LISTED_MAX).collect();
        let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
        let begun = self.now.at.0;
        let notification = Notification {
            id: outbox::notification_id(&subject, group.sequence, begun, &group.notifier),
            dedup_key: outbox::dedup_key(&self.policy.host, &subject),
            reason: Reason::Group,
            alerts,
            group: Some(GroupSummary {
                labels: group.labels.clone(),
                firing: count(content.firing.len()),
                new,
                resolved: count(resolved),
            }),
            decided_at: self.now.at,
            late: false,
            note: None,
        };
        (notification, covers)
    }
}
