//! What must have happened, and what did.

use super::edits::{Edit, Editor};
use super::late;
use super::swaps::Target;
use crate::support::{Agent, Answer, Dice, Received, Server};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Between two rounds of the steady probe, and the `for` of every rule: three rounds after the first breach, whatever
/// the lateness of each.
const EVERY: Duration = Duration::from_secs(1);
const FOR: Duration = Duration::from_millis(2_500);

/// How far from its third round an alert may fire by the agent's own clock: the lateness of two rounds.
const LATENESS: Duration = Duration::from_millis(300);

/// A request so near to the end of `for` says nothing: the agent's clock for it is some milliseconds earlier.
const EDGE: Duration = Duration::from_millis(100);

/// From the request that makes a rule breach to the message: an unoptimised agent beside compilers on two cores.
const DELIVERY_MAX: Duration = Duration::from_secs(5);

/// Rules whose alerts follow the plan.
const PLANNED: [&str; 3] = ["plain", "swapped", "edited"];

/// Below every limit.
pub(super) const LOW: &str = r#"{"value": 5}"#;

/// Above every limit.
const HIGH: &str = r#"{"value": 100}"#;

/// What the steady source answers, one a request: high or not.
#[derive(Debug)]
pub(super) struct Plan(Vec<bool>);

/// One stretch of high answers: indices of its first one and of the first low one behind it.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: usize,
    end: usize,
}

impl Plan {
    /// For a run of so many seconds: stretches shorter and longer than `for`, with pauses.
    pub(super) fn new(dice: &mut Dice, secs: u64) -> Self {
        let mut answers = vec![false; 5];
        while (answers.len() as u64) < secs {
            let high = 1 + dice.index(8);
            answers.extend(std::iter::repeat_n(true, high));
            let low = 1 + dice.index(4);
            answers.extend(std::iter::repeat_n(false, low));
        }
        Plan(answers)
    }

