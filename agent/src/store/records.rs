//! The engine's rows in memory.
//!
//! One buffer holds the texts of all rows as they came, and among them what no row needs any more, until that is more
//! than what is needed. After a storm of alerts thousands of rows stay that were written beside texts of several
//! kilobytes: in a block of memory each, every one of them would keep a page of 4 KiB from going back. A large buffer
//! is a mapping of its own, and goes back whole.

use watchfire_engine::effect::{RecordChange, Table};

/// Bytes that are not worth the work of moving the others together.
const WASTE_MIN: usize = 64 << 10;

/// New rows of one commit that are put into their places one by one; more are sorted in.
const FEW: usize = 16;

/// Rows by table and key.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// In the order of table and key.
    places: Vec<Place>,
    text: String,
    /// Bytes of the text that no row needs.
    waste: usize,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    table: Table,
    /// It goes at the end of the commit.
    gone: bool,
    /// Begin of its key; the body follows it.
    at: usize,
    /// Bytes of its key.
    key: usize,
    /// Bytes of its body.
    body: usize,
}

impl Records {
    /// Adds a row of a file that is read, once each; [`Records::sort`] follows the last.
    pub(super) fn push(&mut self, table: Table, key: &str, body: &str) {
        let place = self.append(table, key, body);
        self.places.push(place);
    }

    /// Brings what was pushed into its order.
    pub(super) fn sort(&mut self) {
        let text = &*self.text;
        let order = |place: &Place| (place.table, place.key(text));
        self.places.sort_by(|a, b| order(a).cmp(&order(b)));
    }

    /// Takes a commit in: what it writes takes the place of its older self.
    pub(super) fn apply(&mut self, changes: &[RecordChange]) {
        let mut new: Vec<Place> = Vec::new();
        for change in changes {
            let (table, key) = (change.table, &*change.key);
            match (&change.body, self.find(table, key)) {
                (Some(body), Ok(at)) => {
                    let place = self.append(table, key, body);
                    self.replace(at, place);
                }
                (Some(body), Err(_)) => new.push(self.append(table, key, body)),
                (None, Ok(at)) => self.places[at].gone = true,
                (None, Err(_)) => {
                    let text = &*self.text;
                    let same = |place: &&mut Place| (place.table, place.key(text)) == (table, key);
                    // Written by the same commit.
                    for place in new.iter_mut().filter(same) {
                        place.gone = true;
                    }
                }
            }
        }
        self.take_up(new);
        let gone = self.places.iter().filter(|place| place.gone);
        self.waste += gone.map(Place::len).sum::<usize>();
        self.places.retain(|place| !place.gone);
        if self.waste > self.text.len() / 2 {
            self.tidy();
        }
    }

    /// Gives back what no row needs, unless it is little.
    pub(super) fn tidy(&mut self) {
        if self.waste <= WASTE_MIN {
            return;
        }
        let mut text = String::with_capacity(self.text.len() - self.waste);
        for place in &mut self.places {
            let row = &self.text[place.at..place.at + place.len()];
            place.at = text.len();
            text.push_str(row);
        }
        self.text = text;
        self.waste = 0;
        self.places.shrink_to_fit();
    }

