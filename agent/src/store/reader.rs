//! The thread that answers queries, beside the one that writes.

use super::event::{EventType, StoredEvent};
use super::folder::Folder;
use super::query::{self, KnownAlert, Stats};
use super::rows;
use super::state::{Shared, StoreError, lock};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use watchfire_engine::model::Fingerprint;

/// Work of the reading thread.
pub(super) enum Read {
    Events(Asked, oneshot::Sender<Result<Vec<StoredEvent>, StoreError>>),
    Known(String, oneshot::Sender<Result<Vec<KnownAlert>, StoreError>>),
    Stats(oneshot::Sender<Result<Stats, StoreError>>),
    Rest(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// Which events.
pub(super) enum Asked {
    Since {
        since: u64,
        types: Vec<EventType>,
        limit: usize,
    },
    OfAlert(Fingerprint),
    OfAlertFrom(Fingerprint, u64),
    Openings {
        before: u64,
        limit: usize,
    },
    StatesAt(u64),
}

/// The reading thread.
pub(super) fn run(folder: &Folder, shared: &Shared, mut queue: mpsc::Receiver<Read>) {
    let mut open = None;
    while let Some(work) = queue.blocking_recv() {
        if open.is_none() && matches!(work, Read::Rest(_)) {
            continue;
        }
        let generation = shared.generation.load(Ordering::Acquire);
        if open.as_ref().is_none_or(|(of, _)| *of != generation) {
            open = Some((generation, query::open(&folder.database())));
        }
        let conn = match open.take() {
            Some((_, Ok(conn))) => Ok(conn),
            Some((_, Err(e))) => Err(StoreError::Query(e)),
            None => Err(StoreError::Closed),
        };
        let conn = match (work, conn) {
            (Read::Close(reply), conn) => {
                drop(conn);
                let _ = reply.send(());
                return;
            }
            (Read::Rest(reply), conn) => {
                let conn = conn.ok().inspect(rows::shrink);
                let _ = reply.send(());
                conn
            }
            (Read::Stats(reply), conn) => {
                let (answer, conn) = with(conn, |conn| query::stats(conn, folder));
                let _ = reply.send(answer.map(|stats| Stats {
                    last_seq: shared.last_seq.load(Ordering::Acquire),
                    buffered: lock(&shared.buffer).len(),
                    dropped: lock(&shared.health).dropped,
                    ..stats
                }));
                conn
            }
            (Read::Known(text, reply), conn) => {
                let (answer, conn) = with(conn, |conn| query::known_alerts(conn, &text));
                let _ = reply.send(answer);
                conn
            }
            (Read::Events(asked, reply), conn) => {
                let (answer, conn) = with(conn, |conn| match &asked {
                    Asked::Since {
                        since,
                        types,
                        limit,
                    } => query::events(conn, *since, types, *limit),
                    Asked::OfAlert(fingerprint) => query::events_of_alert(conn, *fingerprint),
                    Asked::OfAlertFrom(fingerprint, from) => {
                        query::events_of_alert_from(conn, *fingerprint, *from)
                    }
                    Asked::Openings { before, limit } => query::openings(conn, *before, *limit),
                    Asked::StatesAt(at) => query::states_at(conn, *at),
                });
                let _ = reply.send(with_buffer(answer, &asked, shared));
                conn
            }
        };
        // A connection that failed is opened anew for the next query.
        open = conn.map(|conn| (generation, Ok(conn)));
    }
}

fn with<T>(
    conn: Result<rusqlite::Connection, StoreError>,
    ask: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
) -> (Result<T, StoreError>, Option<rusqlite::Connection>) {
    match conn {
        Err(e) => (Err(e), None),
        Ok(conn) => match ask(&conn) {
            Ok(answer) => (Ok(answer), Some(conn)),
            Err(e) => (Err(StoreError::Query(e)), None),
        },
    }
}

/// Adds the events that wait for the disk; where the disk cannot be read, they are the answer.
fn with_buffer(
    answer: Result<Vec<StoredEvent>, StoreError>,
    asked: &Asked,
    shared: &Shared,
) -> Result<Vec<StoredEvent>, StoreError> {
    let buffer = lock(&shared.buffer);
    if buffer.is_empty() {
        return answer;
    }
    let mut all = answer.unwrap_or_default();
    let after = all.iter().map(|event| event.seq).max().unwrap_or(0);
    let waiting = buffer.iter().filter(|waiting| waiting.seq > after).cloned();
    match asked {
        Asked::Since {
            since,
            types,
            limit,
        } => {
            let fits = |e: &StoredEvent| {
                e.seq > *since && (types.is_empty() || types.contains(&e.event.kind))
            };
            all.extend(waiting.filter(fits));
            all.truncate((*limit).min(query::LIMIT_MAX));
        }
        Asked::OfAlert(alert) => {
            all.extend(waiting.filter(|e| e.event.fingerprint == Some(*alert)));
            let surplus = all.len().saturating_sub(query::LIMIT_MAX);
            all.drain(..surplus);
        }
        Asked::OfAlertFrom(alert, from) => {
            all.extend(waiting.filter(|e| e.event.fingerprint == Some(*alert) && e.seq >= *from));
            all.truncate(query::LIMIT_MAX);
        }
        Asked::Openings { before, limit } => {
            all.extend(waiting.filter(|e| e.seq < *before && e.opens_an_episode()));
            all.sort_by_key(|e| std::cmp::Reverse(e.seq));
            all.truncate((*limit).min(query::LIMIT_MAX));
        }
        Asked::StatesAt(at) => {
            let fits = |e: &StoredEvent| e.event.kind == EventType::Transition && e.seq <= *at;
            all.extend(waiting.filter(fits));
            let newest: BTreeMap<_, _> = all.iter().map(|e| (e.event.fingerprint, e.seq)).collect();
            all.retain(|e| newest.get(&e.event.fingerprint) == Some(&e.seq));
        }
    }
    Ok(all)
}
