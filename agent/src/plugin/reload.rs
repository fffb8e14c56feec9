//! Keeps the live [`Generation`] in step with the files: everything is proved before anything changes.
//!
//! ```text
//!   hint (Watcher), request (SIGHUP, API), second look
//!      |
//!      v
//!   configuration: read, resolve -- mistakes --> condition, nothing changes
//!   folder: list, read, hash ------ same as running or as refused --> nothing
//!      |
//!      v
//!   load: code cache or compiling child, sandbox, describe -- fails --> that plugin keeps its version
//!      |
//!      v
//!   prove: configure every changed use, a trial collection for a new probe
//!      |                           -- a new version fails --> that plugin keeps its version, again
//!      |                           -- a new table fails   --> the old configuration, again
//!      v
//!   publish one Generation (watch: the latest wins); calls in flight end on the one they hold
//! ```
//!
//! One task, one look at a time: what happens meanwhile is one more hint. Configuration and
//! components go out together, so no rule of today sees a probe of yesterday.

use super::cache::CodeCache;
use super::compile::Compiler;
use super::generation::Generation;
use super::install::{Fresh, Install};
use super::load::{Loader, millis};
use super::notice::{self, Meta, Metas, Notice};
use super::prove::{Blame, Proof};
use super::registry::{Plugin, PluginSet, Stage};
use super::survey::{Files, SECOND_LOOK, Survey};
use super::watch::{Hint, QUIET, QUIET_MAX, Watcher, folders_of};
use crate::config::{self, Config, Environment, Finding, Loaded, Rejected};
use crate::sandbox::{HostConfig, Sandbox};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

/// Reads and resolves the configuration. May block.
pub type LoadConfig = Arc<dyn Fn() -> Result<Loaded, Rejected> + Send + Sync>;

/// [`config::load`] of one place, again and again.
pub fn load_from(path: Option<PathBuf>, environment: Environment) -> LoadConfig {
    Arc::new(move || config::load(path.as_deref(), &environment))
}

/// The configuration to start with: the one on disk or, where that is refused and the one before it is
/// known, the last good one with the refusal of the other.
pub fn first_config(
    load: &LoadConfig,
    last_good: &[(PathBuf, Arc<str>)],
    environment: &Environment,
) -> Result<(Loaded, Option<Rejected>), Rejected> {
    match load() {
        Ok(loaded) => Ok((loaded, None)),
        Err(rejected) if last_good.is_empty() => Err(rejected),
        Err(rejected) => match config::from_texts(last_good, environment) {
            Ok(loaded) => Ok((loaded, Some(rejected))),
            // An older agent may have taken what this one does not; what is on disk now is what the
            // operator can correct.
            Err(_) => Err(rejected),
        },
    }
}

/// What a [`Reloader`] works with.
pub struct Setup {
    /// Where components run.
    pub sandbox: Sandbox,
    /// Compiles what the cache does not have.
    pub compiler: Compiler,
    /// None: the folder cannot be trusted; every start compiles.
    pub cache: Option<CodeCache>,
    /// The sandbox's part of the keys of the code cache.
    pub compatibility: [u8; 32],
    /// The configuration to start with: the one on disk, or the last good one.
    pub config: Arc<Config>,
    /// Why the one on disk is not `config`; none: it is.
    pub config_refused: Option<Rejected>,
    /// Reads the one on disk.
    pub load_config: LoadConfig,
    /// Where to tell. Bounded; the receiver drains it, so a full one only makes a reload wait.
    pub notices: mpsc::Sender<Notice>,
    /// Asks for a look now.
    pub requests: mpsc::Receiver<Request>,
}

/// A look that somebody asked for. It forgets earlier refusals and waits for nothing.
pub type Request = oneshot::Sender<Report>;

/// What came of a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The generation that holds now.
    pub generation: u64,
    /// Whether this look made it.
    pub changed: bool,
    /// Why the configuration on disk does not hold; none: it does.
    pub config_refused: Option<Arc<str>>,
    /// Plugins whose file is refused, and why.
    pub rejected: Vec<(Arc<str>, Arc<str>)>,
}

