//! A small reader over parsed TOML that collects every mistake instead of stopping at the first.
//!
//! A [`Table`] may consist of parts from several files (`[agent]` here, `[agent]` there). It
//! remembers which keys were asked for; [`Table::finish`] reports all others. What was asked for is
//! thereby the one list of known keys: `config/watchfire.toml` is tested against it.

use super::file::{At, Draft, Files, Place};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toml::de::{DeTable, DeValue};
use watchfire_engine::model::{Severity, parse_duration};

/// Longest duration that makes sense anywhere; keeps arithmetic on moments far from its bounds.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Collects what is found while reading.
pub(super) struct Reader<'a> {
    /// The texts.
    pub(super) files: &'a Files,
    drafts: RefCell<Vec<Draft>>,
    /// Every key that was asked for, and whether it was there in any file.
    known: RefCell<BTreeMap<String, bool>>,
}

/// A table, perhaps made of parts from several files.
pub(super) struct Table<'a, 'r> {
    reader: &'r Reader<'a>,
    /// For people: `rule[cpu-high]`.
    path: String,
    /// Without ids and free names: `rule`.
    schema: String,
    /// Where it begins.
    pub(super) at: Place,
    parts: Vec<(usize, &'a DeTable<'a>)>,
    asked: RefCell<Vec<&'static str>>,
}

/// One key with its value.
pub(super) struct Entry<'a, 'r> {
    reader: &'r Reader<'a>,
    path: String,
    schema: String,
    /// The last part of the path.
    pub(super) name: String,
    /// Where the key stands.
    pub(super) key_at: Place,
    /// Where the value stands.
    pub(super) at: Place,
    node: &'a DeValue<'a>,
}

/// A plugin's table: handed on as JSON, with what the agent itself wants to know of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Json {
    /// The table.
    pub(super) value: serde_json::Value,
    /// Every `{{secret:NAME}}` in it.
    pub(super) secrets: Vec<At<String>>,
    /// Where each value stands, by dotted path.
    pub(super) places: BTreeMap<String, Place>,
}

/// One duration for every severity, or one for each that is named.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PerSeverityTable {
    /// What was written, by severity.
    pub(super) named: [Option<Duration>; 4],
    /// Where.
    pub(super) at: Place,
}

