//! The format of a test file (product.md 6): from parsed TOML to [`Test`]s.
//!
//! Configuration in it is handed on as it stands, with its places: reading it is the caller's affair.

use crate::entry::Line;
use crate::happening::{Event, EventKind, Reload, events};
use crate::reading::{Keys, Mistake, Reading};
use crate::samples::Samples;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One file.
#[derive(Clone, Debug, Default)]
pub struct TestFile<'a> {
    /// Configuration that all tests of the file share, relative to it.
    pub base: Option<Spanned<String>>,
    /// The configuration under test, relative to the file, where a test names none itself.
    pub config_file: Option<Spanned<String>>,
    /// Its tests, in order.
    pub tests: Vec<Test<'a>>,
}

/// One `[[test]]`.
#[derive(Clone, Debug)]
pub struct Test<'a> {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// Where its id stands.
    pub span: Range<usize>,
    /// Nothing after it happens.
    pub end: Duration,
    /// `[test.config]`.
    pub config: Option<&'a DeTable<'a>>,
    /// The configuration under test, relative to the file.
    pub config_file: Option<Spanned<String>>,
    /// Series, by name.
    pub samples: Vec<Samples>,
    /// What a notifier's service answers, in order; then 200.
    pub answers: BTreeMap<String, VecDeque<Reply>>,
    /// How long an action takes.
    pub takes: BTreeMap<String, Duration>,
    /// What operators and the world do, by time; outages after the other events of their instant.
    pub events: Vec<Event<'a>>,
    /// What has to come of it.
    pub expect: Option<Expect>,
}

/// What a service answers once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// As HTTP.
    pub status: u16,
    /// `429(30)`: seconds.
    pub retry_after: Option<Duration>,
}

/// `[test.expect]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Every line.
    pub timeline: Option<Vec<Line>>,
    /// Every change of state of the first rule, and of the alerts it names.
    pub states: Option<Vec<Line>>,
}

impl<'a> Test<'a> {
    /// The configurations it runs through: the first, then one a reload that is not refused.
    pub fn reloads(&self) -> impl Iterator<Item = &'a DeTable<'a>> {
        self.events.iter().filter_map(|event| match event.kind {
            EventKind::Reload(Reload::Tables(tables)) => Some(tables),
            _ => None,
        })
    }
}

/// Whether a file holds tests at all.
pub fn has_tests(root: &DeTable<'_>) -> bool {
    root.contains_key("test")
}

/// Reads a parsed file.
///
/// # Errors
/// All mistakes, in the order of the file.
pub fn read<'a>(root: &'a DeTable<'a>) -> Result<TestFile<'a>, Vec<Mistake>> {
    let mut reading = Reading::default();
    let mut keys = Keys::new(root, 0..1, "");
    let base = text_with_place(&mut keys, &mut reading, "base");
    let config_file = text_with_place(&mut keys, &mut reading, "config_file");
    let mut tests = Vec::new();
    match keys.get("test").map(|value| (value, value.get_ref())) {
        Some((_, DeValue::Array(all))) => {
            let mut ids = BTreeSet::new();
            for (number, value) in all.iter().enumerate() {
                let DeValue::Table(table) = value.get_ref() else {
                    let help = "write [[test]] id = \"…\"";
                    reading.wrong(value.span(), "test", "a test must be a table", help);
                    continue;
                };
                let Some(test) = test(&mut reading, table, value.span(), number) else {
                    continue;
                };
                if !ids.insert(test.id.clone()) {
                    reading.wrong(
                        test.span.clone(),
                        format!("test[{}].id", test.id),
                        format!("there are two tests with the id {:?}", test.id),
                        "rename one",
                    );
                }
                tests.push(test);
            }
        }
        Some((value, _)) => {
            reading.wrong(
                value.span(),
                "test",
                "`test` must be a list of tables",
                "write [[test]]",
            );
        }
        None => keys.missing(
            &mut reading,
            "test",
            "write [[test]] id = \"…\", end = \"60s\"",
        ),
    }
    keys.finish(&mut reading);
    reading.mistakes.sort_by_key(|mistake| mistake.span.start);
    if reading.mistakes.is_empty() {
        Ok(TestFile {
            base,
            config_file,
            tests,
        })
    } else {
        Err(reading.mistakes)
    }
}

fn text_with_place(
    keys: &mut Keys<'_>,
    reading: &mut Reading,
    key: &'static str,
) -> Option<Spanned<String>> {
    let value = keys.get(key)?;
    let text = reading.text(value, key)?.to_owned();
    Some(Spanned::new(value.span(), text))
}

