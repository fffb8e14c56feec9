//! Reading the history: for replay, and for whoever draws it. Beside the agent or without it, on a
//! connection of its own that writes nothing.

use super::{SLOT_MS, file, key, parts_of, read, rollup};
use crate::store::disk::Trouble;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use watchfire_engine::model::{Labels, Moment, ProbeId, Series, WallTime};

/// Why the history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// There is no such file.
    #[error("there is no metric history {}: run the agent first, or name another data folder", .0.display())]
    Missing(PathBuf),
    /// It is no history, or its bytes are damaged.
    #[error("the metric history {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A series of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSeries {
    /// Its number, as in [`StoredSample`].
    pub id: u32,
    /// Metric and labels.
    pub series: Series,
    /// The probe that yielded it last.
    pub probe: ProbeId,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredSample {
    /// Which series.
    pub series: u32,
    /// When, on a timeline that never goes back; all series of one run of a probe have the same.
    pub at: Moment,
    /// What the wall clock showed.
    pub wall: WallTime,
    /// Never NaN.
    pub value: f64,
}

/// What five minutes of a series held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollup {
    /// Wall time of its start.
    pub wall: WallTime,
    /// Smallest sample.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Sum of the samples.
    pub sum: f64,
    /// Their number.
    pub count: f64,
}

/// The history, open for reading.
#[derive(Debug)]
pub struct MetricsReader {
    path: PathBuf,
    conn: Connection,
    /// From a time of the file on: wall time minus time of the file.
    wall: BTreeMap<u64, i64>,
}

impl MetricsReader {
    /// Opens `metrics.db`. What the running agent has not written yet, up to 5 minutes, is not seen.
    ///
    /// # Errors
    /// There is none, or it is not a history of this version.
    pub fn open(path: &Path) -> Result<Self, MetricsError> {
        if !path.exists() {
            return Err(MetricsError::Missing(path.to_path_buf()));
        }
        let unreadable = |trouble| unreadable(path, trouble);
        let conn = file::open_to_read(path).map_err(unreadable)?;
        let read = || {
            let mut select = conn.prepare("SELECT at, ahead FROM wall")?;
            let rows = select.query_map([], |row| {
                Ok((row.get::<_, i64>(0)?.max(0).cast_unsigned(), row.get(1)?))
            })?;
            rows.collect::<rusqlite::Result<BTreeMap<u64, i64>>>()
        };
        let wall = read().map_err(|e| unreadable(Trouble::of(&e)))?;
        Ok(MetricsReader {
            path: path.to_path_buf(),
            conn,
            wall,
        })
    }

