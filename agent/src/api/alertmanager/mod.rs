//! `/api/v2`: the part of Alertmanager's interface that its tools use (`amtool`, Grafana, karma, and
//! Prometheus as a sender).
//!
//! Differences that show: silences and posted alerts need the token, as everything that changes something;
//! fingerprints have 32 digits; alerts of this agent carry `alertname` (the rule), `severity` and the host's
//! labels. Errors are JSON strings here, as Alertmanager's clients expect them.

mod alerts;
mod query;
mod silences;

use super::Api;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The routes under `/api/v2`.
pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/status", get(status))
        .route("/receivers", get(receivers))
        .route("/alerts", get(alerts::alerts).post(alerts::push))
        .route("/alerts/groups", get(alerts::groups))
        .route("/silences", get(silences::silences).post(silences::add))
        .route(
            "/silence/{id}",
            get(silences::silence).delete(silences::expire),
        )
        .route("/silences/{id}", delete(silences::expire))
}

/// An error as Alertmanager's clients read it.
fn refused(status: StatusCode, text: &str) -> Response {
    (status, Json(Value::from(text))).into_response()
}

/// Another part's refusal in this form.
async fn reworded(refusal: Response) -> Response {
    let (head, body) = refusal.into_parts();
    // Our own few words.
    let body = axum::body::to_bytes(body, 64 << 10)
        .await
        .unwrap_or_default();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    refused(head.status, said["error"].as_str().unwrap_or("refused"))
}

/// `GET /api/v2/status`.
async fn status(State(api): State<Api>) -> Json<Value> {
    let uptime = api.uptime();
    let started = jiff::Timestamp::now() - uptime;
    let config = api.config.borrow().clone();
    let main = config.source.main.as_ref();
    let main = main.map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
    Json(json!({
        "cluster": { "status": "disabled", "peers": [] },
        // The files may name secrets' places; the live form stands under /api/v1/config.
        "config": { "original": format!("# watchfire: {main}\n") },
        "uptime": format!("{started:.3}"),
        "versionInfo": {
            "version": env!("CARGO_PKG_VERSION"),
            "branch": "",
            "revision": "",
            "buildDate": "",
            "buildUser": "watchfire",
            "goVersion": "",
        },
    }))
}

/// `GET /api/v2/receivers`: notifiers, and rotations that routes name.
async fn receivers(State(api): State<Api>) -> Json<Value> {
    let config = api.config.borrow().clone();
    let policy = &config.policy;
    let notifiers = policy.notifiers.iter().map(ToString::to_string);
    let named = policy.routes.iter().flat_map(|route| &route.notify);
    let all: BTreeSet<String> = notifiers.chain(named.map(ToString::to_string)).collect();
    let all = all.iter().map(|name| json!({ "name": name }));
    Json(all.collect())
}
