//! Values: what a key holds, or the mistake that it holds something else.

use super::text::{describe, plain, secret_references, severity};
use super::{DURATION_MAX, Entry, Json, PerSeverityTable, Table, join, place};
use crate::config::file::{At, Place};
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;
use watchfire_engine::model::{Severity, parse_duration};

impl<'a, 'r> Entry<'a, 'r> {
    /// A mistake about this value.
    pub(in crate::config) fn wrong(&self, message: &str, help: impl Into<String>) {
        self.reader.mistake(
            self.at,
            &self.path,
            format!("`{}` {message}", self.name),
            help,
        );
    }

    /// The path for people.
    pub(in crate::config) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the value is a table.
    pub(in crate::config) fn is_table(&self) -> bool {
        matches!(self.node, DeValue::Table(_))
    }

    /// Whether the value is a boolean.
    pub(in crate::config) fn is_boolean(&self) -> bool {
        matches!(self.node, DeValue::Boolean(_))
    }

    /// A string.
    pub(in crate::config) fn string(&self) -> Option<At<String>> {
        match self.node {
            DeValue::String(text) => Some(At {
                value: text.to_string(),
                at: self.at,
            }),
            _ => {
                let help = match self.node {
                    DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                        format!("write {} = \"{}\"", self.name, plain(self.node))
                    }
                    DeValue::Array(_) => format!("write one string: {} = \"…\"", self.name),
                    _ => format!("write {} = \"…\"", self.name),
                };
                self.wants("a string", &help);
                None
            }
        }
    }

    /// A string, or one of TOML's own dates and times as its text.
    pub(in crate::config) fn string_or_date(&self) -> Option<At<String>> {
        match self.node {
            DeValue::Datetime(date) => Some(At {
                value: date.to_string(),
                at: self.at,
            }),
            _ => self.string(),
        }
    }

    /// A duration.
    pub(in crate::config) fn duration(&self) -> Option<At<Duration>> {
        let DeValue::String(text) = self.node else {
            let help = match self.node {
                DeValue::Integer(_) | DeValue::Float(_) => {
                    format!("write {} = \"{}s\"", self.name, plain(self.node))
                }
                _ => format!("write {} = \"30s\"", self.name),
            };
            self.wants("a duration such as \"30s\" or \"5m\"", &help);
            return None;
        };
        match parse_duration(text) {
            Ok(value) if value > DURATION_MAX => {
                self.wrong("is longer than ten years", "write a shorter duration");
                None
            }
            Ok(value) => Some(At { value, at: self.at }),
            Err(_) => {
                let help = match &**text {
                    "never" | "off" | "none" => "write \"0s\"",
                    _ => {
                        "write a number with a unit: \"250ms\", \"90s\", \"5m\", \"1h30m\" or \"7d\""
                    }
                };
                self.wants("a duration", help);
                None
            }
        }
    }

    /// A size in bytes such as `"64MiB"`.
    pub(in crate::config) fn size(&self) -> Option<At<u64>> {
        let help = || format!("write {} = \"64MiB\" (B, KiB, MiB or GiB)", self.name);
        let DeValue::String(text) = self.node else {
            self.wants("a size such as \"64MiB\"", &help());
            return None;
        };
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let unit = match text[digits..].trim_start() {
            "B" => Some(1),
            "kB" => Some(1_000),
            "KiB" => Some(1 << 10),
            "MB" => Some(1_000_000),
            "MiB" => Some(1 << 20),
            "GB" => Some(1_000_000_000),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let value = text[..digits]
            .parse::<u64>()
            .ok()
            .zip(unit)
            .and_then(|(number, unit)| number.checked_mul(unit));
        match value {
            Some(value) if value > 0 => Some(At { value, at: self.at }),
            _ => {
                self.wants("a size", &help());
                None
            }
        }
    }

    /// `true` or `false`.
    pub(in crate::config) fn boolean(&self) -> Option<bool> {
        match self.node {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wants("true or false", &format!("write {} = true", self.name));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(in crate::config) fn integer(&self, min: i64, max: i64) -> Option<At<i64>> {
        let bounds = format!("a whole number from {min} to {max}");
        let DeValue::Integer(number) = self.node else {
            let help = match self.node {
                DeValue::String(text) if text.parse::<i64>().is_ok() => {
                    format!("write {} = {text}, without quotes", self.name)
                }
                _ => format!("write {} = {min}", self.name),
            };
            self.wants(&bounds, &help);
            return None;
        };
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if (min..=max).contains(&value) => Some(At { value, at: self.at }),
            _ => {
                self.wants(&bounds, "");
                None
            }
        }
    }

    /// A number within bounds.
    pub(in crate::config) fn number(&self, min: f64, max: f64) -> Option<f64> {
        let value = match self.node {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(|n| n as f64),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        match value {
            Some(value) if value >= min && value <= max => Some(value),
            _ => {
                self.wants(&format!("a number from {min} to {max}"), "");
                None
            }
        }
    }

    /// A severity.
    pub(in crate::config) fn severity(&self) -> Option<At<Severity>> {
        severity(self.reader, &self.path, &self.string()?)
    }

    /// A list of strings; `single`: one string will do.
    pub(in crate::config) fn strings(&self, single: bool) -> Option<Vec<At<String>>> {
        match self.node {
            DeValue::String(text) if single => Some(vec![At {
                value: text.to_string(),
                at: self.at,
            }]),
            DeValue::Array(_) => Some(
                self.items()
                    .iter()
                    .filter_map(|item| item.string())
                    .collect(),
            ),
            DeValue::String(text) => {
                self.wants(
                    "a list of strings",
                    &format!("write {} = [{:?}]", self.name, &**text),
                );
                None
            }
            _ => {
                self.wants(
                    "a list of strings",
                    &format!("write {} = [\"…\"]", self.name),
                );
                None
            }
        }
    }

    /// The items of an array; none (and a mistake) where it is none.
    pub(in crate::config) fn items(&self) -> Vec<Entry<'a, 'r>> {
        let DeValue::Array(items) = self.node else {
            self.wants("a list", &format!("write {} = […]", self.name));
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| Entry {
                reader: self.reader,
                path: format!("{}[{}]", self.path, index + 1),
                schema: self.schema.clone(),
                name: self.name.clone(),
                key_at: place(self.at.file, item.span()),
                at: place(self.at.file, item.span()),
                node: item.get_ref(),
            })
            .collect()
    }

    /// A table.
    pub(in crate::config) fn table(&self) -> Option<Table<'a, 'r>> {
        let DeValue::Table(table) = self.node else {
            let help = if matches!(self.node, DeValue::Array(_)) {
                format!("write [{0}] or {1} = {{ … }}", self.path, self.name)
            } else {
                format!("write {} = {{ … }}", self.name)
            };
            self.wants("a table", &help);
            return None;
        };
        Some(Table {
            reader: self.reader,
            path: self.path.clone(),
            schema: self.schema.clone(),
            at: self.at,
            parts: vec![(self.at.file, table)],
            asked: RefCell::default(),
            refused: RefCell::default(),
        })
    }

    /// An array of tables, each named by its `id` where it has one.
    pub(in crate::config) fn tables(&self) -> Vec<Table<'a, 'r>> {
        if let DeValue::Table(_) = self.node {
            self.wants(
                "an array of tables",
                &if self.path == self.name {
                    format!("write [[{0}]] instead of [{0}]", self.name)
                } else {
                    format!("write {} = [{{ … }}]", self.name)
                },
            );
            return Vec::new();
        }
        let mut tables = Vec::new();
        for (index, item) in self.items().into_iter().enumerate() {
            let Some(mut table) = item.table() else {
                continue;
            };
            let id = match item.node.get("id").map(|id| id.get_ref()) {
                Some(DeValue::String(id)) => id.to_string(),
                _ => (index + 1).to_string(),
            };
            table.path = format!("{}[{id}]", self.path);
            tables.push(table);
        }
        tables
    }

    /// One duration, or a table with one per severity.
    pub(in crate::config) fn per_severity(&self) -> Option<PerSeverityTable> {
        if !self.is_table() {
            let one = self.duration()?;
            return Some(PerSeverityTable {
                named: [Some(one.value); 4],
                at: self.at,
            });
        }
        let mut named = [None; 4];
        for entry in self.table()?.entries() {
            let name = At {
                value: entry.name.clone(),
                at: entry.key_at,
            };
            let (Some(severity), Some(duration)) =
                (severity(self.reader, &entry.path, &name), entry.duration())
            else {
                continue;
            };
            if named[severity.value.index()]
                .replace(duration.value)
                .is_some()
            {
                entry.wrong(
                    &format!("means {}, which is given already", severity.value),
                    "",
                );
            }
        }
        Some(PerSeverityTable { named, at: self.at })
    }

    /// The value as JSON; `None` where it is no table.
    pub(in crate::config) fn json(&self) -> Option<Json> {
        self.table()?;
        let mut json = Json::default();
        let value = self.to_json(self.node, self.at, "", &mut json);
        Some(Json { value, ..json })
    }

    /// A path, absolute or relative to the file it stands in.
    pub(in crate::config) fn as_path(&self, text: &At<String>) -> Option<At<PathBuf>> {
        if text.value.is_empty() || text.value.contains('\0') {
            self.wrong("is no path", "write a path, or leave the key out");
            return None;
        }
        Some(At {
            value: self.reader.files.0[self.at.file].folder().join(&text.value),
            at: text.at,
        })
    }

    fn to_json(
        &self,
        node: &DeValue<'_>,
        at: Place,
        path: &str,
        json: &mut Json,
    ) -> serde_json::Value {
        use serde_json::Value;
        json.places.insert(path.to_owned(), at);
        match node {
            DeValue::String(text) => {
                self.note_secrets(text, at, json);
                Value::String(text.to_string())
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(date) => Value::String(date.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(value) => value.into(),
                    Err(_) => self.no_json(at, path, "a whole number beyond 64 bits"),
                }
            }
            DeValue::Float(number) => {
                match number
                    .as_str()
                    .parse()
                    .ok()
                    .and_then(serde_json::Number::from_f64)
                {
                    Some(value) => Value::Number(value),
                    None => self.no_json(at, path, "a number that is not finite"),
                }
            }
            DeValue::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let path = join(path, &index.to_string());
                    self.to_json(item.get_ref(), place(at.file, item.span()), &path, json)
                })
                .collect(),
            DeValue::Table(table) => table
                .iter()
                .map(|(key, value)| {
                    let path = join(path, key.get_ref());
                    let at = place(at.file, value.span());
                    let value = self.to_json(value.get_ref(), at, &path, json);
                    (key.get_ref().to_string(), value)
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    fn no_json(&self, at: Place, path: &str, what: &str) -> serde_json::Value {
        self.reader.mistake(
            at,
            &join(&self.path, path),
            format!("a plugin's table cannot hold {what}"),
            "",
        );
        serde_json::Value::Null
    }

    fn note_secrets(&self, text: &str, at: Place, json: &mut Json) {
        for found in secret_references(text) {
            match found {
                Ok(name) => json.secrets.push(At {
                    value: name.to_owned(),
                    at,
                }),
                Err(wrong) => self.reader.mistake(
                    at,
                    &self.path,
                    format!("`{{{{{wrong}}}}}` is no reference to a secret"),
                    "write {{secret:NAME}}, without spaces",
                ),
            }
        }
    }

    fn wants(&self, wanted: &str, help: &str) {
        self.wrong(
            &format!("wants {wanted}, found {}", describe(self.node)),
            help,
        );
    }
}
