//! Runs components. The only folder that names wasmtime; the rest of the agent sees the plain types here.
//!
//! ```text
//!   artefact (our own compiler's output) --load--> Component --use--> Probe | Rule | Notifier | Action
//!                                                                        |
//!                              fresh store for every call: limits, grants, host state; dropped afterwards
//! ```
//!
//! A guest call starts on its caller's thread and goes on, from its first wait or tick, on the guests' own
//! small runtime; it has a wall limit, a CPU budget (epochs), a memory cap, a hostcall cap. Nothing of the guest survives the call but what it put into `state`.
//!
//! * [`engine`]: the one configuration of wasmtime, the clock of the CPU limit, the guests' threads;
//! * `executable`: whether native code can run here at all;
//! * [`artefact`]: compiling (in the child process) and reviving; here native code is believed;
//! * [`component`]: what is loaded, and what it may import;
//! * `calls`: one call from the fresh store to the answer; `lanes`: on which thread; `explain`: how it ended;
//! * [`uses`]: the four kinds as the agent calls them;
//! * [`host`]: all that a guest can reach, one file an interface;
//! * [`egress`]: the one way to the network; [`secrets`]: what is filled in there and masked everywhere else;
//! * `convert`: every check of what a guest says.

pub mod artefact;
mod bindings;
mod calls;
pub mod component;
mod convert;
pub mod egress;
pub mod engine;
mod executable;
mod explain;
pub mod grants;
pub mod host;
mod lanes;
mod limits;
mod patience;
pub mod secrets;
pub mod types;
pub mod uses;
mod wants;

pub use artefact::{COMPONENT_BYTES_MAX, CompileError, compatibility_key, compile};
pub use component::{CONTRACT, Component, LoadError};
pub use engine::{
    EngineError as SandboxError, HAS_INTERPRETER, Settings, Settings as SandboxSettings,
};
pub use host::events::{EventSink, NoEvents, PluginEvent};
pub use host::log::{LogLine, LogSink, TracingLog};
pub use host::state::{MemoryState, StateStore, StateStoreError};
pub use host::{HostConfig, HostServices};
pub use uses::{Action, Notifier, Probe, Rule};
pub use wants::{unmet, wants};

use engine::{Threads, Ticker};
use std::fs::File;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The engine, its threads and what guests may use of the agent. Clones share it; one a process.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
    settings: Settings,
}

/// What a running call needs; not the threads, which must not be dropped on one of themselves.
struct Shared {
    engine: wasmtime::Engine,
    ticker: Arc<Ticker>,
    host: Arc<host::Host>,
    /// Calls that may be under way at a time.
    places: Semaphore,
    lanes: Arc<lanes::Lanes>,
}

impl Sandbox {
    /// Starts the engine and its threads. Turns to the small address space where the large one does not fit;
    /// [`Sandbox::settings`] says which it is, and artefacts must be compiled for that.
    ///
    /// # Errors
    /// This system cannot run WebAssembly (no executable memory, no threads).
    pub fn new(settings: Settings, services: HostServices) -> Result<Self, SandboxError> {
        let (engine, settings, calls) = engine::fitting(settings)?;
        let ticker = Ticker::start(&engine)?;
        Ok(Sandbox {
            shared: Arc::new(Shared {
                engine,
                ticker,
                host: Arc::new(host::Host::new(services)),
                places: Semaphore::new(calls),
                lanes: Arc::new(lanes::Lanes::new(engine::LANES)),
            }),
            threads: Arc::new(Threads::start()?),
            settings,
        })
    }

    /// The settings that hold.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Swaps secrets, commands and the mail server; calls that run keep what they began with.
    pub fn update(&self, config: HostConfig) {
        self.shared.host.update(config);
    }

    /// Loads what [`compile`] made. `sha256` is the digest of the component, `stub_wasi` links the whole
    /// of WASI 0.2 with everything denied, for run times that import it unused.
    ///
    /// `artefact` is executed as it stands: it must come from [`compile`] with [`Sandbox::settings`], and be
    /// authenticated by the caller.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(
        &self,
        name: &str,
        sha256: [u8; 32],
        artefact: &[u8],
        stub_wasi: bool,
    ) -> Result<Component, LoadError> {
        Component::load(self, name, sha256, artefact, None, stub_wasi)
    }

    /// As [`Sandbox::load`], from `file`, which holds the same bytes and has no name: its pages are mapped, so that
    /// what is never used of them costs no memory. Where that is not possible, `artefact` is copied.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_mapped(
        &self,
        name: &str,
        sha256: [u8; 32],
        artefact: &[u8],
        file: &File,
        stub_wasi: bool,
    ) -> Result<Component, LoadError> {
        Component::load(self, name, sha256, artefact, Some(file), stub_wasi)
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.ticker.close();
    }
}
