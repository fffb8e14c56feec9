//! Finds, reads, joins: from a path, or from the texts of the last good configuration, to a
//! [`Config`] or to every mistake in it.

use super::disk::{not_blank, read_file};
use super::environment::Environment;
use super::file::{At, Draft, Files, Role, SourceFile};
use super::finding::{Finding, Level};
use super::include;
use super::lock::{self, LOCK_FILE, Lock};
use super::model::{Config, Source};
use super::places::Places;
use super::read::{MISTAKES_MAX, Reader, nearest};
use super::{raw, resolve, syntax, warn};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;

/// What runs without any file.
const BUILT_IN: &str = include_str!("../../../config/builtin.toml");

/// The rule packs inside the binary: every file of `config/rules`.
const PACKS: &[(&str, &str)] = &[
    ("host", include_str!("../../../config/rules/host.toml")),
    (
        "service-levels",
        include_str!("../../../config/rules/service-levels.toml"),
    ),
    (
        "web-api",
        include_str!("../../../config/rules/web-api.toml"),
    ),
    ("queue", include_str!("../../../config/rules/queue.toml")),
    (
        "database",
        include_str!("../../../config/rules/database.toml"),
    ),
    (
        "realtime",
        include_str!("../../../config/rules/realtime.toml"),
    ),
    (
        "payments",
        include_str!("../../../config/rules/payments.toml"),
    ),
];

/// A configuration that holds, and what is doubtful about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the order of the files.
    pub warnings: Vec<Finding>,
    /// Where its tables stand.
    pub places: Places,
}

/// A configuration that does not hold.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", summary(.mistakes))]
pub struct Rejected {
    /// All of them, at least one, in the order of the files.
    pub mistakes: Vec<Finding>,
    /// Every file that was read or should have been: what to watch for the correction.
    pub files: Vec<PathBuf>,
}

/// The first mistake with its place, and how many more there are: one line for a log or an alert.
pub fn summary(mistakes: &[Finding]) -> String {
    match mistakes {
        [] => "the configuration was refused".to_owned(),
        [only] => only.in_one_line(),
        [first, rest @ ..] => format!("{} (and {} more)", first.in_one_line(), rest.len()),
    }
}

/// Loads the configuration at `path`, or where none is given the first that exists of
/// [`Environment::configuration_files`], or the one inside the binary.
pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Loaded, Rejected> {
    let main = match path {
        Some(path) => Some(environment.cwd.join(path)),
        None => environment
            .configuration_files()
            .into_iter()
            .find(|file| file.exists()),
    };
    match main {
        Some(main) => Joined::of(main)?.with_lock().resolve(environment),
        None => from_texts(&[], environment),
    }
}

/// The texts of a configuration: the file at `path`, what it includes, the packs that it names.
pub(super) fn gather(path: PathBuf) -> Result<Vec<SourceFile>, Vec<Finding>> {
    let joined = Joined::of(path).map_err(|rejected| rejected.mistakes)?;
    let mut mistakes = joined.findings;
    mistakes.extend(findings(
        &joined.files,
        Level::Error,
        Vec::new(),
        joined.drafts,
        false,
    ));
    if mistakes.is_empty() {
        Ok(joined.files.0)
    } else {
        Err(mistakes)
    }
}

/// The data folder that a configuration which does not hold would have used, so that the last good one
/// in it can be found: what can still be read of `[agent] data_dir`, else the default.
pub fn data_dir_of_broken(path: Option<&Path>, environment: &Environment) -> PathBuf {
    let main = match path {
        Some(path) => Some(environment.cwd.join(path)),
        None => environment
            .configuration_files()
            .into_iter()
            .find(|file| file.exists()),
    };
    let said = main.and_then(|main| {
        let text = read_file(&main).ok()?;
        let (table, _) = DeTable::parse_recoverable(&text);
        let agent = table.get_ref().get("agent")?.get_ref().as_table()?;
        let data_dir = agent.get("data_dir")?.get_ref().as_str()?;
        Some(main.parent()?.join(data_dir))
    });
    environment
        .data_dir_override
        .clone()
        .or(said)
        .unwrap_or_else(|| environment.data_dir())
}

/// Loads from texts as [`Source::texts`] holds them, the main one first; without any: the one
/// inside the binary. Includes are not followed: what they named stands among the texts.
pub fn from_texts(
    texts: &[(PathBuf, Arc<str>)],
    environment: &Environment,
) -> Result<Loaded, Rejected> {
    let mut files = texts
        .iter()
        .enumerate()
        .map(|(index, (path, text))| SourceFile {
            path: path.clone(),
            text: text.clone(),
            role: match path.file_name() {
                _ if index == 0 => Role::Main,
                Some(name) if name == LOCK_FILE => Role::Lock,
                _ => Role::Include,
            },
        });
    let main = files.next().unwrap_or_else(|| SourceFile {
        path: "<built in>".into(),
        text: BUILT_IN.into(),
        role: Role::Main,
    });
    let mut joined = Joined::new(main);
    joined.built_in = texts.is_empty();
    joined.files.0.extend(files);
    joined.packs();
    joined.resolve(environment)
}

