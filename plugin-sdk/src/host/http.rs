//! Requests over HTTP. Grant `http`, as `scheme://host:port`. Whole bodies, no redirects.
//!
//! ```
//! use watchfire_plugin_sdk::host::http::{Request, Response};
//! use watchfire_plugin_sdk::mock;
//!
//! let host = mock::Host::new();
//! host.http("GET http://127.0.0.1:8080/stats", Response::new(200).with_body(r#"{"queue": 7}"#));
//!
//! let stats: serde_json::Value = Request::get("http://127.0.0.1:8080/stats").send()?.check()?.json()?;
//! assert_eq!(stats["queue"], 7);
//! # Ok::<(), watchfire_plugin_sdk::Error>(())
//! ```

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::DEFAULT_TIMEOUT;
use crate::alert::lookup;
use crate::{Error, Pairs, Result, Timestamp, calls};

/// Most characters of an answer's body that an error repeats: enough for a service's reason, short enough for a log.
const EXCERPT_MAX: usize = 200;

/// Longest wait that an answer can ask for: what a service says must not silence the alerts to it for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A request. `{{secret:name}}` in the URL, in a header's value and, after [`fill_body`](Request::fill_body), in the body
/// is filled in by the host, towards the host and port that the secret is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// With scheme.
    pub url: String,
    /// In order.
    pub headers: Pairs,
    /// Whole.
    pub body: Vec<u8>,
    /// Whether the host fills secrets into the body.
    pub fill_body: bool,
    /// For everything, from the dial to the last byte.
    pub timeout: Duration,
    /// Whatever the host understands besides.
    pub extra: Pairs,
}

