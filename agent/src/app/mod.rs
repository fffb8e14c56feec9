//! The whole agent: builds every part in one straight function, starts them in order, stops them in
//! reverse. The only place that knows all parts.

mod doors;
mod events;
mod heartbeat;
mod plugin_state;
mod service;
mod signals;
mod status;
mod vitals;

use crate::api::{self, Api};
use crate::cli::RunOptions;
use crate::clock::Clock;
use crate::config::{self, Config, Environment, Rejected};
use crate::error::Failure;
use crate::pipeline;
use crate::plugin::cache::CodeCache;
use crate::plugin::compile::Compiler;
use crate::plugin::{Generation, Notice, Reloader, Setup, ward};
use crate::sandbox::{self, HostConfig, HostServices, Sandbox, SandboxSettings, TracingLog};
use crate::store::metrics::Recording;
use crate::store::{KeepMetrics, OpenError, Opened, Recorder, RecorderView, StateStore};
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::Metrics;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use watchfire_engine::input::{Condition, Input};
use watchfire_engine::model::{Instance, Labels, Now, RuleId, Severity};
use watchfire_engine::{Effects, State};

/// Stages drain for this long at shutdown; what is not sent by then stays in the outbox.
const DRAIN: Duration = Duration::from_secs(5);

/// Conditions and events that wait for the alert stage. It drains them between rounds; a full channel
/// makes its senders wait.
const NOTICES_WAITING: usize = 256;

/// Compiled code kept on disk. A hundred plugins of 2 MiB each fit.
const CODE_CACHE_BYTES: u64 = 256 << 20;

/// Old events are deleted this often; a day's worth more or less does not matter.
const CLEANUP_EVERY: Duration = Duration::from_secs(3_600);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// Configuration or state that cannot be used (exit code 78), a port that is taken, a system that
/// cannot run WebAssembly.
pub fn run(options: RunOptions) -> Result<(), Failure> {
    // One thread: the stages take turns, guests and SQLite have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    let ended = runtime.block_on(start(options));
    crate::telemetry::flush_log();
    ended
}

/// No crash writes what this process knows, its secrets above all, into a file; nor one of a command that it starts.
/// Crash handlers that the kernel hands a core to (systemd-coredump, apport) keep to the limit, too.
fn forbid_core_files() -> rustix::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
}

/// The configuration to start with, and what went before it.
struct Beginning {
    config: Arc<Config>,
    /// Why the one on disk is not `config`.
    refused: Option<Rejected>,
    store: StateStore,
    opened: Opened,
    log: LogHandle,
}

