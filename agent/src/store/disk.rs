//! `state.db` as a file: opening and judging it, writing a fresh one.
//!
//! Nothing here retries: what went wrong becomes a [`Trouble`], and the writer decides.

use super::event::StoredEvent;
use super::migrate;
use super::query;
use super::rows::{self, Mirror};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

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
    /// The disk failed to read, write or sync. What it holds may be sound, but this handle is not to
    /// be trusted again: after a failed fsync the kernel may call pages clean that never reached the
    /// disk, and a retried fsync would succeed.
    Io(String),
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
            // A file that ends too early is a matter of its bytes.
            ErrorCode::SystemIoFailure if *extended_code != ffi::SQLITE_IOERR_SHORT_READ => {
                Trouble::Io(reason)
            }
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
    // Of a damaged file the bytes are kept as they lay there: closing it must not work its log into it.
    let keep_log = |conn: &Connection, on| {
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on)
            .map_err(|e| Trouble::of(&e))
    };
    keep_log(&conn, true)?;
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
        conn.pragma_update(None, "journal_size_limit", 1 << 20)?;
        // 1 MiB of log at most: on a disk that is filling up each commit counts.
        conn.pragma_update(None, "wal_autocheckpoint", 256)?;
        conn.pragma_update(None, "cache_size", -1024)?;
        migrate::migrate(&mut conn, version)?;
        rows::read(&conn)
    })()
    .map_err(|e| Trouble::of(&e))?;
    if mirror.last_seq > SEQ_MAX.cast_unsigned() {
        return Err(Trouble::Damaged("a sequence number is out of range".into()));
    }
    keep_log(&conn, false)?;
    checkpoint(&conn).map_err(|e| Trouble::of(&e))?;
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
        .then(|| rows::read(&conn).ok())
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
        rows::rewrite(&mut conn, mirror, events)?;
        // Only the header changes; what is written so far went through a journal and is in the file.
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.close().map_err(|(_, e)| e)
    };
    write().map_err(|e| Trouble::of(&e))?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| Trouble::of_io(path, &e))
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

/// Gives the room of the log back. A disk too full for it is no failure: the log stays.
fn checkpoint(conn: &Connection) -> rusqlite::Result<()> {
    match conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        Err(e) if !matches!(Trouble::of(&e), Trouble::Unavailable { .. }) => Err(e),
        _ => Ok(()),
    }
}

fn check(conn: &Connection) -> Result<(), Trouble> {
    let stop = conn.get_interrupt_handle();
    let (done, wait) = mpsc::sync_channel::<()>(1);
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

/// Best effort: a row that cannot be read ends it, the rows before it stay.
fn copy_events(from: &Path, to: &mut Connection, last_seq: u64) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(from) = Connection::open_with_flags(from, flags) else {
        return Ok(());
    };
    let tx = to.transaction()?;
    let copied = query::each_newest(&from, last_seq, COPIED_EVENTS_MAX, |event| {
        rows::put_event(&tx, &event)
    });
    match copied {
        Ok(result) => result?,
        Err(error) => tracing::warn!(%error, "the history of the damaged state.db is incomplete"),
    }
    tx.commit()
}