/// The task that owns what is live.
pub struct Reloader {
    sandbox: Sandbox,
    loader: Loader,
    load_config: LoadConfig,
    notices: mpsc::Sender<Notice>,
    requests: mpsc::Receiver<Request>,
    publish: watch::Sender<Arc<Generation>>,
    watcher: Watcher,
    survey: Survey,
    /// Why the plugin folder cannot be listed; none: it can.
    unlisted: Option<String>,
    /// Why the configuration on disk does not hold.
    config_refused: Option<Arc<str>>,
    /// Files of that configuration: where its correction will show.
    config_files: Vec<PathBuf>,
    /// What is doubtful about the one that holds, told when it is taken.
    config_warnings: Vec<Finding>,
    /// A configuration that may be half-written: its mistakes, and when to look again.
    config_half: Option<(Arc<str>, Instant)>,
    /// Components changed while the configuration was disproved: with them it may hold.
    look_again: Option<Instant>,
    /// A configuration that holds and may be half of another one: since when it waits, and until when.
    config_young: Option<(Instant, Instant)>,
    /// A configuration that its plugins refused, and the components that did: not tried again before
    /// one of both changes.
    config_disproved: Option<([u8; 32], Arc<PluginSet>)>,
    /// Components loaded in this look, for the case that it takes several attempts.
    loaded: Fresh,
    /// Rings when a use is quarantined or released.
    quarantine_bell: Arc<Notify>,
    metas: Metas,
    /// Told after the look, in order.
    untold: Vec<Notice>,
}

impl Reloader {
    /// Makes the first generation: loads what configuration uses and what was dropped in. What fails is
    /// left out and told; the agent starts in any case.
    pub async fn start(setup: Setup) -> (Self, watch::Receiver<Arc<Generation>>) {
        let started = Instant::now();
        let nothing = Generation {
            number: 0,
            config: setup.config.clone(),
            plugins: Arc::default(),
            probes: Vec::new(),
            rules: Vec::new(),
            notifiers: BTreeMap::new(),
            actions: BTreeMap::new(),
            status: Vec::new(),
        };
        let (publish, generations) = watch::channel(Arc::new(nothing));
        let loader = Loader::new(
            setup.sandbox.clone(),
            setup.compiler,
            setup.cache,
            setup.compatibility,
        );
        let mut reloader = Reloader {
            sandbox: setup.sandbox,
            loader,
            load_config: setup.load_config,
            notices: setup.notices,
            requests: setup.requests,
            publish,
            watcher: Watcher::new(),
            survey: Survey::default(),
            unlisted: None,
            config_refused: None,
            config_files: Vec::new(),
            config_warnings: Vec::new(),
            config_half: None,
            config_young: None,
            look_again: None,
            config_disproved: None,
            loaded: Fresh::new(),
            quarantine_bell: Arc::default(),
            metas: Metas::default(),
            untold: Vec::new(),
        };
        if let Some(rejected) = setup.config_refused {
            reloader.refuse_config(rejected.to_string().into(), &rejected.mistakes);
            reloader.config_files = rejected.files;
        }
        reloader.make_folder(&setup.config.agent.plugins_dir);
        reloader.watch(&setup.config);
        // Nothing else needs the cores yet.
        reloader.loader.compiler().widen();
        let files = reloader.files(&setup.config.agent.plugins_dir).await;
        let first = reloader.attempt(None, setup.config, &files, false).await;
        reloader.loader.compiler().narrow();
        // Without a previous generation nobody is to blame, so there is always a first one.
        if let Ok(first) = first {
            let counts = first.counts();
            tracing::info!(
                plugins = first.plugins.plugins.len(),
                probes = counts.probes,
                rules = counts.rules,
                notifiers = counts.notifiers,
                recoveries = counts.recoveries,
                millis = millis(started.elapsed()),
                "plugins are ready"
            );
            reloader.publish.send_replace(Arc::new(first));
        }
        reloader.loaded.clear();
        let generation = reloader.publish.borrow().clone();
        notice::log_unready(&generation);
        reloader.tell_conditions(&generation);
        let rejections = generation.plugins.plugins.keys().cloned();
        let others = [Meta::ConfigInvalid, Meta::WatchDegraded];
        let off = reloader
            .metas
            .off(rejections.map(Meta::PluginRejected).chain(others));
        reloader.untold.extend(off);
        (reloader, generations)
    }

