//! Reading the history. Every query is bounded; all run beside the writer, on a connection of their own.

use super::event::{EventType, NewEvent, StoredEvent};
use super::folder::Folder;
use rusqlite::{Connection, OpenFlags, Row, ToSql, params_from_iter};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use watchfire_engine::model::{Fingerprint, Moment, WallTime};

/// Most events of one answer; whoever wants more asks again from the last sequence number.
pub const LIMIT_MAX: usize = 1_000;

/// Alerts of one answer to "the state at a sequence number".
const ALERTS_MAX: usize = 10_000;

/// Alerts of one answer to "which alert is that".
const KNOWN_MAX: usize = 100;

const COLUMNS: &str = "seq, wall_ms, at_ms, type, alert, fingerprint, episode, correlation, body";

/// What the store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Types that have events.
    pub types: BTreeMap<&'static str, TypeStats>,
    /// Events of all types.
    pub events: u64,
    /// The newest sequence number ever given; 0: none yet.
    pub last_seq: u64,
    /// The oldest event that is kept.
    pub oldest_seq: Option<u64>,
    /// Bytes of `state.db`.
    pub bytes: u64,
    /// Bytes of its write-ahead log.
    pub log_bytes: u64,
    /// Events that wait in memory for the disk to come back.
    pub buffered: usize,
    /// Events that were lost because too many waited.
    pub dropped: u64,
}

/// An alert that something is known of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KnownAlert {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// Its name.
    pub alert: String,
    /// Of its newest event.
    pub last_seq: u64,
}

/// Events of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TypeStats {
    /// How many.
    pub events: u64,
    /// Wall time of the oldest.
    pub oldest_ms: u64,
    /// Wall time of the newest.
    pub newest_ms: u64,
}

/// Opens the reading connection.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(1))?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cache_size", -512)?;
    Ok(conn)
}

/// Events after `since`, oldest first; of any type where `types` is empty.
pub(super) fn events(
    conn: &Connection,
    since: u64,
    types: &[EventType],
    limit: usize,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let since = since.min(i64::MAX.cast_unsigned()).cast_signed();
    let limit = limit.min(LIMIT_MAX);
    // The names are ours, no text of a caller.
    let names: Vec<String> = types.iter().map(|kind| format!("'{kind}'")).collect();
    let only = if names.is_empty() {
        String::new()
    } else {
        format!("AND type IN ({})", names.join(","))
    };
    collect(
        conn,
        &format!("SELECT {COLUMNS} FROM event WHERE seq > ?1 {only} ORDER BY seq LIMIT ?2"),
        [since, limit as i64],
    )
}

/// The newest [`LIMIT_MAX`] events of an alert, oldest first.
pub(super) fn events_of_alert(
    conn: &Connection,
    fingerprint: Fingerprint,
) -> rusqlite::Result<Vec<StoredEvent>> {
    collect(
        conn,
        &format!(
            "SELECT {COLUMNS} FROM (SELECT * FROM event WHERE fingerprint = ?1
             ORDER BY seq DESC LIMIT {LIMIT_MAX}) ORDER BY seq"
        ),
        [fingerprint.to_string()],
    )
}

/// The first [`LIMIT_MAX`] events of an alert from the sequence number `from` on, oldest first.
pub(super) fn events_of_alert_from(
    conn: &Connection,
    fingerprint: Fingerprint,
    from: u64,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let from = from.min(i64::MAX.cast_unsigned());
    collect(
        conn,
        &format!(
            "SELECT {COLUMNS} FROM event WHERE fingerprint = ?1 AND seq >= CAST(?2 AS INTEGER)
             ORDER BY seq LIMIT {LIMIT_MAX}"
        ),
        [fingerprint.to_string(), from.to_string()],
    )
}

/// The newest `limit` beginnings of episodes before the sequence number `before`, newest first.
pub(super) fn openings(
    conn: &Connection,
    before: u64,
    limit: usize,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM event WHERE type = 'transition' AND seq < ?1 ORDER BY seq DESC"
    ))?;
    let before = before.min(i64::MAX.cast_unsigned()).cast_signed();
    let mut rows = select.query([before])?;
    let mut all = Vec::new();
    while all.len() < limit.min(LIMIT_MAX)
        && let Some(row) = rows.next()?
    {
        all.extend(event(row).filter(StoredEvent::opens_an_episode));
    }
    Ok(all)
}