async fn start(options: RunOptions) -> Result<(), Failure> {
    let mut signals = signals::Signals::listen()?;
    let no_cores = forbid_core_files();
    let environment = environment(&options)?;
    let Beginning {
        config,
        refused,
        store,
        opened,
        log,
    } = begin(&options, &environment)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        host = &*config.agent.host,
        config = %config.source.main.as_deref().map_or_else(|| "built in".into(), Path::to_string_lossy),
        data = %config.agent.data_dir.display(),
        "watchfire starts"
    );
    if let Err(error) = no_cores {
        tracing::warn!(%error, "core files stay allowed: one would hold secrets");
    }

    let clock = Clock::resume(opened.clock.as_ref());
    let now = clock.now();
    let engine = if opened.rows.is_empty() {
        (State::new(&config.policy, now), Effects::default())
    } else {
        let (state, effects, unreadable) = State::restore(opened.rows, &config.policy, now);
        for error in unreadable {
            tracing::error!(
                table = error.table.name(),
                key = error.key,
                error = error.message,
                "a stored record cannot be read: it is left out"
            );
        }
        (state, effects)
    };
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let (notices, notices_out) = mpsc::channel(NOTICES_WAITING);

    sandbox::egress::tls::install_crypto_provider();
    let plugin_state =
        plugin_state::PluginMemory::start(opened.plugin_state, store.clone(), clock.clone());
    let services = HostServices {
        state: Arc::new(plugin_state),
        events: Arc::new(events::PluginEvents::new(notices.clone())),
        log: Arc::new(TracingLog),
        config: host_config(&config),
        system: sandbox::host::system::SystemSettings::default(),
    };
    let wanted = SandboxSettings {
        small_address_space: config.engine.small_address_space.unwrap_or(false),
        interpreter: config.engine.interpreter.unwrap_or(false),
    };
    let sandbox = Sandbox::new(wanted, services)?;
    let settings = sandbox.settings();
    let (ask_reload, requests) = mpsc::channel(1);
    let setup = Setup {
        compatibility: sandbox::compatibility_key(settings)?,
        compiler: Compiler::of_this_process(settings.compile_options()),
        cache: code_cache(&config.agent.data_dir),
        load_config: load_config(options.clone(), environment.clone()),
        sandbox,
        config: config.clone(),
        config_refused: refused,
        notices: notices.clone(),
        requests,
    };
    let (reloader, generation) = tokio::select! {
        biased;
        () = signals.end() => {
            // Nothing runs yet but the store.
            tracing::info!("watchfire stops");
            store.close().await;
            return Ok(());
        }
        started = Reloader::start(setup) => started,
    };
    let mut engine = engine;
    if opened.lost.is_some() {
        forget_all(&mut engine, &generation.borrow(), now);
    }

    let recording = record(&config, now);
    let (recorder, recorded) = match recording {
        Some(Recording {
            recorder,
            pasts,
            done,
        }) => (Some((recorder, pasts)), Some(done)),
        None => (None, None),
    };
    let history = recorder.as_ref().map(|(recorder, _)| recorder.view());
    let kept = history.clone();
    let over = conditions_over(&engine.0, &generation.borrow());
    let running = pipeline::spawn(pipeline::Parts {
        clock: clock.clone(),
        generation: generation.clone(),
        engine,
        store: store.clone(),
        notices: notices_out,
        recording: recorder,
        metrics: metrics.clone(),
    });
    if let Some(reason) = opened.lost {
        tell_lost_state(&notices, &reason).await;
    }
    for condition in over {
        // The alert stage drains them while this waits.
        let _ = notices.send(Notice::Condition(condition)).await;
    }
    let (config_in, config_out) = watch::channel(config.clone());
    let (quarantined_in, quarantined) = watch::channel(Arc::default());
    let status = status::follow(
        generation.clone(),
        metrics.clone(),
        running.views.alerts.clone(),
        quarantined,
    );
    let bell = reloader.quarantine_bell();
    let ward = ward::watch(generation.clone(), bell, notices.clone(), quarantined_in);
    let api = Api::new(api::Sources {
        views: running.views.clone(),
        metrics: metrics.clone(),
        config: config_out,
        status,
        events: Arc::new(events::History::new(
            store.clone(),
            clock.clone(),
            generation.clone(),
            history.clone(),
        )),
        token: doors::token(&config.agent.data_dir)?,
    });
    let (stop_doors, doors_stop) = watch::channel(false);
    let doors = doors::open(&config, &api, &doors_stop).await?;

    let side = vec![
        tokio::spawn(reloader.run()),
        tokio::spawn(ward),
        tokio::spawn(keep_last_good(
            generation.clone(),
            store.clone(),
            config_in,
            log,
            history,
        )),
        tokio::spawn(heartbeat::beat(
            generation.clone(),
            running.views.clone(),
            metrics.clone(),
        )),
        tokio::spawn(crate::heap::keep_lean(generation.clone(), store.clone())),
        tokio::spawn(clean_up(store.clone(), clock.clone(), generation)),
        tokio::spawn(vitals::watch(
            clock,
            running.views.clone(),
            kept,
            notices.clone(),
        )),
    ];
    let service = service::Service::of_process();
    service.ready();
    tokio::select! {
        () = signals.end_or_reload(&ask_reload) => {}
        () = service.live(&api) => {}
    }

    tracing::info!("watchfire stops");
    service.stopping();
    for task in side {
        task.abort();
    }
    // Stages end by themselves once the source stops; whoever is late is named.
    running.stop.send_replace(true);
    drop(notices);
    drain(running.stages).await;
    if let Some(done) = recorded {
        finish_history(done).await;
    }
    stop_doors.send_replace(true);
    drain(doors).await;
    store.close().await;
    Ok(())
}

/// Configuration, log and store; the store first where the configuration on disk is broken, for it
/// holds the last good one.
fn begin(options: &RunOptions, environment: &Environment) -> Result<Beginning, Failure> {
    match config::load(options.config.as_deref(), environment) {
        Ok(loaded) => {
            let config = with_options(loaded.config, options);
            let log = crate::telemetry::log::init(&config.log, &config.agent.host)?;
            for warning in &loaded.warnings {
                tracing::warn!(place = warning.place(), "{}", warning.message);
            }
            let (store, opened) = open_store(&config.agent.data_dir)?;
            Ok(Beginning {
                config: Arc::new(config),
                refused: None,
                store,
                opened,
                log,
            })
        }
        Err(rejected) => begin_with_last_good(options, environment, rejected),
    }
}

