//! Rules: inputs with their patterns compiled, timers with their defaults, composites without cycles.

use super::super::file::{At, Role};
use super::super::known;
use super::super::model::{Aggregate, InputConfig, ProbeConfig, RuleConfig};
use super::super::raw::{Raw, RawInput, RawJudge, RawRule};
use super::super::read::{Json, PerSeverityTable};
use super::{Context, first_eight, labels};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{PerSeverity, RuleId, Severities, Severity};
use watchfire_engine::policy::{LabelMatcher, OnMissing, RulePolicy, RuleSource, TextPattern};

/// The component that judges a rule which names none.
const PLUGIN: &str = "rule-threshold";

/// The same for a rule that is about missing series and about no value.
const PRESENCE: &str = "rule-presence";

/// `keep` by severity, lowest first (alerting.md 1.3).
const KEEP: PerSeverity<Duration> = PerSeverity([
    Duration::from_secs(60),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(120),
]);

/// Instances of a rule: ten times what a busy host has of mounts and interfaces, and the engine's state stays below a megabyte.
const INSTANCES_MAX: usize = 1_000;

/// Severity of `absent` and composites, and of `on_missing = "breach"` where thresholds name none (decisions.md 17, 19).
const SEVERITY: Severity = Severity::Critical;

/// Both halves of every rule, in the order of the files.
pub(super) fn rules(
    context: &Context<'_>,
    raw: &Raw,
    probes: &[ProbeConfig],
) -> (Vec<RuleConfig>, Vec<RulePolicy>) {
    let own: Vec<&RawRule> = raw
        .rules
        .iter()
        .filter(|rule| !in_pack(context, rule))
        .collect();
    context.duplicates("rule", own.iter().map(|rule| &rule.id));
    // A rule of a pack yields to one of the same id that the operator wrote.
    let kept: Vec<&RawRule> = raw
        .rules
        .iter()
        .filter(|rule| {
            !in_pack(context, rule) || own.iter().all(|mine| mine.id.value != rule.id.value)
        })
        .collect();
    composites(context, &kept);
    recorded(context, &kept);
    kept.iter()
        .map(|rule| one(context, raw, rule, probes))
        .unzip()
}

/// A rule that reads what another records would never be judged: only what probes yield makes a round.
fn recorded(context: &Context<'_>, rules: &[&RawRule]) {
    for rule in rules {
        let RawJudge::Component { inputs, .. } = &rule.judge else {
            continue;
        };
        for input in inputs {
            let name = &input.metric.value;
            let by = rules
                .iter()
                .find(|other| other.record.as_ref().is_some_and(|of| of.value == *name));
            if let Some(by) = by {
                context.reader.mistake(
                    input.metric.at,
                    &format!("rule[{}].metric", rule.id.value),
                    format!(
                        "{name:?} is what the rule {:?} records, and rules read what probes yield",
                        by.id.value
                    ),
                    "read what that rule reads, or give `record` a name of its own",
                );
            }
        }
    }
}

/// The plugin of a rule that names none: one that is about missing series alone needs no limit.
fn meant(rule: &RawRule, config: &Json) -> &'static str {
    let about_missing = rule.absent.is_some() || rule.on_missing == OnMissing::Breach;
    let no_limit = config
        .value
        .as_object()
        .is_none_or(serde_json::Map::is_empty);
    if about_missing && no_limit {
        PRESENCE
    } else {
        PLUGIN
    }
}

fn in_pack(context: &Context<'_>, rule: &RawRule) -> bool {
    context.files.0[rule.id.at.file].role == Role::Pack
}

