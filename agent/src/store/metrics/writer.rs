//! The thread that owns `metrics.db`: opens it, grows a chunk a series, writes them, answers for the past.

use super::chunk::Chunk;
use super::{
    Keep, MetricsHealth, Note, SLOT_MS, Shared, file, lock, parts_of, read, retain, rollup,
};
use crate::store::disk::Trouble;
use crate::store::history::{PastOf, Question};
use rusqlite::Connection;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use tokio::sync::mpsc;
use watchfire_engine::model::{Moment, Now, ProbeId, Series};

/// Open chunks are written this often, so a kill loses no more. Each write repeats what was written of the
/// slot before. Measured over 30 days of 100 series at 10 s: 27 bytes written a sample, 23 MB a day, of which
/// 4.8 stay.
const FLUSH_MS: u64 = 5 * 60_000;

/// Slots read before the start of a window for the newest sample before it: 2 h, after which a series is
/// forgotten in memory too.
const BASELINE_SLOTS: u64 = 6;

/// Bytes of finished chunks that wait for a disk that refuses them: half an hour of 500 series.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// A step of the wall clock against the timeline that is written down, in milliseconds.
const WALL_STEP_MS: u64 = 100;

/// The chunk of a series in one slot.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) series: Series,
    pub(super) probe: ProbeId,
    /// In the file; None: not looked up yet.
    pub(super) id: Option<u32>,
    pub(super) slot: u64,
    pub(super) chunk: Chunk,
    /// Not written since the last sample.
    pub(super) dirty: bool,
    /// Whether what the file holds of the slot, from before a restart, is in `chunk`.
    pub(super) merged: bool,
}

/// The thread's state.
pub(super) struct Writer {
    path: PathBuf,
    shared: Arc<Shared>,
    conn: Option<Connection>,
    /// The newest time known.
    now: Now,
    /// Added to a moment it gives the time of the file; None: nothing was opened yet.
    offset: Option<u64>,
    active: HashMap<Series, Active>,
    /// Finished chunks on their way to the file, oldest first.
    sealed: VecDeque<Active>,
    next_flush: u64,
    /// Wall time minus time of the file, as it was last written down.
    ahead: Option<i64>,
    /// Steps of it that are not written yet.
    steps: Vec<(u64, i64)>,
    work: Option<rollup::Work>,
}

impl Writer {
    pub(super) fn new(path: PathBuf, shared: Arc<Shared>, now: Now) -> Self {
        Writer {
            path,
            shared,
            conn: None,
            now,
            offset: None,
            active: HashMap::new(),
            sealed: VecDeque::new(),
            next_flush: 0,
            ahead: None,
            steps: Vec::new(),
            work: None,
        }
    }

    /// Runs until the recorder is dropped, then writes what is open.
    pub(super) fn run(mut self, inbox: &Receiver<Note>, answers: &mpsc::Sender<PastOf>) {
        self.open();
        loop {
            let note = if self.work.is_some() {
                match inbox.try_recv() {
                    Ok(note) => note,
                    Err(TryRecvError::Empty) => {
                        self.roll_up();
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => break,
                }
            } else {
                match inbox.recv() {
                    Ok(note) => note,
                    Err(_) => break,
                }
            };
            match note {
                Note::Round {
                    probe,
                    now,
                    samples,
                } => self.take(&probe, now, samples),
                Note::Question(question) => {
                    let past = self.past(question);
                    self.shared.questions.fetch_sub(1, Ordering::Relaxed);
                    // Waiting is safe: the other side never waits for this one.
                    if answers.blocking_send(past).is_err() {
                        tracing::debug!("nobody waits for the past of a window any more");
                    }
                }
            }
        }
        self.flush();
    }

    /// The handle, to break it.
    #[cfg(test)]
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        self.conn.as_mut()
    }

    /// Finishes the roll-ups that are due.
    #[cfg(test)]
    pub(super) fn roll_up_all(&mut self) {
        while self.work.is_some() {
            self.roll_up();
        }
    }

    /// Loses the handle, as after a failed write.
    #[cfg(test)]
    pub(super) fn lose_file(&mut self) {
        self.give_up(Trouble::Unavailable {
            reason: "lost".into(),
            full: false,
        });
    }

