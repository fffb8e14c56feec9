//! `[[rule]]`.

mod slo;

use super::super::file::{At, Place};
use super::super::read::{Entry, Json, PerSeverityTable, Table, shared};
use super::settings::value;
use super::timing::max_instances;
use crate::config::Aggregate;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Severity, is_label_name, is_metric_name};
use watchfire_engine::policy::{AtLeast, OnMissing, Operator};

/// One `[[rule]]`.
#[derive(Debug)]
pub(crate) struct RawRule {
    pub(crate) id: At<String>,
    pub(crate) judge: RawJudge,
    pub(crate) wait: Option<PerSeverityTable>,
    pub(crate) keep: Option<PerSeverityTable>,
    pub(crate) absent: Option<At<Duration>>,
    pub(crate) on_missing: OnMissing,
    pub(crate) at_least: Option<At<AtLeast>>,
    pub(crate) hold: Option<Duration>,
    pub(crate) severity: Option<Severity>,
    pub(crate) labels: Vec<(At<String>, String)>,
    pub(crate) max_instances: Option<usize>,
    pub(crate) detect_within: Option<At<Duration>>,
    pub(crate) record: Option<At<String>>,
    pub(crate) summary: Option<Arc<str>>,
    pub(crate) runbook: Option<Arc<str>>,
    pub(crate) dashboard: Option<Arc<str>>,
}

/// Who judges it.
#[derive(Debug)]
pub(crate) enum RawJudge {
    /// A component over inputs.
    Component {
        plugin: Option<String>,
        plugin_at: Option<Place>,
        inputs: Vec<RawInput>,
        by: Option<Vec<Arc<str>>>,
        config: Json,
    },
    /// Other rules' alerts.
    Composite {
        operator: Operator,
        rules: Vec<At<String>>,
        at: Place,
    },
}

/// One input.
#[derive(Debug)]
pub(crate) struct RawInput {
    pub(crate) name: Arc<str>,
    pub(crate) metric: At<String>,
    pub(crate) matches: Vec<(At<String>, Vec<At<String>>)>,
    pub(crate) over: Option<At<Duration>>,
    pub(crate) aggregate: Option<At<Aggregate>>,
}

/// Keys of one input, which stand in the rule itself where it has only one.
const INPUT_KEYS: &[&str] = &["metric", "match", "over", "aggregate"];

pub(super) fn rule(table: &Table<'_, '_>) -> Option<RawRule> {
    let id = super::id(table).filter(|id| {
        let reserved = id.value.starts_with("watchfire_");
        if reserved {
            table.reader().mistake(
                id.at,
                table.path(),
                "ids that begin with watchfire_ belong to the agent's own alerts",
                "choose another id",
            );
        }
        !reserved
    });
    let judge = judge(table);
    let raw = RawRule {
        id: id.clone().unwrap_or(At {
            value: String::new(),
            at: super::here(table),
        }),
        judge: judge.unwrap_or(RawJudge::Composite {
            operator: Operator::All,
            rules: Vec::new(),
            at: super::here(table),
        }),
        wait: table.get("for").and_then(|entry| entry.per_severity()),
        keep: table.get("keep").and_then(|entry| entry.per_severity()),
        absent: table.duration("absent"),
        on_missing: super::settings::one_of(
            table,
            "on_missing",
            &[
                ("keep", OnMissing::Keep),
                ("ok", OnMissing::Ok),
                ("breach", OnMissing::Breach),
            ],
        )
        .unwrap_or_default(),
        at_least: at_least(table),
        hold: value(table.duration_or_zero("hold")),
        severity: table
            .get("severity")
            .and_then(|entry| entry.severity())
            .map(|severity| severity.value),
        labels: super::labels(table, "labels"),
        max_instances: max_instances(table),
        detect_within: table.duration("detect_within"),
        record: metric_name(table, "record"),
        summary: super::template(table, "summary"),
        runbook: shared(table.string("runbook")),
        dashboard: shared(table.string("dashboard")),
    };
    table.refuse(
        &["grant"],
        "has no place in a rule: rules are pure and reach nothing",
        "collect with a [[probe]] and judge its metric here",
    );
    table.finish();
    id.map(|_| raw)
}