fn one(
    context: &Context<'_>,
    raw: &Raw,
    rule: &RawRule,
    probes: &[ProbeConfig],
) -> (RuleConfig, RulePolicy) {
    let id = RuleId::new(rule.id.value.as_str());
    let (plugin, inputs, by, config, source) = match &rule.judge {
        RawJudge::Component {
            plugin,
            inputs,
            by,
            config,
            ..
        } => {
            if let Some(secret) = config.secrets.first() {
                context.reader.mistake(
                    secret.at,
                    &format!("rule[{id}].config"),
                    "a rule cannot use a secret",
                    "rules are pure and reach nothing: remove it",
                );
            }
            (
                Some(Arc::from(
                    plugin.as_deref().unwrap_or_else(|| meant(rule, config)),
                )),
                inputs.iter().map(input).collect(),
                by.clone(),
                config.value.to_string(),
                RuleSource::Component,
            )
        }
        RawJudge::Composite {
            operator, rules, ..
        } => (
            None,
            Vec::new(),
            None,
            "{}".to_owned(),
            RuleSource::Composite {
                operator: *operator,
                rules: rules
                    .iter()
                    .map(|rule| RuleId::new(rule.value.as_str()))
                    .collect(),
            },
        ),
    };
    let config = RuleConfig {
        id: id.clone(),
        plugin,
        inputs,
        by,
        config: config.into(),
        summary: rule.summary.clone(),
        runbook: rule.runbook.clone(),
        dashboard: rule.dashboard.clone(),
        record: rule.record.as_ref().map(|name| name.value.as_str().into()),
        detect_within: rule.detect_within.as_ref().map(|d| d.value),
        origin: context.files.origin(rule.id.at),
    };
    let keep = per_severity(raw.alerting.keep.as_ref(), KEEP);
    let mut policy = RulePolicy {
        id,
        source,
        wait: per_severity(rule.wait.as_ref(), PerSeverity::all(Duration::ZERO)),
        keep: per_severity(rule.keep.as_ref(), keep),
        absent: rule.absent.as_ref().map(|absent| absent.value),
        on_missing: rule.on_missing,
        at_least: rule.at_least.as_ref().map(|at_least| at_least.value),
        severity: rule.severity.unwrap_or(SEVERITY),
        missing: breached_when_missing(rule),
        hold: rule.hold.unwrap_or(Duration::ZERO),
        labels: labels(context, &rule.labels),
        max_instances: rule
            .max_instances
            .or(raw.alerting.max_instances)
            .unwrap_or(INSTANCES_MAX),
        probes: Vec::new(),
        digest: 0,
    };
    policy.digest = digest(&config, &policy);
    policy.probes = known::probes_of(&config, probes);
    (config, policy)
}

/// `on_missing = "breach"`: the severity that is written; else all for which the component has a
/// threshold, for a missing series breaches whatever the rule can breach.
fn breached_when_missing(rule: &RawRule) -> Severities {
    let written = rule.severity.into_iter().collect::<Severities>();
    if !written.is_empty() {
        return written;
    }
    let thresholds = match &rule.judge {
        RawJudge::Component { config, .. } => config.value.as_object(),
        RawJudge::Composite { .. } => None,
    };
    let tables = thresholds.into_iter().flatten();
    let named = tables.filter_map(|(name, table)| {
        let limits = table.as_object()?;
        // A threshold to clear at has one to raise at beside it.
        (name != "clear").then_some(limits)
    });
    let named = named.flat_map(|limits| limits.keys());
    let named: Severities = named
        .filter_map(|name| name.parse::<Severity>().ok())
        .collect();
    if named.is_empty() {
        return [SEVERITY].into_iter().collect();
    }
    named
}

fn input(raw: &RawInput) -> InputConfig {
    InputConfig {
        name: raw.name.clone(),
        metric: raw.metric.value.as_str().into(),
        matches: matchers(&raw.matches),
        over: raw.over.as_ref().map(|over| over.value),
        aggregate: match (&raw.aggregate, &raw.over) {
            (Some(aggregate), _) => aggregate.value,
            (None, Some(_)) => Aggregate::Avg,
            (None, None) => Aggregate::Last,
        },
    }
}

/// What was written, and the default for every severity that was not named.
pub(super) fn per_severity(
    written: Option<&PerSeverityTable>,
    standard: PerSeverity<Duration>,
) -> PerSeverity<Duration> {
    let mut all = standard;
    if let Some(written) = written {
        for severity in Severity::ALL {
            if let Some(value) = written.named[severity.index()] {
                all[severity] = value;
            }
        }
    }
    all
}

