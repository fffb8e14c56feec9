//! R07, C11: a log that was torn at any byte is a prefix of the commits, and nothing is half there; a
//! checkpoint that was torn between any two pages changes nothing.

use super::*;
use crate::store::rows::Mirror;
use std::path::PathBuf;

/// Commits of one log: enough for every table, for rows that are replaced and deleted, and for bodies
/// that need overflow pages.
const COMMITS: u64 = 14;

/// Cuts are made around the borders of every frame, and at strides in between; a prime, so that they
/// fall everywhere in a page.
const STRIDE: usize = 2_003;

/// Bytes of the log's head, and of the head of each frame (SQLite's file format, section 4).
const LOG_HEAD: usize = 32;
const FRAME: usize = 24 + 4096;

/// The `n`-th commit, from 1.
fn nth(n: u64) -> Commit {
    let long = "x".repeat(if n.is_multiple_of(4) { 9_000 } else { 20 });
    let mut records = vec![
        put(
            Table::Alert,
            &format!("a{}", n % 5),
            &format!("{{\"n\":{n},\"pad\":\"{long}\"}}"),
        ),
        put(Table::Outbox, "one", &format!("{{\"n\":{n}}}")),
        put(Table::Engine, "engine", &format!("{{\"n\":{n}}}")),
    ];
    if n.is_multiple_of(3) {
        records.push(delete(Table::Alert, &format!("a{}", (n + 1) % 5)));
        records.push(put(Table::Silence, "s", "{}"));
    } else {
        records.push(delete(Table::Silence, "s"));
    }
    Commit {
        records,
        events: vec![event(n, EventType::Transition, "cpu"); (n % 3) as usize],
        clock: clock(n),
        plugin_state: vec![(
            "disk".into(),
            "cursor".into(),
            n.is_multiple_of(2).then(|| vec![n as u8]),
        )],
    }
}

/// What stands in memory after each commit, from none to all.
fn mirrors() -> Vec<Mirror> {
    let mut mirror = Mirror::default();
    let mut all = vec![mirror.clone()];
    for n in 1..=COMMITS {
        let commit = nth(n);
        mirror.apply(&commit);
        mirror.last_seq += commit.events.len() as u64;
        all.push(mirror.clone());
    }
    all
}

/// The files after all commits, as a killed process leaves them: database, log.
fn killed(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let (mut live, _) = writer(dir);
    for n in 1..=COMMITS {
        live.commit(&nth(n)).unwrap();
    }
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    (read("state.db"), read("state.db-wal"))
}

/// Opens copies of the files in a folder of their own.
fn open(dir: PathBuf, database: &[u8], log: &[u8]) -> Mirror {
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("state.db"), database).unwrap();
    std::fs::write(dir.join("state.db-wal"), log).unwrap();
    let shared = Arc::new(Shared::default());
    let folder = Folder::create(&dir).unwrap();
    let lock = folder.lock().unwrap();
    let (writer, mirror) = Writer::open(folder, lock, shared).unwrap();
    drop(writer);
    assert!(
        !dir.join("state.db.corrupt-1").exists(),
        "a torn log is no damage"
    );
    std::fs::remove_dir_all(&dir).unwrap();
    mirror
}

/// A folder in memory where there is one: thousands of files are opened and synced.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

#[test]
fn a_log_torn_at_any_byte_holds_a_prefix_of_the_commits() {
    let temp = scratch();
    let (database, log) = killed(&temp.path().join("live"));
    let mirrors = mirrors();
    let frames = (log.len() - LOG_HEAD) / FRAME;
    assert!(
        frames > 40,
        "{frames} frames: nothing was checkpointed meanwhile"
    );
    let mut cuts: Vec<usize> = (0..log.len()).step_by(STRIDE).collect();
    for frame in 0..=frames {
        let border = LOG_HEAD + frame * FRAME;
        // The end of a frame, and that of the next one's head.
        cuts.extend([border - 1, border, border + 1, border + 23, border + 24]);
    }
    cuts.retain(|cut| *cut <= log.len());
    cuts.sort_unstable();
    cuts.dedup();
    let mut reached = 0;
    for cut in cuts {
        let found = open(temp.path().join("torn"), &database, &log[..cut]);
        let at = mirrors.iter().position(|mirror| *mirror == found);
        let at = at.unwrap_or_else(|| panic!("cut at {cut}: no prefix of the commits: {found:?}"));
        assert!(at >= reached, "cut at {cut}: commit {at} after {reached}");
        reached = at;
    }
    assert_eq!(reached as u64, COMMITS, "the whole log holds all of it");
}

#[test]
fn a_log_whose_tail_is_noise_holds_what_was_before_it() {
    let temp = scratch();
    let (database, log) = killed(&temp.path().join("live"));
    let mirrors = mirrors();
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for from in (0..log.len()).step_by(4_001) {
        let mut bytes = log.clone();
        for byte in &mut bytes[from..] {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            *byte = noise as u8;
        }
        let found = open(temp.path().join("noise"), &database, &bytes);
        assert!(mirrors.contains(&found), "noise from {from}: {found:?}");
    }
}

#[test]
fn a_checkpoint_torn_between_any_two_pages_loses_nothing() {
    let temp = scratch();
    let dir = temp.path().join("live");
    let (before, log) = killed(&dir);
    let done = mirrors().pop().unwrap();
    // The last connection to close copies the log into the database.
    let conn = rusqlite::Connection::open(dir.join("state.db")).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(conn);
    let after = std::fs::read(dir.join("state.db")).unwrap();
    assert_ne!(before, after);
    for page in 0..=after.len() / 4096 {
        let cut = (page * 4096).min(after.len());
        // In page order, as SQLite writes them; and half a page more, which a power cut leaves.
        for torn in [cut, (cut + 2_000).min(after.len())] {
            let mut database = after[..torn].to_vec();
            database.extend(before.iter().skip(torn));
            let found = open(temp.path().join("torn"), &database, &log);
            assert_eq!(found, done, "torn at {torn}");
        }
    }
}
