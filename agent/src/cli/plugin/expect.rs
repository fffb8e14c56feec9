//! What must come out of a case, held against what came: samples, verdicts, answers, requests.

use super::serve::Came;
use crate::sandbox::types::{CallError, Collection, Verdicts};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use watchfire_engine::model::Severity;

/// What must come out. What is left out is not looked at.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// All samples of a probe: series and value, or `"measured"` for any number.
    samples: Option<BTreeMap<String, Value>>,
    /// Parts of what failed on the way.
    failures: Option<Vec<String>>,
    /// Part of `CASE: text`, such as `denied: ` or `unavailable: answered 503`.
    error: Option<String>,
    verdicts: Option<Vec<Value>>,
    rounds: Option<Vec<Vec<Value>>>,
    receipt: Option<Value>,
    outcome: Option<Value>,
    /// All that came to the server, in order.
    pub(super) requests: Option<Vec<Request>>,
    /// `state` after the call, as text.
    pub(super) state: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    request: String,
    json: Option<Value>,
    body: Option<String>,
    /// Some of its headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What the plugin gave.
pub(super) enum Gave {
    Samples(Collection),
    Verdicts(Vec<Vec<Value>>),
    Receipt(Value),
    Outcome(Value),
}

impl Expect {
    /// What differs.
    pub(super) fn compare(&self, gave: &Result<Gave, CallError>) -> Vec<String> {
        let gave = match (gave, &self.error) {
            (Err(error), Some(expected)) => {
                let said = format!("{}: {error}", error.name());
                let differs = !said.contains(expected);
                let told = format!("error: expected {expected:?}, got {said:?}");
                return differs.then_some(told).into_iter().collect();
            }
            (Err(error), None) => return vec![format!("failed ({}): {error}", error.name())],
            (Ok(_), Some(expected)) => {
                return vec![format!(
                    "error: expected {expected:?}, and the call succeeded"
                )];
            }
            (Ok(gave), None) => gave,
        };
        let mut told = Vec::new();
        let mut compare = |what: &str, expected: &Value, got: &Value| {
            if !same(expected, got) {
                told.push(format!("{what}: expected {expected}, got {got}"));
            }
        };
        match gave {
            Gave::Samples(collection) => {
                let samples = samples(collection);
                if let Some(expected) = &self.samples {
                    told.extend(compare_samples(expected, &samples));
                }
                let failures: Vec<String> = collection
                    .failures
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let expected = self.failures.as_deref().unwrap_or_default();
                let all = expected.len() == failures.len()
                    && expected
                        .iter()
                        .zip(&failures)
                        .all(|(part, all)| all.contains(part));
                if !all {
                    told.push(format!("failures: expected {expected:?}, got {failures:?}"));
                }
                if self.samples.is_none() && self.failures.is_none() {
                    told.push(format!(
                        "the case expects nothing of a probe; it gave samples = {}",
                        json!(samples)
                    ));
                }
            }
            Gave::Verdicts(rounds) => match (&self.rounds, &self.verdicts) {
                (Some(expected), _) => compare("rounds", &json!(expected), &json!(rounds)),
                (None, Some(expected)) => compare("verdicts", &json!(expected), &json!(rounds[0])),
                (None, None) => told.push(format!(
                    "the case expects nothing of a rule; it gave verdicts = {}",
                    json!(rounds[0])
                )),
            },
            Gave::Receipt(receipt) => {
                if let Some(Value::Object(expected)) = &self.receipt {
                    for (key, value) in expected {
                        compare(&format!("receipt.{key}"), value, &receipt[key]);
                    }
                } else if self.requests.is_none() {
                    told.push(format!(
                        "the case expects nothing of a notifier; it gave receipt = {receipt}"
                    ));
                }
            }
            Gave::Outcome(outcome) => match &self.outcome {
                Some(expected) => compare("outcome", expected, outcome),
                None => told.push(format!(
                    "the case expects nothing of an action; it gave outcome = {outcome}"
                )),
            },
        }
        told
    }
}

/// Whether two documents say the same: numbers to nine digits, `"unknown"` is null.
fn same(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(word), Value::Null) => word == "unknown",
        (Value::Number(a), Value::Number(b)) => {
            let close = |a: f64, b: f64| rounded(a) == rounded(b);
            a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| close(a, b))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Values by series, written `metric{key=value,…}` with keys in order.
fn samples(collection: &Collection) -> BTreeMap<String, f64> {
    let points = collection.families.iter().flat_map(|family| &family.points);
    points
        .map(|point| {
            let labels = point.series.labels.iter();
            let labels: Vec<String> = labels
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            (series(&point.series.metric, labels), point.value)
        })
        .collect()
}

fn series(metric: &str, mut labels: Vec<String>) -> String {
    labels.sort();
    if labels.is_empty() {
        metric.to_owned()
    } else {
        format!("{metric}{{{}}}", labels.join(","))
    }
}

/// A series as a case writes it: order and quotes do not matter.
fn normal(written: &str) -> String {
    let Some((metric, labels)) = written.trim_end_matches('}').split_once('{') else {
        return written.to_owned();
    };
    let split = if labels.contains("=\"") { "\"," } else { "," };
    let labels = labels
        .split(split)
        .map(|label| label.trim().replace('"', ""));
    series(metric, labels.collect())
}

