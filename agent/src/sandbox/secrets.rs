//! Secrets: where they come from, where they may go, and how they stay out of every text.
//!
//! A guest sees `{{secret:name}}` and nothing else. The value is put in where a request leaves the host, after the
//! operator's binding (`secrets = { slack = "hooks.slack.com" }`) was held against the destination. A value is read
//! at each use, so a rotated file counts at once; every value ever read stays known to the [`Mask`], which replaces
//! it in whatever is logged or answered.

use super::egress::GrantError;
use super::egress::grant::{Host, Target, unix_path};
use super::grants::SecretGrant;
use super::types::{CallError, SecretSource};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of the file of a secret: a key file fits, a wrong path to a log does not fill the memory.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Forms of values remembered for masking, the newest: some five a value, so a hundred secrets or weeks of a daily
/// rotated one.
const MASKED_MAX: u64 = 512;
/// Shorter pieces of a value (a line, a path of a URL) are masked only as part of the whole.
const PIECE_BYTES_MIN: usize = 8;
/// What opens a place for a secret.
const OPEN: &[u8] = b"{{secret:";
/// What closes it.
const CLOSE: &[u8] = b"}}";
/// What stands in the place of a masked value.
const STARS: &str = "***";

/// All secrets of the configuration.
pub struct Secrets {
    sources: BTreeMap<String, SecretSource>,
    mask: Mask,
}

