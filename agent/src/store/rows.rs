//! The rows of `state.db`: all of them into memory, and each change back.

use super::event::StoredEvent;
use super::records::Records;
use super::state::{Commit, SavedClock};
use rusqlite::{Connection, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use watchfire_engine::effect::Table;

/// All of the durable state but the events. Kept in memory too: from it a fresh file can be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mirror {
    /// The engine's rows.
    pub records: Records,
    /// Plugins' own values, by id and key.
    pub plugin_state: BTreeMap<(String, String), Vec<u8>>,
    /// The clocks at the last commit.
    pub clock: Option<SavedClock>,
    /// Last good configuration.
    pub config: Option<Vec<(PathBuf, String)>>,
    /// The newest sequence number ever given.
    pub last_seq: u64,
    /// Why the state before this one was lost; none after the first commit.
    pub lost: Option<String>,
}

impl Mirror {
    /// Takes a commit in, its events aside.
    pub(super) fn apply(&mut self, commit: &Commit) {
        self.records.apply(&commit.records);
        for (id, key, value) in &commit.plugin_state {
            let key = (id.clone(), key.clone());
            match value {
                Some(value) => self.plugin_state.insert(key, value.clone()),
                None => self.plugin_state.remove(&key),
            };
        }
        self.clock = Some(commit.clock.clone());
        self.lost = None;
    }
}

/// One commit as one transaction.
pub(super) fn apply(
    conn: &mut Connection,
    commit: &Commit,
    events: &[StoredEvent],
    last_seq: u64,
) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in &commit.records {
        put_record(&tx, change.table, &change.key, change.body.as_deref())?;
    }
    for (id, key, value) in &commit.plugin_state {
        put_plugin_state(&tx, id, key, value.as_deref())?;
    }
    for event in events {
        put_event(&tx, event)?;
    }
    put_meta(&tx, Some(&commit.clock), last_seq, None)?;
    tx.commit()
}

/// Lets go of the pages that the connection keeps in memory. They are read again when they are needed.
pub(super) fn shrink(conn: &Connection) {
    // Nothing but memory is at stake, and it says no error.
    let _ = conn.execute_batch("PRAGMA shrink_memory");
}

/// Makes the file say what `mirror` says, and adds `events`; the events that are there stay.
pub(super) fn rewrite<'a>(
    conn: &mut Connection,
    mirror: &Mirror,
    events: impl IntoIterator<Item = &'a StoredEvent>,
) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in Table::ALL {
        tx.execute(&format!("DELETE FROM {}", table.name()), [])?;
    }
    tx.execute("DELETE FROM plugin_state", [])?;
    for (table, key, body) in mirror.records.iter() {
        put_record(&tx, table, key, Some(body))?;
    }
    for ((id, key), value) in &mirror.plugin_state {
        put_plugin_state(&tx, id, key, Some(value))?;
    }
    for event in events {
        put_event(&tx, event)?;
    }
    if let Some(config) = &mirror.config {
        put_config(&tx, config)?;
    }
    put_meta(
        &tx,
        mirror.clock.as_ref(),
        mirror.last_seq,
        mirror.lost.as_deref(),
    )?;
    tx.commit()
}

/// Replaces the saved configuration.
pub(super) fn save_config(
    conn: &mut Connection,
    texts: &[(PathBuf, String)],
) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    put_config(&tx, texts)?;
    tx.commit()
}

