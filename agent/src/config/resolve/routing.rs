//! Who hears what, what mutes what, what repairs what.

use super::super::file::At;
use super::super::model::{NotifierConfig, RecoveryConfig};
use super::super::raw::{Raw, RawMatch, RawRoute};
use super::Context;
use super::hours;
use super::rules::{matchers, per_severity};
use crate::sandbox::types::{Grants, Kind, Limits};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::calendar::Calendar;
use watchfire_engine::model::{NotifierId, PerSeverity, ProcedureId, RuleId, Severity};
use watchfire_engine::policy::{
    AlertMatcher, EscalationStep, InhibitPolicy, MaintenancePolicy, ProcedurePolicy, Recipient,
    RoutePolicy, RulePolicy,
};

/// The notifier that is there without a table.
const LOG: &str = "log";

/// `group_wait` and `group_interval` (alerting.md 1.3).
const GROUP_WAIT: Duration = Duration::from_secs(10);
const GROUP_INTERVAL: Duration = Duration::from_secs(60);

/// `repeat` by severity, lowest first. alerting.md names critical and warning; high is somebody's
/// page of this shift, so it comes again within it.
const REPEAT: PerSeverity<Duration> = PerSeverity([
    Duration::from_secs(12 * 3_600),
    Duration::from_secs(12 * 3_600),
    Duration::from_secs(4 * 3_600),
    Duration::from_secs(3_600),
]);

/// Deadline of an action that says nothing (product.md section 2).
const ACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The resolved parts.
pub(super) struct Routing {
    pub(super) notifiers: Vec<NotifierConfig>,
    pub(super) routes: Vec<RoutePolicy>,
    pub(super) calendar: Calendar,
    pub(super) maintenance: Vec<MaintenancePolicy>,
    pub(super) inhibitions: Vec<InhibitPolicy>,
    pub(super) procedures: Vec<ProcedurePolicy>,
    pub(super) recoveries: Vec<RecoveryConfig>,
}

pub(super) fn routing(context: &Context<'_>, raw: &Raw, rules: &[RulePolicy]) -> Routing {
    let notifiers = notifiers(context, raw);
    let known: BTreeSet<&str> = notifiers
        .iter()
        .map(|notifier| notifier.id.as_str())
        .collect();
    if let Some(fallback) = &raw.delivery.fallback {
        notifier_exists(context, &known, fallback, "delivery.fallback");
    }
    let calendar = hours::calendar(context, raw, &known);
    let maintenance = hours::maintenance(context, raw, &calendar, rules);
    let routes = if raw.routes.is_empty() {
        vec![default_route(raw, &notifiers)]
    } else {
        raw.routes
            .iter()
            .map(|route| self::route(context, route, &known, &calendar, rules))
            .collect()
    };
    let inhibitions = raw
        .inhibits
        .iter()
        .map(|inhibit| {
            for (key, patterns) in [("source", &inhibit.source), ("target", &inhibit.target)] {
                for pattern in patterns {
                    rule_exists(context, rules, pattern, &format!("inhibit.{key}"));
                }
            }
            InhibitPolicy {
                source: texts(&inhibit.source),
                target: texts(&inhibit.target),
                equal: inhibit.equal.clone(),
            }
        })
        .collect();
    let (procedures, recoveries) = recoveries(context, raw, rules);
    Routing {
        notifiers,
        routes,
        calendar,
        maintenance,
        inhibitions,
        procedures,
        recoveries,
    }
}

fn notifiers(context: &Context<'_>, raw: &Raw) -> Vec<NotifierConfig> {
    context.duplicates(
        "notifier",
        raw.notifiers.iter().map(|notifier| &notifier.id),
    );
    let standard = raw
        .delivery
        .timeout
        .unwrap_or(Limits::of(Kind::Notifier).wall);
    let mut notifiers: Vec<NotifierConfig> = raw
        .notifiers
        .iter()
        .map(|notifier| {
            let path = format!("notifier[{}]", notifier.id.value);
            context.grants(&notifier.grant, &notifier.config.secrets, &path);
            NotifierConfig {
                id: NotifierId::new(notifier.id.value.as_str()),
                plugin: notifier.plugin.as_str().into(),
                grant: Arc::new(notifier.grant.grants.clone()),
                config: notifier.config.value.to_string().into(),
                title: notifier.title.clone(),
                text: notifier.text.clone(),
                timeout: notifier.timeout.unwrap_or(standard),
            }
        })
        .collect();
    if context.simulated.is_some() {
        simulate_named(raw, &mut notifiers, standard);
    }
    let declared = notifiers.iter().any(|notifier| notifier.id.as_str() == LOG);
    if !declared && (notifiers.is_empty() || mentions(raw, LOG)) {
        notifiers.push(NotifierConfig {
            id: NotifierId::new(LOG),
            plugin: "notifier-log".into(),
            grant: Arc::new(Grants::default()),
            config: "{}".into(),
            title: None,
            text: None,
            timeout: standard,
        });
    }
    notifiers
}

