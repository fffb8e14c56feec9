//! Components that misbehave cost only themselves.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, guests, wait_for};
use std::fs;

/// Hostile guests and what the operator reads about each.
const GUESTS: [(&str, &str); 4] = [
    ("spin", "CPU budget"),
    ("allocate", "memory"),
    ("sleep", "did not answer within"),
    ("panic", "panic"),
];

#[test]
fn each_costs_only_itself() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    let mut config = String::from("\n[defaults]\nevery = \"1s\"\ntimeout = \"800ms\"\n");
    config.push_str(&queue_probe(&source));
    config.push_str(QUEUE_RULE);
    config.push_str(&hook(&sink));
    let folder = Folder::new(&config);
    for (name, _) in GUESTS {
        let component = guests::component(name);
        fs::copy(component, folder.path(&format!("data/plugins/{name}.wasm"))).unwrap();
    }
    let agent = Agent::start(&folder);
    for (name, words) in GUESTS {
        let error = wait_for(&format!("{name} failed and says how"), || {
            let text = agent.text("/api/v1/probes")?;
            let probes: serde_json::Value = serde_json::from_str(&text).ok()?;
            let probe = probes
                .as_array()?
                .iter()
                .find(|probe| probe["id"] == name)?
                .clone();
            probe["error"].as_str().map(str::to_owned)
        });
        assert!(error.contains(words), "{name}: {error}");
    }

    // Beside all of them the good probe is on time, and its page goes out.
    source.always(Answer::json(r#"{"queue": 250}"#));
    let page = wait_for("the page beside hostile guests", || {
        sink.received()
            .into_iter()
            .find(|r| r.json()["alerts"][0]["rule"] == "queue-long")
    });
    assert_eq!(page.json()["reason"], "fire");
    let metrics = agent.text("/metrics").unwrap();
    let late: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("watchfire_probe_lateness_seconds"))
        .collect();
    println!("lateness beside four hostile guests:\n{}", late.join("\n"));
}
