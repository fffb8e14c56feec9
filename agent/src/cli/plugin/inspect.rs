//! `watchfire plugin inspect`: what a stranger's component is, could reach and asks for, in plain words, before
//! it runs with any grant. It is only asked who it is, in the sandbox and with nothing granted.

use super::load::{Ready, load_strange};
use super::powers::{POWERS, Power, Wish};
use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::{Paint, Screen, bytes};
use crate::config::{self, Environment, Lock, PluginRequest};
use crate::error::Failure;
use crate::plugin::folder::is_plugin_name;
use crate::sandbox::types::Kind;
use crate::sandbox::{CONTRACT, HostConfig, wants};
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// Options of `plugin inspect`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(super) config: crate::cli::ConfigArg,
    /// A component, or the name of a stock plugin
    file: PathBuf,
    /// Link all of WASI, refusing everything: for run times that import it unused
    #[arg(long)]
    stub_wasi: bool,
    /// What it asks for beyond what `watchfire.lock` beside the configuration has of it; exit code 1 where it does
    #[arg(long)]
    diff: bool,
}

pub(super) fn inspect(args: &Args, global: &Global) -> Result<(), Failure> {
    let loading = load_strange(&args.file, args.stub_wasi, HostConfig::default());
    let (ready, silent) = Client::block_on(loading)?;
    let report = Report {
        difference: args.diff.then(|| difference(&ready, global)).transpose()?,
        ready,
        silent,
    };
    let screen = Screen::of_stdout(global.json);
    if global.json {
        screen.print_json(&report.document())?;
    } else {
        screen.print(&report.words(screen))?;
    }
    let differs = report
        .difference
        .is_some_and(|difference| difference.is_more());
    if differs {
        Err(Failure::said())
    } else {
        Ok(())
    }
}

/// What there is to say of one component.
struct Report {
    ready: Ready,
    /// Why it does not say who it is.
    silent: Option<String>,
    difference: Option<Difference>,
}

/// How a component compares with its entry in the lock.
enum Difference {
    NotLocked,
    Same,
    /// Another file; what it asks for beyond, one phrase each.
    Other(Vec<String>),
}

impl Difference {
    fn of(lock: &Lock, ready: &Ready) -> Self {
        let digest = ready.component.sha256();
        let request = request(ready);
        match lock.plugins.get(&*ready.name) {
            None => Difference::NotLocked,
            Some(locked) if locked.sha256 == digest && locked.request == request => {
                Difference::Same
            }
            Some(locked) => Difference::Other(request.beyond(&locked.request)),
        }
    }

    fn is_more(&self) -> bool {
        match self {
            Difference::NotLocked => true,
            Difference::Same => false,
            Difference::Other(beyond) => !beyond.is_empty(),
        }
    }

    fn words(&self) -> String {
        match self {
            Difference::NotLocked => "it is not locked: all of the above is new".to_owned(),
            Difference::Same => "it is the file that is locked".to_owned(),
            Difference::Other(beyond) if beyond.is_empty() => {
                "another file than the locked one, which asks for nothing more".to_owned()
            }
            Difference::Other(beyond) => format!(
                "another file than the locked one, and it asks for more: it {}",
                printable(&beyond.join(", "))
            ),
        }
    }
}

fn difference(ready: &Ready, global: &Global) -> Result<Difference, Failure> {
    let loaded = config::load(global.config.as_deref(), &Environment::of_process());
    let refused =
        |rejected: config::Rejected| Failure::config(config::render(&rejected.mistakes, false));
    let lock: Arc<Lock> = loaded.map_err(refused)?.config.lock.ok_or_else(|| {
        Failure::failed(
            "there is no watchfire.lock beside the configuration; `watchfire plugin lock` writes it",
        )
    })?;
    Ok(Difference::of(&lock, ready))
}

pub(super) fn request(ready: &Ready) -> PluginRequest {
    let (kinds, imports) = (ready.component.kinds(), ready.component.imports());
    PluginRequest::of(kinds, imports, &ready.description.wants)
}

