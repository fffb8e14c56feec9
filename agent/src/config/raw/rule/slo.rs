//! `slo = { errors = {…}, total = {…}, objective = 0.999 }`: short for the sixteen inputs of a burn rate.
//!
//! Each window becomes two inputs, `errors_1h` and `total_1h`, counted by the host; objective and windows go into the
//! plugin's table. Whoever writes the inputs out gets the same rule.

use super::super::super::file::{At, Place};
use super::super::super::read::{Json, Table};
use super::{INPUT_KEYS, RawInput, matches, metric};
use crate::config::Aggregate;
use serde_json::{Value, json};
use std::time::Duration;
use watchfire_engine::model::{Severity, format_duration};

/// Who judges it, unless the rule names another.
pub(super) const PLUGIN: &str = "rule-burn-rate";

/// Windows of the pairs that the plugin judges unless told otherwise (alerting.md 1.2), in minutes.
const WINDOWS: [u64; 7] = [5, 30, 60, 2 * 60, 6 * 60, 24 * 60, 72 * 60];

/// What a budget is for, unless told otherwise.
const PERIOD: Duration = Duration::from_secs(30 * 86_400);

/// What was written.
pub(super) struct RawSlo {
    errors: Counted,
    total: Counted,
    objective: f64,
    period: Option<At<Duration>>,
    windows: Vec<Window>,
    at: Place,
}

/// A counter.
struct Counted {
    metric: At<String>,
    matches: Vec<(At<String>, Vec<At<String>>)>,
}

/// One pair of `windows`.
struct Window {
    long: Duration,
    short: Duration,
    burn: f64,
    severity: Severity,
}

/// None: the rule has no `slo`, or its mistakes were told.
pub(super) fn slo(rule: &Table<'_, '_>) -> Option<RawSlo> {
    let table = rule.table("slo")?;
    rule.refuse(
        &["inputs"],
        "cannot stand beside `slo`, which makes the inputs",
        "remove one of the two",
    );
    rule.refuse(
        INPUT_KEYS,
        "cannot stand beside `slo`",
        "write it into slo.errors and slo.total",
    );
    let errors = counted(&table, "errors");
    let total = counted(&table, "total");
    let objective = table.number("objective", 0.0, 1.0);
    if !table.has("objective") {
        table.missing(
            "objective",
            "write the share that must succeed: objective = 0.999",
        );
    }
    let period = table.duration("period");
    let windows = table.tables("windows").iter().filter_map(window).collect();
    table.finish();
    Some(RawSlo {
        errors: errors?,
        total: total?,
        objective: objective?,
        period,
        windows,
        at: table.at,
    })
}

fn counted(table: &Table<'_, '_>, key: &'static str) -> Option<Counted> {
    let Some(inner) = table.table(key) else {
        if !table.has(key) {
            table.missing(key, &format!("write {key} = {{ metric = \"…_total\" }}"));
        }
        return None;
    };
    let metric = metric(&inner);
    let matches = matches(&inner);
    inner.refuse(
        &["over", "aggregate"],
        "is chosen by `slo`",
        "remove it, or write the inputs out: inputs.errors_5m = { … }",
    );
    inner.finish();
    Some(Counted {
        metric: metric?,
        matches,
    })
}

fn window(table: &Table<'_, '_>) -> Option<Window> {
    const HELP: &str =
        "write { long = \"1h\", short = \"5m\", burn = 14.4, severity = \"critical\" }";
    for key in ["long", "short", "burn", "severity"] {
        if !table.has(key) {
            table.missing(key, HELP);
        }
    }
    let long = table.duration("long");
    let short = table.duration("short");
    let burn = table.number("burn", 0.001, 1e6);
    let severity = table.get("severity").and_then(|entry| entry.severity());
    table.finish();
    Some(Window {
        long: long?.value,
        short: short?.value,
        burn: burn?,
        severity: severity?.value,
    })
}

impl RawSlo {
    /// The inputs, the shortest window first: it is the one that tells whether anything is seen at all. What else was written
    /// joins the plugin's table.
    pub(super) fn expand(&self, rule: &Table<'_, '_>, config: &mut Json) -> Vec<RawInput> {
        let mut additions = vec![("objective", json!(self.objective))];
        if let Some(period) = &self.period {
            additions.push(("period", json!(format_duration(period.value))));
        }
        if !self.windows.is_empty() {
            additions.push(("windows", self.windows.iter().map(Window::json).collect()));
        }
        if let Value::Object(table) = &mut config.value {
            for (key, value) in additions {
                if table.insert(key.to_owned(), value).is_some() {
                    rule.reader().mistake(
                        *config.places.get(key).unwrap_or(&self.at),
                        &format!("{}.config.{key}", rule.path()),
                        format!("`{key}` belongs to `slo`"),
                        "write it there, once",
                    );
                }
            }
        }
        let mut windows: Vec<Duration> = if self.windows.is_empty() {
            WINDOWS
                .map(|minutes| Duration::from_secs(minutes * 60))
                .to_vec()
        } else {
            self.windows
                .iter()
                .flat_map(|w| [w.short, w.long])
                .collect()
        };
        windows.push(self.period.as_ref().map_or(PERIOD, |period| period.value));
        windows.sort_unstable();
        windows.dedup();
        windows
            .into_iter()
            .flat_map(|over| {
                [("errors", &self.errors), ("total", &self.total)].map(|(name, counted)| RawInput {
                    name: format!("{name}_{}", format_duration(over)).into(),
                    metric: counted.metric.clone(),
                    matches: counted.matches.clone(),
                    over: Some(At {
                        value: over,
                        at: self.at,
                    }),
                    aggregate: Some(At {
                        value: Aggregate::Increase,
                        at: self.at,
                    }),
                })
            })
            .collect()
    }
}

impl Window {
    fn json(&self) -> Value {
        json!({
            "long": format_duration(self.long),
            "short": format_duration(self.short),
            "burn": self.burn,
            "severity": self.severity.to_string(),
        })
    }
}
