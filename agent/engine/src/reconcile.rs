//! Who is told what: desired against told, for every alert and notifier (alerting.md 1.5, decisions.md
//! 12, 16, 18).

use crate::alert::{Alert, Told};
use crate::effect::Reason;
use crate::group;
use crate::model::{Fingerprint, NotifierId, RuleId, Severity};
use crate::policy::{Recipient, RoutePolicy};
use crate::turn::{Turn, is_due};
use std::time::Duration;

/// One alert in need of a look.
pub(crate) type Named = (RuleId, Fingerprint);

/// Why a message goes out, and what it says of its alert.
pub(crate) struct Decision {
    pub(crate) reason: Reason,
    pub(crate) content: Option<Severity>,
    pub(crate) late: bool,
    pub(crate) note: Option<String>,
}

impl Decision {
    pub(crate) fn plain(reason: Reason, content: Option<Severity>) -> Self {
        Decision {
            reason,
            content,
            late: false,
            note: None,
        }
    }

    pub(crate) fn saying(self, note: &str) -> Self {
        Decision {
            note: Some(note.to_owned()),
            ..self
        }
    }
}

impl Turn<'_> {
    /// The notify part of a round: every live alert, in order.
    pub(crate) fn notify_all(&mut self) {
        self.settle_metas();
        self.tend_silences();
        let live = self.live();
        self.end_acknowledgements(&live);
        self.mute_all(&live);
        for (rule, fingerprint) in &live {
            self.flaps(rule, fingerprint);
            self.reconcile(rule, fingerprint);
        }
        // A group that goes out now tells of all its alerts: none of them is repeated beside it.
        self.flush_due();
        for (rule, fingerprint) in &live {
            self.repeat_grouped(rule, fingerprint);
        }
        for (rule, fingerprint) in &live {
            self.escalate(rule, fingerprint);
        }
    }

    /// Repeats of alerts that go out in groups are their own messages.
    fn repeat_grouped(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        for (route, notifier) in self.listeners(rule, fingerprint) {
            let told = self.told(rule, fingerprint, &notifier);
            let at = route.or_else(|| self.former_route(rule, fingerprint, &notifier));
            let (Some(alert), Some(route)) = (
                self.state.alert(rule, fingerprint),
                at.and_then(|at| self.policy.routes.get(at)),
            ) else {
                continue;
            };
            let grouped = !route.group_by.is_empty();
            if grouped && self.repeats(rule, alert, &told, route, &notifier) {
                let decision = Decision::plain(Reason::Repeat, alert.standing().severity());
                self.queue_alert(rule, fingerprint, &notifier, decision);
            }
        }
    }

    /// One alert outside a round: a meta-alert, or one whose rule was removed.
    pub(crate) fn notify_one(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        self.reconcile(rule, fingerprint);
    }

    /// Too many changes: one message, then silence until it settles.
    pub(crate) fn flaps(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let now = self.now.at;
        let policy = self.policy.alerting.flapping;
        let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
            return;
        };
        let Some(policy) = policy else {
            if let Some(more) = &mut alert.more {
                more.flaps.clear();
                more.flapping = false;
                more.told.values_mut().for_each(|told| told.flap = false);
            }
            return;
        };
        let changes = alert.flaps_within(&policy, now);
        let content = alert.standing().severity();
        let state = content.map_or("ok", Severity::name);
        let Some(more) = &mut alert.more else { return };
        let starts = match more.flapping {
            false if changes >= policy.start => true,
            true if changes <= policy.stop => false,
            _ => return,
        };
        more.flapping = starts;
        self.dirty.alerts.insert((rule.clone(), *fingerprint));
        for notifier in self.flap_audience(rule, fingerprint) {
            let decision = if starts {
                let told = self.told(rule, fingerprint, &notifier);
                Decision::plain(Reason::FlapStart, told.content)
            } else {
                Decision::plain(Reason::FlapStop, content).saying(state)
            };
            self.hears_of_flapping(rule, fingerprint, &notifier, starts);
            self.queue_alert(rule, fingerprint, &notifier, decision);
        }
    }

    /// Who hears that an alert flaps, or settled: everybody on an open route, whoever heard of its
    /// beginning, and who hears of the alert though no route names him any more. To the others a closed route
    /// keeps quiet; what it comes to is told when it opens.
    pub(crate) fn flap_audience(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
    ) -> Vec<NotifierId> {
        let heard = |id: &NotifierId| self.told(rule, fingerprint, id).flap;
        let hears = |id: &NotifierId| {
            let told = self.told(rule, fingerprint, id);
            heard(id) || (told.content.is_some() && !told.ends_only)
        };
        let routed = self.routed(rule, fingerprint);
        let alert = self.state.alert(rule, fingerprint);
        let more = alert.and_then(|alert| alert.more.as_ref());
        let former = more.into_iter().flat_map(|more| more.told.keys());
        let former = former.filter(|id| hears(id) && !routed.iter().any(|(_, r)| r == *id));
        let now = routed.iter().filter(|(at, id)| {
            let route = self.policy.routes.get(*at);
            heard(id) || route.is_some_and(|route| self.closed(route).is_none())
        });
        now.map(|(_, id)| id).chain(former).cloned().collect()
    }

    pub(crate) fn hears_of_flapping(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        notifier: &NotifierId,
        starts: bool,
    ) {
        if let Some(alert) = self.state.alert_mut(rule, fingerprint) {
            let told = alert.more().told.entry(notifier.clone()).or_default();
            told.flap = starts;
        }
    }

    /// Notifiers of the matching routes, in order, each once, with the first of its routes that is
    /// open; if none is, with the first.
    pub(crate) fn routed(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
    ) -> Vec<(usize, NotifierId)> {
        self.routed_at(rule, fingerprint, None)
    }

    /// As at `severity`; none: at the alert's own.
    pub(crate) fn routed_at(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        severity: Option<Severity>,
    ) -> Vec<(usize, NotifierId)> {
        let mut found: Vec<(usize, NotifierId)> = Vec::new();
        for at in self.routes_of(rule, fingerprint, severity) {
            let route = &self.policy.routes[at];
            for notifier in route.notify.iter().filter_map(|r| self.meant(r)) {
                match found.iter_mut().find(|(_, known)| *known == notifier) {
                    None => found.push((at, notifier)),
                    Some((before, _)) => {
                        let before_is_closed = self.closed(&self.policy.routes[*before]).is_some();
                        if before_is_closed && self.closed(route).is_none() {
                            *before = at;
                        }
                    }
                }
            }
        }
        found
    }

    /// The routes that take the alert, as at `severity`; none: at its own. In the order of the file.
    pub(crate) fn routes_of(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        severity: Option<Severity>,
    ) -> Vec<usize> {
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return Vec::new();
        };
        let severity = severity.unwrap_or_else(|| alert.last_severity());
        let labels = alert.labels();
        let mut found = Vec::new();
        for (at, route) in self.policy.routes.iter().enumerate() {
            if route.matcher.takes(rule, severity, &labels) {
                found.push(at);
                if !route.carry_on {
                    break;
                }
            }
        }
        found
    }

    pub(crate) fn told(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        notifier: &NotifierId,
    ) -> Told {
        let alert = self.state.alert(rule, fingerprint);
        let more = alert.and_then(|alert| alert.more.as_ref());
        more.and_then(|more| more.told.get(notifier))
            .cloned()
            .unwrap_or_default()
    }

    /// Every notifier that should hear of the alert, or did.
    fn reconcile(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let all = self.listeners(rule, fingerprint);
        self.note_unrouted(rule, fingerprint, !all.is_empty());
        for (route, notifier) in all {
            if route.is_some() {
                self.hears_all(rule, fingerprint, &notifier);
            }
            self.note_withheld(rule, fingerprint, route, &notifier);
            self.reconcile_with(rule, fingerprint, route, &notifier);
        }
        self.end_waits(rule, fingerprint);
    }

    /// Who heard of it by a step, or in another's stead, and is routed to by now hears what lies in between.
    fn hears_all(&mut self, rule: &RuleId, fingerprint: &Fingerprint, notifier: &NotifierId) {
        if self.told(rule, fingerprint, notifier).ends_only
            && let Some(alert) = self.state.alert_mut(rule, fingerprint)
            && let Some(told) = alert.more().told.get_mut(notifier)
        {
            told.ends_only = false;
            self.dirty.alerts.insert((rule.clone(), *fingerprint));
        }
    }

    /// The routed notifiers, each with its route, and those that were told and are routed no more.
    fn listeners(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
    ) -> Vec<(Option<usize>, NotifierId)> {
        let routed = self.routed(rule, fingerprint);
        let alert = self.state.alert(rule, fingerprint);
        let Some(more) = alert.and_then(|alert| alert.more.as_ref()) else {
            return Vec::new();
        };
        let also = more
            .told
            .iter()
            .filter(|(id, told)| told.content.is_some() && !routed.iter().any(|(_, r)| r == *id));
        let mut also: Vec<_> = also.map(|(id, _)| (None, id.clone())).collect();
        if also.len() > 1 {
            also.sort_by_cached_key(|(_, id)| self.place_in_file(id));
        }
        routed
            .iter()
            .map(|(route, id)| (Some(*route), id.clone()))
            .chain(also)
            .collect()
    }

    /// Everybody who hears of the alert, each with the route of which.
    pub(crate) fn listeners_by_route(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
    ) -> Vec<(usize, NotifierId)> {
        let all = self.listeners(rule, fingerprint).into_iter();
        all.filter_map(|(route, notifier)| {
            let at = route.or_else(|| self.former_route(rule, fingerprint, &notifier))?;
            Some((at, notifier))
        })
        .collect()
    }

    /// Those that routes name, then those that escalation steps name, then others.
    fn place_in_file(&self, notifier: &NotifierId) -> usize {
        let routes = &self.policy.routes;
        let steps = routes.iter().flat_map(|route| &route.escalate);
        let steps = steps.flat_map(|step| &step.notify);
        let mut named = routes.iter().flat_map(|route| &route.notify).chain(steps);
        let place = named.position(|recipient| recipient.may_be(self.policy, notifier));
        place.unwrap_or(usize::MAX)
    }

    /// A wait ends at its time, whatever became of its alert.
    fn end_waits(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let now = self.now.at;
        let Some(alert) = self.state.alert_mut(rule, fingerprint) else {
            return;
        };
        let Some(more) = &mut alert.more else { return };
        for told in more.told.values_mut() {
            if is_due(told.waits_until, now) {
                told.waits_until = None;
                self.dirty.alerts.insert((rule.clone(), *fingerprint));
            }
        }
    }

    /// Waits of alerts that go out by themselves, outside a round.
    pub(crate) fn end_due_waits(&mut self) {
        let now = self.now.at;
        let mut waiting: Vec<Named> = Vec::new();
        for (rule, fingerprint) in self.live() {
            let alert = self.state.alert(&rule, &fingerprint);
            let Some(more) = alert.and_then(|alert| alert.more.as_ref()) else {
                continue;
            };
            if more.told.values().any(|told| is_due(told.waits_until, now)) {
                waiting.push((rule, fingerprint));
            }
        }
        if waiting.is_empty() {
            return;
        }
        self.mute_all(&self.live());
        for (rule, fingerprint) in &waiting {
            for (route, notifier) in self.routed(rule, fingerprint) {
                if is_due(self.told(rule, fingerprint, &notifier).waits_until, now) {
                    self.reconcile_with(rule, fingerprint, Some(route), &notifier);
                }
            }
            // Only now: several notifiers may have waited for the same moment.
            self.end_waits(rule, fingerprint);
        }
    }

    fn reconcile_with(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        route: Option<usize>,
        notifier: &NotifierId,
    ) {
        let at = route.or_else(|| self.former_route(rule, fingerprint, notifier));
        let route = at.and_then(|at| Some((at, self.policy.routes.get(at)?)));
        let told = self.told(rule, fingerprint, notifier);
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let Some(more) = &alert.more else { return };
        if more.flapping {
            return;
        }
        // A closed route says that it is over, and nothing else.
        let closed = !more.meta && route.is_some_and(|(_, route)| self.closed(route).is_some());
        let desired = alert.standing().severity();
        if let Some((at, route)) = route
            && !route.group_by.is_empty()
            && !more.meta
            && !told.ends_only
        {
            let quiet = closed || self.is_held(rule, alert, &told);
            let news = desired.filter(|_| told.content != desired && !quiet);
            let over = desired.is_none() && told.content.is_some();
            if news.is_some() || over {
                let labels = group::labels_of(route, alert);
                self.touch_group(at, labels, notifier, news);
            }
            return;
        }
        let decision = match (desired, told.content) {
            (None, None) => None,
            (None, Some(_)) => Some(Decision::plain(Reason::Resolve, None)),
            (Some(_), None) if told.ends_only || closed => None,
            (Some(_), None) => {
                let route = route.map(|(_, route)| route);
                self.first(rule, fingerprint, route, notifier)
            }
            (Some(now), Some(before)) if now == before => {
                let repeats = route
                    .is_some_and(|(_, route)| self.repeats(rule, alert, &told, route, notifier));
                repeats.then(|| Decision::plain(Reason::Repeat, desired))
            }
            (Some(_), Some(_)) if told.ends_only || closed || !more.muted_by().is_empty() => None,
            (Some(now), Some(before)) if now > before => {
                Some(Decision::plain(Reason::Escalate, desired))
            }
            (Some(_), Some(_)) => Some(Decision::plain(Reason::Deescalate, desired)),
        };
        if let Some(decision) = decision {
            self.queue_alert(rule, fingerprint, notifier, decision);
        }
    }

    /// The route under which a notifier that is no longer routed to hears on: one that takes the alert
    /// and names it when it is on duty, else the first that could ever name it.
    fn former_route(
        &self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        notifier: &NotifierId,
    ) -> Option<usize> {
        let alert = self.state.alert(rule, fingerprint)?;
        let (severity, labels) = (alert.last_severity(), alert.labels());
        let could = |recipient: &Recipient| recipient.may_be(self.policy, notifier);
        let by_turns = |recipient: &Recipient| {
            matches!(recipient, Recipient::OnCall { .. }) && could(recipient)
        };
        let routes = &self.policy.routes;
        let first = routes.iter().position(|r| r.notify.iter().any(could))?;
        let taken = routes.iter().position(|route| {
            route.notify.iter().any(by_turns) && route.matcher.takes(rule, severity, &labels)
        });
        taken.or(Some(first))
    }

    /// Whether nothing may be said of the firing alert now to who was `told` so much: it is muted, or `hold`
    /// still runs.
    pub(crate) fn is_held(&self, rule: &RuleId, alert: &Alert, told: &Told) -> bool {
        let Some(more) = &alert.more else {
            return false;
        };
        let hold = self.hold(rule);
        let told = told.content.is_some();
        let since = more
            .started
            .map_or(hold, |started| self.now.at.since(started.at));
        !more.muted_by().is_empty() || (!told && since < hold)
    }

    /// The first message of an episode: not while muted, held or waiting.
    fn first(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        route: Option<&RoutePolicy>,
        notifier: &NotifierId,
    ) -> Option<Decision> {
        let now = self.now.at;
        let alert = self.state.alert(rule, fingerprint)?;
        if self.is_held(rule, alert, &self.told(rule, fingerprint, notifier)) {
            return None;
        }
        let severity = alert.standing().severity()?;
        let wait = route.map_or(Duration::ZERO, |route| route.group_wait);
        let alert = self.state.alert_mut(rule, fingerprint)?;
        let more = alert.more();
        let started = more.started.map_or(now, |started| started.at);
        if !wait.is_zero() && severity < Severity::Critical && !more.meta {
            let told = more.told.entry(notifier.clone()).or_default();
            let first_look = told.waits_until.is_none();
            let until = *told.waits_until.get_or_insert(now + wait);
            if first_look {
                self.dirty.alerts.insert((rule.clone(), *fingerprint));
            }
            if now < until {
                return None;
            }
        }
        Some(Decision {
            late: now > started,
            ..Decision::plain(Reason::Fire, Some(severity))
        })
    }

    /// Whether it is time to say again what was said last. Never in place of something undelivered.
    fn repeats(
        &self,
        rule: &RuleId,
        alert: &Alert,
        told: &Told,
        route: &RoutePolicy,
        notifier: &NotifierId,
    ) -> bool {
        let (Some(more), Some(severity)) = (&alert.more, alert.standing().severity()) else {
            return false;
        };
        let every = route.repeat[severity];
        // Whose turn is over hears of changes, and is not reminded.
        let on_duty = || {
            let mut named = route.notify.iter();
            named.any(|recipient| self.meant(recipient).as_ref() == Some(notifier))
        };
        let due = told.delivered_at.map(|delivered| delivered + every);
        let still = self.in_round
            && !more.meta
            && !more.flapping
            && !told.ends_only
            && told.content == Some(severity)
            && more.muted_by().is_empty()
            && more.acknowledged_by.is_none();
        still
            && on_duty()
            && self.closed(route).is_none()
            && !every.is_zero()
            && is_due(due, self.now.at)
            && !alert.is_stale(self.now.at, self.stale_after_of(rule))
            && !self.is_undelivered(notifier, &alert.instance.fingerprint)
    }

    /// Nobody acknowledged: the next step hears the fire.
    fn escalate(&mut self, rule: &RuleId, fingerprint: &Fingerprint) {
        let policy = self.policy;
        let Some(alert) = self.state.alert(rule, fingerprint) else {
            return;
        };
        let Some(more) = &alert.more else { return };
        let hushed_by = more.hushers();
        let Some(severity) = alert.standing().severity() else {
            return;
        };
        if more.meta {
            return;
        }
        let routed = self.routed(rule, fingerprint);
        let routes = self.routes_of(rule, fingerprint, None);
        let mut steps = Vec::new();
        for route in routes.iter().filter_map(|at| policy.routes.get(*at)) {
            if self.closed(route).is_some() {
                continue;
            }
            let told = more.told.iter().filter(|(id, _)| {
                let mut named = route.notify.iter();
                named.any(|recipient| recipient.may_be(policy, id))
            });
            let firsts = told.filter_map(|(_, told)| told.first_delivered_at);
            let Some(first) = firsts.min() else { continue };
            for step in &route.escalate {
                if self.now.at.since(first) >= step.after {
                    steps.extend(step.notify.iter().filter_map(|r| self.meant(r)));
                }
            }
        }
        for notifier in steps {
            let hears_anyway = routed.iter().any(|(_, id)| *id == notifier);
            if hears_anyway || self.told(rule, fingerprint, &notifier).content.is_some() {
                continue;
            }
            if let Some(by) = &hushed_by {
                self.withhold_step(rule, fingerprint, &notifier, severity, by);
                continue;
            }
            self.ends_only(rule, fingerprint, &notifier);
            let decision = Decision::plain(Reason::Escalation, Some(severity));
            let decision = decision.saying("nobody acknowledged");
            self.queue_alert(rule, fingerprint, &notifier, decision);
        }
    }

    pub(crate) fn ends_only(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
        notifier: &NotifierId,
    ) {
        if let Some(alert) = self.state.alert_mut(rule, fingerprint) {
            let told = alert.more().told.entry(notifier.clone()).or_default();
            told.ends_only = true;
        }
    }
}
