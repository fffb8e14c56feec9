//! Reading tables with places: every mistake is kept, and reading goes on.

use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use watchfire_engine::model::parse_duration;

/// One mistake in a test file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// Path of the key: `test[A01].end`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// A value with its place.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

/// Collects mistakes.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) mistakes: Vec<Mistake>,
}

/// A table under reading: every key has to be asked for.
pub(crate) struct Keys<'a> {
    pub(crate) table: &'a DeTable<'a>,
    pub(crate) span: Range<usize>,
    pub(crate) path: String,
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(table: &'a DeTable<'a>, span: Range<usize>, path: impl Into<String>) -> Self {
        Keys {
            table,
            span,
            path: path.into(),
            known: Vec::new(),
        }
    }

    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'a Value<'a>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Reports what nobody asked for.
    pub(crate) fn finish(self, reading: &mut Reading) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                reading.wrong(
                    key.span(),
                    self.join(name),
                    format!("unknown key `{name}`"),
                    format!("known here: {}", self.known.join(", ")),
                );
            }
        }
    }

    pub(crate) fn text(&mut self, reading: &mut Reading, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        reading.text(value, &self.join(key)).map(str::to_owned)
    }

    pub(crate) fn span_of(&mut self, reading: &mut Reading, key: &'static str) -> Option<Duration> {
        let value = self.get(key)?;
        reading.duration(value, &self.join(key))
    }

    pub(crate) fn sub(&mut self, reading: &mut Reading, key: &'static str) -> Option<Keys<'a>> {
        let value = self.get(key)?;
        let path = self.join(key);
        match value.get_ref() {
            DeValue::Table(table) => Some(Keys::new(table, value.span(), path)),
            _ => {
                let help = format!("write [test.{key}] or {key} = {{ … }}");
                reading.wrong(value.span(), path, format!("`{key}` must be a table"), help);
                None
            }
        }
    }

    pub(crate) fn texts(
        &mut self,
        reading: &mut Reading,
        key: &'static str,
    ) -> Option<Vec<Spanned<String>>> {
        let value = self.get(key)?;
        reading.texts(value, &self.join(key))
    }

    pub(crate) fn missing(&self, reading: &mut Reading, key: &str, help: &str) {
        let what = if self.path.is_empty() {
            "the file"
        } else {
            &self.path
        };
        // The whole table would underline half of a file.
        let span = self.span.start..self.span.start + 1;
        let message = format!("`{what}` lacks `{key}`");
        reading.wrong(span, self.join(key), message, help);
    }
}

impl Reading {
    pub(crate) fn wrong(
        &mut self,
        span: Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.mistakes.push(Mistake {
            span,
            key: key.into(),
            message: message.into(),
            help: help.into(),
        });
    }

    pub(crate) fn text<'a>(&mut self, value: &'a Value<'_>, key: &str) -> Option<&'a str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => {
                let last = key.rsplit('.').next().unwrap_or(key);
                let help = format!("write {last} = \"…\"");
                self.wrong(
                    value.span(),
                    key,
                    format!("`{last}` must be a string"),
                    help,
                );
                None
            }
        }
    }

    pub(crate) fn duration(&mut self, value: &Value<'_>, key: &str) -> Option<Duration> {
        let text = self.text(value, key)?;
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(_) => {
                let message = format!("{text:?} is no duration");
                self.wrong(
                    value.span(),
                    key,
                    message,
                    "write \"90s\", \"5m\" or \"1h30m\"",
                );
                None
            }
        }
    }

    pub(crate) fn texts(&mut self, value: &Value<'_>, key: &str) -> Option<Vec<Spanned<String>>> {
        let DeValue::Array(all) = value.get_ref() else {
            let last = key.rsplit('.').next().unwrap_or(key);
            let help = format!("write {last} = [\"…\"]");
            self.wrong(
                value.span(),
                key,
                format!("`{last}` must be a list of strings"),
                help,
            );
            return None;
        };
        let texts = all.iter().filter_map(|item| {
            let text = self.text(item, key)?.to_owned();
            Some(Spanned::new(item.span(), text))
        });
        Some(texts.collect())
    }
}
