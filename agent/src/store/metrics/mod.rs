//! The metric history on disk: `metrics.db`, in a thread of its own. Worth less than anything else here.
//!
//! ```text
//!   evaluate --round--> [ bounded, full: dropped and counted ] --> thread watchfire-history --> metrics.db
//!            --question-->                                              | one open chunk a series
//!            <-- past of a window -- [ bounded, the thread waits ] -----'
//!   replay, dashboard: [`MetricsReader`], a connection of their own
//! ```
//!
//! Samples of a series lie in *slots* of 20 minutes, one compressed chunk a slot ([`chunk`]), under the key
//! `slot << 20 | series`: what is written together lies together, retention deletes from the front, and one
//! series is found without an index. A chunk grows in memory and is written every 5 minutes and at a
//! shutdown: a kill costs at most 5 minutes of samples. Of each 6 hours, 5-minute roll-ups are made.
//!
//! Time on disk is the agent's timeline plus an offset that is chosen when the file is made, so that it
//! is about wall time; it never goes back. Where the timeline itself begins anew (`state.db` was lost) the
//! offset changes. What the wall clock showed is kept beside it, in steps.
//!
//! Nobody waits for this thread. A damaged file is set aside and begun anew; a full disk keeps some
//! chunks waiting in memory and then drops the oldest.

mod bits;
mod chunk;
mod file;
mod query;
mod read;
mod retain;
mod rollup;
mod writer;

pub use query::{MetricsError, MetricsReader, Range, Rollup, StoredSample, StoredSeries};

use super::history::{PastOf, Question};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use watchfire_engine::model::{Now, ProbeId, Series};

/// Length of a slot: 120 samples at an interval of 10 s, beyond which compression gains little.
pub(crate) const SLOT_MS: u64 = 20 * 60_000;

/// Bits of a key that name the series.
const SERIES_BITS: u32 = 20;

/// Series that can be told apart.
const SERIES_MAX: u32 = 1 << SERIES_BITS;

/// Rounds and questions that wait for the thread. A round a second and a disk that hangs for a minute.
const NOTES_WAITING: usize = 64;

/// Questions that wait at a time, so that they leave room for rounds.
const QUESTIONS_WAITING: u64 = 16;

/// Pasts that wait for the evaluate stage, which takes them between rounds.
const PASTS_WAITING: usize = 16;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Samples.
    pub samples: Duration,
    /// 5-minute roll-ups.
    pub rollups: Duration,
    /// Bytes of the file; the oldest go first.
    pub bytes_max: u64,
}

/// How the history fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MetricsHealth {
    /// Why nothing is written now; None: all is well.
    pub degraded: Option<String>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Series that are written now.
    pub series: usize,
    /// Wall time of the start of the oldest samples, milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Samples taken in since the start.
    pub samples: u64,
    /// Samples lost since the start: the thread or the disk did not keep up.
    pub dropped: u64,
    /// Chunks written since the start.
    pub chunks: u64,
    /// Bytes of those.
    pub chunk_bytes: u64,
    /// Files that were set aside since the start.
    pub quarantined: u64,
}

/// What both sides see.
#[derive(Debug)]
struct Shared {
    health: Mutex<MetricsHealth>,
    keep: Mutex<Keep>,
    /// Samples that did not fit into the channel.
    refused: AtomicU64,
    /// Questions that were not answered yet.
    questions: AtomicU64,
}

/// What the thread is told.
enum Note {
    /// The newest samples of one probe.
    Round {
        probe: ProbeId,
        now: Now,
        samples: Vec<(Series, f64)>,
    },
    /// The past of a window is wanted.
    Question(Question),
}

/// Hands samples over to be kept. Dropping it lets the thread write what is open and end.
#[derive(Debug)]
pub struct Recorder {
    notes: SyncSender<Note>,
    view: RecorderView,
}

/// Sees and directs the history from elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RecorderView {
    shared: Arc<Shared>,
}

/// What [`Recorder::start`] returns.
#[derive(Debug)]
pub struct Recording {
    /// For the evaluate stage.
    pub recorder: Recorder,
    /// Answers to its questions.
    pub pasts: mpsc::Receiver<PastOf>,
    /// Ends once everything is written, after the recorder was dropped.
    pub done: oneshot::Receiver<()>,
}

/// The file in a data folder.
pub fn path_in(dir: &Path) -> PathBuf {
    dir.join("metrics.db")
}

impl Recorder {
    /// Starts the thread on `metrics.db` in `dir`. The file is opened there, so that a slow disk delays
    /// nobody.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(dir: &Path, keep: Keep, now: Now) -> std::io::Result<Recording> {
        let (notes, inbox) = sync_channel(NOTES_WAITING);
        let (answers, pasts) = mpsc::channel(PASTS_WAITING);
        let (done_in, done) = oneshot::channel();
        let shared = Arc::new(Shared {
            health: Mutex::default(),
            keep: Mutex::new(keep),
            refused: AtomicU64::new(0),
            questions: AtomicU64::new(0),
        });
        let view = RecorderView { shared };
        let path = path_in(dir);
        let shared = Arc::clone(&view.shared);
        std::thread::Builder::new()
            .name("watchfire-history".into())
            .spawn(move || {
                writer::Writer::new(path, shared, now).run(&inbox, &answers);
                // The receiver may be gone: nobody waits at a crash.
                let _ = done_in.send(());
            })?;
        Ok(Recording {
            recorder: Recorder { notes, view },
            pasts,
            done,
        })
    }

    /// Takes the newest samples of `probe`. Never waits: what finds the channel full is dropped and counted.
    pub fn record<'a>(
        &self,
        probe: &ProbeId,
        now: Now,
        samples: impl Iterator<Item = (&'a Series, f64)>,
    ) {
        let samples: Vec<_> = samples.map(|(series, v)| (series.clone(), v)).collect();
        let count = samples.len() as u64;
        let probe = probe.clone();
        let note = Note::Round {
            probe,
            now,
            samples,
        };
        if count > 0 && self.notes.try_send(note).is_err() {
            self.view.shared.refused.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Asks for the past of a window. False: too much waits already, ask again later.
    pub fn ask(&self, question: Question) -> bool {
        let waiting = &self.view.shared.questions;
        if waiting.load(Ordering::Relaxed) >= QUESTIONS_WAITING {
            return false;
        }
        let asked = self.notes.try_send(Note::Question(question)).is_ok();
        if asked {
            waiting.fetch_add(1, Ordering::Relaxed);
        }
        asked
    }

    /// A view of it.
    pub fn view(&self) -> RecorderView {
        self.view.clone()
    }
}

impl RecorderView {
    /// How it fares.
    pub fn health(&self) -> MetricsHealth {
        let mut health = lock(&self.shared.health).clone();
        health.dropped += self.shared.refused.load(Ordering::Relaxed);
        health
    }

    /// Keeps more or less from now on.
    pub fn keep(&self, keep: Keep) {
        *lock(&self.shared.keep) = keep;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain values: a panic elsewhere leaves them whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key of a chunk or roll-up.
fn key(slot: u64, series: u32) -> i64 {
    // 43 bits of slots of 20 minutes are 300 million years.
    ((slot << SERIES_BITS) | u64::from(series)).cast_signed()
}

/// Slot and series of a key.
fn parts_of(key: i64) -> (u64, u32) {
    let key = key.cast_unsigned();
    (key >> SERIES_BITS, (key as u32) & (SERIES_MAX - 1))
}

#[cfg(test)]
mod tests;
