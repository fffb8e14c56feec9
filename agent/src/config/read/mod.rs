//! A small reader over parsed TOML that collects every mistake instead of stopping at the first.
//!
//! A [`Table`] may consist of parts from several files (`[agent]` here, `[agent]` there). It
//! remembers which keys were asked for; [`Table::finish`] reports all others. What was asked for is
//! thereby the one list of known keys: `config/watchfire.toml` is tested against it.

mod entry;
mod text;

pub(crate) use text::nearest;
pub(in crate::config) use text::{is_name, secret_references, severity, shared};

use super::file::{At, Draft, Files, Place};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Longest duration that makes sense anywhere; keeps arithmetic on moments far from its bounds.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Findings that are worked out at most; nobody reads more, and a mistaken file of a megabyte must not cost minutes.
pub(in crate::config) const MISTAKES_MAX: usize = 500;

/// Mistakes for which the nearest name is looked up.
const SUGGESTIONS_MAX: usize = 100;

/// Collects what is found while reading.
pub(in crate::config) struct Reader<'a> {
    /// The texts.
    pub(in crate::config) files: &'a Files,
    drafts: RefCell<Vec<Draft>>,
    /// Every key that was asked for, and whether it was there in any file.
    known: RefCell<BTreeMap<String, bool>>,
    /// How each file joins those before it; a file that is not named adds to them.
    joins: Vec<Join>,
    /// In a rule test nobody calls a notifier or an action, so nobody needs to say which one.
    pub(in crate::config) is_test: bool,
}

/// What becomes of a key that an earlier file has as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// Tables and lists are joined; a second value is a mistake.
    #[default]
    Add,
    /// Tables are joined, all else takes the place of what was there.
    Over,
    /// What stands at the top takes the place of what was there, tables too.
    Replace,
}

/// A table, perhaps made of parts from several files.
pub(in crate::config) struct Table<'a, 'r> {
    reader: &'r Reader<'a>,
    /// For people: `rule[cpu-high]`.
    path: String,
    /// Without ids and free names: `rule`.
    schema: String,
    /// Where it begins.
    pub(in crate::config) at: Place,
    parts: Vec<(usize, &'a DeTable<'a>)>,
    asked: RefCell<Vec<&'static str>>,
    /// Keys that are refused with a reason of their own.
    refused: RefCell<Vec<&'static str>>,
}

/// One key with its value.
pub(in crate::config) struct Entry<'a, 'r> {
    reader: &'r Reader<'a>,
    path: String,
    schema: String,
    /// The last part of the path.
    pub(in crate::config) name: String,
    /// Where the key stands.
    pub(in crate::config) key_at: Place,
    /// Where the value stands.
    pub(in crate::config) at: Place,
    node: &'a DeValue<'a>,
}

/// A plugin's table: handed on as JSON, with what the agent itself wants to know of it.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Json {
    /// The table.
    pub(in crate::config) value: serde_json::Value,
    /// Every `{{secret:NAME}}` in it.
    pub(in crate::config) secrets: Vec<At<String>>,
    /// Where each value stands, by dotted path.
    pub(in crate::config) places: BTreeMap<String, Place>,
}

/// One duration for every severity, or one for each that is named.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct PerSeverityTable {
    /// What was written, by severity.
    pub(in crate::config) named: [Option<Duration>; 4],
    /// Where.
    pub(in crate::config) at: Place,
}

impl<'a> Reader<'a> {
    /// Nothing found yet.
    pub(in crate::config) fn new(files: &'a Files) -> Self {
        Reader {
            files,
            drafts: RefCell::default(),
            known: RefCell::default(),
            joins: Vec::new(),
            is_test: false,
        }
    }

    /// For a rule test, its files joining as `joins` says.
    pub(in crate::config) fn of_test(self, joins: Vec<Join>) -> Self {
        Reader {
            joins,
            is_test: true,
            ..self
        }
    }

