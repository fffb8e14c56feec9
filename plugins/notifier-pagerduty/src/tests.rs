use super::*;

#[derive(serde::Deserialize)]
struct Input {
    config: serde_json::Value,
    notification: serde_json::Value,
}

fn request(config: &serde_json::Value, notification: &Notification) -> http::Request {
    let host = mock::Host::new();
    let pagerduty = PagerDuty::configure(&config.to_string()).unwrap();
    let answer = r#"{"status": "success", "message": "Event processed", "dedup_key": "theirs"}"#;
    host.http(
        &format!("POST {}", pagerduty.config.url),
        http::Response::new(202).with_body(answer),
    );
    assert_eq!(
        pagerduty.notify(notification),
        Ok(Receipt::from(Some("theirs".to_owned())))
    );
    host.requests().remove(0)
}

fn sent(input: &Input) -> serde_json::Value {
    let notification = mock::read_notification(&input.notification);
    let request = request(&input.config, &notification);
    assert!(request.fill_body);
    let id = ("Idempotency-Key".to_owned(), notification.id);
    assert!(request.headers.contains(&id));
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn testdata_is_sent_as_expected() {
    for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
        let expected: serde_json::Value = case.json("expected.json");
        assert_eq!(sent(&case.json("input.json")), expected, "{}", case.name);
    }
}

#[test]
fn only_the_key_is_a_place_for_a_secret() {
    let mut alert = mock::alert("cpu", Severity::High);
    alert.labels.push((
        "queue{{secret:pagerduty}}".into(),
        "{{secret:pagerduty}}{{{secret:x}}".into(),
    ));
    alert.summary = "{{secret:pagerduty}}".into();
    let fire = mock::notification(Reason::Fire, vec![alert]);
    let sent = request(
        &serde_json::json!({"routing_key": "{{secret:pagerduty}}"}),
        &fire,
    );
    assert_eq!(sent.text().matches("{{secret:").count(), 1);
    assert!(
        sent.text()
            .starts_with(r#"{"routing_key":"{{secret:pagerduty}}","#)
    );
    let document: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(
        document["payload"]["custom_details"]["text"],
        "{{secret:pagerduty}}"
    );
}

#[test]
fn an_event_is_never_too_big() {
    let mut alert = mock::alert("cpu", Severity::High);
    for label in 0..60 {
        alert
            .labels
            .push((format!("l{label}"), "🔥\u{1}".repeat(9000)));
    }
    let mut group = mock::notification(Reason::Group, vec![alert; 20]);
    group.text = "\u{0}".repeat(100_000);
    let sent = request(&serde_json::json!({"routing_key": "k"}), &group);
    assert!(sent.body.len() <= 512 << 10, "{}", sent.body.len());
    let document: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(document["payload"]["custom_details"]["more"], 19);
}

#[test]
fn severities_are_theirs() {
    for (ours, theirs) in Severity::ALL
        .into_iter()
        .zip(["info", "warning", "error", "critical"])
    {
        let fire = mock::notification(Reason::Fire, vec![mock::alert("cpu", ours)]);
        let sent = request(&serde_json::json!({"routing_key": "k"}), &fire);
        let document: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(document["payload"]["severity"], theirs);
    }
}

#[test]
fn the_answer_decides_what_happens_next() {
    let pagerduty =
        PagerDuty::configure(r#"{"routing_key": "k", "url": "http://127.0.0.1/e"}"#).unwrap();
    let fire = mock::notification(Reason::Fire, vec![mock::alert("cpu", Severity::High)]);
    let answered = |response| {
        let host = mock::Host::new();
        host.http("POST http://127.0.0.1/e", response);
        pagerduty.notify(&fire)
    };
    assert_eq!(
        answered(http::Response::new(429)),
        Err(Error::unavailable("answered 429").retry_after(LIMITED_WAIT))
    );
    assert_eq!(
        answered(http::Response::new(429).with_header("Retry-After", "5")),
        Err(Error::unavailable("answered 429").retry_after(Duration::from_secs(5)))
    );
    assert_eq!(
        answered(http::Response::new(400).with_body(r#"{"status": "invalid event"}"#)),
        Err(Error::rejected(
            r#"answered 400: {"status": "invalid event"}"#
        ))
    );
    assert_eq!(answered(http::Response::new(202)), Ok(Receipt::sent()));
    let heartbeat = mock::notification(Reason::Heartbeat, vec![]);
    assert!(matches!(
        pagerduty.notify(&heartbeat),
        Err(Error::Rejected(_))
    ));
}

#[test]
fn mistakes_say_what_to_write() {
    for (config, says) in [
        ("{}", "missing field `routing_key`"),
        (
            r#"{"routing_key": ""}"#,
            "config.routing_key: write {{secret:NAME}}",
        ),
        (
            r#"{"routing_key": "a b"}"#,
            "config.routing_key: write {{secret:NAME}}",
        ),
        (
            r#"{"routing_key": "k", "url": "events.pagerduty.com"}"#,
            "config.url: \"events.pagerduty.com\" is no address",
        ),
        (
            r#"{"routing_key": "k", "service_key": "k"}"#,
            "config.service_key: unknown field",
        ),
    ] {
        let error = PagerDuty::configure(config).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}
