//! What a guest can reach: the list of all power. One file for each interface of `wit/host.wit`.
//!
//! ```text
//!   guest ──call──> charge() ── grant? ── do it ── answer() ──> guest
//!                     │            └ no: denied, with the line to add to the configuration
//!                     └ over the budget: trap
//! ```
//!
//! Every function starts with [`HostState::charge`] and ends with [`HostState::answer`]; what lies
//! between returns a plain [`CallError`]. Nothing here blocks a guest thread for long: what the
//! kernel may hold up runs on the blocking threads, everything else is bounded in time or asynchronous.

pub mod commands;
pub mod control;
pub mod dns;
pub mod events;
pub mod files;
mod glob;
pub mod http;
pub mod log;
pub mod mail;
pub mod process;
pub mod secrets;
pub mod state;
pub mod system;
pub mod tcp;

use super::bindings::{imports, wit};
use super::egress::{GrantError, Network, NetworkSettings, Reach};
use super::limits::{Budget, Output, Together};
use super::patience::Patience;
use super::secrets::Secrets;
use super::types::{CallError, CommandSpec, Cost, Kind, Limits, MailServer, SecretSource, Use};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

/// Host calls in one guest call. A probe makes some dozens; ten thousand are a loop gone wrong.
pub const HOST_CALLS_MAX: u32 = 10_000;
/// Resources (streams, connections) that one call may hold.
const RESOURCES_MAX: usize = 256;
/// Random bytes for one request; the default of 64 MiB is host memory.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Left of a call for the guest to put an answer together after a host function that came to nothing.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Different refusals that one use logs; the same text is logged once.
const REFUSALS_LOGGED: usize = 64;

/// What the rest of the agent does for guests.
#[derive(Clone)]
pub struct HostServices {
    /// Keeps `state`.
    pub state: Arc<dyn state::StateStore>,
    /// Takes events.
    pub events: Arc<dyn events::EventSink>,
    /// Takes log lines.
    pub log: Arc<dyn log::LogSink>,
    /// What of the configuration concerns guests.
    pub config: HostConfig,
    /// Where the machine is read.
    pub system: system::SystemSettings,
}

/// What of the configuration concerns guests and may change while they run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostConfig {
    /// `[secrets]`.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `[command.NAME]`.
    pub commands: BTreeMap<String, CommandSpec>,
    /// `[mail]`.
    pub mail: Option<MailServer>,
}

/// What all calls share.
pub(crate) struct Host {
    pub(crate) state: Arc<dyn state::StateStore>,
    pub(crate) events: Arc<dyn events::EventSink>,
    pub(crate) log: Arc<dyn log::LogSink>,
    pub(crate) config: ArcSwap<HostConfig>,
    pub(crate) system: Arc<system::Reader>,
    pub(crate) network: Arc<Network>,
    pub(crate) secrets: Arc<Secrets>,
    /// Memory of all calls.
    pub(crate) together: Arc<Together>,
}

/// One use of a plugin: lives as long as its table does not change.
pub(crate) struct Using {
    /// Name of the component.
    pub(crate) plugin: Arc<str>,
    pub(crate) kind: Kind,
    /// `id`, configuration, grants, limits.
    pub(crate) settings: Use,
    /// Its way to the network.
    pub(crate) reach: Arc<Reach>,
    /// One call at a time.
    pub(crate) gate: Arc<Semaphore>,
    /// Whether its calls may start on their caller's thread.
    pub(crate) patience: Patience,
    pub(crate) log_bucket: Mutex<log::Bucket>,
    pub(crate) event_bucket: Mutex<log::Bucket>,
    refusals: Mutex<HashSet<String>>,
}

