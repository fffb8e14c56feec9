//! The whole router with fixed views: what each door lets through, what each path answers.

use super::*;
use crate::config::{
    AgentConfig, ApiConfig, EngineConfig, LogConfig, LogFormat, ProbeDefaults, Retention, Source,
};
use crate::pipeline::view::{
    AlertsView, CommandRequest, FamilyView, NotifierView, PipelineView, ProbeView, ProcedureView,
    RecoveryView, RuleView,
};
use crate::sandbox::types::{FamilyKind, SecretSource};
use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::sync::mpsc;
use watchfire_engine::Policy;
use watchfire_engine::effect::{AlertSnapshot, AlertView};
use watchfire_engine::input::CommandKind;
use watchfire_engine::model::{Instance, Labels, Series, Severity, WallTime};
use watchfire_engine::policy::{AlertingPolicy, DeliveryPolicy, RecoverPolicy};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Write ends of the views.
struct Ends {
    probes: watch::Sender<Arc<Vec<ProbeView>>>,
    alerts: watch::Sender<Arc<AlertsView>>,
    pipeline: watch::Sender<Arc<PipelineView>>,
    recovery: watch::Sender<Arc<RecoveryView>>,
    status: watch::Sender<Arc<AgentStatus>>,
    series: mpsc::Receiver<tokio::sync::oneshot::Sender<Vec<FamilyView>>>,
    commands: mpsc::Receiver<CommandRequest>,
}

/// An interface over a healthy agent, and the end where its commands arrive.
pub(crate) fn fixture() -> (Api, mpsc::Receiver<CommandRequest>) {
    let (api, ends) = wired();
    (api, ends.commands)
}

fn wired() -> (Api, Ends) {
    let (alerts, alerts_view) = watch::channel(Arc::new(AlertsView {
        last_seq: 250,
        ..AlertsView::default()
    }));
    let (pipeline, pipeline_view) = watch::channel(Arc::new(PipelineView {
        rounds: 3,
        last_round: Some(WallTime(1_700_000_000_000)),
        longest_interval: Duration::from_secs(10),
        ..PipelineView::default()
    }));
    let (recovery, recovery_view) = watch::channel(Arc::new(RecoveryView {
        procedures: vec![ProcedureView {
            id: "restart".into(),
            plugin: "action-service".into(),
            mode: "approve",
            description: None,
            rules: vec!["cpu".into()],
            severity: Severity::Critical,
            max_attempts: 3,
            window: Duration::from_secs(3600),
            cooldown: Duration::from_secs(60),
            waiting_for_approval: vec!["cpu".into()],
        }],
        ..RecoveryView::default()
    }));
    let (status, status_view) = watch::channel(Arc::new(AgentStatus {
        scheduled: true,
        ..AgentStatus::default()
    }));
    let (ask, series) = mpsc::channel(4);
    let (command, commands) = mpsc::channel(4);
    let probe = ProbeView {
        id: "host".into(),
        plugin: "probe-host".into(),
        every: Duration::from_secs(10),
        last_run: Some(WallTime(1_700_000_000_000)),
        last_success: Some(WallTime(1_700_000_000_000)),
        error: None,
        duration: Some(Duration::from_millis(2)),
        samples: 7,
        skipped: 0,
    };
    let rule = RuleView {
        id: "cpu".into(),
        plugin: Some("rule-threshold".into()),
        instances: 1,
        breaching: 0,
        worst: Some((Labels::default(), Some(f64::NAN), Some(0.7))),
        error: None,
        last_round: Some(WallTime(1_700_000_000_000)),
    };
    let notifier = NotifierView {
        id: "ops".into(),
        plugin: "notifier-log".into(),
        delivered: 2,
        failed: 0,
        running: 0,
        last_success: None,
        error: None,
    };
    let (probes, probes_view) = watch::channel(Arc::new(vec![probe]));
    let views = Views {
        probes: probes_view,
        rules: watch::channel(Arc::new(vec![rule])).1,
        alerts: alerts_view,
        notifiers: watch::channel(Arc::new(vec![notifier])).1,
        recovery: recovery_view,
        pipeline: pipeline_view,
        series: ask,
        commands: command,
    };
    let api = Api::new(Sources {
        views,
        metrics: Arc::new(Metrics::new("0.0.0")),
        config: watch::channel(Arc::new(config())).1,
        status: status_view,
        events: Arc::new(Numbers),
        token: Token::of(TOKEN),
    });
    let ends = Ends {
        probes,
        alerts,
        pipeline,
        recovery,
        status,
        series,
        commands,
    };
    (api, ends)
}

