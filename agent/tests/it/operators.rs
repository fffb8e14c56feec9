//! What an operator does about an alert, with the real commands against the real agent; and alerts that
//! somebody else pushes in.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::recovery::procedure;
use crate::support::{Agent, Answer, Folder, Server, all_told, command, history, wait_for};
use serde_json::Value;

/// Everything repeats after a second, so that its absence can be seen.
fn repeating(sink: &Server) -> String {
    hook(sink) + "repeat = { critical = \"1s\", high = \"1s\", warning = \"1s\", low = \"1s\" }\n"
}

/// Runs a command of the operator's against the agent of this folder: exit code, stdout, stderr.
fn run(folder: &Folder, words: &[&str]) -> (Option<i32>, String, String) {
    let output = command()
        .args(words)
        .arg("--socket")
        .arg(folder.path("data/watchfire.sock"))
        .env("USER", "anna")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn done(folder: &Folder, words: &[&str]) -> String {
    let (code, out, err) = run(folder, words);
    assert_eq!(code, Some(0), "{words:?}: {out}{err}");
    out
}

fn json(folder: &Folder, words: &[&str]) -> Value {
    let out = done(folder, &[words, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{words:?}: {e}: {out}"))
}

/// Reasons of the messages so far.
fn reasons(sink: &Server) -> Vec<String> {
    let received = sink.received();
    let reasons = received
        .iter()
        .map(|r| r.json()["reason"].as_str().unwrap().to_owned());
    reasons.collect()
}

/// Waits until so many rounds have passed.
fn rounds(agent: &Agent, more: u64) {
    let seen = || agent.get("/health/events")?["rounds"]["total"].as_u64();
    let from = wait_for("the rounds", seen);
    wait_for("more rounds", || (seen()? >= from + more).then_some(()));
}

#[test]
fn an_operator_acknowledges_silences_and_asks_why() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let parts = [
        queue_probe(&source),
        QUEUE_RULE.to_owned(),
        repeating(&sink),
    ];
    let folder = Folder::new(&parts.concat());
    let agent = Agent::start(&folder);
    wait_for("a repeat", || {
        reasons(&sink).contains(&"repeat".to_owned()).then_some(())
    });

    let (code, _, words) = run(&folder, &["ack", "nothing"]);
    assert_eq!(code, Some(1));
    assert!(words.contains("no alert is called \"nothing\""), "{words}");
    assert!(
        done(&folder, &["ack", "queue-long", "--by", "bert"])
            .starts_with("acknowledged queue-long")
    );
    assert!(done(&folder, &["alerts"]).contains("acknowledged by bert"));
    wait_for("the withheld repeat is on record", || {
        let shown = json(&folder, &["explain", "queue-long"]);
        let mut events = shown["events"].as_array()?.iter();
        events
            .any(|e| e["what"] == "suppressed" && e["by"] == "acknowledged by bert")
            .then_some(())
    });
    let told = reasons(&sink).len();
    rounds(&agent, 15);
    assert_eq!(
        reasons(&sink).len(),
        told,
        "no repeat after the acknowledgement"
    );

    // It ends, and the next one begins under a silence.
    source.always(Answer::json(r#"{"queue": 3}"#));
    wait_for("the resolve", || {
        (reasons(&sink).last()? == "resolve").then_some(())
    });
    let told = reasons(&sink).len();
    let silence = json(
        &folder,
        &[
            "silence",
            "add",
            "queue-*",
            "severity=critical",
            "--for",
            "1h",
            "--reason",
            "deploy",
        ],
    );
    assert_eq!(
        (&silence["state"], &silence["owner"]),
        (&"active".into(), &"anna".into())
    );
    source.always(Answer::json(r#"{"queue": 300}"#));
    let id = silence["id"].as_str().unwrap();
    let words = [
        "queue_size = 300",
        "probe queue every 200ms",
        "300 against a limit of 100",
        &format!("muted by silence {id}, of anna until "),
        "route 1 to hook",
        &format!("fire critical to hook NOT SENT: silence {id}"),
        &format!("nobody heard of it: silence {id}"),
    ];
    wait_for("the muted alert with all of its words", || {
        let page = done(&folder, &["explain", "queue-long"]);
        let missing = words.iter().find(|words| !page.contains(**words));
        missing.inspect(|words| println!("{words:?} is not in\n{page}"));
        missing.is_none().then_some(())
    });
    assert_eq!(reasons(&sink).len(), told);
    assert!(done(&folder, &["silence", "list"]).contains("deploy"));
    done(&folder, &["silence", "expire", &id[..4]]);
    wait_for("the late page", || {
        (reasons(&sink).get(told)? == "fire").then_some(())
    });
    assert_eq!(done(&folder, &["silence", "list"]), "no silences\n");

    let incidents = json(&folder, &["incident"]);
    let incidents = incidents.as_array().unwrap();
    assert_eq!(incidents.len(), 2, "newest first");
    assert!(incidents[0]["ended_at_ms"].is_null());
    let first = &incidents[1];
    assert_eq!(first["acknowledged_by"], "bert");
    assert_eq!(first["end_cause"], "threshold");
    let document = done(&folder, &["incident", &first["id"].to_string()]);
    for words in [
        "# Incident",
        "acknowledged after",
        "by bert",
        "bert acknowledged queue-long",
        "the condition cleared at",
        "## Lessons",
    ] {
        assert!(document.contains(words), "{words:?} in\n{document}");
    }
    let newest = done(&folder, &["incident", "queue-long"]);
    assert!(newest.contains("it is still open"), "{newest}");
    assert_eq!(
        run(&folder, &["silence", "add", "x", "--for", "1h"]).0,
        Some(2),
        "a reason is wanted"
    );
    assert_eq!(run(&folder, &["incident", "999999"]).0, Some(1));
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn a_pushed_alert_is_told_and_expires() {
    let source = Server::start(Answer::json(r#"{"queue": 3}"#));
    let sink = Server::start(Answer::json("{}"));
    let parts = [queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)];
    let folder = Folder::new(&parts.concat());
    let agent = Agent::start(&folder);
    let ends = |after: u64| {
        let at = jiff::Timestamp::now() + std::time::Duration::from_secs(after);
        format!(
            r#"[{{"labels": {{"alertname": "Backup", "job": "nightly", "severity": "high"}},
                 "annotations": {{"summary": "no backup since Monday"}}, "endsAt": "{at}"}}]"#
        )
    };
    let (status, body) = agent.post_json("/api/v2/alerts", &ends(600));
    assert_eq!(status, 200, "{body}");
    let fire = wait_for("the page", || sink.received().first().cloned()).json();
    assert_eq!(fire["reason"], "fire");
    assert_eq!(fire["alerts"][0]["rule"], "Backup");
    assert_eq!(fire["alerts"][0]["severity"], "high");
    assert_eq!(fire["alerts"][0]["summary"], "no backup since Monday");
    let page = done(&folder, &["explain", "Backup"]);
    assert!(page.contains("no rule of this agent judges it"), "{page}");
    // What is not on record as delivered would rightly come again.
    wait_for("its delivery is on record", || {
        all_told(&history(&agent)?).then_some(())
    });

    // It outlives a kill, and ends when nobody renews it.
    agent.kill();
    let agent = Agent::start(&folder);
    let alerts = agent.get("/api/v2/alerts").unwrap();
    assert_eq!(alerts[0]["labels"]["job"], "nightly", "{alerts}");
    assert_eq!(agent.post_json("/api/v2/alerts", &ends(5)).0, 200);
    let resolve = wait_for("the resolve", || sink.received().get(1).cloned()).json();
    assert_eq!(resolve["reason"], "resolve");
    assert_eq!(resolve["dedup_key"], fire["dedup_key"]);
    let cause = resolve["alerts"][0].to_string();
    assert!(cause.contains("ttl"), "{cause}");
    let (status, body) = agent.post_json(
        "/api/v2/alerts",
        r#"[{"labels": {"alertname": "queue-long"}}]"#,
    );
    assert_eq!(status, 409, "a rule's own name: {body}");
    assert_eq!(sink.received().len(), 2);
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn an_agent_without_a_probe_tells_of_pushed_groups_after_a_kill() {
    let sink = Server::start(Answer::json("{}"));
    let grouped = hook(&sink)
        .replace("group_by   = []", "group_by = [\"rule\"]")
        .replace("group_wait = \"0s\"", "group_wait = \"2s\"");
    assert!(grouped.contains("2s"), "{grouped}");
    let folder = Folder::new(&grouped);
    let agent = Agent::start(&folder);
    let (status, body) = agent.post_json(
        "/api/v2/alerts",
        r#"[{"labels": {"alertname": "Backup", "severity": "high"}}]"#,
    );
    assert_eq!(status, 200, "{body}");
    // Whether its group had left by then or not: it is heard of, and only rounds can end the wait.
    agent.kill();
    let agent = Agent::start(&folder);
    let told = wait_for("the group", || sink.received().first().cloned()).json();
    assert_eq!(told["reason"], "group");
    assert_eq!(told["alerts"][0]["rule"], "Backup");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn a_lost_state_is_said_and_its_pages_keep_their_key() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let parts = [queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)];
    let folder = Folder::new(&parts.concat());
    let agent = Agent::start(&folder);
    let first = wait_for("the page", || sink.received().first().cloned()).json();
    agent.kill();
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let path = folder.path("data").join(file);
        if path.exists() {
            std::fs::write(path, vec![0x5a; 8_192]).unwrap();
        }
    }
    let agent = Agent::start(&folder);
    let again = |rule: &str| {
        let received = sink.received();
        let all = received.iter().skip(1).map(|r| r.json());
        all.into_iter().find(|m| m["alerts"][0]["rule"] == rule)
    };
    let lost = wait_for("the meta-alert", || again("watchfire_state_lost"));
    let words = lost["alerts"][0]["summary"].as_str().unwrap();
    assert!(words.contains("without silences"), "{words}");
    let page = wait_for("the page again", || again("queue-long"));
    assert_eq!(page["dedup_key"], first["dedup_key"], "services fold it");
    assert_ne!(page["id"], first["id"], "and it is another message");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn an_operator_gives_leave_and_stops_everything() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let target = Server::start(Answer::json("{}"));
    let parts = [
        queue_probe(&source),
        QUEUE_RULE.to_owned(),
        procedure(&target, "approve"),
    ];
    let folder = Folder::new(&parts.concat());
    let _agent = Agent::start(&folder);
    let asks = || {
        let shown = json(&folder, &["recovery", "status"]);
        let waits = &shown["procedures"][0]["waiting_for_approval"];
        (!waits.as_array()?.is_empty()).then_some(())
    };
    wait_for("the question", asks);
    let shown = done(&folder, &["recovery", "status"]);
    assert!(shown.contains("asks for leave: queue-long"), "{shown}");
    let (code, _, words) = run(&folder, &["recovery", "approve", "drian"]);
    assert_eq!(code, Some(1));
    assert!(words.contains("no recovery is called \"drian\""), "{words}");
    assert_eq!(target.received().len(), 0, "nothing runs before leave");

    let shown = done(&folder, &["recovery", "pause"]);
    assert!(shown.contains("`watchfire recovery resume`"), "{shown}");
    assert!(done(&folder, &["recovery", "status"]).starts_with("paused: "));
    done(&folder, &["recovery", "resume"]);
    wait_for("the question", asks);
    let shown = done(&folder, &["recovery", "approve", "drain"]);
    assert!(
        shown.starts_with("drain may start once for queue-long"),
        "{shown}"
    );
    wait_for("the approved call", || target.received().first().cloned());
    source.always(Answer::json(r#"{"queue": 3}"#));
    wait_for("the end of the alert", || {
        done(&folder, &["alerts"])
            .starts_with("nothing fires")
            .then_some(())
    });
    let (code, _, words) = run(&folder, &["recovery", "approve", "drain"]);
    assert_eq!(code, Some(1));
    assert!(words.contains("asks for nothing now"), "{words}");
    let shown = done(&folder, &["recovery", "reset", "drain"]);
    assert_eq!(shown, "drain has all its attempts again\n");
}
