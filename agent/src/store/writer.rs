//! The one that writes `state.db`, and what it does when the disk refuses.
//!
//! ```text
//!            commit fails                     5 s later, or at once      works
//!   durable ------------> handle dropped --> take the file up again ----------> durable
//!                              |                     | damaged
//!                              |                     v
//!                              '--- I/O error --> write a fresh one from memory, rename it into place
//! ```
//!
//! Invariant: the mirror holds every commit ever taken in, on disk or not; so a file can always be
//! made from it. A handle that failed once is never used again.

use super::cleanup;
use super::disk::{self, Trouble};
use super::event::{Keep, StoredEvent};
use super::folder::Folder;
use super::migrate;
use super::rows::{self, Mirror};
use super::state::{
    CleanedBatch, Commit, Committed, Degraded, OpenError, Shared, StoreError, lock,
};
use rusqlite::Connection;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use watchfire_engine::model::Now;

/// Least time between two tries to reach the disk again, in milliseconds of boottime: a rewrite costs
/// up to a second on a bad disk, and every commit waits for it.
const RETRY_MS: u64 = 5_000;

/// Events kept in memory while the disk refuses: a day at a busy host's rate, about 5 MB.
pub(super) const BUFFER_MAX: usize = 10_000;

/// Owns the file and the mirror.
pub(super) struct Writer {
    folder: Folder,
    /// None: the state lives in memory.
    disk: Option<Connection>,
    mirror: Mirror,
    shared: Arc<Shared>,
    /// How to come back.
    heal: Heal,
    /// Boottime of the next try, in milliseconds.
    retry_at_ms: u64,
    /// Whether the reserve is there.
    reserved: bool,
    /// The mirror began without what stands in the file, or without its newest part.
    blind: bool,
    /// Held for its life.
    _lock: Option<File>,
}

/// How the file comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heal {
    /// The disk refused: the file is as good as it was.
    Reopen,
    /// The file cannot be trusted.
    Rewrite,
}

impl Writer {
    /// Opens what lies in the folder, moving aside what is damaged.
    pub(super) fn open(
        folder: Folder,
        lock: Option<File>,
        shared: Arc<Shared>,
    ) -> Result<(Writer, Mirror), OpenError> {
        let _ = std::fs::remove_file(folder.part());
        let mut writer = Writer {
            disk: None,
            mirror: Mirror::default(),
            heal: Heal::Reopen,
            retry_at_ms: 0,
            reserved: false,
            blind: false,
            _lock: lock,
            shared,
            folder,
        };
        if let Err(trouble) = writer.find() {
            match trouble {
                Trouble::Newer { found } => {
                    return Err(OpenError::Newer {
                        path: writer.folder.database(),
                        found,
                        known: migrate::KNOWN,
                    });
                }
                // A disk that fails now may be well again at the first commit: nothing is moved yet.
                Trouble::Damaged(reason)
                | Trouble::Io(reason)
                | Trouble::Unavailable { reason, .. } => writer.degrade(reason, 0),
            }
            writer.blind = true;
            let database = writer.folder.database();
            match disk::salvage(&database) {
                Some(mirror) => writer.mirror = mirror,
                None if database.exists() => {
                    writer.mirror.lost = Some("state.db cannot be read now".to_owned());
                }
                None => {}
            }
        }
        writer.reserved = writer.disk.is_some() && writer.folder.reserve();
        let last_seq = writer.mirror.last_seq;
        writer.shared.last_seq.store(last_seq, Ordering::Release);
        let mirror = writer.mirror.clone();
        Ok((writer, mirror))
    }

    /// Takes a commit in and brings it to disk, if the disk lets it.
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Committed, StoreError> {
        let first_seq = self.mirror.last_seq + 1;
        let events: Vec<StoredEvent> = (first_seq..)
            .zip(&commit.events)
            .map(|(seq, event)| StoredEvent {
                seq,
                event: event.clone(),
            })
            .collect();
        self.mirror.apply(commit);
        self.mirror.last_seq += events.len() as u64;
        let last_seq = self.mirror.last_seq;
        self.shared.last_seq.store(last_seq, Ordering::Release);

        let now = commit.clock.boottime_ms;
        let done = match &mut self.disk {
            Some(conn) => match rows::apply(conn, commit, &events, last_seq) {
                Ok(()) => true,
                Err(e) => {
                    self.buffer(&events);
                    self.give_up(Trouble::of(&e), commit.clock.wall_ms);
                    self.try_to_heal(now)
                }
            },
            None => {
                self.buffer(&events);
                now >= self.retry_at_ms && self.try_to_heal(now)
            }
        };
        // Meeting an unknown file may have moved the numbers up.
        let moved = self.mirror.last_seq - last_seq;
        let committed = Committed {
            first_seq: first_seq + moved,
            last_seq: last_seq + moved,
            events: events
                .into_iter()
                .map(|stored| StoredEvent {
                    seq: stored.seq + moved,
                    ..stored
                })
                .collect(),
        };
        let mut health = lock(&self.shared.health);
        if done {
            health.commits += 1;
            return Ok(committed);
        }
        health.commits_not_durable += 1;
        let reason = health
            .degraded
            .as_ref()
            .map_or_else(String::new, |degraded| degraded.reason.clone());
        Err(StoreError::NotDurable {
            reason,
            kept: Box::new(committed),
        })
    }

