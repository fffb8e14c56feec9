//! The Prometheus text format 0.0.4, written by hand: names and labels come from plugins at run time.

use crate::sandbox::types::FamilyKind;
use std::collections::HashSet;
use std::fmt::Write as _;

/// The `Content-Type` of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Stands where a plugin gave none: a checker of the format takes an empty help for a missing one.
const NO_HELP: &str = "No help was given.";

/// A text under construction. Keeps account of the names in use, for a name that stands for two
/// families makes the whole text unreadable.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    taken: HashSet<String>,
}

impl Exposition {
    /// Starts a family; false: one of its names is taken, so it must be left out.
    pub fn family(&mut self, name: &str, kind: FamilyKind, help: &str) -> bool {
        let names = || {
            suffixes(kind)
                .iter()
                .map(|suffix| format!("{name}{suffix}"))
        };
        if names().any(|name| self.taken.contains(&name)) {
            return false;
        }
        self.taken.extend(names());
        let kind = match kind {
            FamilyKind::Gauge => "gauge",
            FamilyKind::Counter => "counter",
            FamilyKind::Histogram => "histogram",
            FamilyKind::Summary => "summary",
            FamilyKind::Untyped => "untyped",
        };
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        let help = if help.trim().is_empty() {
            NO_HELP
        } else {
            help
        };
        escape(help, false, &mut self.text);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.text, "\n# TYPE {name} {kind}");
        true
    }

    /// Writes one sample of the family begun last. Names are taken as they are: they were checked where they came in.
    pub fn sample<'a>(
        &mut self,
        name: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        self.text.push_str(name);
        let mut open = '{';
        for (key, value) in labels {
            self.text.push(open);
            self.text.push_str(key);
            self.text.push_str("=\"");
            escape(value, true, &mut self.text);
            self.text.push('"');
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// Names that samples of a family may have, as suffixes of its own.
fn suffixes(kind: FamilyKind) -> &'static [&'static str] {
    match kind {
        FamilyKind::Histogram => &["", "_bucket", "_sum", "_count"],
        FamilyKind::Summary => &["", "_sum", "_count"],
        _ => &[""],
    }
}

/// A number as the format has it: `NaN`, `+Inf`, `-Inf`, else the shortest text that reads back equal.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if value == 0.0 || (1e-5..1e15).contains(&value.abs()) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

/// Escapes `\` and newline, and `"` in label values. Other control characters are allowed by the
/// format, yet a terminal that shows the text would obey them: they become U+FFFD.
fn escape(text: &str, quotes: bool, to: &mut String) {
    for letter in text.chars() {
        match letter {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if quotes => to.push_str("\\\""),
            _ if letter.is_control() => to.push('\u{fffd}'),
            _ => to.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e15, "1e15"),
            (1e308, "1e308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let mut out = Exposition::default();
        assert!(out.family("a", FamilyKind::Gauge, "one\ntwo \"x\" \\"));
        let labels = [("l", "q\"\\\n\u{1b}[31m")];
        out.sample("a", labels.into_iter(), 1.0);
        assert_eq!(
            out.finish(),
            "# HELP a one\\ntwo \"x\" \\\\\n# TYPE a gauge\na{l=\"q\\\"\\\\\\n\u{fffd}[31m\"} 1\n"
        );
    }

    #[test]
    fn a_name_serves_one_family() {
        let mut out = Exposition::default();
        assert!(out.family("a", FamilyKind::Histogram, ""));
        assert!(!out.family("a", FamilyKind::Gauge, ""));
        assert!(!out.family("a_count", FamilyKind::Gauge, ""));
        assert!(out.family("b_sum", FamilyKind::Gauge, ""));
        assert!(!out.family("b", FamilyKind::Summary, ""));
        assert!(out.finish().contains("# HELP b_sum No help was given.\n"));
    }
}
