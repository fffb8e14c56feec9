//! The sandbox against real components: every limit has a guest that breaks it, every call is alone, every refusal
//! teaches. Guests are the plugin `hostile` of `tests/guests`, which does what its table says, and components by hand
//! where no compiler makes what is needed.

mod answers;
mod budgets;
mod calls;
pub(crate) mod hand_made;
mod loads;
mod strangers;
mod walls;
mod words;

use crate::support::guests;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use watchfire::sandbox::types::{
    CallError, Collection, CommandSpec, Cost, Grants, Kind, Limits, Use,
};
use watchfire::sandbox::{
    Component, EventSink, HostConfig, HostServices, LogLine, LogSink, MemoryState, PluginEvent,
    Probe, Sandbox, SandboxSettings, compile,
};

/// Between the limit and the answer: two ticks, and what the busiest machine takes to run two threads. How soon it comes
/// is for the benchmark to say; here it comes because of the limit, and without one a minute later or never.
const SLACK: Duration = Duration::from_secs(20);

/// Keeps lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl LogSink for Lines {
    fn line(&self, line: LogLine<'_>) {
        self.0.lock().unwrap().push(line.message.to_owned());
    }
}

/// Keeps events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<PluginEvent>>>);

impl EventSink for Events {
    fn emit(&self, event: PluginEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// A sandbox and what its guests left in it.
struct Bench {
    sandbox: Sandbox,
    state: Arc<MemoryState>,
    lines: Lines,
    events: Events,
}

impl Bench {
    fn new() -> Self {
        Bench::with(SandboxSettings::default())
    }

    fn with(settings: SandboxSettings) -> Self {
        let state = Arc::new(MemoryState::default());
        let (lines, events) = (Lines::default(), Events::default());
        let mut services = HostServices::new(
            Arc::clone(&state) as _,
            Arc::new(events.clone()),
            Arc::new(lines.clone()),
        );
        services.config = HostConfig {
            commands: BTreeMap::from([
                ("greet".to_owned(), command("cat >&2; echo hello $0")),
                ("fix".to_owned(), command("exit 0")),
            ]),
            ..HostConfig::default()
        };
        Bench {
            sandbox: Sandbox::new(settings, services).unwrap(),
            state,
            lines,
            events,
        }
    }

    fn load(&self, name: &str) -> Component {
        let artefact = artefact(name, self.sandbox.settings());
        self.sandbox.load(name, [7; 32], &artefact, false).unwrap()
    }

    fn hostile(&self, deed: &str, change: impl FnOnce(&mut Limits, &mut Grants)) -> Probe {
        let config = serde_json::json!({ "do": deed });
        probe(&self.load("hostile"), &config, change)
    }

    async fn collect(&self, deed: &str) -> (Result<Collection, CallError>, Cost) {
        self.hostile(deed, |_, _| ()).collect().await
    }

    /// A component that was made by hand, ready to be called.
    fn by_hand(&self, bytes: &[u8], change: impl FnOnce(&mut Limits, &mut Grants)) -> Probe {
        let artefact = compile(bytes, self.sandbox.settings()).unwrap();
        let component = self.sandbox.load("hand-made", [7; 32], &artefact, false);
        probe(&component.unwrap(), &serde_json::json!({}), change)
    }
}

fn probe(
    component: &Component,
    config: &serde_json::Value,
    change: impl FnOnce(&mut Limits, &mut Grants),
) -> Probe {
    let mut limits = Limits::of(Kind::Probe);
    let mut grants = Grants::default();
    change(&mut limits, &mut grants);
    let settings = Use {
        id: "test".into(),
        config: config.to_string().into(),
        grants: Arc::new(grants),
        limits,
    };
    component.probe(settings).unwrap()
}

fn command(script: &str) -> CommandSpec {
    CommandSpec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        user: None,
        cwd: None,
        env: BTreeMap::new(),
        stdin: true,
        timeout: Duration::from_secs(2),
        max_output_bytes: 1_000,
    }
}

/// Compiled once for all tests; an unoptimised compiler takes its time.
fn artefact(name: &str, settings: SandboxSettings) -> Arc<Vec<u8>> {
    type Artefacts = Mutex<BTreeMap<(String, bool, bool), Arc<Vec<u8>>>>;
    static MADE: OnceLock<Artefacts> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    let key = (
        name.to_owned(),
        settings.small_address_space,
        settings.interpreter,
    );
    let artefact = made.entry(key).or_insert_with(|| {
        let bytes = std::fs::read(guests::component(name)).unwrap();
        Arc::new(compile(&bytes, settings).unwrap())
    });
    Arc::clone(artefact)
}

fn value(collection: &Collection) -> f64 {
    collection.families[0].points[0].value
}
