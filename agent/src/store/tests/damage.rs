//! R06, R07: whatever bytes lie in the folder, the store opens.

use super::*;
use crate::store::{Opened, StateStore};
use std::path::PathBuf;

/// The bytes of a state with rows in several tables and a few hundred events, closed cleanly.
fn sound() -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let (mut live, _) = writer(temp.path());
    for n in 1..=60 {
        live.commit(&commit(n, &format!("key {n}"), &format!("{{\"n\":{n}}}")))
            .unwrap();
    }
    drop(live);
    std::fs::read(temp.path().join("state.db")).unwrap()
}

/// Opens `bytes` as a state, uses it, opens it again: it must never fail.
fn survive(bytes: &[u8]) -> Opened {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("state.db"), bytes).unwrap();
    survive_in(temp.path())
}

fn survive_in(dir: &Path) -> Opened {
    let (store, opened) = StateStore::open(dir).unwrap();
    if opened.lost.is_some() {
        assert_eq!(opened.rows, []);
        assert!(dir.join("state.db.corrupt-1").exists());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let done = store.commit(commit(100, "after", "{}")).await.unwrap();
        assert_eq!(done.first_seq, opened.last_seq + 1);
        store.close().await;
    });
    let (store, again) = StateStore::open(dir).unwrap();
    assert_eq!(again.lost, None);
    assert!(again.rows.iter().any(|(_, key, _)| key == "after"));
    runtime.block_on(store.close());
    opened
}

#[test]
fn what_is_no_database_is_moved_aside_with_its_bytes() {
    let noise: Vec<u8> = (0..20_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let text = b"[agent]\nhost = \"a\"\n".repeat(400);
    for bytes in [&noise[..], &text, &[0; 4096], b"x", b""] {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("state.db"), bytes).unwrap();
        let opened = survive_in(temp.path());
        assert!(opened.lost.is_some(), "{} bytes", bytes.len());
        let kept = std::fs::read(temp.path().join("state.db.corrupt-1")).unwrap();
        assert_eq!(kept, bytes);
    }
}

#[test]
fn another_programs_database_is_not_ours() {
    let temp = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(temp.path().join("state.db")).unwrap();
    conn.execute_batch("CREATE TABLE alert (x); PRAGMA user_version = 1;")
        .unwrap();
    drop(conn);
    assert!(survive_in(temp.path()).lost.is_some());
}

#[test]
fn a_file_cut_at_any_page_opens() {
    let sound = sound();
    assert_eq!(survive(&sound).rows.len(), 60);
    let pages = sound.len() / 4096;
    assert!(pages > 10, "{pages} pages");
    for page in 0..pages {
        for cut in [page * 4096, page * 4096 + 1000] {
            let opened = survive(&sound[..cut]);
            assert!(opened.lost.is_some(), "cut at {cut}");
        }
    }
}

