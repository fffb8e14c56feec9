//! The way of finished log lines out of the process: a bounded queue, and a thread that alone waits for the reader.
//!
//! Stderr may be a pipe whose reader stopped, a file may lie on a disk that hangs. The agent must go on all the same:
//! what finds the queue full is dropped, counted, and told in a line of its own once there is room again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// A log file that grew to this many bytes is renamed to `NAME.1` (replacing the one before): the
/// log never takes more than twice as much.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Bytes of lines that wait: about 6,000, what a storm of 5,000 alerts says in one round.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long the end of the process waits for the reader: a reader that reads takes milliseconds.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The queue of this process; there is one log.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Waits until what is queued is written, for a second at most; the rest is lost. To be called last.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_MAX);
    }
}

/// Lines that were dropped so far because nobody took them.
pub(super) fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lock().dropped)
}

/// Starts the thread that writes to `sink`. The queue is that of [`flush`], unless there is one already.
pub(super) fn start(mut sink: Sink) -> std::io::Result<Arc<Queue>> {
    let queue = Arc::new(Queue::default());
    let taken = queue.clone();
    std::thread::Builder::new()
        .name("watchfire-log".into())
        .spawn(move || {
            loop {
                let line = taken.next();
                sink.write(&line);
                let lines = taken.written();
                if lines > 0 {
                    tracing::warn!(
                        lines,
                        "the log was not read fast enough: lines were dropped"
                    );
                }
            }
        })?;
    // A second log is refused by its caller.
    let _ = QUEUE.set(queue.clone());
    Ok(queue)
}

/// Lines on their way.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    /// Of `lines`; at most [`WAITING_BYTES_MAX`].
    bytes: usize,
    /// A line was taken and is not written yet.
    writing: bool,
    /// Lines that found no room, ever.
    dropped: u64,
    /// How many of them the log told of.
    told: u64,
}

impl Queue {
    /// Takes a line in, or drops it. Never waits.
    pub(super) fn push(&self, line: String) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// The next line; waits for one.
    fn next(&self) -> String {
        let mut waiting = self.lock();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.writing = true;
                return line;
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The line is written. How many were dropped that are to be told now: none before half of the queue is free,
    /// else a slow reader would get a line about each.
    fn written(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.writing = false;
        let untold = if waiting.bytes <= WAITING_BYTES_MAX / 2 {
            waiting.dropped - waiting.told
        } else {
            0
        };
        waiting.told += untold;
        drop(waiting);
        self.changed.notify_all();
        untold
    }

    fn flush(&self, most: Duration) {
        let unwritten = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        // What is left after that nobody reads.
        drop(
            self.changed
                .wait_timeout_while(self.lock(), most, unwritten),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    /// A descriptor of our own: the lock of the standard library's would be held while nobody reads, and
    /// with it every word of a panic.
    Stderr(File),
    /// `[log] file`.
    File(LogFile),
}

impl Sink {
    /// The standard error stream.
    pub(super) fn stderr() -> std::io::Result<Self> {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Sink::Stderr(stderr.into()))
    }

    /// This file; made where it is missing.
    pub(super) fn file(path: &Path) -> std::io::Result<Self> {
        LogFile::open(path.to_owned()).map(Sink::File)
    }

    fn write(&mut self, line: &str) {
        // A log that cannot be written has nobody to tell it to.
        match self {
            Sink::Stderr(file) => drop(file.write_all(line.as_bytes())),
            Sink::File(file) => file.write(line),
        }
    }
}

/// A log file that is rotated by size, and opened again when somebody else moved it away.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    inode: u64,
    bytes: u64,
}

impl LogFile {
    fn open(path: PathBuf) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)?;
        let metadata = file.metadata()?;
        Ok(LogFile {
            path,
            file,
            inode: metadata.ino(),
            bytes: metadata.len(),
        })
    }

    fn write(&mut self, line: &str) {
        if self.bytes > FILE_BYTES_MAX {
            let _ = std::fs::rename(&self.path, rotated(&self.path));
        }
        let moved = std::fs::metadata(&self.path).map_or(true, |m| m.ino() != self.inode);
        if moved && let Ok(fresh) = LogFile::open(self.path.clone()) {
            *self = fresh;
        }
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.bytes += line.len() as u64;
        }
    }
}

fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rotated_and_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut file = LogFile::open(path.clone()).unwrap();
        file.write("one\n");
        std::fs::rename(&path, folder.path().join("taken")).unwrap();
        file.write("two\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        file.bytes = FILE_BYTES_MAX + 1;
        file.write("three\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(std::fs::read_to_string(rotated(&path)).unwrap(), "two\n");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_once_there_is() {
        let queue = Queue::default();
        let line = || "x".repeat(WAITING_BYTES_MAX / 4);
        for _ in 0..7 {
            queue.push(line());
        }
        assert_eq!(queue.lock().lines.len(), 4);
        let mut told = Vec::new();
        for _ in 0..4 {
            queue.next();
            told.push(queue.written());
        }
        assert_eq!(told, [0, 3, 0, 0]);
        // Everything is written: nothing to wait for.
        queue.flush(Duration::MAX);
        queue.push(line());
        queue.flush(Duration::from_millis(1));
        assert_eq!(queue.lock().lines.len(), 1, "the wait was bounded");
    }
}