fn test<'a>(
    reading: &mut Reading,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    number: usize,
) -> Option<Test<'a>> {
    let id = table.get("id");
    let name = id.and_then(|id| match id.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    });
    let path = format!(
        "test[{}]",
        name.clone().unwrap_or_else(|| (number + 1).to_string())
    );
    let mut keys = Keys::new(table, span, path);
    let id_text = keys.text(reading, "id");
    if id.is_none() {
        keys.missing(reading, "id", "every test needs an id: id = \"A01\"");
    }
    let title = keys.text(reading, "title").unwrap_or_default();
    let end = keys.span_of(reading, "end");
    if !table.contains_key("end") {
        keys.missing(reading, "end", "say how long it lasts: end = \"10m\"");
    }
    let config = keys.sub(reading, "config").map(|config| config.table);
    let config_file = text_with_place(&mut keys, reading, "config_file");
    let samples = samples(&mut keys, reading);
    let answers = answers(&mut keys, reading);
    let takes = actions(&mut keys, reading);
    let events = events(&mut keys, reading);
    let expect = keys.sub(reading, "expect").map(|mut inner| {
        let expect = Expect {
            timeline: lines(&mut inner, reading, "timeline", "10s fire warning cpu"),
            states: lines(&mut inner, reading, "states", "10s firing:warning"),
        };
        inner.finish(reading);
        expect
    });
    keys.finish(reading);
    Some(Test {
        id: id_text?,
        title,
        span: id?.span(),
        end: end?,
        config,
        config_file,
        samples,
        answers,
        takes,
        events,
        expect,
    })
}

fn samples(keys: &mut Keys<'_>, reading: &mut Reading) -> Vec<Samples> {
    let Some(inner) = keys.sub(reading, "samples") else {
        return Vec::new();
    };
    let mut all: Vec<Samples> = Vec::new();
    for (name, value) in inner.table {
        let key = format!("{}.{}", inner.path, name.get_ref());
        let Some(text) = reading.text(value, &key) else {
            continue;
        };
        match Samples::parse(name.get_ref(), text) {
            Ok(samples) if all.iter().any(|other| other.series == samples.series) => {
                let message = format!("the series {} is there twice", samples.series);
                reading.wrong(name.span(), key, message, "remove one");
            }
            Ok(samples) => all.push(samples),
            Err(message) => {
                let help =
                    "write 'cpu' = \"50@0 86@10 _@30 E@40\": value@seconds, holding until the next";
                reading.wrong(value.span(), key, message, help);
            }
        }
    }
    all
}

fn answers(keys: &mut Keys<'_>, reading: &mut Reading) -> BTreeMap<String, VecDeque<Reply>> {
    let mut all = BTreeMap::new();
    let Some(inner) = keys.sub(reading, "answers") else {
        return all;
    };
    for (notifier, value) in inner.table {
        let key = format!("{}.{}", inner.path, notifier.get_ref());
        let mut replies = VecDeque::new();
        for text in reading.texts(value, &key).unwrap_or_default() {
            match reply(text.get_ref()) {
                Some(reply) => replies.push_back(reply),
                None => {
                    let message = format!("{:?} is no answer of a service", text.get_ref());
                    let help =
                        "write a status, such as \"500\", or \"429(30)\" with seconds to wait";
                    reading.wrong(text.span(), &key, message, help);
                }
            }
        }
        all.insert(notifier.get_ref().to_string(), replies);
    }
    all
}

fn reply(text: &str) -> Option<Reply> {
    let (status, after) = match text.split_once('(') {
        Some((status, after)) => (status, Some(after.strip_suffix(')')?)),
        None => (text, None),
    };
    let status = status.trim().parse().ok()?;
    let retry_after = match after {
        Some(secs) => Some(Duration::from_secs(secs.trim().parse().ok()?)),
        None => None,
    };
    (100..600).contains(&status).then_some(Reply {
        status,
        retry_after,
    })
}

fn actions(keys: &mut Keys<'_>, reading: &mut Reading) -> BTreeMap<String, Duration> {
    let mut all = BTreeMap::new();
    let Some(inner) = keys.sub(reading, "actions") else {
        return all;
    };
    for (id, value) in inner.table {
        let key = format!("{}.{}", inner.path, id.get_ref());
        let DeValue::Table(table) = value.get_ref() else {
            let help = format!("write {} = {{ takes = \"2s\" }}", id.get_ref());
            reading.wrong(value.span(), key, "an action must be a table", help);
            continue;
        };
        let mut action = Keys::new(table, value.span(), key);
        if let Some(takes) = action.span_of(reading, "takes") {
            all.insert(id.get_ref().to_string(), takes);
        }
        action.finish(reading);
    }
    all
}

