//! One guest call: a fresh store, a wall limit, a CPU budget, an explanation when it fails.
//!
//! ```text
//!   caller ── gate of the use ── one of the places ── [ instantiate, configure, verb ] ── state kept? ── answer
//!      │        └ at the first wait or tick the rest moves to the guests' threads
//!      └ dropping the future ends the task at the guest's next tick; the store goes with it
//! ```

use super::bindings::{action, notifier, probe, rule, wit};
use super::component::Component;
use super::convert;
use super::engine::{Running, set_deadline};
use super::explain::explain;
use super::host::{CallSettings, HostState, Using, log};
use super::lanes::InLane;
use super::types::{
    Alert, Batch, CallError, Collection, Cost, Description, Kind, Limits, Message, Needs, Outcome,
    Receipt, Verdicts,
};
use super::{Sandbox, Shared};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasmtime::Store;

/// Bytes that one transfer between guest and host may copy: the bound of every string, list and answer.
pub(super) const TRANSFER_BYTES_MAX: usize = 4 << 20;
/// Handles that a component may hold.
pub(super) const HANDLES_MAX: usize = 256;
/// Instances of one batch: their notes fit into a transfer.
const BATCH_INSTANCES_MAX: usize = 2_000;
/// The same where a rule remembers: their memories fit, too.
const BATCH_REMEMBERED_MAX: usize = 500;
/// Bytes of raw points in one batch: an eighth of a guest's memory, which holds them twice while it reads.
const BATCH_POINT_BYTES_MAX: usize = 8 << 20;

/// What one call is told beside its use.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) host: CallSettings,
    /// Instead of the wall limit of the use.
    pub(super) wall: Option<Duration>,
    /// A trial: what it writes into `state` is dropped.
    pub(super) discard: bool,
}

/// What to do with a fresh store. The outer error is a trap, the inner one an answer.
pub(super) trait Verb: Send + 'static {
    type Answer: convert::Masked + Send + 'static;

    fn call(
        self,
        store: &mut Store<HostState>,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Answer, CallError>>> + Send;
}

pub(super) struct Describe {
    pub(super) component: Component,
    pub(super) kind: Kind,
}

pub(super) struct Configure {
    pub(super) component: Component,
    pub(super) kind: Kind,
    pub(super) config: Arc<str>,
}

pub(super) struct Collect {
    pub(super) pre: probe::ProbePluginPre<HostState>,
    pub(super) config: Arc<str>,
    pub(super) limits: Limits,
}

pub(super) struct ConfigureRule {
    pub(super) pre: rule::RulePluginPre<HostState>,
    pub(super) config: Arc<str>,
    pub(super) inputs: Vec<String>,
}

pub(super) struct Evaluate {
    pub(super) pre: rule::RulePluginPre<HostState>,
    pub(super) config: Arc<str>,
    pub(super) inputs: Vec<String>,
    pub(super) remembers: bool,
    pub(super) batch: Batch,
}

pub(super) struct Notify {
    pub(super) pre: notifier::NotifierPluginPre<HostState>,
    pub(super) config: Arc<str>,
    pub(super) message: Message,
}

pub(super) struct Act {
    pub(super) pre: action::ActionPluginPre<HostState>,
    pub(super) config: Arc<str>,
    pub(super) alert: Alert,
    pub(super) attempt: u32,
    pub(super) dry_run: bool,
}

/// Ends its task when the caller loses interest.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sandbox {
    /// Runs one call: the first stretch on the caller's thread, for at most a tick, and what is left on the
    /// guests' threads.
    ///
    /// Most calls are shorter than the way to another thread and back, and are over by then. One that
    /// computes on is stopped by its first tick, one that waits stops by itself; both go on elsewhere. A use
    /// that held its caller up is not trusted so far: its next calls start on the guests' threads.
    pub(super) async fn call<V: Verb>(
        &self,
        using: &Arc<Using>,
        settings: Settings,
        verb: V,
    ) -> (Result<V::Answer, CallError>, Cost) {
        let guests = self.threads.handle();
        let mut call = Box::pin(serve(
            Arc::clone(&self.shared),
            Arc::clone(using),
            settings,
            verb,
        ));
        if using.patience.is_quick() {
            // Timers, sockets and blocking work of the call belong to the guests' runtime from the start.
            let _entered = guests.enter();
            // Whoever is to be woken does not exist yet: the task below polls at once and says who it is.
            let mut nobody = Context::from_waker(Waker::noop());
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut nobody))) {
                Ok(Poll::Ready(done)) => return done,
                Ok(Poll::Pending) => {}
                Err(_) => return (Err(panicked()), Cost::default()),
            }
        }
        let lanes = Arc::clone(&self.shared.lanes);
        let mut task = Owned(guests.spawn(InLane::new(call, Arc::clone(using), lanes)));
        match (&mut task.0).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => (Err(panicked()), Cost::default()),
            Err(_) => (
                Err(CallError::Unavailable {
                    message: "the sandbox is shutting down".into(),
                    retry_after: None,
                }),
                Cost::default(),
            ),
        }
    }
}

