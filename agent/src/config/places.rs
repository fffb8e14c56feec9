//! Where the tables that use a plugin stand, for what only the plugins themselves can say.

use super::file::{Draft, Files, Place};
use super::finding::{Finding, Level};
use super::raw::{Raw, RawJudge};
use crate::sandbox::types::Kind;
use std::collections::BTreeMap;

/// Every table that uses a plugin, with its place.
#[derive(Clone, Debug)]
pub struct Places {
    files: Files,
    /// By kind and id: of the id, and of the plugin's name where one is written.
    tables: BTreeMap<(Kind, String), (Place, Option<Place>)>,
}

impl Places {
    pub(super) fn new(files: &Files, raw: &Raw) -> Self {
        let mut tables = BTreeMap::new();
        let mut note = |kind, id: &str, places| {
            // The first one holds: packs come last, and their rules yield to the operator's.
            tables.entry((kind, id.to_owned())).or_insert(places);
        };
        for table in &raw.probes {
            note(Kind::Probe, &table.id.value, (table.id.at, table.plugin_at));
        }
        for table in &raw.rules {
            if let RawJudge::Component { plugin_at, .. } = &table.judge {
                note(Kind::Rule, &table.id.value, (table.id.at, *plugin_at));
            }
        }
        for table in &raw.notifiers {
            let places = (table.id.at, table.plugin_at);
            note(Kind::Notifier, &table.id.value, places);
        }
        for table in &raw.recoveries {
            let places = (table.id.at, table.plugin_at);
            note(Kind::Action, &table.id.value, places);
        }
        Places {
            files: files.clone(),
            tables,
        }
    }

    /// A finding at the name of the plugin of a table, or at its id where it names none.
    pub fn at_plugin(
        &self,
        level: Level,
        table: (Kind, &str),
        message: String,
        help: String,
    ) -> Finding {
        let place = self.place(table).map(|(id, plugin)| plugin.unwrap_or(id));
        self.finding(level, table, "plugin", place, (message, help))
    }

    /// A finding at the id of a table.
    pub fn at_id(
        &self,
        level: Level,
        table: (Kind, &str),
        message: String,
        help: String,
    ) -> Finding {
        let place = self.place(table).map(|(id, _)| id);
        self.finding(level, table, "id", place, (message, help))
    }

    fn place(&self, (kind, id): (Kind, &str)) -> Option<(Place, Option<Place>)> {
        self.tables.get(&(kind, id.to_owned())).copied()
    }

    /// What stands nowhere, as a dropped-in probe without a table, is told of the main file as a whole.
    fn finding(
        &self,
        level: Level,
        (kind, id): (Kind, &str),
        key: &str,
        at: Option<Place>,
        (message, help): (String, String),
    ) -> Finding {
        let draft = Draft {
            at: at.unwrap_or_default(),
            key: format!("{}[{id}].{key}", kind.table()),
            message,
            help: (!help.is_empty()).then_some(help),
            absence: false,
        };
        let mut finding = self.files.finding(level, draft);
        if at.is_none() {
            (finding.line, finding.column) = (0, 0);
        }
        finding
    }
}
