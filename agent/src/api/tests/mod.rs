//! The whole router with fixed views.

mod answers;
mod guard;
mod record;

use super::*;
use crate::config::{
    AgentConfig, ApiConfig, EngineConfig, LogConfig, LogFormat, ProbeDefaults, Retention, Source,
};
use crate::pipeline::view::{
    AlertsView, CommandRequest, FamilyView, NotifierView, Order, PipelineView, ProbeView,
    ProcedureView, RecoveryView, RuleView,
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
use watchfire_engine::model::{Fingerprint, Instance, Labels, Series, Severity, WallTime};
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
            held_until: None,
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
            alerts: Duration::from_secs(1),
            events: Duration::from_secs(1),
            metrics: Duration::from_secs(1),
            rollups: Duration::from_secs(1),
            metrics_bytes_max: 1,
        },
        secrets: BTreeMap::from([("slack".to_owned(), SecretSource::Env("SLACK".to_owned()))]),
        commands: BTreeMap::new(),
        mail: None,
        heartbeat: None,
        plugins: BTreeMap::new(),
        lock: None,
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
            maintenance: Vec::new(),
            calendar: watchfire_engine::calendar::Calendar::default(),
            regexes: watchfire_engine::policy::Regexes::default(),
            procedures: Vec::new(),
            notifiers: Vec::new(),
            alerting: AlertingPolicy::default(),
            delivery: DeliveryPolicy::default(),
            recover: RecoverPolicy::default(),
            seed: 0,
        }),
    }
}

/// Two episodes of one alert.
fn story() -> Vec<Value> {
    let disk = Instance::new("disk".into(), Labels::default());
    let fingerprint = disk.fingerprint.to_string();
    let event = |seq: u64, mut body: Value| {
        body["seq"] = seq.into();
        body["wall_ms"] = (1_700_000_000_000 + seq * 1_000).into();
        body["alert"] = "disk".into();
        body["fingerprint"] = fingerprint.as_str().into();
        body
    };
    let turns = |from: &str, to: &str, value: f64| json!({ "type": "transition", "what": "transition", "from": from, "to": to, "value": value, "cause": "threshold" });
    let delivered =
        |outcome: &str| json!({ "type": "notification", "what": "delivered", "outcome": outcome });
    vec![
        event(11, turns("ok", "firing:high", 0.95)),
        event(
            12,
            json!({ "type": "notification", "what": "suppressed", "reason": "fire", "by": "silence s1" }),
        ),
        event(13, delivered("failed")),
        event(15, delivered("accepted")),
        event(
            16,
            json!({ "type": "operator", "what": "operator", "by": "anna", "did": "acknowledged disk" }),
        ),
        event(17, turns("firing:high", "firing:critical", 0.99)),
        event(
            18,
            json!({ "type": "action", "what": "action", "step": "start" }),
        ),
        event(
            19,
            json!({ "type": "action", "what": "action", "step": "verified_ok" }),
        ),
        event(20, turns("firing:critical", "ok", 0.5)),
        event(30, turns("ok", "firing:high", 0.96)),
    ]
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
        let known = ["reload", "transition", "operator", "plugin", "system"];
        if types.iter().any(|t| !known.contains(&&**t)) {
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

    fn of_alert(&self, alert: Fingerprint) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        self.of_alert_from(alert, 0)
    }

    fn of_alert_from(
        &self,
        alert: Fingerprint,
        from: u64,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        let all = story().into_iter().filter(move |event| {
            event["fingerprint"] == alert.to_string() && event["seq"].as_u64() >= Some(from)
        });
        let all = all.collect();
        async { Ok(all) }.boxed()
    }

    fn openings(
        &self,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        let opens = |event: &Value| event["from"] == "ok" && event["to"] == "firing:high";
        let all = story().into_iter().rev();
        let all = all.filter(|event| opens(event) && event["seq"].as_u64() < Some(before));
        let all = all.take(limit).collect();
        async { Ok(all) }.boxed()
    }

    fn known_alerts(&self, text: &str) -> BoxFuture<'_, Result<Vec<Value>, EventsError>> {
        let fingerprint = story()[0]["fingerprint"].clone();
        let begins = fingerprint.as_str().unwrap().starts_with(text);
        let known = text == "disk" || begins;
        let known = known.then(|| json!({ "alert": "disk", "fingerprint": fingerprint }));
        let known = known.into_iter().collect();
        async { Ok(known) }.boxed()
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
        external: None,
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

/// The operator's command in an order.
fn command(order: Order) -> CommandKind {
    match order {
        Order::Command(what) => what,
        Order::Push(batch) => panic!("no command: {batch:?}"),
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
