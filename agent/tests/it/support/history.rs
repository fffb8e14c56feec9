//! What a running agent says of the past.

use super::Agent;
use serde_json::Value;
use std::collections::BTreeSet;

/// The whole history, page by page; none while the agent does not answer.
pub fn history(agent: &Agent) -> Option<Vec<Value>> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let since = all.last().map_or(0, |event| event["seq"].as_u64().unwrap());
        let page = agent.get(&format!("/events?since={since}&limit=1000"))?;
        let page = page["events"].as_array()?.clone();
        if page.is_empty() {
            return Some(all);
        }
        all.extend(page);
    }
}

/// Whether every message that was decided upon is delivered or superseded.
pub fn all_told(history: &[Value]) -> bool {
    let mut open = BTreeSet::new();
    for event in history {
        let id = event["id"].as_str().unwrap_or_default();
        match event["what"].as_str() {
            Some("queued") => {
                open.insert(id);
            }
            Some("superseded") => {
                open.remove(id);
            }
            Some("delivered") if event["outcome"] == "accepted" => {
                open.remove(id);
            }
            _ => {}
        }
    }
    open.is_empty()
}