impl Request {
    /// A request without headers and body that waits for [`DEFAULT_TIMEOUT`].
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Pairs::new(),
            body: Vec::new(),
            fill_body: false,
            timeout: DEFAULT_TIMEOUT,
            extra: Pairs::new(),
        }
    }

    /// `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Request::new("GET", url)
    }

    /// `POST`.
    pub fn post(url: impl Into<String>) -> Self {
        Request::new("POST", url)
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With this value as its body, and the header that says so. A value that cannot be written as JSON (a map with keys
    /// that are no text) is sent as `null`.
    #[must_use]
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
        self.header("Content-Type", "application/json").body(body)
    }

    /// With secrets filled into the body as well.
    #[must_use]
    pub fn fill_body(mut self) -> Self {
        self.fill_body = true;
        self
    }

    /// With this limit for everything.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With only this much of a longer answer's body. Without, the host ends a request whose answer has more than 4 MiB
    /// with [`Unavailable`](Error::Unavailable), whatever its status; so one that is sent for the status alone should say
    /// how much of the body is worth reading.
    #[must_use]
    pub fn max_body(self, bytes: usize) -> Self {
        self.extra("max_body", bytes.to_string())
    }

    /// With one more thing that the host understands.
    #[must_use]
    pub fn extra(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// [`Denied`](Error::Denied) without the grant, [`Unavailable`](Error::Unavailable) where nobody answered in time.
    /// Whatever the service answered is a [`Response`]: see [`check`](Response::check).
    pub fn send(&self) -> Result<Response> {
        calls::http_send(self)
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Pairs,
    /// Whole, at most 4 MiB.
    pub body: Vec<u8>,
    /// From the dial to the last byte.
    pub elapsed: Duration,
    /// Until the server's certificate expires, negative afterwards; `None` without TLS.
    pub certificate_seconds_left: Option<i64>,
    /// Whatever the host tells besides.
    pub extra: Pairs,
}

impl Response {
    /// An answer without headers and body, for tests.
    pub fn new(status: u16) -> Self {
        Response {
            status,
            ..Response::default()
        }
    }

    /// With one more header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// With this body, for tests.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The value of the header called `name`, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// What the host tells besides, called `name`.
    pub fn extra(&self, name: &str) -> Option<&str> {
        lookup(&self.extra, name)
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body read as JSON; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// [`Rejected`](Error::Rejected) where it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text()).map_err(|error| {
            Error::rejected(format!(
                "the answer is not the JSON that was expected: {error}"
            ))
        })
    }

    /// Itself, where the status is 2xx.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) for 408, 425, 429 and 5xx, with the wait of `Retry-After`; else
    /// [`Rejected`](Error::Rejected), 3xx too, because redirects are not followed. With the status and the start of the
    /// body, control characters taken out.
    pub fn check(self) -> Result<Self> {
        if self.is_success() {
            return Ok(self);
        }
        if (300..400).contains(&self.status) {
            // The address itself is left out: it may repeat a secret of the request.
            return Err(Error::rejected(format!(
                "answered {}, a redirect: redirects are not followed, write the final address into the configuration",
                self.status
            )));
        }
        let text = self.text();
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let start = text.trim().chars().take(EXCERPT_MAX);
        let excerpt: String = start.map(harmless).collect();
        let message = match &*excerpt {
            "" => format!("answered {}", self.status),
            said => format!("answered {}: {said}", self.status),
        };
        Err(match self.status {
            408 | 425 | 429 | 500..=599 => Error::Unavailable {
                message,
                retry_after: self.retry_after(),
            },
            _ => Error::rejected(message),
        })
    }

    /// The wait that the service asks for in `Retry-After`, in seconds or as a date, at most an hour; zero for a date that
    /// has passed. `None` where there is none, or nothing that makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        // Some services give fractions of a second, which the standard does not know.
        let wait = match value.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
            Err(_) => {
                // By the clock that wrote the date, where it tells: clocks differ.
                let now = self.header("date").and_then(http_date);
                http_date(value)?.since(now.unwrap_or_else(calls::now))
            }
        };
        Some(wait.min(RETRY_AFTER_MAX))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may still write (RFC 9110, 5.6.7); years 1970 to 9999.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_weekday, rest) = text.trim().split_once(", ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = words[..] else {
        return None;
    };
    let number = |digits: &str, max: u64| -> Option<u64> {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|value| plain && *value <= max)
    };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    let clock: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = clock[..] else {
        return None;
    };
    let seconds = number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?;
    // A date to days by Howard Hinnant's days_from_civil, for years from 1970 on.
    if year < 1970 || day == 0 {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted_year / 400, shifted_year % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(Timestamp((days * 86_400 + seconds) * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides_what_happens_next() {
        for (status, again) in [
            (400, false),
            (404, false),
            (408, true),
            (429, true),
            (503, true),
        ] {
            let error = Response::new(status).with_body("why").check().unwrap_err();
            assert_eq!(
                matches!(error, Error::Unavailable { .. }),
                again,
                "{status}"
            );
            assert_eq!(error.to_string(), format!("answered {status}: why"));
        }
        assert!(Response::new(204).check().is_ok());
    }

    #[test]
    fn redirects_are_refused_with_the_reason() {
        let moved = Response::new(301).with_header("Location", "https://elsewhere/?token=t");
        let error = moved.check().unwrap_err();
        assert!(matches!(error, Error::Rejected(_)));
        assert!(error.to_string().starts_with("answered 301, a redirect"));
        assert!(!error.to_string().contains("token"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let host = crate::mock::Host::new();
        host.now(http_date("Wed, 21 Oct 2015 07:27:30 GMT").unwrap());
        let wait = |value: &str| {
            Response::new(429)
                .with_header("Retry-After", value)
                .retry_after()
        };
        for (value, seconds) in [
            ("30", Some(30.0)),
            (" 0.5 ", Some(0.5)),
            ("86400", Some(3600.0)),
            ("1e300", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("soon", None),
            ("", None),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(30.0)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0.0)),
            ("Thu, 22 Oct 2099 07:28:00 GMT", Some(3600.0)),
            ("Wed, 21 Oct 2015 07:28:00 CET", None),
            ("Wed, 21 Xyz 2015 07:28:00 GMT", None),
            ("Wed, 00 Oct 2015 07:28:00 GMT", None),
        ] {
            assert_eq!(
                wait(value).map(|wait| wait.as_secs_f64()),
                seconds,
                "{value:?}"
            );
        }
        let by_its_own_clock = Response::new(503)
            .with_header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .with_header("Retry-After", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(
            by_its_own_clock.retry_after(),
            Some(Duration::from_secs(30))
        );
    }

    #[test]
    fn dates_of_headers_are_moments() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ] {
            assert_eq!(http_date(text).map(Timestamp::seconds), seconds, "{text}");
        }
    }

    #[test]
    fn an_error_repeats_only_the_start_of_a_body() {
        let error = Response::new(400)
            .with_body("ä".repeat(9999))
            .check()
            .unwrap_err();
        assert_eq!(
            error.to_string().chars().count(),
            "answered 400: ".len() + EXCERPT_MAX
        );
    }
}
