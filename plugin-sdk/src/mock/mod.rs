//! A host for native tests: it answers what a test scripted and remembers what the plugin did.
//!
//! ```
//! use watchfire_plugin_sdk::{Error, host::http, mock};
//!
//! let host = mock::Host::new();
//! host.http("GET http://127.0.0.1/ok", http::Response::new(200));
//! host.http_fails("GET http://127.0.0.1/down", Error::unavailable("connection refused"));
//!
//! assert_eq!(http::Request::get("http://127.0.0.1/ok").send()?.status, 200);
//! assert!(http::Request::get("http://127.0.0.1/down").send().is_err());
//! // What nobody scripted is what nobody granted.
//! assert!(matches!(http::Request::get("http://127.0.0.1/x").send(), Err(Error::Denied(_))));
//! assert_eq!(host.requests().len(), 3);
//! # Ok::<(), Error>(())
//! ```
//!
//! A [`Host`] serves its thread, from its making until it is dropped: bind it to a name (`let host`, not `let _`). Tests
//! may run side by side. Without one, everything that needs a grant is denied, logs vanish and it is 1970.

pub(crate) mod calls;
mod fixtures;
mod judged;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use crate::alert::pairs;
use crate::host::control::Verb;
use crate::host::{commands, dns, files, http, log, mail, system};
use crate::{Error, Pairs, Result, Timestamp};

pub use fixtures::{Case, alert, cases, notification, read_alert, read_notification};
pub use judged::{judged, judges_testdata};

thread_local! {
    static CURRENT: RefCell<Option<Rc<RefCell<Script>>>> = const { RefCell::new(None) };
}

/// What a peer answers to what it was sent; called with nothing when the connection opens.
type Peer = Rc<RefCell<dyn FnMut(&[u8]) -> Vec<u8>>>;

/// Answers in order; the last one stays.
type Answers<T> = HashMap<String, VecDeque<Result<T>>>;

/// What the test wrote down, and what the plugin did.
#[derive(Default)]
struct Script {
    now: Timestamp,
    hostname: String,
    dry_run: bool,
    state: BTreeMap<String, Vec<u8>>,
    readings: Vec<(String, system::Reading)>,
    processes: Vec<system::Process>,
    services: Vec<system::Service>,
    files: BTreeMap<String, (Vec<u8>, files::Metadata)>,
    next_inode: u64,
    secrets: HashMap<String, String>,
    http: Answers<http::Response>,
    dns: Answers<dns::Response>,
    commands: Answers<commands::Output>,
    control: VecDeque<Result<u64>>,
    mail: VecDeque<Result<()>>,
    peers: HashMap<String, (Peer, Option<i64>)>,
    sent: HashMap<String, Vec<u8>>,
    requests: Vec<http::Request>,
    runs: Vec<Run>,
    mails: Vec<mail::Message>,
    controls: Vec<Control>,
    logs: Vec<Log>,
    events: Vec<Event>,
}

/// A command that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Name of the command.
    pub name: String,
    /// What stood in for the operator's holes.
    pub arguments: Vec<String>,
    /// What it was given to read.
    pub stdin: Vec<u8>,
}

/// A change that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Unit and verb.
    Service(String, Verb),
    /// Process id, start and signal.
    Signal(u32, u64, String),
    /// Glob and age in seconds.
    Delete(String, u64),
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How much somebody should care.
    pub level: log::Level,
    /// The line.
    pub message: String,
    /// Its fields.
    pub fields: Pairs,
}

/// An event that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The plugin's word for it.
    pub kind: String,
    /// When; `None` = when it was told.
    pub at: Option<Timestamp>,
    /// One line.
    pub message: String,
    /// Its fields.
    pub fields: Pairs,
}

/// The host of this thread.
pub struct Host(Rc<RefCell<Script>>);

