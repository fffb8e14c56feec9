//! Small texts: names, references, what is nearest to a mistyped word.

use super::Reader;
use crate::config::file::At;
use std::sync::Arc;
use toml::de::DeValue;
use watchfire_engine::model::Severity;

/// The names in all `{{secret:NAME}}` of a text; an error for what only looks like one.
pub(in crate::config) fn secret_references(text: &str) -> Vec<Result<&str, &str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        rest = &rest[open + 2..];
        let Some(close) = rest.find("}}") else { break };
        let inner = &rest[..close];
        if inner.trim_start().starts_with("secret") {
            let name = inner.strip_prefix("secret:").unwrap_or("");
            found.push(if is_name(name) { Ok(name) } else { Err(inner) });
        }
        rest = &rest[close + 2..];
    }
    found
}

/// Whether `name` can be an id: letters, digits, `_`, `-`, `.`, `:`, at most 128.
pub(in crate::config) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
        && !name.starts_with(['-', '.', ':'])
}

/// The nearest of `candidates`, if it is near enough to be what was meant.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let far = (candidate.len().max(name.len()) / 3).max(1);
            // The lengths alone rule out most, at no cost.
            let distance = (candidate.len().abs_diff(name.len()) <= far)
                .then(|| strsim::osa_distance(name, candidate))?;
            (distance <= far).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Reads the name of a severity.
pub(in crate::config) fn severity(
    reader: &Reader<'_>,
    path: &str,
    word: &At<String>,
) -> Option<At<Severity>> {
    match word.value.parse() {
        Ok(value) => Some(At { value, at: word.at }),
        Err(_) => {
            reader.mistake(
                word.at,
                path,
                format!("unknown severity {:?}", word.value),
                "write low, warning, high or critical",
            );
            None
        }
    }
}

/// `Arc<str>` of a read string.
pub(in crate::config) fn shared(text: Option<At<String>>) -> Option<Arc<str>> {
    text.map(|text| text.value.into())
}

pub(super) fn plain(node: &DeValue<'_>) -> String {
    match node {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        _ => "…".to_owned(),
    }
}

pub(super) fn describe(node: &DeValue<'_>) -> String {
    match node {
        DeValue::String(text) => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("the string {short:?}")
        }
        DeValue::Integer(_) | DeValue::Float(_) => format!("the number {}", plain(node)),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
