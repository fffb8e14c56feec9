//! Chunks of one series, decoded.

use super::{SLOT_MS, chunk, key};
use crate::store::disk::Trouble;
use rusqlite::{Connection, OptionalExtension};

/// The stored chunk of a series in a slot.
pub(super) fn chunk_of(
    conn: &Connection,
    slot: u64,
    series: u32,
) -> Result<Option<Vec<u8>>, Trouble> {
    conn.prepare_cached("SELECT data FROM chunk WHERE key = ?1")
        .and_then(|mut select| {
            select
                .query_row([key(slot, series)], |row| row.get(0))
                .optional()
        })
        .map_err(|e| Trouble::of(&e))
}

/// Reads a chunk: `each` gets times of the file, in milliseconds.
pub(super) fn decode(
    slot: u64,
    bytes: &[u8],
    mut each: impl FnMut(u64, f64),
) -> Result<(), Trouble> {
    let start = slot * SLOT_MS;
    chunk::read(bytes, |at, value| each(start + u64::from(at), value))
        .map_err(|damaged| Trouble::Damaged(damaged.to_string()))
}
