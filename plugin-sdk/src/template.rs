//! Places in the operator's texts that an alert fills: `{{labels.queue}}`, `{{rule}}`.
//!
//! For addresses, bodies and arguments, not for prose. The operator's text is the list of what may go in: a label that is not
//! named there goes nowhere. Each value passes through a function that makes it safe for where it goes.
//! `{{secret:name}}` stays as it is, for the host.
//!
//! ```
//! use watchfire_plugin_sdk::{Severity, mock, template::{self, Template}};
//!
//! let url = Template::parse("https://api/queues/{{labels.queue}}/drain")?;
//! let mut alert = mock::alert("queue-long", Severity::High);
//! alert.labels.push(("queue".into(), "a/../b".into()));
//! assert_eq!(url.fill(&alert, 1, template::url)?, "https://api/queues/a%2F..%2Fb/drain");
//! assert!(Template::parse("{{label.queue}}").is_err());
//! # Ok::<(), watchfire_plugin_sdk::Error>(())
//! ```

use std::fmt::Write as _;

use crate::{Alert, Error, Result, text};

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Label(String),
    Rule,
    Severity,
    Value,
    Limit,
    Summary,
    Fingerprint,
    Episode,
    Attempt,
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// [`Config`](Error::Config) where a place is none that an alert has, with those that it has.
    pub fn parse(source: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once("{{") {
            text.push_str(before);
            let (inside, behind) = after
                .split_once("}}")
                .ok_or_else(|| Error::config(format!("{source:?} has a {{{{ without its }}}}")))?;
            rest = behind;
            if inside.starts_with("secret:") {
                // Exactly as the host looks for it.
                let _ = write!(text, "{{{{{inside}}}}}");
                continue;
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Place(Place::parse(inside.trim())?));
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Template {
            source: source.to_owned(),
            parts,
        })
    }

    /// The text as the operator wrote it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the host has a secret to fill in.
    pub fn has_secret(&self) -> bool {
        self.source.contains("{{secret:")
    }

    /// Whether an alert has anything to fill in.
    pub fn has_place(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Place(_)))
    }

    /// The text with the alert's values, each made safe by `safe`; `attempt` counts from 1.
    ///
    /// # Errors
    /// [`Config`](Error::Config) where the alert has no such label or value, and whatever `safe` refuses.
    pub fn fill(
        &self,
        alert: &Alert,
        attempt: u32,
        safe: impl Fn(&str) -> Result<String>,
    ) -> Result<String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place(place) => {
                    let value = place.value(alert, attempt)?;
                    let value = safe(&value).map_err(|error| error.context(place.name()))?;
                    filled.push_str(&value);
                }
            }
        }
        Ok(filled)
    }
}

impl Place {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "rule" => Place::Rule,
            "severity" => Place::Severity,
            "value" => Place::Value,
            "limit" => Place::Limit,
            "summary" => Place::Summary,
            "fingerprint" => Place::Fingerprint,
            "episode" => Place::Episode,
            "attempt" => Place::Attempt,
            _ => match name.strip_prefix("labels.") {
                Some(label) if !label.is_empty() => Place::Label(label.to_owned()),
                _ => {
                    return Err(Error::config(format!(
                        "{{{{{name}}}}} is nothing an alert has: write {{{{labels.NAME}}}}, {{{{rule}}}}, {{{{severity}}}}, \
                         {{{{value}}}}, {{{{limit}}}}, {{{{summary}}}}, {{{{fingerprint}}}}, {{{{episode}}}}, {{{{attempt}}}}, or {{{{secret:NAME}}}}"
                    )));
                }
            },
        })
    }

    fn name(&self) -> String {
        match self {
            Place::Label(label) => format!("labels.{label}"),
            Place::Rule => "rule".into(),
            Place::Severity => "severity".into(),
            Place::Value => "value".into(),
            Place::Limit => "limit".into(),
            Place::Summary => "summary".into(),
            Place::Fingerprint => "fingerprint".into(),
            Place::Episode => "episode".into(),
            Place::Attempt => "attempt".into(),
        }
    }

    fn value(&self, alert: &Alert, attempt: u32) -> Result<String> {
        let missing = || {
            let has: Vec<&str> = alert.labels.iter().map(|(name, _)| &**name).collect();
            Error::config(format!(
                "the alert of {:?} has no {}, its labels are {}",
                alert.rule,
                self.name(),
                has.join(", ")
            ))
        };
        Ok(match self {
            Place::Label(label) => alert.label(label).ok_or_else(missing)?.to_owned(),
            Place::Rule => alert.rule.clone(),
            Place::Severity => alert.severity.to_string(),
            Place::Value => text::number(alert.value.ok_or_else(missing)?),
            Place::Limit => text::number(alert.limit.ok_or_else(missing)?),
            Place::Summary => alert.summary.clone(),
            Place::Fingerprint => alert.fingerprint.clone(),
            Place::Episode => alert.episode.to_string(),
            Place::Attempt => attempt.to_string(),
        })
    }
}