impl<'a> Reader<'a> {
    /// Nothing found yet.
    pub(super) fn new(files: &'a Files) -> Self {
        Reader {
            files,
            drafts: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// The root table over all files.
    pub(super) fn root<'r>(&'r self, parts: Vec<(usize, &'a DeTable<'a>)>) -> Table<'a, 'r> {
        Table {
            reader: self,
            path: String::new(),
            schema: String::new(),
            at: Place::default(),
            parts,
            asked: RefCell::default(),
        }
    }

    /// Adds a mistake.
    pub(super) fn mistake(
        &self,
        at: Place,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let help = help.into();
        self.drafts.borrow_mut().push(Draft {
            at,
            key: key.to_owned(),
            message: message.into(),
            help: (!help.is_empty()).then_some(help),
            absence: false,
        });
    }

    /// Adds a mistake that says that something is not there.
    pub(super) fn absence(
        &self,
        at: Place,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.mistake(at, key, message, help);
        if let Some(last) = self.drafts.borrow_mut().last_mut() {
            last.absence = true;
        }
    }

    /// Everything found.
    pub(super) fn into_drafts(self) -> Vec<Draft> {
        self.drafts.into_inner()
    }

    /// Every key that was asked for, as `rule.for`, and whether it was there.
    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeMap<String, bool> {
        self.known.borrow().clone()
    }

    fn note(&self, key: String, found: bool) {
        *self.known.borrow_mut().entry(key).or_default() |= found;
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

impl<'a, 'r> Table<'a, 'r> {
    /// Every value of `key`: one for each part that has it.
    pub(super) fn all(&self, key: &'static str) -> Vec<Entry<'a, 'r>> {
        self.ask(key);
        self.find(key)
    }

    /// The value of `key`; a second one in another file is a mistake.
    pub(super) fn get(&self, key: &'static str) -> Option<Entry<'a, 'r>> {
        let mut all = self.all(key).into_iter();
        let first = all.next()?;
        for more in all {
            self.reader.mistake(
                more.key_at,
                &more.path,
                format!("`{}` is set a second time", more.path),
                format!(
                    "it is also set at {}",
                    self.reader.files.name_place(first.key_at)
                ),
            );
        }
        Some(first)
    }

    /// The table under `key`, its parts from all files joined.
    pub(super) fn table(&self, key: &'static str) -> Option<Table<'a, 'r>> {
        let entries = self.all(key);
        let mut joined: Option<Table<'a, 'r>> = None;
        for entry in entries {
            if let Some(table) = entry.table() {
                match &mut joined {
                    None => joined = Some(table),
                    Some(joined) => joined.parts.extend(table.parts),
                }
            }
        }
        joined
    }

    /// The array of tables under `key`, from all files in their order.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Table<'a, 'r>> {
        self.all(key)
            .into_iter()
            .flat_map(|entry| entry.tables())
            .collect()
    }

    /// Every key with its value, in the order of the files; for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<Entry<'a, 'r>> {
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        let mut all = Vec::new();
        for (file, table) in &self.parts {
            let mut part: Vec<_> = table
                .iter()
                .map(|(key, value)| self.entry(*file, key.get_ref(), key.span(), value, "*"))
                .collect();
            part.sort_by_key(|entry| entry.key_at);
            all.extend(part);
        }
        self.reader.note(join(&self.schema, "*"), !all.is_empty());
        all.retain(|entry| match seen.get(&entry.name) {
            None => {
                seen.insert(entry.name.clone(), entry.key_at);
                true
            }
            Some(first) => {
                self.reader.mistake(
                    entry.key_at,
                    &entry.path,
                    format!("`{}` is set a second time", entry.path),
                    format!("it is also set at {}", self.reader.files.name_place(*first)),
                );
                false
            }
        });
        all
    }

    /// Refuses keys whose feature does not exist yet.
    pub(super) fn later(&self, keys: &[&'static str]) {
        for key in keys {
            for entry in self.find(key) {
                self.reader.mistake(
                    entry.key_at,
                    &entry.path,
                    format!("`{key}` comes with a later release of watchfire"),
                    "",
                );
            }
            self.asked.borrow_mut().push(key);
        }
    }

    /// Refuses keys that make no sense here, with the reason.
    pub(super) fn refuse(&self, keys: &[&'static str], reason: &str, help: &str) {
        for key in keys {
            for entry in self.find(key) {
                self.reader
                    .mistake(entry.key_at, &entry.path, format!("`{key}` {reason}"), help);
            }
            self.asked.borrow_mut().push(key);
        }
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.parts.iter().any(|(_, table)| table.contains_key(key))
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for (file, table) in &self.parts {
            for (key, _) in table.iter() {
                let name: &str = key.get_ref();
                if asked.contains(&name) {
                    continue;
                }
                let place = place(*file, key.span());
                let what = if self.path.is_empty() {
                    format!("unknown table or key `{name}`")
                } else {
                    format!("unknown key `{name}` in `{}`", self.path)
                };
                let help = match nearest(name, asked.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("known here: {}", asked.join(", ")),
                };
                self.reader
                    .mistake(place, &join(&self.path, name), what, help);
            }
        }
    }

    /// A mistake about this table: it lacks something.
    pub(super) fn missing(&self, key: &str, help: &str) {
        self.reader.absence(
            self.at,
            &join(&self.path, key),
            format!("`{}` lacks `{key}`", self.path),
            help,
        );
    }

    /// The path for people.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where mistakes go.
    pub(super) fn reader(&self) -> &'r Reader<'a> {
        self.reader
    }

    /// A string.
    pub(super) fn string(&self, key: &'static str) -> Option<At<String>> {
        self.get(key)?.string()
    }

    /// A duration above zero.
    pub(super) fn duration(&self, key: &'static str) -> Option<At<Duration>> {
        let found = self.get(key)?;
        let duration = found.duration()?;
        if duration.value.is_zero() {
            found.wrong("must be longer than zero", "write for example \"10s\"");
            return None;
        }
        Some(duration)
    }

    /// A duration, zero allowed.
    pub(super) fn duration_or_zero(&self, key: &'static str) -> Option<At<Duration>> {
        self.get(key)?.duration()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.get(key)?.boolean()
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, key: &'static str, min: i64, max: i64) -> Option<At<i64>> {
        self.get(key)?.integer(min, max)
    }

    /// A number within bounds.
    pub(super) fn number(&self, key: &'static str, min: f64, max: f64) -> Option<f64> {
        self.get(key)?.number(min, max)
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<At<String>>> {
        self.get(key)?.strings(false)
    }

    /// A string or a list of strings.
    pub(super) fn one_or_many(&self, key: &'static str) -> Option<Vec<At<String>>> {
        self.get(key)?.strings(true)
    }

    /// A path, absolute or relative to the file it stands in.
    pub(super) fn path_of(&self, key: &'static str) -> Option<At<PathBuf>> {
        let found = self.get(key)?;
        let text = found.string()?;
        found.as_path(&text)
    }

    fn ask(&self, key: &'static str) {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.reader.note(join(&self.schema, key), self.has(key));
    }

    fn find(&self, key: &str) -> Vec<Entry<'a, 'r>> {
        self.parts
            .iter()
            .filter_map(|(file, table)| {
                let (name, value) = table.get_key_value(key)?;
                Some(self.entry(*file, name.get_ref(), name.span(), value, key))
            })
            .collect()
    }

    fn entry(
        &self,
        file: usize,
        name: &str,
        key_span: std::ops::Range<usize>,
        value: &'a toml::Spanned<DeValue<'a>>,
        schema: &str,
    ) -> Entry<'a, 'r> {
        Entry {
            reader: self.reader,
            path: join(&self.path, name),
            schema: join(&self.schema, schema),
            name: name.to_owned(),
            key_at: place(file, key_span),
            at: place(file, value.span()),
            node: value.get_ref(),
        }
    }
}

impl<'a, 'r> Entry<'a, 'r> {
    /// A mistake about this value.
    pub(super) fn wrong(&self, message: &str, help: impl Into<String>) {
        self.reader.mistake(
            self.at,
            &self.path,
            format!("`{}` {message}", self.name),
            help,
        );
    }

    /// The path for people.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the value is a table.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.node, DeValue::Table(_))
    }

    /// Whether the value is a boolean.
    pub(super) fn is_boolean(&self) -> bool {
        matches!(self.node, DeValue::Boolean(_))
    }

    /// A string.
    pub(super) fn string(&self) -> Option<At<String>> {
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

    /// A duration.
    pub(super) fn duration(&self) -> Option<At<Duration>> {
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
                self.wants(
                    "a duration",
                    "write a number with a unit: \"250ms\", \"90s\", \"5m\", \"1h30m\" or \"7d\"",
                );
                None
            }
        }
    }

    /// A size in bytes such as `"64MiB"`.
    pub(super) fn size(&self) -> Option<At<u64>> {
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
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.node {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wants("true or false", &format!("write {} = true", self.name));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, min: i64, max: i64) -> Option<At<i64>> {
        let bounds = format!("a whole number from {min} to {max}");
        let DeValue::Integer(number) = self.node else {
            self.wants(&bounds, &format!("write {} = {min}", self.name));
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
    pub(super) fn number(&self, min: f64, max: f64) -> Option<f64> {
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
    pub(super) fn severity(&self) -> Option<At<Severity>> {
        severity(self.reader, &self.path, &self.string()?)
    }

    /// A list of strings; `single`: one string will do.
    pub(super) fn strings(&self, single: bool) -> Option<Vec<At<String>>> {
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
    pub(super) fn items(&self) -> Vec<Entry<'a, 'r>> {
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
    pub(super) fn table(&self) -> Option<Table<'a, 'r>> {
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
        })
    }

    /// An array of tables, each named by its `id` where it has one.
    pub(super) fn tables(&self) -> Vec<Table<'a, 'r>> {
        if let DeValue::Table(_) = self.node {
            self.wants(
                "an array of tables",
                &format!("write [[{0}]] instead of [{0}]", self.name),
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
    pub(super) fn per_severity(&self) -> Option<PerSeverityTable> {
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
    pub(super) fn json(&self) -> Option<Json> {
        self.table()?;
        let mut json = Json::default();
        let value = self.to_json(self.node, self.at, "", &mut json);
        Some(Json { value, ..json })
    }

    /// A path, absolute or relative to the file it stands in.
    pub(super) fn as_path(&self, text: &At<String>) -> Option<At<PathBuf>> {
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

/// The names in all `{{secret:NAME}}` of a text; an error for what only looks like one.
pub(super) fn secret_references(text: &str) -> Vec<Result<&str, &str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        rest = &rest[open + 2..];
        let Some(close) = rest.find("}}") else { break };
        let inner = &rest[..close];
        if inner.trim_start().starts_with("secret") {
            let name = inner.strip_prefix("secret:").unwrap_or("");
            found.push(if is_name(name) { Ok(name) } else { Err(inner) });
        }
        rest = &rest[close + 2..];
    }
    found
}

/// Whether `name` can be an id: letters, digits, `_`, `-`, `.`, `:`, at most 128.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
        && !name.starts_with(['-', '.', ':'])
}

/// The nearest of `candidates`, if it is near enough to be what was meant.
pub(super) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Reads the name of a severity.
pub(super) fn severity(reader: &Reader<'_>, path: &str, word: &At<String>) -> Option<At<Severity>> {
    match word.value.parse() {
        Ok(value) => Some(At { value, at: word.at }),
        Err(_) => {
            reader.mistake(
                word.at,
                path,
                format!("unknown severity {:?}", word.value),
                "write low, warning, high or critical",
            );
            None
        }
    }
}

/// `Arc<str>` of a read string.
pub(super) fn shared(text: Option<At<String>>) -> Option<Arc<str>> {
    text.map(|text| text.value.into())
}

fn place(file: usize, span: std::ops::Range<usize>) -> Place {
    Place {
        file,
        start: span.start,
        end: span.end,
    }
}

fn plain(node: &DeValue<'_>) -> String {
    match node {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        _ => "…".to_owned(),
    }
}

fn describe(node: &DeValue<'_>) -> String {
    match node {
        DeValue::String(text) => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("the string {short:?}")
        }
        DeValue::Integer(_) | DeValue::Float(_) => format!("the number {}", plain(node)),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
