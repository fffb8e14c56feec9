//! A reloader with a plugin folder, a configuration file and everything it tells, in a temporary folder.

use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use watchfire::config::Environment;
use watchfire::plugin::cache::{CAPACITY_BYTES, CodeCache};
use watchfire::plugin::compile::Compiler;
use watchfire::plugin::reload::{first_config, load_from};
use watchfire::plugin::{Generation, Notice, Reloader, Request, Setup, UseState};
use watchfire::sandbox::{self, HostServices, MemoryState, NoEvents, Sandbox, TracingLog};

/// For anything to happen: far more than it takes, so that a slow machine is not a failure.
const PATIENCE: Duration = Duration::from_secs(300);

/// The same component with another hash: a custom section of one byte at its end.
pub(crate) fn version(component: &[u8], number: u8) -> Vec<u8> {
    let mut bytes = component.to_vec();
    bytes.extend([0, 3, 1, b'v', number]);
    bytes
}

/// A threshold rule that `plugin` judges.
pub(crate) fn rule(id: &str, plugin: &str, above: u32) -> String {
    format!(
        "\n[[rule]]\nid = {id:?}\nplugin = {plugin:?}\nmetric = \"m\"\nconfig = {{ above = {{ warning = {above} }} }}\n"
    )
}

pub(crate) fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(crate) struct Bed {
    folder: tempfile::TempDir,
    last_good: Vec<(PathBuf, Arc<str>)>,
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
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bed = Bed {
            folder,
            last_good: Vec::new(),
            live: None,
        };
        std::fs::create_dir(bed.plugins()).expect("made");
        // Whatever the umask is: a folder that the group can write is refused.
        std::fs::set_permissions(bed.plugins(), std::fs::Permissions::from_mode(0o755))
            .expect("chmod");
        std::fs::create_dir(bed.data()).expect("made");
        std::fs::create_dir(bed.folder.path().join("config")).expect("made");
        bed.configure(config);
        // Counts the compilations before it hands over to the real one.
        let script = format!(
            "#!/bin/sh\necho compiled >> {}\n[ ! -e {limits} ] || . {limits}\nexec {} \"$@\"\n",
            bed.log().display(),
            env!("CARGO_BIN_EXE_watchfire"),
            limits = bed.limits().display()
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

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn compiler(&self) -> PathBuf {
        self.folder.path().join("compiler")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("compilations")
    }

    fn limits(&self) -> PathBuf {
        self.folder.path().join("limits")
    }

    /// Lets compilations start under lower limits than they would give themselves: shell commands.
    pub(crate) fn limit_compilations(&self, commands: &str) {
        std::fs::write(self.limits(), commands).expect("written");
    }

    fn file(&self, plugin: &str) -> PathBuf {
        self.plugins().join(format!("{plugin}.wasm"))
    }

    /// Writes as `cp` does: truncates, writes, closes.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) {
        std::fs::write(path, bytes).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    }

    /// Renamed into place, as careful tools do: on a busy machine a bare write can be seen half done.
    pub(crate) fn drop_in(&self, plugin: &str, bytes: &[u8]) {
        let place = self.file(plugin);
        let beside = place.with_file_name(format!(".{plugin}.new"));
        self.write(&beside, bytes);
        std::fs::rename(beside, place).expect("renamed");
    }

    pub(crate) fn with_plugin(self, plugin: &str, bytes: &[u8]) -> Self {
        self.drop_in(plugin, bytes);
        self
    }

    pub(crate) fn remove(&self, plugin: &str) {
        std::fs::remove_file(self.file(plugin)).expect("removed");
    }

    pub(crate) fn chmod(&self, plugin: &str, mode: u32) {
        std::fs::set_permissions(self.file(plugin), std::fs::Permissions::from_mode(mode))
            .expect("chmod");
    }

    /// Writes the configuration: these tables after `[agent]`.
    pub(crate) fn configure(&self, tables: &str) {
        let text = format!(
            "[agent]\nhost = \"test\"\ndata_dir = {:?}\nplugins = {:?}\n{tables}",
            self.data(),
            self.plugins()
        );
        self.write(&self.config_file(), text.as_bytes());
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("config/watchfire.toml")
    }

    pub(crate) async fn start(mut self) -> Self {
        let environment = Environment::default();
        let load_config = load_from(Some(self.config_file()), environment.clone());
        let (loaded, config_refused) =
            first_config(&load_config, &self.last_good, &environment).expect("a configuration");
        let settings = sandbox::Settings::default();
        let (notices_to, notices) = mpsc::channel(1000);
        let (requests, requests_from) = mpsc::channel(4);
        let (reloader, generations) = Reloader::start(Setup {
            sandbox: sandbox_of_its_own(),
            compiler: Compiler::new(&self.compiler(), Vec::new()),
            cache: Some(CodeCache::open(&self.data(), CAPACITY_BYTES).expect("a cache")),
            compatibility: sandbox::compatibility_key(settings).expect("an engine"),
            config: Arc::new(loaded.config),
            config_refused,
            load_config,
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

    pub(crate) async fn stop(mut self) -> Self {
        self.last_good = self.now().config.source.texts.clone();
        if let Some(live) = self.live.take() {
            live.task.abort();
            let ended = live.task.await;
            assert!(ended.is_err_and(|error| error.is_cancelled()));
        }
        self
    }

    pub(crate) async fn restart(self) -> Self {
        self.stop().await.start().await
    }

    fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("started")
    }

    pub(crate) fn now(&self) -> Arc<Generation> {
        let live = self.live.as_ref().expect("started");
        live.generations.borrow().clone()
    }

    pub(crate) fn state_of(&self, id: &str) -> UseState {
        let now = self.now();
        let status = now.status.iter().find(|status| &*status.id == id);
        status.expect("configured").state.clone()
    }

    /// Waits for a generation that fulfils `wanted`.
    pub(crate) async fn until(&mut self, wanted: impl FnMut(&Arc<Generation>) -> bool) {
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
    pub(crate) async fn looked_again(&mut self) -> u64 {
        let mut generation = 0;
        for _ in 0..2 {
            let (reply, report) = oneshot::channel();
            self.live().requests.send(reply).await.expect("it runs");
            generation = report.await.expect("an answer").generation;
        }
        generation
    }

    /// Waits until the last word on a meta-alert is `active`; its summary.
    pub(crate) async fn until_condition(&mut self, name: &str, active: bool) -> String {
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
    pub(crate) fn events(&mut self, kind: &str) -> usize {
        let live = self.live();
        while let Ok(notice) = live.notices.try_recv() {
            live.seen.push(notice);
        }
        let is = |notice: &&Notice| matches!(notice, Notice::Event { kind: is, .. } if *is == kind);
        live.seen.iter().filter(is).count()
    }

    /// Waits for as many events of a kind.
    pub(crate) async fn until_events(&mut self, kind: &str, count: usize) {
        while self.events(kind) < count {
            let live = self.live();
            let notice = tokio::time::timeout(PATIENCE, live.notices.recv()).await;
            live.seen
                .push(notice.expect("told in time").expect("it runs"));
        }
        assert_eq!(self.events(kind), count);
    }

    pub(crate) fn compilations(&self) -> usize {
        std::fs::read_to_string(self.log()).map_or(0, |log| log.lines().count())
    }

    pub(crate) async fn until_compilations(&self, count: usize) {
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
    let state = Arc::new(MemoryState::default());
    let services = HostServices::new(state, Arc::new(NoEvents), Arc::new(TracingLog));
    Sandbox::new(sandbox::Settings::default(), services).expect("a sandbox")
}
