//! The configuration of a scenario: TOML merged key by key, and what the engine makes of it.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use toml::{Table, Value};
use watchfire_engine::Policy;
use watchfire_engine::calendar::Calendar;
use watchfire_engine::model::{
    Labels, NotifierId, PerSeverity, RuleId, Severities, Severity, parse_duration,
};
use watchfire_engine::policy::{
    AlertMatcher, AlertingPolicy, AtLeast, DeliveryPolicy, EscalationStep, Flapping, InhibitPolicy,
    LabelMatcher, Mode, OnMissing, Operator, ProcedurePolicy, Recipient, RecoverPolicy, Regexes,
    RoutePolicy, RulePolicy, RuleSource, TextPattern,
};

/// Tables merge key by key; anything else of `over` takes the place of `base`'s.
pub(crate) fn merge(base: &Table, over: &Table) -> Table {
    let mut merged = base.clone();
    for (key, value) in over {
        let value = match (merged.get(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => Value::Table(merge(below, above)),
            _ => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

/// A duration as configuration writes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text)
            .map(Span)
            .map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Spans {
    All(Span),
    Each(BTreeMap<String, Span>),
}

impl Spans {
    fn per_severity(&self, other: PerSeverity<Duration>) -> PerSeverity<Duration> {
        match self {
            Spans::All(span) => PerSeverity::all(span.0),
            Spans::Each(spans) => {
                let mut all = other;
                for (name, span) in spans {
                    all[severity(name)] = span.0;
                }
                all
            }
        }
    }
}

/// All of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) defaults: Defaults,
    #[serde(default)]
    alerting: RawAlerting,
    #[serde(default)]
    delivery: RawDelivery,
    #[serde(default)]
    recover: RawRecover,
    #[serde(default)]
    pub(crate) rule: Vec<RawRule>,
    #[serde(default)]
    route: Vec<RawRoute>,
    #[serde(default)]
    inhibit: Vec<RawInhibit>,
    #[serde(default)]
    recovery: Vec<RawRecovery>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defaults {
    pub(crate) every: Option<Span>,
    pub(crate) adaptive: Option<Adaptive>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Adaptive {
    pub(crate) min: Span,
    pub(crate) max: Span,
    pub(crate) calm: u32,
    pub(crate) grow: f64,
    pub(crate) shrink: f64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlerting {
    stale_after: Option<Span>,
    gone_after: Option<u32>,
    outage_tolerance: Option<Span>,
    keep: Option<Spans>,
    meta_keep: Option<Span>,
    max_instances: Option<usize>,
    flapping: Option<RawFlapping>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawFlapping {
    Switch(bool),
    Set { start: u32, stop: u32, window: Span },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDelivery {
    first_retry: Option<Span>,
    factor: Option<f64>,
    max_retry: Option<Span>,
    jitter: Option<f64>,
    fallback: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecover {
    concurrency: Option<u32>,
    per_hour: Option<u32>,
    boot_grace: Option<Span>,
    paused: Option<bool>,
}

/// Limits of a native threshold rule, by severity.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) above: BTreeMap<String, f64>,
    pub(crate) at_least: BTreeMap<String, f64>,
    pub(crate) below: BTreeMap<String, f64>,
    pub(crate) at_most: BTreeMap<String, f64>,
    pub(crate) clear: BTreeMap<String, f64>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAtLeast {
    m: u32,
    of: u32,
    period: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    pub(crate) id: String,
    pub(crate) metric: Option<String>,
    #[serde(default, rename = "match")]
    pub(crate) matcher: BTreeMap<String, String>,
    pub(crate) over: Option<Span>,
    pub(crate) aggregate: Option<String>,
    #[serde(rename = "for")]
    wait: Option<Spans>,
    keep: Option<Spans>,
    at_least: Option<RawAtLeast>,
    absent: Option<Span>,
    on_missing: Option<String>,
    hold: Option<Span>,
    max_instances: Option<usize>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    severity: Option<String>,
    all: Option<Vec<String>>,
    any: Option<Vec<String>>,
    none: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) config: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    #[serde(default, rename = "match")]
    matcher: RawMatcher,
    notify: Vec<String>,
    group_by: Option<Vec<String>>,
    group_wait: Option<Span>,
    group_interval: Option<Span>,
    repeat: Option<Spans>,
    #[serde(default)]
    escalate: Vec<RawStep>,
    #[serde(default, rename = "continue")]
    carry_on: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMatcher {
    severity: Vec<String>,
    rule: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    after: Span,
    notify: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInhibit {
    source: OneOrMore,
    target: OneOrMore,
    #[serde(default)]
    equal: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn names(&self) -> Vec<Arc<str>> {
        match self {
            OneOrMore::One(name) => vec![name.as_str().into()],
            OneOrMore::More(names) => names.iter().map(|name| name.as_str().into()).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecovery {
    id: String,
    /// Every action is simulated, whatever its plugin.
    #[serde(rename = "plugin")]
    _plugin: Option<String>,
    rules: Vec<String>,
    severity: Option<String>,
    mode: Option<String>,
    max_attempts: Option<u32>,
    window: Option<Span>,
    cooldown: Option<Span>,
    timeout: Option<Span>,
    verify_after: Option<Span>,
    after: Option<Span>,
    backoff: Option<f64>,
}

/// A severity, aliases included.
pub(crate) fn severity(name: &str) -> Severity {
    name.parse().expect("a severity")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn span(span: Option<Span>, default: Duration) -> Duration {
    span.map_or(default, |span| span.0)
}

fn by_severity(warning: u64, critical: u64) -> PerSeverity<Duration> {
    let mut all = PerSeverity::all(secs(warning));
    all[Severity::Critical] = secs(critical);
    all
}

impl Config {
    /// Reads the merged tables; a scenario that is wrong in itself panics.
    pub(crate) fn read(tables: &Table) -> Self {
        Config::deserialize(Value::Table(tables.clone())).expect("a configuration")
    }

    pub(crate) fn policy(&self) -> Policy {
        let defaults = AlertingPolicy::default();
        let alerting = &self.alerting;
        let flapping = match &alerting.flapping {
            None | Some(RawFlapping::Switch(true)) => defaults.flapping,
            Some(RawFlapping::Switch(false)) => None,
            Some(RawFlapping::Set {
                start,
                stop,
                window,
            }) => Some(Flapping {
                start: *start,
                stop: *stop,
                window: window.0,
            }),
        };
        let routes: Vec<RoutePolicy> = self.route.iter().map(RawRoute::policy).collect();
        let mut notifiers: Vec<NotifierId> = routes
            .iter()
            .flat_map(|route| {
                let steps = route.escalate.iter().flat_map(|step| &step.notify);
                route.notify.iter().chain(steps)
            })
            .filter_map(|recipient| match recipient {
                Recipient::Notifier(id) => Some(id.clone()),
                Recipient::OnCall { .. } => None,
            })
            .collect();
        notifiers.extend(self.delivery.fallback.as_deref().map(NotifierId::new));
        notifiers.sort();
        notifiers.dedup();
        Policy {
            host: "test".into(),
            rules: self.rule.iter().map(|rule| rule.policy(alerting)).collect(),
            routes,
            inhibitions: self.inhibit.iter().map(RawInhibit::policy).collect(),
            maintenance: Vec::new(),
            calendar: Calendar::default(),
            regexes: Regexes::default(),
            procedures: self.recovery.iter().map(RawRecovery::policy).collect(),
            notifiers,
            alerting: AlertingPolicy {
                stale_after: alerting.stale_after.map(|span| span.0),
                gone_after: alerting.gone_after.unwrap_or(defaults.gone_after),
                outage_tolerance: span(alerting.outage_tolerance, defaults.outage_tolerance),
                meta_keep: span(alerting.meta_keep, defaults.meta_keep),
                flapping,
            },
            delivery: self.delivery.policy(),
            recover: self.recover.policy(),
            seed: 1,
        }
    }
}

impl RawDelivery {
    fn policy(&self) -> DeliveryPolicy {
        let defaults = DeliveryPolicy::default();
        DeliveryPolicy {
            first_retry: span(self.first_retry, defaults.first_retry),
            factor: self.factor.unwrap_or(defaults.factor),
            max_retry: span(self.max_retry, defaults.max_retry),
            jitter: self.jitter.unwrap_or(defaults.jitter),
            fallback: self.fallback.as_deref().map(NotifierId::new),
        }
    }
}

impl RawRecover {
    fn policy(&self) -> RecoverPolicy {
        let defaults = RecoverPolicy::default();
        RecoverPolicy {
            concurrency: self.concurrency.unwrap_or(defaults.concurrency),
            per_hour: self.per_hour.unwrap_or(defaults.per_hour),
            boot_grace: span(self.boot_grace, defaults.boot_grace),
            paused: self.paused.unwrap_or(defaults.paused),
        }
    }
}

impl RawRule {
    /// What is written as `severity`; else all that the thresholds name; else critical.
    fn breached_when_missing(&self) -> Severities {
        if let Some(written) = self.severity.as_deref() {
            return [severity(written)].into_iter().collect();
        }
        let limits = &self.config;
        let kinds = [
            &limits.above,
            &limits.at_least,
            &limits.below,
            &limits.at_most,
        ];
        let named = kinds.into_iter().flat_map(|limits| limits.keys());
        let named: Severities = named.map(|name| severity(name)).collect();
        if named.is_empty() {
            return [Severity::Critical].into_iter().collect();
        }
        named
    }

    fn policy(&self, alerting: &RawAlerting) -> RulePolicy {
        let composite = [
            (Operator::All, &self.all),
            (Operator::Any, &self.any),
            (Operator::None, &self.none),
        ];
        let composite = composite.into_iter().find_map(|(operator, rules)| {
            let rules = rules.as_ref()?;
            Some(RuleSource::Composite {
                operator,
                rules: rules.iter().map(|id| RuleId::new(id.as_str())).collect(),
            })
        });
        let mut keep = by_severity(60, 120);
        keep[Severity::High] = secs(120);
        let keep = alerting
            .keep
            .as_ref()
            .map_or(keep, |k| k.per_severity(keep));
        let wait = PerSeverity::all(Duration::ZERO);
        let mut digest = DefaultHasher::new();
        format!("{:?}{:?}", self.config.above, self.config.clear).hash(&mut digest);
        RulePolicy {
            id: RuleId::new(self.id.as_str()),
            source: composite.unwrap_or(RuleSource::Component),
            wait: self.wait.as_ref().map_or(wait, |w| w.per_severity(wait)),
            keep: self.keep.as_ref().map_or(keep, |k| k.per_severity(keep)),
            absent: self.absent.map(|span| span.0),
            on_missing: match self.on_missing.as_deref() {
                None | Some("keep") => OnMissing::Keep,
                Some("ok") => OnMissing::Ok,
                Some("breach") => OnMissing::Breach,
                Some(other) => panic!("on_missing = {other:?}"),
            },
            at_least: self.at_least.as_ref().map(|a| AtLeast {
                m: a.m,
                of: a.of,
                period: a.period.0,
            }),
            severity: self
                .severity
                .as_deref()
                .map_or(Severity::Critical, severity),
            missing: self.breached_when_missing(),
            hold: span(self.hold, Duration::ZERO),
            labels: labels(&self.labels),
            max_instances: self
                .max_instances
                .or(alerting.max_instances)
                .unwrap_or(10_000),
            probes: self.metric.iter().map(|m| m.as_str().into()).collect(),
            digest: digest.finish(),
        }
    }
}

fn labels(map: &BTreeMap<String, String>) -> Labels {
    Labels::new(map.iter().map(|(k, v)| (k.as_str(), v.as_str()))).expect("labels")
}

impl RawRoute {
    fn policy(&self) -> RoutePolicy {
        let ids = |names: &[String]| names.iter().map(|n| Recipient::from(n.as_str())).collect();
        let repeat = by_severity(43_200, 3_600);
        let by_rule = vec!["rule".to_owned()];
        let group_by = self.group_by.as_ref().unwrap_or(&by_rule);
        let matched = self
            .matcher
            .labels
            .iter()
            .map(|(name, value)| LabelMatcher {
                name: name.as_str().into(),
                any_of: vec![TextPattern::Exact(value.as_str().into())],
            });
        RoutePolicy {
            matcher: AlertMatcher {
                severity: self.matcher.severity.iter().map(|s| severity(s)).collect(),
                rule: self
                    .matcher
                    .rule
                    .iter()
                    .map(|r| r.as_str().into())
                    .collect(),
                labels: matched.collect(),
            },
            notify: ids(&self.notify),
            active: Vec::new(),
            mute: Vec::new(),
            group_by: group_by.iter().map(|name| name.as_str().into()).collect(),
            group_wait: span(self.group_wait, secs(10)),
            group_interval: span(self.group_interval, secs(60)),
            repeat: self
                .repeat
                .as_ref()
                .map_or(repeat, |r| r.per_severity(repeat)),
            escalate: self
                .escalate
                .iter()
                .map(|step| EscalationStep {
                    after: step.after.0,
                    notify: ids(&step.notify),
                })
                .collect(),
            carry_on: self.carry_on,
        }
    }
}

impl RawInhibit {
    fn policy(&self) -> InhibitPolicy {
        InhibitPolicy {
            source: self.source.names(),
            target: self.target.names(),
            equal: self.equal.iter().map(|name| name.as_str().into()).collect(),
        }
    }
}

impl RawRecovery {
    fn policy(&self) -> ProcedurePolicy {
        ProcedurePolicy {
            id: self.id.as_str().into(),
            rules: self
                .rules
                .iter()
                .map(|id| RuleId::new(id.as_str()))
                .collect(),
            severity: self
                .severity
                .as_deref()
                .map_or(Severity::Critical, severity),
            mode: match self.mode.as_deref() {
                None | Some("observe") => Mode::Observe,
                Some("approve") => Mode::Approve,
                Some("auto") => Mode::Auto,
                Some(other) => panic!("mode = {other:?}"),
            },
            after: span(self.after, Duration::ZERO),
            max_attempts: self.max_attempts.unwrap_or(3),
            window: span(self.window, secs(3_600)),
            cooldown: span(self.cooldown, secs(60)),
            backoff: self.backoff.unwrap_or(1.0),
            timeout: span(self.timeout, secs(30)),
            verify_after: span(self.verify_after, secs(15)),
        }
    }
}
