//! Runs a command that the operator wrote down under `[command.NAME]`, with arguments from the alert where the configuration
//! names them. No shell is anywhere near.

use watchfire_plugin_sdk::host::commands::{self, Output};
use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::template::{self, Template};
use watchfire_plugin_sdk::text;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of a table `[command.NAME]`.
    command: String,
    /// Added to its `argv`; each takes `{{labels.NAME}}`.
    #[serde(default)]
    arguments: Vec<String>,
}

/// The action.
pub struct Command {
    name: String,
    arguments: Vec<Template>,
}

/// Arguments of a command: far more than anybody writes down.
const ARGUMENTS_MAX: usize = 32;
/// Lines from the end of an output that are told.
const LINES_MAX: usize = 3;
/// Characters of them.
const EXCERPT_MAX: usize = 300;

impl Action for Command {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if config.command.is_empty() || !config.command.chars().all(plain) {
            return Err(Error::config(format!(
                "config.command: {:?} is no name of a command: write the NAME of a table [command.NAME], and its program there",
                config.command
            )));
        }
        if config.arguments.len() > ARGUMENTS_MAX {
            return Err(Error::config(format!(
                "config.arguments: {} arguments, at most {ARGUMENTS_MAX} are taken: write what never changes into argv of [command.{}]",
                config.arguments.len(),
                config.command
            )));
        }
        let parse = |(at, argument): (usize, &String)| {
            let key = format!("config.arguments[{at}]");
            let template = Template::parse(argument).map_err(|error| error.context(&key))?;
            if template.has_secret() {
                return Err(Error::config(format!(
                    "{key}: a secret among arguments is seen by everybody on the host: let the command read it from a file"
                )));
            }
            Ok(template)
        };
        let arguments = config
            .arguments
            .iter()
            .enumerate()
            .map(parse)
            .collect::<Result<_>>()?;
        Ok(Command {
            name: config.command,
            arguments,
        })
    }

    fn act(&self, alert: &Alert, attempt: u32, dry_run: bool) -> Result<Outcome> {
        let arguments = self.arguments(alert, attempt)?;
        let what = format!("{} {arguments:?}", self.name);
        if dry_run {
            return Ok(Outcome::unchanged(format!("would run {what}")));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = commands::run(&self.name, &arguments, b"")?;
        check(&output).map_err(|error| error.context(&what))?;
        Ok(Outcome::changed(match end(&output.stdout) {
            said if said.is_empty() => format!("ran {what}"),
            said => format!("ran {what}: {said}"),
        }))
    }

    fn wants() -> Vec<String> {
        vec!["commands NAME".into()]
    }
}

impl Command {
    fn arguments(&self, alert: &Alert, attempt: u32) -> Result<Vec<String>> {
        let fill = |(at, argument): (usize, &Template)| {
            // A value in the middle of an argument cannot make an option of it.
            let safe = if argument.source().starts_with("{{") {
                template::argument
            } else {
                template::plain
            };
            let filled = argument.fill(alert, attempt, safe);
            filled.map_err(|error| error.context(format_args!("config.arguments[{at}]")))
        };
        self.arguments.iter().enumerate().map(fill).collect()
    }
}

fn check(output: &Output) -> Result<()> {
    if output.timed_out {
        return Err(Error::unavailable(format!(
            "did not end within {:?} and was killed",
            output.elapsed
        )));
    }
    let said = match end(&output.stderr) {
        said if said.is_empty() => "nothing on stderr".to_owned(),
        said => said,
    };
    match output.status {
        0 => Ok(()),
        signal if signal < 0 => Err(Error::rejected(format!(
            "was ended by signal {}: {said}",
            -signal
        ))),
        code => Err(Error::rejected(format!("ended with {code}: {said}"))),
    }
}

/// The last lines that say anything, in one.
fn end(output: &str) -> String {
    let lines = output
        .lines()
        .rev()
        .map(text::line)
        .filter(|line| !line.is_empty());
    let mut last: Vec<String> = lines.take(LINES_MAX).collect();
    last.reverse();
    let whole = last.join(" | ");
    let more = whole.chars().count().saturating_sub(EXCERPT_MAX);
    match more {
        0 => whole,
        _ => std::iter::once(text::ELLIPSIS)
            .chain(whole.chars().skip(more + 1))
            .collect(),
    }
}

