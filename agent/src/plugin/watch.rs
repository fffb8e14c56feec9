//! Says when to look again: a debounced hint without payload.
//!
//! ```text
//!   inotify on the parent folders --> Pending (merged, bounded) --> Watcher::next --> Hint
//!   every 60 s, every 5 s where watching failed -------------------^
//! ```
//!
//! Folders are watched, never files: a rename exchanges the inode, and a watch on the file goes deaf.
//! An event says *that* something happened, never *what*: who gets the hint looks at everything. So a
//! lost, merged or wrong event costs time, not correctness, and no queue can overflow.
//!
//! A look that one file is the reason for finds others half-written. Half a component does not load; half a
//! configuration may well hold, and mean that the rest is gone. So [`Watcher::unfinished`] says of files whether
//! somebody may still be writing them: they are young, and no event has told their end.

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Quiet after a bare write before it counts as finished: longer than the pauses of a compiler or an
/// editor that writes in steps, shorter than a person's patience.
pub const QUIET: Duration = Duration::from_millis(250);

/// Longest wait for quiet: a log file in the same folder must not put a reload off for ever.
pub const QUIET_MAX: Duration = Duration::from_secs(2);

/// Between rescans where every folder is watched: network file systems and exhausted queues tell nothing.
pub const RESCAN: Duration = Duration::from_secs(60);

/// Between rescans where a folder is not watched.
pub const RESCAN_DEGRADED: Duration = Duration::from_secs(5);

/// Files whose end is remembered. One is needed for [`QUIET`] at most; a burst of more makes files wait that long.
const FINISHED_MAX: usize = 1000;

/// Why it is time to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something happened in a folder; the last event was at this time.
    Changed(Instant),
    /// It is simply time.
    Rescan,
    /// Somebody asks, and vouches for the files.
    Asked,
}

/// What happened since the last hint. Both parts merge any number of events.
#[derive(Debug, Default, PartialEq)]
struct Pending {
    /// A file is complete: the time of the last such event.
    complete: Option<Instant>,
    /// Something was written, and may still be: first and last event.
    writing: Option<(Instant, Instant)>,
    /// When files were closed or renamed into place, unless they were written again since.
    finished: BTreeMap<PathBuf, SystemTime>,
}

/// How an event counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// A file is complete.
    Complete,
    /// A file is being changed.
    Writing,
    /// Somebody reads.
    Nothing,
}

/// Watches folders.
pub struct Watcher {
    /// Asks the system for an instance.
    open: fn(&Watcher) -> notify::Result<RecommendedWatcher>,
    /// None: the system gives us none, for now.
    watcher: Option<RecommendedWatcher>,
    /// What the callback has seen.
    pending: Arc<Mutex<Pending>>,
    /// The callback wakes [`Watcher::next`].
    wake: Arc<Notify>,
    /// Folders that should be watched; those that are, with device and inode.
    folders: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// Why folders are not watched, for people; a missing folder is no failure.
    failures: BTreeMap<PathBuf, String>,
    /// When the next rescan is due.
    rescan_at: Instant,
}

impl Watcher {
    /// A watcher without folders.
    pub fn new() -> Self {
        let pending = Arc::new(Mutex::new(Pending::default()));
        let wake = Arc::new(Notify::new());
        Watcher {
            open: Watcher::ask,
            watcher: None,
            pending,
            wake,
            folders: BTreeMap::new(),
            failures: BTreeMap::new(),
            rescan_at: Instant::now() + RESCAN,
        }
    }

    fn ask(&self) -> notify::Result<RecommendedWatcher> {
        let (seen, waker) = (self.pending.clone(), self.wake.clone());
        // Runs on notify's own thread.
        let callback = move |event: notify::Result<notify::Event>| {
            let weight = match &event {
                Ok(event) if event.need_rescan() => Weight::Complete,
                Ok(event) => weigh(&event.kind),
                Err(_) => Weight::Complete,
            };
            if weight != Weight::Nothing {
                let paths = event.map(|event| event.paths).unwrap_or_default();
                let mut pending = lock(&seen);
                pending.note(weight, paths, SystemTime::now());
                pending.add(weight, Instant::now());
                drop(pending);
                waker.notify_one();
            }
        };
        notify::recommended_watcher(callback)
    }