impl Report {
    fn wishes(&self) -> Vec<Wish> {
        let wants = self.ready.description.wants.iter();
        let imports = self.ready.component.imports();
        wants.map(|want| Wish::of(want, imports)).collect()
    }

    /// Powers that its imports give it, and those they do not.
    fn powers(&self, by_grant: bool, imported: bool) -> Vec<&'static Power> {
        let imports = self.ready.component.imports();
        let fits = |power: &&Power| power.by_grant == by_grant && power.is_in(imports) == imported;
        POWERS.iter().filter(fits).collect()
    }

    /// The tables to paste, one for each kind.
    fn tables(&self) -> String {
        let name = &self.ready.name;
        let grant = wants(&self.ready.description);
        let kinds = self.ready.component.kinds().iter();
        let tables = kinds.map(|kind| table(*kind, name, &grant));
        let mut text = tables.collect::<Vec<_>>().join("\n");
        text.push_str(&format!(
            "\n[plugin.{name}]\nsha256 = \"{}\"\n",
            self.ready.sha256
        ));
        text
    }

    fn document(&self) -> Value {
        let ready = &self.ready;
        let description = &ready.description;
        let schema = description.config_schema.as_deref();
        let words = |powers: Vec<&Power>| powers.iter().map(|p| p.words).collect::<Vec<_>>();
        let asks = description.wants.iter().zip(self.wishes()).map(|(want, wish)| {
            json!({ "wish": want, "words": wish.words, "care": wish.care, "idle": wish.idle })
        });
        json!({
            "name": ready.name,
            "kinds": ready.component.kinds(),
            "contract": format!("watchfire:plugin@{CONTRACT}"),
            "size_bytes": ready.bytes,
            "sha256": ready.sha256,
            "compile_ms": u64::try_from(ready.compile_time.as_millis()).unwrap_or(u64::MAX),
            "imports": ready.component.imports(),
            "may": words(self.powers(false, true)),
            "may_where_granted": words(self.powers(true, true)),
            "may_not": words(self.powers(true, false)),
            "asks": asks.collect::<Vec<_>>(),
            "request": crate::plugin::hex(&request(ready).digest()),
            "describe_error": self.silent,
            "description": {
                "name": description.name,
                "version": description.version,
                "summary": description.summary,
                "wants": description.wants,
                "extra": description.extra.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            },
            "config_schema": schema.map(|text| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into())),
            "grant": wants(description),
            "tables": self.tables(),
            "lock": self.difference.as_ref().map(|difference| json!({
                "words": difference.words(),
                "same": matches!(difference, Difference::Same),
                "beyond": match difference {
                    Difference::Other(beyond) => beyond.clone(),
                    Difference::NotLocked | Difference::Same => Vec::new(),
                },
            })),
        })
    }

    fn words(&self, screen: Screen) -> String {
        let title = |out: &mut String, text: &str| {
            out.push_str(&format!("\n{}\n", screen.paint(Paint::Bold, text)));
        };
        let mut out = self.head(screen);
        title(&mut out, "What it may do, by what it imports");
        let powers = [
            ("always", self.powers(false, true)),
            ("if granted", self.powers(true, true)),
            ("never", self.powers(true, false)),
        ];
        for (when, powers) in powers {
            for (at, power) in powers.iter().enumerate() {
                let when = if at == 0 { when } else { "" };
                out.push_str(&format!("  {when:<10}  {}\n", power.words));
            }
        }
        let wishes = self.wishes();
        if self.silent.is_some() {
            // Nothing is known of its wishes.
        } else if wishes.is_empty() {
            title(&mut out, "It asks for no grant");
            if !self.powers(true, true).is_empty() {
                out.push_str("  though it could use one; its documentation should say for what\n");
            }
        } else {
            title(&mut out, "It asks to");
            for wish in &wishes {
                out.push_str(&format!("  {}\n", printable(&wish.words)));
                if let Some(care) = wish.care {
                    let care = format!("    think twice: {care}");
                    out.push_str(&format!("{}\n", screen.paint(Paint::Warning, &care)));
                }
                if wish.idle {
                    out.push_str("    but it imports nothing that could use it\n");
                }
            }
            out.push_str("Nothing of it is allowed until you write it down; with less it runs as well, and is refused the rest.\n");
        }
        if let Some(difference) = &self.difference {
            title(&mut out, "Against watchfire.lock");
            out.push_str(&format!("  {}\n", difference.words()));
        }
        if is_plugin_name(&self.ready.name) {
            title(&mut out, "To use it, write");
            for line in self.tables().lines() {
                let indent = if line.is_empty() { "" } else { "  " };
                out.push_str(&format!("{indent}{}\n", printable(line)));
            }
        } else {
            title(&mut out, "To use it, give the file another name");
            out.push_str("  lower-case letters, digits, '-' and '_'\n");
        }
        if let Some(schema) = &self.ready.description.config_schema {
            title(&mut out, "Keys of its `config`");
            out.push_str(&keys(schema));
        }
        out
    }

    fn head(&self, screen: Screen) -> String {
        let ready = &self.ready;
        let description = &ready.description;
        let kinds: Vec<&str> = ready.component.kinds().iter().map(|k| k.name()).collect();
        let who = match &self.silent {
            None => format!(
                "{} {}: {}",
                screen.paint(Paint::Bold, &printable(&description.name)),
                printable(&description.version),
                printable(&description.summary),
            ),
            Some(error) => screen.paint(
                Paint::Critical,
                &format!("{}: {error}", printable(&ready.name)),
            ),
        };
        format!(
            "{who}\n  a {}, for contract watchfire:plugin {CONTRACT}; {}, compiled in {} ms\n  sha256 {}\n",
            kinds.join(" and "),
            bytes(ready.bytes as u64),
            ready.compile_time.as_millis(),
            ready.sha256,
        )
    }
}

