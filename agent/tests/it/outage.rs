//! The notified service is down and the agent is killed: nothing is lost, nothing is sent twice.

use crate::configs::{QUEUE_RULE, QUICK_RETRY, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, wait_for};

#[test]
fn a_page_survives_an_outage_of_its_service_and_a_kill_of_the_agent() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::status(503));
    let parts = [
        queue_probe(&source),
        QUEUE_RULE.to_owned(),
        hook(&sink),
        QUICK_RETRY.to_owned(),
    ];
    let folder = Folder::new(&parts.concat());
    let agent = Agent::start(&folder);

    source.always(Answer::json(r#"{"queue": 250}"#));
    let tried = wait_for("two attempts", || {
        let received = sink.received();
        (received.len() >= 2).then_some(received)
    });
    let first = tried[0].json();
    assert_eq!(first["id"], tried[1].json()["id"], "retries keep the id");

    // Down for good, and the agent is killed meanwhile.
    let address = sink.address();
    drop(sink);
    agent.kill();
    let agent = Agent::start(&folder);
    let sink = Server::start_on(address, Answer::json("{}"));
    let page = wait_for("the page after the outage", || {
        sink.received().first().cloned()
    })
    .json();
    assert_eq!(page["id"], first["id"], "the id outlives the process");
    assert_eq!(page["reason"], "fire");
    assert_eq!(
        page["alerts"][0]["started_at"], first["alerts"][0]["started_at"],
        "the original start outlives the process"
    );

    source.always(Answer::json(r#"{"queue": 7}"#));
    let resolve = wait_for("the resolve", || sink.received().get(1).cloned()).json();
    assert_eq!(resolve["reason"], "resolve");
    assert_eq!(sink.received().len(), 2, "the page came once");
    drop(agent);
}

#[test]
fn a_killed_agent_goes_on_where_it_was() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let folder = Folder::new(&[queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)].concat());
    let agent = Agent::start(&folder);
    wait_for("the page", || sink.received().first().cloned());
    wait_for("its delivery is on record", || delivered(&agent));
    agent.kill();

    // The end of the breach falls into the outage; it is told afterwards, and the page is not repeated.
    source.always(Answer::json(r#"{"queue": 7}"#));
    let agent = Agent::start(&folder);
    let resolve = wait_for("the resolve", || sink.received().get(1).cloned()).json();
    assert_eq!(resolve["reason"], "resolve");
    assert_eq!(sink.received().len(), 2);
    drop(agent);
}

#[test]
fn an_alert_whose_series_never_comes_back_after_a_restart_is_gone() {
    let page = |series: &str| Answer {
        status: 200,
        headers: "content-type: text/plain; version=0.0.4\r\n".to_owned(),
        body: format!("other_size 1\n{series}"),
    };
    let source = Server::start(page("queue_size{queue=\"old\"} 250\n"));
    let sink = Server::start(Answer::json("{}"));
    let probe = format!(
        r#"
[[probe]]
id = "queue"
plugin = "probe-prometheus"
every = "100ms"
timeout = "90ms"
grant = {{ http = ["http://{0}"] }}
config = {{ url = "http://{0}/metrics" }}
"#,
        source.address()
    );
    let folder = Folder::new(&[probe, QUEUE_RULE.to_owned(), hook(&sink)].concat());
    let agent = Agent::start(&folder);
    wait_for("the page", || sink.received().first().cloned());
    wait_for("its delivery is on record", || delivered(&agent));
    agent.kill();

    source.always(page(""));
    let agent = Agent::start(&folder);
    let resolve = wait_for("the resolve", || sink.received().get(1).cloned()).json();
    assert_eq!(resolve["reason"], "resolve");
    assert_eq!(resolve["alerts"][0]["labels"]["queue"], "old");
    assert_eq!(resolve["alerts"][0]["end-cause"], "gone", "{resolve}");
    drop(agent);
}

fn delivered(agent: &Agent) -> Option<()> {
    let events = agent.get("/events?since=0&type=notification")?;
    let found = events["events"]
        .as_array()?
        .iter()
        .any(|event| event["outcome"] == "accepted");
    found.then_some(())
}
