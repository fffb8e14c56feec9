//! Test data of rules: rounds in, verdicts out, both as JSON.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Batch, Rule, Severities, Severity, Timestamp, Verdicts};

/// One case of a rule. Either `instances`, one round, or `rounds`: the memory goes from one to the next.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    config: Value,
    #[serde(default = "one_input")]
    inputs: Vec<String>,
    #[serde(default)]
    instances: Vec<Observed>,
    #[serde(default)]
    rounds: Vec<Round>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Round {
    /// Seconds since 1970.
    #[serde(default)]
    at: u64,
    instances: Vec<Observed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Observed {
    /// `null` is a value that is not known.
    values: Vec<Option<f64>>,
    #[serde(default)]
    active: Vec<Severity>,
    /// Seconds and values of the first input.
    #[serde(default)]
    points: Vec<(u64, f64)>,
}

fn one_input() -> Vec<String> {
    vec!["value".into()]
}

/// Judges a case of test data with the rule `R`:
/// `{"config": {…}, "inputs": ["errors", "total"], "instances": [{"values": [3, null], "active": ["warning"]}]}`, or `"rounds": [{"at": 60,
/// "instances": […]}, …]` with the rule's memory handed on from round to round. `inputs` is `["value"]` where it is left out; `points` of an
/// instance (`[[seconds, value], …]`) are those of the first input.
///
/// The answer is `{"error": "…"}`, or `{"verdicts": […]}`, or `{"rounds": [[…], …]}`. A verdict is `null` where it is unknown and has nothing to
/// tell; else it has `breached` (severities, or `null`), and `value`, `limit`, `note` where there is something to say. Numbers are rounded to
/// nine digits, infinite ones are texts.
///
/// # Panics
/// Where the case is of another shape, or the rule fails a round.
pub fn judged<R: Rule>(case: &Value) -> Value {
    let case = Case::deserialize(case).unwrap_or_else(|error| panic!("{case}: {error}"));
    let inputs: Vec<&str> = case.inputs.iter().map(String::as_str).collect();
    let rule = match R::configure(&case.config.to_string(), &inputs) {
        Ok(rule) => rule,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    if case.rounds.is_empty() {
        let verdicts = round(&rule, &inputs, 0, &case.instances, None);
        return json!({ "verdicts": told(&verdicts) });
    }
    let mut before = None;
    let mut rounds = Vec::new();
    for one in &case.rounds {
        let verdicts = round(&rule, &inputs, one.at, &one.instances, before.as_ref());
        rounds.push(told(&verdicts));
        before = Some(verdicts);
    }
    json!({ "rounds": rounds })
}

/// Judges every case of a rule's `testdata` and compares: `input.json` as [`judged`] takes it, `expected.json` as it gives it.
/// `watchfire plugin test` runs the same cases in the sandbox.
///
/// # Panics
/// At the first case that is judged otherwise, and where there is none.
pub fn judges_testdata<R: Rule>(manifest_dir: &str) {
    for case in super::cases(manifest_dir) {
        let expected: Value = case.json("expected.json");
        assert_eq!(
            judged::<R>(&case.json("input.json")),
            expected,
            "{}",
            case.name
        );
    }
}

fn round<R: Rule>(
    rule: &R,
    inputs: &[&str],
    at: u64,
    instances: &[Observed],
    before: Option<&Verdicts>,
) -> Verdicts {
    let mut batch = Batch::of(inputs).at(Timestamp(at * 1_000));
    for seen in instances {
        let values: Vec<f64> = seen.values.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
        batch = batch.firing(&values, seen.active.iter().copied().collect::<Severities>());
    }
    for name in &rule.needs().points_of {
        for (index, seen) in instances.iter().enumerate() {
            let points: Vec<(u64, f64)> = seen
                .points
                .iter()
                .map(|(at, value)| (at * 1_000, *value))
                .collect();
            batch = batch.with_points(name, index, &points);
        }
    }
    if let Some(before) = before {
        batch = batch.after(before);
    }
    rule.evaluate(&batch)
        .unwrap_or_else(|error| panic!("the rule failed a round: {error}"))
}

fn told(verdicts: &Verdicts) -> Vec<Value> {
    (0..verdicts.len())
        .map(|index| one(verdicts, index))
        .collect()
}

fn one(verdicts: &Verdicts, index: usize) -> Value {
    let names = |set: Severities| set.iter().map(Severity::name).collect::<Vec<_>>();
    let breached = verdicts.breached(index).map(names);
    let mut said = json!({ "breached": breached });
    for (key, number) in [
        ("value", verdicts.value(index)),
        ("limit", verdicts.limit(index)),
    ] {
        if number.is_infinite() {
            said[key] = json!(number.to_string());
        } else if !number.is_nan() {
            said[key] = json!(rounded(number));
        }
    }
    if let Some(note) = verdicts.note(index) {
        said["note"] = json!(note);
    }
    if breached.is_none() && said.as_object().is_some_and(|said| said.len() == 1) {
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
    use crate::{Instance, Needs, Result, Verdict};

    /// Adds up what it saw; breaches beyond 10.
    struct Sum;

    impl Rule for Sum {
        type Config = serde_json::Map<String, Value>;

        fn new(config: Self::Config, _: &[String]) -> Result<Self> {
            if config.is_empty() {
                Ok(Sum)
            } else {
                Err(crate::Error::config("config: write nothing"))
            }
        }

        fn needs(&self) -> Needs {
            Needs::memory()
        }

        fn judge(&self, instance: &Instance<'_>) -> Verdict {
            if instance.at(0).is_nan() {
                return Verdict::unknown();
            }
            let sum = instance.recall().unwrap_or(0.0) + instance.at(0);
            Verdict::breach_if(sum > 10.0, Severity::High)
                .value(sum)
                .remember(&sum)
        }
    }

    #[test]
    fn rounds_hand_on_their_memory() {
        let case = json!({"config": {}, "rounds": [
            {"at": 10, "instances": [{"values": [0.1]}, {"values": [9]}]},
            {"at": 20, "instances": [{"values": [0.2]}, {"values": [9]}]},
            {"at": 30, "instances": [{"values": [null]}, {"values": [null]}]},
        ]});
        assert_eq!(
            judged::<Sum>(&case),
            json!({"rounds": [
                [{"breached": [], "value": 0.1}, {"breached": [], "value": 9.0}],
                [{"breached": [], "value": 0.3}, {"breached": ["high"], "value": 18.0}],
                [null, null],
            ]})
        );
        assert_eq!(
            judged::<Sum>(&json!({"config": {"x": 1}})),
            json!({"error": "config: write nothing"})
        );
    }
}
