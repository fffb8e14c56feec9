//! A new policy: what it no longer names ends (alerting.md 1.4, decisions.md 15).

use crate::alert::Alert;
use crate::effect::Reason;
use crate::group::Group;
use crate::metas::{is_meta, meta};
use crate::model::{Fingerprint, Instance, NotifierId, ProcedureId, RuleId, Severity};
use crate::outbox::Subject;
use crate::persist::kept_whole;
use crate::reconcile::Decision;
use crate::turn::Turn;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Turn<'_> {
    /// A new policy: rules that are gone resolve at once, cardinality is counted anew.
    pub(crate) fn reload(&mut self) {
        self.state.reloaded = true;
        let known: BTreeSet<&RuleId> = self.policy.rules.iter().map(|rule| &rule.id).collect();
        let mut gone: Vec<RuleId> = self
            .state
            .rules
            .iter()
            .filter(|(id, _)| !known.contains(id) && !is_meta(id) && !self.state.is_external(id))
            .map(|(id, _)| id.clone())
            .collect();
        let order = std::mem::take(&mut self.state.file_order);
        gone.sort_by_key(|id| {
            order
                .iter()
                .position(|known| known == id)
                .unwrap_or(order.len())
        });
        self.state.file_order = self
            .policy
            .rules
            .iter()
            .map(|rule| rule.id.clone())
            .collect();
        for rule in &self.policy.rules {
            self.end_pushed_under(&rule.id);
        }
        let resolved = !gone.is_empty();
        for id in gone {
            self.remove_rule(&id);
        }
        self.forget_notifiers();
        self.dissolve_groups();
        self.relabel();
        self.open_gates();
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
        // What a removed procedure did still counts if it comes back; what it asked for is no question any more.
        for (key, ledger) in &mut self.state.ledgers {
            if !procedures.contains(&key.0) && (ledger.waits || ledger.approved) {
                ledger.waits = false;
                ledger.approved = false;
                self.dirty.ledgers.insert(key.clone());
            }
        }
        let kept_whole = kept_whole(self.policy);
        for id in kept_whole.difference(&self.state.kept_whole) {
            let alerts = self.state.rules.get(id).into_iter();
            let alerts = alerts.flat_map(|rule| rule.alerts.keys());
            self.dirty.alerts.extend(alerts.map(|f| (id.clone(), *f)));
        }
        self.state.kept_whole = kept_whole;
        for rule in &self.policy.rules {
            // Who has a place keeps it over a restart, now that newcomers may be refused.
            if let Some(state) = self.state.rules.get(&rule.id)
                && state.is_full(rule)
            {
                let all = state.alerts.keys().map(|f| (rule.id.clone(), *f));
                self.dirty.alerts.extend(all);
            }
        }
        if resolved {
            // What a group says of a removed rule takes the place of what is still undelivered.
            self.flush_groups();
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
        let Some(rule) = self.state.rules.get(id) else {
            return;
        };
        let alerts: Vec<Fingerprint> = rule.live.values().copied().collect();
        for fingerprint in &alerts {
            self.change(id, fingerprint, "rule_removed", |alert| {
                alert.silence_machines();
                alert.memory = None;
            });
            self.end_flapping(id, fingerprint);
            self.notify_one(id, fingerprint);
        }
        let Some(rule) = self.state.rules.get_mut(id) else {
            return;
        };
        rule.unsaved.clear();
        // Healthy ones may have a row, too.
        let all = rule.alerts.keys().map(|f| (id.clone(), *f));
        self.dirty.alerts.extend(all);
        rule.alerts.retain(|fingerprint, alert| {
            alert.observed = None;
            alerts.contains(fingerprint)
        });
        self.dirty.rounds.insert(id.clone());
        self.state.stale_after.remove(id);
    }

    /// What flaps hears no more of its own: those told only that it flaps hear that it is over.
    fn end_flapping(&mut self, id: &RuleId, fingerprint: &Fingerprint) {
        let Some(alert) = self.state.alert_mut(id, fingerprint) else {
            return;
        };
        let more = alert.more();
        more.flaps.clear();
        more.buckets = crate::buckets::Buckets::default();
        more.told
            .values_mut()
            .for_each(|told| told.waits_until = None);
        if !std::mem::take(&mut more.flapping) {
            return;
        }
        // It may have been over for a while and nobody heard: what makes it heard is that its rule is gone.
        if let Some(ended) = &mut more.ended {
            ended.cause = Some("rule_removed".to_owned());
        }
        for notifier in self.flap_audience(id, fingerprint) {
            self.hears_of_flapping(id, fingerprint, &notifier, false);
            if self.told(id, fingerprint, &notifier).content.is_none() {
                let decision = Decision::plain(Reason::FlapStop, None).saying("ok");
                self.queue_alert(id, fingerprint, &notifier, decision);
            }
        }
    }

    /// Messages to notifiers that are no longer configured, and what those were told, are forgotten.
    fn forget_notifiers(&mut self) {
        let known: BTreeSet<&NotifierId> = self.policy.notifiers.iter().collect();
        let dropped: Vec<_> = self
            .state
            .outbox
            .keys()
            .filter(|(notifier, _)| !known.contains(notifier))
            .cloned()
            .collect();
        for key in dropped {
            self.state.outbox.remove(&key);
            self.dirty.slots.insert(key);
        }
        for (id, rule) in &mut self.state.rules {
            for fingerprint in rule.live.values() {
                let more = rule.alerts.get_mut(fingerprint);
                let Some(more) = more.and_then(|alert| alert.more.as_mut()) else {
                    continue;
                };
                let before = more.told.len();
                more.told.retain(|notifier, _| known.contains(notifier));
                if more.told.len() != before {
                    self.dirty.alerts.insert((id.clone(), *fingerprint));
                }
            }
        }
    }

    /// Groups that their route does not make any more, now that it groups otherwise, or not at all, or tells
    /// others. What they were about to say, or could not deliver yet, is said as the routes say things now.
    fn dissolve_groups(&mut self) {
        let stands = |group: &Group| {
            let route = self.policy.routes.get(group.route);
            route.is_some_and(|route| {
                let mut named = route.notify.iter();
                let same = group.by.is_empty() || *group.by == *route.group_by;
                same && !route.group_by.is_empty()
                    && named.any(|recipient| recipient.may_be(self.policy, &group.notifier))
            })
        };
        let groups = self.state.groups.iter().filter(|(_, g)| !stands(g));
        let groups: Vec<(String, NotifierId)> = groups
            .map(|(key, group)| (key.clone(), group.notifier.clone()))
            .collect();
        for (key, notifier) in groups {
            self.state.groups.remove(&key);
            self.dirty.groups.insert(key.clone());
            let place = (notifier, Subject::Group(key));
            let Some(slot) = self.state.outbox.get_mut(&place) else {
                continue;
            };
            let Some(item) = slot.waiting.take() else {
                continue;
            };
            if slot.is_empty() {
                self.state.outbox.remove(&place);
            }
            for mut cover in item.covers {
                if cover.content.is_none() && cover.before.is_none() {
                    // What it did not answer to may have arrived: that it is over is said.
                    let alert = self.state.alert(&cover.rule, &cover.alert);
                    cover.before = alert.map(Alert::last_severity);
                }
                self.untell(&place.0, &cover);
            }
            self.dirty.slots.insert(place);
        }
    }

    /// What rules add to the labels of their alerts holds from now on for those that fire, too, also while
    /// they are not observed.
    fn relabel(&mut self) {
        for rule in &self.policy.rules {
            let Some(state) = self.state.rules.get_mut(&rule.id) else {
                continue;
            };
            for fingerprint in state.live.values() {
                // One that is over resolves under the name it fired under.
                let alert = state.alerts.get_mut(fingerprint);
                let alert = alert.filter(|alert| !alert.is_quiet());
                let Some(more) = alert.and_then(|alert| alert.more.as_mut()) else {
                    continue;
                };
                if more.added != rule.labels && more.external.is_none() {
                    more.added = rule.labels.clone();
                    self.dirty.alerts.insert((rule.id.clone(), *fingerprint));
                }
            }
        }
    }
}