/// Makes a value safe as a piece of an address: percent-encoded, `/` too. A value that is empty or made of dots is refused,
/// because it could change the path.
///
/// # Errors
/// [`Rejected`](Error::Rejected) for such a value.
pub fn url(value: &str) -> Result<String> {
    if value.bytes().all(|byte| byte == b'.') {
        return Err(Error::rejected(format!(
            "{value:?} would change the path of the address"
        )));
    }
    form(value)
}

/// Makes a value safe as a field of a form: percent-encoded.
///
/// # Errors
/// None; the signature is that of its siblings.
pub fn form(value: &str) -> Result<String> {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    Ok(encoded)
}

/// Makes a value safe inside the quotes of a JSON string. A brace is escaped too, so that no value is taken for a secret's
/// place.
///
/// # Errors
/// None; the signature is that of its siblings.
pub fn json(value: &str) -> Result<String> {
    let quoted = serde_json::to_string(value)
        .map_err(|error| Error::internal(format!("a text as JSON: {error}")))?;
    Ok(quoted[1..quoted.len() - 1].replace('{', "\\u007b"))
}

/// Takes a value for an argument of a command: not empty, no dash at its start, so that it is no option, and no control
/// characters.
///
/// # Errors
/// [`Rejected`](Error::Rejected) for any other value.
pub fn argument(value: &str) -> Result<String> {
    if value.is_empty() {
        return Err(Error::rejected("an empty value is no argument"));
    }
    if value.starts_with('-') {
        return Err(Error::rejected(format!(
            "{value:?} starts with a dash and could be taken for an option"
        )));
    }
    plain(value)
}

/// Takes a value without control characters and braces, for any other text.
///
/// # Errors
/// [`Rejected`](Error::Rejected) for any other value.
pub fn plain(value: &str) -> Result<String> {
    match value.chars().find(|c| c.is_control() || *c == '{') {
        None => Ok(value.to_owned()),
        Some(c) => Err(Error::rejected(format!("{value:?} holds {c:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Severity, mock};

    fn alert(label: &str) -> Alert {
        let mut alert = mock::alert("queue-long", Severity::High);
        alert.labels.push(("queue".into(), label.into()));
        alert
    }

    #[test]
    fn places_are_filled_and_secrets_left() {
        let template = Template::parse(
            "{{secret:base}}/{{ labels.queue }}?r={{rule}}&s={{severity}}&v={{value}}&l={{limit}}&a={{attempt}}&e={{episode}}",
        )
        .unwrap();
        assert!(template.has_secret() && template.has_place());
        assert_eq!(
            template.fill(&alert("a b/{{secret:x}}"), 2, url).unwrap(),
            "{{secret:base}}/a%20b%2F%7B%7Bsecret%3Ax%7D%7D?r=queue-long&s=high&v=0.95&l=0.9&a=2&e=1"
        );
    }

    #[test]
    fn mistakes_name_what_to_write() {
        for wrong in ["{{label.x}}", "{{labels.}}", "{{}}", "{{ secret:x }}"] {
            let error = Template::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("{{labels.NAME}}"), "{error}");
        }
        assert!(Template::parse("a {{rule").is_err());
        let missing = Template::parse("{{labels.shard}}").unwrap();
        assert_eq!(
            missing.fill(&alert("q"), 1, url).unwrap_err().to_string(),
            "the alert of \"queue-long\" has no labels.shard, its labels are host, queue"
        );
    }

    #[test]
    fn each_place_refuses_what_is_dangerous_there() {
        for dots in ["", ".", ".."] {
            assert!(url(dots).is_err(), "{dots:?}");
        }
        assert_eq!(url("a.b").unwrap(), "a.b");
        assert_eq!(
            json("a\"b\n{{secret:x}}").unwrap(),
            "a\\\"b\\n\\u007b\\u007bsecret:x}}"
        );
        for wrong in ["", "-rf", "--all", "a\nb", "{{secret:x}}"] {
            assert!(argument(wrong).is_err(), "{wrong:?}");
        }
        for fine in ["$(id)", ";reboot", "a b", "ä-b"] {
            assert_eq!(argument(fine).unwrap(), fine);
        }
        let template = Template::parse("{{labels.queue}}").unwrap();
        let error = template.fill(&alert("-f"), 1, argument).unwrap_err();
        assert_eq!(
            error.to_string(),
            "labels.queue: \"-f\" starts with a dash and could be taken for an option"
        );
    }
}
