//! `watchfire plugin list`.

use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::{Screen, bytes};
use crate::cli::table::{Table, cell, word};
use crate::error::Failure;
use serde_json::Value;

pub(super) fn list(global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let plugins = Client::block_on(client.get("/api/v1/plugins"))?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&plugins);
    }
    screen.print(&render(&plugins, screen))
}

fn render(plugins: &Value, screen: Screen) -> String {
    let mut table = Table::new(&[
        "plugin", "version", "kinds", "state", "origin", "size", "sha256", "used by", "calls",
        "failed",
    ]);
    let mut notes = String::new();
    for plugin in plugins.as_array().into_iter().flatten() {
        let text = |key: &str| plugin[key].as_str().unwrap_or("-");
        let name = text("name");
        let state = if !plugin["quarantined"].is_null() {
            "quarantined"
        } else if !plugin["rejected"].is_null() {
            "rejected"
        } else if plugin["running"] == true {
            "running"
        } else {
            "waiting"
        };
        let mut note = |what: &str, why: &Value| {
            if let Some(why) = why.as_str() {
                let (name, why) = (
                    crate::telemetry::printable(name),
                    crate::telemetry::printable(why),
                );
                notes.push_str(&format!("{name}: {what}: {why}\n"));
            }
        };
        let goes_on = if plugin["running"] == true {
            "a newer file was refused, the version before goes on"
        } else {
            "refused"
        };
        note(goes_on, &plugin["rejected"]["reason"]);
        note("quarantined", &plugin["quarantined"]["message"]);
        let words = |value: &Value, key: Option<&str>| {
            let all = value.as_array().into_iter().flatten();
            let all = all.filter_map(|v| key.map_or(v, |key| &v[key]).as_str());
            all.collect::<Vec<_>>().join(",")
        };
        table.row([
            cell(name),
            cell(text("version")),
            cell(words(&plugin["kinds"], None)),
            word(state),
            cell(text("origin")),
            cell(
                plugin["size_bytes"]
                    .as_u64()
                    .map_or_else(|| "-".to_owned(), bytes),
            ),
            cell(text("sha256").get(..12).unwrap_or("-")),
            cell(words(&plugin["uses"], Some("id"))),
            cell(plugin["calls"].to_string()),
            cell(plugin["failures"].to_string()),
        ]);
    }
    if table.is_empty() {
        return "no plugins\n".to_owned();
    }
    let mut out = table.render(screen);
    if !notes.is_empty() {
        out.push('\n');
        out.push_str(&notes);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{PluginStatus, PluginUse, Rejection};
    use serde_json::json;

    #[test]
    fn a_refused_file_and_its_reason_are_seen() {
        let plugin = PluginStatus {
            name: "probe-x".to_owned(),
            version: Some("1.0\u{1b}[0m".to_owned()),
            kinds: vec!["probe".to_owned()],
            origin: "stock".to_owned(),
            sha256: Some("0123456789abcdef".to_owned()),
            size_bytes: Some(2048),
            running: true,
            rejected: Some(Rejection {
                reason: "not a component".to_owned(),
                ..Rejection::default()
            }),
            uses: vec![PluginUse {
                kind: "probe".to_owned(),
                id: "x".to_owned(),
                ..PluginUse::default()
            }],
            calls: 9,
            ..PluginStatus::default()
        };
        assert_eq!(
            render(&json!([plugin]), Screen::plain()),
            "PLUGIN   VERSION       KINDS  STATE     ORIGIN  SIZE     SHA256        USED BY  CALLS  FAILED\n\
             probe-x  1.0\\u{1b}[0m  probe  rejected  stock   2.0 KiB  0123456789ab  x        9      0\n\n\
             probe-x: a newer file was refused, the version before goes on: not a component\n"
        );
        assert_eq!(render(&json!([]), Screen::plain()), "no plugins\n");
    }
}
