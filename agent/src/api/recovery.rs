//! `/recovery`: what recovery does and did, and the four verbs of an operator.

use super::shape::{seconds, time, time_or_null};
use super::{Api, order, problem};
use crate::pipeline::view::{AttemptView, Order, ProcedureView};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use watchfire_engine::input::CommandKind;
use watchfire_engine::model::ProcedureId;

/// `GET /recovery/status`.
pub(super) async fn status(State(api): State<Api>) -> Json<Value> {
    let view = api.views.recovery.borrow().clone();
    Json(json!({
        "paused": view.paused,
        "active": view.running.iter().map(attempt).collect::<Vec<_>>(),
        "procedures": view
            .procedures
            .iter()
            .map(|p| procedure(p, &view.recent))
            .collect::<Vec<_>>(),
        "success_rate": view.success_ratio,
        "recent": view.recent.iter().map(attempt).collect::<Vec<_>>(),
    }))
}

pub(super) fn procedure(procedure: &ProcedureView, recent: &[AttemptView]) -> Value {
    let own = recent.iter().filter(|a| a.procedure == procedure.id);
    json!({
        "id": procedure.id,
        "plugin": procedure.plugin,
        "mode": procedure.mode,
        "description": procedure.description,
        "rules": procedure.rules,
        "severity": procedure.severity,
        "max_attempts": procedure.max_attempts,
        "window_seconds": seconds(procedure.window),
        "cooldown_seconds": seconds(procedure.cooldown),
        "waiting_for_approval": procedure.waiting_for_approval,
        "held_until": time_or_null(procedure.held_until),
        "recent": own.map(attempt).collect::<Vec<_>>(),
    })
}

fn attempt(attempt: &AttemptView) -> Value {
    json!({
        "procedure": attempt.procedure,
        "alert": attempt.alert,
        "attempt": attempt.attempt,
        "step": attempt.step,
        "message": attempt.message,
        "started_at": time(attempt.started_at),
    })
}

/// `POST /recovery/pause`.
pub(super) async fn pause(State(api): State<Api>, body: Bytes) -> Response {
    command(&api, &body, CommandKind::Pause).await
}

/// `POST /recovery/resume`.
pub(super) async fn resume(State(api): State<Api>, body: Bytes) -> Response {
    command(&api, &body, CommandKind::Resume).await
}

/// `POST /recovery/{id}/approve`.
pub(super) async fn approve(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    match known(&api, &id) {
        Ok(procedure) => command(&api, &body, CommandKind::Approve { procedure }).await,
        Err(refusal) => *refusal,
    }
}

/// `POST /recovery/{id}/reset`.
pub(super) async fn reset(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> Response {
    match known(&api, &id) {
        Ok(procedure) => command(&api, &body, CommandKind::Reset { procedure }).await,
        Err(refusal) => *refusal,
    }
}

fn known(api: &Api, id: &str) -> Result<ProcedureId, Box<Response>> {
    let view = api.views.recovery.borrow();
    let mut all = view.procedures.iter().map(|p| &p.id);
    all.find(|known| known.as_str() == id)
        .cloned()
        .ok_or_else(|| Box::new(problem(StatusCode::NOT_FOUND, "no recovery has that id")))
}

/// The optional body of a verb.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verb {
    /// Who, for the record.
    by: Option<String>,
}

/// Hands a command to the alert stage and waits until it is committed.
async fn command(api: &Api, body: &[u8], what: CommandKind) -> Response {
    let order = if body.is_empty() {
        Verb::default()
    } else {
        match serde_json::from_slice(body) {
            Ok(order) => order,
            Err(error) => {
                return problem(
                    StatusCode::BAD_REQUEST,
                    &format!("the body must be empty or {{\"by\": \"NAME\"}}: {error}"),
                );
            }
        }
    };
    let what = Order::Command(what);
    match order::give(api, order.by.as_deref(), what).await {
        Ok(()) => Json(json!({ "done": true })).into_response(),
        Err(refusal) => refusal,
    }
}
