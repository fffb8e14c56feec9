//! Files change under a running agent: plugins and rules, good and bad.

use crate::configs::{QUEUE_RULE, hook, patient_queue_probe, queue_probe};
use crate::support::{
    Agent, Answer, Folder, PATIENCE, Server, guests, now, on_a_machine_that_runs, wait_for,
    wait_within,
};
use std::fs;
use std::time::Duration;

/// From the file's arrival to its first samples.
const TO_FIRST_SAMPLES: Duration = Duration::from_secs(2);

/// A probe of the drop-in `example`, quick enough to be seen.
const QUICK_DEFAULTS: &str = "\n[defaults]\nevery = \"200ms\"\ntimeout = \"150ms\"\n";

fn runs(agent: &Agent, probe: &str) -> Option<f64> {
    metric(
        agent,
        &format!("watchfire_probe_runs_total{{probe=\"{probe}\",outcome=\"ok\"}}"),
    )
}

fn metric(agent: &Agent, series: &str) -> Option<f64> {
    let text = agent.text("/metrics")?;
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_dropped_probe_runs_and_bad_files_change_nothing() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    // What it misses is the reload's fault.
    let other = patient_queue_probe(&source);
    let parts = [
        QUICK_DEFAULTS.to_owned(),
        other,
        QUEUE_RULE.to_owned(),
        hook(&sink),
    ];
    let folder = Folder::new(&parts.concat());
    let agent = Agent::start(&folder);
    let example = guests::component("example-probe");
    let place = folder.path("data/plugins/example.wasm");

    let since = now();
    fs::copy(&example, &place).unwrap();
    wait_within(PATIENCE, "samples of the dropped probe", || {
        agent
            .text("/metrics")
            .filter(|text| text.contains("\nexample_"))
    });
    let took = since.elapsed();
    println!("drop-in to first samples: {took:?}");
    // An unoptimised compiler needs longer than everything else together.
    if !cfg!(debug_assertions) {
        assert!(took < TO_FIRST_SAMPLES, "{took:?}");
    }

    let wrong_world = fs::read(guests::component("example-rule")).unwrap();
    let whole = fs::read(&example).unwrap();
    let bad: [(&str, &[u8]); 4] = [
        ("garbage", b"this is no component"),
        ("truncated", &whole[..whole.len() / 2]),
        ("a core module", b"\0asm\x01\0\0\0"),
        ("the wrong kind of bytes", &wrong_world[..64]),
    ];
    for (what, bytes) in bad {
        fs::write(&place, bytes).unwrap();
        wait_for(&format!("the refusal of {what} is shown"), || {
            let plugins = agent.get("/api/v1/plugins")?;
            let plugin = plugins
                .as_array()?
                .iter()
                .find(|plugin| plugin["name"] == "example")?
                .clone();
            (!plugin["rejected"].is_null()).then_some(())
        });
        let before = runs(&agent, "example").unwrap();
        wait_for(&format!("the old one goes on beside {what}"), || {
            (runs(&agent, "example")? > before + 1.0).then_some(())
        });
        wait_for(&format!("the alert about {what}"), || {
            let detailed = agent.text("/health/detailed")?;
            detailed.contains("watchfire_plugin_rejected").then_some(())
        });
        fs::write(&place, &whole).unwrap();
        wait_for(&format!("the refusal of {what} is healed"), || {
            let plugins = agent.get("/api/v1/plugins")?;
            let plugin = plugins
                .as_array()?
                .iter()
                .find(|plugin| plugin["name"] == "example")?
                .clone();
            plugin["rejected"].is_null().then_some(())
        });
    }

    fs::remove_file(&place).unwrap();
    let before = runs(&agent, "example").unwrap();
    wait_for("a removed drop-in keeps running", || {
        (runs(&agent, "example")? > before + 1.0).then_some(())
    });
    fs::write(&place, &whole).unwrap();

    let skipped = metric(&agent, "watchfire_probe_skipped_total{probe=\"queue\"}").unwrap_or(0.0);
    assert_eq!(skipped, 0.0, "no round of another probe was lost");
    // The agent's own count of missed rounds has the quick turns of `example` in it.
    let asked = source.received();
    let span = asked.last().unwrap().at - asked[0].at;
    let turns = span.as_secs_f64().round() as usize + 1;
    assert_eq!(turns, asked.len(), "a turn of `queue`, one a second");
}

