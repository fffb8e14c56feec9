//! Components that fail and fail again, in the real agent: not called, tried again, healed, and nobody's page lost.

use crate::configs::{QUEUE_RULE, patient_queue_probe, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, command, guests, wait_for};
use serde_json::Value;
use std::fs;

fn plugin(agent: &Agent, name: &str) -> Option<Value> {
    let plugins = agent.get("/api/v1/plugins")?;
    let mut all = plugins.as_array()?.iter();
    all.find(|plugin| plugin["name"] == name).cloned()
}

fn metric(agent: &Agent, series: &str) -> Option<f64> {
    let text = agent.text("/metrics")?;
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A webhook notifier `hook` to which everything goes, at `server`.
fn hook(server: &Server) -> String {
    crate::configs::hook(server)
}

fn told(sink: &Server, reason: &str, rule: &str) -> Option<Value> {
    let all = sink.received();
    let documents = all.iter().map(crate::support::Received::json);
    documents
        .into_iter()
        .find(|told| told["reason"] == reason && told["alerts"][0]["rule"] == rule)
}

#[test]
fn a_trapping_probe_is_quarantined_tried_again_and_healed_by_a_new_file() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    let parts = [
        "\n[defaults]\nevery = \"300ms\"\ntimeout = \"5s\"\n".to_owned(),
        patient_queue_probe(&source),
        QUEUE_RULE.to_owned(),
        hook(&sink),
    ];
    let folder = Folder::new(&parts.concat());
    let place = folder.path("data/plugins/shaky.wasm");
    fs::copy(guests::component("panic"), &place).unwrap();
    let agent = Agent::start(&folder);

    let quarantined = wait_for("the quarantine is shown", || {
        let shown = plugin(&agent, "shaky")?;
        (!shown["quarantined"].is_null()).then_some(shown)
    });
    let message = quarantined["quarantined"]["message"].to_string();
    assert!(message.contains("the operator reads this"), "{message}");
    assert_eq!(quarantined["uses"][0]["id"], "shaky");
    assert!(quarantined["uses"][0]["quarantined"]["retry_at"].is_string());
    let failure = &quarantined["last_failure"];
    assert_eq!(failure["outcome"], "trapped", "{quarantined}");
    assert!(failure["at"].is_string(), "{quarantined}");

    let page = wait_for("the quarantine is an alert", || {
        told(&sink, "fire", "watchfire_plugin_quarantined")
    });
    assert_eq!(page["alerts"][0]["labels"]["plugin"], "shaky", "{page}");
    assert_eq!(page["alerts"][0]["severity"], "high", "{page}");
    wait_for(
        "its turns are skipped, and it is no less a failing probe",
        || {
            let withheld = metric(&agent, "watchfire_plugin_withheld_total{plugin=\"shaky\"")?;
            let runs = metric(
                &agent,
                "watchfire_probe_runs_total{probe=\"shaky\",outcome=\"quarantined\"}",
            )?;
            (withheld >= 5.0 && runs >= 5.0).then_some(())
        },
    );
    let tried = wait_for("it is tried again, less and less often", || {
        let shown = plugin(&agent, "shaky")?;
        let trials = shown["uses"][0]["quarantined"]["trials"].as_u64()?;
        (trials >= 2 && shown["calls"].as_u64() < shown["withheld"].as_u64()).then_some(shown)
    });
    assert_eq!(tried["outcomes"]["trapped"], tried["calls"], "{tried}");
    assert_eq!(tried["quarantines"], 1, "{tried}");

    let out = command()
        .args(["plugin", "list", "--config"])
        .arg(folder.path("watchfire.toml"))
        .output()
        .unwrap();
    let list = String::from_utf8(out.stdout).unwrap();
    let line = list.lines().find(|line| line.starts_with("shaky")).unwrap();
    assert!(line.contains("quarantined"), "{list}");
    assert!(list.contains("\nshaky: quarantined: "), "{list}");

    fs::copy(guests::component("example-probe"), &place).unwrap();
    wait_for("a new file heals it at once", || {
        let shown = plugin(&agent, "shaky")?;
        (shown["quarantined"].is_null() && shown["outcomes"]["ok"].as_u64()? > 0).then_some(())
    });
    wait_for("which ends the alert", || {
        told(&sink, "resolve", "watchfire_plugin_quarantined")
    });
    let skipped = metric(&agent, "watchfire_probe_skipped_total{probe=\"queue\"}").unwrap_or(0.0);
    assert_eq!(skipped, 0.0, "no round of another probe was lost");
}