/// A table that uses a component of that name as that kind. `grant` is ours, with a stranger's text quoted in it.
fn table(kind: Kind, name: &str, grant: &str) -> String {
    let (head, rest) = match kind {
        Kind::Probe => ("probe", ""),
        Kind::Rule => ("rule", "metric = \"METRIC\"\n"),
        Kind::Notifier => ("notifier", ""),
        Kind::Action => ("recovery", "rules  = [\"RULE\"]\n"),
    };
    // A rule reaches nothing, whatever the other kinds of its component ask for.
    let grant = if kind == Kind::Rule { "" } else { grant };
    let grant = grant.replace("grant = ", "grant  = ");
    format!("[[{head}]]\nid     = \"{name}\"\nplugin = \"{name}\"\n{rest}{grant}")
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
    fn a_schema_becomes_lines() {
        let schema = r#"{"properties":{"url":{"type":"string","description":"Where\u001b"},"n":{}},"required":["url"]}"#;
        assert_eq!(
            keys(schema),
            "  n (any)\n  url (string, required)  Where\\u{1b}\n"
        );
        assert_eq!(keys("nothing"), "  nothing\n");
    }

    #[test]
    fn the_tables_to_paste_are_a_configuration() {
        let grant = "grant = { http = [\"https://a.example:443\"] }\n";
        for (kind, head) in [
            (
                Kind::Probe,
                "[[probe]]\nid     = \"x\"\nplugin = \"x\"\ngrant  = {",
            ),
            (Kind::Notifier, "[[notifier]]"),
            (Kind::Action, "[[recovery]]"),
        ] {
            let text = table(kind, "x", grant);
            assert!(text.starts_with(head), "{text}");
            assert!(text.parse::<toml::Table>().is_ok(), "{text}");
        }
        assert!(!table(Kind::Rule, "x", grant).contains("grant"));
    }
}
