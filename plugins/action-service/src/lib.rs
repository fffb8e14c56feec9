//! Starts, stops, restarts or reloads a systemd unit.

use watchfire_plugin_sdk::host::control::{self, Verb};
use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::template::Template;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The whole name, `nginx.service`; takes `{{labels.NAME}}`.
    unit: String,
    /// `start`, `stop`, `restart` or `reload`.
    verb: Verb,
}

/// The action.
pub struct Service {
    unit: Template,
    verb: Verb,
}

/// What systemd can start and stop; without one of these it would take a name for another unit than was granted.
const SUFFIXES: [&str; 7] = [
    ".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice",
];

impl Action for Service {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let unit = Template::parse(&config.unit).map_err(|error| error.context("config.unit"))?;
        if unit.has_secret() {
            return Err(Error::config(
                "config.unit: a unit is no secret: write its name",
            ));
        }
        if !unit.has_place() {
            check_unit(&config.unit)?;
        }
        Ok(Service {
            unit,
            verb: config.verb,
        })
    }

    fn act(&self, alert: &Alert, attempt: u32, dry_run: bool) -> Result<Outcome> {
        let unit = self.unit.fill(alert, attempt, instance);
        let unit = unit.map_err(|error| error.context("config.unit"))?;
        check_unit(&unit)?;
        if dry_run {
            return Ok(Outcome::unchanged(format!(
                "would {} {unit}",
                self.verb.name()
            )));
        }
        control::service(&unit, self.verb)?;
        Ok(Outcome::changed(format!("{} {unit}", past(self.verb))))
    }

    fn wants() -> Vec<String> {
        vec!["services UNIT:VERB".into()]
    }
}

fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "started",
        Verb::Stop => "stopped",
        Verb::Restart => "restarted",
        Verb::Reload => "reloaded",
    }
}

/// What systemd takes in a name without escaping (systemd.unit, "string escaping").
fn is_plain(name: &str) -> bool {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(plain)
}

/// A label's value as a piece of a name.
fn instance(value: &str) -> Result<String> {
    if is_plain(value) {
        return Ok(value.to_owned());
    }
    Err(Error::rejected(format!(
        "{value:?} is no name of a unit: letters, digits and :-_.\\@ are, without a dash or dot at the start"
    )))
}

fn check_unit(unit: &str) -> Result<()> {
    // 255 bytes, as systemd has it.
    if is_plain(unit) && unit.len() <= 255 && SUFFIXES.iter().any(|suffix| unit.ends_with(suffix)) {
        return Ok(());
    }
    Err(Error::config(format!(
        "config.unit: {unit:?} is no unit: write its whole name, like nginx.service"
    )))
}

watchfire_plugin_sdk::action!(Service);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Input {
        config: serde_json::Value,
        alert: serde_json::Value,
        #[serde(default)]
        dry_run: bool,
        /// What the host answers; done without.
        answer: Option<Answer>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Answer {
        Rejected(String),
        Denied(String),
    }

    fn acted(input: &Input) -> serde_json::Value {
        let host = mock::Host::new();
        match &input.answer {
            Some(Answer::Rejected(text)) => host.control(Err(Error::rejected(text))),
            Some(Answer::Denied(text)) => host.control(Err(Error::denied(text))),
            None => {}
        }
        if input.dry_run {
            host.dry_run();
        }
        let service = Service::configure(&input.config.to_string()).unwrap();
        let outcome = match service.act(&mock::read_alert(&input.alert), 1, input.dry_run) {
            Ok(Outcome { did, changed }) => serde_json::json!({ "did": did, "changed": changed }),
            Err(Error::Rejected(text)) => serde_json::json!({ "rejected": text }),
            Err(Error::Denied(text)) => serde_json::json!({ "denied": text }),
            Err(error) => panic!("{error}"),
        };
        let controls: Vec<_> = host
            .controls()
            .iter()
            .map(|control| format!("{control:?}"))
            .collect();
        serde_json::json!({ "outcome": outcome, "controls": controls })
    }

    #[test]
    fn testdata_is_done_as_expected() {
        for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
            let expected: serde_json::Value = case.json("expected.json");
            assert_eq!(acted(&case.json("input.json")), expected, "{}", case.name);
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (config, says) in [
            ("{}", "missing field `unit`"),
            (r#"{"unit": "a.service"}"#, "missing field `verb`"),
            (
                r#"{"unit": "nginx", "verb": "restart"}"#,
                "config.unit: \"nginx\" is no unit: write its whole name, like nginx.service",
            ),
            (
                r#"{"unit": "a b.service", "verb": "restart"}"#,
                "is no unit",
            ),
            (r#"{"unit": "-a.service", "verb": "restart"}"#, "is no unit"),
            (
                r#"{"unit": "a.service", "verb": "bounce"}"#,
                "config.verb: unknown variant `bounce`, expected one of `start`, `stop`",
            ),
            (
                r#"{"unit": "{{unit}}", "verb": "stop"}"#,
                "config.unit: {{unit}} is nothing an alert has: write {{labels.NAME}}",
            ),
            (
                r#"{"unit": "{{secret:u}}.service", "verb": "stop"}"#,
                "config.unit: a unit is no secret",
            ),
            (
                r#"{"unit": "a.service", "verb": "stop", "mode": "auto"}"#,
                "config.mode: unknown field",
            ),
        ] {
            let error = Service::configure(config)
                .err()
                .unwrap_or_else(|| panic!("{config} was taken"));
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
