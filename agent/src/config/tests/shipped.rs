//! Every file in `config/` loads; `watchfire.toml` shows every key there is.

use super::super::file::{Files, Role, SourceFile};
use super::super::read::Reader;
use super::super::{Config, from_texts, load, raw, render};
use super::environment;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

#[track_caller]
fn loads(path: &Path) -> Config {
    match load(Some(path), &environment()) {
        Ok(loaded) => {
            let own: Vec<_> = loaded
                .warnings
                .into_iter()
                // A pack by itself names metrics of services and no probe.
                .filter(|w| !w.message.starts_with("no probe is configured"))
                .collect();
            assert!(own.is_empty(), "{}", render(&own, false));
            loaded.config
        }
        Err(rejected) => panic!("{}", render(&rejected.mistakes, false)),
    }
}

#[test]
fn every_file_loads_without_a_warning() {
    let mut found = 0;
    for folder in [folder(), folder().join("rules")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                loads(&path);
                found += 1;
            }
        }
    }
    assert!(found >= 5, "only {found} files");
}

#[test]
fn watchfire_toml_shows_every_key() {
    let text = std::fs::read_to_string(folder().join("watchfire.toml")).unwrap();
    let files = Files(vec![SourceFile {
        path: "watchfire.toml".into(),
        text: text.as_str().into(),
        role: Role::Main,
    }]);
    let (table, errors) = DeTable::parse_recoverable(&files.0[0].text);
    assert!(errors.is_empty(), "{errors:?}");
    let reader = Reader::new(&files);
    raw::read(&reader.root(vec![(0, table.get_ref())]));
    let mut keys: BTreeMap<String, bool> = BTreeMap::new();
    for (key, shown) in reader.known() {
        // A grant is the same wherever it stands: each of its keys is shown once.
        let key = match key.split_once(".grant.") {
            Some((_, key)) => format!("grant.{key}"),
            None => key,
        };
        *keys.entry(key).or_default() |= shown;
    }
    let missing: Vec<&String> = keys
        .iter()
        .filter(|(_, shown)| !**shown)
        .map(|(key, _)| key)
        .collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
    assert!(keys.len() > 150, "only {} keys are known", keys.len());
}

#[test]
fn the_built_in_configuration_watches_this_host() {
    let loaded = from_texts(&[], &environment()).unwrap();
    assert!(
        loaded.warnings.is_empty(),
        "{}",
        render(&loaded.warnings, false)
    );
    let config = loaded.config;
    assert_eq!(config.source.main, None);
    assert!(config.source.files.is_empty() && config.source.texts.is_empty());
    assert_eq!(config.probes[0].plugin.as_ref(), "probe-host");
    assert!(config.probes[0].grant.system);
    assert_eq!(config.probes[0].every.as_secs(), 10);
    assert!(config.rules.len() >= 10, "{}", config.rules.len());
    assert_eq!(config.notifiers[0].plugin.as_ref(), "notifier-log");
    assert_eq!(config.policy.routes[0].notify[0].to_string(), "log");
    assert_eq!(
        config.agent.data_dir,
        Path::new("/home/me/.local/state/watchfire")
    );
}
