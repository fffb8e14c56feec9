//! Retention of events: which rows are old enough to go.

use super::event::{EventType, Keep};
use super::state::{Cleaned, CleanedBatch};
use rusqlite::Connection;
use std::time::Duration;
use watchfire_engine::model::Now;

/// 2024-01-01: no wall clock of a host that runs this can be earlier.
const EARLIEST_WALL_MS: u64 = 1_704_067_200_000;

/// Pages given back to the disk after a batch; 4 KiB each.
const VACUUM_PAGES: u32 = 500;

/// Events deleted in one transaction: some 20 ms, which is what a commit may have to wait.
const CLEANUP_BATCH: usize = 2_000;

/// A row goes only when both clocks call it old: a wall clock ten years ahead deletes nothing.
pub(super) fn batch(conn: &mut Connection, now: Now, keep: Keep) -> rusqlite::Result<CleanedBatch> {
    let newest: Option<i64> = conn
        .query_row(
            "SELECT wall_ms FROM event ORDER BY seq DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .map(Some)
        .or_else(|e| match e {
            rusqlite::Error::QueryReturnedNoRows => Ok(None),
            other => Err(other),
        })?;
    let newest = newest.unwrap_or(0).max(0).cast_unsigned();
    let unsound = if now.wall.0 < EARLIEST_WALL_MS {
        Some("the wall clock stands before 2024".to_owned())
    } else if now.wall.0 < newest {
        Some("the wall clock stands before the newest event".to_owned())
    } else {
        None
    };
    if unsound.is_some() {
        let cleaned = Cleaned {
            deleted: 0,
            unsound,
        };
        return Ok(CleanedBatch {
            cleaned,
            more: false,
        });
    }
    let before = |clock_ms: u64, keep: Duration| {
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        clock_ms
            .saturating_sub(keep)
            .min(i64::MAX.cast_unsigned())
            .cast_signed()
    };
    let mut deleted = 0;
    let tx = conn.transaction()?;
    for kind in EventType::ALL {
        deleted += tx
            .prepare_cached(
                "DELETE FROM event WHERE seq IN (
                    SELECT seq FROM event WHERE type = ?1 AND wall_ms < ?2 AND at_ms < ?3 LIMIT ?4)",
            )?
            .execute((
                kind.name(),
                before(now.wall.0, keep.of(kind)),
                before(now.at.0, keep.of(kind)),
                (CLEANUP_BATCH - deleted) as i64,
            ))?;
    }
    tx.commit()?;
    if deleted > 0 {
        // It answers with a row a page; only the last step does all of it.
        let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(CleanedBatch {
        cleaned: Cleaned {
            deleted: deleted as u64,
            unsound: None,
        },
        more: deleted == CLEANUP_BATCH,
    })
}