/// Reads all of it but the events.
pub(super) fn read(conn: &Connection) -> rusqlite::Result<Mirror> {
    let mut mirror = Mirror::default();
    let mut unreadable = 0_u64;
    for table in Table::ALL {
        let mut select = conn.prepare(&format!("SELECT key, body FROM {}", table.name()))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            // One rotten row is not worth the others.
            match (text(row, 0), text(row, 1)) {
                (Some(key), Some(body)) => mirror.records.push(table, &key, &body),
                _ => unreadable += 1,
            }
        }
    }
    mirror.records.sort();
    let mut select = conn.prepare("SELECT id, key, value FROM plugin_state")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        match (text(row, 0), text(row, 1), row.get_ref(2)?.as_bytes()) {
            (Some(id), Some(key), Ok(value)) => {
                mirror.plugin_state.insert((id, key), value.to_vec());
            }
            _ => unreadable += 1,
        }
    }
    let mut select = conn.prepare("SELECT path, text FROM config ORDER BY position")?;
    let mut rows = select.query([])?;
    let mut config = Vec::new();
    while let Some(row) = rows.next()? {
        match (row.get_ref(0)?.as_bytes(), text(row, 1)) {
            (Ok(path), Some(text)) => {
                config.push((PathBuf::from(OsString::from_vec(path.to_vec())), text));
            }
            _ => unreadable += 1,
        }
    }
    mirror.config = (!config.is_empty()).then_some(config);
    let mut select = conn.prepare("SELECT key, value FROM meta")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let Some(value) = text(row, 1) else {
            unreadable += 1;
            continue;
        };
        match text(row, 0).as_deref() {
            Some("clock") => mirror.clock = serde_json::from_str(&value).ok(),
            Some("last_seq") => mirror.last_seq = value.parse().unwrap_or(0),
            Some("lost") => mirror.lost = Some(value),
            _ => {}
        }
    }
    let newest: Option<i64> = conn.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
    mirror.last_seq = mirror
        .last_seq
        .max(newest.unwrap_or(0).max(0).cast_unsigned());
    if unreadable > 0 {
        tracing::warn!(
            rows = unreadable,
            "rows of state.db that cannot be read are left out"
        );
    }
    Ok(mirror)
}

fn text(row: &rusqlite::Row<'_>, at: usize) -> Option<String> {
    let bytes = row.get_ref(at).ok()?.as_bytes().ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}

fn put_record(
    conn: &Connection,
    table: Table,
    key: &str,
    body: Option<&str>,
) -> rusqlite::Result<()> {
    let name = table.name();
    match body {
        Some(body) => conn
            .prepare_cached(&format!(
                "INSERT INTO {name} (key, body) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET body = excluded.body"
            ))?
            .execute((key, body))?,
        None => conn
            .prepare_cached(&format!("DELETE FROM {name} WHERE key = ?1"))?
            .execute([key])?,
    };
    Ok(())
}

fn put_plugin_state(
    conn: &Connection,
    id: &str,
    key: &str,
    value: Option<&[u8]>,
) -> rusqlite::Result<()> {
    match value {
        Some(value) => conn
            .prepare_cached(
                "INSERT INTO plugin_state (id, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id, key) DO UPDATE SET value = excluded.value",
            )?
            .execute((id, key, value))?,
        None => conn
            .prepare_cached("DELETE FROM plugin_state WHERE id = ?1 AND key = ?2")?
            .execute((id, key))?,
    };
    Ok(())
}

/// Adds one event.
pub(super) fn put_event(conn: &Connection, stored: &StoredEvent) -> rusqlite::Result<()> {
    let event = &stored.event;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO event
         (seq, wall_ms, at_ms, type, alert, fingerprint, episode, correlation, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        stored.seq.cast_signed(),
        event.wall.0.cast_signed(),
        event.at.0.cast_signed(),
        event.kind.name(),
        event.alert,
        event.fingerprint.map(|fingerprint| fingerprint.to_string()),
        event.episode.cast_signed(),
        event.correlation,
        event.body,
    ])?;
    Ok(())
}

fn put_config(conn: &Connection, texts: &[(PathBuf, String)]) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM config", [])?;
    let mut insert = conn.prepare("INSERT INTO config (path, text) VALUES (?1, ?2)")?;
    for (path, text) in texts {
        insert.execute((path.as_os_str().as_bytes(), text))?;
    }
    Ok(())
}

fn put_meta(
    conn: &Connection,
    clock: Option<&SavedClock>,
    last_seq: u64,
    lost: Option<&str>,
) -> rusqlite::Result<()> {
    let clock = clock
        .map(|clock| serde_json::to_string(clock).expect("a clock is plain data with text keys"));
    let last_seq = last_seq.to_string();
    for (key, value) in [
        ("clock", clock.as_deref()),
        ("last_seq", Some(&*last_seq)),
        ("lost", lost),
    ] {
        match value {
            Some(value) => conn
                .prepare_cached(
                    "INSERT INTO meta (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                )?
                .execute((key, value))?,
            None => conn
                .prepare_cached("DELETE FROM meta WHERE key = ?1")?
                .execute([key])?,
        };
    }
    Ok(())
}
