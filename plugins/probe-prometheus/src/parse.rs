//! The grammar of one line, of Prometheus text 0.0.4 and OpenMetrics 1.0 alike. No line is ever copied: names and most
//! label values are slices of the page.

use std::borrow::Cow;

/// Labels of one sample. More is no label set of anybody, and each costs in every series.
const LABELS_MAX: usize = 64;

/// What is wrong with a line.
pub(crate) type Fault = &'static str;

/// A label of the page.
pub(crate) type Label<'a> = (&'a str, Cow<'a, str>);

/// What stands behind a `#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comment<'a> {
    /// Name and word of the type.
    Type(&'a str, &'a str),
    /// Name and words, with their escapes.
    Help(&'a str, &'a str),
    /// The end of an OpenMetrics page.
    Eof,
    /// Whatever else: units, remarks.
    Other,
}

/// A line that begins with `#`.
pub(crate) fn comment(line: &str) -> Comment<'_> {
    let (keyword, rest) = word(line.trim_start_matches('#'));
    let (name, rest) = word(rest);
    match keyword {
        "EOF" => Comment::Eof,
        "TYPE" if is_name(name) => Comment::Type(name, word(rest).0),
        "HELP" if is_name(name) => Comment::Help(name, rest.trim_start_matches(BLANKS)),
        _ => Comment::Other,
    }
}

/// The name that a sample's line begins with, and the rest.
pub(crate) fn name(line: &str) -> Result<(&str, &str), Fault> {
    let end = line.find(|c: char| !is_name_char(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if !is_name(name) {
        return Err("no name of a metric at its start");
    }
    Ok((name, rest))
}

/// The labels between braces, where there are any, into `labels`; and the rest. Empty values are left out: they mean
/// the same as none.
pub(crate) fn labels<'a>(rest: &'a str, labels: &mut Vec<Label<'a>>) -> Result<&'a str, Fault> {
    labels.clear();
    let Some(mut rest) = skip(rest).strip_prefix('{') else {
        return Ok(rest);
    };
    loop {
        rest = skip(rest);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let end = rest.find(|c: char| !is_name_char(c) || c == ':');
        let (name, after) = rest.split_at(end.ok_or("the braces do not end")?);
        if !is_name(name) {
            return Err("no name of a label");
        }
        let after = skip(after).strip_prefix('=').ok_or("no = after a label")?;
        let after = skip(after)
            .strip_prefix('"')
            .ok_or("no \" after a label's =")?;
        let (value, after) = quoted(after)?;
        if labels.len() == LABELS_MAX {
            return Err("more than 64 labels");
        }
        if labels.iter().any(|(known, _)| *known == name) {
            return Err("a label stands twice");
        }
        if !value.is_empty() {
            labels.push((name, value));
        }
        rest = skip(after);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("no comma between labels"),
        }
    }
}

/// The value. A timestamp may follow, and an exemplar: both are left alone.
pub(crate) fn value(rest: &str) -> Result<f64, Fault> {
    let (number, rest) = word(rest);
    if number.is_empty() {
        return Err("no value");
    }
    let value = number.parse().map_err(|_| "the value is no number")?;
    let (timestamp, after) = word(rest);
    if timestamp.is_empty() || timestamp.starts_with('#') {
        return Ok(value);
    }
    timestamp
        .parse::<f64>()
        .map_err(|_| "the timestamp is no number")?;
    if after.is_empty() || skip(after).is_empty() || skip(after).starts_with('#') {
        Ok(value)
    } else {
        Err("there is more behind the timestamp")
    }
}

/// Text with its escapes resolved.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(escaped @ ('\\' | '"')) => out.push(escaped),
            // Not an escape of the format: it stays as it stands.
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

/// Whether this is the name of a metric. Names of labels are the same without `:`.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() && text.chars().all(is_name_char)
}

/// What separates the parts of a line.
const BLANKS: [char; 2] = [' ', '\t'];

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn skip(text: &str) -> &str {
    text.trim_start_matches(BLANKS)
}

/// The next word, and what stands behind it.
fn word(text: &str) -> (&str, &str) {
    let text = skip(text);
    text.split_at(text.find(BLANKS).unwrap_or(text.len()))
}