    /// Rings when a use that it made live is quarantined or released; for one listener.
    pub fn quarantine_bell(&self) -> Arc<Notify> {
        self.quarantine_bell.clone()
    }

    /// Runs until it is dropped. Cancel safe between looks; a look that is dropped changed nothing.
    pub async fn run(mut self) {
        loop {
            self.tell().await;
            let second_look = self
                .survey
                .second_look()
                .into_iter()
                .chain(self.config_half.as_ref().map(|(_, at)| *at))
                .chain(self.config_young.map(|(_, at)| at))
                .chain(self.look_again)
                .min();
            let wait = async {
                match second_look {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                hint = self.watcher.next() => {
                    self.look(Some(hint)).await;
                }
                () = wait => {
                    self.look(None).await;
                }
                Some(reply) = self.requests.recv() => {
                    self.survey.forget();
                    self.config_disproved = None;
                    self.config_half = None;
                    self.config_young = None;
                    let report = self.look(Some(Hint::Asked)).await;
                    // Who asked may have gone.
                    let _ = reply.send(report);
                }
            }
        }
    }

    /// One look at everything.
    async fn look(&mut self, hint: Option<Hint>) -> Report {
        let started = Instant::now();
        // After a mere rescan the files are old, where others are told; what is wrong with them stays wrong.
        let hasty = match hint {
            Some(Hint::Rescan) => self.watcher.degraded().is_some(),
            hint => hint != Some(Hint::Asked),
        };
        self.look_again = None;
        let current = self.publish.borrow().clone();
        self.make_folder(&current.config.agent.plugins_dir);
        let mut candidate = self.read_config(&current, hasty).await;
        if hint != Some(Hint::Asked) && self.is_being_written(candidate.as_deref()) {
            candidate = None;
        }
        let folder = candidate.as_ref().unwrap_or(&current.config);
        let folder = folder.agent.plugins_dir.clone();
        if candidate.is_some() {
            self.survey.unsettle();
        }
        let files = self.files(&folder).await;
        // Two attempts at most: with the new configuration, and with the one that runs already.
        let next = loop {
            let config = candidate.clone().unwrap_or_else(|| current.config.clone());
            match self.attempt(Some(&current), config, &files, hasty).await {
                Ok(next) => break next,
                Err(reason) => {
                    self.refuse_config(reason.into(), &[]);
                    if let Some(refused) = candidate.take() {
                        let with = current.plugins.clone();
                        self.config_disproved = Some((refused.source.digest, with));
                    } else {
                        break Generation::clone(&current);
                    }
                }
            }
        };
        self.loaded.clear();
        self.survey.postpone();
        let disproved = self.config_disproved.as_ref();
        if disproved.is_some_and(|(_, with)| !next.plugins.is_same(with)) {
            // Not at once: whatever flips with each look must not spin.
            self.look_again = Some(Instant::now() + QUIET);
        }
        if candidate.is_some() {
            self.config_refused = None;
            self.config_disproved = None;
        }
        let changed = !Arc::ptr_eq(&next.config, &current.config)
            || !next.plugins.is_same(&current.plugins)
            || next.status != current.status;
        if changed {
            let since = match hint {
                Some(Hint::Changed(event)) => event,
                _ => started,
            };
            self.swap(&current, Arc::new(next), since);
        }
        let generation = self.publish.borrow().clone();
        self.watch(&generation.config);
        self.tell_conditions(&generation);
        Report {
            generation: generation.number,
            changed,
            config_refused: self.config_refused.clone(),
            rejected: generation
                .plugins
                .plugins
                .iter()
                .filter_map(|(name, plugin)| {
                    let rejection = plugin.rejected.as_ref()?;
                    Some((name.clone(), rejection.reason.clone()))
                })
                .collect(),
        }
    }

    /// The configuration on disk, if it is good and another than the one that runs.
    async fn read_config(&mut self, current: &Generation, hasty: bool) -> Option<Arc<Config>> {
        let load = self.load_config.clone();
        let read = tokio::task::spawn_blocking(move || load()).await;
        let read = match read {
            Ok(read) => read,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let rejected = match read {
            Ok(Loaded {
                config, warnings, ..
            }) => {
                self.config_half = None;
                self.config_files.clear();
                let digest = config.source.digest;
                if digest == current.config.source.digest {
                    self.config_refused = None;
                    self.config_disproved = None;
                    return None;
                }
                let disproved = self.config_disproved.as_ref();
                let again = disproved.is_some_and(|(refused, with)| {
                    *refused == digest && current.plugins.is_same(with)
                });
                if again {
                    return None;
                }
                self.config_warnings = warnings;
                return Some(Arc::new(config));
            }
            Err(rejected) => rejected,
        };
        let mistakes: Arc<str> = rejected.to_string().into();
        self.config_files = rejected.files;
        let now = Instant::now();
        match self.config_half.take() {
            _ if self.config_refused.as_ref() == Some(&mistakes) => {}
            Some((before, at)) if hasty && at > now && before == mistakes => {
                self.config_half = Some((before, at));
            }
            Some((before, _)) if before == mistakes => {
                self.refuse_config(mistakes, &rejected.mistakes);
            }
            _ if hasty => self.config_half = Some((mistakes, now + SECOND_LOOK)),
            _ => self.refuse_config(mistakes, &rejected.mistakes),
        }
        None
    }

    /// Whether a good configuration may be the first half of another one. Sets when to look again.
    fn is_being_written(&mut self, candidate: Option<&Config>) -> bool {
        let since = self.config_young.take().map(|(since, _)| since);
        let Some(config) = candidate else {
            return false;
        };
        let files = config.source.files.iter().map(PathBuf::as_path);
        let Some(until) = self.watcher.unfinished(files) else {
            return false;
        };
        let since = since.unwrap_or_else(Instant::now);
        // As with everything that is written without end.
        if until > since + QUIET_MAX {
            return false;
        }
        self.config_young = Some((since, until));
        true
    }

    fn refuse_config(&mut self, reason: Arc<str>, mistakes: &[Finding]) {
        if self.config_refused.as_ref() == Some(&reason) {
            return;
        }
        tracing::error!(%reason, "the configuration is refused; the one before it goes on");
        self.untold.push(Notice::Event {
            kind: "config_rejected",
            subject: "config".into(),
            body: json!({ "reason": &*reason, "mistakes": mistakes }),
        });
        self.config_refused = Some(reason);
    }

    async fn files(&mut self, folder: &Path) -> Files {
        let survey = std::mem::take(&mut self.survey);
        let path = folder.to_owned();
        let looked = tokio::task::spawn_blocking(move || (survey.look(&path), survey)).await;
        let (files, survey) = match looked {
            Ok(looked) => looked,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.survey = survey;
        let before = self.unlisted.take();
        match files {
            Ok(files) => {
                if before.is_some() {
                    tracing::info!(folder = %folder.display(), "the plugin folder can be listed again");
                }
                Some(files)
            }
            Err(error) => {
                let folder = folder.display();
                let why = format!(
                    "the plugin folder {folder} cannot be listed: {error}; what runs goes on"
                );
                // Once: where the log lies in a folder that is watched, each line of it is a reason to look.
                if before.as_ref() != Some(&why) {
                    tracing::warn!("{why}");
                }
                self.unlisted = Some(why);
                None
            }
        }
    }

    /// Tries to make a generation of one configuration. The error is the configuration's fault.
    async fn attempt(
        &mut self,
        current: Option<&Generation>,
        config: Arc<Config>,
        files: &Files,
        hasty: bool,
    ) -> Result<Generation, String> {
        let running = current.map_or_else(Arc::default, |current| current.plugins.clone());
        self.sandbox.update(host_config(&config));
        let wants = self.survey.plan(files, &config, &running, hasty);
        let install = Install {
            loader: &self.loader,
            survey: &mut self.survey,
            loaded: &mut self.loaded,
            config: &config,
            running: &running,
            hasty,
        };
        let mut plugins = install.carry_out(wants).await;
        // Every turn puts one new component back, so there are no more turns than components.
        loop {
            let proof = Proof {
                previous: current,
                config: config.clone(),
                plugins: Arc::new(plugins.clone()),
                quarantine_bell: &self.quarantine_bell,
            };
            match proof.generation().await {
                Ok(next) => {
                    for ((name, ..), loaded) in &self.loaded {
                        let running = next.plugins.running(name);
                        if running.is_some_and(|running| Arc::ptr_eq(running, loaded)) {
                            self.survey.accept(name);
                        }
                    }
                    return Ok(next);
                }
                Err(Blame::Plugin(name, reason)) => {
                    let sha256 = plugins.running(&name).map(|refused| refused.sha256);
                    let rejection =
                        self.survey
                            .refuse(&name, sha256, reason.into(), Stage::Prove, &config);
                    let before = running.plugins.get(&name);
                    let entry = Plugin {
                        running: before.and_then(|before| before.running.clone()),
                        rejected: Some(rejection),
                        removed: false,
                    };
                    plugins.plugins.insert(name, entry);
                }
                Err(Blame::Config(reason)) => {
                    if let Some(current) = current {
                        self.sandbox.update(host_config(&current.config));
                    }
                    return Err(reason);
                }
            }
        }
    }

    /// Publishes, then tells what changed.
    fn swap(&mut self, old: &Generation, new: Arc<Generation>, since: Instant) {
        self.publish.send_replace(new.clone());
        let took = since.elapsed();
        for (name, plugin) in &new.plugins.plugins {
            let nothing = Plugin::default();
            let before = old.plugins.plugins.get(name).unwrap_or(&nothing);
            self.untold
                .extend(notice::of_plugin(name, before, plugin, took));
        }
        if !Arc::ptr_eq(&old.config, &new.config) {
            self.untold.push(notice::of_config(old, &new, took));
            for warning in std::mem::take(&mut self.config_warnings) {
                let place = warning.place();
                tracing::warn!(place, "{}", warning.message);
            }
        }
        notice::log_unready(&new);
    }

    /// Meta-alerts as they follow from what is live.
    fn tell_conditions(&mut self, generation: &Generation) {
        let refused = self.config_refused.clone();
        let blind = self.unlisted.clone().or_else(|| self.watcher.degraded());
        let now = notice::metas(generation, refused, blind);
        self.untold.extend(self.metas.set(now));
    }

    async fn tell(&mut self) {
        for notice in std::mem::take(&mut self.untold) {
            // The receiver goes before this task only at the end of the process.
            if self.notices.send(notice).await.is_err() {
                return;
            }
        }
    }

    fn watch(&mut self, config: &Config) {
        let refused = self.config_files.iter();
        let files: Vec<PathBuf> = config
            .source
            .files
            .iter()
            .chain(refused)
            .flat_map(|file| folders_of(file))
            .collect();
        let includes = config.source.watch.iter().cloned();
        let plugins = std::iter::once(config.agent.plugins_dir.clone());
        self.watcher
            .watch(files.into_iter().chain(includes).chain(plugins));
    }

    /// Makes the plugin folder, so that there is one to watch and to drop into.
    fn make_folder(&self, folder: &Path) {
        if folder.is_dir() {
            return;
        }
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        if let Err(error) = made {
            tracing::debug!(folder = %folder.display(), %error, "there is no plugin folder");
        }
    }
}

/// The part of the configuration that every host call may ask for.
fn host_config(config: &Config) -> HostConfig {
    HostConfig {
        secrets: config.secrets.clone(),
        commands: config.commands.clone(),
        mail: config.mail.clone(),
    }
}