    pub(super) fn answers(&self) -> impl Iterator<Item = Answer> {
        let text = |high: &bool| if *high { HIGH } else { LOW };
        self.0.iter().map(move |high| Answer::json(text(high)))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn stretches(&self) -> Vec<Stretch> {
        let mut all = Vec::new();
        let mut first = None;
        for (at, high) in self.0.iter().enumerate() {
            match (high, first) {
                (true, None) => first = Some(at),
                (false, Some(begin)) => {
                    all.push(Stretch {
                        first: begin,
                        end: at,
                    });
                    first = None;
                }
                _ => {}
            }
        }
        all
    }
}

/// That the volleys were no blanks: new versions and tables were taken, bad ones refused.
pub(super) fn reloads(history: &[Value], targets: &[Target], editor: &Editor) {
    let count = |what: &str, subject: &str| {
        let events = history.iter().map(Value::to_string);
        let what = format!("\"{what}\"");
        let subject = format!("\"{subject}\"");
        events
            .filter(|event| event.contains(&what) && event.contains(&subject))
            .count()
    };
    for target in targets {
        let reloaded = count("plugin_reloaded", target.name);
        let rejected = count("plugin_rejected", target.name);
        println!(
            "{}: {} versions in place, {reloaded} served, {rejected} refusals told",
            target.name, target.versions
        );
        // Some are gone before anybody looked, above all where the machine is slow. That the agent knows of the
        // last one before each stop was waited for there.
        assert!(reloaded > 0, "{}", target.name);
        assert!(rejected > 0, "{}", target.name);
    }
    let reloaded = count("config_reloaded", "config");
    let rejected = count("config_rejected", "config");
    let bad = editor
        .shots
        .iter()
        .filter(|edit| **edit >= Edit::UnknownKey);
    println!(
        "configuration: {} edits, {} of them bad; {reloaded} taken, {rejected} refused",
        editor.shots.len(),
        bad.count()
    );
    assert!(reloaded > 0 && rejected > 0);
}

/// That no probe which nobody touched missed a round, and that the swapped one never failed.
pub(super) fn probes(agent: &Agent, steady: &Server) {
    let metrics = agent.text("/metrics").unwrap();
    let values = |name: &str, labels: &str| -> f64 {
        let lines = metrics.lines().filter(|line| {
            let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
            series.starts_with(name) && series.contains(labels)
        });
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    assert_eq!(values("watchfire_rounds_missed_total", ""), 0.0);
    for probe in ["steady", "beat", "swapped"] {
        let labels = format!("probe=\"{probe}\"");
        let all = values("watchfire_probe_runs_total", &labels);
        let good = values(
            "watchfire_probe_runs_total{",
            &format!("{labels},outcome=\"ok\""),
        );
        println!("probe {probe}: {good} of {all} runs succeeded");
        assert_eq!(all, good, "{probe} failed at times");
        if probe != "swapped" {
            let skipped = values("watchfire_probe_skipped_total", &labels);
            assert_eq!(skipped, 0.0, "{probe} skipped rounds");
        }
    }
    // What the target saw says the same: as many requests as seconds, none far from its second.
    let requests = steady.received();
    let first = requests[0].at;
    let mut worst = Duration::ZERO;
    for (number, request) in (0..).zip(&requests) {
        let due = first + EVERY * number;
        worst = worst.max(late(request.at, due).max(late(due, request.at)));
    }
    println!(
        "steady source: {} requests, none farther than {worst:?} from its second",
        requests.len()
    );
    assert!(worst < EVERY, "rounds of the steady probe are missing");
}

/// That every alert which fired did so its `for` after it became pending, by the agent's own record.
pub(super) fn timers(history: &[Value]) {
    let mut pending: BTreeMap<&str, u64> = BTreeMap::new();
    let mut worst = Duration::ZERO;
    let mut count = 0;
    for event in history.iter().filter(|event| event["what"] == "transition") {
        let alert = event["alert"].as_str().unwrap_or_default();
        if !PLANNED.contains(&alert) {
            continue;
        }
        let to = event["to"].as_str().unwrap_or_default();
        let at = event["at_ms"].as_u64().unwrap();
        if to.starts_with("pending") {
            pending.insert(alert, at);
        } else if to.starts_with("firing") {
            let since = pending
                .remove(alert)
                .unwrap_or_else(|| panic!("{alert} fires without having been pending: {event}"));
            let waited = Duration::from_millis(at - since);
            assert!(waited >= FOR, "{alert} fired after {waited:?}");
            let due = EVERY * 3;
            worst = worst.max(waited.saturating_sub(due).max(due.saturating_sub(waited)));
            count += 1;
        } else {
            pending.remove(alert);
        }
    }
    println!("{count} alerts fired on their third round; none farther than {worst:?} from it");
    assert!(count >= 3, "{count} alerts");
    assert!(worst < LATENESS, "timers are off by {worst:?}");
}

/// That the sink got each message which the plan makes due, once, when it was due, and no other.
pub(super) fn messages(plan: &Plan, requests: &[Received], sink: &[Received]) {
    let mut ids = BTreeSet::new();
    let mut told: BTreeMap<(String, String), Vec<(String, &Received)>> = BTreeMap::new();
    for received in sink {
        let body = received.json();
        let alert = &body["alerts"][0];
        let id = (received.line.clone(), body["id"].to_string());
        assert!(ids.insert(id), "twice: {} {body}", received.line);
        let rule = alert["rule"].as_str().unwrap().to_owned();
        let reason = body["reason"].as_str().unwrap().to_owned();
        let stream = told.entry((received.line.clone(), rule)).or_default();
        stream.push((reason, received));
    }
    println!("{} messages came, none twice", sink.len());
    let mut worst = Duration::ZERO;
    for path in ["POST /untouched", "POST /swapped"] {
        for rule in PLANNED {
            let stream = told.remove(&(path.to_owned(), rule.to_owned()));
            let mut stream = stream.unwrap_or_default().into_iter();
            let mut episodes = 0;
            for stretch in plan.stretches() {
                let Some(due) = due(stretch, requests) else {
                    continue;
                };
                let resolved = &requests[stretch.end];
                for (wanted, at) in [("fire", due), ("resolve", resolved.at)] {
                    let (reason, message) = stream
                        .next()
                        .unwrap_or_else(|| panic!("{path}: {wanted} of {rule} is missing"));
                    assert_eq!(reason, wanted, "{path}: {rule} in {stretch:?}");
                    assert!(message.at >= at, "{path}: {wanted} of {rule} came early");
                    worst = worst.max(late(message.at, at));
                }
                episodes += 1;
            }
            let further: Vec<_> = stream.map(|(reason, _)| reason).collect();
            assert!(further.is_empty(), "{path}: {rule} told more: {further:?}");
            println!("{path}: {episodes} episodes of {rule}, each told once and resolved once");
        }
        let once = told.remove(&(path.to_owned(), "on-swapped".to_owned()));
        let reasons: Vec<_> = once
            .into_iter()
            .flatten()
            .map(|(reason, _)| reason)
            .collect();
        assert_eq!(reasons, ["fire"], "{path}: the swapped probe never stopped");
    }
    println!("from the request to the message at most {worst:?}");
    assert!(worst < DELIVERY_MAX, "{worst:?}");
    // What is left is the agent about its own files, and the last word is that all is well.
    for ((path, rule), stream) in told {
        let known = ["watchfire_plugin_rejected", "watchfire_config_invalid"];
        assert!(known.contains(&&*rule), "{path}: {rule}");
        let mut alerts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (reason, message) in stream {
            let labels = message.json()["alerts"][0]["labels"].to_string();
            alerts.entry(labels).or_default().push(reason);
        }
        for (labels, reasons) in alerts {
            let pairs = reasons.chunks(2);
            let whole = pairs.into_iter().all(|pair| *pair == ["fire", "resolve"]);
            assert!(whole, "{path}: {rule} {labels}: {reasons:?}");
        }
    }
}

/// When the alert of a stretch fires: at the first request `for` after its first one, if there is one.
///
/// # Panics
/// If a round was so late that its place against `for` is in doubt: this machine cannot tell.
fn due(stretch: Stretch, requests: &[Received]) -> Option<std::time::Instant> {
    let begin = requests[stretch.first].at;
    let since = |request: &&Received| late(request.at, begin);
    let rounds = &requests[stretch.first..stretch.end];
    for round in rounds {
        let doubt = since(&round).abs_diff(FOR) < EDGE;
        assert!(!doubt, "the machine stalled in {stretch:?}");
    }
    let due = rounds.iter().find(|round| since(round) >= FOR)?;
    Some(due.at)
}
