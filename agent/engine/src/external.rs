//! Alerts pushed from outside: the sender owns their state, and each push says until when it holds
//! (alerting.md 1.2). Expiry resolves with the cause `ttl`: the one place where absence does.
//!
//! Identity is the sender's name of the alert, taken as a rule id, with its labels; the severity is no part
//! of it. Each severity has an end of its own, so that two pushes that differ in it alone (a warning and
//! a critical rule of Prometheus under one name) are one alert that escalates and falls back.
//!
//! A push renews the end without a word to the store: after a restart or a suspend every live alert gets
//! as long again, because nobody could renew it meanwhile.

use crate::alert::Alert;
use crate::effect::ExternalView;
use crate::input::Pushed;
use crate::machine::Phase;
use crate::metas::is_meta;
use crate::model::{Fingerprint, Moment, PerSeverity, RuleId, Severity};
use crate::policy::Policy;
use crate::reconcile::Named;
use crate::state::State;
use crate::turn::Turn;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A push that names no end holds for so long: Alertmanager's `resolve_timeout`. Also the longest grace
/// after a restart.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(300);

/// Alerts pushed from outside that may live at once: about 10 MB. Further ones are refused, those that
/// live are renewed.
pub const PUSHED_MAX: usize = 5_000;

/// What an alert remembers of its pushes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct External {
    /// The end of each severity; none: it is off.
    pub(crate) until: PerSeverity<Option<Moment>>,
    /// How long the newest push holds, at most [`RESOLVE_TIMEOUT`]: the grace after a restart.
    pub(crate) grace: Duration,
    pub(crate) annotations: BTreeMap<Arc<str>, Arc<str>>,
    pub(crate) link: Option<Arc<str>>,
}

impl External {
    /// Severities that hold now.
    fn holds(&self, now: Moment, severity: Severity) -> bool {
        self.until[severity].is_some_and(|until| until > now)
    }

    /// When the next severity ends.
    fn next_end(&self) -> Option<Moment> {
        self.until.0.iter().flatten().min().copied()
    }

    pub(crate) fn view(&self, now: Moment) -> ExternalView {
        let last = self.until.0.iter().flatten().max();
        ExternalView {
            ends_in: last.map_or(Duration::ZERO, |until| until.since(now)),
            annotations: self.annotations.clone(),
            link: self.link.clone(),
        }
    }
}

impl State {
    /// Why an alert may not be pushed, for people; none: it may.
    pub fn refuses(&self, policy: &Policy, pushed: &Pushed) -> Option<String> {
        let rule = &pushed.alert.rule;
        if is_meta(rule) {
            return Some(format!(
                "alertname {:?}: names that begin with watchfire_ are the agent's own",
                rule.as_str()
            ));
        }
        if policy.rules.iter().any(|policy| policy.id == *rule) {
            return Some(format!(
                "alertname {:?} is the id of a rule of this agent: push it under another name",
                rule.as_str()
            ));
        }
        let known = self.alert(rule, &pushed.alert.fingerprint).is_some();
        let full = !known && !pushed.ttl.is_zero() && self.externals().count() >= PUSHED_MAX;
        full.then(|| format!("{PUSHED_MAX} pushed alerts are live: end some first"))
    }

    pub(crate) fn externals(&self) -> impl Iterator<Item = &Alert> {
        let live = self.rules.values().flat_map(|rule| {
            let live = rule.live.values();
            live.filter_map(|fingerprint| rule.alerts.get(fingerprint))
        });
        live.filter(|alert| alert.is_external())
    }

    /// When the next pushed alert, or a severity of it, ends.
    pub(crate) fn next_expiry(&self) -> Option<Moment> {
        let externals = self.externals().filter_map(|alert| {
            let external = alert.more.as_ref()?.external.as_ref()?;
            (!alert.is_quiet()).then(|| external.next_end())?
        });
        externals.min()
    }

    /// Nobody could renew them while the agent was away.
    pub(crate) fn grant_grace(&mut self) {
        let now = self.boot;
        for rule in self.rules.values_mut() {
            for fingerprint in rule.live.values() {
                let alert = rule.alerts.get_mut(fingerprint);
                let more = alert.and_then(|alert| alert.more.as_mut());
                let Some(external) = more.and_then(|more| more.external.as_mut()) else {
                    continue;
                };
                let least = now + external.grace;
                for until in external.until.0.iter_mut().flatten() {
                    *until = least.max(*until);
                }
            }
        }
    }

    /// Whether the alerts under this name came from outside.
    pub(crate) fn is_external(&self, rule: &RuleId) -> bool {
        let state = self.rules.get(rule);
        state.is_some_and(|state| state.alerts.values().any(Alert::is_external))
    }
}

