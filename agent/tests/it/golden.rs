//! Contract 0.1 is kept: components built when it was new load and serve, and `wit/` has grown at most.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use watchfire::sandbox::types::{Alert, Batch, CallError, Grants, Kind, Limits, Message, Use};
use watchfire::sandbox::{
    Component, HostServices, MemoryState, NoEvents, Sandbox, SandboxSettings, TracingLog, compile,
};
use watchfire_engine::model::{Severities, Severity};

/// The components and what they are, byte for byte: one that was built again proves nothing.
const GOLDEN: [(&str, &str); 5] = [
    (
        "probe-0.1",
        "0f29f92df69df52c9d7172584f5587bb08c800ca47449b8773df87bc1da90c04",
    ),
    (
        "rule-0.1",
        "852e7479d3fc8378820de096e29e1bedcc5fe31e7df45f7956323217e95d498b",
    ),
    (
        "notifier-0.1",
        "34a29d17312c23575c96be122c39c523a6798a68fbe90f877b546fd9229619bb",
    ),
    (
        "action-0.1",
        "35e725fd14534d046225694f20b030b5ce44cd2a3682303b474835cfeb90c980",
    ),
    (
        "probe-c-0.1",
        "0035f40d05570a7b0afcd2bd09fc16abacc5b7858e457bab4a9c181b7331a555",
    ),
];

/// A busy machine is not what this is about.
const WALL: Duration = Duration::from_secs(30);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn sandbox() -> Sandbox {
    let services = HostServices::new(
        Arc::new(MemoryState::default()),
        Arc::new(NoEvents),
        Arc::new(TracingLog),
    );
    Sandbox::new(SandboxSettings::default(), services).unwrap()
}

fn load(sandbox: &Sandbox, name: &str) -> Component {
    let (_, sha256) = GOLDEN.iter().find(|(golden, _)| *golden == name).unwrap();
    let bytes = std::fs::read(folder().join(format!("{name}.wasm"))).unwrap();
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, *sha256, "{name} is not what it was");
    let artefact = compile(&bytes, sandbox.settings()).unwrap();
    sandbox
        .load(name, digest, &artefact, false)
        .unwrap_or_else(|error| panic!("contract 0.1 is broken: {error}"))
}

fn used(kind: Kind, config: &str, grants: Grants) -> Use {
    Use {
        id: "golden".into(),
        config: config.into(),
        grants: Arc::new(grants),
        limits: Limits {
            wall: WALL,
            ..Limits::of(kind)
        },
    }
}

fn alert() -> Alert {
    Alert {
        fingerprint: "0".repeat(32),
        episode: 3,
        rule: "queue-long".into(),
        severity: Severity::Critical,
        labels: vec![("host".into(), "db-1".into())],
        value: Some(2.0),
        limit: None,
        summary: "a queue".into(),
        started_at_ms: 1,
        ended_at_ms: Some(2),
        extra: vec![("runbook".into(), "https://example.org".into())],
    }
}

/// What calls of every kind that log, keep state and reach the network end with, where nothing is granted.
const COMMON: &str = "state.set=ok state.get=ok state.delete=ok http.send=denied tcp.connect=denied \
                      tcp.connect-unix=denied secrets.reveal=denied commands.run=denied";
const MACHINE: &str = "system.read=denied system.processes=denied system.services=denied";

