//! A loaded component: what it exports, what it imports, whether that is allowed.

use super::bindings::{action, notifier, probe, rule};
use super::host::{self, HostState, Using};
use super::types::{CallError, Description, Kind, Limits, Use};
use super::{Sandbox, artefact, calls};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{Component as Code, Linker};

/// What only describes or only checks a configuration answers at once.
pub(super) const DESCRIBE_WALL: Duration = Duration::from_secs(2);
/// The contract, `watchfire:plugin`, without its patch version.
pub const CONTRACT: &str = "0.1";
/// Interfaces of WASI that every component gets: what standard libraries import even where unused.
const BASE_WASI: [&str; 4] = ["wasi:cli/", "wasi:clocks/", "wasi:io/", "wasi:random/"];

/// A component, loaded. Clones share it; its code is freed with the last one.
#[derive(Clone)]
pub struct Component(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) sandbox: Sandbox,
    name: Arc<str>,
    sha256: [u8; 32],
    imports: Vec<String>,
    kinds: Vec<Kind>,
    /// Its code, where that is mapped from a file.
    mapped: Option<Code>,
    pub(super) probe: Option<probe::ProbePluginPre<HostState>>,
    pub(super) rule: Option<rule::RulePluginPre<HostState>>,
    pub(super) notifier: Option<notifier::NotifierPluginPre<HostState>>,
    pub(super) action: Option<action::ActionPluginPre<HostState>>,
}

/// What a component imports or exports is not for this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// A component was not loaded, or is not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The artefact is damaged or belongs to another engine: compile again.
    #[error("the compiled code of plugin '{name}' does not load: {why}")]
    Artefact {
        /// The component.
        name: String,
        /// Wasmtime's words.
        why: String,
    },
    /// Its imports or exports are not for this host.
    #[error("plugin '{name}' {why}")]
    Refused {
        /// The component.
        name: String,
        /// What it does, and what to do instead.
        why: Refusal,
    },
    /// It imports what is there in another shape.
    #[error("plugin '{name}' does not link: {why}")]
    Link {
        /// The component.
        name: String,
        /// Wasmtime's words.
        why: String,
    },
    /// It is used as what it is not.
    #[error("plugin '{name}' is no {}: it is {is}", kind.name())]
    WrongKind {
        /// The component.
        name: String,
        /// As what it was to be used.
        kind: Kind,
        /// What it is.
        is: String,
    },
    /// Grants that make no sense; all of them.
    #[error("{0}")]
    Grants(String),
}

impl Component {
    pub(super) fn load(
        sandbox: &Sandbox,
        name: &str,
        sha256: [u8; 32],
        artefact: &[u8],
        file: Option<&File>,
        stub_wasi: bool,
    ) -> Result<Self, LoadError> {
        let link = |error: wasmtime::Error| LoadError::Link {
            name: name.to_owned(),
            why: format!("{error:#}"),
        };
        let refused = |why| LoadError::Refused {
            name: name.to_owned(),
            why,
        };
        let engine = &sandbox.shared.engine;
        let (code, mapped) = artefact::revive(engine, artefact, file).map_err(|error| {
            let why = format!("{error:#}");
            // What the pool has no room for is beyond the limits of a store, too; there the words are ours.
            match why.split_once("pooling allocator requirements: ") {
                Some((_, what)) => refused(Refusal(format!(
                    "wants more than a plugin may have: {what}"
                ))),
                None => LoadError::Artefact {
                    name: name.to_owned(),
                    why,
                },
            }
        })?;
        let kinds = kinds(&code).map_err(refused)?;
        let imports = imports(&code);
        check_imports(&imports, &kinds, stub_wasi).map_err(refused)?;

        // A linker for each component: cloned linkers shared freed memory once (GHSA-hfr4).
        let mut linker = Linker::new(engine);
        host::link(&mut linker, stub_wasi).map_err(link)?;
        let pre = linker.instantiate_pre(&code).map_err(link)?;
        // Paid here and not by the first call.
        code.initialize_copy_on_write_image().map_err(link)?;
        let is = |kind| kinds.contains(&kind);
        Ok(Component(Arc::new(Inner {
            sandbox: sandbox.clone(),
            name: name.into(),
            sha256,
            mapped: mapped.then(|| code.clone()),
            probe: is(Kind::Probe)
                .then(|| probe::ProbePluginPre::new(pre.clone()))
                .transpose()
                .map_err(link)?,
            rule: is(Kind::Rule)
                .then(|| rule::RulePluginPre::new(pre.clone()))
                .transpose()
                .map_err(link)?,
            notifier: is(Kind::Notifier)
                .then(|| notifier::NotifierPluginPre::new(pre.clone()))
                .transpose()
                .map_err(link)?,
            action: is(Kind::Action)
                .then(|| action::ActionPluginPre::new(pre.clone()))
                .transpose()
                .map_err(link)?,
            imports,
            kinds,
        })))
    }

