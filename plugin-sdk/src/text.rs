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

/// An address that a person may be asked to open: `http` or `https`, and nothing in it that ends or opens a link in the
/// languages of chats and mails.
///
/// ```
/// use watchfire_plugin_sdk::text;
///
/// assert_eq!(text::link(" https://wiki/cpu "), Some("https://wiki/cpu"));
/// assert_eq!(text::link("javascript:alert(1)"), None);
/// ```
pub fn link(text: &str) -> Option<&str> {
    let text = text.trim();
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))?;
    let breaks = |c: char| c.is_whitespace() || c.is_control() || "<>|\"'`\\[](){}*".contains(c);
    (!rest.is_empty() && !rest.contains(breaks)).then_some(text)
}

/// A text that grows piece by piece up to a limit, for languages in which one character is written as several: a piece is
/// never cut.
///
/// ```
/// use watchfire_plugin_sdk::text::Fit;
///
/// let mut escaped = Fit::new(8);
/// for piece in ["a", "&lt;", "b", "&lt;", "c"] {
///     escaped.push(piece);
/// }
/// assert_eq!(escaped.into_string(), "a&lt;b…");
/// ```
#[derive(Clone, Debug)]
pub struct Fit {
    text: String,
    /// Characters that may still come.
    left: usize,
    /// Bytes that leave room for [`ELLIPSIS`].
    safe: usize,
    full: bool,
}

impl Fit {
    /// At most `max` characters.
    pub fn new(max: usize) -> Self {
        Fit {
            text: String::new(),
            left: max,
            safe: 0,
            full: false,
        }
    }

    /// Adds a piece; one that does not fit ends the text with [`ELLIPSIS`], and whatever follows is dropped.
    pub fn push(&mut self, piece: &str) {
        if self.full {
            return;
        }
        let length = piece.chars().count();
        if length > self.left {
            self.full = true;
            // Without room for a single character nothing is there to be marked.
            if self.left > 0 || !self.text.is_empty() {
                self.text.truncate(self.safe);
                self.text.push(ELLIPSIS);
            }
            return;
        }
        self.text.push_str(piece);
        self.left -= length;
        if self.left > 0 {
            self.safe = self.text.len();
        }
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.text
    }
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
    fn pieces_are_never_cut() {
        let fit = |pieces: &[&str], max| {
            let mut fit = Fit::new(max);
            pieces.iter().for_each(|piece| fit.push(piece));
            fit.into_string()
        };
        assert_eq!(fit(&["ab", "cd"], 4), "abcd");
        assert_eq!(fit(&["ab", "cd", "e"], 4), "ab…");
        assert_eq!(fit(&["ab", "cd", "", "e"], 5), "abcde");
        assert_eq!(fit(&["abc", "d"], 3), "…");
        assert_eq!(fit(&["abc"], 2), "…");
        assert_eq!(fit(&["a"], 0), "");
        assert_eq!(fit(&["ab", "xyz", "c"], 4), "ab…");
    }

    #[test]
    fn links_are_only_what_a_browser_should_open() {
        for fine in ["https://a", "http://a:80/b_c?d=e&f=g#h"] {
            assert_eq!(link(fine), Some(fine));
        }
        for wrong in [
            "",
            "https://",
            "ftp://a",
            "https://a b",
            "https://a|b",
            "https://a>b",
            "data:text/html,x",
            "https://a](b",
        ] {
            assert_eq!(link(wrong), None, "{wrong}");
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
