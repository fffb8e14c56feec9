//! `/api/v1/incidents`: episodes from firing to resolved, as the history tells them.
//!
//! An incident's id is the sequence number of the event that opened it.

use super::{Api, EventsError, problem};
use crate::pipeline::render::Renderer;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use watchfire_engine::model::Fingerprint;

/// Incidents of a page unless the query says otherwise.
const LIMIT_DEFAULT: usize = 20;

/// Most incidents of a page: each costs a query.
const LIMIT_MAX: usize = 200;

/// Events before an incident that are looked at for what changed: two pages of a busy host.
const BEFORE: u64 = 2_000;

/// How long before an incident a change may have to do with it.
const BEFORE_MS: u64 = 3_600_000;

/// `?limit=N&before=ID`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    before: Option<u64>,
}

/// `GET /api/v1/incidents`: newest first.
pub(super) async fn incidents(
    State(api): State<Api>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        let text = format!("limit must be from 1 to {LIMIT_MAX}");
        return problem(StatusCode::BAD_REQUEST, &text);
    }
    match page(&api, query.before.unwrap_or(u64::MAX), limit).await {
        Ok(all) => Json(json!({ "incidents": all })).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn page(api: &Api, before: u64, limit: usize) -> Result<Vec<Value>, EventsError> {
    let mut all = Vec::new();
    for opening in api.events.openings(before, limit).await? {
        let events = episode(api, &opening).await?;
        all.push(summary(&opening, &events));
    }
    Ok(all)
}

/// `GET /api/v1/incidents/{id}`: with its events, and what changed on the agent in the hour before.
pub(super) async fn incident(State(api): State<Api>, Path(id): Path<u64>) -> Response {
    match one(&api, id).await {
        Ok(Some(incident)) => Json(incident).into_response(),
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            "no incident has that id: it is the sequence number of the event that opened it",
        ),
        Err(error) => error.into_response(),
    }
}

async fn one(api: &Api, id: u64) -> Result<Option<Value>, EventsError> {
    let openings = api.events.openings(id.saturating_add(1), 1).await?;
    let Some(opening) = openings.into_iter().find(|o| o["seq"] == id) else {
        return Ok(None);
    };
    let events = episode(api, &opening).await?;
    let mut shown = summary(&opening, &events);
    shown["changes_before"] = changes_before(api, id, wall(&opening)).await?.into();
    let config = api.config.borrow().clone();
    let rule = shown["alert"].as_str().unwrap_or_default().to_owned();
    let rule = rule.split('{').next().unwrap_or_default();
    let configured = config.rules.iter().find(|r| r.id.as_str() == rule);
    shown["runbook"] = json!(configured.and_then(|c| c.runbook.clone()));
    shown["dashboard"] = json!(configured.and_then(|c| c.dashboard.clone()));
    shown["host"] = json!(config.agent.host);
    let live = api.views.alerts.borrow().clone();
    let live = live.alerts.iter().find(|view| {
        let fingerprint = view.instance.fingerprint.to_string();
        shown["fingerprint"] == fingerprint && shown["ended_at_ms"].is_null()
    });
    let words = Renderer::new(&config);
    shown["summary"] = json!(live.map(|view| words.alert(&view.snapshot).summary));
    shown["events"] = events.into();
    Ok(Some(shown))
}

/// The events of the episode that this one opened, and what followed from it until the next one.
async fn episode(api: &Api, opening: &Value) -> Result<Vec<Value>, EventsError> {
    let fingerprint = opening["fingerprint"].as_str().and_then(Fingerprint::parse);
    let (Some(fingerprint), Some(seq)) = (fingerprint, opening["seq"].as_u64()) else {
        return Ok(Vec::new());
    };
    let mut events = api.events.of_alert_from(fingerprint, seq).await?;
    let next = events.iter().skip(1).position(|event| {
        event["type"] == "transition" && fires(&event["to"]) && !fires(&event["from"])
    });
    if let Some(next) = next {
        events.truncate(next + 1);
    }
    // What pends after the end belongs to the next one.
    while events.last().is_some_and(|event| {
        event["to"] == "pending" || event["from"] == "pending" && !fires(&event["to"])
    }) {
        events.pop();
    }
    Ok(events)
}

fn fires(state: &Value) -> bool {
    let state = state.as_str().unwrap_or_default();
    state.starts_with("firing:") || state.starts_with("recovering:")
}

fn wall(event: &Value) -> u64 {
    event["wall_ms"].as_u64().unwrap_or(0)
}

/// What a list shows of one incident.
fn summary(opening: &Value, events: &[Value]) -> Value {
    let count = |wanted: &dyn Fn(&Value) -> bool| events.iter().filter(|e| wanted(e)).count();
    let end = events
        .iter()
        .find(|event| event["type"] == "transition" && !fires(&event["to"]));
    let started = wall(opening);
    let ended = end.map(wall);
    let severities = events.iter().filter_map(|event| {
        let (_, severity) = event["to"].as_str()?.split_once(':')?;
        let severity = severity.trim_end_matches("+stale");
        severity.parse::<watchfire_engine::model::Severity>().ok()
    });
    let mut values = events.iter().filter_map(|event| event["value"].as_f64());
    let first = |wanted: &dyn Fn(&Value) -> bool| {
        let found = events.iter().find(|event| wanted(event));
        found.map(|event| wall(event).saturating_sub(started))
    };
    let acknowledged = |event: &Value| {
        let did = event["did"].as_str().unwrap_or_default();
        event["what"] == "operator" && did.starts_with("acknowledged")
    };
    let by = events.iter().find(|e| acknowledged(e));
    json!({
        "id": opening["seq"],
        "alert": opening["alert"],
        "fingerprint": opening["fingerprint"],
        "severity": severities.max(),
        "started_at_ms": started,
        "ended_at_ms": ended,
        "duration_ms": ended.map(|ended| ended.saturating_sub(started)),
        "end_cause": end.map(|event| event["cause"].clone()),
        "value_first": opening["value"],
        "value_last": values.next_back(),
        "acknowledged_by": by.map(|event| event["by"].clone()),
        "to_first_delivery_ms": first(&|e| e["what"] == "delivered" && e["outcome"] == "accepted"),
        "to_acknowledge_ms": first(&acknowledged),
        "delivered": count(&|e| e["what"] == "delivered" && e["outcome"] == "accepted"),
        "failed": count(&|e| e["what"] == "delivered" && e["outcome"] != "accepted"),
        "suppressed": count(&|e| e["what"] == "suppressed"),
        "attempts": count(&|e| e["what"] == "action" && e["step"] == "start"),
        "recovered": count(&|e| e["what"] == "action" && e["step"] == "verified_ok") > 0,
    })
}

/// Reloads, operators and the agent itself in the hour before.
async fn changes_before(api: &Api, id: u64, at: u64) -> Result<Vec<Value>, EventsError> {
    let types = ["reload", "operator", "plugin", "system"].map(str::to_owned);
    let since = id.saturating_sub(BEFORE);
    let mut events = api.events.events(since, &types, 1_000).await?;
    events.retain(|event| {
        let seq = event["seq"].as_u64().unwrap_or(u64::MAX);
        seq < id && wall(event).saturating_add(BEFORE_MS) >= at && wall(event) <= at
    });
    Ok(events)
}
