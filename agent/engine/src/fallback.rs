//! The fallback: it hears what another notifier cannot be told (decisions.md 18).

use crate::delivery::{Key, changes_what_is_told, states};
use crate::effect::Reason;
use crate::model::NotifierId;
use crate::outbox::{self, Cover, Item};
use crate::turn::Turn;

impl Turn<'_> {
    /// The fallback gets a copy of what its notifier cannot be told.
    pub(crate) fn stand_in(&mut self, key: &Key, item: &Item) {
        let Some(fallback) = self.policy.delivery.fallback.clone() else {
            return;
        };
        if fallback == key.0 {
            return;
        }
        let news: Vec<Cover> = item
            .covers
            .iter()
            .filter(|cover| self.is_news(&fallback, cover, item))
            .cloned()
            .collect();
        if news.is_empty() {
            return;
        }
        // Who hears that it flaps, and of nothing else, hears what it settles on; who heard of a fire hears its end.
        let flaps = item.notification.reason == Reason::FlapStart;
        for cover in news.iter().filter(|c| flaps || c.content.is_some()) {
            let told = self.told(&cover.rule, &cover.alert, &fallback);
            let routed = self.routed(&cover.rule, &cover.alert);
            if told.content.is_none() && !routed.iter().any(|(_, id)| *id == fallback) {
                self.ends_only(&cover.rule, &cover.alert, &fallback);
            }
            if flaps && told.content.is_none() {
                self.hears_of_flapping(&cover.rule, &cover.alert, &fallback, true);
            }
        }
        let mut copy = (*item.notification).clone();
        let subject = key.1.clone();
        copy.id = outbox::notification_id(&subject, copy.decided_at.0, u64::MAX, &fallback);
        let mut covers = item.covers.clone();
        for cover in &mut covers {
            cover.before = self.told(&cover.rule, &cover.alert, &fallback).content;
        }
        self.queue(subject, &fallback, copy, covers);
    }

    /// Whether the fallback does not know by itself what the dead message says.
    fn is_news(&self, fallback: &NotifierId, cover: &Cover, item: &Item) -> bool {
        let reason = item.notification.reason;
        let told = self.told(&cover.rule, &cover.alert, fallback);
        let alert = self.state.alert(&cover.rule, &cover.alert);
        let started = alert.and_then(|alert| alert.more.as_ref()?.started);
        let started = started.map(|started| started.at);
        let heard = told.heard.is_some() && told.heard == started;
        if !changes_what_is_told(reason) {
            // That recovery gave up, or asks, is said by this message alone.
            return true;
        }
        match cover.content {
            // Who has the alert open hears no second fire, of whichever severity (I1).
            Some(_) if told.content.is_some() && begins(reason) => false,
            // Once is enough, however many notifiers refuse it: two fires would break I1. What was decided after its last
            // copy is another change; what led to it was told elsewhere.
            Some(_) if told.content == cover.content && states(reason) => {
                let changes = match reason {
                    Reason::Escalate | Reason::Deescalate => true,
                    _ => cover.new,
                };
                let heard = told.delivered_at;
                changes
                    && heard.is_some_and(|heard| item.notification.decided_at > heard)
                    && !self.is_undelivered(fallback, &cover.alert)
            }
            // Who heard of the flapping hears by itself what it settled on.
            Some(_) if told.content == cover.content && reason == Reason::FlapStop => false,
            // Nor is a reminder repeated that it has, or is about to get, from another one.
            Some(_) if reason == Reason::Repeat && told.content == cover.content => {
                told.ends_only
                    && told.delivered_at != Some(self.now.at)
                    && !self.is_undelivered(fallback, &cover.alert)
            }
            // It hears only what is dead elsewhere; one that hears the alert itself knows its state.
            Some(_) => told.ends_only || told.content != cover.content,
            // Who heard of this episode hears of its end anyway; the end of a former one is told once.
            None => {
                let decided = item.notification.decided_at;
                let of_former = started.is_some_and(|started| decided < started);
                let told_of_it = of_former && told.heard == Some(decided);
                !heard && !told_of_it
            }
        }
    }
}

/// Whether the message opens an alert for who hears it.
fn begins(reason: Reason) -> bool {
    matches!(reason, Reason::Fire | Reason::Escalation)
}
