//! The one engine of a process, its clock, and the guests' own threads.

use super::egress::resolve::LOOKUPS;
use super::host::HostState;
use super::limits::{INSTANCES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;
use wasmtime::{Config, Enabled, Engine, EngineWeak, OptLevel, PoolingAllocationConfig, Store};

/// The grain of the CPU limit; also how often a guest gives its thread back.
pub const TICK: Duration = Duration::from_millis(10);
/// Calls that may be under way at a time. Nearly all of them wait: in a network outage every check of a remote
/// target hangs until its limit, and the check of this host must not stand in a queue behind them. What they hold
/// together is bounded by [`super::limits::TOGETHER_BYTES_MAX`], not by their number.
const CALLS_MAX: usize = 64;
/// The same where each call maps its own memories of 4 GiB: what is short there is address space.
const CALLS_UNPOOLED_MAX: usize = 8;
/// Memories of the pool for each of those calls: of 4 GiB of address space each, so half of what a store may have, and
/// twice what components have. Where all are taken a call comes to nothing and is made again the next time.
const MEMORIES_POOLED: usize = 4;
/// Threads for guests.
const GUEST_THREADS: usize = 3;
/// Those of them that may be held by uses that are not quick: the last one is for the others.
pub(crate) const LANES: usize = GUEST_THREADS - 1;
/// Threads for host calls that the kernel may hold up (`statvfs`, `open`), four beside those that a name server
/// which swallows questions can hold: in such an outage files are still read. Idle ones end by themselves.
const BLOCKING_THREADS: usize = 4 + LOOKUPS;
/// Stack of a guest. Wasmtime's own default, written down because artefacts depend on it.
const WASM_STACK_BYTES: usize = 512 << 10;
/// Stack of a guest and of the host functions it calls.
const ASYNC_STACK_BYTES: usize = 1 << 20;
/// Bytes of a stack that stay with the pool between calls; what a call took beyond goes back at once. They are wiped,
/// used or not, and a hundred probes that wait at a time leave as many stacks as there are: with 32 KiB each they took
/// 2 MiB, and no call was quicker.
const STACK_KEPT_BYTES: usize = 8 << 10;
/// Written bytes of a memory that stay with the pool between calls of a component, wiped: a plugin writes about
/// 100 KiB. Together with [`WARM_MAX`] this bounds what the pool costs while nothing runs.
const MEMORY_KEPT_BYTES: usize = 256 << 10;
/// Bytes of a table that stay likewise: one page, as most tables have.
const TABLE_KEPT_BYTES: usize = 4 << 10;
/// Memories that stay set up for the component that had them, while nothing runs.
const WARM_MAX: u32 = 4;
/// Host memory that describes one instance or component, bytes. The limit of the pool is not ours: it costs
/// nothing to allow, and the components that need most (Python) stay far below.
const INSTANCE_BYTES_MAX: usize = 64 << 20;
/// Address space of one linear memory where address space is short: the default limit of memory.
const SMALL_RESERVATION_BYTES: u64 = 64 << 20;
/// Guard behind such a memory.
const SMALL_GUARD_BYTES: u64 = 64 << 10;

/// What the engine's code depends on. Artefacts compiled under one setting do not load under the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Reserve 64 MiB of address space a memory instead of 4 GiB, at 13 % more code. Needed under
    /// `ulimit -v` and `LimitAS=`.
    pub small_address_space: bool,
    /// Interpret plugins instead of running them as native code, some eight times slower. Needed where memory cannot
    /// be made executable (`MemoryDenyWriteExecute=`); only in a build with the feature `pulley`.
    pub interpreter: bool,
}

/// Whether this build can interpret plugins.
pub const HAS_INTERPRETER: bool = cfg!(feature = "pulley");

/// What the interpreter is compiled for: Pulley's instructions, whatever the processor.
const INTERPRETER: &str = if cfg!(target_endian = "big") {
    "pulley64be"
} else {
    "pulley64"
};