impl Host {
    /// A host that grants nothing yet. It takes the place of the thread's former one.
    #[expect(
        clippy::new_without_default,
        reason = "making one has an effect on the thread"
    )]
    pub fn new() -> Self {
        let script = Rc::new(RefCell::new(Script {
            hostname: "mock".into(),
            ..Script::default()
        }));
        CURRENT.set(Some(script.clone()));
        Host(script)
    }

    /// Sets the time, which stands still otherwise.
    pub fn now(&self, now: Timestamp) {
        self.0.borrow_mut().now = now;
    }

    /// Sets the host's name.
    pub fn hostname(&self, name: &str) {
        self.0.borrow_mut().hostname = name.into();
    }

    /// From now on it is a dry run: `control` and `commands` are denied.
    pub fn dry_run(&self) {
        self.0.borrow_mut().dry_run = true;
    }

    /// Puts bytes into the plugin's state.
    pub fn state(&self, key: &str, value: &[u8]) {
        self.0.borrow_mut().state.insert(key.into(), value.into());
    }

    /// The bytes in the plugin's state.
    pub fn state_of(&self, key: &str) -> Option<Vec<u8>> {
        self.0.borrow().state.get(key).cloned()
    }

    /// Adds a reading to a family of [`system::read`].
    pub fn reading(&self, family: &str, metric: &str, labels: &[(&str, &str)], value: f64) {
        let reading = system::Reading {
            metric: metric.into(),
            labels: pairs(labels.iter().copied()),
            value,
        };
        self.0.borrow_mut().readings.push((family.into(), reading));
    }

    /// Adds a process.
    pub fn process(&self, process: system::Process) {
        self.0.borrow_mut().processes.push(process);
    }

    /// Adds a unit.
    pub fn service(&self, service: system::Service) {
        self.0.borrow_mut().services.push(service);
    }

    /// Puts a file in place, as a new inode: a second one at the same path is a rotation.
    pub fn file(&self, path: &str, bytes: impl Into<Vec<u8>>) -> File<'_> {
        let mut script = self.0.borrow_mut();
        script.next_inode += 1;
        let (bytes, inode) = (bytes.into(), script.next_inode);
        let metadata = files::Metadata {
            size: bytes.len() as u64,
            modified_at: script.now.seconds(),
            device: 1,
            inode,
        };
        script.files.insert(path.into(), (bytes, metadata));
        File {
            host: self,
            path: path.into(),
        }
    }

    /// Adds to the end of a file, which keeps its inode.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn append(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let mut script = self.0.borrow_mut();
        let now = script.now.seconds();
        let (content, metadata) = script
            .files
            .get_mut(path)
            .unwrap_or_else(|| panic!("no file {path} in the mock"));
        content.extend_from_slice(bytes.as_ref());
        metadata.size = content.len() as u64;
        metadata.modified_at = now;
    }

    /// Empties a file, which keeps its inode.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn truncate(&self, path: &str) {
        let mut script = self.0.borrow_mut();
        let (content, metadata) = script
            .files
            .get_mut(path)
            .unwrap_or_else(|| panic!("no file {path} in the mock"));
        content.clear();
        metadata.size = 0;
    }

    /// Takes a file away.
    pub fn remove(&self, path: &str) {
        self.0.borrow_mut().files.remove(path);
    }

    /// Grants a secret, to be revealed.
    pub fn secret(&self, name: &str, value: &str) {
        self.0
            .borrow_mut()
            .secrets
            .insert(name.into(), value.into());
    }

    /// Scripts the next answer to `METHOD URL`. The last one stays.
    pub fn http(&self, request: &str, response: http::Response) {
        self.0
            .borrow_mut()
            .http
            .entry(request.into())
            .or_default()
            .push_back(Ok(response));
    }

    /// Scripts that the next `METHOD URL` is not answered.
    pub fn http_fails(&self, request: &str, error: Error) {
        self.0
            .borrow_mut()
            .http
            .entry(request.into())
            .or_default()
            .push_back(Err(error));
    }

    /// Every request that was sent, refused ones too.
    pub fn requests(&self) -> Vec<http::Request> {
        self.0.borrow().requests.clone()
    }

    /// Grants a peer, `host:port` or the path of a unix socket. It is called with what each send carries, and once with
    /// nothing when the connection opens; what it gives is received next. When that is used up the stream ends.
    pub fn tcp(&self, peer: &str, answers: impl FnMut(&[u8]) -> Vec<u8> + 'static) {
        self.0
            .borrow_mut()
            .peers
            .insert(peer.into(), (Rc::new(RefCell::new(answers)), None));
    }

    /// Lets a peer have a certificate that expires in so many seconds.
    ///
    /// # Panics
    /// Where there is no such peer.
    pub fn certificate(&self, peer: &str, seconds_left: i64) {
        let mut script = self.0.borrow_mut();
        script
            .peers
            .get_mut(peer)
            .unwrap_or_else(|| panic!("no peer {peer} in the mock"))
            .1 = Some(seconds_left);
    }

    /// Everything that was sent to a peer.
    pub fn sent(&self, peer: &str) -> Vec<u8> {
        self.0.borrow().sent.get(peer).cloned().unwrap_or_default()
    }

    /// Scripts the next answer to `NAME TYPE`. The last one stays.
    pub fn dns(&self, question: &str, response: Result<dns::Response>) {
        self.0
            .borrow_mut()
            .dns
            .entry(question.into())
            .or_default()
            .push_back(response);
    }

    /// Scripts the next run of a command. The last one stays.
    pub fn command(&self, name: &str, output: Result<commands::Output>) {
        self.0
            .borrow_mut()
            .commands
            .entry(name.into())
            .or_default()
            .push_back(output);
    }

    /// Every command that ran.
    pub fn runs(&self) -> Vec<Run> {
        self.0.borrow().runs.clone()
    }

    /// Scripts the next answer of the mail server; after the last one it takes everything.
    pub fn mail(&self, answer: Result<()>) {
        self.0.borrow_mut().mail.push_back(answer);
    }

    /// Every mail that was sent, refused ones too.
    pub fn mails(&self) -> Vec<mail::Message> {
        self.0.borrow().mails.clone()
    }

    /// Scripts the next answer of `control`: bytes freed, of use to `delete_older` alone. After the last one everything
    /// is done and frees nothing.
    pub fn control(&self, answer: Result<u64>) {
        self.0.borrow_mut().control.push_back(answer);
    }

    /// Every change that was asked for, outside of a dry run.
    pub fn controls(&self) -> Vec<Control> {
        self.0.borrow().controls.clone()
    }

    /// Every line that was logged.
    pub fn logs(&self) -> Vec<Log> {
        self.0.borrow().logs.clone()
    }

    /// Every event that was told.
    pub fn events(&self) -> Vec<Event> {
        self.0.borrow().events.clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A test may have made a later host already: that one stays. At the end of the thread there is nothing to undo.
        let _ = CURRENT.try_with(|current| {
            let mut current = current.borrow_mut();
            if current
                .as_ref()
                .is_some_and(|script| Rc::ptr_eq(script, &self.0))
            {
                *current = None;
            }
        });
    }
}

