//! The real binary, in a folder of its own.

use super::{PATIENCE, now, wait_for};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// A folder with a configuration and a data folder; gone with its value.
#[derive(Debug)]
pub struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    /// Writes `watchfire.toml` with the given rest behind a head that keeps the agent to this folder.
    pub fn new(config: &str) -> Self {
        let root = tempfile::Builder::new()
            .prefix("watchfire-")
            .tempdir()
            .unwrap();
        let folder = Folder { root };
        fs::create_dir(folder.path("data")).unwrap();
        fs::create_dir(folder.path("data/plugins")).unwrap();
        folder.write("watchfire.toml", &format!("{HEAD}\n{config}"));
        folder
    }

    /// As [`Folder::new`], with the host's rules.
    pub fn with_host_pack(config: &str) -> Self {
        let folder = Folder::new(config);
        let head = HEAD.replace("[api]", "packs = [\"host\"]\n\n[api]");
        folder.write("watchfire.toml", &format!("{head}\n{config}"));
        folder
    }

    /// Without a configuration: the agent monitors the host with what is built in.
    pub fn empty() -> Self {
        let root = tempfile::Builder::new()
            .prefix("watchfire-")
            .tempdir()
            .unwrap();
        Folder { root }
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file as a careful editor does: beside it, then renamed into place.
    pub fn write(&self, name: &str, text: &str) {
        let beside = self.path(&format!(".{}.new", name.replace('/', "_")));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    /// Replaces the configuration; the head stays.
    pub fn write_config(&self, config: &str) {
        self.write("watchfire.toml", &format!("{HEAD}\n{config}"));
    }
}

const HEAD: &str = "[agent]\nhost = \"test-host\"\ndata_dir = \"data\"\n\n[api]\nlisten = \"\"\n";

/// A running agent. Killed with its value.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    folder: PathBuf,
}

impl Agent {
    /// Starts and waits until it is ready.
    pub fn start(folder: &Folder) -> Self {
        let agent = Agent::spawn(folder);
        agent.wait_ready();
        agent
    }

    /// As a new user does: no file, no option but where its state lives.
    pub fn start_without_configuration(folder: &Folder) -> Self {
        let data = folder.path("data");
        let options = [
            OsStr::new("--data-dir"),
            data.as_os_str(),
            OsStr::new("--listen"),
            OsStr::new(""),
        ];
        let agent = Agent::launch(folder, &options);
        agent.wait_ready();
        agent
    }

    /// Starts with the folder's configuration.
    pub fn spawn(folder: &Folder) -> Self {
        let config = folder.path("watchfire.toml");
        Agent::launch(folder, &[OsStr::new("--config"), config.as_os_str()])
    }

    /// The same with these variables in its environment.
    pub fn spawn_with(folder: &Folder, variables: &[(&str, &OsStr)]) -> Self {
        let config = folder.path("watchfire.toml");
        let options = [OsStr::new("--config"), config.as_os_str()];
        Agent::launch_as(folder, command(), &options, variables)
    }

    /// Starts with the folder's configuration behind a wrapper: words that end by executing the words after them,
    /// such as `["nice"]`, so that its process is the agent's. With these variables and no others.
    pub fn spawn_under(folder: &Folder, wrapper: &[&str], variables: &[(&str, &OsStr)]) -> Self {
        let config = folder.path("watchfire.toml");
        let options = [OsStr::new("--config"), config.as_os_str()];
        Agent::launch_as(folder, wrapped(wrapper), &options, variables)
    }

    /// Starts with the folder's configuration and a pipe as its log, which fills unless the caller reads it.
    pub fn spawn_unread(folder: &Folder) -> (Self, std::process::ChildStderr) {
        let config = folder.path("watchfire.toml");
        let options = [OsStr::new("--config"), config.as_os_str()];
        let mut agent = Agent::launch_with(folder, command(), &options, &[], Some(Stdio::piped()));
        let log = agent.child.stderr.take().expect("a pipe");
        (agent, log)
    }

    fn launch(folder: &Folder, options: &[&OsStr]) -> Self {
        Agent::launch_as(folder, command(), options, &[])
    }

    fn launch_as(
        folder: &Folder,
        program: Command,
        options: &[&OsStr],
        variables: &[(&str, &OsStr)],
    ) -> Self {
        Agent::launch_with(folder, program, options, variables, None)
    }

    /// `stderr`: none: the file `log` of the folder.
    fn launch_with(
        folder: &Folder,
        mut program: Command,
        options: &[&OsStr],
        variables: &[(&str, &OsStr)],
        stderr: Option<Stdio>,
    ) -> Self {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.path("log"))
            .unwrap();
        let child = program
            .arg("run")
            .args(options)
            .current_dir(folder.path(""))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(stderr.unwrap_or_else(|| log.into()))
            .spawn()
            .unwrap();
        Agent {
            child,
            folder: folder.path(""),
        }
    }

    /// Waits for `/health/ready` and the first round.
    pub fn wait_ready(&self) {
        wait_for("the agent is ready and has decided its first round", || {
            let pipeline = self.get("/health/events")?;
            (pipeline["rounds"]["total"].as_u64()? > 0).then_some(())
        });
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end by itself; the exit code.
    pub fn ended(mut self) -> Option<i32> {
        super::wait_for("the agent ends", || self.child.try_wait().unwrap()).code()
    }

    /// SIGKILL, and gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit code; every stage has ended by itself.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let until = now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = self.log();
                assert!(!log.contains("did not end in time"), "{log}");
                return status.code();
            }
            assert!(now() < until, "the agent did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// GET over the unix socket; none while nobody answers.
    pub fn get(&self, path: &str) -> Option<serde_json::Value> {
        let (_, body) = self.request("GET", path)?;
        serde_json::from_str(&body).ok()
    }

    /// GET as text.
    pub fn text(&self, path: &str) -> Option<String> {
        self.request("GET", path).map(|(_, body)| body)
    }

    /// POST over the unix socket: status and body.
    pub fn post(&self, path: &str) -> (u16, String) {
        self.request("POST", path).expect("the agent answers")
    }

    /// POST of a JSON body over the unix socket: status and body.
    pub fn post_json(&self, path: &str, body: &str) -> (u16, String) {
        self.exchange("POST", path, body)
            .expect("the agent answers")
    }

    fn request(&self, method: &str, path: &str) -> Option<(u16, String)> {
        self.exchange(method, path, "")
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.folder.join("data/watchfire.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut all = String::new();
        stream.read_to_string(&mut all).ok()?;
        let (head, body) = all.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        let body = if head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            unchunk(body)
        } else {
            body.to_owned()
        };
        Some((status, body))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}", self.log());
        }
    }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}

/// Another binary than the one built with the tests; for benchmarks.
static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Takes another binary from now on; only the first call counts.
pub fn use_binary(path: PathBuf) {
    BINARY.get_or_init(|| path);
}

/// The binary under test behind a wrapper.
#[expect(
    clippy::disallowed_methods,
    reason = "limits hold for a process and its children: another program sets them and executes the agent"
)]
fn wrapped(wrapper: &[&str]) -> Command {
    let agent = command();
    let Some((program, arguments)) = wrapper.split_first() else {
        return agent;
    };
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(agent.get_program());
    wrapped
}

/// The binary under test.
#[expect(
    clippy::disallowed_methods,
    reason = "the test starts the binary it tests"
)]
pub fn command() -> Command {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_watchfire"));
    Command::new(BINARY.get_or_init(built))
}