/// The engine was refused.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Wasmtime does not run here.
    #[error("cannot start the sandbox: {0}")]
    Engine(String),
    /// Plugins are native code, and this build has nothing else.
    #[error(
        "cannot start the sandbox: memory cannot be made executable here (MemoryDenyWriteExecute=yes in the unit, or a policy of the kernel); take that back, or build watchfire with `--features pulley`, which interprets plugins"
    )]
    NotExecutable,
    /// No thread.
    #[error("cannot start the sandbox's threads")]
    Threads(#[source] std::io::Error),
}

/// Counts the guests that run and lets the epoch advance while there is one, and for one tick more: calls
/// that follow each other closely would otherwise wake its thread each time.
///
/// Invariant: `asleep` is set before `active` is looked at for the last time, and `active` is counted up
/// before `asleep` is looked at. Whichever comes second sees the other, so no guest runs without ticks.
pub(crate) struct Ticker {
    active: AtomicUsize,
    /// Whether a guest was there since the last tick.
    used: AtomicBool,
    /// Whether the thread sleeps until it is woken.
    asleep: AtomicBool,
    closed: AtomicBool,
    thread: Thread,
}

/// One running guest; dropped when it is done.
pub(crate) struct Running(Arc<Ticker>);

/// The guests' own runtime: what a plugin does never delays the agent's scheduler, signals or watchdog.
pub(crate) struct Threads(Option<tokio::runtime::Runtime>);

impl Settings {
    /// What the hidden command `compile` wants to hear, so that its artefacts are for these settings.
    pub fn compile_options(self) -> Vec<&'static str> {
        let small = self.small_address_space.then_some("--small-address-space");
        let interpreter = self.interpreter.then_some("--interpreter");
        small.into_iter().chain(interpreter).collect()
    }
}

/// The configuration of wasmtime, for the compiling child and for the agent: they must not differ.
pub(crate) fn config(settings: Settings) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .wasm_memory64(false)
        // Not switched off: wasmtime's own adapters between the parts of one component use two memories, and its
        // compiler panics without (componentize-qjs makes such components). The limiter sums all memories of a store.
        .wasm_multi_memory(true)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .native_unwind_info(false)
        // Nobody is shown a backtrace, only what the trap was and what the guest wrote. The table from native code to
        // places in the component would be a tenth of each artefact.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .cranelift_opt_level(OptLevel::Speed);
    if settings.small_address_space {
        config
            .memory_reservation(SMALL_RESERVATION_BYTES)
            .memory_guard_size(SMALL_GUARD_BYTES)
            .memory_reservation_for_growth(0);
    }
    if settings.interpreter {
        config.target(INTERPRETER)?;
    }
    Ok(config)
}

/// An engine for exactly these settings.
pub(crate) fn exact(settings: Settings) -> Result<Engine, EngineError> {
    config(settings)
        .and_then(|config| Engine::new(&config))
        .map_err(|error| EngineError::Engine(format!("{error:#}")))
}

/// The agent's engine, and how many calls it has room for: with a pool of memories and stacks where so much address
/// space can be reserved at once, else as [`exact`], else in the small address space. All of them load what was
/// compiled for the settings that come back. Where nothing can be executed, the interpreter is taken.
pub(crate) fn fitting(settings: Settings) -> Result<(Engine, Settings, usize), EngineError> {
    let settings = executable(settings)?;
    if settings.small_address_space {
        return Ok((exact(settings)?, settings, CALLS_MAX));
    }
    // Some processors have 39 bits of address space: too little for all, enough for as many as there are unpooled.
    for calls in [CALLS_MAX, CALLS_UNPOOLED_MAX] {
        if let Ok(engine) = pooled(settings, calls) {
            return Ok((engine, settings, calls));
        }
    }
    let engine = exact(settings)?;
    if fits(&engine) {
        return Ok((engine, settings, CALLS_UNPOOLED_MAX));
    }
    let small = Settings {
        small_address_space: true,
        ..settings
    };
    tracing::warn!("address space is limited: plugins reserve 64 MiB a memory instead of 4 GiB");
    Ok((exact(small)?, small, CALLS_MAX))
}