/// The data of one store: one guest call.
pub(crate) struct HostState {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    pub(crate) budget: Budget,
    /// Ticks of CPU time that are left.
    pub(crate) ticks_left: u32,
    /// CPU time of the stretches that ticks ended.
    pub(crate) spent: Duration,
    /// Counted while the call runs.
    pub(crate) cost: Cost,
    pub(crate) host: Arc<Host>,
    pub(crate) using: Arc<Using>,
    /// When the call ends, answered or not.
    pub(crate) deadline: Instant,
    /// The action must not change anything.
    pub(crate) dry_run: bool,
    /// Writes to `state`, kept only if the call succeeds.
    pub(crate) writes: state::Writes,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// What is special about one call.
#[derive(Default)]
pub(crate) struct CallSettings {
    pub(crate) dry_run: bool,
    /// A rule's clock stands still here and its randomness follows from it: the same batch gives the same verdicts.
    pub(crate) fixed_ms: Option<u64>,
}

/// The guest is ended for what it did to the host. Travels through wasmtime as a trap.
#[derive(Debug, thiserror::Error)]
#[error("more than {HOST_CALLS_MAX} host calls")]
pub(crate) struct HostCallsSpent;

/// The start of a host call; give it back to [`HostState::answer`].
#[must_use = "the time of a host call is counted by answer()"]
pub(crate) struct Charged(Instant);

impl HostServices {
    /// With nothing configured yet, for the machine at `/`.
    pub fn new(
        state: Arc<dyn state::StateStore>,
        events: Arc<dyn events::EventSink>,
        log: Arc<dyn log::LogSink>,
    ) -> Self {
        HostServices {
            state,
            events,
            log,
            config: HostConfig::default(),
            system: system::SystemSettings::default(),
        }
    }
}

impl Host {
    pub(crate) fn new(services: HostServices) -> Self {
        let secrets = Secrets::new(services.config.secrets.clone());
        let network = Network::new(NetworkSettings {
            mail: services.config.mail.clone(),
            ..NetworkSettings::default()
        });
        Host {
            state: services.state,
            events: services.events,
            log: services.log,
            config: ArcSwap::from_pointee(services.config),
            system: Arc::new(system::Reader::new(services.system)),
            network: Arc::new(network),
            secrets: Arc::new(secrets),
            together: Arc::default(),
        }
    }

