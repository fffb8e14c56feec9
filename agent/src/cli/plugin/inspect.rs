//! `watchfire plugin inspect`: what a component is, can reach and wants, in plain words.

use super::load::{Ready, load};
use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::{Paint, Screen, bytes};
use crate::error::Failure;
use crate::sandbox::{HostConfig, wants};
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Options of `plugin inspect`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A component, or the name of a stock plugin
    file: PathBuf,
    /// Link all of WASI, refusing everything: for run times that import it unused
    #[arg(long)]
    stub_wasi: bool,
}

/// What an import means, and whether a grant decides over it.
const POWERS: [(&str, &str, bool); 13] = [
    ("log", "write to the agent's log", false),
    ("state", "keep a little of its own over restarts", false),
    ("events", "write events to the history", false),
    (
        "system",
        "read figures, processes and services of this host",
        true,
    ),
    ("files", "read files", true),
    ("http", "make HTTP requests", true),
    ("tcp", "open TCP connections and unix sockets", true),
    ("dns", "ask name servers", true),
    ("mail", "send mail through the configured server", true),
    ("secrets", "read secrets in plain text", true),
    (
        "commands",
        "run commands that the configuration writes down",
        true,
    ),
    (
        "control",
        "control services, signal processes, delete files",
        true,
    ),
    (
        "wasi",
        "use the standard library: clocks, random numbers, output",
        false,
    ),
];

pub(super) fn inspect(args: &Args, global: &Global) -> Result<(), Failure> {
    let ready = Client::block_on(load(&args.file, args.stub_wasi, HostConfig::default()))?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&document(&ready));
    }
    screen.print(&words(&ready, screen))
}

fn document(ready: &Ready) -> Value {
    let schema = ready.description.config_schema.as_deref();
    json!({
        "name": ready.name,
        "kinds": ready.component.kinds(),
        "size_bytes": ready.bytes,
        "sha256": ready.sha256,
        "compile_ms": u64::try_from(ready.compile_time.as_millis()).unwrap_or(u64::MAX),
        "imports": ready.component.imports(),
        "description": {
            "name": ready.description.name,
            "version": ready.description.version,
            "summary": ready.description.summary,
            "wants": ready.description.wants,
            "extra": ready.description.extra.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        },
        "config_schema": schema.map(|text| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into())),
        "grant": wants(&ready.description),
    })
}

fn words(ready: &Ready, screen: Screen) -> String {
    let description = &ready.description;
    let kinds: Vec<&str> = ready
        .component
        .kinds()
        .iter()
        .map(|kind| kind.name())
        .collect();
    let mut out = format!(
        "{} {}: {}\n  a {}, {}, sha256 {}, compiled in {} ms\n",
        screen.paint(Paint::Bold, &printable(&description.name)),
        printable(&description.version),
        printable(&description.summary),
        kinds.join(" and "),
        bytes(ready.bytes as u64),
        ready.sha256,
        ready.compile_time.as_millis(),
    );
    for (title, granted) in [
        ("It can always", false),
        ("It can, where a grant allows it", true),
    ] {
        let can: Vec<&str> = POWERS
            .iter()
            .filter(|(name, _, needs)| {
                *needs == granted && imports(ready.component.imports(), name)
            })
            .map(|(_, words, _)| *words)
            .collect();
        if !can.is_empty() {
            out.push_str(&format!("\n{title}\n"));
            can.iter()
                .for_each(|words| out.push_str(&format!("  {words}\n")));
        }
    }
    let other: Vec<&String> = ready
        .component
        .imports()
        .iter()
        .filter(|import| {
            let import = std::slice::from_ref(*import);
            !POWERS.iter().any(|(name, ..)| imports(import, name)) && !imports(import, "types")
        })
        .collect();
    if !other.is_empty() {
        out.push_str("\nIt also imports\n");
        other
            .iter()
            .for_each(|import| out.push_str(&format!("  {}\n", printable(import))));
    }
    let grant = wants(description);
    if grant.is_empty() {
        out.push_str("\nIt asks for no grant.\n");
    } else {
        out.push_str("\nIt asks for this; nothing of it is allowed until you write it down, and less is allowed, too:\n");
        grant
            .lines()
            .for_each(|line| out.push_str(&format!("  {}\n", printable(line))));
    }
    if let Some(schema) = &description.config_schema {
        out.push_str("\nKeys of its table\n");
        out.push_str(&keys(schema));
    }
    out
}

/// Whether one of these imports belongs to an interface of ours, or to WASI.
fn imports(all: &[String], name: &str) -> bool {
    all.iter().any(|import| {
        let package = if name == "wasi" {
            return import.starts_with("wasi:");
        } else {
            "watchfire:plugin/"
        };
        let interface = import.strip_prefix(package);
        interface.is_some_and(|i| i.split('@').next() == Some(name))
    })
}

/// Keys of a JSON Schema, one a line; the schema itself where it is of another shape.
fn keys(schema: &str) -> String {
    let parsed: Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = parsed["properties"].as_object() else {
        return format!("  {}\n", printable(schema));
    };
    let required = parsed["required"].as_array();
    let mut out = String::new();
    for (key, property) in properties {
        let kind = match &property["type"] {
            Value::String(kind) => printable(kind),
            Value::Null => "any".to_owned(),
            other => printable(&other.to_string()),
        };
        let must = required.is_some_and(|all| all.iter().any(|name| name == key));
        let must = if must { ", required" } else { "" };
        let about = printable(property["description"].as_str().unwrap_or(""));
        let line = format!("  {} ({kind}{must})  {about}", printable(key));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_told_apart_by_interface() {
        let all = ["watchfire:plugin/http@0.1.0", "wasi:io/poll@0.2.6"].map(str::to_owned);
        assert!(imports(&all, "http") && imports(&all, "wasi"));
        assert!(!imports(&all, "tcp") && !imports(&all, "htt"));
    }

    #[test]
    fn a_schema_becomes_lines() {
        let schema = r#"{"properties":{"url":{"type":"string","description":"Where\u001b"},"n":{}},"required":["url"]}"#;
        assert_eq!(
            keys(schema),
            "  n (any)\n  url (string, required)  Where\\u{1b}\n"
        );
        assert_eq!(keys("nothing"), "  nothing\n");
    }
}
