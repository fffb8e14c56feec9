//! Secrets: where they come from, where they may go, and how they stay out of every text.
//!
//! A guest sees `{{secret:name}}` and nothing else. The value is put in where a request leaves the host, after the
//! operator's binding (`secrets = { slack = "hooks.slack.com" }`) was held against the destination. A value is read
//! at each use, so a rotated file counts at once; every value ever read stays known to the [`Mask`], which replaces
//! it in whatever is logged or answered.

mod mask;

pub use mask::Mask;

use super::egress::GrantError;
use super::egress::grant::{Host, Target, unix_path};
use super::grants::SecretGrant;
use super::types::{CallError, SecretSource};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the file of a secret: a key file fits, a wrong path to a log does not fill the memory.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What opens a place for a secret.
const OPEN: &[u8] = b"{{secret:";
/// What closes it.
const CLOSE: &[u8] = b"}}";
/// All secrets of the configuration.
pub struct Secrets {
    sources: ArcSwap<BTreeMap<String, SecretSource>>,
    mask: Mask,
}

/// The secrets granted to one use.
pub struct UseSecrets {
    id: Arc<str>,
    secrets: Arc<Secrets>,
    bound: BTreeMap<String, Bound>,
}

/// A text with its secrets filled in. Without `Debug`, so that it cannot be printed by accident.
pub struct Filled {
    /// What goes out.
    pub bytes: Vec<u8>,
    /// The secrets in it, to be held against the destination.
    pub names: Vec<String>,
}

/// A secret that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nobody wrote it down.
    #[error(
        "the secret \"{0}\" is not defined: add `{0} = {{ env = \"NAME\" }}` or `{{ file = \"/path\" }}` to [secrets]"
    )]
    Unknown(String),
    /// The variable is not set, or not UTF-8.
    #[error(
        "the secret \"{name}\" is to come from the environment variable {variable}, which is not set"
    )]
    NoVariable {
        /// Of the secret.
        name: String,
        /// Of the environment.
        variable: String,
    },
    /// The file cannot be read.
    #[error("the secret \"{name}\" cannot be read from {path}: {reason}")]
    NoFile {
        /// Of the secret.
        name: String,
        /// Of the file.
        path: String,
        /// Why.
        reason: String,
    },
    /// An empty value would silently send nothing.
    #[error("the secret \"{0}\" is empty")]
    Empty(String),
}

#[derive(Debug)]
struct Bound {
    to: Place,
    /// As the operator wrote it.
    written: String,
    reveal: bool,
}

#[derive(Debug, PartialEq)]
enum Place {
    Host { host: Host, port: Option<u16> },
    Unix(String),
}

impl Secrets {
    /// Takes the table `[secrets]`. Values that can be read now are known to the mask from the start, so that not
    /// even a guest that guessed one sees it printed; the others are told when they are used.
    pub fn new(sources: BTreeMap<String, SecretSource>) -> Self {
        let secrets = Secrets {
            sources: ArcSwap::default(),
            mask: Mask::default(),
        };
        secrets.replace(sources);
        secrets
    }

    /// Takes the table of a new configuration, and reads its files for the mask. Values of the old one stay masked.
    pub fn replace(&self, sources: BTreeMap<String, SecretSource>) {
        for (name, source) in &sources {
            if let Ok(value) = read(name, source) {
                self.mask.learn(&value);
            }
        }
        self.sources.store(Arc::new(sources));
    }

    /// The mask that knows every value read so far.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Reads a secret now.
    pub async fn value(&self, name: &str) -> Result<String, SecretError> {
        let source = self.sources.load().get(name).cloned();
        let source = source.ok_or_else(|| SecretError::Unknown(name.to_owned()))?;
        let owned = name.to_owned();
        let value = match source {
            SecretSource::Env(_) => read(name, &source)?,
            // A file may lie on a slow mount: never on a worker of the runtime.
            SecretSource::File(_) => tokio::task::spawn_blocking(move || read(&owned, &source))
                .await
                .unwrap_or_else(|_| Err(SecretError::Empty(name.to_owned())))?,
        };
        self.mask.learn(&value);
        Ok(value)
    }