/// Alerts that the history knows by this text: the beginning of a fingerprint, the whole name, or the rule
/// in it. The one that something happened to last comes first.
pub(super) fn known_alerts(conn: &Connection, text: &str) -> rusqlite::Result<Vec<KnownAlert>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT fingerprint, alert, max(seq) FROM event
         WHERE fingerprint IS NOT NULL AND alert <> ''
           AND (substr(fingerprint, 1, length(?1)) = ?1 OR alert = ?1
                OR substr(alert, 1, length(?1) + 1) = ?1 || '{{')
         GROUP BY fingerprint ORDER BY max(seq) DESC LIMIT {KNOWN_MAX}"
    ))?;
    let mut rows = select.query([text])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let fingerprint: String = row.get(0)?;
        if let Some(fingerprint) = Fingerprint::parse(&fingerprint) {
            all.push(KnownAlert {
                fingerprint,
                alert: row.get(1)?,
                last_seq: row.get::<_, i64>(2)?.cast_unsigned(),
            });
        }
    }
    Ok(all)
}

/// Of each alert, the last transition up to `at`.
pub(super) fn states_at(conn: &Connection, at: u64) -> rusqlite::Result<Vec<StoredEvent>> {
    let at = at.min(i64::MAX.cast_unsigned()).cast_signed();
    collect(
        conn,
        &format!(
            "SELECT {COLUMNS} FROM event WHERE seq IN (
                SELECT max(seq) FROM event WHERE type = 'transition' AND seq <= ?1
                GROUP BY fingerprint LIMIT {ALERTS_MAX}
             ) ORDER BY seq"
        ),
        [at],
    )
}

/// Counts and sizes.
pub(super) fn stats(conn: &Connection, folder: &Folder) -> rusqlite::Result<Stats> {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let mut stats = Stats {
        bytes: bytes(&folder.database()),
        log_bytes: bytes(&folder.log()),
        ..Stats::default()
    };
    let mut select = conn.prepare_cached(
        "SELECT type, count(*), min(wall_ms), max(wall_ms) FROM event GROUP BY type",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let number = |at| row.get::<_, i64>(at).map(|n| n.max(0).cast_unsigned());
        let one = TypeStats {
            events: number(1)?,
            oldest_ms: number(2)?,
            newest_ms: number(3)?,
        };
        stats.events += one.events;
        if let Ok(kind) = row
            .get_ref(0)?
            .as_str()
            .unwrap_or_default()
            .parse::<EventType>()
        {
            stats.types.insert(kind.name(), one);
        }
    }
    let oldest: Option<i64> = conn.query_row("SELECT min(seq) FROM event", [], |row| row.get(0))?;
    stats.oldest_seq = oldest.map(i64::cast_unsigned);
    Ok(stats)
}

/// Hands out the newest events up to `last_seq`, newest first. The outer error is the reading's, the
/// inner one what `take` said.
pub(super) fn each_newest<E>(
    conn: &Connection,
    last_seq: u64,
    limit: usize,
    mut take: impl FnMut(StoredEvent) -> Result<(), E>,
) -> rusqlite::Result<Result<(), E>> {
    let mut select = conn.prepare(&format!(
        "SELECT {COLUMNS} FROM event WHERE seq BETWEEN 1 AND ?1 ORDER BY seq DESC LIMIT ?2"
    ))?;
    let mut rows = select.query([last_seq.cast_signed(), limit as i64])?;
    while let Some(row) = rows.next()? {
        if let Some(event) = event(row)
            && let Err(e) = take(event)
        {
            return Ok(Err(e));
        }
    }
    Ok(Ok(()))
}

fn collect<P: ToSql>(
    conn: &Connection,
    sql: &str,
    params: impl IntoIterator<Item = P>,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query(params_from_iter(params))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.extend(event(row));
    }
    Ok(all)
}

/// None: a row whose bytes rotted.
fn event(row: &Row<'_>) -> Option<StoredEvent> {
    let number = |at| row.get::<_, i64>(at).ok().map(i64::cast_unsigned);
    let text = |at| row.get::<_, String>(at).ok();
    Some(StoredEvent {
        seq: number(0)?,
        event: NewEvent {
            wall: WallTime(number(1)?),
            at: Moment(number(2)?),
            kind: text(3)?.parse().ok()?,
            alert: text(4)?,
            fingerprint: text(5).and_then(|text| Fingerprint::parse(&text)),
            episode: number(6)?,
            correlation: text(7),
            body: text(8)?,
        },
    })
}
