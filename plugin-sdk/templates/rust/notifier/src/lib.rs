//! A notifier: it tells a service about alerts, once. Retrying, grouping and muting is the host's affair.
//!
//! This one posts a line of text to a chat.

use watchfire_plugin_sdk::prelude::*;

/// The notifier, as its table configures it.
struct Chat {
    url: String,
}

/// The plugin's table: `config = { url = "{{secret:chat}}" }`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to post. May be a secret: the host fills it in on the way out, this code never sees it.
    url: String,
}

impl Notifier for Chat {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let whole = ["https://", "http://", "{{secret:"];
        if !whole.iter().any(|start| config.url.starts_with(start)) {
            return Err(Error::config(
                "config.url: write a whole address, https://chat.example/hook, or {{secret:NAME}}",
            ));
        }
        Ok(Chat { url: config.url })
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        let sign = if notification.is_resolved() {
            "resolved"
        } else {
            "firing"
        };
        let response = http::Request::post(&self.url)
            // The same over retries: the service can drop a duplicate by it.
            .header("Idempotency-Key", &notification.id)
            .json(&serde_json::json!({ "text": format!("{sign}: {}", notification.title) }))
            // The status says what became of it, however much a proxy has to say besides.
            .max_body(64 << 10)
            .send()?
            .check()?; // 2xx, or the error that tells the host whether to try again
        Ok(Receipt::from(
            response.header("x-message-id").map(str::to_owned),
        ))
    }

    /// What to ask the operator for; nothing is allowed until it stands in the configuration.
    fn wants() -> Vec<String> {
        vec!["http https://chat.example:443".into()]
    }

    fn config_schema() -> Option<String> {
        Some(
            serde_json::json!({
                "type": "object",
                "properties": { "url": { "type": "string", "description": "where to post" } },
                "required": ["url"],
            })
            .to_string(),
        )
    }
}

notifier!(Chat);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CONFIG: &str = r#"{"url": "https://chat.example/hook"}"#;

    fn fire() -> Notification {
        mock::notification(Reason::Fire, vec![mock::alert("cpu", Severity::High)])
    }

    #[test]
    fn the_title_is_posted() {
        let host = mock::Host::new();
        host.http("POST https://chat.example/hook", http::Response::new(200));
        Chat::configure(CONFIG).unwrap().notify(&fire()).unwrap();
        assert_eq!(host.requests()[0].text(), r#"{"text":"firing: cpu"}"#);
    }

    #[test]
    fn a_busy_service_is_tried_again_when_it_says() {
        let host = mock::Host::new();
        let busy = http::Response::new(429).with_header("Retry-After", "7");
        host.http("POST https://chat.example/hook", busy);
        let error = Chat::configure(CONFIG)
            .unwrap()
            .notify(&fire())
            .unwrap_err();
        let seven = Some(Duration::from_secs(7));
        assert!(
            matches!(error, Error::Unavailable { retry_after, .. } if retry_after == seven),
            "{error}"
        );
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let error = Chat::configure(r#"{"url": "chat.example"}"#).err().unwrap();
        assert!(error.to_string().contains("https://"), "{error}");
    }
}