/// A file of the mock, to say more about it.
pub struct File<'a> {
    host: &'a Host,
    path: String,
}

impl File<'_> {
    /// Sets its last change, seconds since 1970.
    pub fn modified_at(self, seconds: u64) -> Self {
        if let Some((_, metadata)) = self.host.0.borrow_mut().files.get_mut(&self.path) {
            metadata.modified_at = seconds;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{clock, control, events, secrets, state};

    #[test]
    fn the_last_answer_stays() {
        let host = Host::new();
        host.http("GET http://a/", http::Response::new(500));
        host.http("GET http://a/", http::Response::new(200));
        let statuses: Vec<_> = (0..3)
            .map(|_| http::Request::get("http://a/").send().unwrap().status)
            .collect();
        assert_eq!(statuses, [500, 200, 200]);
    }

    #[test]
    fn without_a_host_everything_is_denied() {
        assert!(matches!(
            files::read("/etc/hosts", 0, 1),
            Err(Error::Denied(_))
        ));
        assert!(matches!(
            control::service("a", Verb::Stop),
            Err(Error::Denied(_))
        ));
        assert_eq!(clock::now(), Timestamp(0));
        log::info("nobody hears");
    }

    #[test]
    fn a_host_ends_with_its_test_and_not_a_later_one() {
        let first = Host::new();
        let second = Host::new();
        drop(first);
        state::set("k", b"v").unwrap();
        assert_eq!(second.state_of("k"), Some(b"v".to_vec()));
        drop(second);
        assert!(state::get("k").is_err());
    }

    #[test]
    fn files_are_followed_over_rotation() {
        let host = Host::new();
        host.file("/log/a", "one\n");
        host.append("/log/a", "two\n");
        let before = files::read("/log/a", 4, 99).unwrap();
        assert_eq!(
            (before.bytes.as_slice(), before.file.size),
            (&b"two\n"[..], 8)
        );
        host.file("/log/a", "three\n");
        assert_ne!(
            files::stat("/log/a").unwrap().unwrap().inode,
            before.file.inode
        );
        assert_eq!(files::read("/log/a", 99, 99).unwrap().bytes, b"");
        assert_eq!(files::listing("/log/*").unwrap(), ["/log/a"]);
        assert!(files::listing("/*").unwrap().is_empty());
        assert!(matches!(
            files::read("/log/b", 0, 1),
            Err(Error::Unavailable { .. })
        ));
        assert_eq!(files::stat("/log/b").unwrap(), None);
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let host = Host::new();
        host.command("clear", Ok(commands::Output::default()));
        host.dry_run();
        assert!(matches!(
            control::signal_process(1, 2, "TERM"),
            Err(Error::Denied(_))
        ));
        assert!(matches!(
            commands::run("clear", &[], b""),
            Err(Error::Denied(_))
        ));
        assert!(host.controls().is_empty() && host.runs().is_empty());
    }

    #[test]
    fn what_a_plugin_tells_is_kept() {
        let host = Host::new();
        host.secret("token", "t");
        assert_eq!(secrets::reveal("{{secret:token}}").unwrap(), "t");
        events::emit("slow", None, "took long", &[("ms", "9")]);
        log::warn("careful");
        assert_eq!(host.events()[0].fields, pairs([("ms", "9")]));
        assert_eq!(host.logs()[0].level, log::Level::Warn);
    }
}
