//! The durable state: what is committed before anything is sent or done.
//!
//! One thread owns `state.db` and takes commits one after the other from a bounded queue; another
//! reads, so that a long query never delays a commit. Both are plain threads: the disk may block
//! them, nobody else. A caller awaits the answer; a caller that stops waiting undoes nothing.
//!
//! Invariant: [`StateStore::commit`] says `Ok` only when the transaction is on disk.

use super::event::{EventType, Keep, NewEvent, StoredEvent};
use super::folder::{Folder, LockError, is_disks_fault};
use super::query::{KnownAlert, Stats};
use super::reader::{self, Asked, Read};
use super::writer::Writer;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use watchfire_engine::effect::{RecordChange, Table};
use watchfire_engine::model::{Fingerprint, Now};

/// Commits that may wait. The alert stage awaits each of its own, so more than a few means that the
/// disk stalls; then whoever comes next waits too.
const COMMITS_MAX: usize = 32;

/// Queries that may wait; the API's clients wait in turn.
const QUERIES_MAX: usize = 32;

/// Batches of one clean-up: 4 million events, more than any retention holds.
const CLEANUP_BATCHES_MAX: usize = 2_000;

/// Handle of the store. Cheap to clone; the threads end with the last one or with
/// [`StateStore::close`].
#[derive(Clone, Debug)]
pub struct StateStore {
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
    shared: Arc<Shared>,
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opened {
    /// The engine's rows, as `(table, key, body)`.
    pub rows: Vec<(Table, String, String)>,
    /// The clocks at the last commit; none: there was none.
    pub clock: Option<SavedClock>,
    /// Plugins' own values by configured id.
    pub plugin_state: PluginState,
    /// What [`StateStore::save_config`] kept: paths and texts, the main file first.
    pub last_good_config: Option<Vec<(PathBuf, String)>>,
    /// The newest sequence number ever given; 0: none yet.
    pub last_seq: u64,
    /// Why the state of before is gone, until the first commit after the loss.
    pub lost: Option<String>,
}

/// Values by key, by configured id.
pub type PluginState = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// The clocks at one commit: from them a restart computes how long the agent was away.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SavedClock {
    /// Changes with every boot of the system.
    pub boot_id: String,
    /// Milliseconds since that boot, suspends included.
    pub boottime_ms: u64,
    /// Milliseconds on the agent's own timeline.
    pub moment_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// Everything of one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Rows of the engine.
    pub records: Vec<RecordChange>,
    /// New events, in order.
    pub events: Vec<NewEvent>,
    /// Now.
    pub clock: SavedClock,
    /// Plugins' values as `(id, key, value)`; no value: delete.
    pub plugin_state: Vec<(String, String, Option<Vec<u8>>)>,
}

/// The events of a commit in their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Of the first event; without events, that of the next one to come.
    pub first_seq: u64,
    /// Of the newest event of the store, these included.
    pub last_seq: u64,
    /// The events of the commit.
    pub events: Vec<StoredEvent>,
}

/// What [`StateStore::cleanup`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Events deleted.
    pub deleted: u64,
    /// Why nothing was deleted: the wall clock cannot be believed.
    pub unsound: Option<String>,
}

/// How the store fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// None: every commit is on disk.
    pub degraded: Option<Degraded>,
    /// Events that wait in memory for the disk to come back.
    pub buffered: usize,
    /// Events that were lost because too many waited.
    pub dropped: u64,
    /// Commits on disk.
    pub commits: u64,
    /// Commits that went to memory only.
    pub commits_not_durable: u64,
    /// Times the file was written anew from memory, or taken up again.
    pub heals: u64,
}

/// The state lives in memory only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// For people.
    pub reason: String,
    /// Wall time of the first commit that failed; 0: from the start.
    pub since_wall_ms: u64,
}

/// Why the store does not open. None of it may be healed by deleting anything.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another instance runs on the same folder.
    #[error("data folder {} is in use by another watchfire{}: stop it, or set another data_dir", dir.display(), Pid(*pid))]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Of the other one, where it could be read.
        pid: Option<u32>,
    },
    /// A later version of watchfire wrote it.
    #[error("{} has schema version {found}, this watchfire knows up to {known}: start the version that wrote it, or move the file away to begin without its state", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The newest this agent can read.
        known: i32,
    },
    /// The folder cannot be made or written to.
    #[error("data folder {} cannot be used: make it writable for this user, or set another data_dir", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("start the store's thread")]
    Thread(#[source] io::Error),
}

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The commit stands in memory only; the next ones bring it to disk. What must be written down
    /// before it is done (a recovery attempt) must not be done now.
    #[error("keep the state on disk: {reason}")]
    NotDurable {
        /// For people.
        reason: String,
        /// As if it had succeeded.
        kept: Box<Committed>,
    },
    /// The disk does not allow it now.
    #[error("write to state.db: {reason}")]
    Unavailable {
        /// For people.
        reason: String,
    },
    /// The history cannot be read.
    #[error("read state.db")]
    Query(#[source] rusqlite::Error),
    /// The store has ended.
    #[error("use the store: it is closed")]
    Closed,
}

