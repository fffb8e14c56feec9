//! `--grant k=v`: the grants of one call, checked by the same code as a configuration's.

use crate::config::{self, Config, Environment};
use crate::error::Failure;
use crate::sandbox::types::{Grants, Kind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::{Table, Value};

/// Grants that are lists: `--grant http=URL` may stand several times.
const LISTS: [&str; 8] = [
    "commands", "delete", "dns", "files", "http", "services", "signals", "tcp",
];

/// Where messages say a mistake is.
const PLACE: &str = "<command line>";

/// What a call may reach, and the configuration with its secrets, commands and mail server.
pub(super) fn resolve(
    kind: Kind,
    plugin: &str,
    given: &[String],
    from: Option<&Path>,
    color: bool,
) -> Result<(Arc<Grants>, Config), Failure> {
    let environment = Environment::of_process();
    let texts = match from {
        Some(path) => {
            let loaded = config::load(Some(path), &environment).map_err(|r| refused(&r, color))?;
            loaded.config.source.texts
        }
        None => vec![(environment.cwd.join(PLACE), "".into())],
    };
    resolve_over(texts, kind, plugin, &table(given)?, color)
}

fn refused(rejected: &config::Rejected, color: bool) -> Failure {
    Failure::config(config::render(&rejected.mistakes, color))
}

/// As [`resolve`], with the grants as the table they are in a configuration, and the texts below it.
pub(super) fn resolve_over(
    mut texts: Vec<(PathBuf, Arc<str>)>,
    kind: Kind,
    plugin: &str,
    table: &Table,
    color: bool,
) -> Result<(Arc<Grants>, Config), Failure> {
    let environment = Environment::of_process();
    if kind == Kind::Rule && !table.is_empty() {
        return Err(Failure::failed(
            "a rule computes and reaches nothing: it takes no grants",
        ));
    }
    texts.push((PathBuf::from(PLACE), text(kind, plugin, table)?.into()));
    let config = config::from_texts(&texts, &environment)
        .map_err(|rejected| refused(&rejected, color))?
        .config;
    let id = ID;
    let grant = match kind {
        Kind::Probe => config
            .probes
            .iter()
            .find(|p| p.id.as_str() == id)
            .map(|p| &p.grant),
        Kind::Notifier => config
            .notifiers
            .iter()
            .find(|n| n.id.as_str() == id)
            .map(|n| &n.grant),
        Kind::Action => config
            .recoveries
            .iter()
            .find(|r| r.id.as_str() == id)
            .map(|r| &r.grant),
        Kind::Rule => None,
    };
    let grant = grant.cloned().unwrap_or_default();
    Ok((grant, config))
}

/// The use's id; no configuration has it.
pub(super) const ID: &str = "plugin-run";

/// `k=v` words as one table: values as TOML, bare words as text.
fn table(given: &[String]) -> Result<Table, Failure> {
    let mut table = Table::new();
    for word in given {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            Failure::failed(format!("--grant {word}: write KEY=VALUE, such as system=true or http=https://example.org:443"))
        })?;
        let (key, value) = (key.trim(), read(value.trim()));
        if let Some(name) = key.strip_prefix("secrets.") {
            let secrets = table
                .entry("secrets")
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(secrets) = secrets {
                secrets.insert(name.to_owned(), value);
            }
        } else if LISTS.contains(&key) {
            let list = table.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                match value {
                    Value::Array(more) => list.extend(more),
                    one => list.push(one),
                }
            }
        } else {
            table.insert(key.to_owned(), value);
        }
    }
    Ok(table)
}

fn read(value: &str) -> Value {
    let parsed = format!("value = {value}").parse::<Table>();
    let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(value.to_owned()))
}

/// A configuration in which the plugin is used once.
fn text(kind: Kind, plugin: &str, grant: &Table) -> Result<String, Failure> {
    let mut used = Table::new();
    used.insert("id".to_owned(), ID.into());
    used.insert("plugin".to_owned(), plugin.into());
    used.insert("grant".to_owned(), Value::Table(grant.clone()));
    let mut all = Table::new();
    let name = match kind {
        Kind::Probe => "probe",
        Kind::Notifier => "notifier",
        Kind::Action => {
            // A procedure needs a rule that triggers it.
            let mut rule = Table::new();
            rule.insert("id".to_owned(), ID.into());
            rule.insert("metric".to_owned(), "up".into());
            all.insert("rule".to_owned(), Value::Array(vec![Value::Table(rule)]));
            used.insert("rules".to_owned(), Value::Array(vec![ID.into()]));
            "recovery"
        }
        Kind::Rule => return Ok(String::new()),
    };
    all.insert(name.to_owned(), Value::Array(vec![Value::Table(used)]));
    Ok(toml::to_string(&all)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(kind: Kind, given: &[&str]) -> Result<Arc<Grants>, String> {
        let given: Vec<String> = given.iter().map(|&g| g.to_owned()).collect();
        let resolved = resolve(kind, "some-plugin", &given, None, false);
        resolved.map(|(grants, _)| grants).map_err(|f| f.text)
    }

    #[test]
    fn words_become_grants() {
        let probe = grants(
            Kind::Probe,
            &[
                "system=true",
                "http=http://127.0.0.1:80",
                "http=[\"https://example.org:443\"]",
            ],
        );
        let probe = probe.unwrap();
        assert!(probe.system);
        assert_eq!(
            probe.http,
            ["http://127.0.0.1:80", "https://example.org:443"]
        );
        let action = grants(Kind::Action, &["services=nginx.service:restart"]).unwrap();
        assert_eq!(action.services, ["nginx.service:restart"]);
        assert_eq!(*grants(Kind::Notifier, &[]).unwrap(), Grants::default());
        assert_eq!(*grants(Kind::Rule, &[]).unwrap(), Grants::default());
    }

    #[test]
    fn mistakes_are_those_of_a_configuration() {
        assert!(
            grants(Kind::Probe, &["system"])
                .unwrap_err()
                .contains("KEY=VALUE")
        );
        assert!(
            grants(Kind::Rule, &["system=true"])
                .unwrap_err()
                .contains("no grants")
        );
        let unknown = grants(Kind::Probe, &["sytem=true"]).unwrap_err();
        assert!(unknown.contains("sytem"), "{unknown}");
    }
}
