//! Asks a URL and holds the answer against what is expected of it.

mod expect;

use std::collections::BTreeMap;
use std::time::Duration;

use watchfire_plugin_sdk::host::http::{Request, Response};
use watchfire_plugin_sdk::host::{events, state};
use watchfire_plugin_sdk::prelude::*;

use expect::Expect;

/// Bytes of a body that are read: a page that a check looks at is shorter, and the guest's memory is small.
const BODY_MAX: usize = 1024 * 1024;

/// Longest `timeout_ms`: a probe has 5 s for everything, and one that is late tells nothing at all.
const TIMEOUT_MS_MAX: u64 = 4_500;

/// Key of the reason for being down that was told last.
const REASON: &str = "reason";

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What to ask.
    url: String,
    /// Default GET.
    #[serde(default = "get")]
    method: String,
    /// In order of their names.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    /// For everything, in milliseconds.
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    /// Takes any certificate; needs the grant of that name.
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    expect: expect::Table,
}

fn get() -> String {
    "GET".to_owned()
}

fn timeout_ms() -> u64 {
    4_000
}

/// The probe: a request and what is expected of its answer.
pub struct Http {
    request: Request,
    /// The URL without what nobody should read.
    label: String,
    expect: Expect,
}

impl Probe for Http {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let (url, method) = (config.url, config.method);
        // A secret may be the whole URL: then the host sees what it is.
        if !["http://", "https://", "{{secret:"]
            .iter()
            .any(|start| url.starts_with(start))
        {
            return Err(Error::config(format!(
                "config.url: {url:?} has no scheme: write \"https://{url}\""
            )));
        }
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(Error::config(format!(
                "config.method: {method:?} is no method: write GET, HEAD, POST or another in upper case"
            )));
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&config.timeout_ms) {
            return Err(Error::config(format!(
                "config.timeout_ms: {} is out of bounds: write 1 to {TIMEOUT_MS_MAX}",
                config.timeout_ms
            )));
        }
        let mut request = Request::new(method, url.as_str())
            .timeout(Duration::from_millis(config.timeout_ms))
            .extra("max_body", BODY_MAX.to_string());
        for (name, value) in config.headers {
            request = request.header(name, value);
        }
        if config.insecure {
            request = request.extra("verify", "false");
        }
        if config.body.contains("{{secret:") {
            request = request.fill_body();
        }
        Ok(Http {
            request: request.body(config.body),
            label: label(&url),
            expect: Expect::new(config.expect)?,
        })
    }

    fn collect(&mut self) -> Result<Collection> {
        match self.request.send() {
            Ok(response) => self.answered(&response),
            // Nobody there, too late, or an answer beyond all bounds.
            Err(error @ (Error::Unavailable { .. } | Error::Rejected(_))) => {
                self.tell(Some(error.message()))?;
                Ok(Collection::from(self.up(false)))
            }
            // The host's refusal tells nothing about the target.
            Err(error) => Err(error),
        }
    }

    fn wants() -> Vec<String> {
        vec!["http https://example.org:443".to_owned()]
    }
}

impl Http {
    fn answered(&self, response: &Response) -> Result<Collection> {
        let judged = self.expect.judge(response);
        let mut failed = Family::gauge(
            "http_expectation_failed",
            "Whether the answer was not as expected",
        );
        for (expectation, as_expected) in &judged {
            failed.push(
                [
                    ("url", self.label.as_str()),
                    ("expectation", expectation.as_str()),
                ],
                f64::from(u8::from(!as_expected)),
            );
        }
        let mut collection = Collection::from([
            self.gauge(
                "http_status_code",
                "Status of the answer",
                f64::from(response.status),
            ),
            self.gauge(
                "http_duration_seconds",
                "From the look-up of the name to the last byte",
                response.elapsed.as_secs_f64(),
            ),
            self.gauge(
                "http_body_bytes",
                "Length of the body, as far as it was read",
                response.body.len() as f64,
            ),
            failed,
        ]);
        if let Some(left) = response.certificate_seconds_left {
            collection.push(self.gauge(
                "http_certificate_seconds_left",
                "Until the certificate expires, negative afterwards",
                left as f64,
            ));
        }
        let wrong: Vec<&str> = judged
            .iter()
            .filter(|(_, as_expected)| !as_expected)
            .map(|(expectation, _)| expectation.as_str())
            .collect();
        let reason = format!(
            "answered {}, not as expected: {}",
            response.status,
            wrong.join(", ")
        );
        self.tell((!wrong.is_empty()).then_some(&*reason))?;
        collection.push(self.up(wrong.is_empty()));
        Ok(collection)
    }

    fn up(&self, up: bool) -> Family {
        self.gauge(
            "http_up",
            "Whether the target answers as expected",
            f64::from(u8::from(up)),
        )
    }

    fn gauge(&self, metric: &str, help: &str, value: f64) -> Family {
        Family::gauge(metric, help).point([("url", self.label.as_str())], value)
    }

    /// Tells why the target is down, once for each reason: a number cannot say it.
    fn tell(&self, reason: Option<&str>) -> Result<()> {
        let told: Option<String> = state::load(REASON)?;
        if told.as_deref() == reason {
            return Ok(());
        }
        let url = [("url", self.label.as_str())];
        if let Some(reason) = reason {
            events::emit(
                "http_down",
                None,
                &format!("{}: {reason}", self.label),
                &url,
            );
            state::store(REASON, reason)
        } else {
            events::emit("http_up_again", None, &self.label, &url);
            state::delete(REASON)
        }
    }
}

