//! What operators do about alerts, and what the record tells of them.

use super::*;
use watchfire_engine::input::{Pushed, Silence};

/// Answers the next order with "done" and hands it out.
fn obey(
    mut commands: mpsc::Receiver<CommandRequest>,
) -> tokio::task::JoinHandle<(Arc<str>, Order)> {
    tokio::spawn(async move {
        let request = commands.recv().await.expect("an order");
        request.reply.send(Ok(())).expect("somebody waits");
        (request.by, request.what)
    })
}

async fn send(api: &Api, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    if !body.is_empty() {
        request = request
            .header("content-type", "application/json")
            .header("content-length", body.len());
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let (status, body) = ask(api, Door::Unix, request).await;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    };
    (status.as_u16(), body)
}

fn fingerprint(rule: &str) -> Fingerprint {
    alert(rule, Severity::High).instance.fingerprint
}

#[tokio::test]
async fn every_verb_needs_the_token_on_tcp() {
    let (api, _ends) = wired();
    let fingerprint = fingerprint("cpu");
    for (method, path) in [
        ("POST", format!("/api/v1/alerts/{fingerprint}/ack")),
        ("POST", "/api/v1/silences".to_owned()),
        ("DELETE", "/api/v1/silences/x".to_owned()),
        ("POST", "/api/v2/alerts".to_owned()),
        ("POST", "/api/v2/silences".to_owned()),
        ("DELETE", "/api/v2/silence/x".to_owned()),
    ] {
        let (status, _) = ask(&api, loopback(), request(method, &path, &[])).await;
        assert_eq!(status.as_u16(), 401, "{method} {path}");
    }
    for path in [
        "/api/v2/status",
        "/api/v2/receivers",
        "/api/v2/alerts",
        "/api/v2/alerts/groups",
        "/api/v2/silences",
        "/api/v1/silences",
        "/api/v1/incidents",
    ] {
        assert_eq!(get_json(&api, path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn an_acknowledgement_says_who() {
    let (api, ends) = wired();
    let alert = fingerprint("cpu");
    let order = obey(ends.commands);
    let path = format!("/api/v1/alerts/{alert}/ack");
    assert_eq!(send(&api, "POST", &path, r#"{"by": "anna"}"#).await.0, 200);
    let (by, what) = order.await.unwrap();
    assert_eq!(&*by, "anna");
    assert!(
        matches!(command(what), CommandKind::Acknowledge { alert: of, lasts: None } if of == alert)
    );
    assert_eq!(
        send(&api, "POST", "/api/v1/alerts/cpu/ack", "").await.0,
        400
    );
    assert_eq!(send(&api, "POST", &path, r#"{"who": "anna"}"#).await.0, 400);
    for lasts in ["soon", "0s", "367d"] {
        let body = json!({ "for": lasts }).to_string();
        let status = send(&api, "POST", &path, &body).await.0;
        assert_eq!(status, 400, "{lasts}");
    }
}

#[tokio::test]
async fn an_acknowledgement_may_say_how_long_it_lasts() {
    let (api, ends) = wired();
    let order = obey(ends.commands);
    let path = format!("/api/v1/alerts/{}/ack", fingerprint("cpu"));
    assert_eq!(send(&api, "POST", &path, r#"{"for": "2h"}"#).await.0, 200);
    let hours = Some(Duration::from_secs(7_200));
    let what = command(order.await.unwrap().1);
    assert!(matches!(what, CommandKind::Acknowledge { lasts, .. } if lasts == hours));
}

async fn silence_of(order: tokio::task::JoinHandle<(Arc<str>, Order)>) -> Silence {
    match command(order.await.unwrap().1) {
        CommandKind::Silence(silence) => silence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_forms_make_the_same_silence() {
    let (api, ends) = wired();
    let order = obey(ends.commands);
    let (status, answer) = send(
        &api,
        "POST",
        "/api/v1/silences",
        r#"{"rules": ["disk-*"], "matchers": ["severity!=critical", "host=web-1"], "ends_at": "2999-01-01T00:00:00Z",
            "starts_at": "2998-06-01T00:00:00Z", "owner": "anna", "reason": "deploy", "recover": true, "expire_on_resolve": true}"#,
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let silence = silence_of(order).await;
    assert_eq!(answer["id"], *silence.id);
    assert_eq!(silence.rules, ["disk-*".into()]);
    let tests: Vec<String> = silence.labels.iter().map(crate::matcher::written).collect();
    assert_eq!(
        tests,
        ["severity!=\"critical\""],
        "the host is always this one"
    );
    assert!(silence.notify && silence.recover && silence.on_resolve);

    let (api, ends) = wired();
    let order = obey(ends.commands);
    let (status, answer) = send(
        &api,
        "POST",
        "/api/v2/silences",
        &r#"{"matchers": [{"name": "alertname", "value": "disk", "isRegex": false, "isEqual": true}],
"startsAt": "2020-01-01T00:00:00Z", "endsAt": ENDS, "createdBy": "anna", "comment": "deploy"}"#
            .replace("ENDS", &format!("\"{}\"", jiff::Timestamp::now() + Duration::from_secs(3_600))),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let silence = silence_of(order).await;
    assert_eq!(answer["silenceID"], *silence.id);
    assert!(
        silence.from.0 > 1_700_000_000_000,
        "begins now, not in the past"
    );
    assert!(silence.notify && !silence.recover);
    let past = r#"{"matchers": [], "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2020-01-02T00:00:00Z", "createdBy": "a", "comment": "b"}"#;
    let (status, answer) = send(&api, "POST", "/api/v2/silences", past).await;
    assert_eq!(
        (status, answer),
        (400, "the silence ends in the past".into())
    );
}

#[tokio::test]
async fn a_silence_that_cannot_be_is_refused_in_words() {
    let (api, ends) = wired();
    // No series is known.
    drop(ends.series);
    for (path, body, word) in [
        (
            "/api/v1/silences",
            r#"{"rules": ["a"], "owner": "a", "reason": "b"}"#,
            "ends_at",
        ),
        (
            "/api/v1/silences",
            r#"{"rules": ["a"], "owner": "a", "reason": " ", "ends_at": "2999-01-01T00:00:00Z"}"#,
            "reason",
        ),
        (
            "/api/v1/silences",
            r#"{"matchers": ["x"], "owner": "a", "reason": "b", "ends_at": "2999-01-01T00:00:00Z"}"#,
            "is no matcher",
        ),
        (
            "/api/v1/silences",
            r#"{"matchers": ["host=web-1"], "owner": "a", "reason": "b", "ends_at": "2999-01-01T00:00:00Z"}"#,
            "true of every alert of this host",
        ),
        (
            "/api/v1/silences",
            r#"{"rules": ["a"], "notify": false, "owner": "a", "reason": "b", "ends_at": "2999-01-01T00:00:00Z"}"#,
            "recover",
        ),
        (
            "/api/v1/silences",
            r#"{"matchers": ["severity=page"], "owner": "a", "reason": "b", "ends_at": "2999-01-01T00:00:00Z"}"#,
            "severities are low, warning, high and critical",
        ),
        (
            "/api/v1/silences",
            r#"{"matchers": ["severity=~pa.*"], "owner": "a", "reason": "b", "ends_at": "2999-01-01T00:00:00Z"}"#,
            "severities are low, warning, high and critical",
        ),
        (
            "/api/v1/silences",
            r#"{"matchers": ["severty=low"], "owner": "a", "reason": "b", "ends_at": "2999-01-01T00:00:00Z"}"#,
            "did you mean \"severity\"?",
        ),
        (
            "/api/v2/silences",
            r#"{"matchers": [], "startsAt": "x", "endsAt": "y", "createdBy": "a", "comment": "b"}"#,
            "no time",
        ),
        (
            "/api/v2/alerts",
            r#"[{"labels": {"severity": "low"}}]"#,
            "alertname",
        ),
        ("/api/v2/alerts", "{}", "list of alerts"),
    ] {
        let (status, answer) = send(&api, "POST", path, body).await;
        assert_eq!(status, 400, "{answer}");
        let text = answer["error"].as_str().or(answer.as_str()).unwrap();
        assert!(text.contains(word), "{path}: {text}");
        assert_eq!(answer.is_string(), path.contains("v2"), "{path}");
    }
}

#[tokio::test]
async fn a_silence_that_mutes_nothing_now_says_so() {
    for (rules, matchers, expected) in [
        (r#"["nobody"]"#, "[]", true),
        (r#"["cp*"]"#, "[]", false),
        ("[]", r#"["severity=low"]"#, true),
        ("[]", r#"["severity!=low"]"#, false),
        (r#"["cpu"]"#, r#"["mount=/var"]"#, true),
    ] {
        let (api, ends) = wired();
        ends.alerts.send_replace(Arc::new(AlertsView {
            alerts: vec![alert("cpu", Severity::Critical)],
            ..AlertsView::default()
        }));
        let order = obey(ends.commands);
        let until = jiff::Timestamp::now() + Duration::from_secs(60);
        let body = format!(
            r#"{{"rules": {rules}, "matchers": {matchers}, "owner": "a", "reason": "b", "ends_at": "{until}"}}"#
        );
        let (status, answer) = send(&api, "POST", "/api/v1/silences", &body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["mutes_nothing_now"], expected, "{body}");
        order.await.unwrap();
    }
}

#[tokio::test]
async fn posted_alerts_reach_the_engine_with_their_time_to_live() {
    let (api, ends) = wired();
    let order = obey(ends.commands);
    let body = r#"[{"labels": {"alertname": "Backup", "job": "a", "severity": "critical"}, "annotations": {"summary": "none"}},
                   {"labels": {"alertname": "Copy"}, "endsAt": "2020-01-01T00:00:00Z"}]"#;
    assert_eq!(send(&api, "POST", "/api/v2/alerts", body).await.0, 200);
    let Order::Push(batch) = order.await.unwrap().1 else {
        panic!("a push");
    };
    let shown: Vec<_> = batch
        .iter()
        .map(|p: &Pushed| (p.alert.to_string(), p.severity, p.ttl.as_secs()))
        .collect();
    assert_eq!(
        shown,
        [
            ("Backup{job=\"a\"}".to_owned(), Severity::Critical, 300),
            ("Copy".to_owned(), Severity::Warning, 0)
        ]
    );
}

#[tokio::test]
async fn alerts_are_shown_as_the_tools_of_alertmanager_want_them() {
    let (api, ends) = wired();
    let mut muted = alert("disk", Severity::High);
    muted.muted_by = vec!["silence s1".to_owned(), "inhibited by net".to_owned()];
    let mut free = alert("cpu", Severity::Critical);
    free.muted_by.clear();
    let mut pending = alert("mem", Severity::Low);
    pending.severity = None;
    ends.alerts.send_replace(Arc::new(AlertsView {
        alerts: vec![muted, free, pending],
        ..AlertsView::default()
    }));
    let names = |answer: &Value| -> Vec<String> {
        let all = answer.as_array().unwrap().iter();
        all.map(|a| a["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    };
    let (_, all) = get_json(&api, "/api/v2/alerts").await;
    assert_eq!(names(&all), ["disk", "cpu"]);
    let disk = &all[0];
    assert_eq!(disk["labels"]["severity"], "high");
    assert_eq!(disk["labels"]["host"], "web-1");
    assert_eq!(
        disk["status"],
        json!({ "state": "suppressed", "silencedBy": ["s1"], "inhibitedBy": ["net"] })
    );
    for key in [
        "annotations",
        "fingerprint",
        "receivers",
        "startsAt",
        "endsAt",
        "updatedAt",
    ] {
        assert!(!disk[key].is_null(), "{key}");
    }
    for (query, wanted) in [
        ("silenced=false", vec!["cpu"]),
        ("active=false", vec!["disk"]),
        ("filter=severity%3D%22critical%22", vec!["cpu"]),
        (
            "filter=alertname%3D~%22d.*%22&filter=host%3D%22web-1%22",
            vec!["disk"],
        ),
        ("receiver=nobody", vec![]),
    ] {
        let (_, some) = get_json(&api, &format!("/api/v2/alerts?{query}")).await;
        assert_eq!(names(&some), wanted, "{query}");
    }
    assert_eq!(get_json(&api, "/api/v2/alerts?filter=x").await.0, 400);
    let (_, status) = get_json(&api, "/api/v2/status").await;
    assert_eq!(status["cluster"]["status"], "disabled");
    assert!(
        status["uptime"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
}

#[tokio::test]
async fn an_alert_is_found_by_name_fingerprint_and_history() {
    let (api, ends) = wired();
    ends.alerts.send_replace(Arc::new(AlertsView {
        alerts: vec![alert("cpu", Severity::Critical)],
        ..AlertsView::default()
    }));
    let cpu = fingerprint("cpu").to_string();
    for text in ["cpu", &cpu[..6], &cpu] {
        let (_, found) = get_json(&api, &format!("/api/v1/alerts/find?text={text}")).await;
        assert_eq!(found["alerts"][0]["alert"], "cpu", "{text}");
        assert_eq!(found["alerts"][0]["state"], "firing:critical");
    }
    for text in [&cpu[..1], &cpu[..3]] {
        let (_, found) = get_json(&api, &format!("/api/v1/alerts/find?text={text}")).await;
        assert_eq!(found["alerts"], json!([]), "{text}");
    }
    // The store knows an alert by any beginning.
    let disk = fingerprint("disk").to_string();
    for (text, count) in [(&disk[..1], 0), (&disk[..3], 0), (&disk[..4], 1)] {
        let (_, found) = get_json(&api, &format!("/api/v1/alerts/find?text={text}")).await;
        assert_eq!(found["alerts"].as_array().unwrap().len(), count, "{text}");
    }
    // A rule that is called as the fingerprint of another one begins.
    let namesake = &cpu[..4];
    ends.alerts.send_replace(Arc::new(AlertsView {
        alerts: vec![
            alert("cpu", Severity::Critical),
            alert(namesake, Severity::Low),
        ],
        ..AlertsView::default()
    }));
    let path = format!("/api/v1/alerts/find?text={namesake}");
    let (_, found) = get_json(&api, &path).await;
    assert_eq!(found["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(found["alerts"][0]["alert"], namesake);
    let (_, known) = get_json(&api, "/api/v1/alerts/find?text=disk").await;
    assert_eq!(known["alerts"][0]["state"], "ok");
    let (_, none) = get_json(&api, "/api/v1/alerts/find?text=nothing").await;
    assert_eq!(none["alerts"], json!([]));
}

#[tokio::test]
async fn an_explanation_holds_the_alert_and_its_history() {
    let (api, ends) = wired();
    let mut view = alert("disk", Severity::High);
    view.muted_by = vec!["silence s1".to_owned()];
    ends.alerts.send_replace(Arc::new(AlertsView {
        alerts: vec![view],
        ..AlertsView::default()
    }));
    let disk = fingerprint("disk");
    let (status, shown) = get_json(&api, &format!("/api/v1/alerts/{disk}")).await;
    assert_eq!(status, 200);
    assert_eq!(shown["live"]["state"], "firing:high");
    assert_eq!(shown["routes"], json!([]), "no route takes it");
    assert_eq!(shown["events"].as_array().unwrap().len(), story().len());
    ends.alerts.send_replace(Arc::default());
    let (_, over) = get_json(&api, &format!("/api/v1/alerts/{disk}")).await;
    assert_eq!(
        (&over["alert"], &over["live"]),
        (&json!("disk"), &Value::Null)
    );
    let unknown = fingerprint("unknown");
    assert_eq!(
        get_json(&api, &format!("/api/v1/alerts/{unknown}")).await.0,
        404
    );
    assert_eq!(get_json(&api, "/api/v1/rules/unknown/explain").await.0, 404);
}

#[tokio::test]
async fn incidents_are_episodes_with_their_figures() {
    let (api, _ends) = wired();
    let (_, list) = get_json(&api, "/api/v1/incidents").await;
    let ids: Vec<_> = list["incidents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["id"].clone())
        .collect();
    assert_eq!(ids, [30, 11], "newest first");
    assert!(list["incidents"][0]["ended_at_ms"].is_null(), "still open");
    let (_, one) = get_json(&api, "/api/v1/incidents/11").await;
    for (key, value) in [
        ("severity", json!("critical")),
        ("duration_ms", json!(9_000)),
        ("end_cause", json!("threshold")),
        ("delivered", json!(1)),
        ("failed", json!(1)),
        ("suppressed", json!(1)),
        ("attempts", json!(1)),
        ("recovered", json!(true)),
        ("acknowledged_by", json!("anna")),
        ("to_first_delivery_ms", json!(4_000)),
        ("to_acknowledge_ms", json!(5_000)),
        ("value_first", json!(0.95)),
        ("value_last", json!(0.5)),
        ("host", json!("web-1")),
    ] {
        assert_eq!(one[key], value, "{key}");
    }
    assert_eq!(
        one["events"].as_array().unwrap().len(),
        9,
        "without the next episode"
    );
    let (_, older) = get_json(&api, "/api/v1/incidents?before=30&limit=1").await;
    assert_eq!(older["incidents"][0]["id"], 11);
    assert_eq!(get_json(&api, "/api/v1/incidents/12").await.0, 404);
    assert_eq!(get_json(&api, "/api/v1/incidents?limit=0").await.0, 400);
}