#[tokio::test]
async fn a_probe_of_contract_0_1_serves() {
    let component = load(&sandbox(), "probe-0.1");
    assert_eq!(component.kinds(), [Kind::Probe]);
    let description = component.describe().await.unwrap();
    assert_eq!(description.name, "guest-golden");
    assert_eq!(description.wants, ["system"]);
    assert_eq!(description.config_schema.as_deref(), Some("{}"));

    let probe = component
        .probe(used(Kind::Probe, "{}", Grants::default()))
        .unwrap();
    probe.configure().await.unwrap();
    let collection = probe.collect().await.0.unwrap();
    let points: Vec<String> = collection
        .families
        .iter()
        .flat_map(|family| &family.points)
        .map(|point| format!("{} {}", point.series, point.value))
        .collect();
    let calls = format!(
        "{COMMON} {MACHINE} files.read=denied files.stat=denied files.listing=denied dns.query=denied"
    );
    assert_eq!(points[0], format!("golden_calls{{calls=\"{calls}\"}} 15"));
    assert_eq!(points.len(), 8, "{points:?}");
    assert!(
        matches!(&collection.failures[..], [CallError::Unavailable { message, retry_after: Some(wait) }]
            if message == "a part" && *wait == Duration::from_secs(1)),
        "{:?}",
        collection.failures
    );

    let refused = component.probe(used(Kind::Probe, r#"{"refuse": true}"#, Grants::default()));
    let refused = refused.unwrap().configure().await.unwrap_err();
    assert_eq!(
        refused,
        CallError::Config("config.refuse: write false".into())
    );
}

#[tokio::test]
async fn a_rule_of_contract_0_1_serves() {
    let component = load(&sandbox(), "rule-0.1");
    assert_eq!(component.kinds(), [Kind::Rule]);
    let rule = component
        .rule(used(Kind::Rule, "{}", Grants::default()))
        .unwrap();
    let needs = rule.configure(&["value".to_owned()]).await.unwrap();
    assert!(needs.labels && needs.memory);
    assert_eq!(
        (needs.points_of, needs.back),
        (vec!["value".to_owned()], Duration::from_secs(1))
    );
    let verdicts = rule
        .evaluate(Batch {
            now_ms: 1_000,
            columns: vec![vec![2.0, f64::NAN]],
            active: vec![
                Severities::from_iter([Severity::High]),
                Severities::default(),
            ],
            labels: vec![vec![("host".into(), "db-1".into())], Vec::new()],
            memory: vec![b"4".to_vec(), Vec::new()],
            points: vec![vec![vec![(500, 1.0), (1_000, 2.0)], Vec::new()]],
        })
        .await
        .0
        .unwrap();
    assert_eq!(
        verdicts.breached,
        [Some(Severities::from_iter([Severity::High])), None]
    );
    assert_eq!((verdicts.values[0], verdicts.limits[0]), (2.0, 1.0));
    assert_eq!(verdicts.notes, [(0, "2 db-1 1".to_owned())]);
    assert_eq!(verdicts.memory[0], b"5");
}

#[tokio::test]
async fn a_notifier_of_contract_0_1_serves() {
    let component = load(&sandbox(), "notifier-0.1");
    assert_eq!(component.kinds(), [Kind::Notifier]);
    let notifier = component.notifier(used(Kind::Notifier, "{}", Grants::default()));
    let notifier = notifier.unwrap();
    notifier.configure().await.unwrap();
    let message = Message {
        id: "1".into(),
        dedup_key: "2".into(),
        reason: "fire".into(),
        alerts: vec![alert()],
        title: "title".into(),
        text: "text".into(),
        extra: vec![("host".into(), "db-1".into())],
    };
    let receipt = notifier.notify(message).await.0.unwrap();
    assert_eq!(
        receipt.remote_id,
        Some(format!("{COMMON} mail.send=denied"))
    );
    assert_eq!(receipt.extra, [("reason".to_owned(), "Fire".to_owned())]);
}

#[tokio::test]
async fn an_action_of_contract_0_1_serves() {
    let component = load(&sandbox(), "action-0.1");
    assert_eq!(component.kinds(), [Kind::Action]);
    let action = component
        .action(used(Kind::Action, "{}", Grants::default()))
        .unwrap();
    action.configure().await.unwrap();
    let outcome = action.act(alert(), 2, false).await.0.unwrap();
    assert_eq!(
        outcome.did,
        format!(
            "queue-long 2 false {COMMON} {MACHINE} control.service=denied control.signal-process=denied control.delete-older=denied"
        )
    );
    assert!(!outcome.changed);
}

#[tokio::test]
async fn a_probe_in_c_of_contract_0_1_serves() {
    let component = load(&sandbox(), "probe-c-0.1");
    let system = Grants {
        system: true,
        ..Grants::default()
    };
    let probe = component
        .probe(used(Kind::Probe, r#"{"limit": 2}"#, system))
        .unwrap();
    probe.configure().await.unwrap();
    let collection = probe.collect().await.0.unwrap();
    let names: Vec<&str> = collection
        .families
        .iter()
        .map(|family| &*family.metric)
        .collect();
    assert_eq!(names, ["load_to_limit_ratio", "load_limit"]);
}

/// Interfaces and worlds of a contract by name, each as its items without comments, in one spelling.
fn contract(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let text: Vec<&str> = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or(""))
            .collect();
        let text = text.join(" ");
        let mut rest = text.as_str();
        while let Some((head, body, after)) = block(rest) {
            let name = head.rsplit(';').next().unwrap_or(head);
            all.insert(spelt(name), items(body));
            rest = after;
        }
    }
    all
}

/// What stands before the next braces, in them, and behind them.
fn block(text: &str) -> Option<(&str, &str, &str)> {
    let open = text.find('{')?;
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..open], &text[open + 1..at], &text[at + 1..]));
        }
    }
    panic!("a brace of the contract is not closed: {text}");
}