    /// The root table over all files.
    pub(in crate::config) fn root<'r>(
        &'r self,
        parts: Vec<(usize, &'a DeTable<'a>)>,
    ) -> Table<'a, 'r> {
        Table {
            reader: self,
            path: String::new(),
            schema: String::new(),
            at: Place::default(),
            parts,
            asked: RefCell::default(),
            refused: RefCell::default(),
        }
    }

    /// Adds a mistake.
    pub(in crate::config) fn mistake(
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
    pub(in crate::config) fn absence(
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

    /// The nearest of `candidates` to a name that leads nowhere; none once so much is wrong that
    /// nobody reads on: comparing thousands of names with thousands would take minutes.
    pub(in crate::config) fn near<'c>(
        &self,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        (self.drafts.borrow().len() < SUGGESTIONS_MAX)
            .then(|| nearest(name, candidates))
            .flatten()
    }

    /// Everything found.
    pub(in crate::config) fn into_drafts(self) -> Vec<Draft> {
        self.drafts.into_inner()
    }

    /// Every key that was asked for, as `rule.for`, and whether it was there.
    #[cfg(test)]
    pub(in crate::config) fn known(&self) -> BTreeMap<String, bool> {
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
    pub(in crate::config) fn all(&self, key: &'static str) -> Vec<Entry<'a, 'r>> {
        self.ask(key);
        self.find(key)
    }

    /// The value of `key`; a second one in another file is a mistake.
    pub(in crate::config) fn get(&self, key: &'static str) -> Option<Entry<'a, 'r>> {
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
    pub(in crate::config) fn table(&self, key: &'static str) -> Option<Table<'a, 'r>> {
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
    pub(in crate::config) fn tables(&self, key: &'static str) -> Vec<Table<'a, 'r>> {
        self.all(key)
            .into_iter()
            .flat_map(|entry| entry.tables())
            .collect()
    }

    /// Every key with its value, in the order of the files; for tables whose keys are names.
    pub(in crate::config) fn entries(&self) -> Vec<Entry<'a, 'r>> {
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
        for at in (0..all.len()).rev() {
            // Reported below where the files only add.
            if self.join_of(all[at].key_at.file) != Join::Add
                && let Some(hidden) = all[..at].iter().position(|e| e.name == all[at].name)
            {
                let over = all.remove(at);
                all[hidden] = over;
            }
        }
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
    pub(in crate::config) fn later(&self, keys: &[&'static str]) {
        for key in keys {
            for entry in self.find(key) {
                self.reader.mistake(
                    entry.key_at,
                    &entry.path,
                    format!("`{key}` comes with a later release of watchfire"),
                    "",
                );
            }
            self.refused.borrow_mut().push(key);
        }
    }

    /// Refuses keys that make no sense here, with the reason.
    pub(in crate::config) fn refuse(&self, keys: &[&'static str], reason: &str, help: &str) {
        for key in keys {
            for entry in self.find(key) {
                self.reader
                    .mistake(entry.key_at, &entry.path, format!("`{key}` {reason}"), help);
            }
            self.refused.borrow_mut().push(key);
        }
    }

    /// Whether the key is there.
    pub(in crate::config) fn has(&self, key: &str) -> bool {
        self.parts.iter().any(|(_, table)| table.contains_key(key))
    }

    /// Reports every key that nobody asked for.
    pub(in crate::config) fn finish(&self) {
        let (asked, refused) = (self.asked.borrow(), self.refused.borrow());
        for (file, table) in &self.parts {
            for (key, _) in table.iter() {
                let name: &str = key.get_ref();
                if asked.contains(&name) || refused.contains(&name) {
                    continue;
                }
                let place = place(*file, key.span());
                let what = if self.path.is_empty() {
                    format!("unknown table or key `{name}`")
                } else {
                    format!("unknown key `{name}` in `{}`", self.path)
                };
                let help = match self.reader.near(name, asked.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None if self.path.is_empty() => {
                        format!("every key stands in a table: {}", asked.join(", "))
                    }
                    None => format!("known here: {}", asked.join(", ")),
                };
                self.reader
                    .mistake(place, &join(&self.path, name), what, help);
            }
        }
    }

    /// A mistake about this table: it lacks something.
    pub(in crate::config) fn missing(&self, key: &str, help: &str) {
        self.reader.absence(
            self.at,
            &join(&self.path, key),
            format!("`{}` lacks `{key}`", self.path),
            help,
        );
    }

    /// The path for people.
    pub(in crate::config) fn path(&self) -> &str {
        &self.path
    }

    /// Where mistakes go.
    pub(in crate::config) fn reader(&self) -> &'r Reader<'a> {
        self.reader
    }

    /// A string.
    pub(in crate::config) fn string(&self, key: &'static str) -> Option<At<String>> {
        self.get(key)?.string()
    }

    /// A duration above zero.
    pub(in crate::config) fn duration(&self, key: &'static str) -> Option<At<Duration>> {
        let found = self.get(key)?;
        let duration = found.duration()?;
        if duration.value.is_zero() {
            found.wrong("must be longer than zero", "write for example \"10s\"");
            return None;
        }
        Some(duration)
    }

    /// A duration, zero allowed.
    pub(in crate::config) fn duration_or_zero(&self, key: &'static str) -> Option<At<Duration>> {
        self.get(key)?.duration()
    }

    /// `true` or `false`.
    pub(in crate::config) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.get(key)?.boolean()
    }

    /// A whole number within bounds.
    pub(in crate::config) fn integer(
        &self,
        key: &'static str,
        min: i64,
        max: i64,
    ) -> Option<At<i64>> {
        self.get(key)?.integer(min, max)
    }

    /// A number within bounds.
    pub(in crate::config) fn number(&self, key: &'static str, min: f64, max: f64) -> Option<f64> {
        self.get(key)?.number(min, max)
    }

    /// A list of strings.
    pub(in crate::config) fn strings(&self, key: &'static str) -> Option<Vec<At<String>>> {
        self.get(key)?.strings(false)
    }

    /// A string or a list of strings.
    pub(in crate::config) fn one_or_many(&self, key: &'static str) -> Option<Vec<At<String>>> {
        self.get(key)?.strings(true)
    }

    /// A path, absolute or relative to the file it stands in.
    pub(in crate::config) fn path_of(&self, key: &'static str) -> Option<At<PathBuf>> {
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
        let mut found: Vec<Entry<'a, 'r>> = Vec::new();
        for (file, table) in &self.parts {
            let Some((name, value)) = table.get_key_value(key) else {
                continue;
            };
            let entry = self.entry(*file, name.get_ref(), name.span(), value, key);
            let hides = match self.join_of(*file) {
                Join::Add => false,
                Join::Over => !(entry.is_table() && found.iter().all(Entry::is_table)),
                Join::Replace => self.path.is_empty(),
            };
            if hides {
                found.clear();
            }
            found.push(entry);
        }
        found
    }

    fn join_of(&self, file: usize) -> Join {
        self.reader.joins.get(file).copied().unwrap_or_default()
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

fn place(file: usize, span: std::ops::Range<usize>) -> Place {
    Place {
        file,
        start: span.start,
        end: span.end,
    }
}
