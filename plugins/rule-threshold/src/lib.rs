//! Judges one number against a limit per severity, with limits of their own for clearing.

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::threshold::{Bounds, Thresholds};

/// The rule: checked limits and nothing else.
pub struct Threshold {
    limits: Thresholds,
}

impl Rule for Threshold {
    type Config = Bounds;

    fn new(config: Bounds, inputs: &[String]) -> Result<Self> {
        match inputs {
            [_] => {}
            [] => {
                return Err(Error::config(
                    "there is no input: write metric = \"…\" in the rule",
                ));
            }
            several => {
                return Err(Error::config(format!(
                    "a threshold judges one input, and the rule has {}: {}; keep one, or write plugin = \"rule-ratio\" or \
                     \"rule-expression\"",
                    several.len(),
                    several.join(", ")
                )));
            }
        }
        Ok(Threshold {
            limits: Thresholds::new(config)?,
        })
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        self.limits.judge(instance.at(0), instance.active())
    }
}

watchfire_plugin_sdk::rule!(Threshold);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn testdata_is_judged_as_expected() {
        mock::judges_testdata::<Threshold>(env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn it_judges_one_input() {
        let config = r#"{"above": {"warning": 1}}"#;
        assert!(Threshold::configure(config, &["cpu"]).is_ok());
        let none = Threshold::configure(config, &[]).err().unwrap();
        assert!(none.to_string().contains("write metric ="), "{none}");
        let two = Threshold::configure(config, &["errors", "total"])
            .err()
            .unwrap();
        assert!(
            two.to_string()
                .contains("errors, total; keep one, or write plugin = \"rule-ratio\""),
            "{two}"
        );
    }

    #[test]
    fn it_wants_nothing_beside_the_values() {
        let rule = Threshold::configure(r#"{"above": {"warning": 1}}"#, &["cpu"]).unwrap();
        assert_eq!(rule.needs(), Needs::default());
    }
}
