//! Silences in Alertmanager's form.

use super::query::Filter;
use super::{refused, reworded};
use crate::api::shape::{Time, time};
use crate::api::silences::{all_tests, standing_name, take_in, wall_now, wall_of};
use crate::api::{Api, order};
use crate::pipeline::view::Order;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use watchfire_engine::input::{CommandKind, LabelTest, Silence};
use watchfire_engine::model::WallTime;
use watchfire_engine::silence::KeptSilence;

fn one(kept: &KeptSilence, now: WallTime) -> Value {
    let silence = &kept.silence;
    let tests = all_tests(silence);
    let matchers = tests.iter().map(|test| {
        json!({
            "name": test.name,
            "value": test.value,
            "isRegex": test.regex,
            "isEqual": !test.negated,
        })
    });
    json!({
        "id": silence.id,
        "status": { "state": standing_name(kept.standing(now)) },
        "matchers": matchers.collect::<Vec<_>>(),
        "startsAt": time(silence.from),
        "endsAt": time(kept.ends_at()),
        "updatedAt": time(kept.ended.as_ref().map_or(silence.from, |end| end.at)),
        "createdBy": silence.owner,
        "comment": silence.reason,
    })
}

/// Whether a silence is about what the filter names: it has a matcher of that name with that value.
fn is_wanted(filter: &Filter, kept: &KeptSilence) -> bool {
    let tests = all_tests(&kept.silence);
    filter.tests.iter().all(|wanted| {
        let value = tests.iter().find(|test| test.name == wanted.name);
        crate::matcher::passes(wanted, value.map_or("", |test| &test.value))
    })
}

/// `GET /api/v2/silences`.
pub(super) async fn silences(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let filter = match Filter::parse(query.as_deref()) {
        Ok(filter) => filter,
        Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
    };
    let view = api.views.alerts.borrow().clone();
    let now = wall_now();
    let wanted = view.silences.iter().filter(|kept| is_wanted(&filter, kept));
    Json(wanted.map(|kept| one(kept, now)).collect::<Vec<_>>()).into_response()
}

/// `GET /api/v2/silence/{id}`.
pub(super) async fn silence(State(api): State<Api>, Path(id): Path<String>) -> Response {
    let view = api.views.alerts.borrow().clone();
    match view.silences.iter().find(|kept| *kept.silence.id == *id) {
        Some(kept) => Json(one(kept, wall_now())).into_response(),
        None => refused(StatusCode::NOT_FOUND, "no silence has that id"),
    }
}

/// As clients post it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    #[serde(default)]
    id: Option<String>,
    matchers: Vec<PostedMatcher>,
    starts_at: Time,
    ends_at: Time,
    created_by: String,
    comment: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: String,
    value: String,
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

/// `POST /api/v2/silences`: a new one, or, with the `id` of one that is not over, in its place.
pub(super) async fn add(State(api): State<Api>, body: Bytes) -> Response {
    let posted: Posted = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => {
            let text = format!("the silence cannot be read: {error}");
            return refused(StatusCode::BAD_REQUEST, &text);
        }
    };
    let id = posted.id.filter(|id| !id.is_empty());
    let view = api.views.alerts.borrow().clone();
    let before = id.as_ref().map(|id| {
        let mut all = view.silences.iter();
        all.find(|kept| *kept.silence.id == **id)
    });
    let before = match before {
        Some(None) => return refused(StatusCode::NOT_FOUND, "no silence has that id"),
        Some(Some(kept)) => Some(&kept.silence),
        None => None,
    };
    let tests = posted.matchers.into_iter().map(|matcher| LabelTest {
        name: matcher.name.into(),
        value: matcher.value.into(),
        regex: matcher.is_regex,
        negated: !matcher.is_equal,
    });
    let now = wall_now();
    let until = wall_of(posted.ends_at.0);
    if until <= now {
        return refused(StatusCode::BAD_REQUEST, "the silence ends in the past");
    }
    let silence = Silence {
        id: id.unwrap_or_default().into(),
        labels: tests.collect(),
        // As Alertmanager: what began before now begins now, unless it is an edit.
        from: before.map_or(wall_of(posted.starts_at.0).max(now), |old| old.from),
        until,
        owner: posted.created_by.into(),
        reason: posted.comment.into(),
        notify: before.is_none_or(|old| old.notify),
        recover: before.is_some_and(|old| old.recover),
        schedule: before.and_then(|old| old.schedule.clone()),
        on_resolve: before.is_some_and(|old| old.on_resolve),
        idle: before.and_then(|old| old.idle),
        rules: Vec::new(),
    };
    match take_in(&api, silence).await {
        Ok(id) => Json(json!({ "silenceID": id })).into_response(),
        Err(refusal) => reworded(refusal).await,
    }
}

/// `DELETE /api/v2/silence/{id}`.
pub(super) async fn expire(State(api): State<Api>, Path(id): Path<String>) -> Response {
    let what = Order::Command(CommandKind::Unsilence { id: id.into() });
    match order::give(&api, None, what).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => reworded(refusal).await,
    }
}
