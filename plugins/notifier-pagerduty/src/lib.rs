//! Opens, updates, acknowledges and resolves alerts in PagerDuty, by the Events API v2.

mod event;

use std::time::Duration;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::units::Span;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Integration key of the service; a secret, as a rule.
    routing_key: String,
    /// Where events go; default [`URL`].
    #[serde(default = "default_url")]
    url: String,
    /// Label that names the component; default `service`.
    #[serde(default = "default_component")]
    component_label: String,
    /// Label that names the group; default `env`.
    #[serde(default = "default_group")]
    group_label: String,
    /// For the whole request; default [`TIMEOUT`].
    timeout: Option<Span>,
}

/// The notifier.
pub struct PagerDuty {
    config: Config,
}

/// Where events go.
const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Below the 15 s that a notifier has for everything.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: the status says what became of the message, and more than this is no answer to it.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// PagerDuty counts events by the minute and names no wait: trying sooner only counts against the key.
const LIMITED_WAIT: Duration = Duration::from_secs(60);

impl Notifier for PagerDuty {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let key = &config.routing_key;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_secret = host::secrets::placeholder(key).is_some();
        if !is_secret && (key.is_empty() || !key.bytes().all(plain)) {
            return Err(Error::config(
                "config.routing_key: write {{secret:NAME}}, or the integration key of an Events API v2 integration, 32 characters",
            ));
        }
        if !["https://", "http://"]
            .iter()
            .any(|start| config.url.starts_with(start))
        {
            return Err(Error::config(format!(
                "config.url: {:?} is no address: leave it out, or write it whole, like {URL}",
                config.url
            )));
        }
        Ok(PagerDuty { config })
    }

    fn folds_by_dedup_key() -> bool {
        true
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        if notification.reason == Reason::Heartbeat {
            return Err(Error::rejected(
                "PagerDuty has no heartbeats: let [heartbeat] call a dead-man's switch that opens an alert there",
            ));
        }
        let body = event::body(notification, &self.config);
        let response = http::Request::post(&self.config.url)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &notification.id)
            .body(body)
            .fill_body()
            .timeout(self.config.timeout.map_or(TIMEOUT, |span| span.0))
            .max_body(ANSWER_BYTES_MAX)
            .send()?;
        let limited = response.status == 429 && response.retry_after().is_none();
        let response = response.check().map_err(|error| match limited {
            true => error.retry_after(LIMITED_WAIT),
            false => error,
        })?;
        #[derive(serde::Deserialize)]
        struct Accepted {
            dedup_key: String,
        }
        let accepted = response.json::<Accepted>().ok();
        Ok(Receipt::from(accepted.map(|accepted| accepted.dedup_key)))
    }

    fn wants() -> Vec<String> {
        vec!["http https://events.pagerduty.com:443".into()]
    }
}

fn default_url() -> String {
    URL.to_owned()
}

fn default_component() -> String {
    "service".to_owned()
}

fn default_group() -> String {
    "env".to_owned()
}

watchfire_plugin_sdk::notifier!(PagerDuty);

#[cfg(test)]
mod tests;