    /// The name it was loaded under.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Digest of the component it was compiled from.
    pub fn sha256(&self) -> [u8; 32] {
        self.0.sha256
    }

    /// What it can be used as; at least one.
    pub fn kinds(&self) -> &[Kind] {
        &self.0.kinds
    }

    /// Names of the interfaces it imports: all that it can ever reach.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// Lets the memory go that its code takes while nothing runs it; the first calls afterwards bring back what they use.
    pub fn rest(&self) {
        if let Some(mapped) = &self.0.mapped {
            artefact::unmap(mapped);
        }
    }

    /// Asks it what it is, with nothing granted.
    ///
    /// # Errors
    /// It failed, or its answer breaks a bound.
    pub async fn describe(&self) -> Result<Description, CallError> {
        let kind = self.0.kinds[0];
        let mut limits = Limits::of(kind);
        limits.wall = DESCRIBE_WALL;
        let using = self.using(
            kind,
            Use {
                id: Arc::clone(&self.0.name),
                config: "{}".into(),
                grants: Arc::default(),
                limits,
            },
        );
        let using = using.map_err(|error| CallError::Internal(error.to_string()))?;
        let describe = calls::Describe {
            component: self.clone(),
            kind,
        };
        let sandbox = &self.0.sandbox;
        let (answer, _) = sandbox
            .call(&Arc::new(using), calls::Settings::default(), describe)
            .await;
        answer
    }

    pub(super) fn using(&self, kind: Kind, settings: Use) -> Result<Using, LoadError> {
        let host = &self.0.sandbox.shared.host;
        Using::new(host, Arc::clone(&self.0.name), kind, settings).map_err(|wrong| {
            let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            LoadError::Grants(all.join("; "))
        })
    }

    pub(super) fn wrong_kind(&self, kind: Kind) -> LoadError {
        let is: Vec<String> = self
            .0
            .kinds
            .iter()
            .map(|kind| match kind {
                Kind::Action => format!("an {}", kind.name()),
                _ => format!("a {}", kind.name()),
            })
            .collect();
        LoadError::WrongKind {
            name: self.0.name.to_string(),
            kind,
            is: is.join(" and "),
        }
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.0.name)
            .field("kinds", &self.0.kinds)
            .finish_non_exhaustive()
    }
}

fn imports(code: &Code) -> Vec<String> {
    let engine = code.engine();
    let of = code.component_type();
    let mut names: Vec<String> = of
        .imports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort();
    names
}

/// What a component serves as, by its exports.
pub(super) fn kinds(code: &Code) -> Result<Vec<Kind>, Refusal> {
    let engine = code.engine();
    let of = code.component_type();
    let exports: Vec<String> = of
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let ours: BTreeMap<&str, &str> = exports
        .iter()
        .filter_map(|name| name.strip_prefix("watchfire:plugin/"))
        .map(|name| name.split_once('@').unwrap_or((name, "")))
        .collect();
    for (name, version) in &ours {
        if !is_contract(version) {
            return Err(Refusal(format!(
                "exports watchfire:plugin/{name}@{version}; this agent hosts contract {CONTRACT}: build the plugin with the matching SDK"
            )));
        }
    }
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| ours.contains_key(kind.name()))
        .collect();
    if kinds.is_empty() {
        return Err(Refusal(format!(
            "is no plugin: it exports none of watchfire:plugin/probe, rule, notifier, action; it exports {}",
            if exports.is_empty() {
                "nothing".to_owned()
            } else {
                exports.join(", ")
            }
        )));
    }
    Ok(kinds)
}

fn is_contract(version: &str) -> bool {
    version
        .strip_prefix(CONTRACT)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Interfaces of the contract that a kind may import, as in `wit/worlds.wit`.
fn world(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Probe => &[
            "log", "state", "system", "files", "http", "tcp", "dns", "secrets", "commands",
            "events", "types",
        ],
        Kind::Rule => &["log", "types"],
        Kind::Notifier => &[
            "log", "state", "http", "tcp", "mail", "secrets", "commands", "types",
        ],
        Kind::Action => &[
            "log", "state", "system", "http", "tcp", "secrets", "commands", "control", "events",
            "types",
        ],
    }
}

/// The static half of the protection: nothing is imported that the worlds of its kinds do not have.
fn check_imports(imports: &[String], kinds: &[Kind], stub_wasi: bool) -> Result<(), Refusal> {
    for import in imports {
        if let Some(why) = forbidden(import, kinds, stub_wasi) {
            return Err(Refusal(format!("imports {why}")));
        }
    }
    Ok(())
}

