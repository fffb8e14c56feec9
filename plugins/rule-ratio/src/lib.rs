//! Judges one number against another: their ratio, what is left of 1, or their difference.

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::threshold::{Bounds, Limits, Thresholds};

/// The plugin's table: that of a threshold, and which input is divided by which.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of an input; see [`sides`].
    numerator: Option<String>,
    /// Name of the other.
    denominator: Option<String>,
    #[serde(default)]
    mode: Mode,
    /// A denominator below it is too little traffic to judge.
    #[serde(default)]
    min_total: f64,
    #[serde(default)]
    above: Option<Limits>,
    #[serde(default)]
    at_least: Option<Limits>,
    #[serde(default)]
    below: Option<Limits>,
    #[serde(default)]
    at_most: Option<Limits>,
    #[serde(default)]
    clear: Limits,
}

/// What is made of the two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ratio,
    Success,
    Difference,
}

/// The rule: places of the two inputs, and checked limits.
pub struct Ratio {
    mode: Mode,
    numerator: usize,
    denominator: usize,
    min_total: f64,
    limits: Thresholds,
}

impl Rule for Ratio {
    type Config = Config;

    fn new(config: Config, inputs: &[String]) -> Result<Self> {
        let (numerator, denominator) = sides(&config, inputs)?;
        if config.min_total < 0.0 {
            return Err(Error::config(format!(
                "config.min_total: {} is below 0: write the least denominator that is worth judging, like min_total = 100",
                config.min_total
            )));
        }
        if config.mode == Mode::Difference && config.min_total > 0.0 {
            return Err(Error::config(
                "config.min_total: a difference has no total: remove it, or write mode = \"ratio\"",
            ));
        }
        Ok(Ratio {
            mode: config.mode,
            numerator,
            denominator,
            min_total: config.min_total,
            limits: Thresholds::new(Bounds {
                above: config.above,
                at_least: config.at_least,
                below: config.below,
                at_most: config.at_most,
                clear: config.clear,
            })?,
        })
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let (part, total) = (instance.at(self.numerator), instance.at(self.denominator));
        if part.is_nan() || total.is_nan() {
            return Verdict::unknown();
        }
        let value = match self.mode {
            Mode::Difference => part - total,
            _ if total < self.min_total => {
                return Verdict::healthy().note(format!(
                    "too little traffic to judge: {total} is below min_total = {}",
                    self.min_total
                ));
            }
            _ if part == 0.0 && total == 0.0 => return Verdict::healthy(),
            Mode::Ratio => part / total,
            Mode::Success => 1.0 - part / total,
        };
        // Infinity less or over infinity is NaN, which the limits take as unknown.
        self.limits.judge(value, instance.active())
    }
}

/// The places of numerator and denominator: as the table names them, else by the names `errors` and `total`,
/// else in order.
fn sides(config: &Config, inputs: &[String]) -> Result<(usize, usize)> {
    let [first, second] = inputs else {
        return Err(Error::config(format!(
            "a ratio has two inputs, and the rule has {}: write inputs.errors = {{ metric = \"…\" }} and inputs.total = \
             {{ metric = \"…\" }} in the rule",
            inputs.len()
        )));
    };
    let place = |key: &str, name: &Option<String>| match name {
        None => Ok(None),
        Some(name) if name == first => Ok(Some(0)),
        Some(name) if name == second => Ok(Some(1)),
        Some(name) => Err(Error::config(format!(
            "config.{key}: the rule has no input {name:?}: write {first:?} or {second:?}"
        ))),
    };
    match (
        place("numerator", &config.numerator)?,
        place("denominator", &config.denominator)?,
    ) {
        (Some(part), Some(total)) if part == total => Err(Error::config(format!(
            "config.denominator: {:?} is the numerator already: write the other input",
            inputs[total]
        ))),
        (Some(part), _) => Ok((part, 1 - part)),
        (None, Some(total)) => Ok((1 - total, total)),
        (None, None) if first == "total" || second == "errors" => Ok((1, 0)),
        (None, None) => Ok((0, 1)),
    }
}

watchfire_plugin_sdk::rule!(Ratio);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn configure(config: &Value, inputs: &[&str]) -> Result<Ratio> {
        Ratio::configure(&config.to_string(), inputs)
    }

    #[test]
    fn testdata_is_judged_as_expected() {
        mock::judges_testdata::<Ratio>(env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn which_input_is_divided_by_which() {
        let above = json!({"warning": 1});
        for (table, inputs, places) in [
            (json!({}), ["errors", "total"], (0, 1)),
            (json!({}), ["total", "errors"], (1, 0)),
            (json!({}), ["total", "failures"], (1, 0)),
            (json!({}), ["all", "errors"], (1, 0)),
            (json!({}), ["hits", "lookups"], (0, 1)),
            (json!({"numerator": "b"}), ["a", "b"], (1, 0)),
            (json!({"denominator": "a"}), ["a", "b"], (1, 0)),
            (
                json!({"numerator": "total", "denominator": "errors"}),
                ["errors", "total"],
                (1, 0),
            ),
        ] {
            let mut config = table.clone();
            config["above"] = above.clone();
            let rule = configure(&config, &inputs).unwrap();
            assert_eq!(
                (rule.numerator, rule.denominator),
                places,
                "{table} {inputs:?}"
            );
        }
    }

    #[test]
    fn wrong_inputs_are_told_what_to_write() {
        let refused =
            |config: Value, inputs: &[&str]| configure(&config, inputs).err().unwrap().to_string();
        let above = json!({"warning": 1});
        let one = refused(json!({"above": above}), &["cpu"]);
        assert!(one.contains("the rule has 1: write inputs.errors"), "{one}");
        let unknown = refused(json!({"above": above, "numerator": "c"}), &["a", "b"]);
        assert_eq!(
            unknown,
            "config.numerator: the rule has no input \"c\": write \"a\" or \"b\""
        );
        let twice = refused(
            json!({"above": above, "numerator": "a", "denominator": "a"}),
            &["a", "b"],
        );
        assert!(twice.contains("write the other input"), "{twice}");
    }

    #[test]
    fn no_numbers_are_beyond_it() {
        let odd = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            5e-324,
        ];
        for mode in ["ratio", "success", "difference"] {
            let rule =
                configure(&json!({"mode": mode, "above": {"warning": 1}}), &["a", "b"]).unwrap();
            for part in odd {
                for total in odd {
                    let verdicts = rule
                        .evaluate(&Batch::of(&["a", "b"]).instance(&[part, total]))
                        .unwrap();
                    let known = !part.is_nan() && !total.is_nan();
                    if !known {
                        assert_eq!(verdicts.breached(0), None, "{mode} {part} {total}");
                    }
                    if verdicts.breached(0).is_some_and(|b| !b.is_empty()) {
                        assert!(verdicts.value(0) > 1.0, "{mode} {part} {total}");
                    }
                }
            }
        }
    }
}