fn panicked() -> CallError {
    CallError::Trapped("a host function panicked, please report this".into())
}

/// Waits for its turn and makes the call.
async fn serve<V: Verb>(
    shared: Arc<Shared>,
    using: Arc<Using>,
    settings: Settings,
    verb: V,
) -> (Result<V::Answer, CallError>, Cost) {
    // Both waits end: every call before this one has a wall limit. Neither semaphore is ever closed.
    let _of_use = Arc::clone(&using.gate).acquire_owned().await;
    let _of_all = shared.places.acquire().await;
    let started = Instant::now();
    let running = shared.ticker.enter();
    let wall = settings.wall.unwrap_or(using.limits().wall);
    let mut state = HostState::new(Arc::clone(&shared.host), Arc::clone(&using), &settings.host);
    state.deadline = started + wall;
    let (answer, mut cost) = match Store::try_new(&shared.engine, state) {
        Ok(store) => {
            let call = run(store, wall, settings.discard, verb, running);
            let ((answer, mut cost), busy) = using.patience.watch(call).await;
            cost.busy = busy;
            (answer, cost)
        }
        Err(error) => (
            Err(CallError::Unavailable {
                message: format!("no memory for a call: {error:#}"),
                retry_after: None,
            }),
            Cost::default(),
        ),
    };
    cost.wall = started.elapsed();
    (answer, cost)
}

async fn run<V: Verb>(
    mut store: Store<HostState>,
    wall: Duration,
    discard: bool,
    verb: V,
    running: Running,
) -> (Result<V::Answer, CallError>, Cost) {
    store.limiter(|state| &mut state.budget);
    store.set_hostcall_fuel(TRANSFER_BYTES_MAX);
    store.set_max_component_handles(HANDLES_MAX);
    set_deadline(&mut store);

    let outcome = tokio::time::timeout(wall, verb.call(&mut store)).await;
    drop(running);
    let state = store.data_mut();
    let mut answer = match outcome {
        Ok(Ok(answer)) => answer,
        Ok(Err(trap)) => Err(explain(&trap, state)),
        Err(_) => Err(CallError::WallLimit(wall)),
    };
    tell_output(state, &answer);
    if answer.is_ok()
        && !discard
        && let Err(error) = state.commit_state().await
    {
        // A probe that did not keep its cursor would count the same lines again; a message that was
        // sent or a service that was restarted must not happen twice for it.
        if state.using.kind == Kind::Probe {
            answer = Err(error);
        } else {
            state.log(log::Level::Warn, &error.to_string(), &[]);
        }
    }
    // A guest that was shown a secret must not carry it into the log inside an error, or into a page inside a label.
    let mask = state.host.secrets.mask();
    let answer = match answer {
        Ok(answer) if state.using.sees_secrets() => Ok(convert::Masked::masked(answer, mask)),
        Ok(answer) => Ok(answer),
        Err(error) => Err(mask.error(error)),
    };
    let mut cost = state.cost;
    cost.memory_bytes = state.budget.memory_bytes();
    (answer, cost)
}

/// What a guest printed becomes warnings: nobody else reads it.
fn tell_output<T>(state: &HostState, answer: &Result<T, CallError>) {
    let stdout = state.stdout.text();
    if !stdout.is_empty() {
        state.log(log::Level::Warn, &format!("stdout: {stdout}"), &[]);
    }
    let stderr = state.stderr.text();
    // The error of a trap carries it already.
    if !stderr.is_empty() && !matches!(answer, Err(CallError::Trapped(_))) {
        state.log(log::Level::Warn, &format!("stderr: {stderr}"), &[]);
    }
}

/// The instance of a component as `kind`; the component was checked to be one.
fn missing(kind: Kind) -> wasmtime::Error {
    wasmtime::format_err!("the component is no {}", kind.name())
}

impl Verb for Describe {
    type Answer = Description;

