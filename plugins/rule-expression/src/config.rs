//! The table of the rule: an expression a severity.

use std::collections::BTreeMap;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::text::line;

use crate::parse::{self, Condition, Mistake, Number};
use crate::{Case, Expression};

/// Of an expression, for people: the note of an alert is one line of at most 1 KiB.
const SHOWN_MAX: usize = 200;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    when: BTreeMap<String, String>,
    #[serde(default)]
    clear: BTreeMap<String, String>,
    value: Option<Shown>,
    limit: Option<Shown>,
}

/// A number, written as one or as an expression.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged, expecting = "a number or an expression")]
enum Shown {
    Constant(f64),
    Text(String),
}

impl Config {
    pub(crate) fn check(self, inputs: &[String]) -> Result<Expression> {
        if inputs.is_empty() {
            return Err(Error::config(
                "there is no input: write metric = \"…\" (called value), or inputs.errors = { metric = \"…\" } in the rule",
            ));
        }
        if self.when.is_empty() {
            return Err(Error::config(
                "config.when: no expression: write one, like when = { warning = \"errors / total > 0.01 and total > 100\" }",
            ));
        }
        let mut clear = conditions("clear", &self.clear, inputs)?;
        let mut cases = Vec::new();
        for (severity, (raise, text)) in conditions("when", &self.when, inputs)? {
            let text = line(&text).chars().take(SHOWN_MAX).collect();
            cases.push(Case {
                severity,
                raise,
                clear: clear.remove(&severity).map(|(condition, _)| condition),
                text,
            });
        }
        if let Some((severity, _)) = clear.first_key_value() {
            return Err(Error::config(format!(
                "config.clear.{severity}: when has no {severity}: remove it, or add when.{severity}"
            )));
        }
        Ok(Expression {
            cases,
            value: shown("value", self.value, inputs)?,
            limit: shown("limit", self.limit, inputs)?,
        })
    }
}

fn conditions(
    key: &str,
    table: &BTreeMap<String, String>,
    inputs: &[String],
) -> Result<BTreeMap<Severity, (Condition, String)>> {
    let mut conditions = BTreeMap::new();
    for (name, text) in table {
        let path = format!("{key}.{name}");
        let severity: Severity = name
            .parse()
            .map_err(|error: Error| Error::config(format!("config.{path}: {error}")))?;
        let condition = parse::condition(text, inputs).map_err(|m| told(&path, text, &m))?;
        let twice = conditions.insert(severity, (condition, text.clone()));
        if twice.is_some() {
            return Err(Error::config(format!(
                "config.{path}: {severity} is given twice: keep one"
            )));
        }
    }
    Ok(conditions)
}

fn shown(key: &str, shown: Option<Shown>, inputs: &[String]) -> Result<Option<Number>> {
    match shown {
        None => Ok(None),
        Some(Shown::Constant(constant)) => Ok(Some(Number::Constant(constant))),
        Some(Shown::Text(text)) => match parse::number(&text, inputs) {
            Ok(number) => Ok(Some(number)),
            Err(mistake) => Err(told(key, &text, &mistake)),
        },
    }
}

/// The mistake with the text before it, so that its place is seen.
fn told(path: &str, text: &str, mistake: &Mistake) -> Error {
    let before: String = text.chars().take(mistake.at).collect();
    let before = before.trim_end();
    let place = if before.is_empty() {
        "at the beginning".to_owned()
    } else {
        let from = before.chars().count().saturating_sub(20);
        let tail: String = before.chars().skip(from).collect();
        format!("after {tail:?}")
    };
    Error::config(format!("config.{path}: {place}: {}", mistake.message))
}
