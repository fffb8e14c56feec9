//! What is wrong or doubtful in a configuration, where, and what to write instead; and how it is printed.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Whether a finding keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The configuration is refused.
    Error,
    /// It is used, and probably does not do what was meant.
    Warning,
}

/// One mistake or one warning.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Error or warning.
    pub level: Level,
    /// The file; `<built in>` and `<pack NAME>` for the texts inside the binary.
    pub file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1; 0 where the file as a whole is meant.
    pub column: usize,
    /// Path of the key, such as `rule[cpu-high].for`; empty for syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The line itself, for printing.
    #[serde(skip)]
    pub text: String,
    /// How many characters the caret underlines.
    #[serde(skip)]
    pub width: usize,
}

impl Finding {
    /// An error of a file as a whole; without help where `help` is empty.
    pub(super) fn of_file(file: &Path, message: &str, help: &str) -> Box<Self> {
        Box::new(Finding {
            level: Level::Error,
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message: message.to_owned(),
            help: (!help.is_empty()).then(|| help.to_owned()),
            text: String::new(),
            width: 0,
        })
    }

    /// `FILE:LINE:COLUMN`, or the file alone. Without control characters: a configuration may name any file.
    pub fn place(&self) -> String {
        let file = printable(&self.file.to_string_lossy());
        if self.line == 0 {
            file
        } else {
            format!("{file}:{}:{}", self.line, self.column)
        }
    }

    /// The place and what is wrong there, in one line without control characters: keys may hold them.
    pub(super) fn in_one_line(&self) -> String {
        format!("{}: {}", self.place(), printable(&self.message))
    }
}

/// Characters of a source line that are printed at most: a line of a minified file must not flood a terminal.
const LINE_CHARS_MAX: usize = 140;

/// Characters kept to the left of the caret where a long line is cut.
const LINE_CHARS_BEFORE: usize = 40;

/// Prints findings the way rustc does; `color` only for a terminal.
pub fn render(findings: &[Finding], color: bool) -> String {
    let mut out = String::new();
    for finding in findings {
        render_one(&mut out, finding, color);
    }
    out
}

fn render_one(out: &mut String, finding: &Finding, color: bool) {
    let paint = |code: &str, text: &str| {
        if color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let (word, code) = match finding.level {
        Level::Error => ("error", "1;31"),
        Level::Warning => ("warning", "1;33"),
    };
    let bar = |text: &str| paint("1;34", text);
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "{}: {}",
        paint(code, word),
        paint("1", &printable(&finding.message))
    );
    let number = finding.line.to_string();
    let pad = " ".repeat(if finding.line == 0 { 1 } else { number.len() });
    let _ = writeln!(out, "{pad}{} {}", bar("-->"), finding.place());
    if finding.line > 0 {
        let (text, column) = cut(&finding.text, finding.column);
        let room = text.chars().count().saturating_sub(column - 1).max(1);
        let carets = "^".repeat(finding.width.clamp(1, room));
        let _ = writeln!(out, "{pad} {}", bar("|"));
        let _ = writeln!(out, "{} {} {text}", bar(&number), bar("|"));
        let _ = writeln!(
            out,
            "{pad} {} {}{}",
            bar("|"),
            " ".repeat(column - 1),
            paint(code, &carets)
        );
    }
    if let Some(help) = &finding.help {
        let _ = writeln!(out, "{pad} {} help: {}", bar("="), printable(help));
    }
    out.push('\n');
}

/// The part of a line around `column`, every character one cell wide, and the column in it.
fn cut(line: &str, column: usize) -> (String, usize) {
    let line = printable(line);
    let count = line.chars().count();
    let column = column.max(1);
    if count <= LINE_CHARS_MAX {
        return (line, column);
    }
    let skip = (column - 1).saturating_sub(LINE_CHARS_BEFORE);
    let mut text: String = line.chars().skip(skip).take(LINE_CHARS_MAX).collect();
    let mut column = column - skip;
    if skip > 0 {
        text.insert_str(0, "… ");
        column += 2;
    }
    if count > skip + LINE_CHARS_MAX {
        text.push_str(" …");
    }
    (text, column)
}

/// Control characters become spaces: a configuration must not steer the terminal of its reader.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        Finding {
            level: Level::Error,
            file: "a.toml".into(),
            line: 12,
            column: 3,
            key: "probe[x].evry".into(),
            message: "unknown key `evry`".into(),
            help: Some("did you mean `every`?".into()),
            text: "\t evry = 1".into(),
            width: 4,
        }
    }

    #[test]
    fn prints_line_caret_and_help() {
        assert_eq!(
            render(&[finding()], false),
            "error: unknown key `evry`\n  --> a.toml:12:3\n   |\n12 |   evry = 1\n   |   ^^^^\n   = help: did you mean `every`?\n\n"
        );
    }

    #[test]
    fn cuts_long_lines_around_the_caret_and_disarms_control_characters() {
        let mut long = finding();
        long.text = format!("{}\u{1b}[31mX{}", "a".repeat(1_000), "b".repeat(1_000));
        long.column = 1_001;
        let printed = render(&[long], false);
        assert!(!printed.contains('\u{1b}'), "{printed}");
        assert!(
            printed.lines().all(|l| l.chars().count() < 200),
            "{printed}"
        );
        let lines: Vec<&str> = printed.lines().collect();
        let caret = lines[4].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[3].chars().nth(caret + 1), Some('['), "{printed}");
    }

    #[test]
    fn a_whole_file_has_no_line() {
        let whole = Finding {
            line: 0,
            column: 0,
            ..finding()
        };
        assert_eq!(
            render(&[whole], false),
            "error: unknown key `evry`\n --> a.toml\n  = help: did you mean `every`?\n\n"
        );
    }
}