    /// Fills in a text of the operator's own (`[mail]`, `[push]`): bound to nothing, because the operator wrote down
    /// text and destination together. Never for a text that a guest had a hand in.
    pub async fn fill_operators(&self, text: &str) -> Result<String, SecretError> {
        let mut out = Vec::with_capacity(text.len());
        for part in parts(text.as_bytes()) {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Secret(name) => out.extend_from_slice(self.value(name).await?.as_bytes()),
            }
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

fn read(name: &str, source: &SecretSource) -> Result<String, SecretError> {
    let value = match source {
        SecretSource::Env(variable) => {
            std::env::var(variable).map_err(|_| SecretError::NoVariable {
                name: name.to_owned(),
                variable: variable.clone(),
            })?
        }
        SecretSource::File(path) => read_file(path).map_err(|reason| SecretError::NoFile {
            name: name.to_owned(),
            path: path.display().to_string(),
            reason,
        })?,
    };
    if value.is_empty() {
        return Err(SecretError::Empty(name.to_owned()));
    }
    Ok(value)
}

fn read_file(path: &Path) -> Result<String, String> {
    let found = std::fs::metadata(path).map_err(|e| e.to_string())?;
    // A pipe would hang for ever.
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if found.len() > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    let mut text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

impl UseSecrets {
    /// Parses the bindings of a `grant` table; all mistakes at once.
    pub fn new(
        id: Arc<str>,
        secrets: Arc<Secrets>,
        granted: &BTreeMap<String, SecretGrant>,
    ) -> Result<Self, Vec<GrantError>> {
        let bound = parse_bindings(granted)?;
        Ok(UseSecrets { id, secrets, bound })
    }

    /// The mask for texts of this use.
    pub fn mask(&self) -> &Mask {
        &self.secrets.mask
    }

    /// All secrets, for texts of the operator's own.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Fills in a text whose destination is known: refuses before a value is read.
    pub async fn fill(&self, text: &[u8], to: &Target) -> Result<Filled, CallError> {
        for part in parts(text) {
            if let Part::Secret(name) = part {
                self.check(name, to)?;
            }
        }
        self.fill_unchecked(text).await
    }

    /// Fills in a text that says itself where it goes (a URL). The caller must [`check`](Self::check) every name
    /// against what came out before a byte, or a question to a resolver, leaves the host.
    pub async fn fill_unchecked(&self, text: &[u8]) -> Result<Filled, CallError> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut names = Vec::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text),
                Part::Secret(name) => {
                    self.bound(name, None)?;
                    // What is put in is not looked at again: a value that holds a place for another stays as it is.
                    bytes.extend_from_slice(self.value(name).await?.as_bytes());
                    names.push(name.to_owned());
                }
            }
        }
        Ok(Filled { bytes, names })
    }

    /// Whether a secret may go there.
    pub fn check(&self, name: &str, to: &Target) -> Result<(), CallError> {
        let bound = self.bound(name, Some(to))?;
        let fits = match (&bound.to, to) {
            (
                Place::Host { host, port },
                Target::Http {
                    host: h, port: p, ..
                }
                | Target::Tcp { host: h, port: p },
            ) => host == h && port.is_none_or(|port| port == *p),
            (Place::Unix(path), Target::Unix(to)) => path == to,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let written = &bound.written;
        Err(self.denied(
            &format!("the secret \"{name}\" is bound to {written} and may not go to {to}"),
            name,
            to,
        ))
    }

    /// The value itself, for a protocol that computes with it; needs `reveal = true`.
    pub async fn reveal(&self, name: &str) -> Result<String, CallError> {
        if !is_name(name) {
            return Err(CallError::Config(format!(
                "{name:?} is no name of a secret"
            )));
        }
        let to = match self.bound.get(name) {
            Some(bound) if bound.reveal => return self.value(name).await,
            Some(bound) => bound.written.as_str(),
            None => "HOST:PORT",
        };
        let id = &self.id;
        Err(CallError::Denied(format!(
            "the secret \"{name}\" may not be revealed to the plugin; \
             add `secrets = {{ {name} = {{ to = \"{to}\", reveal = true }} }}` to the grant of \"{id}\""
        )))
    }

    fn bound(&self, name: &str, to: Option<&Target>) -> Result<&Bound, CallError> {
        self.bound.get(name).ok_or_else(|| {
            let why = format!("the secret \"{name}\" is not granted");
            match to {
                Some(to) => self.denied(&why, name, to),
                None => CallError::Denied(format!(
                    "{why}; add `secrets = {{ {name} = \"HOST\" }}` to the grant of \"{}\"",
                    self.id
                )),
            }
        })
    }

    fn denied(&self, why: &str, name: &str, to: &Target) -> CallError {
        let place = match to {
            Target::Http { host, port, .. } | Target::Tcp { host, port } => {
                format!("{host}:{port}")
            }
            Target::Unix(_) => to.to_string(),
        };
        let id = &self.id;
        let text =
            format!("{why}; add `secrets = {{ {name} = \"{place}\" }}` to the grant of \"{id}\"");
        // The destination may hold a value that was just filled in.
        CallError::Denied(self.mask().apply(&text).into_owned())
    }

    async fn value(&self, name: &str) -> Result<String, CallError> {
        self.secrets
            .value(name)
            .await
            .map_err(|e| CallError::Config(e.to_string()))
    }
}

