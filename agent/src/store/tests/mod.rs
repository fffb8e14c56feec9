//! The store as a whole: what survives which accident.

mod damage;
mod degraded;
mod durable;
mod torn;

use super::event::{EventType, NewEvent};
use super::folder::Folder;
use super::state::{Commit, SavedClock, Shared};
use super::writer::Writer;
use std::path::Path;
use std::sync::Arc;
use watchfire_engine::effect::{RecordChange, Table};
use watchfire_engine::model::{Fingerprint, Moment, Now, WallTime};

/// 2025-06-01.
const WALL: u64 = 1_748_736_000_000;

const DAY_MS: u64 = 86_400_000;

/// A commit of one alert row and one transition, at `ms` on all clocks.
fn commit(ms: u64, key: &str, body: &str) -> Commit {
    Commit {
        records: vec![put(Table::Alert, key, body)],
        events: vec![event(ms, EventType::Transition, key)],
        clock: clock(ms),
        plugin_state: Vec::new(),
    }
}

fn put(table: Table, key: &str, body: &str) -> RecordChange {
    RecordChange {
        table,
        key: key.into(),
        body: Some(body.into()),
    }
}

fn delete(table: Table, key: &str) -> RecordChange {
    RecordChange {
        table,
        key: key.into(),
        body: None,
    }
}

fn event(ms: u64, kind: EventType, alert: &str) -> NewEvent {
    NewEvent {
        wall: WallTime(WALL + ms),
        at: Moment(ms),
        kind,
        alert: alert.into(),
        fingerprint: Some(fingerprint(alert)),
        episode: 1,
        correlation: None,
        body: format!("{{\"to\":\"at {ms}\"}}"),
    }
}

fn fingerprint(alert: &str) -> Fingerprint {
    Fingerprint::of(&alert.into(), &Default::default())
}

fn clock(ms: u64) -> SavedClock {
    SavedClock {
        boot_id: "boot".into(),
        boottime_ms: ms,
        moment_ms: ms,
        wall_ms: WALL + ms,
    }
}

fn now(ms: u64) -> Now {
    Now {
        at: Moment(ms),
        wall: WallTime(WALL + ms),
    }
}

/// The core without its threads.
fn writer(dir: &Path) -> (Writer, Arc<Shared>) {
    let shared = Arc::new(Shared::default());
    let folder = Folder::create(dir).unwrap();
    let lock = folder.lock().unwrap();
    let (writer, _) = Writer::open(folder, lock, Arc::clone(&shared)).unwrap();
    (writer, shared)
}
