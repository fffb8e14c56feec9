//! What a guest can reach: nothing but what was granted, and nothing of the call before.

use super::{Bench, value};
use std::sync::Arc;
use watchfire::sandbox::types::{CallError, Kind, Limits, Use};
use watchfire::sandbox::wants;

#[tokio::test]
async fn a_component_says_what_it_is_with_nothing_granted() {
    let bench = Bench::new();
    let component = bench.load("hostile");
    assert_eq!(component.kinds(), [Kind::Probe]);
    assert_eq!(component.sha256(), [7; 32]);
    assert!(
        component.imports().iter().all(|import| {
            import.starts_with("watchfire:plugin/") || import.starts_with("wasi:")
        })
    );
    let description = component.describe().await.unwrap();
    assert_eq!(description.name, "guest-hostile");
    assert_eq!(
        wants(&description),
        "grant = { commands = [\"greet\"], system = true }\n"
    );
    let settings = Use {
        id: "x".into(),
        config: "{}".into(),
        grants: Arc::default(),
        limits: Limits::of(Kind::Rule),
    };
    let wrong = component.rule(settings).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "plugin 'hostile' is no rule: it is a probe"
    );
}

#[tokio::test]
async fn a_wrong_configuration_is_told_in_the_plugins_words() {
    let bench = Bench::new();
    let probe = bench.hostile("refuse", |_, _| ());
    let refused = probe.configure().await.unwrap_err();
    assert_eq!(
        refused,
        CallError::Config("config.do: write something else".into())
    );
    let (answer, _) = probe.collect().await;
    assert_eq!(answer.unwrap_err(), refused);
    bench.hostile("", |_, _| ()).configure().await.unwrap();
}

#[tokio::test]
async fn what_is_not_granted_is_refused_with_the_line_to_add() {
    let bench = Bench::new();
    for (deed, line) in [
        (
            "read system",
            "add `grant = { system = true }` to [[probe]] \"test\"",
        ),
        (
            "read what is not granted",
            "add `grant = { files = [\"/etc/shadow\"] }` to [[probe]] \"test\"",
        ),
        (
            "run",
            "add `grant = { commands = [\"greet\"] }` to [[probe]] \"test\"",
        ),
    ] {
        let (answer, cost) = bench.collect(deed).await;
        let error = answer.unwrap_err();
        assert_eq!(error.name(), "denied");
        assert!(error.to_string().ends_with(line), "{error}");
        assert_eq!(cost.refusals, 1);
    }
    let granted = bench.hostile("read system", |_, grants| grants.system = true);
    granted.collect().await.0.unwrap();
    let granted = bench.hostile("run", |_, grants| grants.commands = vec!["greet".into()]);
    granted.collect().await.0.unwrap();
    // Logged once in these words, however often it happens.
    let probe = bench.hostile("read system", |_, _| ());
    bench.lines.0.lock().unwrap().clear();
    for _ in 0..3 {
        probe.collect().await.0.unwrap_err();
    }
    assert_eq!(bench.lines.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_starts_from_nothing() {
    let bench = Bench::new();
    let probe = bench.hostile("static", |_, _| ());
    for _ in 0..3 {
        assert_eq!(value(&probe.collect().await.0.unwrap()), 0.0);
    }
    let (answer, _) = bench.collect("look around").await;
    assert_eq!(value(&answer.unwrap()), 0.0, "no environment, no arguments");
}

#[tokio::test]
async fn state_is_kept_only_by_calls_that_succeed() {
    let bench = Bench::new();
    let counted = || bench.state.of("test").get("count").cloned();
    let (answer, _) = bench.collect("count").await;
    assert_eq!(value(&answer.unwrap()), 1.0);
    assert_eq!(counted().unwrap(), b"1");
    for deed in ["count and panic", "count and fail", "count and spin"] {
        let (answer, _) = bench.collect(deed).await;
        answer.unwrap_err();
        assert_eq!(counted().unwrap(), b"1", "{deed}");
    }
    let (answer, _) = bench.hostile("count", |_, _| ()).trial().await;
    assert_eq!(value(&answer.unwrap()), 2.0);
    assert_eq!(counted().unwrap(), b"1", "a trial leaves no trace");
    let (answer, _) = bench.collect("count").await;
    assert_eq!(value(&answer.unwrap()), 2.0);
}

#[tokio::test]
async fn files_are_read_beneath_their_globs_and_nowhere_else() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap().to_owned();
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(inside.join("good.log"), "0123456789").unwrap();
    std::fs::write(folder.path().join("secret"), "not yours").unwrap();
    std::fs::write(inside.join("large.log"), vec![b'x'; 3 << 20]).unwrap();
    std::os::unix::fs::symlink("../secret", inside.join("link.log")).unwrap();
    std::os::unix::fs::symlink("/proc/self", inside.join("self.log")).unwrap();
    std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        inside.join("fifo.log"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let component = bench.load("hostile");
    let read = async |path: &str| {
        let config = serde_json::json!({ "do": "read", "at": path });
        let probe = super::probe(&component, &config, |_, grants| {
            // All of /proc as well: what is the agent's own stays closed even then.
            grants.files = vec![format!("{at}/inside/**"), "/proc/**".into()];
        });
        probe.collect().await
    };
    let (answer, _) = read(&format!("{at}/inside/good.log")).await;
    assert_eq!(value(&answer.unwrap()), 10.0);
    // A part of a large one: as much as was asked for.
    let (answer, _) = read(&format!("{at}/inside/large.log")).await;
    assert_eq!(value(&answer.unwrap()), f64::from(1 << 20));
    let own = std::process::id();
    for path in [
        format!("{at}/secret"),
        format!("{at}/inside/../secret"),
        format!("{at}/inside/up/secret"),
        format!("{at}/inside/./good.log/../../secret"),
        format!("{at}/inside/link.log"),
        format!("{at}/inside/self.log/environ"),
        format!("{at}/inside/fifo.log"),
        format!("{at}/inside"),
        "/etc/passwd".into(),
        "etc/passwd".into(),
        "/proc/self/environ".into(),
        "/proc/self/mem".into(),
        "/proc/self/status".into(),
        "/proc/thread-self/status".into(),
        format!("/proc/{own}/environ"),
        format!("/proc/{own}/task/{own}/mem"),
        format!("/proc/{own}/root/etc/passwd"),
        "/proc/1/environ".into(),
        "/proc/kcore".into(),
        "/proc/kmsg".into(),
        "".into(),
        "\0".into(),
    ] {
        // Refused, and not waited for: that would end with the wall limit.
        let (answer, _) = read(&path).await;
        let error = answer.expect_err(&path);
        assert!(
            matches!(error, CallError::Denied(_) | CallError::Config(_)),
            "{path:?}: {error:?}"
        );
    }
}
