//! A reloader with a plugin folder, a configuration file and everything it tells, in a temporary folder.
//!
//! The configuration file is a stand-in of one line a rule, `ID PLUGIN JSON`, or `pin PLUGIN SHA256`: what is
//! tested is what happens to a configuration, not how it is written.

use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use watchfire::config::{
    AgentConfig, ApiConfig, Config, EngineConfig, InputConfig, LogConfig, LogFormat, PluginConfig,
    ProbeDefaults, Retention, RuleConfig, Source,
};
use watchfire::plugin::cache::{CAPACITY_BYTES, CodeCache};
use watchfire::plugin::compile::Compiler;
use watchfire::plugin::{Generation, Notice, Reloader, Request, Setup, UseState};
use watchfire::sandbox::{
    self, HostConfig, HostServices, MemoryState, NoEvents, Sandbox, TracingLog,
};
use watchfire_engine::Policy;
use watchfire_engine::model::{Labels, RuleId};

/// For anything to happen: far more than it takes, so that a slow machine is not a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same component with another hash: a custom section of one byte at its end.
pub fn version(component: &[u8], number: u8) -> Vec<u8> {
    let mut bytes = component.to_vec();
    bytes.extend([0, 3, 1, b'v', number]);
    bytes
}

pub fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub struct Bed {
    folder: tempfile::TempDir,
    live: Option<Live>,
}

struct Live {
    task: tokio::task::JoinHandle<()>,
    generations: watch::Receiver<Arc<Generation>>,
    notices: mpsc::Receiver<Notice>,
    requests: mpsc::Sender<Request>,
    seen: Vec<Notice>,
}