fn begin_with_last_good(
    options: &RunOptions,
    environment: &Environment,
    rejected: Rejected,
) -> Result<Beginning, Failure> {
    let unusable = |why: &str| {
        let mistakes = config::render(&rejected.mistakes, false);
        Failure::config(format!(
            "{mistakes}\nthe configuration cannot be used, and {why}"
        ))
    };
    let data_dir = config::data_dir_of_broken(options.config.as_deref(), environment);
    if !data_dir.join("state.db").exists() {
        return Err(unusable("there is no last good one to run instead"));
    }
    let (store, opened) = open_store(&data_dir)?;
    let Some(texts) = &opened.last_good_config else {
        return Err(unusable("there is no last good one to run instead"));
    };
    let texts: Vec<(PathBuf, Arc<str>)> = texts
        .iter()
        .map(|(path, text)| (path.clone(), text.as_str().into()))
        .collect();
    let loaded = config::from_texts(&texts, environment)
        .map_err(|error| unusable(&format!("neither can the last good one: {error}")))?;
    let config = with_options(loaded.config, options);
    let log = crate::telemetry::log::init(&config.log, &config.agent.host)?;
    let reason = rejected.to_string();
    tracing::error!(%reason, "the configuration is refused; the last good one runs");
    Ok(Beginning {
        config: Arc::new(config),
        refused: Some(rejected),
        store,
        opened,
        log,
    })
}

fn open_store(data_dir: &Path) -> Result<(StateStore, Opened), Failure> {
    StateStore::open(data_dir).map_err(|error| {
        let text = crate::error::chain(&error);
        match error {
            OpenError::InUse { .. } => Failure::failed(text),
            _ => Failure::config(text),
        }
    })
}

/// The surroundings, with what the command line decides.
fn environment(options: &RunOptions) -> Result<Environment, Failure> {
    let mut environment = Environment::of_process();
    if let Some(data_dir) = &options.data_dir {
        environment.data_dir_override = Some(environment.cwd.join(data_dir));
    }
    if let Some(path) = &options.config
        && !environment.cwd.join(path).exists()
    {
        return Err(Failure::config(format!(
            "there is no configuration {}: write the path of one, or leave --config out",
            path.display()
        )));
    }
    Ok(environment)
}

fn with_options(mut config: Config, options: &RunOptions) -> Config {
    options.apply(&mut config);
    config
}

/// For the reloader: the same way as at the start.
fn load_config(options: RunOptions, environment: Environment) -> crate::plugin::LoadConfig {
    Arc::new(move || {
        let mut loaded = config::load(options.config.as_deref(), &environment)?;
        options.apply(&mut loaded.config);
        Ok(loaded)
    })
}

fn host_config(config: &Config) -> HostConfig {
    HostConfig {
        secrets: config.secrets.clone(),
        commands: config.commands.clone(),
        mail: config.mail.clone(),
    }
}

/// None: the folder cannot be trusted. The agent runs without, and compiles at each start.
fn code_cache(data_dir: &Path) -> Option<CodeCache> {
    CodeCache::open(data_dir, CODE_CACHE_BYTES)
        .inspect_err(|error| {
            let error = crate::error::chain(error);
            tracing::warn!(error, "compiled code is not kept: every start compiles");
        })
        .ok()
}

/// Conditions of the process before that nobody will end: what it said of its store, its state and its
/// own vitals, refusals of plugins that are gone or in use no more, and probes that were
/// removed while no agent ran.
fn conditions_over(state: &State, generation: &Generation) -> Vec<Condition> {
    let refused = |name: &str| crate::plugin::notice::is_amiss(generation, name);
    let alerts = state.alerts();
    let over = alerts.iter().filter(|view| {
        let labels = &view.instance.labels;
        match view.instance.rule.as_str() {
            "watchfire_state_lost" | "watchfire_store_degraded" | ward::QUARANTINED => true,
            name if vitals::NAMES.contains(&name) => true,
            "watchfire_plugin_rejected" => !labels.get("plugin").is_some_and(refused),
            _ => false,
        }
    });
    over.map(|view| Condition {
        alert: view.instance.clone(),
        severity: view.snapshot.severity,
        active: false,
        summary: "over since the restart".into(),
    })
    .chain(pipeline::conditions_of_removed_probes(state, generation))
    .collect()
}

