//! Broken TOML: its errors, and the rest of the file in spite of them.

use super::file::{Draft, Place};
use std::borrow::Cow;
use toml::de::{DeTable, Error};

/// Broken headers of one file that are worked around; behind more the file is no TOML.
const HEADERS_MAX: usize = 20;

/// All syntax errors of a text, and the text with what cannot be read blanked out, so that places stay.
///
/// The parser recovers well inside a table. From a broken header it recovers by taking the next
/// bracket for the missing one, and everything up to there is lost or lands in a wrong table. So
/// the table under a broken header is blanked and the rest parsed anew.
pub(super) fn sound(text: &str) -> (Cow<'_, str>, Vec<Error>) {
    let mut text = Cow::Borrowed(text);
    let mut found: Vec<Error> = Vec::new();
    for _ in 0..HEADERS_MAX {
        let (_, errors) = DeTable::parse_recoverable(&text);
        let broken = errors.iter().find_map(|error| {
            let at = error.span()?.start.min(text.len());
            let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
            is_header(&text[start..]).then_some((start, error.clone()))
        });
        let Some((start, error)) = broken else {
            found.extend(errors);
            break;
        };
        found.push(error);
        let lines = text[start..].split_inclusive('\n');
        let length: usize = lines
            .enumerate()
            .take_while(|(index, line)| *index == 0 || !is_header(line))
            .map(|(_, line)| line.len())
            .sum();
        let blank: String = text[start..start + length]
            .bytes()
            .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
            .collect();
        text.to_mut().replace_range(start..start + length, &blank);
    }
    (text, found)
}

fn is_header(line: &str) -> bool {
    line.trim_start_matches([' ', '\t']).starts_with('[')
}

/// A syntax error with the help that the parser does not give.
pub(super) fn draft(text: &str, index: usize, error: &toml::de::Error) -> Draft {
    let span = error.span().unwrap_or(0..0);
    let message = error.message().trim();
    let found = text.get(span.clone()).unwrap_or("");
    let about = |words: &str| message.contains(words);
    let help = if about("duplicate key") {
        "every key may be given once; several probes or rules are [[probe]], [[rule]]".to_owned()
    } else if about("must be quoted") {
        format!("write \"{found}\"")
    } else if about("invalid value") || about("missing value") {
        "write \"text\", a number, true, false, [list] or { table }".to_owned()
    } else if about("basic string") || about("literal string") {
        "close the string with a quotation mark on the same line".to_owned()
    } else if about("missing comma") || about("inline table") {
        "within { … } and [ … ] commas separate; is a closing bracket missing before this?"
            .to_owned()
    } else if about("array table") || about("unclosed table") {
        "write [table] or [[list-of-tables]] on a line of its own".to_owned()
    } else {
        String::new()
    };
    // An error at the very end points behind the last line; its last character is what one can show.
    let start = span.start.min(text.trim_end().len());
    Draft {
        at: Place {
            file: index,
            start,
            end: span.end.max(start),
        },
        key: String::new(),
        message: format!(
            "not valid TOML: {}",
            message.trim_end_matches(", expected literal string")
        ),
        help: (!help.is_empty()).then_some(help),
        absence: false,
    }
}
