//! Compares the plugin folder with what runs: what stays, what is to be loaded, what is refused
//! without another look. Only this file remembers anything about files from one look to the next.

use super::folder::{self, Content, Identity, ReadError};
use super::load::{Bytes, Candidate, wall_time};
use super::registry::{Installed, Origin, PluginSet, Rejection, Stage};
use super::{hex, stock};
use crate::config::Config;
use crate::sandbox::types::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of components that one look keeps in memory: the usual folder whole, and with it an eighth of what the
/// service may have.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// After a file that may be half-written was found: the pause before it is looked at once more, and
/// then reported. Long enough for a slow copy's next block, short enough for a person who waits.
pub(super) const SECOND_LOOK: Duration = Duration::from_secs(1);

/// What to do under one name.
#[derive(Debug)]
pub(super) enum Want {
    /// What runs is what is wanted.
    Keep,
    /// The file is gone; what runs goes on.
    Removed,
    /// The file may be half-written; what runs goes on until a second look.
    Wait,
    /// The file is refused; what runs goes on.
    Refuse(Rejection),
    /// Something new.
    Load(Candidate),
}

/// One file as this look found it.
#[derive(Debug)]
pub(super) struct Found {
    path: PathBuf,
    /// None: it is as it was, and what it holds is `known`.
    content: Option<Result<Content, ReadError>>,
    known: Option<[u8; 32]>,
    identity: Option<Identity>,
}

/// All files of one look; none: the folder cannot be listed, so nothing is known to have changed.
pub(super) type Files = Option<BTreeMap<Arc<str>, Found>>;

/// The memory between looks.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Files that run or were refused for good: no need to read them while this holds.
    settled: BTreeMap<Arc<str>, (Identity, [u8; 32])>,
    /// What was refused, and under which configuration.
    refused: BTreeMap<Arc<str>, (Rejection, [u8; 32])>,
    /// What may be half-written.
    halves: BTreeMap<Arc<str>, Half>,
}

#[derive(Debug)]
struct Half {
    /// None: it could not even be read.
    sha256: Option<[u8; 32]>,
    reason: Arc<str>,
    look_at: Instant,
}

/// Names of plugins that the tables of a configuration use.
pub(super) fn used(config: &Config) -> BTreeSet<Arc<str>> {
    let probes = config.probes.iter().map(|table| &table.plugin);
    let rules = config
        .rules
        .iter()
        .filter_map(|table| table.plugin.as_ref());
    let notifiers = config.notifiers.iter().map(|table| &table.plugin);
    let actions = config.recoveries.iter().map(|table| &table.plugin);
    probes
        .chain(rules)
        .chain(notifiers)
        .chain(actions)
        .cloned()
        .collect()
}

impl Survey {
    /// When a second look is due.
    pub(super) fn second_look(&self) -> Option<Instant> {
        self.halves.values().map(|half| half.look_at).min()
    }

    /// Settles nothing on memory at the next look: an operator asked for a fresh one.
    pub(super) fn forget(&mut self) {
        self.settled.clear();
        for (rejection, _) in self.refused.values_mut() {
            rejection.stage = Stage::Trouble;
        }
        for half in self.halves.values_mut() {
            half.look_at = Instant::now();
        }
    }

    /// Another configuration may ask for other things of the same files.
    pub(super) fn unsettle(&mut self) {
        self.settled.clear();
    }

    /// Ends a look: a doubt that it could not settle waits for another pause.
    pub(super) fn postpone(&mut self) {
        let now = Instant::now();
        for half in self.halves.values_mut() {
            if half.look_at <= now {
                half.look_at = now + SECOND_LOOK;
            }
        }
    }

    /// Reads what changed in the folder. Blocks on the disk.
    pub(super) fn look(&self, folder: &Path) -> std::io::Result<BTreeMap<Arc<str>, Found>> {
        let mut kept = 0;
        let look_at = |(name, path): (Arc<str>, PathBuf)| {
            let identity = folder::identify(&path);
            let settled = self.settled.get(&name);
            let known = settled
                .filter(|(settled, _)| Some(*settled) == identity)
                .map(|(_, sha256)| *sha256);
            let mut content = known.is_none().then(|| folder::read(&path));
            if let Some(Ok(content)) = &mut content {
                kept += content.size;
                // Those whose code is in the cache are not even needed.
                if kept > KEPT_BYTES_MAX {
                    content.bytes = None;
                }
            }
            let found = Found {
                path,
                content,
                known,
                identity,
            };
            (name, found)
        };
        Ok(folder::list(folder)?.into_iter().map(look_at).collect())
    }

