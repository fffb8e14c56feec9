//! Calls an endpoint of the service that is in trouble: drain a queue, restart handlers, clear a cache, set a number.

use std::collections::BTreeMap;
use std::time::Duration;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::template::{self, Template};
use watchfire_plugin_sdk::text;
use watchfire_plugin_sdk::units::Span;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What to call; takes `{{labels.NAME}}` and secrets.
    url: String,
    /// Default `POST`.
    #[serde(default)]
    method: Method,
    /// Further headers; values may hold secrets.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What to send; takes `{{labels.NAME}}` and secrets.
    body: Option<String>,
    /// Of the body; default `application/json`.
    content_type: Option<String>,
    /// What a good answer is; default: any status 2xx.
    #[serde(default)]
    expect: Expect,
    /// For the whole request; default [`TIMEOUT`].
    timeout: Option<Span>,
}

/// What a good answer is.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// These and no others; default: any of 2xx.
    #[serde(default)]
    status: Vec<u16>,
    /// Text that must stand in the answer's body.
    contains: Option<String>,
}

/// How the request is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

/// The action.
pub struct Call {
    config: Config,
    url: Template,
    body: Option<Template>,
}

/// Below the 30 s that a recovery has where the operator sets nothing.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read, and in which `expect.contains` is looked for; the status counts whatever follows.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Most characters of an answer that an error repeats.
const EXCERPT_MAX: usize = 200;
/// What a body is where the operator sets nothing.
const JSON: &str = "application/json";

impl Action for Call {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let whole = ["http://", "https://", "{{secret:"];
        if !whole.iter().any(|start| config.url.starts_with(start)) {
            return Err(Error::config(format!(
                "config.url: {:?} is no address: write it whole, like http://127.0.0.1:8080/drain",
                config.url
            )));
        }
        if config.body.is_none() && config.content_type.is_some() {
            return Err(Error::config(
                "config.content_type: there is no config.body: write one, or leave content_type out",
            ));
        }
        if config.body.is_some() && config.method == Method::Get {
            return Err(Error::config(
                "config.body: a GET has no body: write method = \"POST\", or leave body out",
            ));
        }
        for (name, value) in &config.headers {
            check_header(name, value)?;
        }
        if let Some(status) = config
            .expect
            .status
            .iter()
            .find(|code| !(100..600).contains(*code))
        {
            return Err(Error::config(format!(
                "config.expect.status: {status} is no status: write codes like 200 and 202"
            )));
        }
        let url = Template::parse(&config.url).map_err(|error| error.context("config.url"))?;
        let body = config.body.as_deref().map(Template::parse).transpose();
        let body = body.map_err(|error| error.context("config.body"))?;
        Ok(Call { config, url, body })
    }

    fn act(&self, alert: &Alert, attempt: u32, dry_run: bool) -> Result<Outcome> {
        let request = self.request(alert, attempt)?;
        let what = format!("{} {}", request.method, request.url);
        if dry_run {
            return Ok(Outcome::unchanged(match &*request.text() {
                "" => format!("would send {what}"),
                body => format!("would send {what} with {body}"),
            }));
        }
        let response = request.send()?;
        let status = response.status;
        self.expected(response)
            .map_err(|error| error.context(&what))?;
        let did = format!("{what} answered {status}");
        Ok(match self.config.method {
            Method::Get => Outcome::unchanged(did),
            _ => Outcome::changed(did),
        })
    }
}

impl Call {
    fn request(&self, alert: &Alert, attempt: u32) -> Result<http::Request> {
        let config = &self.config;
        let url = self.url.fill(alert, attempt, template::url);
        let url = url.map_err(|error| error.context("config.url"))?;
        let timeout = config.timeout.map_or(TIMEOUT, |span| span.0);
        let own = |name: &str| {
            config
                .headers
                .keys()
                .any(|own| own.eq_ignore_ascii_case(name))
        };
        let mut request = http::Request::new(config.method.name(), url)
            .timeout(timeout)
            .max_body(ANSWER_BYTES_MAX);
        if !own("Idempotency-Key") {
            let key = format!("{}-{}-{attempt}", alert.fingerprint, alert.episode);
            request = request.header("Idempotency-Key", key);
        }
        for (name, value) in &config.headers {
            request = request.header(name, value);
        }
        let Some(body) = &self.body else {
            return Ok(request);
        };
        let content_type = config.content_type.as_deref().unwrap_or(JSON);
        if !own("Content-Type") {
            request = request.header("Content-Type", content_type);
        }
        let safe = if content_type.contains("json") {
            template::json
        } else if content_type.contains("x-www-form-urlencoded") {
            template::form
        } else {
            template::plain
        };
        let filled = body.fill(alert, attempt, safe);
        request = request.body(filled.map_err(|error| error.context("config.body"))?);
        // Only the operator's own places: no value can bring one, see the functions of `template`.
        Ok(if body.has_secret() {
            request.fill_body()
        } else {
            request
        })
    }

