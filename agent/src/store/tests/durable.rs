//! What was committed is there again, and can be asked for.

use super::*;
use crate::store::{Keep, LIMIT_MAX, OpenError, Opened, StateStore, StoreError};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

#[tokio::test]
async fn everything_comes_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let (store, opened) = StateStore::open(&dir).unwrap();
    assert_eq!(opened, Opened::default());
    let first = store
        .commit(Commit {
            records: vec![
                put(Table::Alert, "a", "{\"n\":1}"),
                put(Table::Outbox, "a", "{\"n\":2}"),
                put(Table::Silence, "s", "{}"),
            ],
            events: vec![
                event(10, EventType::Transition, "cpu"),
                event(10, EventType::Notification, "cpu"),
            ],
            clock: clock(10),
            plugin_state: vec![
                ("disk".into(), "cursor".into(), Some(vec![0, 255])),
                ("disk".into(), "gone".into(), Some(vec![1])),
            ],
        })
        .await
        .unwrap();
    assert_eq!((first.first_seq, first.last_seq), (1, 2));
    assert_eq!(first.events[1].seq, 2);
    let second = store
        .commit(Commit {
            records: vec![
                put(Table::Alert, "a", "{\"n\":3}"),
                delete(Table::Silence, "s"),
                delete(Table::Group, "never there"),
            ],
            clock: clock(20),
            plugin_state: vec![("disk".into(), "gone".into(), None)],
            ..Commit::default()
        })
        .await
        .unwrap();
    assert_eq!((second.first_seq, second.last_seq), (3, 2));
    let texts = vec![
        (PathBuf::from("/etc/watchfire.toml"), "a = 1".to_owned()),
        (PathBuf::from("rules/x.toml"), String::new()),
    ];
    store
        .save_config(vec![("old".into(), "old".into())])
        .await
        .unwrap();
    store.save_config(texts.clone()).await.unwrap();
    assert_eq!(store.health().commits, 2);
    assert_eq!(store.health().degraded, None);
    store.close().await;
    let closed = store.commit(Commit::default()).await;
    assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");

    let (_store, opened) = StateStore::open(&dir).unwrap();
    assert_eq!(
        opened,
        Opened {
            rows: vec![
                (Table::Alert, "a".into(), "{\"n\":3}".into()),
                (Table::Outbox, "a".into(), "{\"n\":2}".into()),
            ],
            clock: Some(clock(20)),
            plugin_state: [("disk".into(), [("cursor".into(), vec![0, 255])].into())].into(),
            last_good_config: Some(texts),
            last_seq: 2,
            lost: None,
        }
    );
    let mode = std::fs::metadata(dir.join("state.db"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_second_instance_is_refused_and_the_first_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = StateStore::open(temp.path()).unwrap();
    match StateStore::open(temp.path()) {
        Err(error @ OpenError::InUse { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains(&format!("process {}", std::process::id())),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    store.commit(commit(1, "a", "{}")).await.unwrap();
    store.close().await;
    StateStore::open(temp.path()).unwrap();
}

#[test]
fn a_newer_schema_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    drop(writer(temp.path()));
    let path = temp.path().join("state.db");
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let before = std::fs::read(&path).unwrap();
    match StateStore::open(temp.path()) {
        Err(OpenError::Newer { found, known, .. }) => assert_eq!((found, known), (99, 1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "").unwrap();
    match StateStore::open(&file.join("data")) {
        Err(OpenError::Folder { dir, .. }) => assert_eq!(dir, file.join("data")),
        other => panic!("{other:?}"),
    }
}

/// kill -9 at any point between commits: the copy of all files holds every commit that was answered.
#[test]
fn a_copy_taken_at_any_commit_holds_that_commit() {
    let temp = tempfile::tempdir().unwrap();
    let (mut live, _) = writer(&temp.path().join("live"));
    for n in 1..=40_u64 {
        // Long bodies, so that the log is checkpointed in between.
        let body = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(60_000));
        live.commit(&commit(n, &format!("k{}", n % 7), &body))
            .unwrap();
        let copy = temp.path().join(format!("copy{n}"));
        std::fs::create_dir(&copy).unwrap();
        for name in ["state.db", "state.db-wal"] {
            std::fs::copy(temp.path().join("live").join(name), copy.join(name)).unwrap();
        }
        let (_, opened) = StateStore::open(&copy).unwrap();
        assert_eq!(opened.lost, None);
        assert_eq!(opened.last_seq, n);
        assert_eq!(opened.clock, Some(clock(n)));
        let newest = (Table::Alert, format!("k{}", n % 7), body);
        assert!(opened.rows.contains(&newest), "commit {n}");
        std::fs::remove_dir_all(&copy).ok();
    }
}

#[tokio::test]
async fn the_history_is_read_by_sequence_type_and_alert() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = StateStore::open(temp.path()).unwrap();
    for n in 1..=6 {
        let alert = if n % 2 == 0 { "even" } else { "odd" };
        let mut events = vec![event(n, EventType::Transition, alert)];
        if n == 3 {
            events.push(event(n, EventType::Reload, ""));
        }
        let commit = Commit {
            events,
            clock: clock(n),
            ..Commit::default()
        };
        store.commit(commit).await.unwrap();
    }
    let seqs = |all: Vec<crate::store::StoredEvent>| -> Vec<u64> {
        all.iter().map(|stored| stored.seq).collect()
    };
    assert_eq!(seqs(store.events(0, &[], 3).await.unwrap()), [1, 2, 3]);
    assert_eq!(seqs(store.events(5, &[], 10).await.unwrap()), [6, 7]);
    let reloads = store.events(0, &[EventType::Reload], 10).await.unwrap();
    assert_eq!(seqs(reloads), [4]);
    assert!(store.events(u64::MAX, &[], 10).await.unwrap().is_empty());
    let even = store.events_of_alert(fingerprint("even")).await.unwrap();
    assert_eq!(seqs(even), [2, 5, 7]);
    assert_eq!(seqs(store.states_at(5).await.unwrap()), [3, 5]);
    assert_eq!(seqs(store.states_at(u64::MAX).await.unwrap()), [6, 7]);
    assert_eq!(store.last_seq(), 7);

    let stats = store.stats().await.unwrap();
    assert_eq!(
        (stats.events, stats.last_seq, stats.oldest_seq),
        (7, 7, Some(1))
    );
    assert_eq!(stats.types["transition"].events, 6);
    assert_eq!(stats.types["transition"].oldest_ms, WALL + 1);
    assert_eq!(stats.types["reload"].newest_ms, WALL + 3);
    assert!(stats.bytes > 0);

    let many = Commit {
        events: vec![event(9, EventType::System, ""); LIMIT_MAX + 5],
        clock: clock(9),
        ..Commit::default()
    };
    store.commit(many).await.unwrap();
    assert_eq!(
        store.events(0, &[], usize::MAX).await.unwrap().len(),
        LIMIT_MAX
    );
}

const KEEP: Keep = Keep {
    alerts: Duration::from_secs(180 * 86_400),
    others: Duration::from_secs(30 * 86_400),
};

#[tokio::test]
async fn old_events_go_by_class_and_sequence_numbers_rise_on() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = StateStore::open(temp.path()).unwrap();
    let mut events = Vec::new();
    for day in [0, 100, 199] {
        events.push(event(day * DAY_MS, EventType::Transition, "a"));
        events.push(event(day * DAY_MS, EventType::System, ""));
    }
    // More than one batch.
    events.splice(0..0, vec![event(0, EventType::Plugin, ""); 4_500]);
    let all = Commit {
        events,
        clock: clock(199 * DAY_MS),
        ..Commit::default()
    };
    store.commit(all).await.unwrap();

    let cleaned = store.cleanup(now(200 * DAY_MS), KEEP).await.unwrap();
    assert_eq!((cleaned.deleted, cleaned.unsound), (4_500 + 3, None));
    let left = store.events(0, &[], 10).await.unwrap();
    let left: Vec<_> = left
        .iter()
        .map(|e| (e.event.kind, e.event.at.0 / DAY_MS))
        .collect();
    assert_eq!(
        left,
        [
            (EventType::Transition, 100),
            (EventType::Transition, 199),
            (EventType::System, 199)
        ]
    );

    // Even the newest goes, and its number is not given again, nor after a restart.
    let cleaned = store.cleanup(now(999 * DAY_MS), KEEP).await.unwrap();
    assert_eq!(cleaned.deleted, 3);
    let next = store
        .commit(commit(1000 * DAY_MS, "a", "{}"))
        .await
        .unwrap();
    assert_eq!(next.first_seq, 4_507);
    store.cleanup(now(1999 * DAY_MS), KEEP).await.unwrap();
    store.close().await;
    let (store, opened) = StateStore::open(temp.path()).unwrap();
    assert_eq!(opened.last_seq, 4_507);
    assert_eq!(store.last_seq(), 4_507);
}

#[tokio::test]
async fn an_unsound_wall_clock_deletes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = StateStore::open(temp.path()).unwrap();
    store.commit(commit(DAY_MS, "a", "{}")).await.unwrap();
    for (at_ms, wall_ms, unsound) in [
        // 1970, at boot.
        (500 * DAY_MS, DAY_MS, true),
        // Behind the newest event.
        (500 * DAY_MS, WALL, true),
        // Ten years ahead, while the agent's own timeline stands.
        (2 * DAY_MS, WALL + 3_650 * DAY_MS, false),
    ] {
        let now = Now {
            at: Moment(at_ms),
            wall: WallTime(wall_ms),
        };
        let cleaned = store.cleanup(now, KEEP).await.unwrap();
        assert_eq!(
            (cleaned.deleted, cleaned.unsound.is_some()),
            (0, unsound),
            "{now:?}"
        );
    }
    assert_eq!(store.events(0, &[], 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn episodes_and_alerts_are_found_again() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = StateStore::open(temp.path()).unwrap();
    let turn = |ms: u64, alert: &str, from: &str, to: &str| NewEvent {
        body: format!("{{\"from\":\"{from}\",\"to\":\"{to}\"}}"),
        ..event(ms, EventType::Transition, alert)
    };
    let events = vec![
        turn(1, "disk{m=\"/\"}", "ok", "pending"),
        turn(2, "disk{m=\"/\"}", "pending", "firing:high"),
        turn(3, "disk{m=\"/\"}", "firing:high", "firing:critical"),
        turn(4, "diskette", "ok", "firing:low"),
        turn(5, "disk{m=\"/\"}", "firing:critical", "ok"),
        turn(6, "disk{m=\"/\"}", "ok", "firing:high"),
    ];
    let mut all = commit(6, "a", "{}");
    all.events = events;
    store.commit(all).await.unwrap();
    let seqs =
        |events: Vec<crate::store::StoredEvent>| events.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(seqs(store.openings(u64::MAX, 10).await.unwrap()), [6, 4, 2]);
    assert_eq!(seqs(store.openings(6, 1).await.unwrap()), [4]);
    let disk = fingerprint("disk{m=\"/\"}");
    assert_eq!(
        seqs(store.events_of_alert_from(disk, 3).await.unwrap()),
        [3, 5, 6]
    );
    let names = async |text: &str| {
        let known = store.known_alerts(text.to_owned()).await.unwrap();
        known
            .into_iter()
            .map(|known| known.alert)
            .collect::<Vec<_>>()
    };
    let whole = "disk{m=\"/\"}";
    for text in ["disk", whole, &disk.to_string()[..8], &disk.to_string()] {
        assert_eq!(names(text).await, [whole], "{text}");
    }
    assert_eq!(names("dis").await, [""; 0]);
    assert_eq!(names("%").await, [""; 0]);
}
