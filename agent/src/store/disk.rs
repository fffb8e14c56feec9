//! `state.db` as a file: opening and judging it, reading all of it, writing to it.
//!
//! Nothing here retries: what went wrong becomes a [`Trouble`], and the writer decides.

use super::event::StoredEvent;
use super::migrate;
use super::query;
use super::state::{Commit, SavedClock};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi, params};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use watchfire_engine::effect::Table;

/// Longest wait for a lock that somebody's `sqlite3` shell holds; then the commit counts as failed.
const BUSY_MAX: Duration = Duration::from_secs(1);

/// The integrity check at the start may take so long: promise P9 leaves 2 s for the whole start. A
/// check that is not done by then found nothing so far.
const CHECK_MAX: Duration = Duration::from_secs(1);

/// Events taken over from a damaged file, newest first: about a second's work, 30 days of history at
/// three thousand a day.
const COPIED_EVENTS_MAX: usize = 100_000;

/// A sequence number beyond this is a flipped bit, not a count.
const SEQ_MAX: i64 = 1 << 56;

/// All of the durable state but the events. Kept in memory too: from it a fresh file can be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mirror {
    /// The engine's rows.
    pub records: BTreeMap<(Table, String), String>,
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
        for change in &commit.records {
            let key = (change.table, change.key.clone());
            match &change.body {
                Some(body) => self.records.insert(key, body.clone()),
                None => self.records.remove(&key),
            };
        }
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

/// What went wrong with the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A later version wrote it.
    Newer {
        /// Its version.
        found: i32,
    },
    /// Its bytes are not the ones we wrote, or can no longer be trusted.
    Damaged(String),
    /// The disk refuses: full, read-only, gone, locked.
    Unavailable {
        /// For people.
        reason: String,
        /// Room would help.
        full: bool,
    },
}

impl Trouble {
    /// Judges an error of SQLite by what can still be trusted after it.
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        let reason = error.to_string();
        let unavailable = |full| Trouble::Unavailable {
            reason: reason.clone(),
            full,
        };
        let rusqlite::Error::SqliteFailure(
            ffi::Error {
                code,
                extended_code,
            },
            _,
        ) = error
        else {
            return Trouble::Damaged(reason);
        };
        match code {
            ErrorCode::DiskFull => unavailable(true),
            // The shared-memory file of the log cannot grow or be made: the data is untouched.
            ErrorCode::SystemIoFailure
                if [
                    ffi::SQLITE_IOERR_SHMOPEN,
                    ffi::SQLITE_IOERR_SHMSIZE,
                    ffi::SQLITE_IOERR_SHMMAP,
                    ffi::SQLITE_IOERR_SHMLOCK,
                    ffi::SQLITE_IOERR_LOCK,
                ]
                .contains(extended_code) =>
            {
                unavailable(true)
            }
            ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted => unavailable(false),
            // An I/O error among them: after a failed fsync the kernel may call pages clean that never
            // reached the disk, and a retried fsync would succeed. The file is not trusted again.
            _ => Trouble::Damaged(reason),
        }
    }

    /// An error of the file system about `path`.
    pub(super) fn of_io(path: &Path, error: &std::io::Error) -> Self {
        Trouble::Unavailable {
            reason: format!("{}: {error}", path.display()),
            full: error.kind() == std::io::ErrorKind::StorageFull,
        }
    }
}

/// Opens an existing file, checks it, brings it to the known version and reads it.
pub(super) fn open(path: &Path) -> Result<(Connection, Mirror), Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(|e| Trouble::of(&e))?;
    let version = judge(&conn)?;
    let mirror = (|| {
        let mode: String =
            conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            // SQLite says no error where it cannot change the mode; a journal of the old kind is as
            // durable, only slower.
            tracing::warn!(mode, "state.db does not use a write-ahead log");
        }
        conn.pragma_update(None, "synchronous", "full")?;
        // A log that grew once is cut back at the next checkpoint.
        conn.pragma_update(None, "journal_size_limit", 4 << 20)?;
        conn.pragma_update(None, "cache_size", -1024)?;
        migrate::migrate(&mut conn, version)?;
        read(&conn)
    })()
    .map_err(|e| Trouble::of(&e))?;
    if mirror.last_seq > SEQ_MAX.cast_unsigned() {
        return Err(Trouble::Damaged("a sequence number is out of range".into()));
    }
    Ok((conn, mirror))
}

