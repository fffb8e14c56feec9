//! The engine's rows in memory.
//!
//! One block of memory a row: after a storm thousands of rows stay whose keys were written beside texts of
//! several kilobytes, and each small block that stays keeps a page of 4 KiB from going back.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use watchfire_engine::effect::Table;

/// Rows by table and key.
#[derive(Clone, Debug, Default)]
pub(super) struct Records(BTreeSet<Row>);

#[derive(Clone, Debug)]
struct Row {
    table: Table,
    /// Bytes of `text` that are the key; the rest is the body.
    key: usize,
    text: Box<str>,
}

impl Records {
    /// Writes a row, in place of one with the same key.
    pub(super) fn put(&mut self, table: Table, key: &str, body: &str) {
        self.0.replace(Row::new(table, key, body));
    }

    pub(super) fn delete(&mut self, table: Table, key: &str) {
        self.0.remove(&Row::new(table, key, ""));
    }

    /// Table, key and body, in the order of the first two.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Table, &str, &str)> {
        self.0.iter().map(|row| (row.table, row.key(), row.body()))
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Row {
    fn new(table: Table, key: &str, body: &str) -> Self {
        Row {
            table,
            key: key.len(),
            text: [key, body].concat().into(),
        }
    }

    fn key(&self) -> &str {
        &self.text[..self.key]
    }

    fn body(&self) -> &str {
        &self.text[self.key..]
    }
}

/// By table and key alone: a row takes the place of its older self.
impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.table, self.key()).cmp(&(other.table, other.key()))
    }
}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Row {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_replaces_its_older_self_and_no_other() {
        let mut records = Records::default();
        records.put(Table::Silence, "a", "1");
        records.put(Table::Alert, "ab", "2");
        records.put(Table::Alert, "a", "b3");
        records.put(Table::Alert, "a", "4");
        let all: Vec<_> = records.iter().collect();
        let expected = [
            (Table::Alert, "a", "4"),
            (Table::Alert, "ab", "2"),
            (Table::Silence, "a", "1"),
        ];
        assert_eq!(all, expected);
        records.delete(Table::Alert, "a");
        records.delete(Table::Alert, "abc");
        assert_eq!(records.iter().count(), 2);
    }
}