    /// All series that are remembered, by number.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn series(&self) -> Result<Vec<StoredSeries>, MetricsError> {
        let read = || {
            let mut select = self
                .conn
                .prepare("SELECT id, metric, labels, probe FROM series ORDER BY id")?;
            let rows = select.query_map([], |row| {
                Ok((
                    row.get::<_, u32>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?,
                ))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(|e| self.error(Trouble::of(&e)))?;
        let series = rows.into_iter().map(|(id, metric, labels, probe)| {
            let damaged = || {
                let reason = format!("series {id} has damaged labels");
                self.error(Trouble::Damaged(reason))
            };
            let pairs: BTreeMap<String, String> =
                serde_json::from_str(&labels).map_err(|_| damaged())?;
            Ok(StoredSeries {
                id,
                series: Series {
                    metric: metric.into(),
                    labels: Labels::new(pairs).map_err(|_| damaged())?,
                },
                probe: ProbeId::new(probe),
            })
        });
        series.collect()
    }

    /// The samples of `[from, to]` in wall time, in order of time; of these series only, or of all.
    /// Holds 20 minutes of samples at a time.
    pub fn range(&self, series: Option<&[u32]>, from: WallTime, to: WallTime) -> Range<'_> {
        let (first, last) = self.bounds(from, to);
        Range {
            reader: self,
            series: series.map(|ids| ids.iter().copied().collect()),
            from,
            to,
            next_slot: Some(first / SLOT_MS),
            last_slot: last / SLOT_MS,
            samples: Vec::new().into_iter(),
        }
    }

    /// The 5-minute roll-ups of one series that begin in `[from, to]`, in order of time.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn rollups(
        &self,
        series: u32,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<Rollup>, MetricsError> {
        let (first, last) = self.bounds(from, to);
        let rows = [first, last].map(|at| rollup::row_of(at / SLOT_MS));
        let read = || {
            let mut select = self.conn.prepare_cached(
                "SELECT key, data FROM rollup WHERE key >= ?1 AND key < ?2 ORDER BY key",
            )?;
            let range = [rollup::first_key(rows[0]), rollup::first_key(rows[1] + 1)];
            let found = select.query_map(range, |row| {
                let (row_number, of) = rollup::row_and_series(row.get(0)?);
                // Others' data is not read.
                let data = (of == series)
                    .then(|| row.get::<_, Vec<u8>>(1))
                    .transpose()?;
                Ok(data.map(|data| (row_number, data)))
            })?;
            found
                .filter_map(Result::transpose)
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut all = Vec::new();
        for (row, bytes) in read().map_err(|e| self.error(Trouble::of(&e)))? {
            let buckets = rollup::from_bytes(&bytes);
            let buckets = buckets.map_err(|e| self.error(Trouble::Damaged(e.to_string())))?;
            all.extend(buckets.into_iter().map(|bucket| Rollup {
                wall: self.wall_at(rollup::start_of(row, bucket.number)),
                min: bucket.min,
                max: bucket.max,
                sum: bucket.sum,
                count: bucket.count,
            }));
        }
        all.retain(|rollup| (from..=to).contains(&rollup.wall));
        Ok(all)
    }

    /// Wall time of the oldest and the newest slot of samples; None: there are none.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn span(&self) -> Result<Option<(WallTime, WallTime)>, MetricsError> {
        let ends: (Option<i64>, Option<i64>) = self
            .conn
            .query_row(
                // Two look-ups; min and max in one query would read the whole table.
                "SELECT (SELECT min(key) FROM chunk), (SELECT max(key) FROM chunk)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(|e| self.error(Trouble::of(&e)))?;
        Ok(ends.0.zip(ends.1).map(|(oldest, newest)| {
            (
                self.wall_at(parts_of(oldest).0 * SLOT_MS),
                self.wall_at((parts_of(newest).0 + 1) * SLOT_MS),
            )
        }))
    }

    fn wall_at(&self, at: u64) -> WallTime {
        let step = self.wall.range(..=at).next_back();
        let ahead = step
            .or(self.wall.first_key_value())
            .map_or(0, |step| *step.1);
        WallTime((at.cast_signed() + ahead).max(0).cast_unsigned())
    }

    /// Times of the file between which a stretch of wall time lies, whatever steps the clock took.
    fn bounds(&self, from: WallTime, to: WallTime) -> (u64, u64) {
        let most = self.wall.values().max().copied().unwrap_or(0);
        let least = self.wall.values().min().copied().unwrap_or(0);
        let at = |wall: WallTime, ahead: i64| {
            let wall = wall.0.min(i64::MAX as u64 / 2).cast_signed();
            wall.saturating_sub(ahead).max(0).cast_unsigned()
        };
        // Keys of 43 bits of slots are all there can be.
        (at(from, most), at(to, least).min(SLOT_MS << 42))
    }

    /// The samples of the first slot at or after `slot` that has any, and that slot.
    fn slot_from(
        &self,
        slot: u64,
        last: u64,
        wanted: Option<&HashSet<u32>>,
    ) -> Result<Option<(u64, Vec<StoredSample>)>, Trouble> {
        let of = |e: rusqlite::Error| Trouble::of(&e);
        let next: Option<i64> = self
            .conn
            .prepare_cached("SELECT min(key) FROM chunk WHERE key >= ?1")
            .and_then(|mut select| select.query_row([key(slot, 0)], |row| row.get(0)))
            .map_err(of)?;
        let Some(slot) = next.map(|key| parts_of(key).0).filter(|slot| *slot <= last) else {
            return Ok(None);
        };
        let mut samples = Vec::new();
        let mut select = self
            .conn
            .prepare_cached("SELECT key, data FROM chunk WHERE key >= ?1 AND key < ?2 ORDER BY key")
            .map_err(of)?;
        let mut rows = select.query([key(slot, 0), key(slot + 1, 0)]).map_err(of)?;
        while let Some(row) = rows.next().map_err(of)? {
            let series = parts_of(row.get(0).map_err(of)?).1;
            if wanted.is_some_and(|wanted| !wanted.contains(&series)) {
                continue;
            }
            let data = row.get_ref(1).map_err(of)?;
            let data = data
                .as_blob()
                .map_err(|e| Trouble::Damaged(e.to_string()))?;
            read::decode(slot, data, |at, value| {
                if !value.is_nan() {
                    samples.push(StoredSample {
                        series,
                        at: Moment(at),
                        wall: WallTime(0),
                        value,
                    });
                }
            })?;
        }
        // Stable, and made of sorted runs: series stay in their order within an instant.
        samples.sort_by_key(|sample| sample.at);
        let mut last = None;
        for sample in &mut samples {
            sample.wall = match last {
                Some((at, wall)) if at == sample.at => wall,
                _ => self.wall_at(sample.at.0),
            };
            last = Some((sample.at, sample.wall));
        }
        Ok(Some((slot, samples)))
    }

    fn error(&self, trouble: Trouble) -> MetricsError {
        unreadable(&self.path, trouble)
    }
}

fn unreadable(path: &Path, trouble: Trouble) -> MetricsError {
    let reason = match trouble {
        Trouble::Newer { found } => format!("it has version {found}"),
        Trouble::Damaged(reason) | Trouble::Io(reason) | Trouble::Unavailable { reason, .. } => {
            reason
        }
    };
    MetricsError::Unreadable {
        path: path.to_path_buf(),
        reason,
    }
}

/// Samples in order of time.
#[derive(Debug)]
pub struct Range<'a> {
    reader: &'a MetricsReader,
    series: Option<HashSet<u32>>,
    from: WallTime,
    to: WallTime,
    /// None: at the end.
    next_slot: Option<u64>,
    last_slot: u64,
    samples: std::vec::IntoIter<StoredSample>,
}

impl Iterator for Range<'_> {
    type Item = Result<StoredSample, MetricsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (from, to) = (self.from, self.to);
            let wanted = |sample: &StoredSample| (from..=to).contains(&sample.wall);
            if let Some(sample) = self.samples.by_ref().find(wanted) {
                return Some(Ok(sample));
            }
            let slot = self.next_slot?;
            match self
                .reader
                .slot_from(slot, self.last_slot, self.series.as_ref())
            {
                Ok(Some((slot, samples))) => {
                    self.samples = samples.into_iter();
                    self.next_slot = Some(slot + 1);
                }
                Ok(None) => self.next_slot = None,
                Err(trouble) => {
                    self.next_slot = None;
                    return Some(Err(self.reader.error(trouble)));
                }
            }
        }
    }
}