/// Parses the bindings alone, for `watchfire check`.
pub fn check_bindings(granted: &BTreeMap<String, SecretGrant>) -> Result<(), Vec<GrantError>> {
    parse_bindings(granted).map(drop)
}

fn parse_bindings(
    granted: &BTreeMap<String, SecretGrant>,
) -> Result<BTreeMap<String, Bound>, Vec<GrantError>> {
    let mut wrong = Vec::new();
    let mut bound = BTreeMap::new();
    for (name, grant) in granted {
        match place(&grant.to) {
            Ok(to) => {
                let reveal = grant.reveal;
                let written = grant.to.clone();
                bound.insert(
                    name.clone(),
                    Bound {
                        to,
                        written,
                        reveal,
                    },
                );
            }
            Err(problem) => wrong.push(GrantError {
                key: format!("secrets.{name}"),
                line: grant.to.clone(),
                problem,
            }),
        }
    }
    if wrong.is_empty() {
        Ok(bound)
    } else {
        Err(wrong)
    }
}

fn place(text: &str) -> Result<Place, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Place::Unix);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or(rest);
        return Err(format!(
            "has a scheme: a secret is bound to a host, write \"{host}\""
        ));
    }
    if text.contains('*') {
        return Err("has a `*`: a secret is bound to one host, write its name".to_owned());
    }
    // Tried first: the colons of a bare IPv6 address are no port.
    if let Some(host) = Host::parse(text) {
        return Ok(Place::Host { host, port: None });
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    match (Host::parse(host), port.parse::<u16>()) {
        (Some(host), Ok(port)) if port != 0 => Ok(Place::Host {
            host,
            port: Some(port),
        }),
        _ => Err("names no host: write \"hooks.slack.com\" or \"127.0.0.1:5432\"".to_owned()),
    }
}

enum Part<'a> {
    Text(&'a [u8]),
    Secret(&'a str),
}

/// Splits at `{{secret:name}}`; what only looks like one stays text.
fn parts(mut rest: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut waiting = None;
    std::iter::from_fn(move || {
        if let Some(name) = waiting.take() {
            return Some(Part::Secret(name));
        }
        let mut from = 0;
        while let Some(at) = find(&rest[from..], OPEN).map(|at| from + at) {
            let inside = &rest[at + OPEN.len()..];
            let name = find(inside, CLOSE).and_then(|end| std::str::from_utf8(&inside[..end]).ok());
            match name {
                Some(name) if is_name(name) => {
                    let before = &rest[..at];
                    rest = &inside[name.len() + CLOSE.len()..];
                    if before.is_empty() {
                        return Some(Part::Secret(name));
                    }
                    waiting = Some(name);
                    return Some(Part::Text(before));
                }
                _ => from = at + OPEN.len(),
            }
        }
        let last = std::mem::take(&mut rest);
        (!last.is_empty()).then_some(Part::Text(last))
    })
}

/// Letters, digits, `_`, `-`, `.`.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.chars().all(plain)
}

fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    let (first, rest) = piece.split_first()?;
    let mut from = 0;
    while let Some(at) = text[from..]
        .iter()
        .position(|b| b == first)
        .map(|at| from + at)
    {
        if text[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests;
