//! What makes an answer a good one.

use std::collections::BTreeMap;

use regex_lite::Regex;
use watchfire_plugin_sdk::host::http::Response;
use watchfire_plugin_sdk::{Error, Result};

/// Bytes of a body that `body_matches` searches: a regular expression takes up to a microsecond a byte, and a call has
/// half a second of CPU.
const SEARCHED_MAX: usize = 128 * 1024;

/// The table `expect`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Table {
    status: Option<OneOrMore<Status>>,
    body_contains: Option<OneOrMore<String>>,
    body_matches: Option<String>,
    headers: BTreeMap<String, String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "expected one or a list of: 200 or \"2xx\" for a status, a text for a body"
)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Status {
    Code(u16),
    Class(String),
}

/// Checked expectations, ready to judge.
pub(crate) struct Expect {
    /// First and last code.
    statuses: Vec<(u16, u16)>,
    contains: Vec<String>,
    matches: Option<Regex>,
    headers: Vec<(String, Wanted)>,
}

enum Wanted {
    Text(String),
    Pattern(Regex),
}

impl Expect {
    /// Checks the table.
    ///
    /// # Errors
    /// [`Error::Config`], naming the key and what to write instead.
    pub(crate) fn new(table: Table) -> Result<Self> {
        let mut statuses = Vec::new();
        for status in table.status.map_or_else(Vec::new, OneOrMore::into_vec) {
            statuses.push(codes(&status)?);
        }
        if statuses.is_empty() {
            statuses.push((200, 299));
        }
        let matches = table
            .body_matches
            .map(|pattern| regex("body_matches", &pattern))
            .transpose()?;
        let mut headers = Vec::new();
        for (name, value) in table.headers {
            let name = name.to_ascii_lowercase();
            let wanted = match value.strip_prefix('~') {
                None => Wanted::Text(value),
                Some(pattern) => {
                    let key = format!("headers.{name}");
                    // Checked by itself first: within the group an error would show the group.
                    regex(&key, pattern)?;
                    Wanted::Pattern(regex(&key, &format!("^(?:{pattern})$"))?)
                }
            };
            headers.push((name, wanted));
        }
        Ok(Expect {
            statuses,
            contains: table
                .body_contains
                .map_or_else(Vec::new, OneOrMore::into_vec),
            matches,
            headers,
        })
    }

    /// Each expectation by name, and whether the answer is as expected.
    pub(crate) fn judge(&self, response: &Response) -> Vec<(String, bool)> {
        let status = self
            .statuses
            .iter()
            .any(|(first, last)| (first..=last).contains(&&response.status));
        let mut judged = vec![("status".to_owned(), status)];
        let text = response.text();
        if !self.contains.is_empty() {
            let all = self.contains.iter().all(|wanted| text.contains(&**wanted));
            judged.push(("body_contains".to_owned(), all));
        }
        if let Some(pattern) = &self.matches {
            let start = &text[..text.floor_char_boundary(SEARCHED_MAX)];
            judged.push(("body_matches".to_owned(), pattern.is_match(start)));
        }
        for (name, wanted) in &self.headers {
            // A header may stand twice; one that fits is enough.
            let fits = response
                .headers
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .any(|(_, value)| match wanted {
                    Wanted::Text(text) => value == text,
                    Wanted::Pattern(pattern) => pattern.is_match(value),
                });
            judged.push((format!("header:{name}"), fits));
        }
        judged
    }
}

/// The first and the last code that a status stands for.
fn codes(status: &Status) -> Result<(u16, u16)> {
    let found = match status {
        Status::Code(code) => Some((*code, *code)),
        Status::Class(class) => match class.as_bytes() {
            [digit @ b'1'..=b'5', b'x', b'x'] => {
                let first = u16::from(digit - b'0') * 100;
                Some((first, first + 99))
            }
            _ => class.parse().ok().map(|code| (code, code)),
        },
    };
    match found {
        Some((first, last)) if (100..=999).contains(&first) => Ok((first, last)),
        _ => Err(Error::config(format!(
            "config.expect.status: {status} is no status: write 200, \"2xx\" or a list of such"
        ))),
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::Code(code) => write!(f, "{code}"),
            Status::Class(class) => write!(f, "{class:?}"),
        }
    }
}

fn regex(key: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        Error::config(format!(
            "config.expect.{key}: {pattern:?} is no regular expression: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(table: &str) -> Result<Expect> {
        Expect::new(serde_json::from_str(table).unwrap())
    }

    #[test]
    fn statuses_are_codes_classes_and_lists_of_both() {
        for (status, fits, does_not) in [
            ("200", vec![200], vec![201, 404]),
            ("\"2xx\"", vec![200, 299], vec![199, 300]),
            ("\"404\"", vec![404], vec![200]),
            ("[\"3xx\", 204]", vec![301, 204], vec![200, 400]),
            ("[]", vec![200, 204], vec![301]),
        ] {
            let expect = expect(&format!(r#"{{"status": {status}}}"#)).unwrap();
            let good = |code| expect.judge(&Response::new(code))[0].1;
            assert!(fits.into_iter().all(good), "{status}");
            assert!(!does_not.into_iter().any(good), "{status}");
        }
        for status in ["\"2XX\"", "\"ok\"", "20", "[200, \"6xx\"]"] {
            let error = expect(&format!(r#"{{"status": {status}}}"#)).err().unwrap();
            assert!(error.to_string().contains("write 200, \"2xx\""), "{error}");
        }
    }

    #[test]
    fn a_long_body_is_searched_from_its_start_only() {
        let expect = expect(r#"{"body_matches": "end", "body_contains": "end"}"#).unwrap();
        let body = format!("{}end", "ä".repeat(SEARCHED_MAX));
        let judged = expect.judge(&Response::new(200).with_body(body));
        assert_eq!(
            judged.iter().map(|(_, good)| *good).collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[test]
    fn a_header_is_matched_as_a_whole_and_any_of_its_values_counts() {
        let expect = expect(r#"{"headers": {"Vary": "~a|b", "x": "1"}}"#).unwrap();
        let judged = |first: &str, second: &str| {
            let response = Response::new(200)
                .with_header("vary", first)
                .with_header("Vary", second);
            let judged = expect.judge(&response.with_header("X", "1"));
            (judged[1].1, judged[2].1)
        };
        assert_eq!(judged("c", "b"), (true, true));
        assert_eq!(judged("ab", "abc"), (false, true));
    }

    #[test]
    fn wrong_patterns_are_told() {
        for table in [r#"{"body_matches": "("}"#, r#"{"headers": {"a": "~)("}}"#] {
            let error = expect(table).err().unwrap().to_string();
            assert!(error.contains("is no regular expression"), "{error}");
        }
    }
}
