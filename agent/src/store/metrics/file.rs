//! `metrics.db` as a file: made, opened, judged, set aside.

use crate::store::disk::Trouble;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Marks the file as ours (`wfim`).
const APPLICATION_ID: i32 = 0x7766_696d;

/// Version of the schema. The file is disposable: one of another version is set aside.
const VERSION: i32 = 1;

/// Longest wait for a lock that somebody's `sqlite3` shell holds.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Page cache, KiB: chunks are written once and read seldom.
const CACHE_KIB: i64 = 256;

const SCHEMA: &str = r"
CREATE TABLE series (
    id     INTEGER PRIMARY KEY,
    metric TEXT NOT NULL,
    labels TEXT NOT NULL,
    probe  TEXT NOT NULL,
    seen   INTEGER NOT NULL,
    UNIQUE (metric, labels)
) STRICT;
CREATE TABLE chunk  (key INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE rollup (key INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE wall   (at INTEGER PRIMARY KEY, ahead INTEGER NOT NULL) STRICT;
CREATE TABLE meta   (key TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// Opens the file, or makes it where there is none.
pub(super) fn open(path: &Path) -> Result<Connection, Trouble> {
    if is_begun(path) {
        // The process ended while it made the file: there is nothing in it to be set aside.
        let _ = std::fs::remove_file(path);
    }
    if !path.exists() {
        make(path)?;
    }
    if !path.is_file() {
        return Err(Trouble::Damaged("it is not a regular file".into()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| Trouble::of(&e))?;
    judge(&conn)?;
    let set = || {
        conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        // The last minutes may go with a power cut; the file stays whole.
        conn.pragma_update(None, "synchronous", "normal")?;
        conn.pragma_update(None, "wal_autocheckpoint", 128)?;
        conn.pragma_update(None, "journal_size_limit", 1 << 20)?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)
    };
    set().map_err(|e| Trouble::of(&e))?;
    Ok(conn)
}

/// Opens the file for reading beside the agent, or without it.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| Trouble::of(&e))?;
    judge(&conn)?;
    Ok(conn)
}

/// Moves the file aside, over the one that lies there: people look at one at most, and it may be large.
pub(super) fn quarantine(path: &Path) -> std::io::Result<PathBuf> {
    let aside = beside(path, ".corrupt");
    // It may have been a folder.
    let _ = std::fs::remove_file(&aside).or_else(|_| std::fs::remove_dir_all(&aside));
    std::fs::rename(path, &aside)?;
    for rest in ["-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(beside(path, rest));
    }
    Ok(aside)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Whether [`make`] began this file and did not end: it has neither a version nor a table.
fn is_begun(path: &Path) -> bool {
    let read = || {
        // For writing: a journal that lies beside it belongs to what was not done.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_MAX)?;
        let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let ours = [0, APPLICATION_ID].contains(&number("application_id")?);
        let things: i64 =
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>(ours && number("user_version")? == 0 && things == 0)
    };
    path.is_file() && read().unwrap_or(false)
}

fn make(path: &Path) -> Result<(), Trouble> {
    for rest in ["-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(beside(path, rest));
    }
    // SQLite would make it readable for all.
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    made.map_err(|e| Trouble::of_io(path, &e))?;
    let fill = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags)?;
        // Before the first table, else it takes a full vacuum.
        conn.pragma_update(None, "auto_vacuum", "incremental")?;
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
        let tx = conn.transaction()?;
        tx.execute_batch(SCHEMA)?;
        tx.pragma_update(None, "user_version", VERSION)?;
        tx.commit()
    };
    fill().map_err(|e: rusqlite::Error| {
        // Half a file would count as damage the next time.
        let _ = std::fs::remove_file(path);
        Trouble::of(&e)
    })
}

/// Whose file it is and of what version. Pages are not checked: a broken one shows when it is read, and
/// a check of gigabytes would take minutes.
fn judge(conn: &Connection) -> Result<(), Trouble> {
    let read = || {
        conn.busy_timeout(BUSY_MAX)?;
        conn.pragma_update(None, "trusted_schema", false)?;
        conn.pragma_update(None, "cell_size_check", true)?;
        let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        Ok((number("application_id")?, number("user_version")?))
    };
    let (application, version) = read().map_err(|e: rusqlite::Error| Trouble::of(&e))?;
    if application != APPLICATION_ID {
        return Err(Trouble::Damaged("it is not a history of watchfire".into()));
    }
    if version != VERSION {
        return Err(Trouble::Damaged(format!("it has version {version}")));
    }
    Ok(())
}

/// A number of the table `meta`.
pub(super) fn meta(conn: &Connection, key: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

/// Writes a number of the table `meta`.
pub(super) fn set_meta(conn: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute((key, value))
        .map(drop)
}

/// Bytes in use: pages that are not free.
pub(super) fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok((pages * number("page_size")?).max(0).cast_unsigned())
}
