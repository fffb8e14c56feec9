//! Rule components for tests: each loaded once, each configuration of one taken once.
//!
//! A drop-in of the configuration's plugin folder goes before the stock plugin of its name, as in the
//! agent.

use crate::config::{Config, RuleConfig};
use crate::error::chain;
use crate::plugin::compile::Compiler;
use crate::plugin::{LiveRule, stock};
use crate::sandbox::types::{Grants, Kind, Limits, Needs, Use};
use crate::sandbox::{
    COMPONENT_BYTES_MAX, Component, HostConfig, HostServices, MemoryState, NoEvents, Rule, Sandbox,
    SandboxError, Settings, TracingLog,
};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Wall limit of a call in a test. The agent's second is for a host that has to stay responsive; a test on
/// a busy machine must not fail for want of a processor. The CPU limit stands.
const WALL: Duration = Duration::from_secs(30);

/// Rule components, loaded on demand.
#[derive(Debug)]
pub struct Library {
    sandbox: Sandbox,
    compiler: Compiler,
    /// Held over a compilation, so that nobody compiles the same thing beside it.
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    components: HashMap<Source, Result<Loaded, String>>,
    uses: HashMap<Settled, Result<Configured, String>>,
}

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    Stock(&'static str),
    File(PathBuf),
}

#[derive(Clone, Debug)]
struct Loaded {
    component: Component,
    sha256: [u8; 32],
}

/// What makes two uses of a component the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Settled {
    /// Only one call of a use runs at a time: threads that shared one would wait for each other.
    worker: usize,
    source: Source,
    config: Arc<str>,
    inputs: Vec<String>,
    memory_bytes: usize,
    cpu: Duration,
}

#[derive(Clone, Debug)]
struct Configured {
    rule: Rule,
    needs: Needs,
    limits: Limits,
    sha256: [u8; 32],
}

impl Library {
    /// An empty one, with a sandbox of its own.
    ///
    /// # Errors
    /// The sandbox does not start here.
    pub fn new() -> Result<Self, SandboxError> {
        crate::sandbox::egress::tls::install_crypto_provider();
        let services = HostServices {
            state: Arc::new(MemoryState::default()),
            events: Arc::new(NoEvents),
            log: Arc::new(TracingLog),
            config: HostConfig::default(),
            system: crate::sandbox::host::system::SystemSettings::default(),
        };
        let sandbox = Sandbox::new(Settings::default(), services)?;
        Ok(Library {
            compiler: Compiler::of_this_process(sandbox.settings().compile_options()),
            sandbox,
            shelf: Mutex::default(),
        })
    }

    /// A rule with its component, which took its table, for the thread `worker`. None for a composite, which
    /// has none.
    ///
    /// # Errors
    /// There is no such component, it does not load, or it refuses the table; for people.
    pub async fn live(
        &self,
        config: &Config,
        rule: &RuleConfig,
        worker: usize,
    ) -> Result<Option<Arc<LiveRule>>, String> {
        let Some(plugin) = &rule.plugin else {
            return Ok(None);
        };
        let mut limits = config.limits(plugin, Kind::Rule);
        limits.wall = WALL;
        let settled = Settled {
            worker,
            source: find(&config.agent.plugins_dir, plugin)?,
            config: rule.config.clone(),
            inputs: rule.inputs.iter().map(|i| i.name.to_string()).collect(),
            memory_bytes: limits.memory_bytes,
            cpu: limits.cpu,
        };
        let mut shelf = self.shelf.lock().await;
        let configured = match shelf.uses.get(&settled) {
            Some(known) => known.clone(),
            None => {
                let new = self.configure(&mut shelf, &settled, limits).await;
                shelf.uses.insert(settled, new.clone());
                new
            }
        };
        let configured = configured?;
        Ok(Some(Arc::new(LiveRule {
            config: rule.clone(),
            rule: configured.rule,
            needs: configured.needs,
            sha256: configured.sha256,
            limits: configured.limits,
            quarantine: Arc::default(),
        })))
    }

    async fn configure(
        &self,
        shelf: &mut Shelf,
        settled: &Settled,
        limits: Limits,
    ) -> Result<Configured, String> {
        let loaded = match shelf.components.get(&settled.source) {
            Some(known) => known.clone(),
            None => {
                let new = self.load(&settled.source).await;
                shelf.components.insert(settled.source.clone(), new.clone());
                new
            }
        };
        let loaded = loaded?;
        let used = Use {
            id: "test".into(),
            config: settled.config.clone(),
            grants: Arc::new(Grants::default()),
            limits: limits.clone(),
        };
        let rule = loaded.component.rule(used).map_err(|e| chain(&e))?;
        let needs = rule
            .configure(&settled.inputs)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Configured {
            rule,
            needs,
            limits,
            sha256: loaded.sha256,
        })
    }

    async fn load(&self, source: &Source) -> Result<Loaded, String> {
        let (name, bytes) = match source {
            Source::Stock(name) => {
                let bytes = stock::find(name).map(stock::Stock::bytes);
                ((*name).to_owned(), bytes.unwrap_or_default())
            }
            Source::File(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                (stem.into_owned(), read(path)?)
            }
        };
        let artefact = self.compiler.compile(&bytes).await;
        let artefact = artefact.map_err(|error| chain(&error))?;
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let component = self
            .sandbox
            .load(&name, sha256, &artefact, false)
            .map_err(|error| chain(&error))?;
        Ok(Loaded { component, sha256 })
    }
}

fn find(plugins_dir: &Path, plugin: &str) -> Result<Source, String> {
    let file = plugins_dir.join(format!("{plugin}.wasm"));
    if file.exists() {
        return Ok(Source::File(file));
    }
    match stock::find(plugin) {
        Some(stock) => Ok(Source::Stock(stock.name)),
        None => {
            let rules = stock::all().iter().map(|stock| stock.name);
            let rules: Vec<&str> = rules.filter(|name| name.starts_with("rule-")).collect();
            Err(format!(
                "there is no component {plugin:?}: stock rules are {}, others are files of the folder that [agent] plugins names",
                rules.join(", ")
            ))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| {
            file.take(COMPONENT_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(bytes)
}
