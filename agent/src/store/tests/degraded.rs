//! R03 to R05: the disk refuses, and comes back.

use super::*;
use crate::store::state::lock;
use crate::store::writer::BUFFER_MAX;
use crate::store::{StateStore, StoreError};

fn rows(dir: &Path) -> (Vec<String>, u64) {
    let (_, opened) = StateStore::open(dir).unwrap();
    assert_eq!(opened.lost, None);
    (
        opened.rows.into_iter().map(|(_, key, _)| key).collect(),
        opened.last_seq,
    )
}

/// A full disk, as SQLite sees it: the file may not grow. The handle is dropped, the file taken up
/// again; nothing is lost, and the history stays.
#[test]
fn a_full_file_is_taken_up_again_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let (mut writer, shared) = writer(temp.path());
    assert!(temp.path().join("reserve").exists());
    writer.commit(&commit(1, "a", "{}")).unwrap();
    let conn = writer.connection().unwrap();
    conn.query_row("PRAGMA max_page_count = 1", [], |row| row.get::<_, i64>(0))
        .unwrap();
    let body = format!("\"{}\"", "x".repeat(200_000));
    let done = writer.commit(&commit(2, "b", &body)).unwrap();
    assert_eq!(done.first_seq, 2);
    assert_eq!(lock(&shared.health).heals, 1);
    assert_eq!(lock(&shared.health).degraded, None);
    // Given back for the retry, and made again afterwards.
    assert!(temp.path().join("reserve").exists());
    drop(writer);
    assert_eq!(rows(temp.path()), (vec!["a".into(), "b".into()], 2));
    assert!(!temp.path().join("state.db.corrupt-1").exists());
}

