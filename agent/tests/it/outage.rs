//! The notified service is down and the agent is killed: nothing is lost, nothing is sent twice.

use crate::configs::{QUEUE_RULE, QUICK_RETRY, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, all_told, history, wait_for};

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
every = "200ms"
timeout = "190ms"
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

#[test]
fn what_failed_and_was_removed_while_no_agent_ran_is_over_also_if_the_word_of_it_is_lost_in_a_kill()
{
    let source = Server::start(Answer::status(500));
    let sink = Server::start(Answer::json("{}"));
    let rest = [
        hook(&sink),
        QUICK_RETRY.to_owned(),
        "\n[alerting]\nstale_after = \"500ms\"\n".to_owned(),
    ];
    // A probe that fails, a probe whose plugin refuses its table, and a file that is no plugin.
    let refused = "\n[[probe]]\nid = \"odd\"\nplugin = \"probe-json\"\nconfig = { url = 1 }\n";
    let probes = [queue_probe(&source), refused.to_owned()].concat();
    let folder = Folder::new(&(probes + &rest.concat()));
    let file = folder.path("data/plugins/broken.wasm");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "no component").unwrap();

    let agent = Agent::start(&folder);
    let about = [
        ("watchfire_probe_failing", "probe", "queue"),
        ("watchfire_plugin_rejected", "plugin", "probe-json"),
        ("watchfire_plugin_rejected", "plugin", "broken"),
    ];
    let fires = about
        .map(|about| wait_for("a word of each", || one(&sink, "fire", about))["dedup_key"].clone());
    // What is not on record as delivered would rightly come again.
    wait_for("their deliveries are on record", || {
        all_told(&history(&agent)?).then_some(())
    });
    agent.kill();

    // Still configured: neither the restart nor anything else ends them.
    let count = sink.received().len();
    let agent = Agent::start(&folder);
    agent.wait_ready();
    assert_eq!(one(&sink, "resolve", about[0]), None);
    agent.kill();
    let again = sink.received().len() - count;

    folder.write_config(&rest.concat());
    std::fs::remove_file(&file).unwrap();
    sink.always(Answer::status(503));
    let agent = Agent::start(&folder);
    let refused = wait_for("a resolve that is not taken", || {
        one(&sink, "resolve", about[0])
    });
    agent.kill();

    sink.always(Answer::json("{}"));
    let before = sink.received().len();
    let agent = Agent::start(&folder);
    for (about, key) in about.into_iter().zip(fires) {
        let resolve = wait_for("each resolve", || {
            let later = sink.received().split_off(before);
            later
                .iter()
                .map(|one| one.json())
                .find(|one| is_about(one, "resolve", about))
        });
        assert_eq!(resolve["dedup_key"], key, "{resolve}");
        if about.0 == "watchfire_probe_failing" {
            assert_eq!(resolve["id"], refused["id"], "the same word");
        }
    }
    assert_eq!(
        again, 0,
        "a restart says nothing anew of what it finds as it was"
    );
    drop(agent);
}

fn one(sink: &Server, reason: &str, about: (&str, &str, &str)) -> Option<serde_json::Value> {
    let all = sink.received();
    let mut documents = all.iter().map(|one| one.json());
    documents.find(|one| is_about(one, reason, about))
}

fn is_about(
    told: &serde_json::Value,
    reason: &str,
    (rule, label, value): (&str, &str, &str),
) -> bool {
    let alert = &told["alerts"][0];
    told["reason"] == reason && alert["rule"] == rule && alert["labels"][label] == value
}

fn delivered(agent: &Agent) -> Option<()> {
    let events = agent.get("/events?since=0&type=notification")?;
    let found = events["events"]
        .as_array()?
        .iter()
        .any(|event| event["outcome"] == "accepted");
    found.then_some(())
}