/// The URL without query, fragment and user, which may hold what nobody should read.
fn label(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or(url);
    let Some((scheme, rest)) = bare.split_once("://") else {
        return bare.to_owned();
    };
    let host = rest.find('/').unwrap_or(rest.len());
    let user = rest[..host].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[user..])
}

watchfire_plugin_sdk::probe!(Http);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A case: the table (without its URL), and the answer; without one nobody is there.
    #[derive(serde::Deserialize)]
    struct Input {
        config: Value,
        answer: Option<Answer>,
    }

    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        status: u16,
        #[serde(default)]
        body: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        elapsed_ms: u64,
        certificate_seconds_left: Option<i64>,
    }

    const URL: &str = "https://shop.example/health";

    fn look(input: &Input) -> Value {
        let host = mock::Host::new();
        let mut config = input.config.clone();
        if config.get("url").is_none() {
            config["url"] = json!(URL);
        }
        let request = format!(
            "{} {}",
            config["method"].as_str().unwrap_or("GET"),
            config["url"].as_str().unwrap()
        );
        match &input.answer {
            None => host.http_fails(&request, Error::unavailable("connection refused")),
            Some(answer) => {
                let response = answer.headers.iter().fold(
                    Response {
                        elapsed: Duration::from_millis(answer.elapsed_ms),
                        certificate_seconds_left: answer.certificate_seconds_left,
                        ..Response::new(answer.status).with_body(answer.body.as_str())
                    },
                    |response, (name, value)| response.with_header(name, value.as_str()),
                );
                host.http(&request, response);
            }
        }
        let mut probe = match Http::configure(&config.to_string()) {
            Ok(probe) => probe,
            Err(error) => return json!({ "error": error.to_string() }),
        };
        let collection = probe.collect().unwrap();
        assert!(collection.failures.is_empty());
        let samples: BTreeMap<String, f64> = collection
            .families
            .iter()
            .flat_map(|family| family.points.iter().map(move |point| (family, point)))
            .map(|(family, point)| {
                let labels: Vec<_> = point
                    .labels
                    .iter()
                    .map(|(k, v)| format!("{k}={v}"))
                    .collect();
                (
                    format!("{}{{{}}}", family.metric, labels.join(",")),
                    point.value,
                )
            })
            .collect();
        let events: Vec<_> = host
            .events()
            .iter()
            .map(|event| format!("{}: {}", event.kind, event.message))
            .collect();
        json!({ "samples": samples, "events": events })
    }

    #[test]
    fn testdata_is_read_as_expected() {
        for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
            assert_eq!(
                look(&case.json("input.json")),
                case.json::<Value>("expected.json"),
                "{}",
                case.name
            );
        }
    }

    #[test]
    fn a_missing_grant_is_no_target_that_is_down() {
        let _host = mock::Host::new();
        let mut probe = Http::configure(r#"{"url": "http://a.example/"}"#).unwrap();
        assert!(matches!(probe.collect(), Err(Error::Denied(_))));
    }

    #[test]
    fn the_reason_is_told_when_it_changes() {
        let host = mock::Host::new();
        let request = "GET http://a.example/";
        let refused = || Error::unavailable("connection refused");
        host.http(request, Response::new(200));
        host.http_fails(request, refused());
        host.http_fails(request, refused());
        host.http(request, Response::new(500));
        host.http(request, Response::new(200));
        let up: Vec<_> = (0..6)
            .map(|_| {
                let mut probe = Http::configure(r#"{"url": "http://a.example/"}"#).unwrap();
                let found = probe.collect().unwrap();
                found.value("http_up", &[("url", "http://a.example/")])
            })
            .collect();
        assert_eq!(up, [1.0, 0.0, 0.0, 0.0, 1.0, 1.0].map(Some));
        let told: Vec<_> = host.events().into_iter().map(|e| e.message).collect();
        assert_eq!(
            told,
            [
                "http://a.example/: connection refused",
                "http://a.example/: answered 500, not as expected: status",
                "http://a.example/"
            ]
        );
    }

    #[test]
    fn the_request_is_what_the_table_says() {
        let host = mock::Host::new();
        host.http("POST https://a.example/in?k=1", Response::new(200));
        let config = json!({
            "url": "https://a.example/in?k=1",
            "method": "POST",
            "headers": {"Authorization": "Bearer {{secret:token}}"},
            "body": "key={{secret:key}}",
            "timeout_ms": 250,
            "insecure": true,
        });
        Http::configure(&config.to_string())
            .unwrap()
            .collect()
            .unwrap();
        let sent = &host.requests()[0];
        assert!(sent.fill_body && sent.timeout == Duration::from_millis(250));
        assert_eq!(sent.text(), "key={{secret:key}}");
        assert_eq!(sent.headers[0].1, "Bearer {{secret:token}}");
        assert!(sent.extra.contains(&("verify".into(), "false".into())));
    }

    #[test]
    fn labels_hold_no_secrets() {
        for (url, expected) in [
            ("https://a.example/p?token=x#y", "https://a.example/p"),
            ("https://user:word@a.example/p@q", "https://a.example/p@q"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("{{secret:url}}", "{{secret:url}}"),
        ] {
            assert_eq!(label(url), expected);
        }
    }
}
