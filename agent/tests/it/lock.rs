//! `watchfire.lock`: what it lets run, and the commands that write and check it.

use crate::support::bed::{Bed, rule, sha256_of, version};
use crate::support::{Agent, Folder, command, guests, wait_for};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::BTreeSet;
use std::fs;
use std::process::Output;
use watchfire::config::{LOCK_FILE, Lock, Locked, PluginRequest};
use watchfire::plugin::{UseState, stock};

fn threshold() -> Vec<u8> {
    stock::find("rule-threshold")
        .expect("a stock plugin")
        .bytes()
}

/// A lock with one entry: `rule-mine` as this component, with these imports.
fn lock_of(bytes: &[u8], imports: &[&str]) -> String {
    let texts = |all: &[&str]| all.iter().map(|&t| t.to_owned()).collect::<BTreeSet<_>>();
    let locked = Locked {
        version: "1".to_owned(),
        sha256: sha256_of(bytes),
        contract: "watchfire:plugin@0.1".to_owned(),
        source: String::new(),
        request: PluginRequest {
            kinds: texts(&["rule"]),
            imports: texts(imports),
            asks: texts(&[]),
        },
    };
    let lock = Lock {
        path: LOCK_FILE.into(),
        plugins: [("rule-mine".into(), locked)].into(),
    };
    lock.text()
}

impl Bed {
    fn lock(&self, text: &str) {
        let place = self.config_file().with_file_name(LOCK_FILE);
        let beside = place.with_extension("new");
        self.write(&beside, text.as_bytes());
        fs::rename(beside, place).expect("renamed");
    }