    /// Watches exactly these folders from now on. One that does not exist is polled until it does.
    pub fn watch(&mut self, folders: impl IntoIterator<Item = PathBuf>) {
        let wanted: BTreeSet<PathBuf> = folders.into_iter().collect();
        self.folders.retain(|folder, watched| {
            let stays = wanted.contains(folder);
            if !stays
                && watched.is_some()
                && let Some(watcher) = &mut self.watcher
            {
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        for folder in wanted {
            self.folders.entry(folder).or_default();
        }
        self.refresh();
    }

    /// Why some folder is only polled, for people; none: all is well.
    pub fn degraded(&self) -> Option<String> {
        let (folder, reason) = self.failures.first_key_value()?;
        let more = match self.failures.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(format!(
            "{} is not watched{more}: {reason}; looked at every {} s instead",
            folder.display(),
            RESCAN_DEGRADED.as_secs()
        ))
    }

    /// Whether somebody may still be writing one of these files, which were read before: until when to wait
    /// for its end. A file that is gone is finished.
    pub fn unfinished<'a>(&self, files: impl IntoIterator<Item = &'a Path>) -> Option<Instant> {
        let waits = files.into_iter().filter_map(|file| {
            let written = std::fs::metadata(file).ok()?.modified().ok()?;
            // A time in the future (a copied one, a clock that was set) says nothing.
            let age = SystemTime::now().duration_since(written).ok()?;
            let wait = QUIET.checked_sub(age)?;
            let pending = lock(&self.pending);
            let ended = |path: &Path| pending.finished.get(path).is_some_and(|at| *at >= written);
            let target = || std::fs::canonicalize(file).is_ok_and(|target| ended(&target));
            (!ended(file) && !target()).then_some(wait)
        });
        waits.max().map(|wait| Instant::now() + wait)
    }

    /// Waits until it is time to look again. Cancel safe: a hint not returned is not lost.
    pub async fn next(&mut self) -> Hint {
        loop {
            let due = lock(&self.pending).due();
            let wait = tokio::time::sleep_until(due.unwrap_or(self.rescan_at).min(self.rescan_at));
            tokio::select! {
                () = self.wake.notified() => {}
                () = wait => {}
            }
            let now = Instant::now();
            let changed = lock(&self.pending).take(now);
            if let Some(last) = changed {
                // A folder may have been exchanged, and its watch with it.
                self.refresh();
                return Hint::Changed(last);
            }
            if now >= self.rescan_at {
                self.refresh();
                return Hint::Rescan;
            }
        }
    }

    /// Sets the watches that are missing or sit on a folder that was exchanged. Limits may have been raised since.
    fn refresh(&mut self) {
        let before = std::mem::take(&mut self.failures);
        self.set_watches();
        match (before.is_empty(), self.degraded()) {
            (true, Some(reason)) => tracing::warn!(reason, "changes of files are found by polling"),
            (false, None) => tracing::info!("all folders are watched again"),
            _ => {}
        }
    }

    fn set_watches(&mut self) {
        let mut refused = String::new();
        if self.watcher.is_none() {
            self.watcher = (self.open)(self)
                .inspect_err(|error| refused = error.to_string())
                .ok();
        }
        let mut absent = false;
        for (folder, watched) in &mut self.folders {
            let identity = std::fs::metadata(folder)
                .ok()
                .map(|metadata| (metadata.dev(), metadata.ino()));
            if identity.is_some() && *watched == identity {
                continue;
            }
            let Some(watcher) = &mut self.watcher else {
                let reason = format!(
                    "the system gives no inotify instance ({refused}); raise fs.inotify.max_user_instances"
                );
                self.failures.insert(folder.clone(), reason);
                continue;
            };
            if watched.take().is_some() {
                let _ = watcher.unwatch(folder);
            }
            if identity.is_none() {
                absent = true;
                continue;
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => *watched = identity,
                Err(error) => {
                    let reason = match error.kind {
                        notify::ErrorKind::MaxFilesWatch => {
                            "the limit of watches is reached; raise fs.inotify.max_user_watches"
                                .to_owned()
                        }
                        _ => error.to_string(),
                    };
                    self.failures.insert(folder.clone(), reason);
                }
            }
        }
        let all_watched = self.failures.is_empty() && !absent;
        self.rescan_at = Instant::now() + if all_watched { RESCAN } else { RESCAN_DEGRADED };
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Watcher::new()
    }
}

impl Pending {
    fn add(&mut self, weight: Weight, now: Instant) {
        match weight {
            Weight::Complete => self.complete = Some(now),
            Weight::Writing => {
                let first = self.writing.map_or(now, |(first, _)| first);
                self.writing = Some((first, now));
            }
            Weight::Nothing => {}
        }
    }

    /// Remembers which files are finished.
    fn note(&mut self, weight: Weight, paths: Vec<PathBuf>, now: SystemTime) {
        if weight == Weight::Writing {
            for path in &paths {
                self.finished.remove(path);
            }
            return;
        }
        if self.finished.len() + paths.len() > FINISHED_MAX {
            self.finished
                .retain(|_, at| now.duration_since(*at).is_ok_and(|age| age < QUIET));
        }
        // Of a rename the last path is the one into place.
        if let Some(path) = paths.into_iter().next_back()
            && self.finished.len() < FINISHED_MAX
        {
            self.finished.insert(path, now);
        }
    }

    /// When a hint is due.
    fn due(&self) -> Option<Instant> {
        let quiet = self
            .writing
            .map(|(first, last)| (last + QUIET).min(first + QUIET_MAX));
        match (self.complete, quiet) {
            (Some(complete), _) => Some(complete),
            (None, quiet) => quiet,
        }
    }

    /// The time of the last event, if a hint is due. A complete file leaves a waiting write alone:
    /// it may be another file's.
    fn take(&mut self, now: Instant) -> Option<Instant> {
        if self.due()? > now {
            return None;
        }
        if let Some(complete) = self.complete.take() {
            return Some(complete);
        }
        self.writing.take().map(|(_, last)| last)
    }
}

/// What an event of notify means here.
fn weigh(kind: &EventKind) -> Weight {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Weight::Complete,
        // Reading makes such events too, ours included.
        EventKind::Access(_) => Weight::Nothing,
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Weight::Complete,
        // A removal is often the first half of a replacement.
        _ => Weight::Writing,
    }
}

fn lock(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folders in which a change of `file` shows: its own, and its target's where it is a link.
pub fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let own = file.parent().map(Path::to_owned);
    let target = std::fs::canonicalize(file)
        .ok()
        .and_then(|target| target.parent().map(Path::to_owned));
    own.into_iter().chain(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(60);

    fn watching(folder: &Path) -> Watcher {
        let mut watcher = Watcher::new();
        watcher.watch([folder.to_owned()]);
        assert_eq!(watcher.degraded(), None);
        watcher
    }

    async fn hint(watcher: &mut Watcher) -> Hint {
        timeout(LONG, watcher.next()).await.expect("a hint")
    }

    /// Whether the last event of a file was its end, which is due at once.
    fn is_complete(watcher: &Watcher, file: &Path) -> bool {
        lock(&watcher.pending).finished.contains_key(file)
    }

    /// Takes hints until none is due any more.
    async fn drain(watcher: &mut Watcher) {
        while timeout(QUIET * 2, watcher.next()).await.is_ok() {}
    }

    #[test]
    fn complete_is_due_at_once_writing_after_quiet() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pending = Pending::default();
        assert_eq!(pending.due(), None);
        pending.add(Weight::Writing, at(0));
        assert_eq!(pending.due(), Some(at(250)));
        pending.add(Weight::Writing, at(200));
        assert_eq!(pending.due(), Some(at(450)));
        assert_eq!(pending.take(at(449)), None);
        pending.add(Weight::Complete, at(300));
        assert_eq!(pending.take(at(300)), Some(at(300)));
        assert_eq!(pending.take(at(449)), None, "the write still waits");
        assert_eq!(pending.take(at(450)), Some(at(200)));
        assert_eq!(pending, Pending::default());
    }

    #[test]
    fn endless_writing_waits_two_seconds() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for millis in (0..=3000).step_by(100) {
            pending.add(Weight::Writing, start + Duration::from_millis(millis));
        }
        assert_eq!(pending.due(), Some(start + QUIET_MAX));
    }