watchfire_plugin_sdk::action!(Command);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Input {
        config: serde_json::Value,
        alert: serde_json::Value,
        #[serde(default)]
        dry_run: bool,
        /// What the command leaves behind; nothing is scripted without.
        output: Option<Left>,
        /// The host's refusal.
        denied: Option<String>,
    }

    #[derive(serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[derive(Default)]
    struct Left {
        status: i32,
        stdout: String,
        stderr: String,
        timed_out: bool,
        elapsed_ms: u64,
    }

    fn acted(input: Input) -> serde_json::Value {
        let host = mock::Host::new();
        let command = Command::configure(&input.config.to_string()).unwrap();
        if let Some(left) = input.output {
            let output = Output {
                status: left.status,
                stdout: left.stdout,
                stderr: left.stderr,
                timed_out: left.timed_out,
                truncated: false,
                elapsed: Duration::from_millis(left.elapsed_ms),
            };
            host.command(&command.name, Ok(output));
        }
        if let Some(text) = input.denied {
            host.command(&command.name, Err(Error::denied(text)));
        }
        if input.dry_run {
            host.dry_run();
        }
        let outcome = match command.act(&mock::read_alert(&input.alert), 2, input.dry_run) {
            Ok(Outcome { did, changed }) => serde_json::json!({ "did": did, "changed": changed }),
            Err(Error::Config(text)) => serde_json::json!({ "config": text }),
            Err(Error::Rejected(text)) => serde_json::json!({ "rejected": text }),
            Err(Error::Unavailable { message, .. }) => {
                serde_json::json!({ "unavailable": message })
            }
            Err(Error::Denied(text)) => serde_json::json!({ "denied": text }),
            Err(error) => panic!("{error}"),
        };
        let runs: Vec<_> = host
            .runs()
            .into_iter()
            .map(|run| (run.name, run.arguments))
            .collect();
        serde_json::json!({ "outcome": outcome, "runs": runs })
    }

    #[test]
    fn testdata_is_done_as_expected() {
        for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
            let expected: serde_json::Value = case.json("expected.json");
            assert_eq!(acted(case.json("input.json")), expected, "{}", case.name);
        }
    }

    #[test]
    fn the_end_of_an_output_is_told() {
        assert_eq!(end(""), "");
        assert_eq!(end("a\nb\n\nc\nd\n"), "b | c | d");
        let long = end(&format!("{}end", "ä".repeat(999)));
        assert_eq!(long.chars().count(), EXCERPT_MAX);
        assert!(long.starts_with("…ä") && long.ends_with("äend"));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (config, says) in [
            ("{}".to_owned(), "missing field `command`"),
            (
                r#"{"command": "/usr/bin/nginx -s reload"}"#.into(),
                "is no name of a command: write the NAME of a table [command.NAME]",
            ),
            (r#"{"command": ""}"#.into(), "is no name of a command"),
            (
                r#"{"command": "a", "arguments": "b"}"#.into(),
                "config.arguments: invalid type: string",
            ),
            (
                r#"{"command": "a", "arguments": ["b", "{{queue}}"]}"#.into(),
                "config.arguments[1]: {{queue}} is nothing an alert has: write {{labels.NAME}}",
            ),
            (
                r#"{"command": "a", "arguments": ["{{secret:s}}"]}"#.into(),
                "config.arguments[0]: a secret among arguments",
            ),
            (
                r#"{"command": "a", "argv": ["b"]}"#.into(),
                "config.argv: unknown field `argv`, expected `command` or `arguments`",
            ),
            (
                serde_json::json!({"command": "a", "arguments": vec!["b"; 33]}).to_string(),
                "33 arguments, at most 32",
            ),
        ] {
            let error = Command::configure(&config)
                .err()
                .unwrap_or_else(|| panic!("{config} was taken"));
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