/// In a rule test every notifier is simulated: whoever is named is there, and where nobody is, `default`.
fn simulate_named(raw: &Raw, notifiers: &mut Vec<NotifierConfig>, timeout: Duration) {
    let nobody = notifiers.is_empty() && raw.routes.is_empty();
    let on_call = |id: &str| {
        let rotation = id.split(':').next().unwrap_or(id);
        raw.on_calls.iter().any(|known| known.id.value == rotation)
    };
    let named = mentioned(raw).map(|id| id.value.as_str());
    let named = named.filter(|id| !on_call(id));
    for id in named.chain(nobody.then_some("default")) {
        if notifiers.iter().all(|notifier| notifier.id.as_str() != id) {
            notifiers.push(NotifierConfig {
                id: NotifierId::new(id),
                plugin: "simulated".into(),
                grant: Arc::new(Grants::default()),
                config: "{}".into(),
                title: None,
                text: None,
                timeout,
            });
        }
    }
}

fn mentions(raw: &Raw, id: &str) -> bool {
    mentioned(raw).any(|notify| notify.value == id)
}

/// Every notifier that somebody names.
fn mentioned(raw: &Raw) -> impl Iterator<Item = &At<String>> {
    raw.routes
        .iter()
        .flat_map(|route| {
            let steps = route.escalate.iter().flat_map(|(_, notify)| notify);
            route.notify.iter().chain(steps)
        })
        .chain(raw.on_calls.iter().flat_map(|on_call| &on_call.members))
        .chain(&raw.delivery.fallback)
}

/// Without any route everything goes to every notifier but the fallback; without any notifier that is the log.
fn default_route(raw: &Raw, notifiers: &[NotifierConfig]) -> RoutePolicy {
    let fallback = raw
        .delivery
        .fallback
        .as_ref()
        .map(|fallback| fallback.value.as_str());
    let mut notify: Vec<NotifierId> = notifiers
        .iter()
        .filter(|notifier| fallback != Some(notifier.id.as_str()))
        .map(|notifier| notifier.id.clone())
        .collect();
    if notify.is_empty() {
        notify.extend(notifiers.iter().map(|notifier| notifier.id.clone()));
    }
    RoutePolicy {
        matcher: AlertMatcher::default(),
        notify: notify.into_iter().map(Recipient::Notifier).collect(),
        active: Vec::new(),
        mute: Vec::new(),
        group_by: vec!["rule".into()],
        group_wait: GROUP_WAIT,
        group_interval: GROUP_INTERVAL,
        repeat: REPEAT,
        escalate: Vec::new(),
        carry_on: false,
    }
}

fn route(
    context: &Context<'_>,
    raw: &RawRoute,
    known: &BTreeSet<&str>,
    calendar: &Calendar,
    rules: &[RulePolicy],
) -> RoutePolicy {
    let recipients = |names: &[At<String>], path: &str| {
        let names = names.iter();
        let meant = names.map(|name| hours::recipient(context, known, calendar, name, path));
        meant.collect::<Vec<Recipient>>()
    };
    RoutePolicy {
        matcher: matcher(context, &raw.matcher, rules, "route.match.rule"),
        notify: recipients(&raw.notify, "route.notify"),
        active: hours::schedules(context, calendar, &raw.active, "route.active"),
        mute: hours::schedules(context, calendar, &raw.mute, "route.mute"),
        group_by: raw.group_by.clone().unwrap_or_else(|| vec!["rule".into()]),
        group_wait: raw.group_wait.unwrap_or(GROUP_WAIT),
        group_interval: raw.group_interval.unwrap_or(GROUP_INTERVAL),
        repeat: per_severity(raw.repeat.as_ref(), REPEAT),
        escalate: raw
            .escalate
            .iter()
            .map(|(after, notify)| EscalationStep {
                after: *after,
                notify: recipients(notify, "route.escalate.notify"),
            })
            .collect(),
        carry_on: raw.carry_on,
    }
}

