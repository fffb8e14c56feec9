//! `/api/v1/silences`: silences with all that the engine knows of them. Alertmanager's form of the same
//! stands in `alertmanager`.

use super::shape::{Time, time};
use super::{Api, order, problem};
use crate::config;
use crate::pipeline::view::Order;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::effect::AlertView;
use watchfire_engine::input::{CommandKind, LabelTest, Silence};
use watchfire_engine::model::{Labels, Severity, WallTime};
use watchfire_engine::silence::{KeptSilence, SilenceStanding};

/// Hexadecimal digits of an id that we make: short enough to be typed, and 4 billion of them.
const ID_DIGITS: usize = 8;

/// `GET /api/v1/silences`.
pub(super) async fn silences(State(api): State<Api>) -> Json<Value> {
    let view = api.views.alerts.borrow().clone();
    let now = wall_now();
    let all = view.silences.iter().map(|kept| {
        let covers = view.alerts.iter().filter(|alert| {
            let name = format!("silence {}", kept.silence.id);
            alert.muted_by.contains(&name)
        });
        let covers: Vec<String> = covers.map(|alert| alert.instance.to_string()).collect();
        one(kept, now, &covers)
    });
    Json(json!({ "silences": all.collect::<Vec<_>>() }))
}

fn one(kept: &KeptSilence, now: WallTime, covers: &[String]) -> Value {
    let silence = &kept.silence;
    let tests = silence.labels.iter().map(crate::matcher::written);
    let rules = silence.rules.iter().map(|rule| format!("rule={rule}"));
    json!({
        "id": silence.id,
        "state": standing_name(kept.standing(now)),
        "matchers": rules.chain(tests).collect::<Vec<_>>(),
        "starts_at": time(silence.from),
        "ends_at": time(kept.ends_at()),
        "ended": kept.ended.as_ref().map(|end| end.why.clone()),
        "owner": silence.owner,
        "reason": silence.reason,
        "schedule": silence.schedule,
        "expire_on_resolve": silence.on_resolve,
        "expire_when_idle_seconds": silence.idle.map(|idle| idle.as_secs_f64()),
        "notify": silence.notify,
        "recover": silence.recover,
        "mutes": covers,
    })
}

/// As Alertmanager says it.
pub(super) fn standing_name(standing: SilenceStanding) -> &'static str {
    match standing {
        SilenceStanding::Pending => "pending",
        SilenceStanding::Active => "active",
        SilenceStanding::Expired => "expired",
    }
}

/// What a new silence says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSilence {
    /// Each like `label=value`.
    #[serde(default)]
    matchers: Vec<String>,
    /// Rule ids, a trailing `*` matches any rest.
    #[serde(default)]
    rules: Vec<String>,
    /// RFC 3339; from now on where it is left out.
    starts_at: Option<Time>,
    /// RFC 3339.
    ends_at: Time,
    owner: String,
    reason: String,
    schedule: Option<String>,
    #[serde(default)]
    expire_on_resolve: bool,
    expire_when_idle_seconds: Option<f64>,
    #[serde(default = "yes")]
    notify: bool,
    #[serde(default)]
    recover: bool,
}

fn yes() -> bool {
    true
}