fn lines(
    keys: &mut Keys<'_>,
    reading: &mut Reading,
    key: &'static str,
    example: &str,
) -> Option<Vec<Line>> {
    let texts = keys.texts(reading, key)?;
    let lines = texts.iter().filter_map(|text| {
        let line = Line::parse(text.get_ref());
        if line.is_none() {
            let message = format!("{:?} does not begin with whole seconds", text.get_ref());
            let help = format!("write \"{example}\"");
            reading.wrong(text.span(), format!("{}.{key}", keys.path), message, help);
        }
        line
    });
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<(String, String)> {
        let table = DeTable::parse(text).unwrap();
        let read = read(table.get_ref());
        let place = |mistake: Mistake| (text[mistake.span].to_owned(), mistake.message);
        read.err()
            .unwrap_or_default()
            .into_iter()
            .map(place)
            .collect()
    }

    #[test]
    fn a_whole_test_is_read() {
        let text = r#"
            base = "base.toml"
            [[test]]
            id = "T"
            end = "60s"
            [test.config.alerting]
            gone_after = 2
            [test.samples]
            'disk{d="0"}' = "1@0"
            cpu = "1@0 E@5"
            [test.answers]
            r1 = ["500", "429(30)"]
            [test.actions]
            fix = { takes = "5s" }
            [[test.at]]
            at = "20s"
            crash_until = "30s"
            mode = "after_send"
            [[test.at]]
            at = "20s"
            silence = { rule = "cpu", from = "0s", to = "9s", scope = ["notify"] }
            clock_step = "-3h"
            [[test.at]]
            at = "5s"
            reload = { rule = [] }
            [test.expect]
            timeline = ["10s fire warning cpu"]
        "#;
        let table = DeTable::parse(text).unwrap();
        let file = read(table.get_ref()).unwrap();
        assert_eq!(file.base.unwrap().get_ref(), "base.toml");
        let test = &file.tests[0];
        assert_eq!(test.samples.len(), 2);
        assert_eq!(
            test.answers["r1"][1].retry_after,
            Some(Duration::from_secs(30))
        );
        assert_eq!(test.takes["fix"], Duration::from_secs(5));
        assert_eq!(test.reloads().count(), 1);
        let kinds: Vec<String> = test
            .events
            .iter()
            .map(|event| format!("{:?}", event.kind))
            .collect();
        assert!(kinds[0].starts_with("Reload"), "{kinds:?}");
        assert!(
            kinds[1].contains("notify: true, recover: false"),
            "{kinds:?}"
        );
        assert_eq!(kinds[2], "ClockStep(-10800000)");
        assert!(
            kinds[3].contains("AfterSend"),
            "outages come last: {kinds:?}"
        );
    }

    #[test]
    fn every_mistake_has_its_place() {
        let head = "[[test]]\nid = \"T\"\nend = \"1m\"\n";
        for (body, place, message) in [
            ("expct = 1\n", "expct", "unknown key `expct`"),
            ("samples = { cpu = \"1\" }\n", "\"1\"", "value@seconds"),
            ("samples = { cpu = 1 }\n", "1", "must be a string"),
            ("answers = { r = [\"no\"] }\n", "\"no\"", "no answer"),
            (
                "actions = { a = { take = \"1s\" } }\n",
                "take",
                "unknown key",
            ),
            (
                "[[test.at]]\nat = \"soon\"\nack = \"a\"\n",
                "\"soon\"",
                "no duration",
            ),
            ("[[test.at]]\nat = \"1s\"\n", "[", "nothing happens"),
            ("[[test.at]]\nack = \"r\"\n", "[", "lacks `at`"),
            (
                "[[test.at]]\nat = \"1s\"\nreload = \"maybe\"\n",
                "\"maybe\"",
                "neither",
            ),
            (
                "[[test.at]]\nat = \"1s\"\ncrash_until = \"2s\"\nmode = \"x\"\n",
                "\"x\"",
                "mode",
            ),
            (
                "[[test.at]]\nat = \"1s\"\nuntil = \"2s\"\n",
                "\"2s\"",
                "of what",
            ),
            (
                "[test.expect]\ntimeline = [\"10 fire\"]\n",
                "\"10 fire\"",
                "whole seconds",
            ),
            ("[[test]]\nid = \"T\"\nend = \"1s\"\n", "\"T\"", "two tests"),
        ] {
            let found = mistakes(&format!("{head}{body}"));
            assert_eq!(found.len(), 1, "{body}: {found:?}");
            assert_eq!(found[0].0, place, "{body}");
            assert!(found[0].1.contains(message), "{body}: {found:?}");
        }
        let found = mistakes("[[test]]\ntitle = \"x\"\n");
        assert_eq!(found.len(), 2, "id and end: {found:?}");
        assert_eq!(mistakes("base = \"b\"").len(), 1, "no test");
    }
}
