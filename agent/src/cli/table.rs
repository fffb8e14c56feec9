//! Aligned columns. Every cell is made printable here: what plugins and services said stays text.

use super::screen::{Paint, Screen};
use crate::telemetry::printable;

/// Characters of a cell that is not in the last column; longer ones end in `…`.
const CELL_CHARS_MAX: usize = 60;

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<(String, Paint)>>,
}

impl Table {
    pub(super) fn new(head: &'static [&'static str]) -> Self {
        Table {
            head,
            rows: Vec::new(),
        }
    }

    /// Adds a row; a cell is text, or text with its paint.
    pub(super) fn row<const N: usize>(&mut self, cells: [(String, Paint); N]) {
        assert_eq!(N, self.head.len(), "cells under {:?}", self.head);
        let last = N - 1;
        let clean = |(at, (text, paint)): (usize, (String, Paint))| {
            let mut text = printable(&text);
            if at != last && text.chars().count() > CELL_CHARS_MAX {
                text = text.chars().take(CELL_CHARS_MAX - 1).collect();
                text.push('…');
            }
            (text, paint)
        };
        self.rows
            .push(cells.into_iter().enumerate().map(clean).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line with its end.
    pub(super) fn render(&self, screen: Screen) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].0.chars().count());
            cells.chain([self.head[at].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut out = String::new();
        let head = self
            .head
            .iter()
            .map(|word| (word.to_uppercase(), Paint::Dim));
        let head: Vec<_> = head.collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut pending = 0;
            for (at, (text, paint)) in row.iter().enumerate() {
                if !text.is_empty() {
                    out.extend(std::iter::repeat_n(' ', pending));
                    out.push_str(&screen.paint(*paint, text));
                    pending = 0;
                    pending += widths[at] - text.chars().count() + 2;
                } else {
                    pending += widths[at] + 2;
                }
            }
            out.push('\n');
        }
        out
    }
}

/// A cell without paint.
pub(super) fn cell(text: impl Into<String>) -> (String, Paint) {
    (text.into(), Paint::Plain)
}

/// A cell painted as its own word says.
pub(super) fn word(text: impl Into<String>) -> (String, Paint) {
    let text = text.into();
    let paint = Paint::of(&text);
    (text, paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_stands_in_them() {
        let mut table = Table::new(&["alert", "state", "why"]);
        table.row([cell("größe"), word("critical"), cell("a\n\u{1b}[2Jb")]);
        table.row([cell("x".repeat(80)), cell(""), cell("y".repeat(80))]);
        table.row([cell("z"), word("ok"), cell("")]);
        let long = format!("{}…", "x".repeat(59));
        let pad = |text: &str| format!("{text:<60}");
        assert_eq!(
            table.render(Screen::plain()),
            format!(
                "{}  STATE     WHY\n{}  critical  a\\n\\u{{1b}}[2Jb\n{long}            {}\n{}  ok\n",
                pad("ALERT"),
                pad("größe"),
                "y".repeat(80),
                pad("z")
            )
        );
        let colored = table.render(Screen::colored());
        assert!(colored.contains("\u{1b}[1;31mcritical\u{1b}[0m  a\\n\\u{1b}[2Jb"));
        assert!(!table.is_empty());
    }
}
