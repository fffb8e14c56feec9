//! Sends each notification to a Discord channel through a webhook: one embed in the colour of the severity.

mod message;

use std::time::Duration;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::units::Span;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of the webhook; a secret, as a rule.
    url: String,
    /// Name that the message is shown under; default: the webhook's own.
    username: Option<String>,
    /// For the whole request; default [`TIMEOUT`].
    timeout: Option<Span>,
}

/// The notifier.
pub struct Discord {
    config: Config,
}

/// Below the 15 s that a notifier has for everything.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: the status says what became of the message, and more than this is no answer to it.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest wait that an answer can ask for, as in the SDK.
const RETRY_AFTER_MAX: f64 = 3600.0;

impl Notifier for Discord {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let whole = ["https://", "http://", "{{secret:"];
        if !whole.iter().any(|start| config.url.starts_with(start)) {
            return Err(Error::config(format!(
                "config.url: {:?} is no address: write the webhook's, https://discord.com/api/webhooks/…, or {{{{secret:NAME}}}}",
                config.url
            )));
        }
        if let Some(name) = &config.username {
            let length = name.trim().chars().count();
            let lower = name.to_lowercase();
            if !(1..=80).contains(&length) || lower.contains("discord") || lower.contains("clyde") {
                return Err(Error::config(format!(
                    "config.username: Discord refuses {name:?}: write 1 to 80 characters, without \"discord\" and \"clyde\""
                )));
            }
        }
        Ok(Discord { config })
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        let message = message::message(notification, self.config.username.as_deref());
        let response = http::Request::post(&self.config.url)
            .header("Idempotency-Key", &notification.id)
            .json(&message)
            .timeout(self.config.timeout.map_or(TIMEOUT, |span| span.0))
            .max_body(ANSWER_BYTES_MAX)
            .send()?;
        let wait = (response.status == 429).then(|| wait(&response)).flatten();
        let response = response.check().map_err(|error| match wait {
            Some(wait) => error.retry_after(wait),
            None => error,
        })?;
        // With ?wait=true in the address Discord answers with the message.
        #[derive(serde::Deserialize)]
        struct Message {
            id: String,
        }
        Ok(Receipt::from(
            response.json::<Message>().ok().map(|message| message.id),
        ))
    }

    fn wants() -> Vec<String> {
        vec!["http https://discord.com:443".into()]
    }
}

/// What the body says, with fractions of a second, or the header where that is more.
fn wait(response: &http::Response) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    struct Limited {
        retry_after: f64,
    }
    let said = response.json::<Limited>().ok();
    let said = said.and_then(|limited| {
        Duration::try_from_secs_f64(limited.retry_after.min(RETRY_AFTER_MAX)).ok()
    });
    said.max(response.retry_after())
}

watchfire_plugin_sdk::notifier!(Discord);

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
        let discord = Discord::configure(&input.config.to_string()).unwrap();
        host.http(
            &format!("POST {}", discord.config.url),
            http::Response::new(204),
        );
        let notification = mock::read_notification(&input.notification);
        assert_eq!(discord.notify(&notification), Ok(Receipt::sent()));
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
        let discord = Discord::configure(r#"{"url": "http://127.0.0.1/hook"}"#).unwrap();
        let fire = mock::notification(Reason::Fire, vec![mock::alert("cpu", Severity::High)]);
        let answered = |response| {
            let host = mock::Host::new();
            host.http("POST http://127.0.0.1/hook", response);
            discord.notify(&fire)
        };
        let limited = |body: &str, header: &str| {
            let response = http::Response::new(429)
                .with_body(body)
                .with_header("Retry-After", header);
            match answered(response) {
                Err(Error::Unavailable { retry_after, .. }) => {
                    retry_after.map(|wait| wait.as_secs_f64())
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            limited(
                r#"{"message": "limited", "retry_after": 64.57, "global": false}"#,
                "1"
            ),
            Some(64.57)
        );
        assert_eq!(limited(r#"{"retry_after": 0.3}"#, "1"), Some(1.0));
        assert_eq!(limited(r#"{"retry_after": 1e9}"#, ""), Some(3600.0));
        assert_eq!(limited(r#"{"retry_after": -1}"#, ""), None);
        assert_eq!(limited("<html>", "x"), None);
        assert!(matches!(
            answered(http::Response::new(404).with_body(r#"{"message": "Unknown Webhook"}"#)),
            Err(Error::Rejected(_))
        ));
        assert_eq!(
            answered(http::Response::new(200).with_body(r#"{"id": "81", "type": 0}"#)),
            Ok(Receipt::from(Some("81".to_owned())))
        );
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (config, says) in [
            ("{}", "missing field `url`"),
            (
                r#"{"url": "discord.com/api"}"#,
                "config.url: \"discord.com/api\" is no address",
            ),
            (
                r#"{"url": "http://a", "username": "Discord bot"}"#,
                "config.username: Discord refuses \"Discord bot\"",
            ),
            (
                r#"{"url": "http://a", "username": " "}"#,
                "write 1 to 80 characters",
            ),
            (
                r#"{"url": "http://a", "avatar": "x"}"#,
                "config.avatar: unknown field `avatar`",
            ),
        ] {
            let error = Discord::configure(config).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