fn config() -> Config {
    Config {
        source: Source::default(),
        agent: AgentConfig {
            host: "web-1".into(),
            labels: Labels::default(),
            data_dir: "/data".into(),
            plugins_dir: "/data/plugins".into(),
        },
        api: ApiConfig {
            listen: None,
            hosts: vec!["monitor.example".to_owned()],
            socket: "/data/watchfire.sock".into(),
        },
        log: LogConfig {
            format: LogFormat::Text,
            level: tracing::Level::INFO,
            file: None,
        },
        engine: EngineConfig::default(),
        retention: Retention {
            metrics: Duration::from_secs(1),
            rollups: Duration::from_secs(1),
            alerts: Duration::from_secs(1),
            events: Duration::from_secs(1),
            metrics_bytes_max: 1,
        },
        secrets: BTreeMap::from([("slack".to_owned(), SecretSource::Env("SLACK".to_owned()))]),
        commands: BTreeMap::new(),
        mail: None,
        plugins: BTreeMap::new(),
        defaults: ProbeDefaults {
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            jitter: Duration::ZERO,
            adaptive: None,
        },
        probes: Vec::new(),
        rules: Vec::new(),
        notifiers: Vec::new(),
        recoveries: Vec::new(),
        policy: Arc::new(Policy {
            host: "web-1".into(),
            rules: Vec::new(),
            routes: Vec::new(),
            inhibitions: Vec::new(),
            procedures: Vec::new(),
            notifiers: Vec::new(),
            alerting: AlertingPolicy::default(),
            delivery: DeliveryPolicy::default(),
            recover: RecoverPolicy::default(),
            seed: 0,
        }),
    }
}

/// A store of 250 events; every tenth is a `reload`.
struct Numbers;

impl EventSource for Numbers {
    fn events(
        &self,
        since: u64,
        types: &[String],
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        if types.iter().any(|t| t != "reload" && t != "transition") {
            return async { Err(EventsError::Question("no such type".to_owned())) }.boxed();
        }
        let kind = |n: u64| {
            if n.is_multiple_of(10) {
                "reload"
            } else {
                "transition"
            }
        };
        let all = (since + 1..=250)
            .filter(|n| types.is_empty() || types.iter().any(|t| t == kind(*n)))
            .take(limit)
            .map(|n| json!({ "seq": n, "type": kind(n) }))
            .collect();
        async { Ok(all) }.boxed()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Value, EventsError>> {
        async { Ok(json!({ "events": 250 })) }.boxed()
    }

    fn cleanup(&self) -> BoxFuture<'_, Result<Value, EventsError>> {
        async { Err(EventsError::Store("disk is gone".to_owned())) }.boxed()
    }
}

fn alert(rule: &str, severity: Severity) -> AlertView {
    let instance = Instance::new(rule.into(), Labels::default());
    AlertView {
        state: format!("firing:{severity}"),
        severity: Some(severity),
        since: WallTime(1_700_000_000_000),
        stale: false,
        flapping: false,
        acknowledged_by: None,
        muted_by: vec!["silence-1".to_owned()],
        snapshot: AlertSnapshot {
            fingerprint: instance.fingerprint,
            episode: 1,
            rule: rule.into(),
            severity,
            labels: Labels::default(),
            value: Some(0.9),
            limit: Some(0.85),
            note: None,
            started_at: WallTime(1_700_000_000_000),
            ended_at: None,
            end_cause: None,
        },
        instance: Arc::new(instance),
    }
}

