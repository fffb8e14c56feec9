//! Sample to page and back, through every stage.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, wait_for};

#[test]
fn a_breach_pages_and_its_end_resolves() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    let folder = Folder::new(&[queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)].concat());
    let agent = Agent::start(&folder);
    assert_eq!(
        sink.received().len(),
        0,
        "nothing is sent while all is well"
    );

    source.always(Answer::json(r#"{"queue": 250}"#));
    let fire = wait_for("the page", || sink.received().first().cloned());
    assert_eq!(fire.line, "POST /hook");
    let page = fire.json();
    assert_eq!(page["reason"], "fire");
    assert_eq!(page["alerts"][0]["rule"], "queue-long");
    assert_eq!(page["alerts"][0]["severity"], "critical");
    assert_eq!(page["alerts"][0]["value"], 250.0);
    assert_eq!(page["alerts"][0]["limit"], 100.0);
    assert_eq!(page["alerts"][0]["summary"], "queue is 250 long");
    assert_eq!(page["alerts"][0]["labels"]["host"], "test-host");
    assert_eq!(fire.header("idempotency-key"), page["id"].as_str());

    source.always(Answer::json(r#"{"queue": 3}"#));
    let resolve = wait_for("the resolve", || sink.received().get(1).cloned()).json();
    assert_eq!(resolve["reason"], "resolve");
    assert_eq!(resolve["dedup_key"], page["dedup_key"]);
    assert!(resolve["alerts"][0]["ended_at"].is_string());
    assert_eq!(sink.received().len(), 2);

    wait_for("it is healthy", || {
        (agent.get("/health")?["status"] == "healthy").then_some(())
    });
    let events = agent.get("/events?since=0").unwrap();
    let transitions: Vec<_> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "transition")
        .map(|event| event["to"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(transitions, ["firing:critical", "ok"]);
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn without_any_file_the_host_is_monitored() {
    let folder = Folder::empty();
    let agent = Agent::start_without_configuration(&folder);
    let metrics = wait_for("the host's metrics", || {
        agent
            .text("/metrics")
            .filter(|text| text.contains("\ncpu_usage_ratio"))
    });
    assert!(metrics.contains("\nmemory_used_ratio"));
    assert!(metrics.contains("\nload1 "));
    let rules = agent.get("/api/v1/rules").unwrap();
    assert!(
        rules
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["id"] == "host-cpu-high"),
        "{rules}"
    );
    assert_eq!(agent.terminate(), Some(0));
}
