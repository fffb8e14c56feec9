//! Text that people read in other programs: cut to a service's limit, freed of what could play tricks there, numbers as
//! one writes them.
//!
//! ```
//! use watchfire_plugin_sdk::text;
//!
//! assert_eq!(text::truncate("queue is long", 9), "queue is…");
//! assert_eq!(text::line("\u{1b}[31mred\r\nhost"), "\u{fffd}[31mred host");
//! assert_eq!(text::number(0.1 + 0.2), "0.3");
//! ```

use std::borrow::Cow;

/// What stands for the part that was cut off.
pub const ELLIPSIS: char = '…';

/// Numbers from here on are written with an exponent: nobody counts sixteen digits.
const PLAIN_MAX: f64 = 1e15;

/// At most `max` characters (Unicode scalar values, as the services count); a text that was cut ends with [`ELLIPSIS`].
pub fn truncate(text: &str, max: usize) -> Cow<'_, str> {
    // No text has more characters than bytes: most are not counted at all.
    if text.len() <= max || text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let mut cut: String = text.chars().take(max.saturating_sub(1)).collect();
    if max > 0 {
        cut.push(ELLIPSIS);
    }
    Cow::Owned(cut)
}

/// Lines without control characters (colours of terminals) and without marks that turn the direction of reading, which
/// can make one text look like another: each becomes U+FFFD. Line breaks and tabs stay.
pub fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => c,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(harmless).collect()
}

/// As [`clean`], in one line: breaks and tabs become spaces, none at either end.
pub fn line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ").trim().to_owned()
}

/// A number with at most six significant digits behind the point: `0.95`, `1234567`, `0.000123`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value.abs() >= PLAIN_MAX {
        return format!("{value:e}");
    }
    if value.fract() == 0.0 || value.abs() >= 1e5 {
        return format!("{value:.0}");
    }
    let short: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    short.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        for (text, max, cut) in [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("äöü", 3, "äöü"),
            ("äöüß", 3, "äö…"),
            ("🔥🔥", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(truncate(text, max), cut, "{text} {max}");
        }
    }

    #[test]
    fn tricks_are_taken_out() {
        assert_eq!(
            clean("a\r\nb\tc\u{0}d\u{202e}e\u{9b}f"),
            "a\nb\tc\u{fffd}d\u{fffd}e\u{fffd}f"
        );
        assert_eq!(line(" a\nb\t"), "a b");
    }

    #[test]
    fn numbers_are_short_and_true() {
        for (value, written) in [
            (0.0, "0"),
            (-0.5, "-0.5"),
            (95.0, "95"),
            (0.333_333_333_3, "0.333333"),
            (1_234_567.0, "1234567"),
            (1_234_567.8, "1234568"),
            (0.000_123_456_7, "0.000123457"),
            (1e20, "1e20"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), written);
        }
    }
}