/// What both threads and all handles see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Published by the writer.
    pub health: Mutex<Health>,
    /// Events that are not on disk yet, oldest first.
    pub buffer: Mutex<VecDeque<StoredEvent>>,
    /// Counts the files: the reader opens the new one when it changes.
    pub generation: AtomicU64,
    /// The newest sequence number given.
    pub last_seq: AtomicU64,
}

/// Work of the writing thread.
enum Write {
    Commit(Box<Commit>, oneshot::Sender<Result<Committed, StoreError>>),
    SaveConfig(
        Vec<(PathBuf, String)>,
        oneshot::Sender<Result<(), StoreError>>,
    ),
    Cleanup(Now, Keep, oneshot::Sender<Result<CleanedBatch, StoreError>>),
    Rest(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// One batch of a clean-up.
pub(super) struct CleanedBatch {
    /// So far as this batch goes.
    pub cleaned: Cleaned,
    /// There is more to delete.
    pub more: bool,
}

/// `, process 4711`, or nothing.
struct Pid(Option<u32>);

impl StateStore {
    /// Takes the folder and opens the state in it; blocks for at most about two seconds, whatever
    /// bytes lie there. Damaged files are moved aside; a disk that refuses leaves the store in memory,
    /// see [`StateStore::health`].
    pub fn open(data_dir: &Path) -> Result<(StateStore, Opened), OpenError> {
        let dir = data_dir.to_path_buf();
        let folder = match Folder::create(data_dir) {
            Err(e) if !is_disks_fault(&e) => return Err(OpenError::Folder { dir, source: e }),
            // A full or read-only disk without the folder: the first commit tries again.
            Err(_) => Folder::missing(data_dir),
            Ok(folder) => folder,
        };
        let lock = match folder.lock() {
            Ok(lock) => lock,
            Err(LockError::InUse(pid)) => return Err(OpenError::InUse { dir, pid }),
            Err(LockError::Io(e)) if e.kind() == io::ErrorKind::NotFound => None,
            Err(LockError::Io(source)) => return Err(OpenError::Folder { dir, source }),
        };
        let shared = Arc::new(Shared::default());
        let (writer, mirror) = Writer::open(folder.clone(), lock, Arc::clone(&shared))?;
        let mut opened = Opened {
            clock: mirror.clock,
            last_good_config: mirror.config,
            last_seq: mirror.last_seq,
            lost: mirror.lost,
            ..Opened::default()
        };
        for (table, key, body) in mirror.records.iter() {
            let row = (table, key.to_owned(), body.to_owned());
            opened.rows.push(row);
        }
        for ((id, key), value) in mirror.plugin_state {
            opened
                .plugin_state
                .entry(id)
                .or_default()
                .insert(key, value);
        }

        let (writes, write_queue) = mpsc::channel(COMMITS_MAX);
        let (reads, read_queue) = mpsc::channel(QUERIES_MAX);
        spawn("watchfire-store", move || write(writer, write_queue))?;
        let seen = Arc::clone(&shared);
        spawn("watchfire-query", move || {
            reader::run(&folder, &seen, read_queue)
        })?;
        let store = StateStore {
            writes,
            reads,
            shared,
        };
        Ok((store, opened))
    }

    /// Commits all of it in one transaction. It is on disk when this says `Ok`; with
    /// [`StoreError::NotDurable`] it is taken in all the same.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.write(Write::Commit(Box::new(commit), reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Keeps the texts of a configuration that works, for a start with one that does not.
    pub async fn save_config(&self, texts: Vec<(PathBuf, String)>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.write(Write::SaveConfig(texts, reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Deletes events that are too old by the wall clock and by the agent's own timeline, in batches
    /// that let commits pass between them.
    pub async fn cleanup(&self, now: Now, keep: Keep) -> Result<Cleaned, StoreError> {
        let mut all = Cleaned::default();
        for _ in 0..CLEANUP_BATCHES_MAX {
            let (reply, answer) = oneshot::channel();
            self.write(Write::Cleanup(now, keep, reply)).await?;
            let batch = answer.await.map_err(|_| StoreError::Closed)??;
            all.deleted += batch.cleaned.deleted;
            all.unsound = batch.cleaned.unsound;
            if !batch.more {
                break;
            }
        }
        Ok(all)
    }

    /// Events after the sequence number `since`, oldest first; `types` empty: of any type. At most
    /// `limit` and at most [`LIMIT_MAX`](super::LIMIT_MAX). Events that wait for the disk are among them.
    pub async fn events(
        &self,
        since: u64,
        types: &[EventType],
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let types = types.to_vec();
        self.ask(Asked::Since {
            since,
            types,
            limit,
        })
        .await
    }

    /// The newest [`LIMIT_MAX`](super::LIMIT_MAX) events of an alert, oldest first.
    pub async fn events_of_alert(
        &self,
        alert: Fingerprint,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(Asked::OfAlert(alert)).await
    }

    /// The events of an alert from the sequence number `from` on, oldest first; at most
    /// [`LIMIT_MAX`](super::LIMIT_MAX).
    pub async fn events_of_alert_from(
        &self,
        alert: Fingerprint,
        from: u64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(Asked::OfAlertFrom(alert, from)).await
    }

    /// The newest transitions with which an alert began to fire, before the sequence number `before`;
    /// newest first, at most `limit` and at most [`LIMIT_MAX`](super::LIMIT_MAX).
    pub async fn openings(
        &self,
        before: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(Asked::Openings { before, limit }).await
    }

    /// Alerts of the history that this text may mean: the beginning of a fingerprint, a name, a rule. The
    /// one with the newest event comes first; at most 100.
    pub async fn known_alerts(&self, text: String) -> Result<Vec<KnownAlert>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.read(Read::Known(text, reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Of each alert the last transition up to the sequence number `at`: the state of that time.
    pub async fn states_at(&self, at: u64) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(Asked::StatesAt(at)).await
    }

    /// Counts and sizes.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.read(Read::Stats(reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// How the store fares. Never waits for the disk.
    pub fn health(&self) -> Health {
        lock(&self.shared.health).clone()
    }

    /// The newest sequence number given, on disk or not.
    pub fn last_seq(&self) -> u64 {
        self.shared.last_seq.load(Ordering::Acquire)
    }

    /// Lets go of memory that only speeds the next commit or query up: pages of the file, room for rows. Returns
    /// when both threads did, after what is queued.
    pub async fn rest(&self) {
        let (reply, rested) = oneshot::channel();
        if self.read(Read::Rest(reply)).await.is_ok() {
            let _ = rested.await;
        }
        let (reply, rested) = oneshot::channel();
        if self.write(Write::Rest(reply)).await.is_ok() {
            let _ = rested.await;
        }
    }

    /// Ends both threads after what is queued, checkpoints, lets go of the folder.
    pub async fn close(&self) {
        // The reader first: the last connection to close checkpoints the log.
        let (reply, ended) = oneshot::channel();
        if self.read(Read::Close(reply)).await.is_ok() {
            let _ = ended.await;
        }
        let (reply, ended) = oneshot::channel();
        if self.write(Write::Close(reply)).await.is_ok() {
            let _ = ended.await;
        }
    }

    async fn write(&self, work: Write) -> Result<(), StoreError> {
        self.writes.send(work).await.map_err(|_| StoreError::Closed)
    }

    async fn read(&self, work: Read) -> Result<(), StoreError> {
        self.reads.send(work).await.map_err(|_| StoreError::Closed)
    }

    async fn ask(&self, asked: Asked) -> Result<Vec<StoredEvent>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.read(Read::Events(asked, reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, ", process {pid}"),
            None => Ok(()),
        }
    }
}

/// A lock that survives a panic elsewhere: what it guards is plain data, valid at every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map(drop)
        .map_err(OpenError::Thread)
}

/// The writing thread. A caller that went away is no reason to stop.
fn write(mut writer: Writer, mut queue: mpsc::Receiver<Write>) {
    while let Some(work) = queue.blocking_recv() {
        match work {
            Write::Commit(commit, reply) => {
                let _ = reply.send(writer.commit(&commit));
            }
            Write::SaveConfig(texts, reply) => {
                let _ = reply.send(writer.save_config(texts));
            }
            Write::Cleanup(now, keep, reply) => {
                let _ = reply.send(writer.cleanup(now, keep));
            }
            Write::Rest(reply) => {
                writer.rest();
                let _ = reply.send(());
            }
            Write::Close(reply) => {
                drop(writer);
                let _ = reply.send(());
                return;
            }
        }
    }
}