fn judge(table: &Table<'_, '_>) -> Option<RawJudge> {
    let operators: Vec<(Operator, Entry<'_, '_>)> = [
        (Operator::All, "all"),
        (Operator::Any, "any"),
        (Operator::None, "none"),
    ]
    .into_iter()
    .filter_map(|(operator, key)| Some((operator, table.get(key)?)))
    .collect();
    let Some((operator, list)) = operators.first() else {
        return component(table);
    };
    if let Some((_, second)) = operators.get(1) {
        second.wrong(
            "cannot stand beside another of all, any, none",
            "make a second rule and combine the two",
        );
    }
    table.refuse(
        &[
            "plugin",
            "inputs",
            "slo",
            "by",
            "config",
            "absent",
            "on_missing",
            "record",
        ],
        "has no meaning in a rule that combines others",
        "remove it, or remove all/any/none",
    );
    table.refuse(
        INPUT_KEYS,
        "has no meaning in a rule that combines others",
        "remove it, or remove all/any/none",
    );
    let rules = list.strings(false).unwrap_or_default();
    if rules.is_empty() {
        list.wrong("names no rule", "write the ids of at least one rule");
    }
    Some(RawJudge::Composite {
        operator: *operator,
        rules,
        at: list.at,
    })
}

fn component(table: &Table<'_, '_>) -> Option<RawJudge> {
    let written = table.string("plugin");
    let plugin_at = written.as_ref().map(|plugin| plugin.at);
    let mut plugin = written.map(|plugin| plugin.value);
    let mut config = super::plugin_config(table);
    let mut inputs = Vec::new();
    let several = table.table("inputs");
    let mut by_default = None;
    if table.has("slo") {
        plugin.get_or_insert_with(|| slo::PLUGIN.to_owned());
        // Errors and total rarely have the same labels, and an objective is about all of them together.
        by_default = Some(Vec::new());
        let slo = slo::slo(table);
        inputs = slo.map_or_else(Vec::new, |slo| slo.expand(table, &mut config));
    } else if let Some(several) = &several {
        table.refuse(
            INPUT_KEYS,
            "cannot stand beside `inputs`",
            "write it into the input it belongs to: inputs.NAME = { metric = \"…\", … }",
        );
        for entry in several.entries() {
            if !is_label_name(&entry.name) {
                entry.wrong(
                    "cannot be the name of an input",
                    "use letters, digits and `_`, no digit first",
                );
            }
            let Some(inner) = entry.table() else { continue };
            inputs.extend(input(&inner, &entry.name));
            inner.finish();
        }
        if inputs.is_empty() && several.entries().is_empty() {
            table.missing("inputs", "write inputs.value = { metric = \"…\" }");
        }
    } else if table.has("metric") {
        inputs.extend(input(table, "value"));
    } else {
        for key in INPUT_KEYS {
            table.all(key); // Known, though there is no metric to apply them to.
        }
        table.missing("metric", "say what it judges: metric = \"…\", inputs.NAME = { metric = \"…\" }, slo = { … }, or all/any/none = [\"RULE\"]");
    }
    let by = table.strings("by").map(|names| {
        names
            .into_iter()
            .filter(|name| label_name(table, name))
            .map(|name| name.value.into())
            .collect()
    });
    Some(RawJudge::Component {
        plugin,
        plugin_at,
        inputs,
        by: by.or(by_default),
        config,
    })
}

fn input(table: &Table<'_, '_>, name: &str) -> Option<RawInput> {
    let metric = metric(table);
    let over = table.duration("over");
    let aggregate = table.get("aggregate").and_then(|entry| aggregate(&entry));
    if let (Some(aggregate), false) = (&aggregate, table.has("over"))
        && aggregate.value != Aggregate::Last
    {
        table.reader().mistake(
            aggregate.at,
            &format!("{}.aggregate", table.path()),
            "`aggregate` needs a window",
            "add over = \"5m\"",
        );
    }
    let matches = matches(table);
    Some(RawInput {
        name: name.into(),
        metric: metric?,
        matches,
        over,
        aggregate,
    })
}

/// `metric` of an input.
fn metric(table: &Table<'_, '_>) -> Option<At<String>> {
    let metric = metric_name(table, "metric");
    if !table.has("metric") {
        table.missing("metric", "write metric = \"…\"");
    }
    metric
}

fn metric_name(table: &Table<'_, '_>, key: &'static str) -> Option<At<String>> {
    table.get(key).and_then(|entry| {
        let metric = entry.string()?;
        if !is_metric_name(&metric.value) {
            let help = if metric.value.contains('{') {
                "write the labels apart: match = { label = \"value\" }"
            } else {
                "use letters, digits, `_` and `:`, no digit first"
            };
            entry.wrong(
                &format!("{:?} cannot be the name of a metric", metric.value),
                help,
            );
            return None;
        }
        Some(metric)
    })
}