    fn reason(&self) -> Option<String> {
        let now = self.now();
        let rejection = now.plugins.rejection("rule-mine")?;
        Some(rejection.reason.to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_locked_serves_and_a_change_of_the_lock_is_a_reload() {
    let [one, two, three] = [1, 2, 3].map(|number| version(&threshold(), number));
    let bed = Bed::new(&rule("mine", "rule-mine", 90)).with_plugin("rule-mine", &one);
    let mut bed = bed.start().await;
    let serves = |sha256: [u8; 32]| {
        move |now: &std::sync::Arc<watchfire::plugin::Generation>| {
            now.rules.first().is_some_and(|live| live.sha256 == sha256)
                && now.plugins.rejection("rule-mine").is_none()
        }
    };

    bed.lock(&lock_of(&one, &["log"]));
    bed.until(|now| now.config.lock.is_some()).await;
    assert_eq!(bed.state_of("mine"), UseState::Running);
    assert_eq!(bed.reason(), None);

    bed.drop_in("rule-mine", &two);
    bed.until(|now| now.plugins.rejection("rule-mine").is_some())
        .await;
    let reason = bed.reason().expect("refused");
    assert!(
        reason.ends_with("run: watchfire plugin lock rule-mine"),
        "{reason}"
    );
    assert_eq!(bed.now().rules[0].sha256, sha256_of(&one), "it goes on");
    let summary = bed.until_condition("watchfire_plugin_rejected", true).await;
    assert!(summary.contains("watchfire.lock"), "{summary}");

    bed.lock(&lock_of(&two, &["log"]));
    bed.until(serves(sha256_of(&two))).await;

    // The right file, and somebody agreed to less than it asks for.
    bed.lock(&lock_of(&two, &[]));
    bed.until(|now| now.plugins.rejection("rule-mine").is_some())
        .await;
    let reason = bed.reason().expect("refused");
    assert!(reason.contains("it imports log"), "{reason}");
    bed.lock(&lock_of(&three, &[]));
    bed.drop_in("rule-mine", &three);
    bed.until(|now| {
        // The component may be seen before its lock, which is another reason to refuse it.
        let rejection = now.plugins.rejection("rule-mine");
        rejection.is_some_and(|r| {
            r.sha256 == Some(sha256_of(&three)) && r.reason.ends_with("--accept-wider rule-mine")
        })
    })
    .await;
    assert_eq!(bed.now().rules[0].sha256, sha256_of(&two), "it goes on");

    let before = bed.now();
    bed.lock("version = 1\n[[plugin]]\nname = \"rule-mine\"\n");
    let summary = bed.until_condition("watchfire_config_invalid", true).await;
    assert!(summary.contains("watchfire.lock:2"), "{summary}");
    assert!(std::sync::Arc::ptr_eq(&before.config, &bed.now().config));

    // A start with a lock that does not name it: nothing may serve in its place.
    bed.lock(&lock_of(&one, &["log"]));
    let mut bed = bed.restart().await;
    assert!(matches!(bed.state_of("mine"), UseState::Rejected(_)));
    fs::remove_file(bed.config_file().with_file_name(LOCK_FILE)).expect("removed");
    bed.until(serves(sha256_of(&three))).await;
}

fn run(folder: &Folder, args: &[&str]) -> Output {
    let mut command = command();
    command.args(args).current_dir(folder.path(""));
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_commands_write_compare_and_fail_closed() {
    let folder = Folder::new("[defaults]\nevery = \"200ms\"\ntimeout = \"150ms\"\n");
    let place = folder.path("data/plugins/mine.wasm");
    fs::copy(guests::component("example-probe"), &place).unwrap();
    let none = run(&folder, &["plugin", "verify"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        said(&none).contains("watchfire plugin lock"),
        "{}",
        said(&none)
    );

    let first = run(&folder, &["plugin", "lock"]);
    assert!(first.status.success(), "{}", said(&first));
    assert!(said(&first).contains("added      mine"), "{}", said(&first));
    assert!(run(&folder, &["plugin", "verify"]).status.success());
    let agent = Agent::start(&folder);
    let plugin = || {
        let plugins = agent.get("/api/v1/plugins")?;
        let mut all = plugins.as_array()?.iter();
        all.find(|plugin| plugin["name"] == "mine").cloned()
    };
    assert_eq!(plugin().unwrap()["locked"], true);

    // Another one takes its place, and it wants much more.
    let hostile = guests::component("hostile");
    let hostile = hostile.to_str().unwrap();
    let installed = run(&folder, &["plugin", "install", hostile, "--name", "mine"]);
    assert!(installed.status.success(), "{}", said(&installed));
    let words = said(&installed);
    let last = words.lines().last().unwrap();
    assert!(last.starts_with("it does not run yet: "), "{words}");
    assert!(last.ends_with("run: watchfire plugin lock mine"), "{words}");
    wait_for("the running agent refuses it", || {
        let reason = plugin()?["rejected"]["reason"].as_str()?.to_owned();
        reason.contains("watchfire plugin lock mine").then_some(())
    });
    let verified = run(&folder, &["plugin", "verify"]);
    assert_eq!(verified.status.code(), Some(1), "{}", said(&verified));
    let checked = run(&folder, &["check"]);
    assert!(checked.status.success(), "the configuration is good");
    assert!(
        said(&checked).contains("plugin \"mine\" does not run"),
        "{}",
        said(&checked)
    );
    let file = place.to_str().unwrap();
    let inspected = run(&folder, &["plugin", "inspect", "--diff", file]);
    assert_eq!(inspected.status.code(), Some(1));
    let text = said(&inspected);
    assert!(
        text.contains("it asks for more: it imports commands"),
        "{text}"
    );
    assert!(text.contains("think twice"), "{text}");
    let relocked = run(&folder, &["plugin", "lock"]);
    assert_eq!(relocked.status.code(), Some(1), "{}", said(&relocked));
    assert!(said(&relocked).contains("--accept-wider mine"));

    let accepted = run(&folder, &["plugin", "lock", "--accept-wider", "mine"]);
    assert!(accepted.status.success(), "{}", said(&accepted));
    wait_for("the change of the lock lets it run", || {
        let shown = plugin()?;
        let asks = shown["uses"][0]["not_granted"].as_array()?.len();
        (shown["rejected"].is_null() && asks == 2).then_some(())
    });
    wait_for("which is said once in the log", || {
        agent
            .log()
            .contains("asks for more than it is granted")
            .then_some(())
    });
    let same = run(&folder, &["plugin", "inspect", "--diff", file, "--json"]);
    assert!(same.status.success(), "{}", said(&same));
    let same: serde_json::Value = serde_json::from_slice(&same.stdout).unwrap();
    assert_eq!(same["lock"]["same"], true);
    assert_eq!(same["may_not"][0], "ask name servers");
    assert_eq!(same["asks"][1]["wish"], "commands greet");

    fs::remove_file(&place).unwrap();
    let kept = run(&folder, &["plugin", "lock"]);
    assert!(said(&kept).contains("not here   mine"), "{}", said(&kept));
    let pruned = run(&folder, &["plugin", "lock", "--prune"]);
    assert!(
        said(&pruned).contains("removed    mine"),
        "{}",
        said(&pruned)
    );
    let lock = fs::read_to_string(folder.path(LOCK_FILE)).unwrap();
    assert!(!lock.contains("[[plugin]]"), "{lock}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_folder_that_cannot_be_listed_is_told_and_what_runs_goes_on() {
    let one = version(&threshold(), 1);
    let bed = Bed::new(&rule("mine", "rule-mine", 90)).with_plugin("rule-mine", &one);
    let mut bed = bed.start().await;
    let (folder, away) = (bed.plugins(), bed.plugins().with_extension("away"));
    // In one step: a folder that is gone would be made again.
    fs::write(&away, "no folder").expect("written");
    renameat_with(CWD, &folder, CWD, &away, RenameFlags::EXCHANGE).expect("exchanged");
    let summary = bed.until_condition("watchfire_watch_degraded", true).await;
    assert!(
        summary.contains("cannot be listed: Not a directory"),
        "{summary}"
    );
    assert_eq!(bed.state_of("mine"), UseState::Running);
    assert_eq!(bed.now().rules[0].sha256, sha256_of(&one), "it goes on");

    fs::remove_file(&folder).expect("removed");
    fs::rename(&away, &folder).expect("renamed");
    bed.until_condition("watchfire_watch_degraded", false).await;
    assert_eq!(bed.state_of("mine"), UseState::Running);
}
