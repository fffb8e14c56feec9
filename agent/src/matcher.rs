//! Label matchers as operators write them: `name=value`, `!=`, `=~`, `!~`, quotes allowed, braces and commas
//! as Alertmanager's tools send them.

use watchfire_engine::input::LabelTest;
use watchfire_engine::model::is_label_name;

/// A text that is no matcher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// No operator, or no label name before it.
    #[error("{0:?} is no matcher: write LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX")]
    Form(String),
    /// The expression does not compile.
    #[error("{text:?} is no regular expression: {reason}")]
    Regex {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads one matcher.
///
/// # Errors
/// The text, and how one is written.
pub fn parse(text: &str) -> Result<LabelTest, MatcherError> {
    let form = || MatcherError::Form(text.to_owned());
    let text = text.trim();
    let at = text.find(['=', '!']).ok_or_else(form)?;
    let (name, rest) = text.split_at(at);
    let operators = [
        ("=~", true, false),
        ("!~", true, true),
        ("!=", false, true),
        ("=", false, false),
    ];
    let found = operators
        .iter()
        .find_map(|(sign, regex, negated)| Some((rest.strip_prefix(sign)?, *regex, *negated)));
    let (value, regex, negated) = found.ok_or_else(form)?;
    let name = name.trim();
    if !is_label_name(name) {
        return Err(form());
    }
    let value = unquoted(value.trim()).ok_or_else(form)?;
    if regex {
        compile(&value)?;
    }
    Ok(LabelTest {
        name: name.into(),
        value: value.into(),
        regex,
        negated,
    })
}

/// Whether a label's value (empty where there is none) passes. An expression that does not compile
/// passes nothing.
pub fn passes(test: &LabelTest, value: &str) -> bool {
    let matches = if test.regex {
        match compile(&test.value) {
            Ok(regex) => regex.is_match(value),
            Err(_) => return false,
        }
    } else {
        *test.value == *value
    };
    matches != test.negated
}

/// As [`parse`] reads it.
pub fn written(test: &LabelTest) -> String {
    let sign = match (test.regex, test.negated) {
        (false, false) => "=",
        (false, true) => "!=",
        (true, false) => "=~",
        (true, true) => "!~",
    };
    format!("{}{sign}{:?}", test.name, &*test.value)
}

fn compile(text: &str) -> Result<regex_lite::Regex, MatcherError> {
    let failed = |error: regex_lite::Error| MatcherError::Regex {
        text: text.to_owned(),
        reason: error.to_string(),
    };
    // Alone first: a bracket of the text could close the one around it.
    regex_lite::Regex::new(text).map_err(failed)?;
    regex_lite::Regex::new(&format!("^(?:{text})$")).map_err(failed)
}

/// The text between quotes with its escapes read; a text without quotes as it is; none: it opens a quote
/// and does not close it.
fn unquoted(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return Some(text.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.push(match letters.next()? {
                'n' => '\n',
                other => other,
            }),
            '"' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_read_as_they_are_written() {
        for (text, name, value, regex, negated) in [
            ("a=b", "a", "b", false, false),
            (" severity != \"low\" ", "severity", "low", false, true),
            (
                "alertname=~\"disk.*|cpu\"",
                "alertname",
                "disk.*|cpu",
                true,
                false,
            ),
            ("a!~x", "a", "x", true, true),
            ("a=\"x=\\\"y\\\\\"", "a", "x=\"y\\", false, false),
            ("a=", "a", "", false, false),
        ] {
            let test = parse(text).unwrap();
            assert_eq!(
                (&*test.name, &*test.value, test.regex, test.negated),
                (name, value, regex, negated),
                "{text}"
            );
            assert_eq!(parse(&written(&test)), Ok(test), "{text}");
        }
        for text in ["", "a", "=b", "1a=b", "a!b", "a=\"b", "a=~(", "a=~b)(c"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn expressions_are_anchored_and_negation_turns_the_answer() {
        for (text, value, passed) in [
            ("a=b", "b", true),
            ("a!=b", "", true),
            ("a=~b.*", "abc", false),
            ("a=~b.*", "bc", true),
            ("a!~b|c", "c", false),
            ("a=", "", true),
        ] {
            assert_eq!(
                passes(&parse(text).unwrap(), value),
                passed,
                "{text} {value}"
            );
        }
    }
}