/// `match` of an input.
fn matches(table: &Table<'_, '_>) -> Vec<(At<String>, Vec<At<String>>)> {
    table
        .table("match")
        .map(|m| label_patterns(&m))
        .unwrap_or_default()
}

/// `{ label = "value" | ["a", "b"] | "~regex" }`.
pub(super) fn label_patterns(table: &Table<'_, '_>) -> Vec<(At<String>, Vec<At<String>>)> {
    let mut all = Vec::new();
    for entry in table.entries() {
        let name = At {
            value: entry.name.clone(),
            at: entry.key_at,
        };
        let Some(patterns) = entry.strings(true) else {
            continue;
        };
        if patterns.is_empty() {
            entry.wrong("matches nothing", "write at least one value, or remove it");
        }
        for pattern in &patterns {
            if let Some(Err(error)) = pattern.value.strip_prefix('~').map(compile) {
                table.reader().mistake(
                    pattern.at,
                    entry.path(),
                    format!("{:?} is no regular expression: {error}", pattern.value),
                    "after `~` stands a regular expression that matches the whole value",
                );
            }
        }
        if label_name(table, &name) {
            all.push((name, patterns));
        }
    }
    all
}

/// Compiles a pattern of a matcher: anchored at both ends.
pub(crate) fn compile(pattern: &str) -> Result<regex_lite::Regex, String> {
    // Compiled alone first, so that `a)(b` is not made valid by the group around it.
    regex_lite::Regex::new(pattern).map_err(|error| error.to_string())?;
    regex_lite::Regex::new(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())
}

fn aggregate(entry: &Entry<'_, '_>) -> Option<At<Aggregate>> {
    const NAMES: &[(&str, Aggregate)] = &[
        ("avg", Aggregate::Avg),
        ("min", Aggregate::Min),
        ("max", Aggregate::Max),
        ("sum", Aggregate::Sum),
        ("last", Aggregate::Last),
        ("count", Aggregate::Count),
        ("increase", Aggregate::Increase),
        ("rate", Aggregate::Rate),
        ("delta", Aggregate::Delta),
        ("p50", Aggregate::Quantile(50)),
        ("p90", Aggregate::Quantile(90)),
        ("p95", Aggregate::Quantile(95)),
        ("p99", Aggregate::Quantile(99)),
        ("stddev", Aggregate::Stddev),
        ("changes", Aggregate::Changes),
    ];
    let text = entry.string()?;
    if let Some((_, meant)) = NAMES.iter().find(|(name, _)| *name == text.value) {
        return Some(At {
            value: *meant,
            at: text.at,
        });
    }
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    let common = match &*text.value {
        "mean" | "average" => Some("avg"),
        "median" => Some("p50"),
        "stdev" => Some("stddev"),
        other => super::super::read::nearest(other, names.iter().copied()),
    };
    let help = match common {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("write one of {}", names.join(", ")),
    };
    entry.wrong(&format!("cannot be {:?}", text.value), help);
    None
}

fn at_least(table: &Table<'_, '_>) -> Option<At<AtLeast>> {
    const HELP: &str = "write at_least = { m = 3, of = 5, period = \"60s\" }";
    let entry = table.get("at_least")?;
    let inner = entry.table()?;
    let m = inner.integer("m", 1, 1_000);
    let of = inner.integer("of", 1, 1_000);
    let period = inner.duration("period");
    for key in ["m", "of", "period"] {
        if !inner.has(key) {
            inner.missing(key, HELP);
        }
    }
    inner.finish();
    let (m, of) = (
        u32::try_from(m?.value).ok()?,
        u32::try_from(of?.value).ok()?,
    );
    if m > of {
        entry.wrong(
            &format!("wants {m} of {of} buckets, which never happens"),
            HELP,
        );
        return None;
    }
    Some(At {
        value: AtLeast {
            m,
            of,
            period: period?.value,
        },
        at: entry.at,
    })
}

fn label_name(table: &Table<'_, '_>, name: &At<String>) -> bool {
    let good = is_label_name(&name.value);
    if !good {
        table.reader().mistake(
            name.at,
            table.path(),
            format!("{:?} cannot be the name of a label", name.value),
            "use letters, digits and `_`, no digit first",
        );
    }
    good
}