    /// Takes the samples of one run.
    pub(super) fn take(&mut self, probe: &ProbeId, now: Now, samples: Vec<(Series, f64)>) {
        self.now = now;
        let at = self.time(now.at);
        self.note_wall(at);
        let slot = at / SLOT_MS;
        lock(&self.shared.health).samples += samples.len() as u64;
        for (series, value) in samples {
            let active = self
                .active
                .entry(series)
                .or_insert_with_key(|series| Active {
                    series: series.clone(),
                    probe: probe.clone(),
                    id: None,
                    slot,
                    chunk: Chunk::default(),
                    dirty: false,
                    merged: false,
                });
            if active.slot < slot {
                let next = Active {
                    series: active.series.clone(),
                    probe: probe.clone(),
                    id: active.id,
                    slot,
                    chunk: Chunk::default(),
                    dirty: false,
                    // Time does not go back, so nothing of a later slot is in the file.
                    merged: true,
                };
                let full = std::mem::replace(active, next);
                self.sealed.push_back(full);
            }
            // Within a slot, so far below 2^32.
            active.dirty |= active.chunk.push((at - slot * SLOT_MS) as u32, value);
        }
        if at >= self.next_flush {
            self.next_flush = (at / FLUSH_MS + 1) * FLUSH_MS;
            self.flush();
        }
    }

    /// Gathers the past of a window: from the file, and from the chunks that are not in it yet.
    pub(super) fn past(&mut self, question: Question) -> PastOf {
        let mut past = question.clone().begin();
        if let Err(trouble) = self.gather(&question, &mut past) {
            self.give_up(trouble);
            // As on a first start: the window counts from now on.
            past = question.begin();
        }
        past
    }

    /// Writes all that is not written. Finished chunks stay until that succeeds.
    pub(super) fn flush(&mut self) {
        let slot = self.time(self.now.at) / SLOT_MS;
        let over: Vec<Series> = self
            .active
            .values()
            .filter(|active| active.slot < slot)
            .map(|active| active.series.clone())
            .collect();
        for series in over {
            self.sealed.extend(self.active.remove(&series));
        }
        self.sealed.retain(|sealed| sealed.chunk.len() > 0);
        if self.conn.is_none() {
            self.open();
        }
        match self.write() {
            Ok(()) => self.look_after(),
            Err(trouble) => {
                self.give_up(trouble);
                // A damaged file was set aside: once more, on the new one.
                if self.conn.is_some()
                    && let Err(trouble) = self.write()
                {
                    self.give_up(trouble);
                }
            }
        }
        self.drop_surplus();
        lock(&self.shared.health).series = self.active.len();
    }

    /// Opens the file, setting aside what is damaged.
    fn open(&mut self) {
        let mut taken = self.open_once();
        if let Err(Trouble::Damaged(reason)) = &taken {
            let reason = reason.clone();
            taken = match self.set_aside(&reason) {
                Ok(()) => self.open_once(),
                Err(error) => Err(Trouble::of_io(&self.path, &error)),
            };
        }
        match taken {
            Ok(conn) => self.conn = Some(conn),
            Err(trouble) => self.degrade(&trouble),
        }
    }

    fn open_once(&mut self) -> Result<Connection, Trouble> {
        let conn = file::open(&self.path)?;
        self.take_up(&conn).map_err(|e| Trouble::of(&e))?;
        Ok(conn)
    }

    /// Finds the offset between timeline and file, and goes on from what the file says of the wall clock.
    fn take_up(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let at = self.now.at.0;
        let newest = file::meta(conn, "newest")?.map(i64::cast_unsigned);
        let stored = file::meta(conn, "offset")?.map(i64::cast_unsigned);
        let offset = match stored {
            Some(offset) if newest.is_none_or(|newest| at + offset >= newest) => offset,
            // The timeline began anew: it goes on behind what the file holds, by the wall clock if that
            // is later.
            _ => {
                let least = newest.map_or(0, |newest| newest + 1);
                let offset = self.now.wall.0.max(least).saturating_sub(at);
                file::set_meta(conn, "offset", offset.cast_signed())?;
                offset
            }
        };
        if self.offset.is_some_and(|before| before != offset) {
            // Gathered while there was no file, under a time that is not its own.
            self.forget_open();
        }
        self.offset = Some(offset);
        // A step that waits to be written is newer than those of the file.
        if self.steps.is_empty() {
            self.ahead = conn
                .prepare("SELECT ahead FROM wall ORDER BY at DESC LIMIT 1")?
                .query_map([], |row| row.get(0))?
                .next()
                .transpose()?;
        }
        self.note_wall(self.time(self.now.at));
        if file::meta(conn, "rolled")?.is_none() {
            let row = rollup::row_of((at + offset) / SLOT_MS);
            file::set_meta(conn, "rolled", row.cast_signed())?;
        }
        Ok(())
    }

