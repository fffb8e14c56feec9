//! From text to words: numbers, names and signs.

use std::fmt;

use crate::parse::{Mistake, mistake};

/// A word of the language.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Number(f64),
    Name(String),
    Sign(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Number(number) => write!(f, "{number}"),
            Token::Name(name) => write!(f, "{name:?}"),
            Token::Sign(sign) => write!(f, "{sign:?}"),
            Token::End => f.write_str("the end"),
        }
    }
}

/// Longer ones first: `<=` is not `<`.
const SIGNS: [&str; 18] = [
    "<=", ">=", "==", "!=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", "!", "=",
];

/// The words of a text, each with the characters before it; the last is [`Token::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Mistake> {
    let mut found = Vec::new();
    let (mut rest, mut at) = (text, 0);
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if first.is_ascii_digit() || first == '.' {
            let length = number_length(rest);
            let number = rest[..length].parse().map_err(|_| {
                mistake(
                    at,
                    format!(
                        "{:?} is no number: write it like 0.01 or 1e6",
                        &rest[..length]
                    ),
                )
            })?;
            found.push((at, Token::Number(number)));
            length
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let length = end.unwrap_or(rest.len());
            found.push((at, Token::Name(rest[..length].to_owned())));
            length
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            found.push((at, Token::Sign(sign)));
            sign.len()
        } else {
            return Err(mistake(at, format!("{first:?} has no meaning here")));
        };
        at += rest[..length].chars().count();
        rest = &rest[length..];
    }
    found.push((at, Token::End));
    Ok(found)
}

/// Digits, a point, and an exponent with its sign.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while let Some(byte) = bytes.get(length) {
        let exponent = length > 0 && matches!(bytes[length - 1], b'e' | b'E');
        let goes_on = byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_')
            || (exponent && matches!(byte, b'+' | b'-'));
        if !goes_on {
            break;
        }
        length += 1;
    }
    length
}