/// `POST /api/v1/silences`.
pub(super) async fn add(State(api): State<Api>, body: Bytes) -> Response {
    let new: NewSilence = match serde_json::from_slice(&body) {
        Ok(new) => new,
        Err(error) => {
            let text = format!("the silence cannot be read: {error}");
            return problem(StatusCode::BAD_REQUEST, &text);
        }
    };
    let mut labels = Vec::new();
    for text in &new.matchers {
        match crate::matcher::parse(text) {
            Ok(test) => labels.push(test),
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
    if let Err(refusal) = can_match(&api, &labels).await {
        return problem(StatusCode::BAD_REQUEST, &refusal);
    }
    let idle = new
        .expire_when_idle_seconds
        .map(Duration::try_from_secs_f64);
    let Ok(idle) = idle.transpose() else {
        return problem(
            StatusCode::BAD_REQUEST,
            "expire_when_idle_seconds must be a number of seconds",
        );
    };
    if !new.notify && !new.recover {
        return problem(
            StatusCode::BAD_REQUEST,
            "a silence stops notifications (notify), recovery (recover) or both",
        );
    }
    let silence = Silence {
        id: "".into(),
        rules: new.rules.into_iter().map(Into::into).collect(),
        labels,
        from: new.starts_at.map_or_else(wall_now, |at| wall_of(at.0)),
        until: wall_of(new.ends_at.0),
        notify: new.notify,
        recover: new.recover,
        owner: new.owner.into(),
        reason: new.reason.into(),
        schedule: new.schedule.map(Into::into),
        on_resolve: new.expire_on_resolve,
        idle,
    };
    let idle_now = mutes_nothing(&api, &silence);
    match take_in(&api, silence).await {
        Ok(id) => Json(json!({ "id": id, "mutes_nothing_now": idle_now })).into_response(),
        Err(refusal) => refusal,
    }
}

/// Refuses tests that no alert can ever pass: of a severity that does not exist, and of a label that nobody
/// has where one is called nearly so.
async fn can_match(api: &Api, tests: &[LabelTest]) -> Result<(), String> {
    for test in tests {
        let passes = |severity: &Severity| crate::matcher::passes(test, severity.name());
        // The contrary of what does not exist is always true, and as little meant.
        let exists = test.regex || test.value.is_empty() || test.value.parse::<Severity>().is_ok();
        if *test.name == *"severity" && !(exists && Severity::ALL.iter().any(passes)) {
            let test = crate::matcher::written(test);
            return Err(format!(
                "{test} is true of no alert: severities are low, warning, high and critical"
            ));
        }
    }
    // Before the first round nobody knows which labels there are.
    if api.views.pipeline.borrow().last_round.is_none() {
        return Ok(());
    }
    let known = labels(api);
    for test in tests {
        let names = known.iter().map(|name| &**name);
        if !known.contains(&test.name)
            && let Some(meant) = config::nearest(&test.name, names)
            && !of_series(api, &test.name).await
        {
            return Err(format!(
                "no alert, rule or series has a label {:?}: did you mean {meant:?}?",
                &*test.name
            ));
        }
    }
    Ok(())
}

/// Whether a collected series has that label.
async fn of_series(api: &Api, label: &str) -> bool {
    let families = super::alerts::families(api).await;
    let mut points = families.iter().flat_map(|family| &family.points);
    points.any(|(series, _)| series.labels.get(label).is_some())
}

/// Labels that an alert has, or could have of its rule.
fn labels(api: &Api) -> BTreeSet<Arc<str>> {
    let config = api.config.borrow().clone();
    let alerts = api.views.alerts.borrow().clone();
    let mut known: BTreeSet<Arc<str>> = ["alertname", "rule", "severity", "host"]
        .into_iter()
        .map(Arc::from)
        .collect();
    let of = |labels: &Labels| {
        labels
            .iter()
            .map(|(name, _)| Arc::from(name))
            .collect::<Vec<Arc<str>>>()
    };
    known.extend(of(&config.agent.labels));
    for alert in &alerts.alerts {
        known.extend(of(&alert.instance.labels));
    }
    for rule in &config.policy.rules {
        known.extend(of(&rule.labels));
    }
    for by in config.rules.iter().filter_map(|rule| rule.by.as_ref()) {
        known.extend(by.iter().cloned());
    }
    known
}

/// Whether no alert that there is passes it, and it names no rule of the configuration.
fn mutes_nothing(api: &Api, silence: &Silence) -> bool {
    let config = api.config.borrow().clone();
    let fits = |rule: &str| {
        let mut patterns = silence.rules.iter();
        patterns.any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => rule.starts_with(start),
            None => **pattern == *rule,
        })
    };
    if config
        .policy
        .rules
        .iter()
        .any(|rule| fits(rule.id.as_str()))
    {
        return false;
    }
    let alerts = api.views.alerts.borrow().clone();
    let passes = |alert: &AlertView, test: &LabelTest| {
        let rule = alert.instance.rule.as_str();
        let labels = &alert.instance.labels;
        let own = labels
            .get(&test.name)
            .or(config.agent.labels.get(&test.name));
        let value = own.unwrap_or(match &*test.name {
            "alertname" | "rule" => rule,
            "severity" => alert.snapshot.severity.name(),
            "host" => &config.agent.host,
            _ => "",
        });
        crate::matcher::passes(test, value)
    };
    !alerts.alerts.iter().any(|alert| {
        (silence.rules.is_empty() || fits(alert.instance.rule.as_str()))
            && silence.labels.iter().all(|test| passes(alert, test))
    })
}