fn loopback() -> Door {
    Door::Tcp(SocketAddr::from(([127, 0, 0, 1], 9465)))
}

async fn ask(api: &Api, door: Door, request: Request<Body>) -> (StatusCode, String) {
    let service = TowerToHyperService::new(api.router(door));
    let answer = service.call(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    assert_eq!(parts.headers["x-content-type-options"], "nosniff");
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:9465");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn get_json(api: &Api, path: &str) -> (u16, Value) {
    let (status, body) = ask(api, loopback(), request("GET", path, &[])).await;
    (
        status.as_u16(),
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}")),
    )
}

#[tokio::test]
async fn every_route_checks_the_host() {
    let (api, _ends) = wired();
    for path in [
        "/health",
        "/metrics",
        "/api/v1/config",
        "/nowhere",
        "/events",
    ] {
        for host in [
            "evil.com",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "",
            "10.0.0.1",
        ] {
            let (status, _) = ask(&api, loopback(), request("GET", path, &[("host", host)])).await;
            assert_eq!(status, 421, "{path} for {host:?}");
        }
    }
    for host in [
        "localhost",
        "LOCALHOST:9465",
        "127.0.0.1:9465",
        "[::1]:9465",
        "monitor.example",
    ] {
        let (status, _) = ask(
            &api,
            loopback(),
            request("GET", "/health", &[("host", host)]),
        )
        .await;
        assert_eq!(status, 200, "{host}");
    }
    let none = Request::builder()
        .uri("/health")
        .body(Body::empty())
        .unwrap();
    assert_eq!(ask(&api, loopback(), none).await.0, 421);
    let two = Request::builder()
        .uri("/health")
        .header("host", "localhost")
        .header("host", "evil.com")
        .body(Body::empty())
        .unwrap();
    assert_eq!(ask(&api, loopback(), two).await.0, 421);
    let absolute = request("GET", "http://evil.com/health", &[]);
    assert_eq!(ask(&api, loopback(), absolute).await.0, 421);
    let everywhere = Door::Tcp(SocketAddr::from(([0, 0, 0, 0], 9465)));
    let by_address = request("GET", "/health", &[("host", "10.0.0.1:9465")]);
    assert_eq!(ask(&api, everywhere, by_address).await.0, 200);
}

#[tokio::test]
async fn beyond_loopback_only_verdicts_are_read_without_the_token() {
    let (api, _ends) = wired();
    let bearer = format!("Bearer {TOKEN}");
    for (path, headers, code) in [
        ("/api/v1/health/live", &[][..], 200),
        ("/health", &[], 200),
        ("/health/detailed", &[], 401),
        ("/api/v1/config", &[], 401),
        ("/events", &[], 401),
        ("/api/v1/config", &[("authorization", &*bearer)], 200),
    ] {
        for bound in [[0, 0, 0, 0], [10, 0, 0, 1]] {
            let door = Door::Tcp(SocketAddr::from((bound, 9465)));
            let (status, _) = ask(&api, door, request("GET", path, headers)).await;
            assert_eq!(status, code, "{path} on {bound:?}");
        }
    }
}

