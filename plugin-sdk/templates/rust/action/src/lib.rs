//! An action: it tries to put things right, once an attempt. When, how often, and whether it helped is the host's
//! affair: the next samples tell.
//!
//! This one asks a service to drain what the alert names.

use watchfire_plugin_sdk::prelude::*;

/// The action, as its table configures it.
struct Drain {
    url: String,
    label: String,
}

/// The plugin's table: `config = { url = "http://127.0.0.1:8080/drain", label = "queue" }`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to post.
    url: String,
    /// The label of the alert that says what to drain.
    label: String,
}

impl Action for Drain {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if !config.url.starts_with("http") {
            return Err(Error::config(
                "config.url: write a whole address, like http://127.0.0.1:8080/drain",
            ));
        }
        Ok(Drain {
            url: config.url,
            label: config.label,
        })
    }

    fn act(&self, alert: &Alert, attempt: u32, dry_run: bool) -> Result<Outcome> {
        let what = alert.label(&self.label).ok_or_else(|| {
            Error::config(format!(
                "config.label: the alert has no label {:?}",
                self.label
            ))
        })?;
        if dry_run {
            return Ok(Outcome::unchanged(format!("would drain {what}")));
        }
        http::Request::post(&self.url)
            // A repeated attempt must not act twice on one request.
            .header("Idempotency-Key", format!("{}-{attempt}", alert.fingerprint))
            .json(&serde_json::json!({ "drain": what }))
            // The status says what became of it, however much a proxy has to say besides.
            .max_body(64 << 10)
            .send()?
            .check()?;
        Ok(Outcome::changed(format!("drained {what}")))
    }

    /// What to ask the operator for; nothing is allowed until it stands in the configuration.
    fn wants() -> Vec<String> {
        vec!["http http://127.0.0.1:8080".into()]
    }

    fn config_schema() -> Option<String> {
        Some(
            serde_json::json!({
                "type": "object",
                "properties": {
                    "url": { "type": "string", "description": "where to post" },
                    "label": { "type": "string", "description": "the label that says what to drain" },
                },
                "required": ["url", "label"],
            })
            .to_string(),
        )
    }
}

action!(Drain);

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"url": "http://127.0.0.1:8080/drain", "label": "queue"}"#;

    fn alert() -> Alert {
        Alert {
            labels: vec![("queue".into(), "orders".into())],
            ..mock::alert("queue-long", Severity::Critical)
        }
    }

    #[test]
    fn what_the_alert_names_is_drained() {
        let host = mock::Host::new();
        host.http("POST http://127.0.0.1:8080/drain", http::Response::new(202));
        let drain = Drain::configure(CONFIG).unwrap();
        assert_eq!(
            drain.act(&alert(), 1, false),
            Ok(Outcome::changed("drained orders"))
        );
        assert_eq!(host.requests()[0].text(), r#"{"drain":"orders"}"#);
    }

    #[test]
    fn a_dry_run_sends_nothing() {
        let host = mock::Host::new();
        let drain = Drain::configure(CONFIG).unwrap();
        assert!(!drain.act(&alert(), 1, true).unwrap().changed);
        assert!(host.requests().is_empty());
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let drain = Drain::configure(CONFIG).unwrap();
        let none = Alert {
            labels: Vec::new(),
            ..alert()
        };
        let error = drain.act(&none, 1, true).unwrap_err();
        assert!(error.to_string().contains("no label \"queue\""), "{error}");
    }
}
