//! Judges the Apdex score: the share of answers that came in time T, and half of those that came in 4 T.
//!
//! The counts are inputs of the rule, either each kind by itself (`satisfied`, `tolerating`, `total`) or as a histogram
//! has them, each bucket with all below it (`up_to_t`, `up_to_4t`, `total`).

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::threshold::{Bounds, Limits, Thresholds};

/// The plugin's table: a score is bad when it is low, so there are only these directions.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    below: Option<Limits>,
    #[serde(default)]
    at_most: Option<Limits>,
    #[serde(default)]
    clear: Limits,
    /// A total below it is too little traffic to judge.
    #[serde(default)]
    min_total: f64,
}

/// The rule: places of the three inputs, and checked limits.
#[derive(Debug)]
pub struct Apdex {
    satisfied: usize,
    /// Answers between T and 4 T, or, where `cumulative`, all up to 4 T.
    tolerable: usize,
    total: usize,
    cumulative: bool,
    min_total: f64,
    limits: Thresholds,
}

impl Rule for Apdex {
    type Config = Config;

    fn new(config: Config, inputs: &[String]) -> Result<Self> {
        let place = |wanted: &str| inputs.iter().position(|name| name == wanted);
        let counts = (place("satisfied"), place("tolerating"), place("total"));
        let buckets = (place("up_to_t"), place("up_to_4t"), place("total"));
        let (cumulative, places) = match (counts, buckets, inputs.len()) {
            ((Some(a), Some(b), Some(c)), _, 3) => (false, (a, b, c)),
            (_, (Some(a), Some(b), Some(c)), 3) => (true, (a, b, c)),
            _ => {
                return Err(Error::config(format!(
                    "the inputs are {}: write three, inputs.satisfied, inputs.tolerating and inputs.total, or of a histogram inputs.up_to_t, \
                     inputs.up_to_4t and inputs.total",
                    inputs.join(", ")
                )));
            }
        };
        if config.min_total < 0.0 {
            return Err(Error::config(format!(
                "config.min_total: {} is below 0: write the least total that is worth judging, like min_total = 100",
                config.min_total
            )));
        }
        if config.below.is_none() && config.at_most.is_none() {
            return Err(Error::config(
                "config: no limit: write below or at_most, like below = { warning = 0.85, critical = 0.7 }",
            ));
        }
        Ok(Apdex {
            satisfied: places.0,
            tolerable: places.1,
            total: places.2,
            cumulative,
            min_total: config.min_total,
            limits: Thresholds::new(Bounds {
                below: config.below,
                at_most: config.at_most,
                clear: config.clear,
                ..Bounds::default()
            })?,
        })
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let satisfied = instance.at(self.satisfied);
        let tolerable = instance.at(self.tolerable);
        let total = instance.at(self.total);
        if satisfied.is_nan() || tolerable.is_nan() || total.is_nan() {
            return Verdict::unknown();
        }
        if total < self.min_total {
            return Verdict::healthy().note(format!(
                "too little traffic to judge: {total} is below min_total = {}",
                self.min_total
            ));
        }
        if total <= 0.0 {
            return Verdict::healthy();
        }
        let weighed = if self.cumulative {
            (satisfied + tolerable) / 2.0
        } else {
            satisfied + tolerable / 2.0
        };
        // Counters are read one after the other: an answer between two readings must not make more than all.
        let score = (weighed / total).clamp(0.0, 1.0);
        self.limits.judge(score, instance.active())
    }
}

watchfire_plugin_sdk::rule!(Apdex);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn testdata_is_judged_as_expected() {
        mock::judges_testdata::<Apdex>(env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn no_numbers_are_beyond_it() {
        let inputs = ["satisfied", "tolerating", "total"];
        let rule = Apdex::configure(r#"{"below": {"warning": 0.85}}"#, &inputs).unwrap();
        let odd = [0.0, -1.0, 1.0, f64::NAN, f64::INFINITY, f64::MAX, 5e-324];
        for satisfied in odd {
            for tolerating in odd {
                for total in odd {
                    let values = [satisfied, tolerating, total];
                    let verdicts = rule
                        .evaluate(&Batch::of(&inputs).instance(&values))
                        .unwrap();
                    let unknown = values.iter().any(|value| value.is_nan());
                    if unknown {
                        assert_eq!(verdicts.breached(0), None, "{values:?}");
                    }
                    let score = verdicts.value(0);
                    assert!(score.is_nan() || (0.0..=1.0).contains(&score), "{values:?}");
                }
            }
        }
    }
}