/// Label patterns, regular expressions compiled; their syntax was checked while reading.
pub(super) fn matchers(raw: &[(At<String>, Vec<At<String>>)]) -> Vec<LabelMatcher> {
    raw.iter()
        .map(|(name, patterns)| LabelMatcher {
            name: name.value.as_str().into(),
            any_of: patterns
                .iter()
                .map(|pattern| text_pattern(&pattern.value))
                .collect(),
        })
        .collect()
}

/// A regular expression of a silence; none where the text is none.
pub(super) fn pattern(text: &str) -> Option<TextPattern> {
    let regex = super::super::raw::compile(text).ok()?;
    let source = format!("~{text}").into();
    Some(TextPattern::Predicate(
        source,
        Arc::new(move |t| regex.is_match(t)),
    ))
}

fn text_pattern(text: &str) -> TextPattern {
    match text.strip_prefix('~').map(super::super::raw::compile) {
        Some(Ok(regex)) => {
            TextPattern::Predicate(text.into(), Arc::new(move |t| regex.is_match(t)))
        }
        _ => TextPattern::Exact(text.into()),
    }
}

/// Every child exists; no composite contains itself.
fn composites(context: &Context<'_>, rules: &[&RawRule]) {
    let children: BTreeMap<&str, &[At<String>]> = rules
        .iter()
        .map(|rule| match &rule.judge {
            RawJudge::Composite { rules, .. } => (rule.id.value.as_str(), rules.as_slice()),
            RawJudge::Component { .. } => (rule.id.value.as_str(), [].as_slice()),
        })
        .collect();
    let mut in_cycle: Vec<&str> = Vec::new();
    for rule in rules {
        let RawJudge::Composite { rules, at, .. } = &rule.judge else {
            continue;
        };
        let id = rule.id.value.as_str();
        for child in rules {
            if !children.contains_key(child.value.as_str()) && !context.lets_dangle() {
                context.reader.absence(
                    child.at,
                    &format!("rule[{id}]"),
                    format!("no rule is called {:?}", child.value),
                    match context.reader.near(&child.value, children.keys().copied()) {
                        Some(meant) => format!("did you mean {meant:?}?"),
                        None => "write the id of a rule of this configuration".to_owned(),
                    },
                );
            }
        }
        if in_cycle.contains(&id) {
            continue;
        }
        if let Some(cycle) = cycle_through(id, &children) {
            context.reader.mistake(
                *at,
                &format!("rule[{id}]"),
                format!("the rule depends on itself: {} -> {id}", cycle.join(" -> ")),
                "remove one of these references",
            );
            in_cycle.extend(cycle);
        }
    }
}

/// A path of composites from `start` back to it; breadth first, so that it is a shortest one.
fn cycle_through<'r>(
    start: &'r str,
    children: &BTreeMap<&'r str, &'r [At<String>]>,
) -> Option<Vec<&'r str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(rule) = queue.pop_front() {
        for child in children.get(rule).copied().unwrap_or_default() {
            let child = child.value.as_str();
            if child == start {
                let mut path = vec![rule];
                while let Some(before) = path.last().filter(|r| **r != start) {
                    path.push(came_from[before]);
                }
                path.reverse();
                return Some(path);
            }
            if !came_from.contains_key(child) {
                came_from.insert(child, rule);
                queue.push_back(child);
            }
        }
    }
    None
}

/// A hash of all that the rule means: what is judged, how, when it fires, what it says. Where it
/// stands in the file and which probes feed it are no part of it.
fn digest(config: &RuleConfig, policy: &RulePolicy) -> u64 {
    let meaning = RuleConfig {
        origin: String::new(),
        ..config.clone()
    };
    // The derived Debug text names every field, so a field that is added later cannot be forgotten.
    first_eight(&Sha256::digest(format!("{meaning:?}\0{policy:?}")))
}