fn compare_samples(expected: &BTreeMap<String, Value>, got: &BTreeMap<String, f64>) -> Vec<String> {
    let mut told = Vec::new();
    let expected: BTreeMap<String, &Value> = expected
        .iter()
        .map(|(name, value)| (normal(name), value))
        .collect();
    for (name, value) in &expected {
        let Some(got) = got.get(name) else {
            told.push(format!("samples: {name} is missing"));
            continue;
        };
        let fits = match value {
            Value::String(word) if word == "measured" => true,
            Value::String(word) => *word == got.to_string(),
            value => value
                .as_f64()
                .is_some_and(|value| rounded(value) == rounded(*got)),
        };
        if !fits {
            told.push(format!("samples: {name}: expected {value}, got {got}"));
        }
    }
    for (name, value) in got {
        if !expected.contains_key(name) {
            told.push(format!("samples: {name} {value} was not expected"));
        }
    }
    told
}

pub(super) fn compare_requests(expected: &[Request], came: &[Came]) -> Vec<String> {
    let mut told = Vec::new();
    if expected.len() != came.len() {
        let names: Vec<&str> = came.iter().map(|came| &*came.request).collect();
        told.push(format!(
            "requests: expected {}, came {names:?}",
            expected.len()
        ));
    }
    for (expected, came) in expected.iter().zip(came) {
        let name = &expected.request;
        if *name != came.request {
            told.push(format!(
                "requests: expected {name:?}, came {:?}",
                came.request
            ));
        }
        let body = String::from_utf8_lossy(&came.body);
        if let Some(wanted) = &expected.body
            && **wanted != *body
        {
            told.push(format!(
                "{name}: expected the body {wanted:?}, came {body:?}"
            ));
        }
        if let Some(wanted) = &expected.json {
            let document = serde_json::from_str(&body).unwrap_or_else(|_| json!(body));
            if !same(wanted, &document) {
                told.push(format!("{name}: expected {wanted}, came {document}"));
            }
        }
        for (key, wanted) in &expected.headers {
            let header = came
                .headers
                .get(key)
                .map(|value| String::from_utf8_lossy(value.as_bytes()));
            if header.as_deref() != Some(wanted) {
                told.push(format!(
                    "{name}: expected the header {key}: {wanted}, came {header:?}"
                ));
            }
        }
    }
    told
}

/// A verdict as `mock::judged` of the SDK writes it.
pub(super) fn verdict(verdicts: &Verdicts, index: usize) -> Value {
    let breached = verdicts.breached.get(index).copied().flatten();
    let names = breached.map(|all| all.iter().map(Severity::name).collect::<Vec<_>>());
    let mut said = json!({ "breached": names });
    for (key, all) in [("value", &verdicts.values), ("limit", &verdicts.limits)] {
        match all.get(index) {
            Some(number) if number.is_infinite() => said[key] = json!(number.to_string()),
            Some(number) if !number.is_nan() => said[key] = json!(rounded(*number)),
            _ => {}
        }
    }
    let note = verdicts.notes.iter().find(|(of, _)| *of as usize == index);
    if let Some((_, note)) = note {
        said["note"] = json!(note);
    }
    if names.is_none() && said.as_object().is_some_and(|said| said.len() == 1) {
        return Value::Null;
    }
    said
}

/// To nine digits: what a sum of products owes to binary fractions is not what a test is about.
fn rounded(number: f64) -> f64 {
    format!("{number:.8e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_compared_by_what_they_say() {
        for (expected, got, alike) in [
            (json!(2), json!(2.0), true),
            (json!(0.3), json!(0.1 + 0.2), true),
            (json!(0.3), json!(0.31), false),
            (json!("unknown"), json!(null), true),
            (json!([1]), json!([1, 2]), false),
            (json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), false),
        ] {
            assert_eq!(same(&expected, &got), alike, "{expected} {got}");
        }
    }

    #[test]
    fn series_are_written_in_several_ways() {
        for written in ["up{b=2,a=1}", "up{a=\"1\", b=\"2\"}", "up{a=1,b=2}"] {
            assert_eq!(normal(written), "up{a=1,b=2}");
        }
        assert_eq!(normal("up"), "up");
    }

    #[test]
    fn every_sample_is_looked_at() {
        let got = BTreeMap::from([("up".to_owned(), 1.0), ("age".to_owned(), 7.5)]);
        let expected = |json: Value| match json {
            Value::Object(all) => all.into_iter().collect::<BTreeMap<_, _>>(),
            _ => BTreeMap::new(),
        };
        let right = expected(json!({ "up": 1, "age": "measured" }));
        assert!(compare_samples(&right, &got).is_empty());
        let wrong = expected(json!({ "up": 0, "gone": 1 }));
        assert_eq!(
            compare_samples(&wrong, &got),
            [
                "samples: gone is missing",
                "samples: up: expected 0, got 1",
                "samples: age 7.5 was not expected",
            ]
        );
    }
}
