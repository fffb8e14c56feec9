//! A misspelt plugin is seen by whoever looks, until it is corrected.

use crate::support::{Agent, Folder, command, wait_for};

const GOOD: &str = r#"
[[probe]]
id = "host"
plugin = "probe-host"
every = "200ms"
timeout = "150ms"
grant = { system = true }
config = { families = ["load"] }

[[rule]]
id = "load"
metric = "load1"
config = { above = { warning = 1e9 } }
"#;

/// What `status --all` prints.
fn status(folder: &Folder) -> String {
    let socket = folder.path("data/watchfire.sock");
    let mut command = command();
    command.args(["status", "--all", "--socket"]).arg(socket);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_misspelt_plugin_is_an_alert_and_a_degraded_status_also_over_restarts() {
    let folder = Folder::new(GOOD);
    let agent = Agent::start(&folder);
    let is = |agent: &Agent, status: &str| {
        let health = agent.get("/health")?;
        (health["status"] == status).then_some(())
    };
    let alerts = |agent: &Agent| {
        let alerts = agent.text("/api/v1/alerts").unwrap();
        alerts.contains("watchfire_plugin_rejected{plugin=\\\"rule-treshold\\\"}")
    };
    wait_for("all is well", || is(&agent, "healthy"));
    assert!(status(&folder).contains("1 probe, 1 rule, 1 notifier"));

    let bad = GOOD.replace("metric =", "plugin = \"rule-treshold\"\nmetric =");
    folder.write_config(&bad);
    wait_for("it is degraded", || is(&agent, "degraded"));
    wait_for("it is an alert", || alerts(&agent).then_some(()));
    let shown = status(&folder);
    assert!(
        shown.starts_with("degraded") && shown.contains("1 probe, 0 rules, 1 notifier"),
        "{shown}"
    );
    assert!(shown.contains("(1 more does not run)"), "{shown}");
    let rule = shown.lines().find(|line| line.starts_with("load "));
    let rule = rule.expect(&shown);
    assert!(rule.contains("waiting, does not run"), "{shown}");
    assert!(rule.contains("did you mean \"rule-threshold\"?"), "{shown}");
    assert_eq!(agent.terminate(), Some(0));

    // Still so after a restart, and never over between.
    let agent = Agent::start(&folder);
    wait_for("it is an alert again", || alerts(&agent).then_some(()));
    let events = agent.get("/events?limit=1000").unwrap();
    let turns = events["events"].as_array().unwrap().iter();
    let turns = turns.filter(|event| {
        let alert = event["alert"].as_str().unwrap_or_default();
        event["type"] == "transition" && alert.starts_with("watchfire_plugin_rejected")
    });
    assert_eq!(turns.count(), 1, "{events}");
    assert_eq!(agent.terminate(), Some(0));

    // Corrected while nobody ran.
    folder.write_config(GOOD);
    let agent = Agent::start(&folder);
    wait_for("it is healed", || is(&agent, "healthy"));
    assert!(!alerts(&agent));
    assert_eq!(agent.terminate(), Some(0));
}
