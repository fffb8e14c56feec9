//! What an author does, with the real binary: `plugin new`, test, build, check, run, install, and there are samples.
//!
//! Other languages than Rust need tools that may not be installed; their tests say then that they were skipped.

use crate::support::{Agent, Folder, command, guests, now, wait_for};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

const KINDS: [&str; 4] = ["probe", "rule", "notifier", "action"];

/// A plugin that `plugin new` wrote; gone with its value.
struct Plugin {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Plugin {
    fn new(language: &str, kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{kind}-new"));
        let said = fine(
            command()
                .args(["plugin", "new", "--lang", language])
                .arg(&path),
        );
        assert!(said.contains("works as it stands"), "{said}");
        if language == "rust" {
            // The versions that are at hand: nothing is fetched.
            let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
            fs::copy(lock, path.join("Cargo.lock")).unwrap();
        }
        Plugin {
            _folder: folder,
            path,
        }
    }

    /// `watchfire plugin WORDS`, in the plugin's folder.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = command();
        for (key, _) in std::env::vars_os() {
            // Flags and wrappers of the outer cargo are not for guests.
            let key = key.to_string_lossy().into_owned();
            if key.starts_with("CARGO_") && key != "CARGO_HOME" || key.starts_with("RUSTC") {
                command.env_remove(key);
            }
        }
        command
            .arg("plugin")
            .args(words)
            .current_dir(&self.path)
            .env("CARGO", env!("CARGO"))
            .env("CARGO_NET_OFFLINE", "true")
            // What other tests compiled already is not compiled again.
            .env("CARGO_TARGET_DIR", guests::target_folder())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn fine(&self, words: &[&str]) -> String {
        good(&self.run(words), words)
    }
}

#[track_caller]
fn fine(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    good(&output, &[])
}

#[track_caller]
fn good(output: &Output, words: &[&str]) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{words:?}\n{out}\n{err}");
    out.into_owned()
}

/// What each kind is run with, as its README says.
fn arguments(kind: &str) -> &'static [&'static str] {
    match kind {
        "probe" => &["--config", r#"{"limit": 2}"#, "--grant", "system=true"],
        "rule" => &["--config", r#"{"limit": 10}"#, "--input", "value=11"],
        // Nobody answers there: that is told, and is no fault of the plugin.
        "notifier" => &[
            "--config",
            r#"{"url": "http://127.0.0.1:9/"}"#,
            "--grant",
            "http=http://127.0.0.1:9",
        ],
        _ => &[
            "--config",
            r#"{"url": "http://127.0.0.1:9/", "label": "test"}"#,
        ],
    }
}

/// What running it shows.
fn shown(kind: &str) -> &'static str {
    match kind {
        "probe" => "load_to_limit_ratio ",
        "rule" => "breach: warning, value 11, limit 10",
        "notifier" => "(unavailable): ",
        _ => "would drain true (changed nothing)",
    }
}

#[track_caller]
fn works(plugin: &Plugin, kind: &str) {
    let cases = plugin.fine(&["test"]);
    assert!(cases.contains(" cases, 0 failed"), "{cases}");
    let checked = plugin.fine(&["check", "."]);
    assert!(checked.contains("0 errors, 0 warnings"), "{checked}");
    assert!(
        checked.contains("watchfire:plugin 0.1.0") || kind == "rule",
        "{checked}"
    );
    let mut words = vec!["run", "."];
    words.extend(arguments(kind));
    let ran = plugin.run(&words);
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.contains(shown(kind)), "{kind}: {said}");
}

#[test]
fn templates_in_rust_pass_their_tests_and_run() {
    for kind in KINDS {
        let plugin = Plugin::new("rust", kind);
        let started = now();
        works(&plugin, kind);
        println!(
            "rust {kind}: built, tested, checked and run in {:.1?}",
            started.elapsed()
        );
        let unit = guests::cargo()
            .current_dir(&plugin.path)
            .args(["test", "--quiet", "--offline", "--lib", "--target-dir"])
            .arg(guests::target_folder())
            .output()
            .unwrap();
        let said = good(&unit, &["cargo test"]);
        assert!(
            said.contains("test result: ok") && !said.contains(" 0 passed"),
            "{said}"
        );
    }
}

#[test]
fn a_new_probe_is_installed_and_gives_samples() {
    let plugin = Plugin::new("rust", "probe");
    plugin.fine(&["build"]);
    let folder = Folder::new("");
    let agent = Agent::spawn(&folder);
    wait_for("the agent answers", || agent.get("/api/v1/plugins"));
    let installed = plugin.fine(&[
        "install",
        ".",
        "--into",
        folder.path("data/plugins").to_str().unwrap(),
    ]);
    assert!(
        installed.contains("[[probe]]") && installed.contains("plugin = \"probe-new\""),
        "{installed}"
    );
    assert!(
        installed.contains("grant  = { system = true }"),
        "{installed}"
    );
    // What it says to paste is what makes it run.
    let table = installed.split("\n\n").last().unwrap().to_owned();
    folder.write_config(&format!("{table}every = \"1s\"\n"));
    wait_for("samples of the new probe", || {
        let text = agent.text("/metrics")?;
        text.lines()
            .any(|line| line.starts_with("load_to_limit_ratio"))
            .then_some(())
    });
    drop(agent);
}

