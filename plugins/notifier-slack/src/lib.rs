//! Sends each notification to a Slack channel through an incoming webhook: a header, and an attachment in the colour of
//! the severity with the text, the numbers and the labels.

mod message;

use std::time::Duration;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::units::Span;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of the incoming webhook; a secret, as a rule.
    url: String,
    /// For the whole request; default [`TIMEOUT`].
    timeout: Option<Span>,
}

/// The notifier.
pub struct Slack {
    config: Config,
}

/// Below the 15 s that a notifier has for everything.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: the status says what became of the message, and more than this is no answer to it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

impl Notifier for Slack {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let whole = ["https://", "http://", "{{secret:"];
        if !whole.iter().any(|start| config.url.starts_with(start)) {
            return Err(Error::config(format!(
                "config.url: {:?} is no address: write the incoming webhook's, https://hooks.slack.com/services/…, or {{{{secret:NAME}}}}",
                config.url
            )));
        }
        Ok(Slack { config })
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        http::Request::post(&self.config.url)
            .header("Idempotency-Key", &notification.id)
            .json(&message::message(notification))
            .timeout(self.config.timeout.map_or(TIMEOUT, |span| span.0))
            .max_body(ANSWER_BYTES_MAX)
            .send()?
            .check()?;
        Ok(Receipt::sent())
    }

    fn wants() -> Vec<String> {
        vec!["http https://hooks.slack.com:443".into()]
    }
}

watchfire_plugin_sdk::notifier!(Slack);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Input {
        config: serde_json::Value,
        notification: serde_json::Value,
    }

    fn sent(input: &Input) -> serde_json::Value {
        let host = mock::Host::new();
        let slack = Slack::configure(&input.config.to_string()).unwrap();
        host.http(
            &format!("POST {}", slack.config.url),
            http::Response::new(200).with_body("ok"),
        );
        let notification = mock::read_notification(&input.notification);
        assert_eq!(slack.notify(&notification), Ok(Receipt::sent()));
        let request = &host.requests()[0];
        assert!(
            !request.fill_body,
            "what alerts carry is never searched for secrets"
        );
        assert!(
            request
                .headers
                .contains(&("Idempotency-Key".into(), notification.id))
        );
        serde_json::from_slice(&request.body).unwrap()
    }

    #[test]
    fn testdata_is_sent_as_expected() {
        for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
            let expected: serde_json::Value = case.json("expected.json");
            assert_eq!(sent(&case.json("input.json")), expected, "{}", case.name);
        }
    }

    #[test]
    fn the_answer_decides_what_happens_next() {
        let slack = Slack::configure(r#"{"url": "http://127.0.0.1/hook"}"#).unwrap();
        let fire = mock::notification(Reason::Fire, vec![mock::alert("cpu", Severity::High)]);
        let answered = |response| {
            let host = mock::Host::new();
            host.http("POST http://127.0.0.1/hook", response);
            slack.notify(&fire)
        };
        assert_eq!(
            answered(http::Response::new(429).with_header("Retry-After", "30")),
            Err(Error::unavailable("answered 429").retry_after(Duration::from_secs(30)))
        );
        assert_eq!(
            answered(http::Response::new(404).with_body("no_service")),
            Err(Error::rejected("answered 404: no_service"))
        );
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (config, says) in [
            ("{}", "missing field `url`"),
            (
                r#"{"url": "hooks.slack.com/services/T0"}"#,
                "config.url: \"hooks.slack.com/services/T0\" is no address",
            ),
            (
                r##"{"url": "http://a", "channel": "#ops"}"##,
                "config.channel: unknown field `channel`, expected `url` or `timeout`",
            ),
        ] {
            let error = Slack::configure(config).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