    /// Takes what a new configuration says; calls that run may see the new secrets.
    pub(crate) fn update(&self, config: HostConfig) {
        self.secrets.replace(config.secrets.clone());
        self.network.mail.store(config.mail.clone().map(Arc::new));
        self.config.store(Arc::new(config));
    }
}

impl Using {
    pub(crate) fn new(
        host: &Host,
        plugin: Arc<str>,
        kind: Kind,
        settings: Use,
    ) -> Result<Self, Vec<GrantError>> {
        let reach = Reach::new(
            Arc::clone(&settings.id),
            &settings.grants,
            Arc::clone(&host.secrets),
            Arc::clone(&host.network),
        )?;
        Ok(Using {
            plugin,
            kind,
            settings,
            reach: Arc::new(reach),
            gate: Arc::new(Semaphore::new(1)),
            patience: Patience::default(),
            log_bucket: Mutex::new(log::Bucket::of_logs()),
            event_bucket: Mutex::new(log::Bucket::of_events()),
            refusals: Mutex::default(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Whether its guest may be shown secrets: what it says is then masked before anybody reads it.
    pub(crate) fn sees_secrets(&self) -> bool {
        let mut granted = self.settings.grants.secrets.values();
        granted.any(|secret| secret.reveal)
    }

    /// The table of the configuration that describes this use: `[[probe]] "host"`.
    pub(crate) fn table(&self) -> String {
        let table = match self.kind {
            Kind::Probe => "probe",
            Kind::Rule => "rule",
            Kind::Notifier => "notifier",
            Kind::Action => "recovery",
        };
        format!("[[{table}]] {:?}", &*self.settings.id)
    }

    /// A refusal that says what to write: `line` is what stands inside `grant = { … }`.
    pub(crate) fn denied(&self, what: &str, line: &str) -> CallError {
        CallError::Denied(format!(
            "{what} is not granted: add `grant = {{ {line} }}` to {}",
            self.table()
        ))
    }

    /// Logs a refusal the first time it happens in these words.
    fn tell_refusal(&self, host: &Host, text: &str) {
        let mut told = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < REFUSALS_LOGGED && told.insert(text.to_owned()) {
            host.log.line(log::LogLine {
                plugin: &self.plugin,
                id: &self.settings.id,
                kind: self.kind,
                level: log::Level::Warn,
                message: text,
                fields: &[],
            });
        }
    }
}

impl HostState {
    pub(crate) fn new(host: Arc<Host>, using: Arc<Using>, call: &CallSettings) -> Self {
        let (stdout, stderr) = (Output::default(), Output::default());
        // No environment, no arguments, no directories, no sockets: that is the builder's default.
        let mut wasi = WasiCtx::builder();
        wasi.max_random_size(RANDOM_BYTES_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .stdout(stdout.clone())
            .stderr(stderr.clone());
        if let Some(now_ms) = call.fixed_ms {
            let clock = FixedClock(Duration::from_millis(now_ms));
            wasi.wall_clock(clock)
                .monotonic_clock(clock)
                .secure_random(seeded(now_ms))
                .insecure_random(seeded(now_ms))
                .insecure_random_seed(u128::from(spread(now_ms)));
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let limits = using.limits();
        HostState {
            table,
            wasi: wasi.build(),
            budget: Budget::new(limits.memory_bytes, Arc::clone(&host.together)),
            ticks_left: ticks(limits.cpu),
            spent: Duration::ZERO,
            cost: Cost::default(),
            deadline: Instant::now() + using.limits().wall,
            host,
            using,
            dry_run: call.dry_run,
            writes: state::Writes::default(),
            stdout,
            stderr,
        }
    }

    /// The first line of every host function: counts the call.
    ///
    /// # Errors
    /// A trap once the guest made more than [`HOST_CALLS_MAX`] calls.
    pub(crate) fn charge(&mut self) -> wasmtime::Result<Charged> {
        if self.cost.host_calls >= HOST_CALLS_MAX {
            return Err(HostCallsSpent.into());
        }
        self.cost.host_calls += 1;
        Ok(Charged(Instant::now()))
    }

    /// The last line of every host function that can fail: counts its time and its refusal.
    pub(crate) fn answer<T>(
        &mut self,
        charged: Charged,
        result: Result<T, CallError>,
    ) -> wasmtime::Result<Result<T, wit::types::Error>> {
        self.settle(charged);
        Ok(result.map_err(|error| {
            if let CallError::Denied(text) = &error {
                self.cost.refusals += 1;
                self.using.tell_refusal(&self.host, text);
            }
            error.into()
        }))
    }

    /// What a host function may take of the call's time: all that is left but a little, so that the guest
    /// still hears that the other side was late, instead of being ended for it.
    pub(crate) fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // A tenth of a short call: a probe with a limit of 100 ms needs its time as well.
        left.saturating_sub(LAST_WORDS.min(left / 10))
    }

    /// Refuses what an action must not do while it only shows what it would do.
    pub(crate) fn not_in_dry_run(&self, what: &str) -> Result<(), CallError> {
        if self.dry_run {
            return Err(CallError::Denied(format!(
                "{what} is not done in a dry run"
            )));
        }
        Ok(())
    }

    /// The last line of a host function that cannot fail.
    pub(crate) fn settle(&mut self, charged: Charged) {
        self.cost.host += charged.0.elapsed();
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl wit::types::Host for HostState {}

/// As the contract counts time.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Ticks of the epoch in a CPU budget; at least one.
fn ticks(cpu: Duration) -> u32 {
    let ticks = cpu.as_millis() / super::engine::TICK.as_millis();
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

/// Everything a component may import. What it must not import was refused when it was loaded; what
/// the operator did not grant is refused by each function.
///
/// With `stub_wasi` the whole of WASI 0.2 is there and denies: run times of Go import it unused.
pub(crate) fn link(linker: &mut Linker<HostState>, stub_wasi: bool) -> wasmtime::Result<()> {
    use imports::watchfire::plugin as all;
    type Own = HasSelf<HostState>;
    if stub_wasi {
        wasmtime_wasi::p2::add_to_linker_async(linker)?;
    } else {
        link_base_wasi(linker)?;
    }
    all::types::add_to_linker::<_, Own>(linker, |s| s)?;
    all::log::add_to_linker::<_, Own>(linker, |s| s)?;
    all::state::add_to_linker::<_, Own>(linker, |s| s)?;
    all::system::add_to_linker::<_, Own>(linker, |s| s)?;
    all::files::add_to_linker::<_, Own>(linker, |s| s)?;
    all::secrets::add_to_linker::<_, Own>(linker, |s| s)?;
    all::http::add_to_linker::<_, Own>(linker, |s| s)?;
    all::tcp::add_to_linker::<_, Own>(linker, |s| s)?;
    all::dns::add_to_linker::<_, Own>(linker, |s| s)?;
    all::mail::add_to_linker::<_, Own>(linker, |s| s)?;
    all::commands::add_to_linker::<_, Own>(linker, |s| s)?;
    all::control::add_to_linker::<_, Own>(linker, |s| s)?;
    all::events::add_to_linker::<_, Own>(linker, |s| s)
}

/// Command line, streams, clocks, randomness: what the standard libraries import even where unused.
fn link_base_wasi(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    use wasmtime::component::HasData;
    use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
    use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
    use wasmtime_wasi::p2::bindings::{cli, clocks, io, random};
    use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};

    struct Table;
    impl HasData for Table {
        type Data<'a> = &'a mut ResourceTable;
    }

    io::error::add_to_linker::<_, Table>(linker, |s: &mut HostState| &mut s.table)?;
    io::poll::add_to_linker::<_, Table>(linker, |s: &mut HostState| &mut s.table)?;
    io::streams::add_to_linker::<_, Table>(linker, |s: &mut HostState| &mut s.table)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, |s: &mut HostState| s.clocks())?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, |s: &mut HostState| {
        s.clocks()
    })?;
    random::random::add_to_linker::<_, WasiRandom>(linker, |s: &mut HostState| s.random())?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, |s: &mut HostState| s.random())?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, |s: &mut HostState| s.random())?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, |s: &mut HostState| s.cli())
}

/// A clock that stands still.
#[derive(Clone, Copy)]
struct FixedClock(Duration);

impl HostWallClock for FixedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for FixedClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Bytes that follow from `seed`, over and over: enough for a hash map's keys, and a guest that wants
/// real randomness is no rule.
fn seeded(seed: u64) -> wasmtime_wasi::random::Deterministic {
    let bytes = (0..32_u64).flat_map(|n| spread(seed ^ n).to_le_bytes());
    wasmtime_wasi::random::Deterministic::new(bytes.collect())
}

/// The finalizer of splitmix64.
fn spread(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sandbox::types::Grants;

    /// The state of one call of the use `test`.
    pub(crate) fn state(kind: Kind, grants: Grants) -> HostState {
        state_with(kind, grants, vec!["systemctl".into()])
    }

    pub(crate) fn state_with(kind: Kind, grants: Grants, systemctl: Vec<String>) -> HostState {
        let mut services = HostServices::new(
            Arc::new(state::MemoryState::default()),
            Arc::new(events::NoEvents),
            Arc::new(log::TracingLog),
        );
        services.system.systemctl = systemctl;
        let settings = Use {
            id: "test".into(),
            config: "{}".into(),
            grants: Arc::new(grants),
            limits: Limits::of(kind),
        };
        let host = Arc::new(Host::new(services));
        let using = Using::new(&host, "plugin".into(), kind, settings).unwrap();
        HostState::new(host, Arc::new(using), &CallSettings::default())
    }

    #[test]
    fn host_calls_are_counted_and_end() {
        let mut state = state(Kind::Probe, Grants::default());
        for _ in 0..HOST_CALLS_MAX {
            let charged = state.charge().unwrap();
            state.settle(charged);
        }
        let Err(trap) = state.charge() else {
            panic!("one call too many")
        };
        assert!(trap.downcast_ref::<HostCallsSpent>().is_some());
    }

    #[test]
    fn refusals_are_counted() {
        let mut state = state(Kind::Notifier, Grants::default());
        let charged = state.charge().unwrap();
        let refused = state.using.denied("mail", "mail = true");
        let answer = state.answer::<()>(charged, Err(refused)).unwrap();
        let Err(wit::types::Error::Denied(text)) = answer else {
            panic!("another case")
        };
        assert_eq!(
            text,
            "mail is not granted: add `grant = { mail = true }` to [[notifier]] \"test\""
        );
        assert_eq!(state.cost.refusals, 1);
    }

    #[test]
    fn a_fixed_clock_gives_fixed_randomness() {
        use wasmtime_wasi::random::Deterministic;
        let bytes = |seed| {
            let mut all = Vec::new();
            let _: Deterministic = seeded(seed);
            all.extend((0..4).map(|n| spread(seed ^ n)));
            all
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }
}