/// An error after which the file cannot be trusted: a fresh one is written from memory, with the
/// events of the old one, and the old one is kept.
#[test]
fn a_file_that_rots_under_way_is_written_anew() {
    let temp = tempfile::tempdir().unwrap();
    let (mut writer, shared) = writer(temp.path());
    for n in 1..=20 {
        writer
            .commit(&commit(n, &format!("k{n:02}"), "{}"))
            .unwrap();
    }
    // The root page of `alert` is no b-tree page any more.
    let conn = writer.connection().unwrap();
    let root: i64 = conn
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'alert'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory;")
        .unwrap();
    let path = temp.path().join("state.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let start = usize::try_from(root - 1).unwrap() * 4096;
    bytes[start..start + 4096].fill(0xEE);
    std::fs::write(&path, bytes).unwrap();

    let done = writer.commit(&commit(21, "k21", "{}")).unwrap();
    assert_eq!(done.first_seq, 21);
    assert_eq!(lock(&shared.health).heals, 1);
    drop(writer);
    let (keys, last_seq) = rows(temp.path());
    assert_eq!((keys.len(), last_seq), (21, 21));
    assert!(temp.path().join("state.db.corrupt-1").exists());
    let conn = rusqlite::Connection::open(&path).unwrap();
    let events: i64 = conn
        .query_row("SELECT count(*) FROM event", [], |row| row.get(0))
        .unwrap();
    assert_eq!(events, 21);
}

/// The folder is gone (an unmounted disk): in memory, tried every 5 s, complete when it is back.
#[test]
fn without_a_disk_the_state_waits_in_memory() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let away = temp.path().join("away");
    let (mut writer, shared) = writer(&dir);
    writer.commit(&commit(1_000, "a", "{}")).unwrap();
    std::fs::rename(&dir, &away).unwrap();
    // In its place a file, so that the folder cannot be made again.
    std::fs::write(&dir, "").unwrap();
    let conn = writer.connection().unwrap();
    conn.pragma_update(None, "query_only", true).unwrap();

    let failed = writer.commit(&commit(2_000, "b", "{}"));
    let Err(StoreError::NotDurable { kept, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!((kept.first_seq, kept.events.len()), (2, 1));
    let since = lock(&shared.health).degraded.clone().unwrap().since_wall_ms;
    assert_eq!(since, WALL + 2_000);
    assert_eq!(lock(&shared.buffer).len(), 1);
    assert!(writer.save_config(vec![("c".into(), "x".into())]).is_err());

    // The disk is back, but it is not yet time to look.
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    assert!(writer.commit(&commit(6_900, "c", "{}")).is_err());
    let done = writer.commit(&commit(7_000, "d", "{}")).unwrap();
    assert_eq!(done.first_seq, 4);
    let health = lock(&shared.health).clone();
    assert_eq!(
        (health.degraded, health.buffered, health.dropped),
        (None, 0, 0)
    );
    assert_eq!((health.commits, health.commits_not_durable), (2, 2));
    drop(writer);
    let (store, opened) = StateStore::open(&dir).unwrap();
    let keys: Vec<_> = opened.rows.iter().map(|(_, key, _)| &**key).collect();
    assert_eq!(keys, ["a", "b", "c", "d"]);
    assert_eq!(
        opened.last_good_config,
        Some(vec![("c".into(), "x".into())])
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let events = runtime.block_on(store.events(0, &[], 10)).unwrap();
    assert_eq!(
        events.iter().map(|e| e.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
}

#[test]
fn events_beyond_the_bound_are_counted_not_kept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let (mut writer, shared) = writer(&dir);
    std::fs::rename(&dir, temp.path().join("away")).unwrap();
    std::fs::write(&dir, "").unwrap();
    writer
        .connection()
        .unwrap()
        .pragma_update(None, "query_only", true)
        .unwrap();
    let many = Commit {
        events: vec![event(1, EventType::System, ""); BUFFER_MAX - 1],
        clock: clock(1),
        ..Commit::default()
    };
    assert!(writer.commit(&many).is_err());
    assert!(writer.commit(&commit(2, "a", "{}")).is_err());
    assert_eq!(lock(&shared.health).dropped, 0);
    assert!(writer.commit(&commit(3, "a", "{}")).is_err());
    assert_eq!(lock(&shared.health).dropped, 1);
    assert_eq!(lock(&shared.buffer).len(), BUFFER_MAX);
    assert_eq!(lock(&shared.buffer).front().unwrap().seq, 2);
}

/// Events that are not on disk are seen by whoever asks.
#[tokio::test]
async fn the_history_shows_what_waits() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    // A fresh file cannot be written: a folder that is not empty stands where it would be made.
    std::fs::create_dir_all(dir.join("state.db.part/x")).unwrap();
    let (store, _) = StateStore::open(&dir).unwrap();
    assert!(store.health().degraded.is_some());
    for (ms, alert) in [(10, "a"), (11, "b"), (12, "a")] {
        let kept = store.commit(commit(ms, alert, "{}")).await;
        assert!(
            matches!(kept, Err(StoreError::NotDurable { .. })),
            "{kept:?}"
        );
    }
    let all = store.events(0, &[], 2).await.unwrap();
    assert_eq!(
        all.iter().map(|e| e.event.at.0).collect::<Vec<_>>(),
        [10, 11]
    );
    assert_eq!(
        store.events_of_alert(fingerprint("a")).await.unwrap().len(),
        2
    );
    let states = store.states_at(u64::MAX).await.unwrap();
    assert_eq!(
        states.iter().map(|e| e.event.at.0).collect::<Vec<_>>(),
        [11, 12]
    );
    assert_eq!(store.health().buffered, 3);

    std::fs::remove_dir_all(dir.join("state.db.part")).unwrap();
    store.commit(commit(6_000, "a", "{}")).await.unwrap();
    assert_eq!(store.health().degraded, None);
    let all = store.events(0, &[], 10).await.unwrap();
    assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// A file that could not be read at the start turns up later: its own numbers are not given twice.
#[test]
fn a_file_first_seen_later_keeps_its_history() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, away) = (temp.path().join("data"), temp.path().join("away"));
    let (mut first, _) = writer(&dir);
    first
        .commit(&Commit {
            plugin_state: vec![("p".into(), "cursor".into(), Some(vec![7]))],
            ..commit(1, "old", "{}")
        })
        .unwrap();
    first.commit(&commit(2, "old", "{}")).unwrap();
    drop(first);
    std::fs::rename(dir.join("state.db"), &away).unwrap();
    std::fs::create_dir_all(dir.join("state.db.part/x")).unwrap();
    let (mut second, shared) = writer(&dir);
    assert!(second.commit(&commit(10, "new", "{}")).is_err());
    std::fs::rename(&away, dir.join("state.db")).unwrap();
    let done = second.commit(&commit(6_000, "newer", "{}")).unwrap();
    assert_eq!(lock(&shared.health).heals, 1);
    assert_eq!(done.last_seq, 4);
    assert_eq!(done.events[0].seq, 4);
    drop(second);
    let (store, opened) = StateStore::open(&dir).unwrap();
    let keys: Vec<_> = opened.rows.iter().map(|(_, key, _)| &**key).collect();
    assert_eq!(keys, ["new", "newer"]);
    assert_eq!(opened.plugin_state["p"]["cursor"], [7]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let events = runtime.block_on(store.events(0, &[], 10)).unwrap();
    let seen: Vec<_> = events.iter().map(|e| (e.seq, e.event.at.0)).collect();
    assert_eq!(seen, [(1, 1), (2, 2), (3, 10), (4, 6_000)]);
}
