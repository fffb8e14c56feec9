//! The log's reader stops reading: the agent goes on, says so later, and ends when it is told to.

use crate::support::{Agent, Folder, wait_for};
use serde_json::json;
use std::io::{BufRead, BufReader};

/// Alerts that somebody pushes, with names of their own and much to say about each.
fn alerts(batch: usize) -> String {
    let alerts = (0..100).map(
        |n| json!({"labels": {"alertname": format!("p{batch}-{n}"), "why": "x".repeat(1_000)}}),
    );
    serde_json::Value::from_iter(alerts).to_string()
}

fn dropped(agent: &Agent) -> f64 {
    let text = agent.text("/metrics").expect("the agent answers");
    let line = text
        .lines()
        .find(|line| line.starts_with("watchfire_log_lines_dropped_total "));
    let (_, count) = line.unwrap().split_once(' ').unwrap();
    count.parse().unwrap()
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let folder = Folder::new("");
    let (agent, log) = Agent::spawn_unread(&folder);
    agent.wait_ready();
    let mut batch = 0;
    wait_for("the pipe and the queue are full", || {
        assert_eq!(agent.post_json("/api/v2/alerts", &alerts(batch)).0, 200);
        batch += 1;
        (dropped(&agent) > 0.0).then_some(())
    });
    // Rounds are decided, not only requests answered.
    let decided = || agent.get("/health/events")?["rounds"]["total"].as_u64();
    let before = wait_for("the rounds", decided);
    wait_for("another round", || (decided()? > before).then_some(()));
    assert!(agent.get("/health/live").is_some());

    // Read again, it says how much is missing; and then nobody reads any more.
    let mut log = BufReader::new(log);
    let told = (&mut log)
        .lines()
        .map(|line| line.expect("text"))
        .find(|line| line.contains("lines were dropped"))
        .expect("the loss is told");
    assert!(told.contains("lines="), "{told}");
    let so_far = dropped(&agent);
    wait_for("the pipe and the queue are full again", || {
        assert_eq!(agent.post_json("/api/v2/alerts", &alerts(batch)).0, 200);
        batch += 1;
        (dropped(&agent) > so_far).then_some(())
    });
    assert_eq!(agent.terminate(), Some(0));
    drop(log);
}
