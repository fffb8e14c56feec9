//! From paths to cases: test files found, read, and each test's configurations resolved.

use super::components::Rules;
use super::library::Library;
use crate::config::{Config, Document, Environment, Finding, Join, Layer, from_layers};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;
use watchfire_engine::model::ProbeId;
use watchfire_simulate::{Setup, Test, TestFile};

/// Folders within folders that are searched for tests. A link that leads back must not hang the search.
const DEPTH_MAX: usize = 32;

/// Texts of test files and of the configurations that they name.
#[derive(Debug, Default)]
pub struct Sources {
    /// Test files, in the order of the paths.
    tests: Vec<Document>,
    /// What `base` and `config_file` name: the files that make it up.
    configurations: BTreeMap<PathBuf, Vec<Document>>,
    /// What could not be read.
    pub mistakes: Vec<Finding>,
}

/// All tests, ready to be prepared.
#[derive(Debug)]
pub struct Cases<'s> {
    configurations: BTreeMap<&'s Path, Vec<(&'s Document, DeTable<'s>)>>,
    environment: Environment,
}

/// One test and where it stands.
#[derive(Clone, Debug)]
pub struct Case<'s> {
    /// Its file.
    pub document: &'s Document,
    /// The test.
    pub test: Test<'s>,
    base: Option<PathBuf>,
    config_file: Option<PathBuf>,
}

/// One configuration of a test, with its rules ready to be called.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) setup: Setup,
    pub(super) rules: Rules,
}

/// A test file, parsed.
#[derive(Debug)]
pub struct ParsedFile<'s> {
    document: &'s Document,
    table: DeTable<'s>,
}

impl Sources {
    /// Reads the files at `paths`; of a folder every `*.toml` with tests, those of its folders too.
    pub fn read(paths: &[PathBuf]) -> Self {
        let mut sources = Sources::default();
        for path in paths {
            if path.is_dir() {
                let mut files = Vec::new();
                walk(path, 0, &mut files);
                for file in files {
                    sources.add(&file, true);
                }
            } else {
                sources.add(path, false);
            }
        }
        sources.follow();
        sources
    }

    fn add(&mut self, path: &Path, only_with_tests: bool) {
        if self.tests.iter().any(|document| document.path() == path) {
            return;
        }
        match Document::read(path) {
            // Others of the folder may be anything: a broken file is one with tests if a line says so.
            Ok(document) if only_with_tests && !document.mentions_table("test") => {}
            Ok(document) => self.tests.push(document),
            Err(finding) => self.mistakes.push(*finding),
        }
    }

    /// Reads what the test files name.
    fn follow(&mut self) {
        let mut named: Vec<(PathBuf, bool)> = Vec::new();
        for document in &self.tests {
            // Mistakes are reported when the cases are made.
            let Ok(table) = document.parse() else {
                continue;
            };
            let Ok(file) = watchfire_simulate::read(&table) else {
                continue;
            };
            let own = file
                .tests
                .iter()
                .filter_map(|test| test.config_file.as_ref());
            let config_files = own.chain(&file.config_file).map(|name| (name, true));
            for (name, whole) in config_files.chain(file.base.iter().map(|base| (base, false))) {
                let path = beside(document.path(), name.get_ref());
                if named.iter().all(|(known, _)| *known != path) {
                    named.push((path, whole));
                }
            }
        }
        for (path, whole) in named {
            let read = if whole {
                Document::read_configuration(path.clone())
            } else {
                let document = Document::read(&path);
                document
                    .map(|document| vec![document])
                    .map_err(|f| vec![*f])
            };
            match read {
                Ok(documents) => {
                    self.configurations.insert(path, documents);
                }
                Err(findings) => self.mistakes.extend(findings),
            }
        }
    }

    /// Parses everything; what is no TOML is added to `mistakes`.
    pub fn parse(&self, mistakes: &mut Vec<Finding>) -> (Vec<ParsedFile<'_>>, Cases<'_>) {
        let mut parse = |document| match Document::parse(document) {
            Ok(table) => Some((document, table)),
            Err(findings) => {
                mistakes.extend(findings);
                None
            }
        };
        let files = self.tests.iter().filter_map(&mut parse);
        let files = files
            .map(|(document, table)| ParsedFile { document, table })
            .collect();
        let configurations = self.configurations.iter();
        let configurations = configurations
            .map(|(path, documents)| {
                (
                    path.as_path(),
                    documents.iter().filter_map(&mut parse).collect(),
                )
            })
            .collect();
        let cases = Cases {
            configurations,
            environment: environment(),
        };
        (files, cases)
    }
}