/// Reads a file on a read-only disk, as far as it was checkpointed: without its log.
pub(super) fn salvage(path: &Path) -> Option<Mirror> {
    let name: String = path
        .to_str()?
        .chars()
        .flat_map(|c| match c {
            '%' => "%25".chars().collect::<Vec<_>>(),
            '?' => "%3f".chars().collect(),
            '#' => "%23".chars().collect(),
            c => vec![c],
        })
        .collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags).ok()?;
    (judge(&conn).ok()? == migrate::KNOWN)
        .then(|| read(&conn).ok())
        .flatten()
}

/// Writes a complete database to `path` and syncs it. Events come from `old`, as far as it can be
/// read, and from `events`.
pub(super) fn write_fresh<'a>(
    path: &Path,
    mirror: &Mirror,
    old: Option<&Path>,
    events: impl IntoIterator<Item = &'a StoredEvent>,
) -> Result<(), Trouble> {
    for rest in ["", "-journal", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(rest);
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
    // SQLite would make it readable for all.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Trouble::of_io(path, &e))?;
    let write = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags)?;
        // Before the first table, else it takes a full vacuum.
        conn.pragma_update(None, "auto_vacuum", "incremental")?;
        conn.pragma_update(None, "application_id", migrate::APPLICATION_ID)?;
        conn.pragma_update(None, "synchronous", "full")?;
        migrate::migrate(&mut conn, 0)?;
        if let Some(old) = old {
            copy_events(old, &mut conn, mirror.last_seq)?;
        }
        rewrite(&mut conn, mirror, events)?;
        conn.close().map_err(|(_, e)| e)
    };
    write().map_err(|e| Trouble::of(&e))?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| Trouble::of_io(path, &e))
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
    for ((table, key), body) in &mirror.records {
        put_record(&tx, *table, key, Some(body))?;
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

/// Whose file it is, whether its pages hold together, and its version.
fn judge(conn: &Connection) -> Result<i32, Trouble> {
    let read = || {
        conn.busy_timeout(BUSY_MAX)?;
        // Without these a hostile schema could run code of its own, or a broken page hide.
        conn.pragma_update(None, "trusted_schema", false)?;
        conn.pragma_update(None, "cell_size_check", true)?;
        let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        Ok((number("application_id")?, number("user_version")?))
    };
    let (application, version) = read().map_err(|e: rusqlite::Error| Trouble::of(&e))?;
    if application != migrate::APPLICATION_ID {
        return Err(Trouble::Damaged(
            "it is not a state file of watchfire".into(),
        ));
    }
    if version > migrate::KNOWN {
        return Err(Trouble::Newer { found: version });
    }
    if version < 1 {
        return Err(Trouble::Damaged(format!("it says version {version}")));
    }
    check(conn)?;
    Ok(version)
}

fn check(conn: &Connection) -> Result<(), Trouble> {
    let stop = conn.get_interrupt_handle();
    let (done, wait) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if wait.recv_timeout(CHECK_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            stop.interrupt();
        }
    });
    let found = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    let _ = watch.join();
    match found {
        Ok(text) if text == "ok" => Ok(()),
        Ok(text) => Err(Trouble::Damaged(text)),
        Err(rusqlite::Error::SqliteFailure(e, _)) if e.code == ErrorCode::OperationInterrupted => {
            tracing::warn!(limit = ?CHECK_MAX, "state.db is too large to be checked at the start");
            Ok(())
        }
        Err(e) => Err(Trouble::of(&e)),
    }
}

fn read(conn: &Connection) -> rusqlite::Result<Mirror> {
    let mut mirror = Mirror::default();
    let mut unreadable = 0_u64;
    for table in Table::ALL {
        let mut select = conn.prepare(&format!("SELECT key, body FROM {}", table.name()))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            // One rotten row is not worth the others.
            match (text(row, 0), text(row, 1)) {
                (Some(key), Some(body)) => {
                    mirror.records.insert((table, key), body);
                }
                _ => unreadable += 1,
            }
        }
    }
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

/// Best effort: a row that cannot be read ends it, the rows before it stay.
fn copy_events(from: &Path, to: &mut Connection, last_seq: u64) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(from) = Connection::open_with_flags(from, flags) else {
        return Ok(());
    };
    let tx = to.transaction()?;
    let copied = query::each_newest(&from, last_seq, COPIED_EVENTS_MAX, |event| {
        put_event(&tx, &event)
    });
    match copied {
        Ok(result) => result?,
        Err(error) => tracing::warn!(%error, "the history of the damaged state.db is incomplete"),
    }
    tx.commit()
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

fn put_event(conn: &Connection, stored: &StoredEvent) -> rusqlite::Result<()> {
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