/// Bytes inside of values carry no checksum: a flip there changes a value, and the engine judges it.
#[test]
fn flipped_bytes_lose_the_state_or_a_row_but_never_the_start() {
    let sound = sound();
    let (mut lost, mut kept) = (0, 0);
    let temp = tempfile::tempdir().unwrap();
    // Every third multiple of 64, so that it takes seconds; each page begins at another one.
    for at in (0..sound.len()).step_by(192) {
        let dir = temp.path().join(at.to_string());
        std::fs::create_dir(&dir).unwrap();
        let mut bytes = sound.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(dir.join("state.db"), bytes).unwrap();
        let (mut writer, _) = writer(&dir);
        writer.commit(&commit(100, "after", "{}")).unwrap();
        drop(writer);
        if dir.join("state.db.corrupt-1").exists() {
            lost += 1;
        } else {
            kept += 1;
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(lost > 10 && kept > 10, "lost {lost}, kept {kept}");
    let mut every = sound.clone();
    for at in (0..every.len()).step_by(64) {
        every[at] ^= 0xFF;
    }
    assert!(survive(&every).lost.is_some());
}

#[test]
fn a_broken_log_costs_only_what_was_not_checkpointed() {
    let temp = tempfile::tempdir().unwrap();
    let live = temp.path().join("live");
    let (mut writer, _) = writer(&live);
    for n in 1..=30 {
        writer
            .commit(&commit(n, &format!("key {n}"), "{}"))
            .unwrap();
    }
    let database = std::fs::read(live.join("state.db")).unwrap();
    let log = std::fs::read(live.join("state.db-wal")).unwrap();
    assert!(log.len() > 40_000);
    let open = |name: &str, log: Option<&[u8]>, shm: bool| {
        let dir = temp.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("state.db"), &database).unwrap();
        if let Some(log) = log {
            std::fs::write(dir.join("state.db-wal"), log).unwrap();
        }
        if shm {
            std::fs::write(dir.join("state.db-shm"), [0xA5; 32_768]).unwrap();
        }
        let opened = survive_in(&dir);
        assert_eq!(opened.lost, None, "{name}");
        opened.last_seq
    };
    assert_eq!(open("whole", Some(&log), false), 30);
    assert_eq!(open("stale-shm", Some(&log), true), 30);
    assert_eq!(open("missing", None, false), 0);
    assert_eq!(open("garbage", Some(&[7; 50_000]), false), 0);
    let mut before = 30;
    for (n, cut) in (0..log.len()).rev().step_by(9_001).enumerate() {
        let seq = open(&format!("cut{n}"), Some(&log[..cut]), false);
        assert!(seq <= before, "cut at {cut}: {seq} after {before}");
        before = seq;
    }
    assert_eq!(before, 0);
}

#[test]
fn odd_things_in_the_place_of_the_file_are_moved_aside() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("a");
    std::fs::create_dir_all(folder.join("state.db/x")).unwrap();
    assert!(survive_in(&folder).lost.is_some());

    let pipe = temp.path().join("b");
    std::fs::create_dir(&pipe).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        pipe.join("state.db"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(survive_in(&pipe).lost.is_some());

    let link = temp.path().join("c");
    std::fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink("nowhere", link.join("state.db")).unwrap();
    let (_, opened) = StateStore::open(&link).unwrap();
    assert!(opened.lost.is_some());
}

/// C12: at every step of moving a damaged file away and writing a fresh one.
#[test]
fn a_crash_during_the_quarantine_is_made_good() {
    let sound = sound();
    let part = |name: &str, files: &[(&str, &[u8])]| -> PathBuf {
        let dir = tempfile::tempdir().unwrap().keep().join(name);
        std::fs::create_dir(&dir).unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        dir
    };
    // Moved away, nothing written yet: still known as lost.
    let dir = part(
        "a",
        &[("state.db.corrupt-1", b"bad"), ("state.db-wal", b"log")],
    );
    assert!(survive_in(&dir).lost.is_some());
    assert_eq!(
        std::fs::read(dir.join("state.db.corrupt-1-wal")).unwrap(),
        b"log"
    );
    // Half a fresh file.
    let dir = part(
        "b",
        &[
            ("state.db.corrupt-1", b"bad"),
            ("state.db.part", &sound[..5000]),
        ],
    );
    assert!(survive_in(&dir).lost.is_some());
    assert!(!dir.join("state.db.part").exists());
    // A complete fresh one beside the old one.
    let dir = part("c", &[("state.db", b"bad"), ("state.db.new", &sound)]);
    assert_eq!(survive_in(&dir).rows.len(), 60);
    assert_eq!(
        std::fs::read(dir.join("state.db.corrupt-1")).unwrap(),
        b"bad"
    );
    // The old one is gone already.
    let dir = part("d", &[("state.db.new", &sound), ("state.db-wal", b"log")]);
    assert_eq!(survive_in(&dir).rows.len(), 60);
}

/// The engine learns of the loss even if the process dies before it did anything about it.
#[test]
fn a_loss_is_told_until_the_first_commit() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("state.db"), "rubbish").unwrap();
    for _ in 0..2 {
        let (store, opened) = StateStore::open(temp.path()).unwrap();
        assert!(opened.lost.unwrap().contains("state.db.corrupt-1"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(store.close());
    }
    survive_in_without_quarantine(temp.path());
}

fn survive_in_without_quarantine(dir: &Path) {
    let (mut live, _) = writer(dir);
    live.commit(&commit(1, "a", "{}")).unwrap();
    drop(live);
    let (_, opened) = StateStore::open(dir).unwrap();
    assert_eq!(opened.lost, None);
}

#[tokio::test]
async fn a_database_that_somebody_took_away_is_no_first_start() {
    let temp = tempfile::tempdir().unwrap();
    let (store, first) = StateStore::open(temp.path()).unwrap();
    assert_eq!(first.lost, None, "a first start is no loss");
    store.commit(commit(1, "a", "{}")).await.unwrap();
    store.close().await;
    std::fs::remove_file(temp.path().join("state.db")).unwrap();
    let (store, again) = StateStore::open(temp.path()).unwrap();
    assert_eq!(again.lost.as_deref(), Some("state.db is missing"));
    store.commit(commit(2, "a", "{}")).await.unwrap();
    store.close().await;
    let (_store, last) = StateStore::open(temp.path()).unwrap();
    assert_eq!(last.lost, None, "said until the first commit");
}