/// Texts on their way to one configuration.
struct Joined {
    files: Files,
    /// Found before reading begins, with a place in the main file.
    drafts: Vec<Draft>,
    /// Found about whole files.
    findings: Vec<Finding>,
    /// What the main file asks for.
    wanted: Wanted,
    watch: Vec<PathBuf>,
    missing: Vec<PathBuf>,
    built_in: bool,
}

/// `include` and `packs` of `[agent]`.
#[derive(Default)]
struct Wanted {
    include: Vec<At<String>>,
    packs: Vec<At<String>>,
}

impl Joined {
    /// Reads a main file and everything that it asks for.
    fn of(main: PathBuf) -> Result<Self, Rejected> {
        let text = read_file(&main)
            .and_then(|text| not_blank(&main, text))
            .map_err(|finding| Rejected {
                mistakes: vec![*finding],
                files: vec![main.clone()],
            })?;
        let mut joined = Joined::new(SourceFile {
            path: main,
            text,
            role: Role::Main,
        });
        joined.include();
        joined.packs();
        Ok(joined)
    }

    /// Takes in the lock that lies beside the main file, if any.
    fn with_lock(mut self) -> Self {
        let path = Lock::beside(&self.files.0[0].path);
        // A link to nowhere is no missing file: without its lock everything would run.
        if std::fs::symlink_metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            return self;
        }
        match read_file(&path) {
            Ok(text) => self.files.0.push(SourceFile {
                path,
                text,
                role: Role::Lock,
            }),
            Err(finding) => {
                self.findings.push(*finding);
                self.missing.push(path);
            }
        }
        self
    }

    fn new(main: SourceFile) -> Self {
        let watch = vec![main.folder().to_owned()];
        let files = Files(vec![main]);
        let wanted = wanted(&files);
        Joined {
            files,
            drafts: Vec::new(),
            findings: Vec::new(),
            wanted,
            watch,
            missing: Vec::new(),
            built_in: false,
        }
    }

    /// Takes in every file that the main one includes.
    fn include(&mut self) {
        let folder = self.files.0[0].folder().to_owned();
        for pattern in &self.wanted.include {
            let found = match include::expand(&folder, &pattern.value) {
                Ok(found) => found,
                Err(error) => {
                    self.drafts.push(Draft {
                        at: pattern.at,
                        key: "agent.include".to_owned(),
                        message: format!("{:?} {error}", pattern.value),
                        help: Some(error.help().to_owned()),
                        absence: false,
                    });
                    continue;
                }
            };
            if !self.watch.contains(&found.folder) {
                self.watch.push(found.folder);
            }
            for path in found.files {
                if self.files.0.iter().any(|file| file.path == path) {
                    continue;
                }
                match read_file(&path) {
                    Ok(text) => self.files.0.push(SourceFile {
                        path,
                        text,
                        role: Role::Include,
                    }),
                    Err(finding) => {
                        match path.exists() {
                            true => self.findings.push(*finding),
                            // Only the line that names it can be corrected.
                            false => self.drafts.push(names_nothing(pattern)),
                        }
                        self.missing.push(path);
                    }
                }
            }
        }
    }

    /// Takes in every pack that the main file names.
    fn packs(&mut self) {
        for name in &self.wanted.packs {
            match PACKS.iter().find(|(pack, _)| *pack == name.value) {
                Some((pack, text)) => {
                    let path = PathBuf::from(format!("<pack {pack}>"));
                    if self.files.0.iter().all(|file| file.path != path) {
                        self.files.0.push(SourceFile {
                            path,
                            text: (*text).into(),
                            role: Role::Pack,
                        });
                    }
                }
                None => {
                    let names: Vec<&str> = PACKS.iter().map(|(pack, _)| *pack).collect();
                    self.drafts.push(Draft {
                        at: name.at,
                        key: "agent.packs".to_owned(),
                        message: format!("no pack is called {:?}", name.value),
                        help: Some(match nearest(&name.value, names.iter().copied()) {
                            Some(meant) => format!("did you mean {meant:?}?"),
                            None => format!("there are {}", names.join(", ")),
                        }),
                        absence: false,
                    });
                }
            }
        }
    }

    fn resolve(mut self, environment: &Environment) -> Result<Loaded, Rejected> {
        let files = &self.files;
        let mut syntax: Vec<Draft> = Vec::new();
        let sound: Vec<Cow<'_, str>> = files
            .0
            .iter()
            .enumerate()
            .map(|(index, file)| {
                let (text, errors) = syntax::sound(&file.text);
                syntax.extend(
                    errors
                        .iter()
                        .map(|error| syntax::draft(&file.text, index, error)),
                );
                text
            })
            .collect();
        let parsed: Vec<_> = sound
            .iter()
            .map(|text| DeTable::parse_recoverable(text).0)
            .collect();
        let reader = Reader::new(files);
        for (index, file) in files.0.iter().enumerate() {
            if file.role == Role::Include {
                only_main(&reader, index, parsed[index].get_ref());
            }
        }
        let is_lock = |index: usize| files.0[index].role == Role::Lock;
        let tables = parsed.iter().map(|table| table.get_ref()).enumerate();
        let parts = tables.filter(|(index, _)| !is_lock(*index)).collect();
        let raw = raw::read(&reader.root(parts));
        let mut config = resolve::resolve(&raw, &reader, environment, self.source(), None);
        if let Some(index) = (0..files.0.len()).find(|index| is_lock(*index)) {
            let table = parsed[index].get_ref();
            let lock = lock::read(&reader, &files.0[index], index, table);
            config.lock = Some(Arc::new(lock));
        }
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.extend(reader.into_drafts());
        let mut mistakes = std::mem::take(&mut self.findings);
        let unread = !mistakes.is_empty();
        mistakes.extend(findings(files, Level::Error, syntax, drafts, unread));
        if mistakes.is_empty() {
            let reader = Reader::new(files);
            warn::warn(&config, &raw, &reader);
            let warnings = findings(
                files,
                Level::Warning,
                Vec::new(),
                reader.into_drafts(),
                false,
            );
            let places = Places::new(files, &raw);
            return Ok(Loaded {
                config,
                warnings,
                places,
            });
        }
        let mut read = self.source().files;
        read.extend(self.missing);
        Err(Rejected {
            mistakes,
            files: read,
        })
    }

    fn source(&self) -> Source {
        let own = || {
            self.files
                .0
                .iter()
                .filter(|file| file.role != Role::Pack && !self.built_in)
        };
        let mut hash = Sha256::new();
        for file in &self.files.0 {
            // Lengths go in too, so that no two sets of files give the same bytes.
            let path = file.path.as_os_str().as_encoded_bytes();
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path);
            hash.update((file.text.len() as u64).to_le_bytes());
            hash.update(file.text.as_bytes());
        }
        Source {
            main: own().next().map(|file| file.path.clone()),
            files: own().map(|file| file.path.clone()).collect(),
            watch: if self.built_in {
                Vec::new()
            } else {
                self.watch.clone()
            },
            digest: hash.finalize().into(),
            texts: own()
                .map(|file| (file.path.clone(), file.text.clone()))
                .collect(),
        }
    }
}