impl Bed {
    pub fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bed = Bed { folder, live: None };
        std::fs::create_dir(bed.plugins()).expect("made");
        // Whatever the umask is: a folder that the group can write is refused.
        std::fs::set_permissions(bed.plugins(), std::fs::Permissions::from_mode(0o755))
            .expect("chmod");
        std::fs::create_dir(bed.data()).expect("made");
        std::fs::create_dir(bed.folder.path().join("config")).expect("made");
        bed.configure(config);
        // Counts the compilations before it hands over to the real one.
        let script = format!(
            "#!/bin/sh\necho compiled >> {}\nexec {} \"$@\"\n",
            bed.log().display(),
            env!("CARGO_BIN_EXE_watchfire")
        );
        bed.write(
            &bed.folder.path().join("compiler.source"),
            script.as_bytes(),
        );
        // Written by another process: a file that a fork of this one still holds open for writing cannot run.
        #[expect(clippy::disallowed_methods, reason = "see above")]
        let installed = std::process::Command::new("install")
            .args(["-m", "755"])
            .args([bed.folder.path().join("compiler.source"), bed.compiler()])
            .status()
            .expect("install runs");
        assert!(installed.success());
        bed
    }

    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn compiler(&self) -> PathBuf {
        self.folder.path().join("compiler")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("compilations")
    }

    fn file(&self, plugin: &str) -> PathBuf {
        self.plugins().join(format!("{plugin}.wasm"))
    }

    /// Writes as `cp` does: truncates, writes, closes.
    pub fn write(&self, path: &Path, bytes: &[u8]) {
        std::fs::write(path, bytes).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    }

    pub fn drop_in(&self, plugin: &str, bytes: &[u8]) {
        self.write(&self.file(plugin), bytes);
    }

    pub fn with_plugin(self, plugin: &str, bytes: &[u8]) -> Self {
        self.drop_in(plugin, bytes);
        self
    }

    pub fn remove(&self, plugin: &str) {
        std::fs::remove_file(self.file(plugin)).expect("removed");
    }

    pub fn chmod(&self, plugin: &str, mode: u32) {
        std::fs::set_permissions(self.file(plugin), std::fs::Permissions::from_mode(mode))
            .expect("chmod");
    }

    pub fn configure(&self, text: &str) {
        self.write(
            &self.folder.path().join("config/rules.txt"),
            text.as_bytes(),
        );
    }

    pub async fn start(mut self) -> Self {
        let file = self.folder.path().join("config/rules.txt");
        let (plugins, data) = (self.plugins(), self.data());
        let load = move || load(&file, &plugins, &data);
        let config = Arc::new(load().expect("the first configuration is good"));
        let settings = sandbox::Settings::default();
        let (notices_to, notices) = mpsc::channel(1000);
        let (requests, requests_from) = mpsc::channel(4);
        let (reloader, generations) = Reloader::start(Setup {
            sandbox: sandbox_of_its_own(),
            compiler: Compiler::new(&self.compiler(), Vec::new()),
            cache: Some(CodeCache::open(&self.data(), CAPACITY_BYTES).expect("a cache")),
            compatibility: sandbox::compatibility_key(settings).expect("an engine"),
            config,
            config_refused: None,
            load_config: Arc::new(load),
            notices: notices_to,
            requests: requests_from,
        })
        .await;
        self.live = Some(Live {
            task: tokio::spawn(reloader.run()),
            generations,
            notices,
            requests,
            seen: Vec::new(),
        });
        self
    }

    pub async fn stop(mut self) -> Self {
        if let Some(live) = self.live.take() {
            live.task.abort();
            let ended = live.task.await;
            assert!(ended.is_err_and(|error| error.is_cancelled()));
        }
        self
    }

    pub async fn restart(self) -> Self {
        self.stop().await.start().await
    }

    fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("started")
    }

    pub fn now(&self) -> Arc<Generation> {
        let live = self.live.as_ref().expect("started");
        live.generations.borrow().clone()
    }

    pub fn state_of(&self, id: &str) -> UseState {
        let now = self.now();
        let status = now.status.iter().find(|status| &*status.id == id);
        status.expect("configured").state.clone()
    }

    /// Waits for a generation that fulfils `wanted`.
    pub async fn until(&mut self, wanted: impl FnMut(&Arc<Generation>) -> bool) {
        let reached = tokio::time::timeout(PATIENCE, self.live().generations.wait_for(wanted))
            .await
            .map(|reached| reached.is_ok());
        assert_eq!(
            reached,
            Ok(true),
            "never reached; now: {:#?}",
            self.now().status
        );
    }

    /// Makes the reloader look twice; afterwards everything before is looked at and told. The number of
    /// the generation.
    pub async fn looked_again(&mut self) -> u64 {
        let mut generation = 0;
        for _ in 0..2 {
            let (reply, report) = oneshot::channel();
            self.live().requests.send(reply).await.expect("it runs");
            generation = report.await.expect("an answer").generation;
        }
        generation
    }

    /// Waits until the last word on a meta-alert is `active`; its summary.
    pub async fn until_condition(&mut self, name: &str, active: bool) -> String {
        let live = self.live();
        loop {
            let last = live.seen.iter().rev().find_map(|notice| match notice {
                Notice::Condition(condition) if condition.alert.rule.as_str() == name => {
                    Some(condition)
                }
                _ => None,
            });
            if let Some(last) = last.filter(|last| last.active == active) {
                return last.summary.to_string();
            }
            let notice = tokio::time::timeout(PATIENCE, live.notices.recv()).await;
            live.seen
                .push(notice.expect("told in time").expect("it runs"));
        }
    }

    /// Events of a kind so far.
    pub fn events(&mut self, kind: &str) -> usize {
        let live = self.live();
        while let Ok(notice) = live.notices.try_recv() {
            live.seen.push(notice);
        }
        let is = |notice: &&Notice| matches!(notice, Notice::Event { kind: is, .. } if *is == kind);
        live.seen.iter().filter(is).count()
    }

    /// Waits for as many events of a kind.
    pub async fn until_events(&mut self, kind: &str, count: usize) {
        while self.events(kind) < count {
            let live = self.live();
            let notice = tokio::time::timeout(PATIENCE, live.notices.recv()).await;
            live.seen
                .push(notice.expect("told in time").expect("it runs"));
        }
        assert_eq!(self.events(kind), count);
    }

    pub fn compilations(&self) -> usize {
        std::fs::read_to_string(self.log()).map_or(0, |log| log.lines().count())
    }

    pub async fn until_compilations(&self, count: usize) {
        let reached = async {
            while self.compilations() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached)
            .await
            .expect("compiled in time");
    }
}

