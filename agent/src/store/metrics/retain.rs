//! What goes into the file and what goes out of it again.

use super::writer::Active;
use super::{Keep, SERIES_MAX, SLOT_MS, chunk::Chunk, file, key, parts_of, read, rollup};
use crate::store::disk::Trouble;
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::time::Duration;
use watchfire_engine::model::Series;

/// Rows deleted in one transaction: some milliseconds, so that the channel is not left alone for long.
const DELETED_AT_ONCE: i64 = 2_000;

/// Pages given back to the disk at a time, 4 KiB each.
const VACUUM_PAGES: u32 = 2_000;

/// A series is noted to be alive this often, in slots: a day.
const SEEN_EVERY: u64 = 72;

/// The newest samples that the bound on bytes leaves alone before roll-ups go, in slots: a day.
const SPARED_SLOTS: u64 = 72;

/// The number of a series in the file.
pub(super) fn id_of(conn: &Connection, series: &Series) -> rusqlite::Result<Option<u32>> {
    conn.prepare_cached("SELECT id FROM series WHERE metric = ?1 AND labels = ?2")?
        .query_row((&*series.metric, labels(series)), |row| row.get(0))
        .optional()
}

/// Writes a chunk as it is now, with what the file held of it before; tells its bytes.
pub(super) fn put(tx: &Transaction<'_>, active: &mut Active) -> Result<u64, Trouble> {
    let of = |e: rusqlite::Error| Trouble::of(&e);
    let id = match active.id {
        Some(id) => id,
        None => intern(tx, active).map_err(of)?,
    };
    active.id = Some(id);
    if !active.merged {
        if let Some(before) = read::chunk_of(tx, active.slot, id)? {
            let mut whole = Chunk::default();
            let start = active.slot * SLOT_MS;
            for bytes in [before, active.chunk.to_bytes()] {
                read::decode(active.slot, &bytes, |at, value| {
                    // Within a slot.
                    whole.push((at - start) as u32, value);
                })?;
            }
            active.chunk = whole;
        }
        active.merged = true;
    }
    let bytes = active.chunk.to_bytes();
    let length = bytes.len() as u64;
    tx.prepare_cached("INSERT OR REPLACE INTO chunk (key, data) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute((key(active.slot, id), bytes)))
        .map_err(of)?;
    tx.prepare_cached("UPDATE series SET seen = ?2, probe = ?4 WHERE id = ?1 AND (seen + ?3 <= ?2 OR probe <> ?4)")
        .and_then(|mut update| {
            let (slot, every) = (active.slot.cast_signed(), SEEN_EVERY.cast_signed());
            update.execute((id, slot, every, active.probe.as_str()))
        })
        .map_err(of)?;
    Ok(length)
}

/// Deletes what is older than it is to be kept. The time of the file does not follow the wall clock while
/// the agent runs, so a wrong one deletes nothing.
pub(super) fn old(conn: &mut Connection, now: u64, keep: Keep) -> rusqlite::Result<()> {
    let before = |keep: Duration| {
        now.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX)) / SLOT_MS
    };
    // Not before its roll-up was made.
    let rolled = file::meta(conn, "rolled")?.unwrap_or(0).cast_unsigned() * rollup::SLOTS;
    let samples = before(keep.samples).min(rolled);
    let rollups = rollup::row_of(before(keep.rollups));
    let mut deleted = delete(conn, "chunk", key(samples, 0))?;
    deleted += delete(conn, "rollup", rollup::first_key(rollups))?;
    if deleted > 0 {
        // A series goes a while after the last of it.
        let oldest = samples.min(rollups * rollup::SLOTS);
        let unseen = oldest.saturating_sub(SEEN_EVERY + rollup::SLOTS);
        conn.execute("DELETE FROM series WHERE seen < ?1", [unseen.cast_signed()])?;
        conn.execute(
            // The newest step before what is left still counts.
            "DELETE FROM wall WHERE at < (SELECT max(at) FROM wall WHERE at <= ?1)",
            [(oldest * SLOT_MS).cast_signed()],
        )?;
        vacuum(conn)?;
    }
    Ok(())
}

/// Deletes the oldest until the file is small enough: samples but for the newest day, then roll-ups, then
/// the rest.
pub(super) fn surplus(conn: &mut Connection, now: u64, keep: Keep) -> rusqlite::Result<()> {
    let mut deleted = 0;
    while file::used_bytes(conn)? > keep.bytes_max {
        let oldest = |table: &str| -> rusqlite::Result<Option<u64>> {
            let sql = format!("SELECT min(key) FROM {table}");
            let key: Option<i64> = conn.query_row(&sql, [], |row| row.get(0))?;
            Ok(key.map(|key| parts_of(key).0))
        };
        let (slot, row) = (oldest("chunk")?, oldest("rollup")?);
        let spared = (now / SLOT_MS).saturating_sub(SPARED_SLOTS);
        let gone = match (slot, row) {
            (Some(slot), _) if slot < spared => delete(conn, "chunk", key(slot + 1, 0))?,
            (_, Some(row)) => delete(conn, "rollup", rollup::first_key(row + 1))?,
            // The slot that is being written stays: it would come back at the next write.
            (Some(slot), None) if slot < now / SLOT_MS => delete(conn, "chunk", key(slot + 1, 0))?,
            _ => break,
        };
        deleted += gone;
    }
    if deleted > 0 {
        vacuum(conn)?;
    }
    Ok(())
}

/// Deletes the rows before `end`.
fn delete(conn: &Connection, table: &str, end: i64) -> rusqlite::Result<usize> {
    let mut all = 0;
    loop {
        let deleted = conn
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE key < ?1 ORDER BY key LIMIT ?2)"
            ))?
            .execute([end, DELETED_AT_ONCE])?;
        all += deleted;
        if deleted < DELETED_AT_ONCE as usize {
            return Ok(all);
        }
    }
}

fn vacuum(conn: &Connection) -> rusqlite::Result<()> {
    // It answers with a row a page; only the last step does all of it.
    let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Finds or gives a series its number.
fn intern(tx: &Transaction<'_>, active: &Active) -> rusqlite::Result<u32> {
    if let Some(id) = id_of(tx, &active.series)? {
        return Ok(id);
    }
    let newest: Option<u32> = tx
        .prepare_cached("SELECT max(id) FROM series")?
        .query_row([], |row| row.get(0))?;
    let id = match newest {
        None => 1,
        Some(newest) if newest + 1 < SERIES_MAX => newest + 1,
        // A million series came and went: the lowest number that is free.
        Some(_) => tx.query_row(
            "SELECT min(id) + 1 FROM series WHERE id + 1 NOT IN (SELECT id FROM series)",
            [],
            |row| row.get(0),
        )?,
    };
    tx.prepare_cached(
        "INSERT INTO series (id, metric, labels, probe, seen) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((
        id,
        &*active.series.metric,
        labels(&active.series),
        active.probe.as_str(),
        active.slot.cast_signed(),
    ))?;
    Ok(id)
}

/// The labels as a JSON object, by key, for people and SQLite's JSON functions.
fn labels(series: &Series) -> String {
    let map: serde_json::Map<String, serde_json::Value> = series
        .labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    serde_json::Value::Object(map).to_string()
}