impl Turn<'_> {
    /// A batch of pushes: each alert changes once, whatever the batch says of its severities.
    pub(crate) fn pushed(&mut self, batch: Vec<Pushed>) {
        let mut touched = BTreeSet::new();
        for pushed in batch {
            if self.state.refuses(self.policy, &pushed).is_none() {
                touched.extend(self.take_pushed(pushed));
            }
        }
        let touched: Vec<Named> = touched.into_iter().collect();
        for (rule, fingerprint) in &touched {
            self.judge_pushed(rule, fingerprint, "threshold");
        }
        self.tell_pushed(&touched);
    }

    /// Ends what nobody renewed.
    pub(crate) fn expire(&mut self) {
        let now = self.now.at;
        let over = |alert: &&Alert| {
            let external = alert.more.as_ref().and_then(|more| more.external.as_ref());
            let ends = external.and_then(|external| external.next_end());
            ends.is_some_and(|end| end <= now)
        };
        let over = self.state.externals().filter(over);
        let over: Vec<Named> = over
            .map(|alert| (alert.instance.rule.clone(), alert.instance.fingerprint))
            .collect();
        for (rule, fingerprint) in &over {
            self.judge_pushed(rule, fingerprint, "ttl");
        }
        if !self.in_round {
            self.tell_pushed(&over);
        }
    }

    /// A rule that is configured now takes its name back.
    pub(crate) fn end_pushed_under(&mut self, rule: &RuleId) {
        let state = self.state.rules.get(rule);
        let alerts = state.into_iter().flat_map(|state| state.alerts.values());
        let pushed: Vec<Fingerprint> = alerts
            .filter(|alert| alert.is_external())
            .map(|alert| alert.instance.fingerprint)
            .collect();
        for fingerprint in pushed {
            self.change(rule, &fingerprint, "rule_changed", |alert| {
                alert.silence_machines();
                alert.more().external = None;
            });
            self.dirty.alerts.insert((rule.clone(), fingerprint));
            self.notify_one(rule, &fingerprint);
        }
    }

    fn take_pushed(&mut self, pushed: Pushed) -> Option<Named> {
        let now = self.now.at;
        let rule = pushed.alert.rule.clone();
        let fingerprint = pushed.alert.fingerprint;
        let over = pushed.ttl.is_zero();
        let state = self.state.rules.get(&rule);
        if over && state.is_none_or(|state| !state.alerts.contains_key(&fingerprint)) {
            return None;
        }
        let state = self.state.rules.entry(rule.clone()).or_default();
        let alert = state
            .alerts
            .entry(fingerprint)
            .or_insert_with(|| Alert::new(pushed.alert.clone()));
        alert.observed = Some(now);
        let more = alert.more();
        let external = more.external.get_or_insert_with(|| {
            Box::new(External {
                until: PerSeverity::all(None),
                grace: Duration::ZERO,
                annotations: BTreeMap::new(),
                link: None,
            })
        });
        external.until[pushed.severity] = (!over).then(|| now + pushed.ttl);
        if over {
            return Some((rule, fingerprint));
        }
        external.grace = pushed.ttl.min(RESOLVE_TIMEOUT);
        let same = external.annotations == pushed.annotations
            && external.link == pushed.link
            && more.note == pushed.summary;
        if !same {
            external.annotations = pushed.annotations;
            external.link = pushed.link;
            more.note = pushed.summary;
            self.dirty.alerts.insert((rule.clone(), fingerprint));
        }
        Some((rule, fingerprint))
    }

    /// Brings the alert's machines in line with the ends of its severities.
    fn judge_pushed(&mut self, rule: &RuleId, fingerprint: &Fingerprint, cause: &'static str) {
        let now = self.now.at;
        self.change(rule, fingerprint, cause, |alert| {
            let Some(external) = alert.more.as_mut().and_then(|m| m.external.as_mut()) else {
                return;
            };
            for severity in Severity::ALL {
                let holds = external.holds(now, severity);
                if !holds {
                    external.until[severity] = None;
                }
                alert.phases[severity.index()] = if holds { Phase::On } else { Phase::Off };
            }
        });
    }

    /// They go out as soon as they are known: no round of ours is about them.
    fn tell_pushed(&mut self, touched: &[Named]) {
        if touched.is_empty() {
            return;
        }
        self.mute_all(touched);
        for (rule, fingerprint) in touched {
            self.flaps(rule, fingerprint);
            self.notify_one(rule, fingerprint);
        }
        self.flush_due();
    }
}