fn sandbox_of_its_own() -> Sandbox {
    let services = HostServices {
        state: Arc::new(MemoryState::default()),
        events: Arc::new(NoEvents),
        log: Arc::new(TracingLog),
        config: HostConfig::default(),
    };
    Sandbox::new(sandbox::Settings::default(), services).expect("a sandbox")
}

fn load(file: &Path, plugins: &Path, data: &Path) -> Result<Config, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut config = empty(file, &text, plugins, data);
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words[..] {
            [""] => {}
            ["pin", plugin, hex] => {
                let mut sha256 = [0; 32];
                for (at, byte) in sha256.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
                }
                let settings = PluginConfig {
                    sha256: Some(sha256),
                    ..PluginConfig::default()
                };
                config.plugins.insert(plugin.into(), settings);
            }
            [id, plugin, json] => config.rules.push(RuleConfig {
                id: RuleId::from(id),
                plugin: Some(plugin.into()),
                inputs: vec![InputConfig {
                    name: "value".into(),
                    metric: "metric".into(),
                    matches: Vec::new(),
                    over: None,
                    aggregate: watchfire::config::Aggregate::Last,
                }],
                by: None,
                config: json.into(),
                summary: None,
                runbook: None,
                dashboard: None,
                origin: format!("rules.txt:{}", number + 1),
            }),
            _ => return Err(format!("rules.txt:{}:1: not ID PLUGIN JSON", number + 1)),
        }
    }
    Ok(config)
}

/// A configuration without probes, rules, notifiers, recoveries.
fn empty(file: &Path, text: &str, plugins: &Path, data: &Path) -> Config {
    let host: Arc<str> = "host".into();
    Config {
        source: Source {
            main: Some(file.to_owned()),
            files: vec![file.to_owned()],
            watch: Vec::new(),
            digest: sha256_of(text.as_bytes()),
            texts: vec![(file.to_owned(), text.into())],
        },
        agent: AgentConfig {
            host: host.clone(),
            labels: Labels::default(),
            data_dir: data.to_owned(),
            plugins_dir: plugins.to_owned(),
        },
        api: ApiConfig {
            listen: None,
            hosts: Vec::new(),
            socket: data.join("socket"),
        },
        log: LogConfig {
            format: LogFormat::Text,
            level: tracing::Level::INFO,
            file: None,
        },
        engine: EngineConfig::default(),
        retention: Retention {
            metrics: Duration::ZERO,
            rollups: Duration::ZERO,
            alerts: Duration::ZERO,
            events: Duration::ZERO,
            metrics_bytes_max: 0,
        },
        secrets: Default::default(),
        commands: Default::default(),
        mail: None,
        plugins: Default::default(),
        defaults: ProbeDefaults {
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            jitter: Duration::ZERO,
            adaptive: None,
        },
        probes: Vec::new(),
        rules: Vec::new(),
        notifiers: Vec::new(),
        recoveries: Vec::new(),
        policy: Arc::new(Policy {
            host,
            rules: Vec::new(),
            routes: Vec::new(),
            inhibitions: Vec::new(),
            procedures: Vec::new(),
            notifiers: Vec::new(),
            alerting: Default::default(),
            delivery: Default::default(),
            recover: Default::default(),
            seed: 0,
        }),
    }
}