    async fn call(
        self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<Result<Description, CallError>> {
        let Describe { component, kind } = self;
        let of = &component.0;
        let none = || missing(kind);
        let description = match kind {
            Kind::Probe => {
                let plugin = of.probe.as_ref().ok_or_else(none)?;
                let plugin = plugin.instantiate_async(&mut *store).await?;
                plugin.watchfire_plugin_probe().call_describe(store).await?
            }
            Kind::Rule => {
                let plugin = of.rule.as_ref().ok_or_else(none)?;
                let plugin = plugin.instantiate_async(&mut *store).await?;
                plugin.watchfire_plugin_rule().call_describe(store).await?
            }
            Kind::Notifier => {
                let plugin = of.notifier.as_ref().ok_or_else(none)?;
                let plugin = plugin.instantiate_async(&mut *store).await?;
                plugin
                    .watchfire_plugin_notifier()
                    .call_describe(store)
                    .await?
            }
            Kind::Action => {
                let plugin = of.action.as_ref().ok_or_else(none)?;
                let plugin = plugin.instantiate_async(&mut *store).await?;
                plugin
                    .watchfire_plugin_action()
                    .call_describe(store)
                    .await?
            }
        };
        Ok(convert::description(description))
    }
}

impl Verb for Configure {
    type Answer = ();

    async fn call(self, store: &mut Store<HostState>) -> wasmtime::Result<Result<(), CallError>> {
        let Configure {
            component,
            kind,
            config,
        } = self;
        let of = &component.0;
        let none = || missing(kind);
        let done: Result<(), wit::types::Error> = match kind {
            Kind::Probe => {
                let plugin = of.probe.as_ref().ok_or_else(none)?;
                let plugin = plugin.instantiate_async(&mut *store).await?;
                let guest = plugin.watchfire_plugin_probe();
                guest.call_configure(store, &config).await?
            }
            Kind::Notifier => {
                let plugin = of.notifier.as_ref().ok_or_else(none)?;
                let plugin = plugin.instantiate_async(&mut *store).await?;
                let guest = plugin.watchfire_plugin_notifier();
                guest.call_configure(store, &config).await?
            }
            Kind::Action => {
                let plugin = of.action.as_ref().ok_or_else(none)?;
                let plugin = plugin.instantiate_async(&mut *store).await?;
                let guest = plugin.watchfire_plugin_action();
                guest.call_configure(store, &config).await?
            }
            // Rules are configured with their inputs: `ConfigureRule`.
            Kind::Rule => return Err(none()),
        };
        Ok(done.map_err(CallError::from))
    }
}

impl Verb for Collect {
    type Answer = Collection;

    async fn call(
        self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<Result<Collection, CallError>> {
        let plugin = self.pre.instantiate_async(&mut *store).await?;
        let guest = plugin.watchfire_plugin_probe();
        if let Err(error) = guest.call_configure(&mut *store, &self.config).await? {
            return Ok(Err(error.into()));
        }
        let answer = guest.call_collect(store).await?;
        Ok(answer
            .map_err(CallError::from)
            .and_then(|answer| convert::collection(answer, &self.limits)))
    }
}

impl Verb for ConfigureRule {
    type Answer = Needs;

    async fn call(
        self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<Result<Needs, CallError>> {
        let plugin = self.pre.instantiate_async(&mut *store).await?;
        let guest = plugin.watchfire_plugin_rule();
        let answer = guest
            .call_configure(store, &self.config, &self.inputs)
            .await?;
        Ok(answer
            .map_err(CallError::from)
            .and_then(|needs| convert::needs(needs, &self.inputs)))
    }
}

impl Verb for Evaluate {
    type Answer = Verdicts;

    async fn call(
        self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<Result<Verdicts, CallError>> {
        let plugin = self.pre.instantiate_async(&mut *store).await?;
        let guest = plugin.watchfire_plugin_rule();
        let needs = guest.call_configure(&mut *store, &self.config, &self.inputs);
        if let Err(error) = needs.await? {
            return Ok(Err(error.into()));
        }
        let mut all = Verdicts::default();
        for (start, batch) in chunks(self.batch, self.remembers) {
            let instances = batch.active.len();
            let batch = convert::batch_to_wit(batch);
            let answer = match guest.call_evaluate(&mut *store, &batch).await? {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(error.into())),
            };
            match convert::verdicts(answer, instances, self.remembers) {
                Ok(part) => append(&mut all, part, start),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(all))
    }
}

impl Verb for Notify {
    type Answer = Receipt;

