//! C12 of reliability.md: a damaged `state.db` is set aside, and the process dies between any two of the
//! steps of that. Whatever was done already, the next start ends in the same: the original bytes lie
//! aside once, with their log; at most three are kept; the loss is told until something is committed; and
//! no start after that moves anything again.

use std::collections::BTreeMap;
use std::path::Path;
use watchfire::store::{Commit, Opened, SavedClock, StateStore};
use watchfire_engine::effect::{RecordChange, Table};

/// What the process had done when it died, in the order in which it does them.
const STEPS: [&str; 6] = [
    "nothing",
    "the database moved",
    "its log moved",
    "the oldest one removed",
    "half of a fresh database written",
    "a fresh database complete, not in place",
];

/// Opens the store, uses it and closes it; the log is copied before closing empties it.
fn with_store<T>(dir: &Path, uses: impl AsyncFnOnce(&StateStore, &Opened) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let (store, opened) = StateStore::open(dir).expect("the store opens");
    let result = runtime.block_on(uses(&store, &opened));
    runtime.block_on(store.close());
    result
}

fn commit(key: &str) -> Commit {
    Commit {
        records: vec![RecordChange {
            table: Table::Alert,
            key: key.to_owned(),
            body: Some("{}".to_owned()),
        }],
        events: Vec::new(),
        clock: SavedClock::default(),
        plugin_state: Vec::new(),
    }
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

/// The files set aside, with their bytes.
fn aside(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("the folder");
    let named = entries.map(|entry| entry.expect("an entry").path());
    let corrupt = named.filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        name.contains("corrupt")
            .then(|| (name, bytes(&path).unwrap_or_default()))
    });
    corrupt.collect()
}

/// A used store whose database was overwritten here and there, as the process left it, beside `older`
/// damaged ones.
fn damaged(dir: &Path, older: usize) {
    let used = tempfile::tempdir().expect("a folder");
    with_store(used.path(), async |store, _| {
        store.commit(commit("before")).await.expect("a commit");
        for name in ["state.db", "state.db-wal", "reserve"] {
            std::fs::copy(used.path().join(name), dir.join(name)).expect("a copy");
        }
    });
    let database = dir.join("state.db");
    let mut text = bytes(&database).expect("the database");
    text.iter_mut().step_by(64).for_each(|byte| *byte ^= 0xff);
    std::fs::write(&database, text).expect("damage");
    for number in 1..=older {
        let name = dir.join(format!("state.db.corrupt-{number}"));
        std::fs::write(name, format!("older {number}")).expect("a file");
    }
}

/// Does the first `steps` of what a start does with a damaged database, with `fresh` as what it would
/// write.
fn begin(dir: &Path, steps: usize, older: usize, fresh: &[u8]) {
    let at = |name: &str| dir.join(name);
    let number = older + 1;
    let rename = |from: &str, to: String| std::fs::rename(at(from), at(&to)).expect("a rename");
    if steps >= 1 {
        rename("state.db", format!("state.db.corrupt-{number}"));
    }
    if steps >= 2 {
        rename("state.db-wal", format!("state.db.corrupt-{number}-wal"));
    }
    if steps >= 3 && older >= 3 {
        std::fs::remove_file(at("state.db.corrupt-1")).expect("the oldest");
    }
    if steps == 4 {
        std::fs::write(at("state.db.part"), &fresh[..fresh.len() / 2]).expect("half a file");
    }
    if steps >= 5 {
        std::fs::write(at("state.db.new"), fresh).expect("a file");
    }
}

/// Dies after `steps`, and again before anything is committed; then goes on.
fn dies_after(steps: usize, older: usize) {
    let how = format!("died with {} ({older} older ones)", STEPS[steps]);
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path();
    damaged(dir, older);
    let original = bytes(&dir.join("state.db"));
    let log = bytes(&dir.join("state.db-wal"));
    assert!(
        log.as_ref().is_some_and(|log| !log.is_empty()),
        "a log was left"
    );
    let fresh = {
        let other = tempfile::tempdir().expect("a folder");
        damaged(other.path(), 0);
        with_store(other.path(), async |_, opened| {
            assert!(opened.lost.is_some())
        });
        assert!(bytes(&other.path().join("state.db-wal")).is_none_or(|log| log.is_empty()));
        bytes(&other.path().join("state.db")).expect("the fresh one")
    };
    begin(dir, steps, older, &fresh);

    let newest = format!("state.db.corrupt-{}", older + 1);
    let mut kept = None;
    for start in 1..=2 {
        with_store(dir, async |_, opened| {
            assert!(
                opened.lost.is_some(),
                "start {start} after it {how} tells of the loss"
            );
            assert_eq!(opened.rows, [], "{how}");
        });
        let now = aside(dir);
        let kept_as = |name: &str, bytes: &Option<Vec<u8>>| now.get(name) == bytes.as_ref();
        assert!(kept_as(&newest, &original), "{how}: the original bytes");
        let newest_log = format!("{newest}-wal");
        assert!(kept_as(&newest_log, &log), "{how}: and their log");
        let databases = now.keys().filter(|name| !name.ends_with("-wal")).count();
        assert_eq!(databases, (older + 1).min(3), "{how}: {:?}", now.keys());
        assert!(
            kept.is_none_or(|kept| kept == now),
            "{how}: a second start moves nothing"
        );
        kept = Some(now);
    }
    with_store(dir, async |store, _| {
        store.commit(commit("after")).await.expect("a commit")
    });
    with_store(dir, async |_, opened| {
        assert_eq!(opened.lost, None, "{how}");
        let keys: Vec<&str> = opened.rows.iter().map(|(_, key, _)| &**key).collect();
        assert_eq!(keys, ["after"], "{how}");
    });
    assert!(kept == Some(aside(dir)), "{how}: nothing moves any more");
}

#[test]
fn a_quarantine_that_was_cut_off_is_finished_once() {
    for steps in 0..STEPS.len() {
        for older in [0, 3] {
            dies_after(steps, older);
        }
    }
}