#[test]
fn a_rule_edit_keeps_the_timers_of_other_rules() {
    on_a_machine_that_runs(an_edit_beside_a_timer);
}

fn an_edit_beside_a_timer() {
    let source = Server::start(Answer::json(r#"{"queue": 50}"#));
    let sink = Server::start(Answer::json("{}"));
    let rules = |limit: u32| {
        format!(
            r#"
[[rule]]
id     = "slow"
metric = "queue_size"
for    = "6s"
config = {{ above = {{ warning = 10 }} }}

[[rule]]
id     = "edited"
metric = "queue_size"
config = {{ above = {{ critical = {limit} }} }}
"#
        )
    };
    let config = |limit: u32| [queue_probe(&source), rules(limit), hook(&sink)].concat();
    let folder = Folder::new(&config(100));
    let agent = Agent::start(&folder);
    let pending = wait_for("the slow rule is pending", || {
        let alerts = agent.get("/api/v1/alerts")?;
        let slow = alerts["alerts"]
            .as_array()?
            .iter()
            .find(|alert| alert["rule"] == "slow")?
            .clone();
        (slow["state"] == "pending").then(now)
    });

    // Half of the time is over: a timer that began anew would be late by as much.
    wait_for("half of the time", || {
        (now() - pending > Duration::from_secs(3)).then_some(())
    });
    let edit = now();
    folder.write_config(&config(40));
    let fire = wait_for("the new threshold holds", || {
        sink.received()
            .into_iter()
            .find(|r| r.json()["alerts"][0]["rule"] == "edited")
    });
    println!("rule edit to page: {:?}", fire.at - edit);

    let slow = wait_for("the pending rule fires", || {
        sink.received()
            .into_iter()
            .find(|r| r.json()["alerts"][0]["rule"] == "slow")
    });
    let waited = slow.at - pending;
    println!("for = 6s across a reload fired after {waited:?}");
    assert!(
        (Duration::from_millis(5_000)..Duration::from_millis(8_800)).contains(&waited),
        "the edit of another rule moved the timer: {waited:?}"
    );
}

#[test]
fn a_broken_edit_changes_nothing_says_where_and_heals() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    let good = [queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)].concat();
    let folder = Folder::new(&good);
    let agent = Agent::start(&folder);

    folder.write_config(&format!(
        "{good}\n[[rule]]\nid = \"broken\"\nmetric = \"queue_size\"\nconfig = {{ above = {{ warning = 1 }} }}\ncolour = \"red\"\n"
    ));
    let said = wait_for("the refusal is shown with its place", || {
        let text = agent.text("/health/detailed")?;
        text.contains("watchfire_config_invalid").then_some(text)
    });
    assert!(
        said.contains("watchfire.toml:"),
        "file, line and column are named: {said}"
    );
    assert!(said.contains("colour"), "{said}");

    source.always(Answer::json(r#"{"queue": 250}"#));
    let page = wait_for("the old rules go on", || {
        sink.received()
            .into_iter()
            .find(|r| r.json()["alerts"][0]["rule"] == "queue-long")
    });
    assert_eq!(page.json()["reason"], "fire");

    // A restart on the broken file runs the last good configuration.
    agent.kill();
    let agent = Agent::start(&folder);
    let rules = agent.get("/api/v1/rules").unwrap();
    assert_eq!(rules.as_array().unwrap().len(), 1, "{rules}");
    let said = wait_for("the refusal is shown after the restart", || {
        agent
            .text("/health/detailed")
            .filter(|text| text.contains("watchfire_config_invalid"))
    });
    assert!(said.contains("colour"), "{said}");

    folder.write_config(&good);
    wait_for("a good file heals it", || {
        let text = agent.text("/health/detailed")?;
        (!text.contains("watchfire_config_invalid")).then_some(())
    });
}