#[test]
fn a_probe_that_recovers_serves_again_by_trial() {
    let mood = Server::start(Answer::status(503));
    let address = mood.address();
    let config = format!(
        r#"
[[probe]]
id      = "moody"
plugin  = "moody"
every   = "300ms"
timeout = "5s"
grant   = {{ http = ["http://{address}"] }}
config  = {{ url = "http://{address}/" }}

[[rule]]
id       = "moody-silent"
metric   = "moody_is_well"
config   = {{ below = {{ critical = 1 }} }}
keep     = "0s"
"#
    );
    let folder = Folder::new(&config);
    let place = folder.path("data/plugins/moody.wasm");
    fs::copy(guests::component("moody"), place).unwrap();
    let agent = Agent::start(&folder);
    wait_for("ten answers that the target is not well", || {
        let calls = plugin(&agent, "moody")?["outcomes"]["unavailable"].as_u64()?;
        (calls >= 10).then_some(())
    });
    let shown = plugin(&agent, "moody").unwrap();
    assert!(
        shown["quarantined"].is_null(),
        "its target's fault: {shown}"
    );
    assert_eq!(shown["failures"], 0, "{shown}");

    mood.always(text("trap"));
    wait_for("the quarantine", || {
        let shown = plugin(&agent, "moody")?;
        (!shown["quarantined"].is_null()).then_some(())
    });
    mood.always(text("well"));
    wait_for("a trial that goes well", || {
        let shown = plugin(&agent, "moody")?;
        (shown["quarantined"].is_null() && shown["samples"].as_u64()? > 3).then_some(())
    });
    let alerts = agent.get("/api/v1/alerts").unwrap();
    let fired = alerts["alerts"].as_array().unwrap().iter();
    let fired: Vec<_> = fired
        .filter(|alert| alert["rule"] == "moody-silent")
        .collect();
    assert!(fired.is_empty(), "what is unknown is no breach: {alerts}");
}

fn text(body: &str) -> Answer {
    Answer {
        status: 200,
        headers: "content-type: text/plain\r\n".to_owned(),
        body: body.to_owned(),
    }
}