/// The engine begins in amnesia: what it says goes before anything else.
fn forget_all(engine: &mut (State, Effects), generation: &Generation, now: Now) {
    let receivers = generation.folding_notifiers();
    let policy = &generation.config.policy;
    let lost = watchfire_engine::step(&mut engine.0, policy, Input::Lost { receivers }, now);
    engine.1.records.extend(lost.records);
    engine.1.events.extend(lost.events);
}

/// `watchfire_state_lost` stays until the next start: silences and acknowledgements are gone, and
/// somebody has to know.
async fn tell_lost_state(notices: &mpsc::Sender<Notice>, reason: &str) {
    tracing::error!(reason, "the state was lost: it begins anew");
    let condition = Condition {
        alert: Arc::new(Instance::new(
            RuleId::new("watchfire_state_lost"),
            Labels::default(),
        )),
        severity: Severity::High,
        active: true,
        summary: format!(
            "the state was lost and begins anew, without silences, acknowledgements and the record of recovery: {reason}"
        )
        .into(),
    };
    // The alert stage outlives this call.
    let _ = notices.send(Notice::Condition(condition)).await;
}

/// Persists each configuration that went live as the last good one, and lets the log and the API follow.
async fn keep_last_good(
    mut generation: watch::Receiver<Arc<Generation>>,
    store: StateStore,
    config: watch::Sender<Arc<Config>>,
    log: LogHandle,
    history: Option<RecorderView>,
) {
    let mut kept: Option<[u8; 32]> = None;
    loop {
        let live = generation.borrow_and_update().config.clone();
        if kept != Some(live.source.digest) {
            kept = Some(live.source.digest);
            log.set_level(live.log.level);
            if let Some(history) = &history {
                history.keep(keep_metrics(&live));
            }
            let texts = live.source.texts.iter();
            let texts = texts
                .map(|(path, text)| (path.clone(), text.to_string()))
                .collect();
            if let Err(error) = store.save_config(texts).await {
                let error = crate::error::chain(&error);
                tracing::warn!(
                    error,
                    "the configuration could not be kept as the last good one"
                );
            }
            config.send_replace(live);
        }
        if generation.changed().await.is_err() {
            return;
        }
    }
}

/// Starts the history of samples. Without it everything but long windows over a restart works.
fn record(config: &Config, now: Now) -> Option<Recording> {
    Recorder::start(&config.agent.data_dir, keep_metrics(config), now)
        .inspect_err(|error| {
            tracing::error!(%error, "samples are not kept on disk: the thread cannot be started");
        })
        .ok()
}

fn keep_metrics(config: &Config) -> KeepMetrics {
    KeepMetrics {
        samples: config.retention.metrics,
        rollups: config.retention.rollups,
        bytes_max: config.retention.metrics_bytes_max,
    }
}

/// Waits until the open chunks are written, within the limit of the stages.
async fn finish_history(done: oneshot::Receiver<()>) {
    if tokio::time::timeout(DRAIN, done).await.is_err() {
        tracing::warn!(
            "the history of samples was not written in time: up to 5 minutes of it are lost"
        );
    }
}

/// Deletes events beyond their retention.
async fn clean_up(store: StateStore, clock: Clock, generation: watch::Receiver<Arc<Generation>>) {
    loop {
        tokio::time::sleep(CLEANUP_EVERY).await;
        let keep = events::keep(&generation.borrow().config.retention);
        match store.cleanup(clock.now(), keep).await {
            Ok(cleaned) => {
                if let Some(reason) = cleaned.unsound {
                    tracing::warn!(
                        reason,
                        "no event was deleted: the wall clock cannot be trusted"
                    );
                } else if cleaned.deleted > 0 {
                    tracing::info!(deleted = cleaned.deleted, "old events deleted");
                }
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "old events could not be deleted");
            }
        }
    }
}

/// Waits for the tasks, and names whoever is late.
async fn drain(tasks: Vec<(&'static str, JoinHandle<()>)>) {
    let until = tokio::time::Instant::now() + DRAIN;
    for (name, mut task) in tasks {
        if tokio::time::timeout_at(until, &mut task).await.is_err() {
            tracing::warn!(stage = name, "did not end in time and is left behind");
            task.abort();
        }
    }
}