/// The text up to the closing quote, and what stands behind that.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), Fault> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match bytes.get(at) {
            None => return Err("the value of a label does not end"),
            Some(b'"') => return Ok((unescape(&text[..at]), &text[at + 1..])),
            // The escaped byte may begin a longer character: its others are no quote and no backslash.
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = (String, Vec<(String, String)>, f64);

    fn sample(line: &str) -> Result<Parsed, Fault> {
        let (name, rest) = name(line)?;
        let mut found = Vec::new();
        let rest = labels(rest, &mut found)?;
        let owned = found.iter().map(|(k, v)| ((*k).to_owned(), v.to_string()));
        Ok((name.to_owned(), owned.collect(), value(rest)?))
    }

    #[test]
    fn lines_of_both_formats() {
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect()
        };
        for (line, name, labels, value) in [
            ("up 1", "up", pairs(&[]), 1.0),
            ("a:b_c{} -0.5e3", "a:b_c", pairs(&[]), -500.0),
            (
                "a{x=\"1\",y=\"2\",} +Inf 1395066363000",
                "a",
                pairs(&[("x", "1"), ("y", "2")]),
                f64::INFINITY,
            ),
            (
                "a { x = \"1\" , y=\"\" }\t-Inf",
                "a",
                pairs(&[("x", "1")]),
                f64::NEG_INFINITY,
            ),
            (
                r#"a{x="C:\\D \"q\" \n \d é}"} 3"#,
                "a",
                pairs(&[("x", "C:\\D \"q\" \n \\d é}")]),
                3.0,
            ),
            (
                "a_bucket{le=\"0.1\"} 8 # {trace=\"x\"} 0.05 1520879607.789",
                "a_bucket",
                pairs(&[("le", "0.1")]),
                8.0,
            ),
            (
                "a_total 17 1520879607.789 # {trace=\"x\"} 0.05",
                "a_total",
                pairs(&[]),
                17.0,
            ),
        ] {
            assert_eq!(sample(line), Ok((name.to_owned(), labels, value)), "{line}");
        }
        assert!(sample("a NaN").unwrap().2.is_nan());
    }

    #[test]
    fn lines_that_are_none() {
        for (line, says) in [
            ("<html>", "no name of a metric at its start"),
            ("1a 2", "no name of a metric at its start"),
            ("a", "no value"),
            ("a one", "the value is no number"),
            ("a 1 soon", "the timestamp is no number"),
            ("a 1 2 3", "there is more behind the timestamp"),
            ("a{", "the braces do not end"),
            ("a{x", "the braces do not end"),
            ("a{x} 1", "no = after a label"),
            ("a{x=1} 1", "no \" after a label's ="),
            ("a{x=\"1} 1", "the value of a label does not end"),
            ("a{x=\"1\\", "the value of a label does not end"),
            ("a{x=\"1\" y=\"2\"} 1", "no comma between labels"),
            ("a{x=\"1\",x=\"2\"} 1", "a label stands twice"),
            ("a{1x=\"1\"} 1", "no name of a label"),
            ("a{,} 1", "no name of a label"),
            ("{\"a.b\"} 1", "no name of a metric at its start"),
        ] {
            assert_eq!(sample(line), Err(says), "{line}");
        }
        let many: String = (0..=LABELS_MAX).map(|i| format!("l{i}=\"x\",")).collect();
        assert_eq!(
            sample(&format!("a{{{many}}} 1")),
            Err("more than 64 labels")
        );
    }

    #[test]
    fn comments() {
        for (line, expected) in [
            ("# TYPE a counter", Comment::Type("a", "counter")),
            ("#\tTYPE  a\tcounter ", Comment::Type("a", "counter")),
            ("# HELP a  Two words.", Comment::Help("a", "Two words.")),
            ("# HELP a", Comment::Help("a", "")),
            ("# EOF", Comment::Eof),
            ("# UNIT a seconds", Comment::Other),
            ("# TYPE 9 counter", Comment::Other),
            ("#", Comment::Other),
        ] {
            assert_eq!(comment(line), expected, "{line}");
        }
    }
}
