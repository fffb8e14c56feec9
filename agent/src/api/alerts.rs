//! `/api/v1/alerts/…`: which alert a text means, its acknowledgement, and everything there is to explain it.

use super::shape::{self, seconds, time, time_or_null};
use super::{Api, order, problem};
use crate::pipeline::render::Renderer;
use crate::pipeline::view::{AlertsView, FamilyView, Order};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;
use watchfire_engine::effect::AlertView;
use watchfire_engine::input::CommandKind;
use watchfire_engine::model::{Fingerprint, Labels, Severity, parse_duration};
use watchfire_engine::policy::{RoutePolicy, RulePolicy};
use watchfire_engine::silence::LENGTH_MAX;

/// Series that an explanation shows for one input.
const SAMPLES_MAX: usize = 20;

/// How long evaluate may take to say the latest values; a round is shorter.
const SAMPLES_TIMEOUT: Duration = Duration::from_secs(2);

/// Digits of a fingerprint that may stand for it: of a thousand alerts, 4 tell most from each other; fewer are
/// sooner a slip than a choice.
const DIGITS_MIN: usize = 4;

/// `?text=…`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindQuery {
    text: String,
}

/// `GET /api/v1/alerts/find?text=…`: the alerts that a fingerprint, the beginning of one, a name as printed
/// or a rule may mean; live ones first, then those of the history.
pub(super) async fn find(
    State(api): State<Api>,
    query: Result<Query<FindQuery>, QueryRejection>,
) -> Response {
    let text = match query {
        Ok(Query(query)) => query.text,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let view = api.views.alerts.borrow().clone();
    let live = view.alerts.iter().filter(|alert| is_meant(alert, &text));
    let mut found: Vec<Value> = live
        .map(|alert| {
            json!({
                "alert": alert.instance.to_string(),
                "fingerprint": alert.instance.fingerprint,
                "state": alert.state,
            })
        })
        .collect();
    match api.events.known_alerts(&text).await {
        Ok(known) => {
            let new = |known: &Value| {
                found
                    .iter()
                    .all(|f| f["fingerprint"] != known["fingerprint"])
            };
            let known = known.into_iter().filter(new);
            // The store takes any beginning.
            let known = known.filter(|known| is_named(known, &text) || is_beginning(known, &text));
            let known: Vec<Value> = known.collect();
            found.extend(known.into_iter().map(|mut known| {
                known["state"] = "ok".into();
                known
            }));
        }
        // What lives is known without the store.
        Err(_) if !found.is_empty() => {}
        Err(error) => return error.into_response(),
    }
    // Who says a rule's or an alert's name means it, even where a fingerprint happens to begin so.
    let config = api.config.borrow().clone();
    let is_rule = |rule: &RulePolicy| rule.id.as_str() == text;
    if config.policy.rules.iter().any(is_rule) || found.iter().any(|found| is_named(found, &text)) {
        found.retain(|found| is_named(found, &text));
    }
    Json(json!({ "alerts": found })).into_response()
}

fn is_meant(alert: &AlertView, text: &str) -> bool {
    let instance = &alert.instance;
    let prefix = text.len() >= DIGITS_MIN && instance.fingerprint.to_string().starts_with(text);
    prefix || instance.to_string() == text || instance.rule.as_str() == text
}

/// Whether the text is the alert's name, or its rule's.
fn is_named(found: &Value, text: &str) -> bool {
    let name = found["alert"].as_str().unwrap_or_default();
    name == text || name.split('{').next() == Some(text)
}

/// Whether the text is enough of the beginning of the alert's fingerprint.
fn is_beginning(found: &Value, text: &str) -> bool {
    let fingerprint = found["fingerprint"].as_str().unwrap_or_default();
    text.len() >= DIGITS_MIN && fingerprint.starts_with(text)
}

/// The body of an acknowledgement.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    /// Who, for the record.
    by: Option<String>,
    /// How long it holds at most, such as `2h`; none: until the alert gets worse or resolves.
    #[serde(rename = "for")]
    lasts: Option<String>,
}

