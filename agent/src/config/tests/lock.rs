//! `watchfire.lock` beside the configuration.

use super::super::{Lock, Locked, PluginRequest, from_texts, load};
use super::{environment, lines};
use crate::sandbox::types::Kind;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn texts<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

fn locked(version: &str) -> Locked {
    Locked {
        version: version.to_owned(),
        sha256: [0xab; 32],
        contract: "watchfire:plugin@0.1".to_owned(),
        source: "/plugins/x.wasm".to_owned(),
        request: PluginRequest {
            kinds: texts(["probe"]),
            imports: texts(["http", "log"]),
            asks: texts(["http https://a.example:443"]),
        },
    }
}

fn lock() -> Lock {
    Lock {
        path: "/etc/wf/watchfire.lock".into(),
        plugins: [("x".into(), locked("1.0"))].into(),
    }
}

/// With a lock beside a configuration that holds.
fn with_lock(text: &str) -> Result<Option<Arc<Lock>>, Vec<String>> {
    let texts = [
        (PathBuf::from("/etc/wf/w.toml"), "".into()),
        (PathBuf::from("/etc/wf/watchfire.lock"), text.into()),
    ];
    let loaded = from_texts(&texts, &environment());
    let config = loaded.map_err(|rejected| lines(&rejected.mistakes))?.config;
    assert_eq!(config.source.files.len(), 2, "both are watched");
    Ok(config.lock)
}

#[test]
fn what_is_written_is_read_again() {
    let lock = lock();
    assert_eq!(with_lock(&lock.text()).unwrap().as_deref(), Some(&lock));
    let mut strange = lock.clone();
    strange.plugins.insert(
        "y".into(),
        locked("\"1\"\n[[plugin]]\\ \u{202e}\u{1b}[31mü"),
    );
    let text = strange.text();
    assert!(text.is_ascii(), "nothing steers a terminal: {text}");
    assert_eq!(with_lock(&text).unwrap().as_deref(), Some(&strange));
    let empty = Lock {
        plugins: [].into(),
        ..lock
    };
    assert_eq!(with_lock(&empty.text()).unwrap().as_deref(), Some(&empty));
}

#[test]
fn mistakes_refuse_the_configuration_with_their_place() {
    let good = lock().text();
    for (from, to, wanted) in [
        ("version = 1\n", "", "has no `version`"),
        ("version = 1\n", "version = 2\n", "`version`"),
        ("\"abab", "\"xbab", "wants 64 hexadecimal digits"),
        (
            "kinds    =",
            "kinds    = [\"rule\"] #",
            "somebody edited them",
        ),
        ("name     =", "nam      =", "unknown key"),
        ("[[plugin]]", "[[plugin]", ""),
    ] {
        let edited = good.replacen(from, to, 1);
        assert_ne!(edited, good, "{from}");
        let mistakes = with_lock(&edited).expect_err(wanted);
        assert!(mistakes.iter().any(|m| m.contains(wanted)), "{mistakes:?}");
    }
    assert!(with_lock("").is_err(), "an emptied lock opens nothing");
    let (head, entry) = good.split_once("\n[[").unwrap();
    let twice = format!("{head}\n[[{entry}\n[[{entry}");
    let mistakes = with_lock(&twice).expect_err("twice");
    assert!(mistakes[0].contains("locked a second time"), "{mistakes:?}");
}

#[test]
fn it_is_part_of_the_configuration_beside_the_main_file() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("watchfire.toml");
    std::fs::write(&main, "# all as it comes\n").unwrap();
    let loaded = |main: &Path| load(Some(main), &environment());
    let without = loaded(&main).unwrap().config;
    assert!(without.lock.is_none());
    std::fs::write(folder.path().join("watchfire.lock"), lock().text()).unwrap();
    let with = loaded(&main).unwrap().config;
    assert_eq!(with.lock.as_ref().unwrap().plugins.len(), 1);
    assert_ne!(without.source.digest, with.source.digest, "a reload");
    let again = from_texts(&with.source.texts, &environment()).unwrap();
    assert_eq!(again.config.lock, with.lock, "the last good one has it too");

    let lock = folder.path().join("watchfire.lock");
    std::fs::write(&lock, "").unwrap();
    let emptied = loaded(&main).unwrap_err().mistakes;
    assert_eq!(emptied[0].file, lock, "it is named, and not the main file");
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("/nowhere/watchfire.lock", &lock).unwrap();
    assert!(loaded(&main).is_err(), "a dangling link is no missing file");
}

#[test]
fn refusals_end_with_the_command_that_helps() {
    let lock = lock();
    assert_eq!(lock.refusal("x", &[0xab; 32]), None);
    let other = lock.refusal("x", &[1; 32]).unwrap();
    assert!(other.ends_with("run: watchfire plugin lock x"), "{other}");
    assert!(other.contains("has sha256 abab"), "{other}");
    let unknown = lock.refusal("y", &[1; 32]).unwrap();
    assert!(unknown.starts_with("it is not in /etc/wf/watchfire.lock"));
    let mut wider = lock.plugins["x"].request.clone();
    assert_eq!(lock.widened("x", &wider), None);
    wider.asks.clear();
    assert_eq!(lock.widened("x", &wider), None, "less is no more");
    wider.asks.insert("files /etc/*".to_owned());
    let more = lock.widened("x", &wider).unwrap();
    assert!(more.contains("it asks for files /etc/*;"), "{more}");
    assert!(more.ends_with("--accept-wider x"), "{more}");
}

#[test]
fn a_request_is_kinds_powers_and_wishes() {
    let imports = [
        "wasi:io/poll@0.2.6",
        "watchfire:plugin/http@0.1.0",
        "watchfire:plugin/types@0.1.0",
    ];
    let imports = imports.map(str::to_owned);
    let request = PluginRequest::of(&[Kind::Probe], &imports, &["system".to_owned()]);
    let wanted = PluginRequest {
        kinds: texts(["probe"]),
        imports: texts(["http"]),
        asks: texts(["system"]),
    };
    assert_eq!(request, wanted);
    let moved = PluginRequest {
        imports: texts([]),
        asks: texts(["http", "system"]),
        ..wanted.clone()
    };
    assert_ne!(moved.digest(), wanted.digest());
    assert_eq!(moved.beyond(&wanted), ["asks for http"]);
}
