//! A rule: it judges numbers, and reaches nothing.
//!
//! This one breaches above a limit and, once it fires, until the value falls below another. How long a breach must
//! last (`for`, `keep`), what happens without data and who is told is the host's affair.

use watchfire_plugin_sdk::prelude::*;

/// The rule, as its table configures it.
struct Judge {
    limit: f64,
    clear: f64,
}

/// The plugin's table: `config = { limit = 10.0, clear = 8.0 }`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Above it, it is a breach.
    limit: f64,
    /// What fires goes on until it is at or below this; the limit, where it is left out.
    clear: Option<f64>,
}

impl Rule for Judge {
    type Config = Config;

    fn new(config: Config, inputs: &[String]) -> Result<Self> {
        if inputs.len() != 1 {
            return Err(Error::config(format!(
                "the rule has {} inputs, and this plugin judges one: write metric = \"…\"",
                inputs.len()
            )));
        }
        let clear = config.clear.unwrap_or(config.limit);
        if clear > config.limit {
            return Err(Error::config(
                "config.clear: write a value at or below the limit, like limit = 10, clear = 8",
            ));
        }
        Ok(Judge {
            limit: config.limit,
            clear,
        })
    }

    /// Equal instances give equal verdicts: no clock, no chance.
    fn judge(&self, instance: &Instance) -> Verdict {
        let value = instance.at(0);
        if value.is_nan() {
            return Verdict::unknown(); // never fires, never resolves
        }
        let limit = if instance.active().is_empty() {
            self.limit
        } else {
            self.clear
        };
        Verdict::breach_if(value > limit, Severity::Warning)
            .value(value)
            .limit(limit)
    }

    fn config_schema() -> Option<String> {
        Some(
            serde_json::json!({
                "type": "object",
                "properties": {
                    "limit": { "type": "number", "description": "above it, it is a breach" },
                    "clear": { "type": "number", "description": "what fires goes on until it is at or below this" },
                },
                "required": ["limit"],
            })
            .to_string(),
        )
    }
}

rule!(Judge);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fires_clears_lower() {
        let rule = Judge::configure(r#"{"limit": 10, "clear": 8}"#, &["value"]).unwrap();
        let round = Batch::of(&["value"])
            .instance(&[9.0])
            .instance(&[11.0])
            .instance(&[f64::NAN])
            .firing(&[9.0], Severity::Warning);
        let verdicts = rule.evaluate(&round).unwrap();
        assert_eq!(verdicts.breached(0), Some(Severities::NONE));
        assert_eq!(verdicts.breached(1), Some(Severity::Warning.into()));
        assert_eq!(verdicts.breached(2), None);
        assert_eq!(verdicts.breached(3), Some(Severity::Warning.into()));
        assert_eq!((verdicts.value(3), verdicts.limit(3)), (9.0, 8.0));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let refused = |config, inputs: &[&str]| Judge::configure(config, inputs).err().unwrap();
        let wrong = refused(r#"{"limit": 1, "clear": 2}"#, &["value"]).to_string();
        assert!(wrong.contains("clear = 8"), "{wrong}");
        assert!(
            refused(r#"{"limit": 1}"#, &["a", "b"])
                .to_string()
                .contains("2 inputs")
        );
    }
}
