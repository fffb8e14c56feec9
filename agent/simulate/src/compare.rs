//! A timeline against what was expected: equal as multisets, each line within a second.

use crate::entry::{Entry, Line};
use crate::file::Expect;
use crate::scenario::Outcome;

/// Two lines that are the same stand at most this far apart, in seconds (product.md 6).
const TOLERANCE_SECS: u64 = 1;

/// How a test's outcome differs from its expectation; empty: it passed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Expected, and did not happen. States are written as `state LINE`.
    pub missing: Vec<String>,
    /// Happened, and was not expected.
    pub unexpected: Vec<String>,
    /// All lines side by side, what is equal on both: for people.
    rows: Vec<Row>,
}

/// One row of the side-by-side view.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    at_secs: u64,
    wanted: Option<String>,
    got: Option<String>,
}

impl Difference {
    /// Whether everything that was expected happened, and nothing else.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty()
    }

    fn add(&mut self, prefix: &str, wanted: &[Line], got: &[Line]) {
        let mut rest: Vec<Option<&Line>> = got.iter().map(Some).collect();
        let show = |line: &Line| format!("{prefix}{line}");
        for line in wanted {
            let found = rest.iter_mut().find(|other| {
                other.is_some_and(|other| {
                    other.text == line.text
                        && other.at_secs.abs_diff(line.at_secs) <= TOLERANCE_SECS
                })
            });
            let got = found.and_then(Option::take).map(show);
            if got.is_none() {
                self.missing.push(show(line));
            }
            self.rows.push(Row {
                at_secs: line.at_secs,
                wanted: Some(show(line)),
                got,
            });
        }
        for line in rest.into_iter().flatten() {
            self.unexpected.push(show(line));
            self.rows.push(Row {
                at_secs: line.at_secs,
                wanted: None,
                got: Some(show(line)),
            });
        }
    }
}

/// Both sides beside each other, rows that differ marked.
impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.at_secs);
        let length = |row: &&Row| row.wanted.as_ref().map_or(0, |text| text.chars().count());
        let width = rows
            .iter()
            .map(length)
            .max()
            .unwrap_or(0)
            .max("expected".len());
        writeln!(f, "    {:width$} | got", "expected")?;
        for row in rows {
            let fits = row.wanted.is_some() && row.got.is_some();
            let mark = if fits { ' ' } else { '!' };
            let wanted = row.wanted.as_deref().unwrap_or("-");
            let got = row.got.as_deref().unwrap_or("-");
            writeln!(f, "  {mark} {wanted:width$} | {got}")?;
        }
        Ok(())
    }
}

/// Compares what happened with what was expected. States without a name are those of the first rule; of
/// other alerts only those count that the expectation names.
pub fn compare(expect: &Expect, outcome: &Outcome) -> Difference {
    let mut difference = Difference::default();
    if let Some(wanted) = &expect.timeline {
        let got: Vec<Line> = outcome.timeline.iter().map(Entry::line).collect();
        difference.add("", wanted, &got);
    }
    if let Some(wanted) = &expect.states {
        let own = format!("{}: ", outcome.first_rule);
        let wanted: Vec<Line> = wanted
            .iter()
            .map(|line| Line {
                at_secs: line.at_secs,
                text: line
                    .text
                    .strip_prefix(&own)
                    .unwrap_or(&line.text)
                    .to_owned(),
            })
            .collect();
        // A label's value may hold anything, a state holds no blank.
        let alert = |text: &str| text.rsplit_once(": ").map(|(alert, _)| alert.to_owned());
        let named: Vec<Option<String>> = wanted.iter().map(|line| alert(&line.text)).collect();
        // The state before anything happened may be left out.
        let said = |text: &str| wanted.iter().any(|l| l.at_secs == 0 && l.text == text);
        let got: Vec<Line> = outcome
            .states
            .iter()
            .map(Entry::line)
            .map(|line| Line {
                at_secs: line.at_secs,
                text: line
                    .text
                    .strip_prefix(&own)
                    .unwrap_or(&line.text)
                    .to_owned(),
            })
            .filter(|line| {
                let alert = alert(&line.text);
                alert.is_none() || named.contains(&alert)
            })
            .filter(|line| line.at_secs != 0 || line.text != "ok" || said("ok"))
            .collect();
        difference.add("state ", &wanted, &got);
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|t| Line::parse(t).unwrap()).collect()
    }

    fn difference(wanted: &[&str], got: &[&str]) -> Difference {
        let mut difference = Difference::default();
        difference.add("", &lines(wanted), &lines(got));
        difference
    }

    #[test]
    fn timelines_compare_as_multisets_within_a_second() {
        let wanted = &["10s a", "10s b", "20s a"];
        assert!(difference(wanted, &["10s b", "11s a", "20s a"]).is_empty());
        let missing = difference(wanted, &["10s b", "20s a"]);
        assert_eq!(missing.missing, ["10s a"]);
        assert!(
            missing.to_string().contains("! 10s a    | -\n"),
            "{missing}"
        );
        let late = difference(wanted, &["10s b", "12s a", "20s a"]);
        assert_eq!(late.unexpected, ["12s a"]);
        assert!(late.to_string().contains("! -        | 12s a\n"), "{late}");
        assert_eq!(
            difference(&["10s a"], &["10s a", "10s a"]).unexpected,
            ["10s a"]
        );
    }

    #[test]
    fn states_are_those_of_the_first_rule_unless_named() {
        let state = |t, alert: &str, state: &str| Entry {
            t,
            event: "state",
            alert: Some(alert.into()),
            state: Some(state.into()),
            ..Entry::default()
        };
        let outcome = Outcome {
            states: vec![
                state(0, "cpu", "ok"),
                state(10, "cpu", "pending"),
                state(10, "mem", "pending"),
            ],
            first_rule: "cpu".into(),
            ..Outcome::default()
        };
        let check = |states: &[&str]| {
            let expect = Expect {
                timeline: None,
                states: Some(lines(states)),
            };
            compare(&expect, &outcome)
        };
        assert!(check(&["10s pending"]).is_empty());
        assert!(check(&["0s ok", "10s cpu: pending"]).is_empty());
        assert!(check(&["10s pending", "10s mem: pending"]).is_empty());
        assert_eq!(check(&["0s pending"]).missing, ["state 0s pending"]);
        assert_eq!(
            check(&["10s pending", "20s mem: ok"]).unexpected,
            ["state 10s mem: pending"]
        );
    }
}
