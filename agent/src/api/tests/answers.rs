//! What each path answers.

use super::*;
use crate::plugin::{UseState, UseStatus};
use crate::sandbox::types::Kind;

#[tokio::test(start_paused = true)]
async fn health_follows_alerts_parts_and_rounds() {
    let (api, ends) = wired();
    let status = async |api: &Api| {
        let (code, body) = get_json(api, "/health").await;
        (code, body["status"].as_str().unwrap().to_owned())
    };
    let is = |code, word: &str| (code, word.to_owned());
    assert_eq!(status(&api).await, is(200, "healthy"));
    let alerts = |all| {
        ends.alerts.send_replace(Arc::new(AlertsView {
            alerts: all,
            ..AlertsView::default()
        }));
    };
    alerts(vec![alert("cpu", Severity::High)]);
    assert_eq!(status(&api).await, is(200, "degraded"));
    alerts(vec![
        alert("cpu", Severity::Low),
        alert("up", Severity::Critical),
    ]);
    assert_eq!(status(&api).await, is(503, "unhealthy"));
    assert_eq!(get_json(&api, "/health/live").await.0, 200);
    alerts(Vec::new());
    ends.probes.send_modify(|probes| {
        Arc::make_mut(probes)[0].error = Some("connection refused".to_owned());
    });
    assert_eq!(status(&api).await, is(200, "degraded"));
    ends.probes.send_modify(|probes| {
        Arc::make_mut(probes)[0].error = None;
    });
    assert_eq!(status(&api).await, is(200, "healthy"));

    ends.status.send_modify(|status| {
        Arc::make_mut(status).config_refused = Some(Refusal {
            message: "watchfire.toml:3:1: no".to_owned(),
            since: WallTime(1),
        });
    });
    assert_eq!(status(&api).await, is(200, "degraded"));
    let (_, detailed) = get_json(&api, "/health/detailed").await;
    let of = |name: &str| {
        let all = detailed["components"].as_array().unwrap();
        all.iter().find(|c| c["name"] == name).unwrap().clone()
    };
    assert_eq!(of("config")["message"], "watchfire.toml:3:1: no");
    assert_eq!(
        (&of("host")["status"], &of("cpu")["value"]),
        (&json!("healthy"), &Value::Null)
    );
    ends.status.send_replace(Arc::new(AgentStatus::default()));

    let (code, ready) = get_json(&api, "/health/ready").await;
    assert_eq!((code, &ready["schedule"]), (503, &json!(false)));

    ends.pipeline
        .send_modify(|p| Arc::make_mut(p).last_round = None);
    assert_eq!(status(&api).await, is(503, "unknown"));
    ends.pipeline.send_modify(|p| {
        let view = Arc::make_mut(p);
        view.last_round = Some(WallTime(1));
        view.rounds += 1;
    });
    assert_eq!(status(&api).await, is(200, "healthy"));

    // 3 intervals of 10 s and a grace of 10 s.
    tokio::time::advance(Duration::from_secs(39)).await;
    assert_eq!(get_json(&api, "/health/live").await.0, 200);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(get_json(&api, "/health/live").await.0, 503);
    assert_eq!(status(&api).await, is(503, "unhealthy"));
    ends.pipeline.send_modify(|p| Arc::make_mut(p).rounds += 1);
    assert_eq!(get_json(&api, "/api/v1/health/live").await.0, 200);
}

#[tokio::test]
async fn detailed_shows_the_worst_alert_of_a_rule() {
    let (api, ends) = wired();
    ends.alerts.send_replace(Arc::new(AlertsView {
        alerts: vec![alert("cpu", Severity::Warning)],
        store_error: Some("disk is full".to_owned()),
        ..AlertsView::default()
    }));
    let (code, body) = get_json(&api, "/health/detailed").await;
    assert_eq!((code, &body["status"]), (200, &json!("degraded")));
    let all = body["components"].as_array().unwrap();
    let cpu = all.iter().find(|c| c["name"] == "cpu").unwrap();
    assert_eq!(cpu["value"], 0.9);
    assert_eq!(cpu["threshold"], 0.85);
    assert_eq!(
        cpu["message"],
        "cpu is firing:warning since 2023-11-14T22:13:20.000Z"
    );
    assert_eq!(body["alerts"][0]["muted_by"], json!(["silence-1"]));
    let store = all.iter().find(|c| c["name"] == "store").unwrap();
    assert_eq!(store["message"], "disk is full");
    assert_eq!(get_json(&api, "/health/ready").await.0, 503);
    let recovery = all.iter().find(|c| c["name"] == "restart").unwrap();
    assert_eq!(recovery["message"], "waits for approval: cpu");
}

