//! Samples outlive the process: long windows are restored from disk, and anybody may read the file.

use crate::configs::{hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, wait_for};
use watchfire::store::MetricsReader;
use watchfire::store::metrics::path_in;
use watchfire_engine::model::WallTime;

const RULE: &str = r#"
[[rule]]
id = "queue-was-long"
metric = "queue_size"
over = "6h"
aggregate = "max"
config = { above = { critical = 100 } }
"#;

#[test]
fn a_long_window_knows_what_was_before_the_restart() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let folder = Folder::new(&queue_probe(&source));
    let agent = Agent::start(&folder);
    wait_for("samples in the history", || {
        let stats = agent.get("/event-store/stats")?;
        (stats["history"]["samples"].as_u64()? >= 3).then_some(())
    });
    let metrics = agent.text("/metrics").unwrap();
    assert!(metrics.contains("\nwatchfire_store_history_degraded 0\n"));
    assert_eq!(agent.terminate(), Some(0));

    let reader = MetricsReader::open(&path_in(&folder.path("data"))).unwrap();
    let all = reader.series().unwrap();
    let queue = all.iter().find(|one| &*one.series.metric == "queue_size");
    let queue = queue.unwrap_or_else(|| panic!("{all:?}"));
    let samples: Vec<f64> = reader
        .range(Some(&[queue.id]), WallTime(0), WallTime(u64::MAX))
        .map(|sample| sample.unwrap().value)
        .collect();
    assert!(
        !samples.is_empty() && samples.iter().all(|v| *v == 250.0),
        "{samples:?}"
    );
    drop(reader);

    source.always(Answer::json(r#"{"queue": 7}"#));
    let parts = [queue_probe(&source), hook(&sink), RULE.to_owned()];
    folder.write_config(&parts.concat());
    let agent = Agent::start(&folder);
    let page = wait_for("a page about what was before", || {
        sink.received().first().cloned()
    });
    assert_eq!(page.json()["alerts"][0]["value"], 250.0);
    drop(agent);
}

#[test]
fn what_a_rule_judges_is_a_metric_where_it_says_so() {
    let source = Server::start(Answer::json(r#"{"queue": 40}"#));
    let rule = r#"
[[rule]]
id = "queue-share"
plugin = "rule-expression"
inputs.size = { metric = "queue_size" }
labels = { team = "orders" }
record = "queue_fill_ratio"
config = { when = { warning = "size / 100 > 0.9" }, value = "size / 100" }
"#;
    let folder = Folder::new(&[queue_probe(&source), rule.to_owned()].concat());
    let agent = Agent::start(&folder);
    let line = wait_for("the recorded value", || {
        let metrics = agent.text("/metrics")?;
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("queue_fill_ratio{"))?;
        Some(line.to_owned())
    });
    assert_eq!(
        line,
        r#"queue_fill_ratio{rule="queue-share",team="orders"} 0.4"#
    );
    assert_eq!(agent.terminate(), Some(0));

    let reader = MetricsReader::open(&path_in(&folder.path("data"))).unwrap();
    let all = reader.series().unwrap();
    let kept = all
        .iter()
        .find(|one| &*one.series.metric == "queue_fill_ratio");
    let kept = kept.unwrap_or_else(|| panic!("{all:?}"));
    let mut samples = reader.range(Some(&[kept.id]), WallTime(0), WallTime(u64::MAX));
    assert_eq!(
        samples.next().map(|sample| sample.unwrap().value),
        Some(0.4)
    );
}