/// These settings, with the interpreter where native code cannot run.
fn executable(settings: Settings) -> Result<Settings, EngineError> {
    if settings.interpreter || super::executable::memory_can_be() {
        return Ok(settings);
    }
    if !HAS_INTERPRETER {
        return Err(EngineError::NotExecutable);
    }
    tracing::warn!(
        "memory cannot be made executable: plugins are interpreted, some eight times slower"
    );
    Ok(Settings {
        interpreter: true,
        ..settings
    })
}

/// An engine whose calls reuse memories, tables and stacks: a fresh mapping each costs more than all else in a
/// short call. What a call wrote is wiped before the next one gets it.
fn pooled(settings: Settings, calls: usize) -> wasmtime::Result<Engine> {
    let each_call = |count: usize| u32::try_from(calls * count).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    // As many as all calls together may have, but for memories, so that the limits of a store strike first.
    pool.total_core_instances(each_call(INSTANCES_MAX))
        .total_component_instances(each_call(INSTANCES_MAX))
        .total_memories(each_call(MEMORIES_POOLED))
        .total_tables(each_call(TABLES_MAX))
        .total_stacks(each_call(1))
        .max_tables_per_module(u32::try_from(TABLES_MAX).unwrap_or(u32::MAX))
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_unused_warm_slots(WARM_MAX)
        .async_stack_keep_resident(STACK_KEPT_BYTES)
        .table_keep_resident(TABLE_KEPT_BYTES);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        // Finds what was written. Without it the first bytes would be wiped, used or not.
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(MEMORY_KEPT_BYTES);
    }
    let mut config = config(settings)?;
    config.async_stack_zeroing(true).allocation_strategy(pool);
    Engine::new(&config)
}

/// Whether as many memories as calls can be reserved at once. Reserving costs no memory.
fn fits(engine: &Engine) -> bool {
    let mut store = Store::new(engine, ());
    (0..CALLS_UNPOOLED_MAX)
        .all(|_| wasmtime::Memory::new(&mut store, wasmtime::MemoryType::new(1, None)).is_ok())
}

impl Ticker {
    /// Starts the thread; it sleeps until a guest runs and ends with the engine.
    pub(crate) fn start(engine: &Engine) -> Result<Arc<Self>, EngineError> {
        let (send, receive) = std::sync::mpsc::sync_channel::<Arc<Ticker>>(1);
        let engine = engine.weak();
        let thread = std::thread::Builder::new()
            .name("watchfire-epoch".into())
            .spawn(move || {
                if let Ok(ticker) = receive.recv() {
                    ticker.run(&engine);
                }
            })
            .map_err(EngineError::Threads)?;
        let ticker = Arc::new(Ticker {
            active: AtomicUsize::new(0),
            used: AtomicBool::new(false),
            asleep: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            thread: thread.thread().clone(),
        });
        // The thread waits for exactly this one message, so there is room.
        let _ = send.send(Arc::clone(&ticker));
        Ok(ticker)
    }

    fn run(&self, engine: &EngineWeak) {
        while !self.closed.load(Ordering::Acquire) {
            if self.asleep.load(Ordering::SeqCst) {
                std::thread::park();
                continue;
            }
            std::thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
            let used = self.used.swap(false, Ordering::Relaxed);
            if !used && self.active.load(Ordering::SeqCst) == 0 {
                self.asleep.store(true, Ordering::SeqCst);
                if self.active.load(Ordering::SeqCst) > 0 {
                    self.asleep.store(false, Ordering::SeqCst);
                }
            }
        }
    }

