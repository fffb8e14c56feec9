//! The schema of `state.db` and the steps from one version to the next.
//!
//! `PRAGMA user_version` counts the steps taken; it changes in the transaction of its step, so a
//! crash leaves the old version or the new one. A released step never changes: append another.

use rusqlite::Connection;

/// Marks the file as ours (`wfir`), so that another program's database is not taken for damage of ours.
pub(super) const APPLICATION_ID: i32 = 0x7766_6972;

/// What this agent can read and write.
pub(super) const KNOWN: i32 = STEPS.len() as i32;

/// Step `n` leads from version `n` to `n + 1`.
const STEPS: &[&str] = &[r"
CREATE TABLE alert              (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE outbox             (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE notification_group (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE attempt            (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE silence            (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE engine             (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE event (
    seq         INTEGER PRIMARY KEY,
    wall_ms     INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    type        TEXT NOT NULL,
    alert       TEXT NOT NULL,
    fingerprint TEXT,
    episode     INTEGER NOT NULL,
    correlation TEXT,
    body        TEXT NOT NULL
) STRICT;
CREATE INDEX event_type  ON event (type);
CREATE INDEX event_age   ON event (type, wall_ms);
CREATE INDEX event_alert ON event (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE TABLE plugin_state (
    id    TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (id, key)
) STRICT;
CREATE TABLE config (position INTEGER PRIMARY KEY, path BLOB NOT NULL, text TEXT NOT NULL) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
"];

/// Takes the steps from `version` to [`KNOWN`], each in a transaction of its own.
pub(super) fn migrate(conn: &mut Connection, version: i32) -> rusqlite::Result<()> {
    for (to, step) in (1_i32..).zip(STEPS).filter(|(to, _)| *to > version) {
        let tx = conn.transaction()?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", to)?;
        tx.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_engine::effect::Table;

    #[test]
    fn every_table_of_the_engine_has_a_table() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, 0).unwrap();
        for table in Table::ALL {
            let rows: i64 = conn
                .query_row(
                    &format!("SELECT count(*) FROM {}", table.name()),
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            assert_eq!(rows, 0, "{table:?}");
        }
        let version: i32 = conn
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, KNOWN);
    }
}