#[test]
fn a_quarantined_rule_holds_what_fires_and_judges_again_by_trial() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let rule = r#"
[[rule]]
id      = "moody-queue"
plugin  = "moody"
metric  = "queue_size"
keep    = "0s"
"#;
    let parts = [
        queue_probe(&source),
        QUEUE_RULE.to_owned(),
        rule.to_owned(),
        hook(&sink),
    ];
    let folder = Folder::new(&parts.concat());
    let place = folder.path("data/plugins/moody.wasm");
    fs::copy(guests::component("moody"), place).unwrap();
    let agent = Agent::start(&folder);
    let of_rule = || {
        let shown = plugin(&agent, "moody")?;
        let mut uses = shown["uses"].as_array()?.iter();
        uses.find(|one| one["id"] == "moody-queue").cloned()
    };
    let state = || {
        let alerts = agent.get("/api/v1/alerts")?;
        let mut alerts = alerts["alerts"].as_array()?.iter();
        let mine = alerts.find(|alert| alert["rule"] == "moody-queue")?;
        Some(mine["state"].as_str()?.to_owned())
    };
    wait_for("it fires", || told(&sink, "fire", "moody-queue"));

    source.always(Answer::json(r#"{"queue": -1}"#));
    wait_for("the quarantine", || {
        (!of_rule()?["quarantined"].is_null()).then_some(())
    });
    wait_for("is an alert", || {
        told(&sink, "fire", "watchfire_plugin_quarantined")
    });
    wait_for("the other rule goes on", || {
        told(&sink, "resolve", "queue-long")
    });
    wait_for("it is called by trial alone", || {
        let shown = of_rule()?;
        let trials = shown["quarantined"]["trials"].as_u64()?;
        (trials >= 1 && shown["withheld"].as_u64()? > 3).then_some(())
    });
    assert_eq!(state().as_deref(), Some("firing:critical"), "it is held");
    assert!(told(&sink, "resolve", "moody-queue").is_none());

    source.always(Answer::json(r#"{"queue": 7}"#));
    wait_for("a trial that goes well resolves it", || {
        told(&sink, "resolve", "moody-queue")
    });
    assert!(of_rule().unwrap()["quarantined"].is_null());
    wait_for("and ends the alert about the plugin", || {
        told(&sink, "resolve", "watchfire_plugin_quarantined")
    });
}

#[test]
fn the_fallback_steps_in_for_a_quarantined_notifier_and_the_page_still_arrives() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let moody = Server::start(text("trap"));
    let spare = Server::start(Answer::json("{}"));
    let config = format!(
        r#"
[[notifier]]
id     = "moody"
plugin = "moody"
grant  = {{ http = ["http://{moody}"] }}
config = {{ url = "http://{moody}/" }}

[[notifier]]
id     = "spare"
plugin = "notifier-webhook"
grant  = {{ http = ["http://{spare}"] }}
config = {{ url = "http://{spare}/hook" }}

[[route]]
notify     = ["moody"]
group_by   = []
group_wait = "0s"

[delivery]
first_retry = "100ms"
factor      = 1
max_retry   = "100ms"
jitter      = 0
fallback    = "spare"
"#,
        moody = moody.address(),
        spare = spare.address()
    );
    let folder = Folder::new(&[queue_probe(&source), QUEUE_RULE.to_owned(), config].concat());
    let place = folder.path("data/plugins/moody.wasm");
    fs::copy(guests::component("moody"), place).unwrap();
    let agent = Agent::start(&folder);

    let copy = wait_for("the fallback hears of it", || {
        told(&spare, "fire", "queue-long")
    });
    wait_for("and of the quarantine", || {
        told(&spare, "fire", "watchfire_plugin_quarantined")
    });
    let posted = || {
        let all = moody.received().into_iter();
        let posts = all.filter(|one| one.line.starts_with("POST"));
        posts.map(|post| post.body).collect::<Vec<_>>()
    };
    assert!(posted().is_empty(), "it never got so far");
    let events = agent.get("/events?since=0&type=notification").unwrap();
    let events = events["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["outcome"] == "quarantined"),
        "{events:?}"
    );

    moody.always(text("well"));
    wait_for("the page itself arrives by way of trial", || {
        posted().contains(&"Fire".to_owned()).then_some(())
    });
    wait_for("the quarantine is over", || {
        plugin(&agent, "moody")?["quarantined"]
            .is_null()
            .then_some(())
    });
    source.always(Answer::json(r#"{"queue": 7}"#));
    wait_for("both hear of the end", || {
        posted().contains(&"Resolve".to_owned()).then_some(())?;
        told(&spare, "resolve", "queue-long")
    });
    let copies = spare.received().into_iter();
    let copies = copies.filter(|one| one.json()["id"] == copy["id"]);
    assert_eq!(copies.count(), 1, "the fallback heard of the fire once");
}

#[test]
fn a_quarantined_action_is_not_started_and_spends_no_attempt() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let moody = Server::start(text("trap"));
    let config = format!(
        r#"
[recover]
boot_grace = "0s"
per_hour   = 1000

[[recovery]]
id           = "fix"
plugin       = "moody"
rules        = ["queue-long"]
mode         = "auto"
max_attempts = 1000
window       = "1h"
cooldown     = "100ms"
timeout      = "5s"
verify_after = "100ms"
grant        = {{ http = ["http://{moody}"] }}
config       = {{ url = "http://{moody}/" }}
"#,
        moody = moody.address()
    );
    let folder = Folder::new(&[queue_probe(&source), QUEUE_RULE.to_owned(), config].concat());
    let place = folder.path("data/plugins/moody.wasm");
    fs::copy(guests::component("moody"), place).unwrap();
    let agent = Agent::start(&folder);
    // Dropped in without a table it would be a probe as well, if it took an empty one.
    let attempts = || {
        let events = agent.get("/events?since=0&type=action")?;
        let events = events["events"].as_array()?.clone();
        let starts = events.iter().filter(|event| event["step"] == "start");
        Some((starts.count() as u64, events))
    };
    let shown = wait_for("the quarantine of the action and two trials", || {
        let shown = plugin(&agent, "moody")?;
        let of_action = shown["uses"]
            .as_array()?
            .iter()
            .find(|u| u["id"] == "fix")?;
        let trials = of_action["quarantined"]["trials"].as_u64()?;
        (trials >= 2).then(|| of_action.clone())
    });
    assert_eq!(shown["kind"], "action", "{shown}");
    let (starts, _) = attempts().unwrap();
    let calls = plugin(&agent, "moody").unwrap()["uses"].clone();
    let calls = calls.as_array().unwrap().iter().find(|u| u["id"] == "fix");
    let calls = calls.unwrap()["calls"].as_u64().unwrap();
    assert!(starts <= calls + 1, "{starts} attempts, {calls} calls");
    assert_eq!(
        shown["withheld"], 0,
        "the engine does not even try: {shown}"
    );

    moody.always(text("well"));
    wait_for("a trial that goes well", || {
        let (_, events) = attempts()?;
        let done = |event: &Value| event["message"] == "looked at its mood";
        events.iter().any(done).then_some(())
    });
}
