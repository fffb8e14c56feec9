//! A probe: it looks at something and answers with numbers.
//!
//! This one reads the load of the host and holds it against a limit. Put what you want to watch in the place of
//! `collect`; `host::http`, `host::tcp`, `host::files`, `host::commands` are the other ways to look.

use watchfire_plugin_sdk::prelude::*;

/// The probe, as its table configures it.
struct Probed {
    limit: f64,
}

/// The plugin's table: `config = { limit = 4.0 }`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The load that counts as full.
    #[serde(default = "four")]
    limit: f64,
}

fn four() -> f64 {
    4.0
}

impl Probe for Probed {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        // An error here refuses the configuration before anything changes: say what to write instead.
        if config.limit <= 0.0 {
            return Err(Error::config(
                "config.limit: write a load above 0, like limit = 4.0",
            ));
        }
        Ok(Probed {
            limit: config.limit,
        })
    }

    fn collect(&mut self) -> Result<Collection> {
        let readings = host::system::read(&["load"])?;
        let load = readings
            .iter()
            .find(|reading| reading.metric == "load1")
            .ok_or_else(|| Error::unavailable("the host tells no load"))?;
        Ok(Collection::from([
            Family::gauge("load_to_limit_ratio", "Load over its limit")
                .value(load.value / self.limit),
            Family::gauge("load_limit", "The load that counts as full").value(self.limit),
        ]))
    }

    /// What to ask the operator for; nothing is allowed until it stands in the configuration.
    fn wants() -> Vec<String> {
        vec!["system".into()]
    }

    fn config_schema() -> Option<String> {
        Some(
            serde_json::json!({
                "type": "object",
                "properties": { "limit": { "type": "number", "description": "the load that counts as full, 4 if left out" } },
            })
            .to_string(),
        )
    }
}

probe!(Probed);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_held_against_the_limit() {
        let host = mock::Host::new();
        host.reading("load", "load1", &[], 3.0);
        let samples = Probed::configure(r#"{"limit": 2}"#)
            .unwrap()
            .collect()
            .unwrap();
        assert_eq!(samples.value("load_to_limit_ratio", &[]), Some(1.5));
    }

    #[test]
    fn no_load_is_no_sample() {
        let _host = mock::Host::new();
        let error = Probed::configure("{}").unwrap().collect().unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let error = Probed::configure(r#"{"limit": 0}"#).err().unwrap();
        assert!(error.to_string().contains("limit = 4.0"), "{error}");
        assert!(Probed::configure(r#"{"limt": 2}"#).is_err());
    }
}