    async fn call(
        self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<Result<Receipt, CallError>> {
        let plugin = self.pre.instantiate_async(&mut *store).await?;
        let guest = plugin.watchfire_plugin_notifier();
        if let Err(error) = guest.call_configure(&mut *store, &self.config).await? {
            return Ok(Err(error.into()));
        }
        let message = convert::message_to_wit(self.message);
        let answer = guest.call_notify(store, &message).await?;
        Ok(answer.map(convert::receipt).map_err(CallError::from))
    }
}

impl Verb for Act {
    type Answer = Outcome;

    async fn call(
        self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<Result<Outcome, CallError>> {
        let plugin = self.pre.instantiate_async(&mut *store).await?;
        let guest = plugin.watchfire_plugin_action();
        if let Err(error) = guest.call_configure(&mut *store, &self.config).await? {
            return Ok(Err(error.into()));
        }
        let alert = convert::alert_to_wit(self.alert);
        let answer = guest
            .call_act(store, &alert, self.attempt, self.dry_run)
            .await?;
        Ok(answer.map(convert::outcome).map_err(CallError::from))
    }
}

/// Cuts a batch into parts that fit, each with the index of its first instance. An empty batch is one part.
fn chunks(batch: Batch, remembers: bool) -> Vec<(usize, Batch)> {
    let instances = batch.active.len();
    let longest = (0..instances)
        .map(|at| batch.points.iter().map(|input| input[at].len()).sum())
        .max()
        .unwrap_or(0_usize);
    let by_points = BATCH_POINT_BYTES_MAX / (longest * size_of::<(u64, f64)>()).max(1);
    let by_count = if remembers {
        BATCH_REMEMBERED_MAX
    } else {
        BATCH_INSTANCES_MAX
    };
    let size = by_count.min(by_points).max(1);
    if instances <= size {
        return vec![(0, batch)];
    }
    let mut rest = batch;
    let mut parts = Vec::with_capacity(instances.div_ceil(size));
    let mut start = 0;
    while rest.active.len() > size {
        let after = Batch {
            now_ms: rest.now_ms,
            columns: rest
                .columns
                .iter_mut()
                .map(|column| column.split_off(size))
                .collect(),
            active: rest.active.split_off(size),
            labels: split_off(&mut rest.labels, size),
            memory: split_off(&mut rest.memory, size),
            points: rest
                .points
                .iter_mut()
                .map(|input| input.split_off(size))
                .collect(),
        };
        parts.push((start, std::mem::replace(&mut rest, after)));
        start += size;
    }
    parts.push((start, rest));
    parts
}

/// As `Vec::split_off`, for lists that a rule may not have asked for.
fn split_off<T>(list: &mut Vec<T>, at: usize) -> Vec<T> {
    if list.is_empty() {
        return Vec::new();
    }
    list.split_off(at)
}

fn append(all: &mut Verdicts, part: Verdicts, start: usize) {
    let Verdicts {
        breached,
        values,
        limits,
        notes,
        memory,
    } = part;
    all.breached.extend(breached);
    all.values.extend(values);
    all.limits.extend(limits);
    let start = u32::try_from(start).unwrap_or(u32::MAX);
    all.notes
        .extend(notes.into_iter().map(|(at, note)| (at + start, note)));
    all.memory.extend(memory);
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_engine::model::Severities;

    fn batch(instances: usize, points: usize) -> Batch {
        Batch {
            now_ms: 1,
            columns: vec![(0..instances).map(|n| n as f64).collect()],
            active: vec![Severities::NONE; instances],
            labels: Vec::new(),
            memory: Vec::new(),
            points: vec![vec![vec![(0, 0.0); points]; instances]],
        }
    }

    #[test]
    fn batches_are_cut_so_that_they_fit() {
        let parts = chunks(batch(4_500, 1), false);
        let starts: Vec<usize> = parts.iter().map(|(start, _)| *start).collect();
        assert_eq!(starts, [0, 2_000, 4_000]);
        assert_eq!(
            parts[2].1.columns[0],
            (4_000..4_500).map(f64::from).collect::<Vec<_>>()
        );
        assert_eq!(parts[2].1.points[0].len(), 500);
        assert_eq!(chunks(batch(600, 1), true).len(), 2);
        assert_eq!(chunks(batch(0, 0), true).len(), 1);
        // 100,000 points are 1.6 MB: five instances in 8 MiB.
        assert_eq!(chunks(batch(11, 100_000), false).len(), 3);
    }

    #[test]
    fn notes_keep_their_instance() {
        let mut all = Verdicts::default();
        let part = Verdicts {
            notes: vec![(3, "x".into())],
            ..Verdicts::default()
        };
        append(&mut all, part, 2_000);
        assert_eq!(all.notes, [(2_003, "x".into())]);
    }
}