    fn forget_open(&mut self) {
        let lost = self.active.values().chain(&self.sealed);
        let lost: u64 = lost.map(|active| u64::from(active.chunk.len())).sum();
        lock(&self.shared.health).dropped += lost;
        self.active.clear();
        self.sealed.clear();
        self.steps.clear();
        self.next_flush = 0;
    }

    /// The time of the file at a moment.
    fn time(&self, at: Moment) -> u64 {
        let provisional = || self.now.wall.0.saturating_sub(self.now.at.0);
        at.0 + self.offset.unwrap_or_else(provisional)
    }

    fn note_wall(&mut self, at: u64) {
        let ahead = self.now.wall.0.cast_signed() - at.cast_signed();
        if self
            .ahead
            .is_none_or(|before| before.abs_diff(ahead) > WALL_STEP_MS)
        {
            self.ahead = Some(ahead);
            self.steps.push((at, ahead));
        }
    }

    fn gather(&mut self, question: &Question, past: &mut PastOf) -> Result<(), Trouble> {
        let Some(offset) = self.offset else {
            return Ok(());
        };
        let until = question.until.0 + offset;
        let over = u64::try_from(question.over().as_millis()).unwrap_or(u64::MAX);
        let first = (until.saturating_sub(over) / SLOT_MS).saturating_sub(BASELINE_SLOTS);
        let mut push = |at: u64, value| {
            // What lies before the timeline's beginning belongs to another.
            if let (true, Some(at)) = (at <= until, at.checked_sub(offset)) {
                past.push(Moment(at), value);
            }
        };
        let id = match &self.conn {
            Some(conn) => retain::id_of(conn, &question.series).map_err(|e| Trouble::of(&e))?,
            None => None,
        };
        for slot in first..=until / SLOT_MS {
            let in_memory = self
                .sealed
                .iter()
                .chain(self.active.get(&question.series))
                .find(|active| active.slot == slot && active.series == question.series);
            let whole = in_memory.is_some_and(|active| active.merged);
            if let (false, Some(conn), Some(id)) = (whole, &self.conn, id)
                && let Some(bytes) = read::chunk_of(conn, slot, id)?
            {
                read::decode(slot, &bytes, &mut push)?;
            }
            if let Some(active) = in_memory {
                read::decode(slot, &active.chunk.to_bytes(), &mut push)?;
            }
        }
        Ok(())
    }