    /// What to do under every name that a file, the configuration or a running component has.
    ///
    /// `hasty`: a file that does not read may still be growing.
    pub(super) fn plan(
        &mut self,
        files: &Files,
        config: &Config,
        running: &PluginSet,
        hasty: bool,
    ) -> BTreeMap<Arc<str>, Want> {
        let used = used(config);
        let mut wants = BTreeMap::new();
        if let Some(files) = files {
            self.settled.retain(|name, _| files.contains_key(name));
            self.refused
                .retain(|name, _| files.contains_key(name) || stock::find(name).is_some());
            self.halves.retain(|name, _| files.contains_key(name));
            for (name, found) in files {
                let want = self.plan_file(name, found, config, running, hasty);
                wants.insert(name.clone(), want);
            }
        }
        for (name, plugin) in &running.plugins {
            let Some(installed) = &plugin.running else {
                continue;
            };
            if wants.contains_key(name) || installed.origin == Origin::Stock {
                continue;
            }
            if files.is_none() {
                wants.insert(name.clone(), Want::Keep);
            } else if used.contains(name) || installed.is(Kind::Probe) {
                wants.insert(name.clone(), Want::Removed);
            }
        }
        for name in used {
            if !wants.contains_key(&name)
                && let Some(want) = self.plan_stock(&name, config, running)
            {
                wants.insert(name, want);
            }
        }
        wants
    }

    fn plan_file(
        &mut self,
        name: &Arc<str>,
        found: &Found,
        config: &Config,
        running: &PluginSet,
        hasty: bool,
    ) -> Want {
        let sha256 = match (&found.content, found.known) {
            (None, Some(sha256)) => sha256,
            (Some(Ok(content)), _) => content.sha256,
            (Some(Err(error)), _) => {
                let may_pass = matches!(error, ReadError::Changing | ReadError::Io(_));
                let reason = Arc::from(error.to_string());
                let looked_twice = self
                    .halves
                    .get(name)
                    .is_some_and(|half| half.sha256.is_none() && half.look_at <= Instant::now());
                return match may_pass && hasty && !looked_twice {
                    true => self.doubt(name, None, reason),
                    false => Want::Refuse(self.refuse(name, None, reason, Stage::Read, config)),
                };
            }
            (None, None) => return Want::Wait,
        };
        let settings = config.plugins.get(&**name);
        let bound = pinned_otherwise(config, name, &sha256)
            .or_else(|| locked_otherwise(config, name, &sha256, running.running(name)));
        if let Some(reason) = bound {
            return Want::Refuse(self.refuse(name, Some(sha256), reason, Stage::Pin, config));
        }
        let stub_wasi = settings.is_some_and(|settings| settings.stub_wasi);
        if running
            .running(name)
            .is_some_and(|now| now.sha256 == sha256 && now.stub_wasi == stub_wasi)
        {
            self.settle(name, found, sha256);
            self.accept(name);
            return Want::Keep;
        }
        if let Some((rejection, under)) = self.refused.get(name)
            && rejection.sha256 == Some(sha256)
        {
            match rejection.stage {
                Stage::Load => {
                    let rejection = rejection.clone();
                    self.settle(name, found, sha256);
                    return Want::Refuse(rejection);
                }
                Stage::Prove if *under == config.source.digest => {
                    return Want::Refuse(rejection.clone());
                }
                Stage::Read | Stage::Pin | Stage::Trouble | Stage::Prove => {}
            }
        }
        if let Some(half) = self.halves.get(name)
            && half.sha256 == Some(sha256)
        {
            if half.look_at > Instant::now() {
                return Want::Wait;
            }
            let reason = half.reason.clone();
            return Want::Refuse(self.refuse(name, Some(sha256), reason, Stage::Load, config));
        }
        match &found.content {
            Some(Ok(content)) => Want::Load(Candidate {
                name: name.clone(),
                origin: Origin::DropIn(found.path.clone()),
                bytes: match &content.bytes {
                    Some(bytes) => Bytes::Read(bytes.clone()),
                    None => Bytes::There(found.path.clone(), content.size),
                },
                sha256,
                stub_wasi,
            }),
            // Settled under another configuration; the next look reads it.
            _ => {
                self.settled.remove(name);
                let reason = "it is read again".into();
                self.doubt(name, None, reason)
            }
        }
    }