#[tokio::test]
async fn no_page_of_another_site_reads_or_acts() {
    let (api, _ends) = wired();
    for (headers, code) in [
        (&[("origin", "http://localhost:9465")][..], 200),
        (&[("origin", "http://localhost:3000")], 403),
        (&[("origin", "http://evil.com")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[("sec-fetch-site", "none")], 200),
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "no-cors"),
            ],
            403,
        ),
        (
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
            403,
        ),
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ],
            200,
        ),
    ] {
        let (status, _) = ask(&api, loopback(), request("GET", "/health", headers)).await;
        assert_eq!(status, code, "{headers:?}");
    }
    let bearer = format!("Bearer {TOKEN}");
    let navigated = [
        ("authorization", &*bearer),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    let (status, _) = ask(
        &api,
        loopback(),
        request("POST", "/recovery/pause", &navigated),
    )
    .await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn verbs_need_the_token_on_tcp_and_none_on_the_socket() {
    let (api, mut ends) = wired();
    let stage = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(request) = ends.commands.recv().await {
            seen.push(match request.what {
                CommandKind::Pause => "pause".to_owned(),
                CommandKind::Resume => "resume".to_owned(),
                CommandKind::Approve { procedure } => format!("approve {procedure}"),
                CommandKind::Reset { procedure } => format!("reset {procedure}"),
                other => panic!("{other:?}"),
            });
            let done = seen.len() == 5;
            let answer = if seen.len() == 4 {
                Err("nothing to reset".to_owned())
            } else {
                Ok(())
            };
            request.reply.send(answer).unwrap();
            if done {
                break;
            }
        }
        seen
    });
    let bearer = format!("bearer {TOKEN}");
    let wrong = format!("Bearer {}", TOKEN.replace('f', "e"));
    for (path, headers, code) in [
        ("/recovery/pause", &[][..], 401),
        ("/nowhere", &[], 401),
        ("/recovery/pause", &[("authorization", TOKEN)], 401),
        ("/recovery/pause", &[("authorization", &*wrong)], 401),
        ("/event-store/cleanup", &[], 401),
        ("/recovery/pause", &[("authorization", &*bearer)], 200),
        ("/recovery/resume", &[("authorization", &*bearer)], 200),
        (
            "/recovery/restart/approve",
            &[("authorization", &*bearer)],
            200,
        ),
        (
            "/recovery/restart/reset",
            &[("authorization", &*bearer)],
            409,
        ),
        ("/recovery/other/reset", &[("authorization", &*bearer)], 404),
        ("/event-store/cleanup", &[("authorization", &*bearer)], 503),
        ("/health", &[("authorization", &*bearer)], 405),
    ] {
        let (status, body) = ask(&api, loopback(), request("POST", path, headers)).await;
        assert_eq!(status, code, "{path} {headers:?}: {body}");
        assert!(code == 200 || body.contains("\"error\""), "{body}");
    }
    let (status, _) = ask(&api, Door::Unix, request("POST", "/recovery/pause", &[])).await;
    assert_eq!(status, 200);
    let seen = stage.await.unwrap();
    assert_eq!(
        seen,
        [
            "pause",
            "resume",
            "approve restart",
            "reset restart",
            "pause"
        ]
    );
}

#[tokio::test]
async fn a_body_must_be_small_json_that_we_know() {
    let (api, mut ends) = wired();
    let stage = tokio::spawn(async move {
        let request = ends.commands.recv().await.unwrap();
        request.reply.send(Ok(())).unwrap();
        request.by
    });
    let send = |kind: &'static str, body: String| {
        let length = body.len();
        Request::post("/recovery/pause")
            .header("host", "localhost")
            .header("content-type", kind)
            .header("content-length", length)
            .body(Body::from(body))
            .unwrap()
    };
    let json = "application/json; charset=utf-8";
    for (request, code) in [
        (send("text/plain", "{}".to_owned()), 415),
        (
            send("application/x-www-form-urlencoded", "a=b".to_owned()),
            415,
        ),
        (send(json, "{".to_owned()), 400),
        (send(json, r#"{"who":"x"}"#.to_owned()), 400),
        (send(json, " ".repeat(BODY_BYTES_MAX + 1)), 413),
        (send(json, r#"{"by":"anna"}"#.to_owned()), 200),
    ] {
        assert_eq!(ask(&api, Door::Unix, request).await.0, code);
    }
    assert_eq!(&*stage.await.unwrap(), "anna");
}

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
    metrics.plugin_call("p", crate::sandbox::types::Kind::Probe, "u", "ok", &cost);
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