    /// Table, key and body, in the order of the first two.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Table, &str, &str)> {
        let rows = self.places.iter();
        rows.map(|place| (place.table, place.key(&self.text), place.body(&self.text)))
    }

    /// Where the row is, or belongs.
    fn find(&self, table: Table, key: &str) -> Result<usize, usize> {
        let order = |place: &Place| (place.table, place.key(&self.text)).cmp(&(table, key));
        self.places.binary_search_by(order)
    }

    fn append(&mut self, table: Table, key: &str, body: &str) -> Place {
        let at = self.text.len();
        self.text.push_str(key);
        self.text.push_str(body);
        Place {
            table,
            gone: false,
            at,
            key: key.len(),
            body: body.len(),
        }
    }

    fn replace(&mut self, at: usize, place: Place) {
        self.waste += self.places[at].len();
        self.places[at] = place;
    }

    /// Rows that the last commit did not know; the later of two with the same key counts.
    fn take_up(&mut self, new: Vec<Place>) {
        if new.len() <= FEW {
            for place in new {
                match self.find(place.table, place.key(&self.text)) {
                    Ok(at) => self.replace(at, place),
                    Err(at) => self.places.insert(at, place),
                }
            }
            return;
        }
        self.places.extend(new);
        // Stable, and quick where one sorted run follows another.
        self.sort();
        let text = &*self.text;
        self.places.dedup_by(|later, earlier| {
            let same = (later.table, later.key(text)) == (earlier.table, earlier.key(text));
            if same {
                self.waste += earlier.len();
                *earlier = *later;
            }
            same
        });
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Place {
    fn key<'a>(&self, text: &'a str) -> &'a str {
        &text[self.at..self.at + self.key]
    }

    fn body<'a>(&self, text: &'a str) -> &'a str {
        &text[self.at + self.key..self.at + self.len()]
    }

    fn len(&self) -> usize {
        self.key + self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn change(table: Table, key: &str, body: Option<&str>) -> RecordChange {
        RecordChange {
            table,
            key: key.to_owned(),
            body: body.map(str::to_owned),
        }
    }

    fn all(records: &Records) -> Vec<(Table, &str, &str)> {
        records.iter().collect()
    }

    #[test]
    fn a_row_replaces_its_older_self_and_no_other() {
        let mut records = Records::default();
        records.apply(&[
            change(Table::Silence, "a", Some("1")),
            change(Table::Alert, "ab", Some("2")),
            change(Table::Alert, "a", Some("b3")),
        ]);
        records.apply(&[change(Table::Alert, "a", Some("4"))]);
        let expected = [
            (Table::Alert, "a", "4"),
            (Table::Alert, "ab", "2"),
            (Table::Silence, "a", "1"),
        ];
        assert_eq!(all(&records), expected);
        records.apply(&[
            change(Table::Alert, "a", None),
            change(Table::Alert, "abc", None),
        ]);
        assert_eq!(all(&records), expected[1..]);
    }

    #[test]
    fn of_what_one_commit_says_of_a_row_the_last_counts() {
        for others in [0, FEW + 1] {
            let mut records = Records::default();
            let others: Vec<String> = (0..others).map(|n| format!("z{n}")).collect();
            let mut changes = vec![
                change(Table::Alert, "a", Some("1")),
                change(Table::Alert, "a", Some("2")),
                change(Table::Alert, "b", Some("3")),
                change(Table::Alert, "b", None),
                change(Table::Alert, "c", Some("4")),
                change(Table::Alert, "c", None),
                change(Table::Alert, "c", Some("5")),
            ];
            changes.extend(others.iter().map(|key| change(Table::Alert, key, Some(""))));
            let expected = [(Table::Alert, "a", "2"), (Table::Alert, "c", "5")];
            records.apply(&changes);
            assert_eq!(all(&records)[..2], expected);
            assert_eq!(records.places.len(), 2 + others.len());
            records.apply(&changes);
            assert_eq!(all(&records)[..2], expected);
        }
    }

    #[test]
    fn at_random_it_says_what_a_plain_map_says_and_keeps_little_waste() {
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let mut records = Records::default();
        let mut plain: BTreeMap<(Table, String), String> = BTreeMap::new();
        for _ in 0..500 {
            let changes: Vec<RecordChange> = (0..next(60))
                .map(|_| {
                    let table = Table::ALL[usize::try_from(next(6)).expect("small")];
                    let body = "x".repeat(usize::try_from(next(2_000)).expect("small"));
                    let key = format!("k{}", next(40));
                    change(table, &key, (next(3) > 0).then_some(&*body))
                })
                .collect();
            records.apply(&changes);
            for change in changes {
                let key = (change.table, change.key);
                match change.body {
                    Some(body) => drop(plain.insert(key, body)),
                    None => drop(plain.remove(&key)),
                }
            }
            let expected = plain
                .iter()
                .map(|((table, key), body)| (*table, &**key, &**body));
            assert!(records.iter().eq(expected));
            let live: usize = records.places.iter().map(Place::len).sum();
            assert_eq!(records.text.len(), live + records.waste);
            assert!(records.text.len() <= (2 * live).max(WASTE_MIN + live));
        }
        let mut read = Records::default();
        for (table, key, body) in all(&records).into_iter().rev() {
            read.push(table, key, body);
        }
        read.sort();
        assert_eq!(read, records);
    }
}