/// `POST /api/v1/alerts/{fingerprint}/ack`.
pub(super) async fn acknowledge(
    State(api): State<Api>,
    Path(fingerprint): Path<String>,
    body: Bytes,
) -> Response {
    let Some(alert) = Fingerprint::parse(&fingerprint) else {
        return no_fingerprint();
    };
    let said: Acknowledgement = if body.is_empty() {
        Acknowledgement::default()
    } else {
        match serde_json::from_slice(&body) {
            Ok(said) => said,
            Err(error) => {
                let text = format!(
                    "the body must be empty or {{\"by\": \"NAME\", \"for\": \"2h\"}}: {error}"
                );
                return problem(StatusCode::BAD_REQUEST, &text);
            }
        }
    };
    let lasts = match said.lasts.as_deref().map(parse_duration).transpose() {
        Ok(lasts) => lasts,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("for: {error}")),
    };
    // As for silences: one of no length is a slip, and one of many years is no promise that anybody can give.
    if lasts.is_some_and(|lasts| lasts.is_zero() || lasts > LENGTH_MAX) {
        let text = "for: an acknowledgement lasts more than 0s and at most 366d; without `for` it lasts until the alert gets worse or resolves";
        return problem(StatusCode::BAD_REQUEST, text);
    }
    let what = Order::Command(CommandKind::Acknowledge { alert, lasts });
    match order::give(&api, said.by.as_deref(), what).await {
        Ok(()) => Json(json!({ "done": true })).into_response(),
        Err(refusal) => refusal,
    }
}

fn no_fingerprint() -> Response {
    problem(
        StatusCode::BAD_REQUEST,
        "a fingerprint has 32 hexadecimal digits; /api/v1/alerts/find finds one by name",
    )
}

/// `GET /api/v1/alerts/{fingerprint}`: from the samples to the actions, as they are now, and the alert's history.
pub(super) async fn explain(State(api): State<Api>, Path(fingerprint): Path<String>) -> Response {
    let Some(fingerprint) = Fingerprint::parse(&fingerprint) else {
        return no_fingerprint();
    };
    let events = match api.events.of_alert(fingerprint).await {
        Ok(events) => events,
        Err(error) => return error.into_response(),
    };
    let view = api.views.alerts.borrow().clone();
    let live = view
        .alerts
        .iter()
        .find(|alert| alert.instance.fingerprint == fingerprint);
    let name = live
        .map(|alert| alert.instance.to_string())
        .or_else(|| events.last()?["alert"].as_str().map(str::to_owned));
    let Some(name) = name else {
        return problem(
            StatusCode::NOT_FOUND,
            "nothing is known of an alert with that fingerprint",
        );
    };
    let rule = name.split('{').next().unwrap_or_default();
    let labels = live.map(|alert| alert.instance.labels.clone());
    let mut shown = about_rule(&api, rule, labels.as_ref()).await;
    shown["alert"] = name.as_str().into();
    shown["fingerprint"] = fingerprint.to_string().into();
    let config = api.config.borrow().clone();
    let words = Renderer::new(&config);
    let told = live.map(|alert| shape::told(&words, alert));
    shown["live"] = told.unwrap_or_default();
    shown["routes"] = live.map(|alert| routes(&api, alert)).unwrap_or_default();
    shown["silences"] = live.map(|alert| silences(&view, alert)).unwrap_or_default();
    shown["events"] = events.into();
    Json(shown).into_response()
}

/// `GET /api/v1/rules/{id}/explain`: the same of a rule none of whose alerts ever left ok.
pub(super) async fn explain_rule(State(api): State<Api>, Path(id): Path<String>) -> Response {
    let shown = about_rule(&api, &id, None).await;
    if shown["rule"].is_null() {
        return problem(StatusCode::NOT_FOUND, "no rule has that id");
    }
    Json(shown).into_response()
}

