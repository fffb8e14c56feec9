//! Configurations put together in layers: what rule tests run under.
//!
//! A test's configuration is a base that several tests share, or a whole configuration file, with the
//! test's own tables over it, and with those of each reload in the place of what ran before. The same
//! reader and the same checks as for the agent itself; places of mistakes are those in the files.

use super::disk::read_text;
use super::environment::Environment;
use super::file::{Draft, Files, Place, Role, SourceFile};
use super::finding::{Finding, Level};
use super::load::{findings, gather, only_main};
use super::model::{Config, Source};
use super::read::{Join, Reader};
use super::resolve::Simulated;
use super::{raw, resolve, syntax};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Bytes of one file at most: ten thousand tests take a third of it.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One text with its name: whoever parsed it hands its tables on as [`Layer`]s.
#[derive(Clone, Debug)]
pub struct Document(SourceFile);

/// Some tables of a document.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Where they stand.
    pub document: &'a Document,
    /// What is configured.
    pub table: &'a DeTable<'a>,
    /// How they join the layers before.
    pub join: Join,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub fn read(path: &Path) -> Result<Self, Box<Finding>> {
        Ok(Document(SourceFile {
            path: path.to_owned(),
            text: read_text(path, FILE_BYTES_MAX, "split it")?,
            role: Role::Include,
        }))
    }

    /// The texts of a whole configuration: the file at `path`, what it includes, the packs it names.
    ///
    /// # Errors
    /// All that keeps them from being read.
    pub fn read_configuration(path: PathBuf) -> Result<Vec<Self>, Vec<Finding>> {
        Ok(gather(path)?.into_iter().map(Document).collect())
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether a line begins such a table, the rest of the text being broken or not.
    pub fn mentions_table(&self, name: &str) -> bool {
        let header = |line: &str| {
            let line = line.trim_start().trim_start_matches('[').trim_start();
            line.strip_prefix(name)
                .is_some_and(|rest| rest.trim_start().starts_with([']', '.', '=']))
        };
        self.0.text.lines().any(header)
    }

    /// Its tables.
    ///
    /// # Errors
    /// Every place where it is no TOML.
    pub fn parse(&self) -> Result<DeTable<'_>, Vec<Finding>> {
        let (table, errors) = DeTable::parse_recoverable(&self.0.text);
        if errors.is_empty() {
            return Ok(table.into_inner());
        }
        let (_, errors) = syntax::sound(&self.0.text);
        let drafts = errors.iter();
        let drafts = drafts.map(|error| syntax::draft(&self.0.text, 0, error));
        let files = Files(vec![self.0.clone()]);
        Err(findings(
            &files,
            Level::Error,
            drafts.collect(),
            Vec::new(),
            false,
        ))
    }

    /// A mistake in it.
    pub fn mistake(&self, span: Range<usize>, key: &str, message: &str, help: &str) -> Finding {
        let draft = Draft {
            at: Place {
                file: 0,
                start: span.start,
                end: span.end,
            },
            key: key.to_owned(),
            message: message.to_owned(),
            help: (!help.is_empty()).then(|| help.to_owned()),
            absence: false,
        };
        Files(vec![self.0.clone()]).finding(Level::Error, draft)
    }

    /// Something doubtful in it.
    pub fn doubt(&self, span: Range<usize>, key: &str, message: &str, help: &str) -> Finding {
        Finding {
            level: Level::Warning,
            ..self.mistake(span, key, message, help)
        }
    }
}

/// One configuration out of layers, for a rule test: notifiers that are only named are there. With
/// `reloaded` a rule that somebody else names may be gone.
///
/// # Errors
/// Every mistake.
pub fn from_layers(
    layers: &[Layer<'_>],
    reloaded: bool,
    environment: &Environment,
) -> Result<Config, Vec<Finding>> {
    let files = layers.iter().map(|layer| layer.document.0.clone());
    let files = Files(files.collect());
    let joins = layers.iter().map(|layer| layer.join).collect();
    let reader = Reader::new(&files).of_test(joins);
    for (index, layer) in layers.iter().enumerate() {
        if layer.document.0.role == Role::Include {
            only_main(&reader, index, layer.table);
        }
    }
    let parts = layers.iter().map(|layer| layer.table).enumerate().collect();
    let raw = raw::read(&reader.root(parts));
    let simulated = Simulated { dangling: reloaded };
    let config = resolve::resolve(
        &raw,
        &reader,
        environment,
        Source::default(),
        Some(simulated),
    );
    let mistakes = findings(
        &files,
        Level::Error,
        Vec::new(),
        reader.into_drafts(),
        false,
    );
    if mistakes.is_empty() {
        Ok(config)
    } else {
        Err(mistakes)
    }
}