impl<'s> ParsedFile<'s> {
    /// Its tests; mistakes in it are added to `mistakes`, and it then has none.
    pub fn cases(&'s self, mistakes: &mut Vec<Finding>) -> Vec<Case<'s>> {
        let file: TestFile<'s> = match watchfire_simulate::read(&self.table) {
            Ok(file) => file,
            Err(found) => {
                mistakes.extend(found.into_iter().map(|mistake| {
                    self.document.mistake(
                        mistake.span,
                        &mistake.key,
                        &mistake.message,
                        &mistake.help,
                    )
                }));
                return Vec::new();
            }
        };
        let path = |name: &toml::Spanned<String>| beside(self.document.path(), name.get_ref());
        let base = file.base.as_ref().map(path);
        let config_file = file.config_file.as_ref().map(path);
        let tests = file.tests.into_iter();
        tests
            .map(|test| Case {
                document: self.document,
                base: base.clone(),
                config_file: test.config_file.as_ref().map(path).or(config_file.clone()),
                test,
            })
            .collect()
    }
}

impl Cases<'_> {
    /// A test's configurations, with their rules ready to be called by the thread `worker`.
    ///
    /// # Errors
    /// Every mistake in them.
    pub(super) async fn prepare(
        &self,
        case: &Case<'_>,
        library: &Library,
        worker: usize,
    ) -> Result<Vec<Prepared>, Vec<Finding>> {
        let mut layers: Vec<Layer<'_>> = Vec::new();
        for (path, join) in [(&case.base, Join::Add), (&case.config_file, Join::Over)] {
            let Some(path) = path else { continue };
            // What could not be read or parsed is reported already.
            let parts = self.configurations.get(path.as_path());
            let parts = parts.ok_or_else(Vec::new)?;
            for (number, (document, table)) in parts.iter().enumerate() {
                layers.push(Layer {
                    document,
                    table,
                    join: if number == 0 { join } else { Join::Add },
                });
            }
        }
        layers.extend(case.test.config.map(|table| Layer {
            document: case.document,
            table,
            join: Join::Over,
        }));
        let mut prepared = vec![self.one(case, &layers, false, (library, worker)).await?];
        for table in case.test.reloads() {
            layers.push(Layer {
                document: case.document,
                table,
                join: Join::Replace,
            });
            prepared.push(self.one(case, &layers, true, (library, worker)).await?);
        }
        Ok(prepared)
    }

    async fn one(
        &self,
        case: &Case<'_>,
        layers: &[Layer<'_>],
        reloaded: bool,
        (library, worker): (&Library, usize),
    ) -> Result<Prepared, Vec<Finding>> {
        let config = from_layers(layers, reloaded, &self.environment)?;
        let mut rules = Rules::new();
        let mut mistakes = Vec::new();
        for rule in &config.rules {
            match library.live(&config, rule, worker).await {
                Ok(live) => rules.extend(live),
                Err(reason) => {
                    let message = format!("rule {:?}: {reason}", rule.id.as_str());
                    let layer = layers.iter().find_map(|layer| {
                        let span = table_of(layer.table, rule.id.as_str())?;
                        Some((layer.document, span))
                    });
                    let (document, span) = layer.unwrap_or((case.document, case.test.span.clone()));
                    mistakes.push(document.mistake(span, "rule", &message, ""));
                }
            }
        }
        if mistakes.is_empty() {
            let samples = case.test.samples.iter();
            let metrics = samples.map(|samples| &*samples.series.metric).collect();
            Ok(Prepared {
                setup: setup(&config, &metrics),
                rules,
            })
        } else {
            Err(mistakes)
        }
    }
}

/// Where `id = "…"` of that rule stands.
fn table_of(table: &DeTable<'_>, id: &str) -> Option<std::ops::Range<usize>> {
    let rules = table.get("rule")?.get_ref().as_array()?;
    rules.iter().find_map(|rule| {
        let value = rule.get_ref().get("id")?;
        (value.get_ref().as_str() == Some(id)).then(|| value.span())
    })
}

/// What the simulation needs of a configuration. Each of `metrics` comes from a probe of that name.
pub(super) fn setup(config: &Config, metrics: &BTreeSet<&str>) -> Setup {
    let mut policy = (*config.policy).clone();
    for (rule, policy) in config.rules.iter().zip(&mut policy.rules) {
        // In the agent it is a guess which probe yields what a rule reads; here it is known.
        let read = rule.inputs.iter().map(|input| &*input.metric);
        let read: BTreeSet<&str> = read.filter(|metric| metrics.contains(metric)).collect();
        policy.probes = read.into_iter().map(ProbeId::new).collect();
    }
    Setup {
        policy: Arc::new(policy),
        every: config.defaults.every,
        adaptive: config.defaults.adaptive,
    }
}

/// Surroundings that are the same on every machine: a test must not depend on who runs it.
fn environment() -> Environment {
    Environment {
        cwd: PathBuf::from("/"),
        hostname: "test".to_owned(),
        ..Environment::default()
    }
}

/// A path that is relative to a file.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

/// Every `*.toml` below a folder, by name.
fn walk(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth < DEPTH_MAX {
                walk(&path, depth + 1, into);
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            into.push(path);
        }
    }
}
