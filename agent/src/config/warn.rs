//! Doubtful relations (product.md O2): the configuration holds, and probably does not do what was meant.
//!
//! Only what is certain is said: a rule whose probe cannot be known before it runs gets no warning
//! about that probe's interval.

mod hours;
mod mutes;

use super::file::{At, Place, Role};
use super::known;
use super::model::{Config, ProbeConfig};
use super::raw::{Raw, RawJudge, RawRule};
use super::read::{Json, Reader, nearest};
use std::collections::BTreeMap;
use std::time::Duration;
use watchfire_engine::model::{Severity, format_duration as show};
use watchfire_engine::policy::{RoutePolicy, RulePolicy};

/// Intervals outside these are rarely meant.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(300);

/// Says everything doubtful about a configuration that holds.
pub(super) fn warn(config: &Config, raw: &Raw, to: &Reader<'_>) {
    probes(config, raw, to);
    for rule in &raw.rules {
        let at = config.policy.rules.iter().position(|policy| {
            policy.id.as_str() == rule.id.value
                && config
                    .rules
                    .iter()
                    .any(|c| c.id == policy.id && c.origin == to.files.origin(rule.id.at))
        });
        // A pack's rule that yielded to one of the operator's is not judged.
        if let Some(at) = at {
            self::rule(config, rule, &config.policy.rules[at], to);
        }
    }
    packs(config, raw, to);
    notifiers(config, raw, to);
    hours::warn(config, raw, to);
    mutes::warn(config, raw, to);
    for (recovery, policy) in raw.recoveries.iter().zip(&config.policy.procedures) {
        let at = recovery
            .cooldown
            .as_ref()
            .or(recovery.verify_after.as_ref())
            .map(|c| c.at);
        if policy.cooldown < policy.verify_after {
            to.mistake(
                at.unwrap_or(recovery.id.at),
                &format!("recovery[{}].cooldown", policy.id),
                format!(
                    "the cooldown of {} ends before verify_after of {} has told whether the attempt helped",
                    show(policy.cooldown),
                    show(policy.verify_after)
                ),
                "make cooldown at least as long as verify_after",
            );
        }
        if policy.rules.is_empty() {
            to.mistake(
                recovery.id.at,
                &format!("recovery[{}].rules", policy.id),
                format!("no rule triggers {}", policy.id),
                "name a rule of this configuration",
            );
        }
    }
}

fn probes(config: &Config, raw: &Raw, to: &Reader<'_>) {
    if config.probes.is_empty() {
        to.mistake(
            Place::default(),
            "probe",
            "no probe is configured: only dropped-in ones will collect anything",
            "write [[probe]] id = \"host\", plugin = \"probe-host\", grant = { system = true }",
        );
    }
    let interval = |at: Option<&At<Duration>>, key: &str| {
        let Some(every) = at else { return };
        if every.value < EVERY_MIN {
            to.mistake(
                every.at,
                key,
                format!("`every` of {} is shorter than a second", show(every.value)),
                "every round costs CPU and disk; 10s is usual",
            );
        } else if every.value > EVERY_MAX {
            to.mistake(
                every.at,
                key,
                format!(
                    "`every` of {} is longer than five minutes",
                    show(every.value)
                ),
                "nothing can be noticed sooner than that",
            );
        }
    };
    interval(raw.defaults.every.as_ref(), "defaults.every");
    for (written, probe) in raw.probes.iter().zip(&config.probes) {
        let path = format!("probe[{}]", probe.id);
        interval(written.every.as_ref(), &format!("{path}.every"));
        if probe.timeout >= probe.every {
            let at = written
                .timeout
                .as_ref()
                .or(written.every.as_ref())
                .map(|t| t.at);
            to.mistake(
                at.unwrap_or(written.id.at),
                &format!("{path}.timeout"),
                format!(
                    "the timeout of {} is not shorter than the interval of {}: a slow run makes the next one skip",
                    show(probe.timeout),
                    show(probe.every)
                ),
                "make timeout shorter than every",
            );
        }
        if let Some(stale) = &raw.alerting.stale_after {
            let longest = longest(probe);
            if stale.value < longest.mul_f64(2.5) {
                to.mistake(
                    stale.at,
                    "alerting.stale_after",
                    format!(
                        "stale_after of {} is shorter than 2.5 times the interval of probe {} ({}): one lost round makes its alerts stale",
                        show(stale.value),
                        probe.id,
                        show(longest)
                    ),
                    "leave it out: by default it follows each probe's interval",
                );
            }
        }
    }
}