#[tokio::test]
async fn what_does_not_run_and_what_is_no_part_is_shown_too() {
    let (api, ends) = wired();
    let used = |id: &str, state| UseStatus {
        kind: Kind::Rule,
        id: id.into(),
        plugin: "rule-treshold".into(),
        state,
    };
    ends.status.send_modify(|status| {
        let status = Arc::make_mut(status);
        status.runs.rules = 2;
        status.uses = vec![
            used("cpu", UseState::Running),
            used("new", UseState::Running),
            used("waits", UseState::Waiting("no such plugin".into())),
            used("bad", UseState::Rejected("unknown key".into())),
            UseStatus {
                kind: Kind::Action,
                ..used("mend", UseState::Waiting("no such plugin".into()))
            },
        ];
    });
    let (code, body) = get_json(&api, "/health/detailed").await;
    assert_eq!((code, &body["status"]), (200, &json!("degraded")));
    assert_eq!(get_json(&api, "/health").await.1["status"], "degraded");
    let of = |body: &Value, name: &str| {
        let all = body["components"].as_array().unwrap();
        let mut of_name = all.iter().filter(|c| c["name"] == name);
        let one = of_name.next().cloned();
        assert!(of_name.next().is_none(), "{name} is there twice");
        let one = one.unwrap_or_else(|| panic!("{name} is not there"));
        let part = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
        [part("kind"), part("status"), part("message")]
    };
    let words = "waiting, does not run: no such plugin";
    assert_eq!(of(&body, "waits"), ["rule", "degraded", words]);
    assert_eq!(of(&body, "mend"), ["recovery", "degraded", words]);
    let words = "rejected, does not run: unknown key";
    assert_eq!(of(&body, "bad"), ["rule", "degraded", words]);
    assert_eq!(of(&body, "new"), ["rule", "unknown", "not judged yet"]);
    assert_eq!(of(&body, "cpu")[1], "healthy");
    let (_, pipeline) = get_json(&api, "/health/events").await;
    assert_eq!(pipeline["handlers"]["rules"], 2);
    assert_eq!(pipeline["handlers"]["not_running"], 3);

    // Whatever makes the whole degraded is named among the parts.
    ends.status
        .send_modify(|status| Arc::make_mut(status).uses.clear());
    let name = "watchfire_dead_letter";
    ends.alerts.send_replace(Arc::new(AlertsView {
        alerts: vec![
            alert(name, Severity::Warning),
            alert(name, Severity::Critical),
        ],
        ..AlertsView::default()
    }));
    let (_, body) = get_json(&api, "/health/detailed").await;
    let [kind, status, message] = of(&body, name);
    assert_eq!([&*kind, &*status], ["alert", "unhealthy"]);
    assert!(message.ends_with(" (and 1 more)"), "{message}");
}

#[tokio::test]
async fn events_come_in_pages() {
    let (api, _ends) = wired();
    let page = async |query: &str| {
        let (code, body) = get_json(&api, &format!("/events{query}")).await;
        let seqs: Vec<u64> = body["events"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|e| e["seq"].as_u64().unwrap())
            .collect();
        (code, seqs, body)
    };
    let (_, seqs, body) = page("?since=0&limit=100").await;
    assert_eq!(
        (seqs[0], seqs[99], &body["next_since"], &body["more"]),
        (1, 100, &json!(100), &json!(true))
    );
    let (_, seqs, body) = page("?since=200").await;
    assert_eq!(
        (seqs.len(), &body["next_since"], &body["more"]),
        (50, &json!(250), &json!(false))
    );
    let (_, seqs, body) = page("?since=250").await;
    assert_eq!((seqs.len(), &body["next_since"]), (0, &json!(250)));
    let (_, seqs, _) = page("").await;
    assert_eq!((seqs[0], seqs[99]), (151, 250), "without since: the newest");
    let (_, seqs, _) = page("?type=reload&limit=12").await;
    assert_eq!(seqs, (14..=25).map(|n| n * 10).collect::<Vec<_>>());
    for (query, code) in [
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?since=x", 400),
        ("?since=-1", 400),
        ("?what=1", 400),
        ("?type=%27%3B--", 400),
    ] {
        assert_eq!(page(query).await.0, code, "{query}");
    }
    assert_eq!(get_json(&api, "/event-store/stats").await.1["events"], 250);
}