pub(super) fn matcher(
    context: &Context<'_>,
    raw: &RawMatch,
    rules: &[RulePolicy],
    path: &str,
) -> AlertMatcher {
    for pattern in &raw.rule {
        rule_exists(context, rules, pattern, path);
    }
    AlertMatcher {
        severity: raw.severity.clone(),
        rule: texts(&raw.rule),
        labels: matchers(&raw.labels),
    }
}

fn recoveries(
    context: &Context<'_>,
    raw: &Raw,
    rules: &[RulePolicy],
) -> (Vec<ProcedurePolicy>, Vec<RecoveryConfig>) {
    context.duplicates(
        "recovery",
        raw.recoveries.iter().map(|recovery| &recovery.id),
    );
    raw.recoveries
        .iter()
        .map(|recovery| {
            let path = format!("recovery[{}]", recovery.id.value);
            context.grants(&recovery.grant, &recovery.config.secrets, &path);
            let mut triggers: Vec<RuleId> = Vec::new();
            for pattern in &recovery.rules {
                rule_exists(context, rules, pattern, &format!("{path}.rules"));
                for rule in rules
                    .iter()
                    .filter(|rule| matches(&pattern.value, rule.id.as_str()))
                {
                    if !triggers.contains(&rule.id) {
                        triggers.push(rule.id.clone());
                    }
                }
            }
            let id = ProcedureId::new(recovery.id.value.as_str());
            let timeout = recovery.timeout.unwrap_or(ACTION_TIMEOUT);
            let procedure = ProcedurePolicy {
                id: id.clone(),
                rules: triggers,
                severity: recovery.severity.unwrap_or(Severity::Critical),
                mode: recovery.mode.unwrap_or_default(),
                after: recovery.after.unwrap_or(Duration::ZERO),
                max_attempts: recovery.max_attempts.unwrap_or(3),
                window: recovery.window.unwrap_or(Duration::from_secs(3_600)),
                cooldown: recovery
                    .cooldown
                    .as_ref()
                    .map_or(Duration::from_secs(60), |c| c.value),
                backoff: recovery.backoff.unwrap_or(1.0),
                timeout,
                verify_after: recovery
                    .verify_after
                    .as_ref()
                    .map_or(Duration::from_secs(15), |verify| verify.value),
            };
            let config = RecoveryConfig {
                id,
                plugin: recovery.plugin.as_str().into(),
                grant: Arc::new(recovery.grant.grants.clone()),
                config: recovery.config.value.to_string().into(),
                description: recovery.description.clone(),
                timeout,
            };
            (procedure, config)
        })
        .unzip()
}

pub(super) fn notifier_exists(
    context: &Context<'_>,
    known: &BTreeSet<&str>,
    id: &At<String>,
    path: &str,
) {
    if !known.contains(id.value.as_str()) {
        context.reader.absence(
            id.at,
            path,
            format!("no notifier is called {:?}", id.value),
            match context.reader.near(&id.value, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!(
                    "write [[notifier]] id = {:?}, plugin = \"notifier-…\"",
                    id.value
                ),
            },
        );
    }
}

/// An exact id must be that of a rule or of one of the agent's own alerts; what a pattern matches may come later.
fn rule_exists(context: &Context<'_>, rules: &[RulePolicy], pattern: &At<String>, path: &str) {
    let text = pattern.value.as_str();
    let own = text.starts_with("watchfire_") && !path.starts_with("recovery");
    if context.lets_dangle()
        || own
        || text.ends_with('*')
        || rules.iter().any(|rule| rule.id.as_str() == text)
    {
        return;
    }
    context.reader.absence(
        pattern.at,
        path,
        format!("no rule is called {text:?}"),
        match context
            .reader
            .near(text, rules.iter().map(|rule| rule.id.as_str()))
        {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => {
                "write the id of a rule, or a beginning with `*`, such as \"http-*\"".to_owned()
            }
        },
    );
}

/// Whether a rule id matches a pattern with an optional trailing `*`.
fn matches(pattern: &str, id: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => id.starts_with(stem),
        None => id == pattern,
    }
}

fn texts(patterns: &[At<String>]) -> Vec<Arc<str>> {
    patterns
        .iter()
        .map(|pattern| pattern.value.as_str().into())
        .collect()
}