/// Replaces values of secrets by `***`. Clones share what they know.
#[derive(Clone, Default)]
pub struct Mask {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// Number in the order of learning, and the value. Longest first, so that a secret inside another does not
    /// break it up.
    values: Vec<(u64, Vec<u8>)>,
    /// The next number.
    next: u64,
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
            sources,
            mask: Mask::default(),
        };
        for (name, source) in &secrets.sources {
            if let Ok(value) = read(name, source) {
                secrets.mask.learn(&value);
            }
        }
        secrets
    }

    /// The mask that knows every value read so far.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Reads a secret now.
    pub async fn value(&self, name: &str) -> Result<String, SecretError> {
        let source = self.sources.get(name);
        let source = source
            .ok_or_else(|| SecretError::Unknown(name.to_owned()))?
            .clone();
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
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            match name {
                Some(name) if !name.is_empty() && name.chars().all(plain) => {
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

/// Whether a text has a place for a secret.
pub fn has_secret(text: &[u8]) -> bool {
    parts(text).any(|part| matches!(part, Part::Secret(_)))
}

impl Mask {
    /// Remembers a value and the forms in which it shows up: inside a URL, inside JSON, line by line, and where it is
    /// a URL itself, its path.
    pub fn learn(&self, value: &str) {
        let json = serde_json::to_string(value).unwrap_or_default();
        let mut forms = vec![value.to_owned(), json.trim_matches('"').to_owned()];
        forms.extend(in_url(value));
        forms.extend(
            value
                .lines()
                .filter(|l| l.len() >= PIECE_BYTES_MIN)
                .map(str::to_owned),
        );
        if let Ok(url) = reqwest::Url::parse(value) {
            forms.push(url.as_str().to_owned());
            let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
            let path = format!("{}{query}", url.path());
            forms.extend((path.len() >= PIECE_BYTES_MIN).then_some(path));
        }
        forms.retain(|form| !form.is_empty());
        forms.sort();
        forms.dedup();
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            forms.retain(|form| !known.values.iter().any(|(_, v)| v == form.as_bytes()));
        }
        if forms.is_empty() {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        for form in forms {
            known.values.push((known.next, form.into_bytes()));
            known.next += 1;
        }
        let oldest_kept = known.next.saturating_sub(MASKED_MAX);
        known.values.retain(|(number, _)| *number >= oldest_kept);
        known
            .values
            .sort_by_key(|(_, v)| std::cmp::Reverse(v.len()));
    }

    /// The text with every known value replaced by `***`.
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.apply_bytes(text.as_bytes()) {
            None => Cow::Borrowed(text),
            Some(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }

    /// The same for bytes; none: nothing had to be replaced.
    pub fn apply_bytes(&self, text: &[u8]) -> Option<Vec<u8>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut masked: Option<Vec<u8>> = None;
        for (_, value) in &known.values {
            let current = masked.as_deref().unwrap_or(text);
            if find(current, value).is_some() {
                masked = Some(replace(current, value));
            }
        }
        masked
    }

    /// An error with its texts masked.
    pub fn error(&self, error: CallError) -> CallError {
        let own = |text: String| match self.apply(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(masked) => masked,
        };
        match error {
            CallError::Config(t) => CallError::Config(own(t)),
            CallError::Denied(t) => CallError::Denied(own(t)),
            CallError::Unavailable {
                message,
                retry_after,
            } => CallError::Unavailable {
                message: own(message),
                retry_after,
            },
            CallError::Rejected(t) => CallError::Rejected(own(t)),
            CallError::Internal(t) => CallError::Internal(own(t)),
            CallError::Trapped(t) => CallError::Trapped(own(t)),
            CallError::BadResult(t) => CallError::BadResult(own(t)),
            other @ (CallError::Exited(_)
            | CallError::CpuLimit(_)
            | CallError::WallLimit(_)
            | CallError::MemoryLimit(_)
            | CallError::HostCallLimit(_)) => other,
        }
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask")
    }
}

/// A value as it looks inside a URL.
fn in_url(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_ascii_lowercase()];
    if let Ok(mut url) = reqwest::Url::parse("http://h/") {
        url.set_path(value);
        forms.push(url.path().trim_start_matches('/').to_owned());
        url.set_query(Some(value));
        forms.extend(url.query().map(str::to_owned));
        url.query_pairs_mut().clear().append_key_only(value);
        forms.extend(url.query().map(str::to_owned));
    }
    forms
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

fn replace(mut text: &[u8], piece: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let Some(at) = find(text, piece) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(STARS.as_bytes());
        text = &text[at + piece.len()..];
    }
    out.extend_from_slice(text);
    out
}

#[cfg(test)]
mod tests {
    use super::super::egress::grant::Scheme;
    use super::*;

    fn file_secrets(values: &[(&str, &str)]) -> (tempfile::TempDir, Arc<Secrets>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sources = BTreeMap::new();
        for (name, value) in values {
            let path = folder.path().join(name);
            std::fs::write(&path, value).expect("written");
            sources.insert((*name).to_owned(), SecretSource::File(path));
        }
        (folder, Arc::new(Secrets::new(sources)))
    }

    fn granted(secrets: &Arc<Secrets>, list: &[(&str, &str, bool)]) -> UseSecrets {
        let granted = list
            .iter()
            .map(|(name, to, reveal)| {
                let to = (*to).to_owned();
                (
                    (*name).to_owned(),
                    SecretGrant {
                        to,
                        reveal: *reveal,
                    },
                )
            })
            .collect();
        UseSecrets::new("ops-slack".into(), Arc::clone(secrets), &granted).expect("bindings")
    }

    fn https(host: &str, port: u16) -> Target {
        Target::Http {
            scheme: Scheme::Https,
            host: Host::parse(host).expect("a host"),
            port,
        }
    }

    #[tokio::test]
    async fn a_secret_goes_only_where_it_is_bound() {
        let (_folder, secrets) = file_secrets(&[("slack", "T0P-s3cret\n"), ("db", "pw")]);
        let own = granted(
            &secrets,
            &[
                ("slack", "Hooks.Slack.com", false),
                ("db", "[::1]:5432", false),
            ],
        );
        let text = b"Bearer {{secret:slack}}!";
        let filled = own
            .fill(text, &https("hooks.slack.com", 443))
            .await
            .expect("bound");
        assert_eq!(filled.bytes, b"Bearer T0P-s3cret!");
        assert_eq!(filled.names, ["slack"]);
        let refused = own
            .fill(text, &https("evil.org", 443))
            .await
            .err()
            .expect("bound elsewhere");
        assert_eq!(
            refused.to_string(),
            "the secret \"slack\" is bound to Hooks.Slack.com and may not go to https://evil.org:443; \
             add `secrets = { slack = \"evil.org:443\" }` to the grant of \"ops-slack\""
        );
        assert!(matches!(refused, CallError::Denied(_)));
        let db = |port| Target::Tcp {
            host: Host::parse("::1").expect("a host"),
            port,
        };
        assert!(own.fill(b"{{secret:db}}", &db(5432)).await.is_ok());
        assert!(own.fill(b"{{secret:db}}", &db(5433)).await.is_err());
        let unknown = own
            .fill(b"{{secret:other}}", &db(5432))
            .await
            .err()
            .expect("not granted");
        assert!(
            unknown.to_string().ends_with(
                "add `secrets = { other = \"[::1]:5432\" }` to the grant of \"ops-slack\""
            )
        );
    }

    #[tokio::test]
    async fn rotation_counts_at_once_and_old_values_stay_masked() {
        let (folder, secrets) = file_secrets(&[("token", "first-value")]);
        let own = granted(&secrets, &[("token", "a.example", false)]);
        std::fs::write(folder.path().join("token"), "second-value\r\n").expect("written");
        let filled = own
            .fill(b"{{secret:token}}", &https("a.example", 443))
            .await
            .expect("bound");
        assert_eq!(filled.bytes, b"second-value");
        assert_eq!(
            secrets.mask().apply("first-value, second-value"),
            "***, ***"
        );
    }

    #[tokio::test]
    async fn reveal_needs_its_own_word() {
        let (_folder, secrets) = file_secrets(&[("a", "one"), ("b", "two")]);
        let own = granted(&secrets, &[("a", "h:1", false), ("b", "h:1", true)]);
        assert_eq!(own.reveal("b").await, Ok("two".to_owned()));
        let refused = own.reveal("a").await.expect_err("not revealed");
        assert!(refused.to_string().ends_with(
            "add `secrets = { a = { to = \"h:1\", reveal = true } }` to the grant of \"ops-slack\""
        ));
        assert!(matches!(own.reveal("c").await, Err(CallError::Denied(_))));
    }

    #[tokio::test]
    async fn what_cannot_be_read_says_what_to_write() {
        let mut sources = BTreeMap::new();
        sources.insert(
            "env".to_owned(),
            SecretSource::Env("WATCHFIRE_TEST_NOT_SET".into()),
        );
        sources.insert("dir".to_owned(), SecretSource::File("/proc".into()));
        sources.insert("nul".to_owned(), SecretSource::File("/dev/null".into()));
        let secrets = Secrets::new(sources);
        for (name, want) in [
            (
                "env",
                "environment variable WATCHFIRE_TEST_NOT_SET, which is not set",
            ),
            ("dir", "not a regular file"),
            ("nul", "not a regular file"),
            ("gone", "add `gone = { env = \"NAME\" }`"),
        ] {
            let text = secrets.value(name).await.expect_err(name).to_string();
            assert!(text.contains(want), "{text}");
        }
    }

    #[test]
    fn places_are_found_and_look_alikes_left() {
        let shown = |text: &'static str| {
            parts(text.as_bytes())
                .map(|part| match part {
                    Part::Text(t) => String::from_utf8_lossy(t).into_owned(),
                    Part::Secret(name) => format!("<{name}>"),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown("a{{secret:b}}c{{secret:d.e-f_1}}"),
            ["a", "<b>", "c", "<d.e-f_1>"]
        );
        assert_eq!(shown("{{secret:a}}{{secret:b}}"), ["<a>", "<b>"]);
        assert_eq!(
            shown("{{secret:}} {{secret:a b}} {{secret:a"),
            ["{{secret:}} {{secret:a b}} {{secret:a"]
        );
        assert_eq!(shown("{{secret:{{secret:a}}}}"), ["{{secret:", "<a>", "}}"]);
        assert_eq!(shown(""), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_value_is_not_filled_in_again() {
        let (_folder, secrets) = file_secrets(&[("a", "{{secret:b}}"), ("b", "inner")]);
        let own = granted(&secrets, &[("a", "h", false), ("b", "h", false)]);
        let filled = own
            .fill(b"{{secret:a}}", &https("h", 443))
            .await
            .expect("bound");
        assert_eq!(filled.bytes, b"{{secret:b}}");
    }

    #[test]
    fn the_mask_knows_the_forms_of_a_value() {
        let mask = Mask::default();
        mask.learn("p/w \"x\" ü&=");
        mask.learn("https://hooks.slack.com/services/T1/B2/abcdef");
        mask.learn("line-one-of-key\nline-two-of-key");
        for text in [
            "p/w \"x\" ü&=",
            "p/w \\\"x\\\" ü&=",
            "http://h/p/w%20%22x%22%20%C3%BC&=",
            "?q=p%2Fw+%22x%22+%C3%BC%26%3D",
            "https://hooks.slack.com/services/T1/B2/abcdef",
            "cannot post to /services/T1/B2/abcdef now",
            "line-two-of-key",
            "line-one-of-key\\nline-two-of-key",
        ] {
            let masked = mask.apply(text);
            assert!(masked.contains("***"), "{text} -> {masked}");
            for leak in ["x\\\"", "%22x", "abcdef", "-of-key"] {
                assert!(!masked.contains(leak), "{text} -> {masked}");
            }
        }
        assert!(matches!(mask.apply("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_mask_is_bounded_and_keeps_the_newest() {
        let mask = Mask::default();
        for n in 0..2 * MASKED_MAX {
            mask.learn(&format!("value-{n:06}"));
        }
        let newest = format!("value-{:06}", 2 * MASKED_MAX - 1);
        assert_eq!(mask.apply(&newest), "***");
        assert_eq!(mask.apply("value-000000"), "value-000000");
    }

    #[test]
    fn bindings_that_cannot_be_read_teach() {
        for (to, want) in [
            ("https://hooks.slack.com/x", "write \"hooks.slack.com\""),
            ("*.slack.com", "write its name"),
            ("a b", "names no host"),
            ("h:0", "names no host"),
            ("unix:x", "absolute path"),
        ] {
            let granted = BTreeMap::from([(
                "s".to_owned(),
                SecretGrant {
                    to: to.to_owned(),
                    reveal: false,
                },
            )]);
            let text = check_bindings(&granted).expect_err(to)[0].to_string();
            assert!(
                text.contains(want) && text.starts_with("grant `secrets.s`"),
                "{text}"
            );
        }
        assert_eq!(
            place("::1"),
            Ok(Place::Host {
                host: Host::parse("::1").expect("a host"),
                port: None
            })
        );
    }
}