    /// None: there is no such stock plugin.
    pub(super) fn plan_stock(
        &mut self,
        name: &Arc<str>,
        config: &Config,
        running: &PluginSet,
    ) -> Option<Want> {
        let stock = stock::find(name)?;
        if let Some(reason) = pinned_otherwise(config, name, &stock.sha256) {
            let sha256 = Some(stock.sha256);
            return Some(Want::Refuse(self.refuse(
                name,
                sha256,
                reason,
                Stage::Pin,
                config,
            )));
        }
        let settings = config.plugins.get(&**name);
        let stub_wasi = settings.is_some_and(|settings| settings.stub_wasi);
        let is_running = running
            .running(name)
            .is_some_and(|now| now.sha256 == stock.sha256 && now.stub_wasi == stub_wasi);
        if is_running {
            return Some(Want::Keep);
        }
        Some(Want::Load(Candidate {
            name: name.clone(),
            origin: Origin::Stock,
            bytes: Bytes::Embedded(stock),
            sha256: stock.sha256,
            stub_wasi,
        }))
    }

    /// Remembers a refusal. The time of the first one of the same bytes stands.
    pub(super) fn refuse(
        &mut self,
        name: &Arc<str>,
        sha256: Option<[u8; 32]>,
        reason: Arc<str>,
        stage: Stage,
        config: &Config,
    ) -> Rejection {
        self.halves.remove(name);
        let since = match self.refused.get(name) {
            Some((before, _)) if before.sha256 == sha256 => before.since,
            _ => wall_time(),
        };
        let rejection = Rejection {
            sha256,
            reason,
            since,
            stage,
        };
        let kept = (rejection.clone(), config.source.digest);
        self.refused.insert(name.clone(), kept);
        rejection
    }

    /// Puts a verdict off until a second look, which is the last one of the same bytes.
    pub(super) fn doubt(
        &mut self,
        name: &Arc<str>,
        sha256: Option<[u8; 32]>,
        reason: Arc<str>,
    ) -> Want {
        let half = self.halves.entry(name.clone()).or_insert_with(|| Half {
            sha256,
            reason: reason.clone(),
            look_at: Instant::now() + SECOND_LOOK,
        });
        if half.sha256 != sha256 {
            *half = Half {
                sha256,
                reason,
                look_at: Instant::now() + SECOND_LOOK,
            };
        }
        Want::Wait
    }

    /// What runs is neither refused nor in doubt.
    pub(super) fn accept(&mut self, name: &Arc<str>) {
        self.refused.remove(name);
        self.halves.remove(name);
    }

    /// There is no need to read this file again while it stays as it is.
    fn settle(&mut self, name: &Arc<str>, found: &Found, sha256: [u8; 32]) {
        self.halves.remove(name);
        if let Some(identity) = found.identity {
            self.settled.insert(name.clone(), (identity, sha256));
        }
    }
}

/// Why a file may not serve: the lock does not have it, or has another one. A stock plugin needs no lock.
fn locked_otherwise(
    config: &Config,
    name: &str,
    sha256: &[u8; 32],
    running: Option<&Arc<Installed>>,
) -> Option<Arc<str>> {
    let lock = config.lock.as_ref()?;
    let running = running.filter(|running| running.sha256 == *sha256);
    let widened = || lock.widened(name, &running?.request());
    let reason = lock.refusal(name, sha256).or_else(widened)?;
    Some(reason.into())
}

/// Why a component may not serve: configuration wants another one.
fn pinned_otherwise(config: &Config, name: &str, sha256: &[u8; 32]) -> Option<Arc<str>> {
    let pin = config.plugins.get(name)?.sha256?;
    (pin != *sha256).then(|| {
        let is = hex(sha256);
        format!(
            "configuration pins sha256 {}, and it has {is}; to take it, write sha256 = \"{is}\" under [plugin.{name}]",
            hex(&pin)
        )
        .into()
    })
}