/// The items of an interface or world: what ends with `;` or with braces, outside of braces.
fn items(body: &str) -> BTreeSet<String> {
    let mut items = BTreeSet::new();
    let (mut depth, mut item) = (0_usize, String::new());
    let mut braced_use = false;
    for letter in body.chars() {
        item.push(letter);
        match letter {
            '{' => {
                depth += 1;
                // `use types.{pair, error};` goes on behind its braces.
                braced_use = item.trim_start().starts_with("use ");
            }
            '}' => depth -= 1,
            _ => {}
        }
        let ends = depth == 0 && (letter == ';' || letter == '}' && !braced_use);
        if ends {
            items.insert(spelt(&item));
            item.clear();
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

fn spelt(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Interfaces that plugins export, and the types of all: nothing in them may change, not even by growing.
const FROZEN: [&str; 5] = [
    "interface types",
    "interface probe",
    "interface rule",
    "interface notifier",
    "interface action",
];

/// What would refuse a plugin of `before` in a host of `after`.
fn breaks(
    before: &BTreeMap<String, BTreeSet<String>>,
    after: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, items) in before {
        let Some(now) = after.get(name) else {
            found.push(format!("{name} is gone"));
            continue;
        };
        // What is used from elsewhere is no item of its own: an interface that grows may use more.
        let own = |items: &BTreeSet<String>| -> BTreeSet<String> {
            items
                .iter()
                .filter(|item| !item.starts_with("use "))
                .cloned()
                .collect()
        };
        let (items, now) = (own(items), own(now));
        found.extend(
            items
                .difference(&now)
                .map(|item| format!("{name}: changed or gone: {item}")),
        );
        let frozen = FROZEN.contains(&name.as_str());
        for item in now.difference(&items) {
            // An old plugin cannot export what it does not know.
            let export = name.starts_with("world ") && item.starts_with("export ");
            if frozen || export {
                found.push(format!("{name}: new, and old plugins lack it: {item}"));
            }
        }
    }
    found
}

#[test]
fn the_contract_has_grown_at_most() {
    let before = contract(&folder().join("wit"));
    assert!(before.len() >= 21, "{:?}", before.keys());
    let after = contract(&folder().join("../../../wit"));
    let breaks = breaks(&before, &after);
    assert!(
        breaks.is_empty(),
        "plugins that are out there would be refused; that is contract 0.2:\n{}",
        breaks.join("\n")
    );
}

#[test]
fn what_breaks_a_contract_is_seen() {
    let before = contract(&folder().join("wit"));
    let changed = |interface: &str, from: &str, to: &str| {
        let mut after = before.clone();
        let items = after.get_mut(interface).unwrap();
        if !from.is_empty() {
            let item = items
                .iter()
                .find(|item| item.contains(from))
                .unwrap()
                .clone();
            items.remove(&item);
            items.insert(item.replace(from, to));
        } else {
            items.insert(to.to_owned());
        }
        !breaks(&before, &after).is_empty()
    };
    for (interface, from, to, broken, what) in [
        ("interface log", "warn", "warn", false, "as it is"),
        ("interface log", "warn", "warning", true, "a case renamed"),
        (
            "interface types",
            "critical }",
            "critical, fatal }",
            true,
            "a case added",
        ),
        (
            "interface http",
            "body: list<u8>",
            "body: string",
            true,
            "a type changed",
        ),
        (
            "interface http",
            "",
            "head: func() -> string;",
            false,
            "a function of the host added",
        ),
        (
            "interface probe",
            "",
            "stop: func();",
            true,
            "a function demanded of plugins",
        ),
        (
            "world rule-plugin",
            "",
            "import state;",
            false,
            "an import added",
        ),
        (
            "world rule-plugin",
            "",
            "export probe;",
            true,
            "an export demanded",
        ),
    ] {
        assert_eq!(changed(interface, from, to), broken, "{what}");
    }
    let mut after = before.clone();
    after.remove("interface mail");
    assert_eq!(breaks(&before, &after), ["interface mail is gone"]);
    after.clone_from(&before);
    after.insert("interface clock".to_owned(), BTreeSet::new());
    assert!(breaks(&before, &after).is_empty(), "an interface added");
}
