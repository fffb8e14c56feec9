//! `/events` and `/event-store`: the history, page by page.

use super::{Api, problem};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use watchfire_engine::model::Fingerprint;

/// Events of a page unless the query says otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Most events of a page: about 1 MB of JSON.
const LIMIT_MAX: usize = 1_000;

/// The event store as the interface sees it.
pub trait EventSource: Send + Sync {
    /// At most `limit` (up to 1,000) events with a sequence number above `since`, oldest first, as
    /// objects with at least `seq`. Only of these types; an empty list means all.
    fn events(
        &self,
        since: u64,
        types: &[String],
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>>;

    /// The newest events of an alert, oldest first; at most 1,000.
    fn of_alert(&self, alert: Fingerprint) -> BoxFuture<'_, Result<Vec<Value>, EventsError>>;

    /// The events of an alert from the sequence number `from` on, oldest first; at most 1,000.
    fn of_alert_from(
        &self,
        alert: Fingerprint,
        from: u64,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>>;

    /// The newest transitions that opened an episode, with a sequence number below `before`; newest first.
    fn openings(&self, before: u64, limit: usize)
    -> BoxFuture<'_, Result<Vec<Value>, EventsError>>;

    /// Alerts of the history that a text may mean, as `{alert, fingerprint}`; at most 100.
    fn known_alerts(&self, text: &str) -> BoxFuture<'_, Result<Vec<Value>, EventsError>>;

    /// Sizes, counts, bounds.
    fn stats(&self) -> BoxFuture<'_, Result<Value, EventsError>>;

    /// Deletes what is older than its retention; says what was done.
    fn cleanup(&self) -> BoxFuture<'_, Result<Value, EventsError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    /// The question is wrong: no such type.
    #[error("{0}")]
    Question(String),
    /// The store does not answer.
    #[error("the event store does not answer: {0}")]
    Store(String),
}

impl IntoResponse for EventsError {
    fn into_response(self) -> Response {
        let code = match self {
            EventsError::Question(_) => StatusCode::BAD_REQUEST,
            EventsError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(code, &self.to_string())
    }
}

/// `?since=SEQ&type=a,b&limit=N`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    since: Option<u64>,
    r#type: Option<String>,
    limit: Option<usize>,
}

/// `GET /events`.
pub(super) async fn events(
    State(api): State<Api>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return problem(
            StatusCode::BAD_REQUEST,
            &format!("limit must be from 1 to {LIMIT_MAX}"),
        );
    }
    let types: Vec<String> = query
        .r#type
        .iter()
        .flat_map(|types| types.split(','))
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    let last_seq = api.views.alerts.borrow().last_seq;
    let page = match query.since {
        Some(since) => api.events.events(since, &types, limit).await,
        None => newest(&*api.events, &types, limit, last_seq).await,
    };
    match page {
        Ok(events) => {
            let newest = events.last().and_then(seq_of);
            Json(json!({
                // Where the next page begins.
                "next_since": newest.or(query.since).unwrap_or(last_seq),
                "more": query.since.is_some() && events.len() == limit,
                "last_seq": newest.map_or(last_seq, |seq| seq.max(last_seq)),
                "events": events,
            }))
            .into_response()
        }
        Err(error) => error.into_response(),
    }
}

fn seq_of(event: &Value) -> Option<u64> {
    event["seq"].as_u64()
}

/// The last `limit` events. The store reads forward only, so ever longer stretches before the end
/// are read until one holds enough.
async fn newest(
    source: &dyn EventSource,
    types: &[String],
    limit: usize,
    last_seq: u64,
) -> Result<Vec<Value>, EventsError> {
    let mut stretch = limit as u64;
    loop {
        let start = last_seq.saturating_sub(stretch);
        let mut since = start;
        let mut found = Vec::new();
        loop {
            let page = source.events(since, types, LIMIT_MAX).await?;
            let full = page.len() == LIMIT_MAX;
            since = page.last().and_then(seq_of).unwrap_or(since);
            found.extend(page);
            let surplus = found.len().saturating_sub(limit);
            found.drain(..surplus);
            if !full {
                break;
            }
        }
        if found.len() >= limit || start == 0 {
            return Ok(found);
        }
        stretch = stretch.saturating_mul(8);
    }
}

/// `GET /event-store/stats`.
pub(super) async fn stats(State(api): State<Api>) -> Result<Json<Value>, EventsError> {
    api.events.stats().await.map(Json)
}

/// `POST /event-store/cleanup`.
pub(super) async fn cleanup(State(api): State<Api>) -> Result<Json<Value>, EventsError> {
    api.events.cleanup().await.map(Json)
}