    /// Call it before a guest starts.
    pub(crate) fn enter(self: &Arc<Self>) -> Running {
        self.active.fetch_add(1, Ordering::SeqCst);
        self.used.store(true, Ordering::Relaxed);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(Arc::clone(self))
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Threads {
    pub(crate) fn start() -> Result<Self, EngineError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(GUEST_THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("watchfire-guest")
            .enable_all()
            .build()
            .map_err(EngineError::Threads)?;
        Ok(Threads(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        // Invariant: only `drop` takes it out.
        self.0
            .as_ref()
            .expect("the runtime lives as long as this")
            .handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A plain drop waits for the threads, which panics inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Gives each call its CPU budget. At every tick the guest hands its thread back through tokio:
/// with wasmtime's plain `Yield` the task wakes itself at once and tokio looks at its timers only
/// every 61 tasks, so that a wall limit of 100 ms would strike after 600.
pub(crate) fn set_deadline(store: &mut Store<HostState>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut cx| {
        let state = cx.data_mut();
        if state.ticks_left == 0 {
            return Ok(wasmtime::UpdateDeadline::Interrupt);
        }
        // One operation on a large memory lasts longer than a tick: what it took counts, not that it was one.
        let took = state.using.patience.stretch();
        let ticks = u32::try_from(took.as_millis() / TICK.as_millis())
            .unwrap_or(u32::MAX)
            .clamp(1, state.ticks_left);
        state.ticks_left -= ticks;
        state.cost.cpu_ticks += ticks;
        state.spent += took;
        // The first tick may strike right after the start and others count what was not used up: then there is one more.
        let budget = state.using.limits().cpu;
        if state.ticks_left == 0 && state.spent + TICK / 2 >= budget {
            return Ok(wasmtime::UpdateDeadline::Interrupt);
        }
        Ok(wasmtime::UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash, Hasher};

    /// `(module (func loop br 0 end) (start 0))`
    const SPIN: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x08\x01\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";
    /// `(module (memory (export "m") 2 200))`
    const MEMORY: &[u8] = b"\0asm\x01\0\0\0\x05\x05\x01\x01\x02\xc8\x01\x07\x05\x01\x01m\x02\0";

    #[test]
    fn it_ticks_while_something_runs_and_sleeps_soon_after() {
        let engine = exact(Settings::default()).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        let asleep = |ticker: &Ticker| ticker.asleep.load(Ordering::SeqCst);
        let weak = Arc::downgrade(&ticker);
        assert!(asleep(&ticker), "no guest ran yet");
        for _ in 0..2 {
            let first = ticker.enter();
            let second = ticker.enter();
            assert!(!asleep(&ticker));
            drop(first);
            // A store that came now would be interrupted by a tick.
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(1);
            let module = wasmtime::Module::new(&engine, SPIN).unwrap();
            let trap = wasmtime::Instance::new(&mut store, &module, &[]).unwrap_err();
            assert_eq!(
                trap.downcast_ref::<wasmtime::Trap>(),
                Some(&wasmtime::Trap::Interrupt)
            );
            assert!(!asleep(&ticker), "one still runs");
            drop(second);
            while !asleep(&ticker) {
                std::thread::yield_now();
            }
        }
        assert_eq!(ticker.active.load(Ordering::SeqCst), 0);
        ticker.close();
        drop(ticker);
        // The thread holds the last reference and lets go of it.
        while weak.upgrade().is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_pool_wipes_what_a_call_wrote() {
        let engine = pooled(Settings::default(), CALLS_MAX).unwrap();
        let module = wasmtime::Module::new(&engine, MEMORY).unwrap();
        // More than the pool keeps, so that both ways of wiping are taken; then less.
        for pages in [100, 1, 100] {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(1);
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let memory = instance.get_memory(&mut store, "m").unwrap();
            memory.grow(&mut store, pages).unwrap();
            let bytes = memory.data_mut(&mut store);
            assert_eq!(bytes.len(), (usize::try_from(pages).unwrap() + 2) << 16);
            assert!(bytes.iter().all(|byte| *byte == 0), "{pages} pages");
            bytes.fill(0xaa);
        }
    }

    #[test]
    fn what_is_compiled_without_the_pool_runs_in_it() {
        let key = |engine: Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let settings = Settings::default();
        assert_eq!(
            key(exact(settings).unwrap()),
            key(pooled(settings, CALLS_MAX).unwrap())
        );
    }

    #[test]
    fn both_address_spaces_make_an_engine() {
        for small_address_space in [false, true] {
            let settings = Settings {
                small_address_space,
                ..Settings::default()
            };
            assert!(fits(&exact(settings).unwrap()), "{settings:?}");
        }
    }
}
