//! Sends each notification to an address: as a JSON document, or as what the operator's template makes of it.

mod document;
mod sign;
mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use watchfire_plugin_sdk::host::{clock, secrets};
use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::units::Span;

pub use document::Document;
use template::Template;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to send; may hold secrets.
    url: String,
    /// `POST`, `PUT` or `PATCH`; default `POST`.
    #[serde(default)]
    method: Method,
    /// Further headers; values may hold secrets.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Template of the body; default: the whole document.
    body: Option<String>,
    /// Of the body; default `application/json`.
    content_type: Option<String>,
    /// Signs the body.
    hmac: Option<Hmac>,
    /// For the whole request; default [`TIMEOUT`].
    timeout: Option<Span>,
}

/// How the request is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

/// How the body is signed.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// Name of the secret that both sides know.
    secret: String,
    /// Where the signature goes; default [`SIGNATURE_HEADER`].
    #[serde(default = "signature_header")]
    header: String,
}

/// The notifier.
pub struct Webhook {
    config: Config,
    template: Option<Template>,
}

/// Below the 15 s that a notifier has for everything.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: the status says what became of the message, and more than this is no answer to it.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Where the signature goes.
const SIGNATURE_HEADER: &str = "X-Watchfire-Signature";
/// Where the time stands that was signed, in seconds since 1970: the receiver can refuse what is old.
const TIMESTAMP_HEADER: &str = "X-Watchfire-Timestamp";
/// What the document is.
const JSON: &str = "application/json";

impl Notifier for Webhook {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        check_url(&config.url)?;
        for name in config.headers.keys() {
            check_header("config.headers", name)?;
        }
        if let Some(hmac) = &config.hmac {
            check_header("config.hmac.header", &hmac.header)?;
            if hmac.secret.trim().is_empty() {
                return Err(Error::config(
                    "config.hmac.secret: write the name of a secret of [secrets]",
                ));
            }
        }
        let template = match &config.body {
            Some(body) => {
                let template = Template::new(body)?;
                if is_json(config.content_type.as_deref().unwrap_or(JSON)) {
                    template.check_json()?;
                }
                Some(template)
            }
            None if config
                .content_type
                .as_deref()
                .is_some_and(|kind| !is_json(kind)) =>
            {
                return Err(Error::config(
                    "config.content_type: without config.body the document is JSON: leave content_type out, or write a body",
                ));
            }
            None => None,
        };
        Ok(Webhook { config, template })
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        let document = Document::of(notification);
        let body = match &self.template {
            Some(template) => template.render(&document)?,
            None => serde_json::to_string(&document)
                .map_err(|error| Error::internal(format!("the document as JSON: {error}")))?,
        };
        self.request(notification, body)?.send()?.check()?;
        Ok(Receipt::sent())
    }
}

impl Webhook {
    fn request(&self, notification: &Notification, body: String) -> Result<http::Request> {
        let config = &self.config;
        let mut headers = vec![
            (
                "Content-Type",
                config.content_type.as_deref().unwrap_or(JSON),
            ),
            ("Idempotency-Key", &notification.id),
        ];
        // The operator's own words win.
        headers.retain(|(name, _)| {
            !config
                .headers
                .keys()
                .any(|own| own.eq_ignore_ascii_case(name))
        });
        headers.extend(
            config
                .headers
                .iter()
                .map(|(name, value)| (&**name, &**value)),
        );
        let timeout = config.timeout.map_or(TIMEOUT, |span| span.0);
        let mut request = http::Request::new(config.method.name(), &config.url)
            .timeout(timeout)
            .max_body(ANSWER_BYTES_MAX);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(hmac) = &config.hmac {
            let key = secrets::reveal(&hmac.secret)?;
            let seconds = clock::now().seconds();
            request = request
                .header(TIMESTAMP_HEADER, seconds.to_string())
                .header(&hmac.header, sign::signature(&key, seconds, &body)?);
        }
        Ok(request.body(body))
    }
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
        }
    }
}

fn signature_header() -> String {
    SIGNATURE_HEADER.to_owned()
}

fn is_json(content_type: &str) -> bool {
    content_type.contains("json")
}

fn check_url(url: &str) -> Result<()> {
    let whole = ["http://", "https://", "{{secret:"];
    if whole.iter().any(|start| url.starts_with(start)) {
        return Ok(());
    }
    Err(Error::config(format!(
        "config.url: {url:?} is no address: write it whole, like https://hooks.example.org/path, or as {{{{secret:NAME}}}}"
    )))
}

fn check_header(key: &str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::config(format!(
        "{key}: {name:?} is no name of a header: write letters, digits and dashes, like X-Team"
    )))
}

watchfire_plugin_sdk::notifier!(Webhook);

#[cfg(test)]
mod tests;