/// What the main file asks for; mistakes in it are found again, and reported, when all is read.
fn wanted(files: &Files) -> Wanted {
    let (table, _) = DeTable::parse_recoverable(&files.0[0].text);
    let reader = Reader::new(files);
    let root = reader.root(vec![(0, table.get_ref())]);
    match root.table("agent") {
        Some(agent) => Wanted {
            include: agent.strings("include").unwrap_or_default(),
            packs: agent.strings("packs").unwrap_or_default(),
        },
        None => Wanted::default(),
    }
}

/// `include` and `packs` have no effect in an included file, so they must not stand there.
pub(super) fn only_main<'a>(reader: &Reader<'a>, index: usize, table: &'a DeTable<'a>) {
    let Some(toml::de::DeValue::Table(agent)) = table.get("agent").map(|agent| agent.get_ref())
    else {
        return;
    };
    reader.root(vec![(index, agent)]).refuse(
        &["include", "packs"],
        "can only stand in the main file",
        "move it there",
    );
}

/// Drafts as findings, in order. Where syntax is broken, what follows from it is left out: a second
/// error of the same line, and everything that says that something is not there.
pub(super) fn findings(
    files: &Files,
    level: Level,
    mut syntax: Vec<Draft>,
    mut drafts: Vec<Draft>,
    unread: bool,
) -> Vec<Finding> {
    let broken = !syntax.is_empty() || unread;
    if broken {
        drafts.retain(|draft| !draft.absence);
    }
    syntax.sort_by_key(|draft| draft.at);
    syntax.truncate(MISTAKES_MAX);
    let mut all: Vec<(super::file::Place, Finding)> = Vec::new();
    for draft in syntax {
        let at = draft.at;
        let finding = files.finding(level, draft);
        if all
            .iter()
            .all(|(_, f)| (f.line, &f.file) != (finding.line, &finding.file))
        {
            all.push((at, finding));
        }
    }
    let syntax_errors = all.len();
    drafts.sort_by_key(|draft| draft.at);
    drafts.truncate(MISTAKES_MAX);
    for draft in drafts {
        let at = draft.at;
        let finding = files.finding(level, draft);
        let echo = all[..syntax_errors]
            .iter()
            .any(|(_, error)| (error.line, &error.file) == (finding.line, &finding.file));
        if !echo && all.last().is_none_or(|(_, last)| *last != finding) {
            all.push((at, finding));
        }
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, finding)| finding).collect()
}

/// An include, without a wildcard, of a file that there is not.
fn names_nothing(include: &At<String>) -> Draft {
    Draft {
        at: include.at,
        key: "agent.include".to_owned(),
        message: format!("{:?} names a file that does not exist", include.value),
        help: Some(
            "correct the path, which starts at the folder of this file; a pattern such as \"conf.d/*.toml\" may name none"
                .to_owned(),
        ),
        absence: false,
    }
}