    #[tokio::test]
    async fn a_closed_file_is_complete_and_reading_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watcher = watching(folder.path());
        let file = folder.path().join("a.wasm");
        std::fs::write(&file, b"content").expect("written");
        assert!(matches!(hint(&mut watcher).await, Hint::Changed(_)));
        assert!(is_complete(&watcher, &file));
        drain(&mut watcher).await;
        std::fs::read(&file).expect("read");
        assert!(timeout(QUIET * 2, watcher.next()).await.is_err());
    }

    #[tokio::test]
    async fn a_rename_into_place_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let outside = tempfile::tempdir().expect("a folder");
        let new = outside.path().join("new");
        std::fs::write(&new, b"content").expect("written");
        let mut watcher = watching(folder.path());
        let file = folder.path().join("a.wasm");
        std::fs::rename(&new, &file).expect("renamed");
        assert!(matches!(hint(&mut watcher).await, Hint::Changed(_)));
        assert!(is_complete(&watcher, &file));
    }

    #[tokio::test]
    async fn a_bare_write_waits_for_quiet() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watcher = watching(folder.path());
        let path = folder.path().join("a.wasm");
        let mut file = std::fs::File::create(&path).expect("created");
        let started = Instant::now();
        file.write_all(b"half").expect("written");
        assert!(matches!(hint(&mut watcher).await, Hint::Changed(_)));
        assert!(started.elapsed() >= QUIET, "{:?}", started.elapsed());
        assert!(!is_complete(&watcher, &path));
        file.write_all(b"other half").expect("written");
        drop(file);
        assert!(matches!(hint(&mut watcher).await, Hint::Changed(_)));
        assert!(is_complete(&watcher, &path));
    }

    #[tokio::test]
    async fn a_young_file_is_unfinished_until_it_is_closed_or_quiet() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("watchfire.toml");
        let mut watcher = watching(folder.path());
        assert_eq!(watcher.unfinished([&*path]), None, "there is none");
        let mut file = std::fs::File::create(&path).expect("created");
        file.write_all(b"half").expect("written");
        let until = watcher.unfinished([&*path]).expect("it is being written");
        assert!(until <= Instant::now() + QUIET);
        drop(file);
        hint(&mut watcher).await;
        assert_eq!(watcher.unfinished([&*path]), None, "it is closed");

        let beside = folder.path().join("beside");
        std::fs::write(&beside, b"whole").expect("written");
        std::fs::rename(&beside, &path).expect("renamed");
        hint(&mut watcher).await;
        drain(&mut watcher).await;
        let _opened_again = std::fs::File::create(&path).expect("created");
        assert!(watcher.unfinished([&*path]).is_some(), "truncated again");
        tokio::time::sleep_until(Instant::now() + QUIET).await;
        assert_eq!(watcher.unfinished([&*path]), None, "nobody writes for long");
    }

    #[test]
    fn the_files_that_are_finished_are_bounded() {
        let mut pending = Pending::default();
        let now = SystemTime::now();
        for number in 0..2 * FINISHED_MAX {
            let path = PathBuf::from(number.to_string());
            pending.note(Weight::Complete, vec![path], now);
        }
        assert_eq!(pending.finished.len(), FINISHED_MAX);
        pending.note(Weight::Complete, vec!["later".into()], now + QUIET);
        assert_eq!(pending.finished.len(), 1);
    }

    #[tokio::test]
    async fn a_symlink_swap_and_a_removal_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["one", "two"] {
            std::fs::write(folder.path().join(name), name).expect("written");
        }
        let link = folder.path().join("..data");
        std::os::unix::fs::symlink("one", &link).expect("linked");
        let mut watcher = watching(folder.path());
        let next = folder.path().join("..tmp");
        std::os::unix::fs::symlink("two", &next).expect("linked");
        std::fs::rename(&next, &link).expect("swapped");
        assert!(matches!(hint(&mut watcher).await, Hint::Changed(_)));
        drain(&mut watcher).await;
        std::fs::remove_file(&link).expect("removed");
        assert!(matches!(hint(&mut watcher).await, Hint::Changed(_)));
    }

    #[tokio::test]
    async fn a_folder_that_is_exchanged_is_watched_again() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("plugins");
        std::fs::create_dir(&folder).expect("made");
        let mut watcher = watching(&folder);
        std::fs::rename(&folder, parent.path().join("old")).expect("moved");
        std::fs::create_dir(&folder).expect("made");
        watcher.watch([folder.clone()]);
        drain(&mut watcher).await;
        std::fs::write(folder.join("a.wasm"), b"content").expect("written");
        assert!(matches!(hint(&mut watcher).await, Hint::Changed(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn rescans_come_every_minute_and_every_five_seconds_where_a_folder_is_missing() {
        let parent = tempfile::tempdir().expect("a folder");
        let mut watcher = watching(parent.path());
        let started = Instant::now();
        assert_eq!(watcher.next().await, Hint::Rescan);
        assert_eq!(started.elapsed().as_secs(), RESCAN.as_secs());
        watcher.watch([parent.path().join("missing")]);
        let started = Instant::now();
        assert_eq!(watcher.next().await, Hint::Rescan);
        assert_eq!(started.elapsed().as_secs(), RESCAN_DEGRADED.as_secs());
        assert_eq!(watcher.degraded(), None, "missing is no failure");
        std::fs::create_dir(parent.path().join("missing")).expect("made");
        assert_eq!(watcher.next().await, Hint::Rescan);
        let started = Instant::now();
        assert_eq!(watcher.next().await, Hint::Rescan);
        assert_eq!(started.elapsed().as_secs(), RESCAN.as_secs());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_watched_is_polled_and_said_so() {
        let file = tempfile::tempdir().expect("a folder");
        let mut watcher = Watcher::new();
        watcher.open = |_| Err(notify::Error::generic("no room"));
        watcher.watch([file.path().to_owned()]);
        let text = watcher.degraded().expect("degraded");
        assert!(text.contains("every 5 s"), "{text}");
        assert!(text.contains("no room"), "{text}");
        watcher.open = Watcher::ask;
        watcher.watch([file.path().to_owned()]);
        assert_eq!(watcher.degraded(), None, "there is room again");
    }
}
