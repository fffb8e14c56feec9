//! The texts of a configuration, and places in them.

use super::finding::{Finding, Level};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The file that was asked for; only it may include others.
    Main,
    /// Taken in by `include`.
    Include,
    /// A pack inside the binary: its rules yield to rules of the same id.
    Pack,
    /// `watchfire.lock`: no tables of the configuration.
    Lock,
}

/// One text.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Absolute, or `<built in>`, `<pack NAME>`.
    pub(super) path: PathBuf,
    /// Its contents.
    pub(super) text: Arc<str>,
    /// What it is for.
    pub(super) role: Role,
}

impl SourceFile {
    /// What relative paths in it are relative to.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// A range of bytes in one of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Index into [`Files`].
    pub(super) file: usize,
    /// First byte.
    pub(super) start: usize,
    /// One past the last byte.
    pub(super) end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Where.
    pub(super) at: Place,
}

/// A finding before its place is turned into line and column.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Where.
    pub(super) at: Place,
    /// Path of the key.
    pub(super) key: String,
    /// What is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) help: Option<String>,
    /// Says that something is not there. Dropped where a file has broken syntax: the thing may
    /// stand in the part that could not be read.
    pub(super) absence: bool,
}

/// All texts of one configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(pub(super) Vec<SourceFile>);

impl Files {
    /// `FILE:LINE:COLUMN` for a help text.
    pub(super) fn name_place(&self, at: Place) -> String {
        let (line, column) = self.line_and_column(at);
        format!("{}:{line}:{column}", self.0[at.file].path.display())
    }

    /// `FILE:LINE`.
    pub(super) fn origin(&self, at: Place) -> String {
        let (line, _) = self.line_and_column(at);
        format!("{}:{line}", self.0[at.file].path.display())
    }

    /// The finding for people.
    pub(super) fn finding(&self, level: Level, draft: Draft) -> Finding {
        let at = draft.at;
        let (line, column) = self.line_and_column(at);
        let text = &self.0[at.file].text;
        let start = floor(text, at.start);
        let end = floor(text, at.end.max(start));
        let spanned = text[start..end].lines().next().unwrap_or("");
        Finding {
            level,
            file: self.0[at.file].path.clone(),
            line,
            column,
            key: draft.key,
            message: draft.message,
            help: draft.help,
            text: text.lines().nth(line - 1).unwrap_or("").to_owned(),
            width: spanned.chars().count().max(1),
        }
    }

    fn line_and_column(&self, at: Place) -> (usize, usize) {
        let text = &self.0[at.file].text;
        let before = &text[..floor(text, at.start)];
        let line = before.matches('\n').count() + 1;
        let column = before[before.rfind('\n').map_or(0, |p| p + 1)..]
            .chars()
            .filter(|c| *c != '\u{feff}')
            .count()
            + 1;
        (line, column)
    }
}

/// The nearest character border at or before `at`: spans of the parser are trusted no further.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