/// Makes an id where there is none, and hands the silence to the alert stage.
pub(super) async fn take_in(api: &Api, mut silence: Silence) -> Result<Arc<str>, Response> {
    let config = api.config.borrow().clone();
    // What is true of every alert of this host tells none from the other, and is no label of the engine's.
    let own = &config.agent.labels;
    let named = !silence.labels.is_empty();
    silence.labels.retain(|test| {
        let of_host = own.get(&test.name).or_else(|| {
            let host = *test.name == *"host";
            host.then_some(&*config.agent.host)
        });
        !of_host.is_some_and(|value| crate::matcher::passes(test, value))
    });
    if silence.rules.is_empty() && silence.labels.is_empty() && named {
        return Err(problem(
            StatusCode::BAD_REQUEST,
            "that is true of every alert of this host: name a rule too, or a label that tells alerts apart; alertname=~\".+\" means all of them",
        ));
    }
    if silence.id.is_empty() {
        silence.id = fresh_id(api, &silence);
    }
    if let Err(refusal) = silence.check(&config.policy) {
        return Err(problem(StatusCode::BAD_REQUEST, &refusal.to_string()));
    }
    let (id, owner) = (silence.id.clone(), silence.owner.clone());
    let what = Order::Command(CommandKind::Silence(silence));
    order::give(api, Some(&owner), what).await?;
    Ok(id)
}

fn fresh_id(api: &Api, silence: &Silence) -> Arc<str> {
    let view = api.views.alerts.borrow();
    let taken = |id: &str| view.silences.iter().any(|kept| *kept.silence.id == *id);
    let ids = (0_u32..).map(|salt| {
        let words = format!("{silence:?} {salt} {}", jiff::Timestamp::now());
        let digest = Sha256::digest(words);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        digits[..ID_DIGITS].to_owned()
    });
    let mut ids = ids.filter(|id| !taken(id));
    ids.next().unwrap_or_default().into()
}

/// `DELETE /api/v1/silences/{id}`.
pub(super) async fn expire(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct By {
        by: Option<String>,
    }
    let by = if body.is_empty() {
        By::default()
    } else {
        match serde_json::from_slice(&body) {
            Ok(by) => by,
            Err(error) => {
                let text = format!("the body must be empty or {{\"by\": \"NAME\"}}: {error}");
                return problem(StatusCode::BAD_REQUEST, &text);
            }
        }
    };
    let what = Order::Command(CommandKind::Unsilence { id: id.into() });
    match order::give(&api, by.by.as_deref(), what).await {
        Ok(()) => Json(json!({ "done": true })).into_response(),
        Err(refusal) => refusal,
    }
}

/// Now, by the wall.
pub(super) fn wall_now() -> WallTime {
    wall_of(jiff::Timestamp::now())
}

/// Never before 1970.
pub(super) fn wall_of(at: jiff::Timestamp) -> WallTime {
    WallTime(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// The tests of a silence, with its rules as tests of `alertname`.
pub(super) fn all_tests(silence: &Silence) -> Vec<LabelTest> {
    let escaped = |rule: &Arc<str>| {
        let (start, any) = match rule.strip_suffix('*') {
            Some(start) => (start, ".*"),
            None => (&**rule, ""),
        };
        let letters = start.chars().map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | ':' => letter.to_string(),
            other => format!("\\{other}"),
        });
        letters.collect::<String>() + any
    };
    let plain = silence.rules.len() == 1 && !silence.rules[0].ends_with('*');
    let rules = (!silence.rules.is_empty()).then(|| LabelTest {
        name: "alertname".into(),
        value: if plain {
            silence.rules[0].clone()
        } else {
            let all: Vec<String> = silence.rules.iter().map(escaped).collect();
            all.join("|").into()
        },
        regex: !plain,
        negated: false,
    });
    rules.into_iter().chain(silence.labels.clone()).collect()
}

/// For the unit tests of both forms.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_become_one_test() {
        let of = |rules: &[&str]| {
            let rules = rules.iter().map(|rule| (*rule).into()).collect();
            let tests = all_tests(&Silence {
                rules,
                ..Silence::default()
            });
            tests
                .iter()
                .map(crate::matcher::written)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(of(&["cpu"]), ["alertname=\"cpu\""]);
        assert_eq!(of(&["disk-*", "a.b"]), ["alertname=~\"disk-.*|a\\\\.b\""]);
    }

    #[test]
    fn nothing_ends_before_1970() {
        assert_eq!(wall_of(jiff::Timestamp::MIN), WallTime(0));
    }
}