fn forbidden(import: &str, kinds: &[Kind], stub_wasi: bool) -> Option<String> {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let are = kinds
        .iter()
        .map(|kind| format!("{}s", kind.name()))
        .collect::<Vec<_>>()
        .join(" and ");
    if let Some(interface) = name.strip_prefix("watchfire:plugin/") {
        if !is_contract(version) {
            return Some(format!(
                "{import}; this agent hosts contract {CONTRACT}: build the plugin with the matching SDK"
            ));
        }
        if kinds.iter().any(|kind| world(*kind).contains(&interface)) {
            return None;
        }
        let others: Vec<String> = Kind::ALL
            .into_iter()
            .filter(|kind| world(*kind).contains(&interface))
            .map(|kind| format!("{}s", kind.name()))
            .collect();
        return Some(if others.is_empty() {
            format!("{name}, which does not exist")
        } else {
            format!("{name}, which is for {}, not for {are}", others.join(", "))
        });
    }
    let Some(rest) = name.strip_prefix("wasi:") else {
        return Some(format!(
            "{import}; a plugin gets nothing but watchfire:plugin and the base of WASI 0.2"
        ));
    };
    let base = BASE_WASI.iter().any(|base| name.starts_with(base));
    let package = rest.split('/').next().unwrap_or(rest);
    let stubbed = stub_wasi && matches!(package, "filesystem" | "sockets");
    if (base || stubbed) && version.starts_with("0.2.") {
        return None;
    }
    let has = |interface: &str| kinds.iter().any(|kind| world(*kind).contains(&interface));
    let instead = match package {
        "filesystem" if has("files") => {
            format!("{are} read files through watchfire:plugin/files")
        }
        "filesystem" => format!("{are} do not read files"),
        "sockets" if has("tcp") => {
            format!("{are} connect through watchfire:plugin/tcp and watchfire:plugin/http")
        }
        "sockets" => format!("{are} do not reach the network"),
        "http" if has("http") => format!("{are} send requests through watchfire:plugin/http"),
        "http" => format!("{are} do not reach the network"),
        _ if base => "this agent has WASI 0.2".to_owned(),
        _ => "a plugin gets nothing but watchfire:plugin and the base of WASI 0.2".to_owned(),
    };
    let stub = if matches!(package, "filesystem" | "sockets") {
        "; if its run time imports it without using it, set `wasi = \"stub\"` in its [plugin.NAME]"
    } else {
        ""
    };
    Some(format!("wasi:{package}; {instead}{stub}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(import: &str, kind: Kind, stub: bool) -> Option<String> {
        forbidden(import, &[kind], stub)
    }

    #[test]
    fn what_a_world_has_and_what_libraries_import_is_allowed() {
        for import in [
            "watchfire:plugin/types@0.1.0",
            "watchfire:plugin/log@0.1.7",
            "wasi:io/streams@0.2.6",
            "wasi:cli/exit@0.2.0",
            "wasi:clocks/monotonic-clock@0.2.12",
            "wasi:random/insecure-seed@0.2.6",
        ] {
            assert_eq!(why(import, Kind::Rule, false), None, "{import}");
        }
    }

    #[test]
    fn refusals_teach() {
        for (import, kind, told) in [
            (
                "wasi:filesystem/types@0.2.6",
                Kind::Probe,
                "probes read files through watchfire:plugin/files",
            ),
            (
                "wasi:filesystem/types@0.2.6",
                Kind::Rule,
                "rules do not read files",
            ),
            (
                "wasi:sockets/tcp@0.2.6",
                Kind::Notifier,
                "notifiers connect through watchfire:plugin/tcp",
            ),
            (
                "wasi:http/outgoing-handler@0.2.6",
                Kind::Action,
                "watchfire:plugin/http",
            ),
            (
                "watchfire:plugin/control@0.1.0",
                Kind::Probe,
                "which is for actions, not for probes",
            ),
            (
                "watchfire:plugin/http@0.1.0",
                Kind::Rule,
                "which is for probes, notifiers, actions, not for rules",
            ),
            (
                "watchfire:plugin/log@0.2.0",
                Kind::Rule,
                "this agent hosts contract 0.1",
            ),
            (
                "watchfire:plugin/nothing@0.1.0",
                Kind::Probe,
                "which does not exist",
            ),
            ("wasi:cli/exit@0.3.0", Kind::Probe, "WASI 0.2"),
            ("wasi:keyvalue/store@0.2.0", Kind::Probe, "nothing but"),
            ("env", Kind::Probe, "nothing but"),
        ] {
            let text = why(import, kind, false).expect(import);
            assert!(text.contains(told), "{text:?} lacks {told:?}");
        }
    }

    #[test]
    fn the_stub_lets_file_systems_and_sockets_in_and_nothing_else() {
        assert_eq!(why("wasi:filesystem/types@0.2.6", Kind::Rule, true), None);
        assert_eq!(why("wasi:sockets/udp@0.2.6", Kind::Rule, true), None);
        assert!(why("wasi:http/types@0.2.6", Kind::Rule, true).is_some());
        assert!(why("watchfire:plugin/http@0.1.0", Kind::Rule, true).is_some());
    }
}