/// The rule, what it reads, and what acts on it.
async fn about_rule(api: &Api, rule: &str, labels: Option<&Labels>) -> Value {
    let config = api.config.borrow().clone();
    let policies = &config.policy.rules;
    let policy = policies.iter().find(|policy| policy.id.as_str() == rule);
    let configured = config.rules.iter().find(|r| r.id.as_str() == rule);
    let rules = api.views.rules.borrow().clone();
    let judged = rules.iter().find(|view| view.id.as_str() == rule);
    let mut inputs = Vec::new();
    if let Some(configured) = configured {
        let families = families(api).await;
        for input in &configured.inputs {
            inputs.push(json!({
                "name": input.name,
                "metric": input.metric,
                "aggregate": format!("{:?}", input.aggregate).to_lowercase(),
                "over_seconds": input.over.map(|over| over.as_secs_f64()),
                "latest": latest(&families, &input.metric, labels),
            }));
        }
    }
    let probes = api.views.probes.borrow().clone();
    let read_by = policy.map_or(&[][..], |policy| &policy.probes);
    let probes = probes.iter().filter(|p| read_by.contains(&p.id)).map(|p| {
        json!({
            "id": p.id,
            "every_seconds": seconds(p.every),
            "last_run": time_or_null(p.last_run),
            "error": p.error,
        })
    });
    let recovery = api.views.recovery.borrow().clone();
    let acting = recovery.procedures.iter();
    let acting = acting.filter(|p| p.rules.iter().any(|id| id.as_str() == rule));
    json!({
        "rule": policy.map(|policy| rule_json(policy, configured.map(|c| &*c.origin))),
        "runbook": configured.and_then(|c| c.runbook.clone()),
        "dashboard": configured.and_then(|c| c.dashboard.clone()),
        "inputs": inputs,
        "probes": probes.collect::<Vec<_>>(),
        "judged": judged.map(|view| json!({
            "at": time_or_null(view.last_round),
            "instances": view.instances,
            "breaching": view.breaching,
            "error": view.error,
            "worst": view.worst.as_ref().map(|(labels, value, limit)| json!({
                "labels": labels, "value": value, "limit": limit,
            })),
        })),
        "procedures": acting
            .map(|p| super::recovery::procedure(p, &recovery.recent))
            .collect::<Vec<_>>(),
    })
}

fn rule_json(policy: &RulePolicy, origin: Option<&str>) -> Value {
    let times = |all: &watchfire_engine::model::PerSeverity<Duration>| {
        let all = Severity::ALL.map(|s| (s.name(), seconds(all[s])));
        BTreeMap::from(all)
    };
    json!({
        "id": policy.id,
        "origin": origin,
        "for_seconds": times(&policy.wait),
        "keep_seconds": times(&policy.keep),
    })
}

pub(super) async fn families(api: &Api) -> Vec<FamilyView> {
    let (reply, answer) = oneshot::channel();
    let ask = async {
        api.views.series.send(reply).await.ok()?;
        answer.await.ok()
    };
    let told = tokio::time::timeout(SAMPLES_TIMEOUT, ask).await;
    told.ok().flatten().unwrap_or_default()
}

/// Series of the metric that carry the alert's labels.
fn latest(families: &[FamilyView], metric: &str, labels: Option<&Labels>) -> Vec<Value> {
    let points = families.iter().flat_map(|family| &family.points);
    let fits = points.filter(|(series, _)| {
        let mut wanted = labels.into_iter().flat_map(Labels::iter);
        *series.metric == *metric && wanted.all(|(k, v)| series.labels.get(k) == Some(v))
    });
    fits.take(SAMPLES_MAX)
        .map(|(series, value)| json!({ "series": series.to_string(), "value": value }))
        .collect()
}

/// The routes that take the alert now, as the configuration writes them.
fn routes(api: &Api, alert: &AlertView) -> Value {
    let config = api.config.borrow().clone();
    let all = taking(&config.policy.routes, alert).map(|(at, route)| {
        json!({
            "place": at + 1,
            "notify": route.notify.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "group_by": route.group_by,
            "group_wait_seconds": seconds(route.group_wait),
            "repeat_seconds": seconds(route.repeat[alert.snapshot.severity]),
            "escalate": route.escalate.iter().map(|step| json!({
                "after_seconds": seconds(step.after),
                "notify": step.notify.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    });
    all.collect()
}

/// The routes that take the alert, with their places.
pub(super) fn taking<'a>(
    routes: &'a [RoutePolicy],
    alert: &AlertView,
) -> impl Iterator<Item = (usize, &'a RoutePolicy)> {
    let (rule, severity) = (&alert.instance.rule, alert.snapshot.severity);
    let labels = &alert.snapshot.labels;
    let mut over = false;
    let mut taken = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        if !over && route.matcher.takes(rule, severity, labels) {
            taken.push((at, route));
            over = !route.carry_on;
        }
    }
    taken.into_iter()
}

/// The silences that mute the alert.
fn silences(view: &AlertsView, alert: &AlertView) -> Value {
    let mut all = Vec::new();
    for kept in &view.silences {
        if alert
            .muted_by
            .contains(&format!("silence {}", kept.silence.id))
        {
            all.push(json!({
                "id": kept.silence.id,
                "owner": kept.silence.owner,
                "reason": kept.silence.reason,
                "until": time(kept.ends_at()),
            }));
        }
    }
    all.into()
}