#[tokio::test]
async fn views_answer_under_their_paths_and_nothing_else_does() {
    let (api, ends) = wired();
    ends.recovery
        .send_modify(|view| Arc::make_mut(view).paused = true);
    for path in [
        "/health",
        "/health/live",
        "/health/ready",
        "/health/detailed",
        "/health/events",
        "/recovery/status",
        "/api/v1/health/ready",
        "/api/v1/probes",
        "/api/v1/rules",
        "/api/v1/notifiers",
        "/api/v1/recoveries",
        "/api/v1/plugins",
        "/api/v1/config",
        "/api/v1/alerts",
    ] {
        assert_eq!(get_json(&api, path).await.0, 200, "{path}");
    }
    assert_eq!(get_json(&api, "/recovery/status").await.1["paused"], true);
    let (_, rules) = get_json(&api, "/api/v1/rules").await;
    assert_eq!(rules[0]["worst"]["value"], Value::Null, "NaN is null");
    assert_eq!(rules[0]["last_round"], "2023-11-14T22:13:20.000Z");
    let (_, config) = get_json(&api, "/api/v1/config").await;
    assert_eq!(config["secrets"]["slack"]["env"], "SLACK");
    for path in [
        "/%2e%2e/etc/passwd",
        "/..%5c",
        "/%00",
        "/api/v1/",
        "/api/v1/token",
    ] {
        assert_eq!(get_json(&api, path).await.0, 404, "{path}");
    }
}

/// Runs `promtool check metrics`; none where it is not installed.
#[expect(
    clippy::disallowed_methods,
    reason = "an outside reader of the format judges it"
)]
fn promtool(text: &str) -> Option<(bool, String)> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[tokio::test]
async fn metrics_pass_promtool() {
    let (api, mut ends) = wired();
    let stage = tokio::spawn(async move {
        let labels = Labels::new([("mountpoint", "/a\"b\\c\nd\u{1b}")]).unwrap();
        let point = |metric: &str, labels: Labels, value| {
            let metric = metric.into();
            (Series { metric, labels }, value)
        };
        let le = |bound: &str| Labels::new([("le", bound)]).unwrap();
        let all = vec![
            FamilyView {
                metric: "filesystem_free_bytes".into(),
                kind: FamilyKind::Gauge,
                help: "Free \"space\"\nin bytes.".into(),
                points: vec![
                    point("filesystem_free_bytes", labels, f64::NAN),
                    point("filesystem_free_bytes", Labels::default(), f64::INFINITY),
                ],
            },
            FamilyView {
                metric: "request_duration_seconds".into(),
                kind: FamilyKind::Histogram,
                help: "Requests.".into(),
                points: vec![
                    point("request_duration_seconds_sum", Labels::default(), 1e300),
                    point("request_duration_seconds_bucket", le("+Inf"), 2.0),
                    point("request_duration_seconds_bucket", le("0.5"), 1.0),
                    point("request_duration_seconds_count", Labels::default(), 2.0),
                ],
            },
        ];
        ends.series.recv().await.unwrap().send(all).unwrap();
    });
    // One child of each family of our own, so that its samples are judged too.
    let metrics = &api.metrics;
    let cost = crate::sandbox::types::Cost::default();
    metrics.plugin_call("p", crate::sandbox::types::Kind::Probe, "u", None, &cost);
    metrics.plugin_samples.with(["p", "u"]).inc();
    metrics.plugin_quarantined.with(["p", "u"]).set(0.0);
    metrics.plugin_quarantines.with(["p", "u"]).inc();
    metrics.plugin_withheld.with(["p", "u"]).inc();
    metrics.stage_duration.with(["alert"]).observe(0.1);
    metrics.probe_runs.with(["p", "ok"]).inc();
    metrics.probe_run_duration.with(["p"]).observe(0.1);
    metrics.probe_skipped.with(["p"]).inc();
    metrics.samples.with(["p"]).inc();
    metrics.series.with(["p"]).set(1.0);
    metrics.rule_evaluations.with(["r", "ok"]).inc();
    metrics.transitions.with(["ok"]).inc();
    metrics.alerts.with(["firing", "high"]).set(1.0);
    metrics.notifications.with(["n", "fire", "accepted"]).inc();
    metrics.delivery_delay.with(["high"]).observe(0.1);
    metrics.recovery_attempts.with(["r", "start"]).inc();
    metrics.reloads.with(["config", "applied"]).inc();

    let (status, text) = ask(&api, loopback(), request("GET", "/metrics", &[])).await;
    assert_eq!(status, 200);
    stage.await.unwrap();
    for line in [
        "filesystem_free_bytes +Inf",
        "filesystem_free_bytes{mountpoint=\"/a\\\"b\\\\c\\nd\u{fffd}\"} NaN",
        "request_duration_seconds_bucket{le=\"0.5\"} 1",
        "watchfire_alerts{state=\"firing\",severity=\"high\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    for info in crate::telemetry::metrics::LIST {
        assert_eq!(
            text.matches(&format!("# TYPE {} ", info.name)).count(),
            1,
            "{}",
            info.name
        );
    }
    match promtool(&text) {
        Some((passed, said)) => assert!(passed, "{said}"),
        None => eprintln!("SKIPPED: promtool is not installed"),
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_come_without_series_when_the_pipeline_does_not_answer() {
    let (api, _ends) = wired();
    let (status, text) = ask(&api, loopback(), request("GET", "/health/metrics", &[])).await;
    assert_eq!(status, 200);
    assert!(text.contains("watchfire_up 1"));
}