fn rule(config: &Config, raw: &RawRule, policy: &RulePolicy, to: &Reader<'_>) {
    let path = format!("rule[{}]", raw.id.value);
    let RawJudge::Component {
        plugin,
        inputs,
        config: own,
        ..
    } = &raw.judge
    else {
        return;
    };
    let feeding: Vec<&ProbeConfig> = config
        .probes
        .iter()
        .filter(|probe| policy.probes.contains(&probe.id))
        .collect();
    // The shortest of all that might feed it: whatever is too short for that one is too short for all.
    let every = feeding.iter().map(|probe| probe.every).min();
    let slowest = feeding.iter().map(|probe| longest(probe)).min();
    for input in inputs {
        if let (Some(over), Some(every)) = (&input.over, slowest)
            && over.value < every * 2
        {
            to.mistake(
                over.at,
                &format!("{path}.over"),
                format!(
                    "a window of {} holds fewer than two rounds of {}",
                    show(over.value),
                    show(every)
                ),
                "make `over` at least twice the probe's interval",
            );
        }
        // A pack is written for every host: what it cannot judge here is told once for the whole pack.
        if to.files.0[raw.id.at.file].role != Role::Pack {
            metric(config, &input.metric, &path, to);
        }
    }
    if let (Some(wait), Some(every)) = (&raw.wait, every) {
        let shortest = wait.named.iter().flatten().filter(|w| !w.is_zero()).min();
        if let Some(shortest) = shortest.filter(|shortest| **shortest < every) {
            to.mistake(
                wait.at,
                &format!("{path}.for"),
                format!(
                    "`for` of {} is shorter than the probe's interval of {}: it fires at the second round anyway",
                    show(*shortest),
                    show(every)
                ),
                "make `for` at least as long as the interval, or leave it out",
            );
        }
    }
    if let (Some(within), Some(slowest)) = (&raw.detect_within, slowest) {
        let wait = policy.wait.0.iter().min().copied().unwrap_or_default();
        if slowest + wait > within.value {
            to.mistake(
                within.at,
                &format!("{path}.detect_within"),
                format!(
                    "a breach can take {} (interval {}, for {}), longer than the {} asked for",
                    show(slowest + wait),
                    show(slowest),
                    show(wait),
                    show(within.value)
                ),
                "lower the probe's every or adaptive.max, or the rule's for",
            );
        }
    }
    if matches!(
        plugin.as_deref(),
        None | Some("rule-threshold" | "rule-ratio")
    ) {
        thresholds(own, raw, &path, to);
    }
}

/// Packs of which a rule has nothing to judge here.
fn packs(config: &Config, raw: &Raw, to: &Reader<'_>) {
    for pack in &raw.agent.packs {
        let prefix = format!("<pack {}>:", pack.value);
        let idle = config.rules.iter().filter(|rule| {
            rule.origin.starts_with(&prefix)
                && rule
                    .inputs
                    .iter()
                    .any(|input| nobody_yields(config, &input.metric))
        });
        let count = idle.count();
        if count > 0 {
            to.mistake(
                pack.at,
                "agent.packs",
                format!(
                    "{count} rules of the pack {:?} judge metrics that no configured probe yields",
                    pack.value
                ),
                "configure a probe for them, or leave the pack out; the head of the pack names its metrics",
            );
        }
    }
}

/// Whether it is certain that no configured probe yields `metric`.
fn nobody_yields(config: &Config, metric: &str) -> bool {
    !config.probes.is_empty()
        && !metric.starts_with("watchfire_")
        && config
            .probes
            .iter()
            .all(|probe| known::yields(probe, metric) == Some(false))
}

/// A metric that no configured probe can yield, where that is certain; or one that looks mistyped.
fn metric(config: &Config, metric: &At<String>, path: &str, to: &Reader<'_>) {
    if config.probes.is_empty() || metric.value.starts_with("watchfire_") {
        return; // Said already; or the agent's own.
    }
    let answers: Vec<Option<bool>> = config
        .probes
        .iter()
        .map(|probe| known::yields(probe, &metric.value))
        .collect();
    if answers.contains(&None) {
        return;
    }
    let meant = nearest(&metric.value, known::HOST_METRICS.iter().copied())
        .filter(|meant| strsim::osa_distance(meant, &metric.value) <= 2);
    if nobody_yields(config, &metric.value) {
        to.mistake(
            metric.at,
            &format!("{path}.metric"),
            format!("no configured probe yields {}", metric.value),
            match meant {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => {
                    "configure a probe for it; until then the rule has nothing to judge".to_owned()
                }
            },
        );
    } else if let Some(meant) = meant.filter(|meant| *meant != metric.value) {
        to.mistake(
            metric.at,
            &format!("{path}.metric"),
            format!("probe-host is not known to yield {}", metric.value),
            format!("did you mean {meant:?}?"),
        );
    }
}