/// Whether the tools of a language are there; says so where they are not.
fn buildable(plugin: &Plugin, language: &str) -> bool {
    let output = plugin.run(&["build"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("is not installed") {
        println!("skipped: {language}: {said}");
        return false;
    }
    assert!(output.status.success(), "{language}: {said}");
    true
}

fn language_works(language: &str, kinds: &[&str]) {
    for kind in kinds {
        let plugin = Plugin::new(language, kind);
        if !buildable(&plugin, language) {
            return;
        }
        works(&plugin, kind);
    }
}

#[test]
fn templates_in_c_pass_their_tests_and_run() {
    language_works("c", &KINDS);
}

#[test]
fn templates_in_javascript_pass_their_tests_and_run() {
    language_works("javascript", &KINDS);
}

/// A component of 18 MB takes half a minute to compile here, so not all kinds.
#[test]
fn templates_in_python_pass_their_tests_and_run() {
    language_works("python", &["probe", "notifier"]);
}

#[test]
fn a_missing_tool_is_named_with_how_to_get_it() {
    for (language, install) in [
        ("python", "pip install componentize-py"),
        ("javascript", "npm install componentize-qjs"),
        ("c", "cargo install --locked wit-bindgen-cli"),
    ] {
        let plugin = Plugin::new(language, "rule");
        let output = command()
            .args(["plugin", "build"])
            .current_dir(&plugin.path)
            .env("PATH", "/nonexistent")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("is not installed") && said.contains(install),
            "{said}"
        );
    }
}

#[test]
fn the_cases_of_stock_rules_hold_in_the_sandbox_as_natively() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut rules = 0;
    for entry in fs::read_dir(plugins).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("rule-") {
            continue;
        }
        rules += 1;
        let cases = fs::read_dir(folder.join("testdata")).unwrap().count();
        let said = fine(
            command()
                .args(["plugin", "test", "--component", name])
                .arg(&folder),
        );
        assert!(
            said.contains(&format!("\n{cases} cases, 0 failed")),
            "{said}"
        );
    }
    assert!(rules >= 7, "{rules} rules");
}

#[test]
fn a_case_that_does_not_hold_says_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let case = folder.path().join("testdata/wrong");
    fs::create_dir_all(&case).unwrap();
    let text = r#"
config = { above = { warning = 1.0 } }
instances = [{ values = [2.0] }, { values = [nan] }]

[expect]
verdicts = [{ breached = [], value = 2.0, limit = 1.0 }, "unknown"]
"#;
    fs::write(case.join("case.toml"), text).unwrap();
    let run = |part: &str| {
        let mut command = command();
        command.args([
            "plugin",
            "test",
            "--component",
            "rule-threshold",
            "--case",
            part,
        ]);
        command.arg(folder.path()).output().unwrap()
    };
    let output = run("wrong");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FAILED  wrong") && said.contains(r#"expected [{"breached":[]"#),
        "{said}"
    );
    assert!(said.contains("1 case, 1 failed"), "{said}");
    let none = String::from_utf8_lossy(&run("no-such").stderr).into_owned();
    assert!(none.contains("has no case called \"no-such\""), "{none}");
    for text in [
        &b"\xff"[..],
        b"http = [{ body_file = \"gone\" }]\nexpect = {}",
    ] {
        fs::write(case.join("case.toml"), text).unwrap();
        let said = String::from_utf8_lossy(&run("wrong").stderr).into_owned();
        assert!(said.contains("testdata/wrong/"), "no file is named: {said}");
    }
}

#[test]
fn what_an_agent_would_refuse_fails_the_check() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let check = |words: &[&str]| {
        let mut command = command();
        let output = command
            .args(["plugin", "check"])
            .args(words)
            .output()
            .unwrap();
        let all = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&all).into_owned(),
        )
    };
    let probe = golden.join("probe-0.1.wasm");
    let probe = probe.to_str().unwrap();
    let (code, said) = check(&[probe]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("tcp") && said.contains("grant = { system = true }"),
        "{said}"
    );
    let (code, said) = check(&[probe, "--config", r#"{"refuse": true}"#]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("it refuses the table: config.refuse: write false"),
        "{said}"
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.wasm");
    for (bytes, teaches) in [
        (&b"\0asm\x01\0\0\0"[..], "component"),
        (&b"(component)"[..], "plugin 'probe'"),
        (&fs::read(probe).unwrap()[..4_000], "plugin 'probe'"),
    ] {
        fs::write(&file, bytes).unwrap();
        let (code, said) = check(&[file.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{said}");
        println!("{teaches}: {said}");
    }
}

#[test]
fn an_installation_that_no_agent_would_take_says_so() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/probe-0.1.wasm");
    let folder = tempfile::tempdir().unwrap();
    let install = |file: &Path| {
        let mut command = command();
        command.args(["plugin", "install", "--name", "probe-x", "--into"]);
        let output = command.arg(folder.path()).arg(file).output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&all).into_owned()
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let said = install(&golden);
    assert!(
        said.contains("does not run yet: ") && said.contains("run: chmod go-w"),
        "{said}"
    );
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let said = install(&golden);
    assert!(!said.contains("does not run yet"), "{said}");
    let said = install(Path::new("notifier-slack"));
    assert!(said.contains("notifier-slack is a stock plugin"), "{said}");
}

#[test]
fn a_call_over_its_cpu_budget_fails_the_run() {
    let run = |limit: &str| {
        let mut command = command();
        command.args([
            "plugin",
            "run",
            "rule-threshold",
            "--config",
            r#"{"above": {"warning": 1}}"#,
        ]);
        command.args([
            "--input",
            "value=2",
            "--repeat",
            "3",
            "--fail-if-cpu-over",
            limit,
        ]);
        command.output().unwrap()
    };
    let output = run("10s");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("3 calls, 0 failed"), "{said}");

    let output = command()
        .args(["plugin", "run", "--fail-if-cpu-over", "50ms"])
        .args(["--config", r#"{"do": "spin"}"#])
        .arg(guests::component("hostile"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--fail-if-cpu-over allows 50ms"), "{said}");
}