    fn expected(&self, response: http::Response) -> Result<()> {
        let Expect { status, contains } = &self.config.expect;
        let response = if status.is_empty() {
            response.check()?
        } else if status.contains(&response.status) {
            response
        } else if response.is_success() {
            return Err(Error::rejected(format!(
                "answered {}, expected was {status:?}",
                response.status
            )));
        } else {
            return response.check().map(drop);
        };
        match contains {
            Some(wanted) if !response.text().contains(&**wanted) => {
                let answer = text::line(&response.text());
                Err(Error::rejected(format!(
                    "answered {} without {wanted:?}: {}",
                    response.status,
                    text::truncate(&answer, EXCERPT_MAX)
                )))
            }
            _ => Ok(()),
        }
    }
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

fn check_header(name: &str, value: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::config(format!(
            "config.headers: {name:?} is no name of a header: write letters, digits and dashes, like X-Team"
        )));
    }
    let template = Template::parse(value);
    let template =
        template.map_err(|error| error.context(format_args!("config.headers.{name}")))?;
    if template.has_place() {
        return Err(Error::config(format!(
            "config.headers.{name}: a header takes secrets only: write what the alert says into config.url or config.body"
        )));
    }
    Ok(())
}

watchfire_plugin_sdk::action!(Call);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Input {
        config: serde_json::Value,
        #[serde(default)]
        alert: serde_json::Value,
        #[serde(default)]
        dry_run: bool,
        /// What the endpoint answers; nothing is scripted without.
        answer: Option<(u16, String)>,
    }

    /// What was asked for and what came of it.
    fn acted(input: &Input) -> serde_json::Value {
        let host = mock::Host::new();
        let alert = mock::read_alert(&input.alert);
        let call = match Call::configure(&input.config.to_string()) {
            Ok(call) => call,
            Err(error) => return serde_json::json!({ "refused": error.to_string() }),
        };
        if let (Some((status, body)), Ok(request)) = (&input.answer, call.request(&alert, 2)) {
            let answer = http::Response::new(*status).with_body(body.clone());
            host.http(&format!("{} {}", request.method, request.url), answer);
        }
        let outcome = match call.act(&alert, 2, input.dry_run) {
            Ok(Outcome { did, changed }) => serde_json::json!({ "did": did, "changed": changed }),
            Err(Error::Unavailable { message, .. }) => {
                serde_json::json!({ "unavailable": message })
            }
            Err(Error::Config(message)) => serde_json::json!({ "config": message }),
            Err(Error::Rejected(message)) => serde_json::json!({ "rejected": message }),
            Err(error) => panic!("{error}"),
        };
        let requests: Vec<_> = host
            .requests()
            .iter()
            .map(|request| {
                serde_json::json!({
                    "request": format!("{} {}", request.method, request.url),
                    "headers": request.headers,
                    "body": request.text(),
                    "fill_body": request.fill_body,
                })
            })
            .collect();
        serde_json::json!({ "outcome": outcome, "requests": requests })
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
            (serde_json::json!({}), "missing field `url`"),
            (
                serde_json::json!({"url": "127.0.0.1/drain"}),
                "config.url: \"127.0.0.1/drain\" is no address",
            ),
            (
                serde_json::json!({"url": "http://a/{{queue}}"}),
                "config.url: {{queue}} is nothing an alert has: write {{labels.NAME}}",
            ),
            (
                serde_json::json!({"url": "http://a", "method": "BREW"}),
                "config.method: unknown variant `BREW`, expected one of `GET`",
            ),
            (
                serde_json::json!({"url": "http://a", "method": "GET", "body": "x"}),
                "config.body: a GET has no body",
            ),
            (
                serde_json::json!({"url": "http://a", "content_type": "text/plain"}),
                "config.content_type: there is no config.body",
            ),
            (
                serde_json::json!({"url": "http://a", "headers": {"X-Queue": "{{labels.queue}}"}}),
                "config.headers.X-Queue: a header takes secrets only",
            ),
            (
                serde_json::json!({"url": "http://a", "headers": {"a b": "c"}}),
                "config.headers: \"a b\" is no name of a header",
            ),
            (
                serde_json::json!({"url": "http://a", "expect": {"status": [20]}}),
                "config.expect.status: 20 is no status",
            ),
            (
                serde_json::json!({"url": "http://a", "expect": 200}),
                "config.expect: invalid type",
            ),
        ] {
            let error = Call::configure(&config.to_string())
                .err()
                .unwrap_or_else(|| panic!("{config} was taken"));
            assert!(error.to_string().contains(says), "{error} / {says}");
        }
    }
}
