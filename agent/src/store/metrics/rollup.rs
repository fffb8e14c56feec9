//! 5-minute roll-ups: smallest, largest, sum and number of the samples, made of each 6 hours once they
//! are over, a row a series.

use super::chunk::{Chunk, Damaged, put_varint, read, take_varint};
use super::{SERIES_BITS, SERIES_MAX, SLOT_MS, key, parts_of};
use crate::store::disk::Trouble;
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Width of a roll-up.
pub(super) const WIDTH_MS: u64 = 5 * 60_000;

/// Slots of samples in one row of roll-ups: 6 hours, 72 roll-ups of some 10 bytes.
pub(super) const SLOTS: u64 = 18;

/// Series rolled up in one step; the thread looks at its channel between steps.
const STEP: usize = 64;

/// Numbers of one stretch of 5 minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    /// The stretch, counted from the start of the row.
    pub(super) number: u32,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) count: f64,
}

/// The work on one row of 6 hours.
#[derive(Debug)]
pub(super) struct Work {
    /// Its number.
    pub(super) row: u64,
    /// Series still to do.
    left: Vec<u32>,
}

impl Work {
    /// Finds the series that have samples in it.
    pub(super) fn begin(conn: &Connection, row: u64) -> rusqlite::Result<Work> {
        let mut select = conn.prepare_cached(&format!(
            "SELECT DISTINCT key & {} FROM chunk WHERE key >= ?1 AND key < ?2",
            SERIES_MAX - 1
        ))?;
        let range = [key(row * SLOTS, 0), key((row + 1) * SLOTS, 0)];
        let left = select
            .query_map(range, |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Work { row, left })
    }

    /// Does some of it; true: all is done.
    pub(super) fn step(&mut self, conn: &mut Connection) -> Result<bool, Trouble> {
        let now = self.left.split_off(self.left.len().saturating_sub(STEP));
        let tx = conn.transaction().map_err(|e| Trouble::of(&e))?;
        for series in now {
            let mut buckets: BTreeMap<u64, Bucket> = BTreeMap::new();
            for slot in self.row * SLOTS..(self.row + 1) * SLOTS {
                if let Some(bytes) = super::read::chunk_of(&tx, slot, series)? {
                    super::read::decode(slot, &bytes, |at, value| {
                        add(&mut buckets, self.row, at, value);
                    })?;
                }
            }
            let bytes = to_bytes(buckets.values());
            tx.prepare_cached("INSERT OR REPLACE INTO rollup (key, data) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute((key(self.row, series), bytes)))
                .map_err(|e| Trouble::of(&e))?;
        }
        tx.commit().map_err(|e| Trouble::of(&e))?;
        Ok(self.left.is_empty())
    }
}

/// The row of a slot of samples.
pub(super) fn row_of(slot: u64) -> u64 {
    slot / SLOTS
}

/// Start of a bucket, in milliseconds of the file.
pub(super) fn start_of(row: u64, number: u32) -> u64 {
    row * SLOTS * SLOT_MS + u64::from(number) * WIDTH_MS
}

/// The row and series of a roll-up's key.
pub(super) fn row_and_series(key: i64) -> (u64, u32) {
    parts_of(key)
}

/// The first key that belongs to `row` or a later one.
pub(super) fn first_key(row: u64) -> i64 {
    (row << SERIES_BITS).cast_signed()
}

fn add(buckets: &mut BTreeMap<u64, Bucket>, row: u64, at: u64, value: f64) {
    // An infinite value would swallow the sum of its stretch.
    if !value.is_finite() {
        return;
    }
    let number = (at - row * SLOTS * SLOT_MS) / WIDTH_MS;
    let bucket = buckets.entry(number).or_insert(Bucket {
        // 72 at most.
        number: number as u32,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        sum: 0.0,
        count: 0.0,
    });
    bucket.min = bucket.min.min(value);
    bucket.max = bucket.max.max(value);
    bucket.sum += value;
    bucket.count += 1.0;
}

/// Four columns, each compressed as a series of its own.
fn to_bytes<'a>(buckets: impl Iterator<Item = &'a Bucket> + Clone) -> Vec<u8> {
    let mut bytes = Vec::new();
    let columns: [fn(&Bucket) -> f64; 4] = [|b| b.min, |b| b.max, |b| b.sum, |b| b.count];
    for column in columns {
        let mut chunk = Chunk::default();
        for bucket in buckets.clone() {
            // A second apart, so that none is too close to the one before.
            chunk.push(bucket.number * 1_000, column(bucket));
        }
        let column = chunk.to_bytes();
        put_varint(&mut bytes, column.len() as u32);
        bytes.extend_from_slice(&column);
    }
    bytes
}

/// Reads a row.
pub(super) fn from_bytes(mut bytes: &[u8]) -> Result<Vec<Bucket>, Damaged> {
    let mut columns = Vec::new();
    for _ in 0..4 {
        let length = take_varint(&mut bytes)? as usize;
        let (column, rest) = bytes.split_at_checked(length).ok_or(Damaged)?;
        bytes = rest;
        let mut samples = Vec::new();
        read(column, |at, value| samples.push((at / 1_000, value)))?;
        columns.push(samples);
    }
    let [min, max, sum, count] = <[Vec<(u32, f64)>; 4]>::try_from(columns).map_err(|_| Damaged)?;
    if [&max, &sum, &count]
        .iter()
        .any(|all| all.len() != min.len())
    {
        return Err(Damaged);
    }
    let rows = min.into_iter().zip(max).zip(sum).zip(count);
    Ok(rows
        .map(
            |((((number, min), (_, max)), (_, sum)), (_, count))| Bucket {
                number,
                min,
                max,
                sum,
                count,
            },
        )
        .collect())
}