/// Order of the severities' limits, side of the clear limits, severities that `for` forgets.
fn thresholds(own: &Json, raw: &RawRule, path: &str, to: &Reader<'_>) {
    let mut limits: Vec<(&str, bool, BTreeMap<Severity, f64>)> = Vec::new();
    for (key, up) in [
        ("above", true),
        ("at_least", true),
        ("below", false),
        ("at_most", false),
    ] {
        limits.push((key, up, by_severity(own, key)));
    }
    for (key, up, by) in &limits {
        let mut last: Option<(Severity, f64)> = None;
        for (severity, limit) in by {
            if let Some((lower, before)) = last {
                let ordered = if *up {
                    *limit >= before
                } else {
                    *limit <= before
                };
                if !ordered {
                    to.mistake(
                        place(own, key, *severity, raw),
                        &format!("{path}.config.{key}"),
                        format!(
                            "{severity} begins at {limit}, inside {lower} at {before}: {lower} can never be told alone"
                        ),
                        "the higher severity wants the more extreme limit",
                    );
                }
            }
            last = Some((*severity, *limit));
        }
    }
    let used: Vec<_> = limits.iter().filter(|(_, _, by)| !by.is_empty()).collect();
    if let [(key, up, by)] = used.as_slice() {
        for (severity, clear) in by_severity(own, "clear") {
            let Some(raise) = by.get(&severity) else {
                continue;
            };
            if (*up && clear > *raise) || (!*up && clear < *raise) {
                to.mistake(
                    place(own, "clear", severity, raw),
                    &format!("{path}.config.clear"),
                    format!(
                        "clear of {clear} is on the wrong side of {key} {raise}: the alert would end before it begins"
                    ),
                    format!("for `{key}` clear wants a value {} the limit", if *up { "below" } else { "above" }),
                );
            }
        }
    }
    let judged = used.iter().flat_map(|(_, _, by)| by.keys());
    if let Some(wait) = &raw.wait {
        for severity in judged {
            if wait.named[severity.index()].is_none() {
                to.mistake(
                    wait.at,
                    &format!("{path}.for"),
                    format!("`for` does not name {severity}, which therefore fires at once"),
                    format!("add {severity} = \"…\", or write one duration for all"),
                );
            }
        }
    }
}

/// The numbers under `key` by severity; what is none is the plugin's to refuse.
fn by_severity(own: &Json, key: &str) -> BTreeMap<Severity, f64> {
    own.value
        .get(key)
        .and_then(|value| value.as_object())
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.as_f64()?)))
        .collect()
}

fn place(own: &Json, key: &str, severity: Severity, raw: &RawRule) -> Place {
    let exact = own.places.get(&format!("{key}.{severity}"));
    *exact.or_else(|| own.places.get(key)).unwrap_or(&raw.id.at)
}

fn notifiers(config: &Config, raw: &Raw, to: &Reader<'_>) {
    let policy = &config.policy;
    for notifier in &raw.notifiers {
        let id = notifier.id.value.as_str();
        let reached = policy.routes.iter().any(|route| {
            let steps = route.escalate.iter().flat_map(|step| &step.notify);
            route
                .notify
                .iter()
                .chain(steps)
                .any(|notify| notify.may_be(policy, &notifier.id.value.as_str().into()))
        }) || policy
            .delivery
            .fallback
            .as_ref()
            .is_some_and(|f| f.as_str() == id);
        if !reached {
            to.mistake(
                notifier.id.at,
                &format!("notifier[{id}]"),
                format!("no route reaches the notifier {id:?}"),
                format!("write [[route]] notify = [{id:?}]"),
            );
        }
    }
    let catch_all = policy
        .routes
        .iter()
        .position(|route| !route.carry_on && matches_all(route));
    if let Some(later) = catch_all.and_then(|at| raw.routes.get(at + 1)) {
        to.mistake(
            later.at,
            "route",
            "this route is never reached: the one before it takes every alert",
            "put the general route last, or give it continue = true",
        );
    }
}

fn matches_all(route: &RoutePolicy) -> bool {
    let matcher = &route.matcher;
    matcher.severity.is_empty() && matcher.rule.is_empty() && matcher.labels.is_empty()
}

/// The longest interval a probe may take.
fn longest(probe: &ProbeConfig) -> Duration {
    probe
        .adaptive
        .map_or(probe.every, |adaptive| adaptive.max.max(probe.every))
}