    /// Keeps the configuration; while the disk refuses, in memory until it is back.
    pub(super) fn save_config(&mut self, texts: Vec<(PathBuf, String)>) -> Result<(), StoreError> {
        let saved = match &mut self.disk {
            Some(conn) => rows::save_config(conn, &texts),
            None => Ok(()),
        };
        self.mirror.config = Some(texts);
        if let Err(e) = saved {
            self.give_up(Trouble::of(&e), 0);
        }
        self.available().map(drop)
    }

    /// Deletes one batch of old events.
    pub(super) fn cleanup(&mut self, now: Now, keep: Keep) -> Result<CleanedBatch, StoreError> {
        let conn = self.available()?;
        match cleanup::batch(conn, now, keep) {
            Ok(batch) => Ok(batch),
            Err(e) => {
                let reason = e.to_string();
                self.give_up(Trouble::of(&e), now.wall.0);
                Err(StoreError::Unavailable { reason })
            }
        }
    }

    /// Lets go of memory that only speeds the next commit up.
    pub(super) fn rest(&mut self) {
        self.mirror.records.tidy();
        if let Some(conn) = &self.disk {
            rows::shrink(conn);
        }
        crate::heap::settle();
    }

    /// The handle, to break it.
    #[cfg(test)]
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.disk.as_ref()
    }

    /// Finds the state: opened, or made anew beside what was moved away.
    fn find(&mut self) -> Result<(), Trouble> {
        let database = self.folder.database();
        if self.folder.complete().exists() {
            // The process ended between writing a fresh file and putting it into place.
            self.publish()?;
        }
        let damage = match std::fs::symlink_metadata(&database) {
            Ok(_) => match std::fs::metadata(&database) {
                Ok(meta) if meta.is_file() && meta.len() > 0 => match disk::open(&database) {
                    Ok((conn, mirror)) => {
                        self.disk = Some(conn);
                        self.mirror = mirror;
                        return Ok(());
                    }
                    Err(Trouble::Damaged(reason)) => Some(reason),
                    Err(other) => return Err(other),
                },
                Ok(meta) if meta.is_file() => Some("it is empty".to_owned()),
                // A pipe or a device would block whoever opens it.
                Ok(_) => Some("it is not a regular file".to_owned()),
                Err(e) => Some(e.to_string()),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Trouble::of_io(&database, &e)),
        };
        if let Some(reason) = damage {
            let aside = self
                .folder
                .quarantine()
                .map_err(|e| Trouble::of_io(&database, &e))?;
            tracing::error!(%reason, kept_as = %aside.display(), "state.db is damaged: starting without its state");
            self.mirror.lost = Some(format!(
                "state.db was damaged ({reason}) and is kept as {}",
                aside.display()
            ));
        } else if self.folder.has_quarantined()
            || self.folder.log().exists()
            || self.folder.was_used()
        {
            let _ = self.folder.finish_quarantine();
            self.mirror.lost = Some("state.db is missing".to_owned());
        }
        self.folder.remove_leftovers();
        self.write_anew(None)
    }

    /// Comes back to disk. True: everything taken in so far is there.
    fn try_to_heal(&mut self, now_ms: u64) -> bool {
        self.retry_at_ms = now_ms + RETRY_MS;
        // Before anything else: a folder that somebody deleted comes back.
        let _ = Folder::create(self.folder.dir());
        let mut back = self.come_back();
        if matches!(back, Err(Trouble::Unavailable { full: true, .. })) && self.release() {
            back = self.come_back();
        }
        match back {
            Ok(()) => {
                self.shared.generation.fetch_add(1, Ordering::AcqRel);
                lock(&self.shared.buffer).clear();
                let mut health = lock(&self.shared.health);
                health.degraded = None;
                health.buffered = 0;
                health.heals += 1;
                drop(health);
                tracing::info!("state.db is written again");
                if !self.reserved {
                    self.reserved = self.folder.reserve();
                }
                true
            }
            Err(Trouble::Newer { found }) => {
                self.degrade(
                    format!("state.db was replaced by one of version {found}"),
                    0,
                );
                false
            }
            Err(
                Trouble::Damaged(reason)
                | Trouble::Io(reason)
                | Trouble::Unavailable { reason, .. },
            ) => {
                self.degrade(reason, 0);
                false
            }
        }
    }

    /// Gives the reserve back. False: there is none.
    fn release(&mut self) -> bool {
        // It may lie there from an earlier start.
        self.reserved = false;
        self.folder.release()
    }

    fn come_back(&mut self) -> Result<(), Trouble> {
        let database = self.folder.database();
        if self.heal == Heal::Reopen && database.exists() {
            let reopened = disk::open(&database).and_then(|(mut conn, found)| {
                if std::mem::take(&mut self.blind) {
                    self.meet(found);
                }
                let buffer = lock(&self.shared.buffer);
                rows::rewrite(&mut conn, &self.mirror, &*buffer).map_err(|e| Trouble::of(&e))?;
                Ok(conn)
            });
            match reopened {
                Ok(conn) => {
                    self.disk = Some(conn);
                    return Ok(());
                }
                Err(Trouble::Damaged(reason) | Trouble::Io(reason)) => {
                    tracing::error!(%reason, "state.db is damaged: writing a fresh one from memory");
                    self.heal = Heal::Rewrite;
                }
                Err(other) => return Err(other),
            }
        }
        let old = database.is_file().then_some(database);
        self.write_anew(old)?;
        self.heal = Heal::Reopen;
        Ok(())
    }

    /// The first sight of a file that could not be read at the start. The engine began without its
    /// rows, so they go; what only the file knows stays; numbers given since then must not be its own.
    fn meet(&mut self, found: Mirror) {
        for (key, value) in found.plugin_state {
            self.mirror.plugin_state.entry(key).or_insert(value);
        }
        if self.mirror.config.is_none() {
            self.mirror.config = found.config;
        }
        let mut buffer = lock(&self.shared.buffer);
        if buffer
            .front()
            .is_some_and(|first| first.seq <= found.last_seq)
        {
            for (seq, event) in (found.last_seq + 1..).zip(buffer.iter_mut()) {
                event.seq = seq;
            }
        }
        let newest = buffer.back().map_or(0, |last| last.seq);
        self.mirror.last_seq = self.mirror.last_seq.max(found.last_seq).max(newest);
        self.shared
            .last_seq
            .store(self.mirror.last_seq, Ordering::Release);
    }

    /// Writes the mirror to a fresh file, puts it into place and opens it. A crash at any point leaves
    /// the old file, or the complete new one that the next start puts into place.
    fn write_anew(&mut self, old: Option<PathBuf>) -> Result<(), Trouble> {
        let (part, complete) = (self.folder.part(), self.folder.complete());
        let written = {
            let buffer = lock(&self.shared.buffer);
            disk::write_fresh(&part, &self.mirror, old.as_deref(), &*buffer)
        };
        if let Err(trouble) = written {
            // On a full disk half a file is worth less than its room.
            let _ = std::fs::remove_file(&part);
            return Err(trouble);
        }
        std::fs::rename(&part, &complete).map_err(|e| Trouble::of_io(&complete, &e))?;
        self.folder.sync();
        self.publish()?;
        let (conn, _) = disk::open(&self.folder.database())?;
        self.disk = Some(conn);
        Ok(())
    }

    fn publish(&self) -> Result<(), Trouble> {
        let database = self.folder.database();
        let moved = if std::fs::symlink_metadata(&database).is_ok() {
            self.folder.quarantine().map(drop)
        } else {
            let moved = self.folder.finish_quarantine();
            self.folder.remove_leftovers();
            moved
        };
        moved
            .and_then(|()| std::fs::rename(self.folder.complete(), &database))
            .map_err(|e| Trouble::of_io(&database, &e))?;
        self.folder.sync();
        Ok(())
    }

    /// Drops the handle for good.
    fn give_up(&mut self, trouble: Trouble, wall_ms: u64) {
        self.disk = None;
        let reason = match trouble {
            Trouble::Unavailable { reason, full } => {
                if full {
                    self.release();
                }
                reason
            }
            Trouble::Damaged(reason) | Trouble::Io(reason) => {
                self.heal = Heal::Rewrite;
                reason
            }
            Trouble::Newer { found } => format!("version {found}"),
        };
        self.degrade(reason, wall_ms);
    }

    fn degrade(&self, reason: String, wall_ms: u64) {
        let mut health = lock(&self.shared.health);
        let since_wall_ms = match &health.degraded {
            Some(before) => before.since_wall_ms,
            None => wall_ms,
        };
        if health
            .degraded
            .as_ref()
            .is_none_or(|before| before.reason != reason)
        {
            tracing::error!(%reason, "state.db cannot be written: the state is kept in memory");
        }
        health.degraded = Some(Degraded {
            reason,
            since_wall_ms,
        });
    }

    fn buffer(&self, events: &[StoredEvent]) {
        let mut buffer = lock(&self.shared.buffer);
        buffer.extend(events.iter().cloned());
        // The oldest go: what happens now matters more to whoever looks.
        let surplus = buffer.len().saturating_sub(BUFFER_MAX);
        buffer.drain(..surplus);
        let mut health = lock(&self.shared.health);
        health.buffered = buffer.len();
        health.dropped += surplus as u64;
    }

    fn available(&mut self) -> Result<&mut Connection, StoreError> {
        match &mut self.disk {
            Some(conn) => Ok(conn),
            None => Err(StoreError::Unavailable {
                reason: lock(&self.shared.health)
                    .degraded
                    .as_ref()
                    .map_or_else(String::new, |degraded| degraded.reason.clone()),
            }),
        }
    }
}