    /// One transaction with everything that is not in the file.
    fn write(&mut self) -> Result<(), Trouble> {
        let newest = self.time(self.now.at);
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let tx = conn.transaction().map_err(|e| Trouble::of(&e))?;
        for (at, ahead) in &self.steps {
            tx.prepare_cached("INSERT OR REPLACE INTO wall (at, ahead) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute((at.cast_signed(), ahead)))
                .map_err(|e| Trouble::of(&e))?;
        }
        let dirty = self.active.values_mut().filter(|active| active.dirty);
        let (mut chunks, mut bytes) = (0, 0);
        file::set_meta(&tx, "newest", newest.cast_signed()).map_err(|e| Trouble::of(&e))?;
        for active in self.sealed.iter_mut().chain(dirty) {
            bytes += retain::put(&tx, active)?;
            chunks += 1;
        }
        tx.commit().map_err(|e| Trouble::of(&e))?;
        self.sealed.clear();
        self.steps.clear();
        self.active
            .values_mut()
            .for_each(|active| active.dirty = false);
        let mut health = lock(&self.shared.health);
        health.chunks += chunks;
        health.chunk_bytes += bytes;
        if health.degraded.take().is_some() {
            tracing::info!("metrics.db is written again");
        }
        Ok(())
    }

    /// After a successful write: retention, roll-ups, figures.
    fn look_after(&mut self) {
        let now = self.time(self.now.at);
        let keep: Keep = *lock(&self.shared.keep);
        let Some(conn) = &mut self.conn else {
            return;
        };
        let done = retain::old(conn, now, keep)
            .and_then(|()| retain::surplus(conn, now, keep))
            .and_then(|()| {
                if self.work.is_none() {
                    self.work = next_work(conn, now)?;
                }
                let bytes = file::used_bytes(conn)?;
                let oldest: Option<i64> =
                    conn.query_row("SELECT min(key) FROM chunk", [], |row| row.get(0))?;
                Ok((bytes, oldest))
            });
        match done {
            Ok((bytes, oldest)) => {
                let ahead = self.ahead.unwrap_or_default();
                let mut health = lock(&self.shared.health);
                health.bytes = bytes;
                health.oldest_ms = oldest.map(|key| {
                    let start = (parts_of(key).0 * SLOT_MS).cast_signed();
                    (start + ahead).max(0).cast_unsigned()
                });
            }
            Err(error) => self.give_up(Trouble::of(&error)),
        }
    }

    /// One step of the roll-ups.
    fn roll_up(&mut self) {
        let (Some(work), Some(conn)) = (&mut self.work, &mut self.conn) else {
            self.work = None;
            return;
        };
        let now = self.now.at.0 + self.offset.unwrap_or_default();
        let row = work.row;
        let next = work.step(conn).and_then(|done| {
            if !done {
                return Ok(None);
            }
            file::set_meta(conn, "rolled", (row + 1).cast_signed())
                .and_then(|()| next_work(conn, now))
                .map(Some)
                .map_err(|e| Trouble::of(&e))
        });
        match next {
            Ok(None) => {}
            Ok(Some(next)) => self.work = next,
            Err(trouble) => self.give_up(trouble),
        }
    }

    /// Lets go of the file; a damaged one is set aside and a new one begun.
    fn give_up(&mut self, trouble: Trouble) {
        self.conn = None;
        self.work = None;
        // A transaction that was undone may have taken its numbers with it.
        let all = self.active.values_mut().chain(&mut self.sealed);
        all.for_each(|active| active.id = None);
        match &trouble {
            // After a failed read or sync nothing of the handle can be trusted, and the file is worth less
            // than finding out.
            Trouble::Damaged(reason) | Trouble::Io(reason) => match self.set_aside(reason) {
                Ok(()) => self.open(),
                Err(error) => self.degrade(&Trouble::of_io(&self.path, &error)),
            },
            Trouble::Newer { .. } | Trouble::Unavailable { .. } => self.degrade(&trouble),
        }
    }

    fn set_aside(&mut self, reason: &str) -> std::io::Result<()> {
        let aside = file::quarantine(&self.path)?;
        tracing::error!(reason, kept_as = %aside.display(), "metrics.db is damaged: it begins anew");
        lock(&self.shared.health).quarantined += 1;
        Ok(())
    }

    fn degrade(&self, trouble: &Trouble) {
        let reason = match trouble {
            Trouble::Newer { found } => format!("version {found}"),
            Trouble::Damaged(reason)
            | Trouble::Io(reason)
            | Trouble::Unavailable { reason, .. } => reason.clone(),
        };
        let mut health: std::sync::MutexGuard<'_, MetricsHealth> = lock(&self.shared.health);
        if health.degraded.as_ref() != Some(&reason) {
            tracing::warn!(%reason, "metrics.db cannot be written: samples wait in memory, then are dropped");
            health.degraded = Some(reason);
        }
    }

    /// Drops the oldest finished chunks beyond the bound.
    fn drop_surplus(&mut self) {
        let size = |active: &Active| size_of::<Active>() + active.chunk.bytes();
        let mut bytes: usize = self.sealed.iter().map(size).sum();
        let mut dropped = 0;
        while bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.sealed.pop_front() else {
                break;
            };
            bytes -= size(&oldest);
            dropped += u64::from(oldest.chunk.len());
        }
        if dropped > 0 {
            lock(&self.shared.health).dropped += dropped;
        }
    }
}

/// The next row of roll-ups that is over.
fn next_work(conn: &Connection, now: u64) -> rusqlite::Result<Option<rollup::Work>> {
    let row = file::meta(conn, "rolled")?.unwrap_or(0).cast_unsigned();
    // One slot more, so that what waits for the disk is in.
    if row >= rollup::row_of((now / SLOT_MS).saturating_sub(1)) {
        return Ok(None);
    }
    rollup::Work::begin(conn, row).map(Some)
}
