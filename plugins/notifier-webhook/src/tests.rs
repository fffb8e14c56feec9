use super::*;

#[derive(serde::Deserialize)]
struct Input {
    config: serde_json::Value,
    notification: serde_json::Value,
}

/// The request as a document; a body that is JSON as such.
fn sent(input: &Input) -> serde_json::Value {
    let host = mock::Host::new();
    host.now(Timestamp(1_700_000_100_000));
    host.secret("signing", "It's a Secret to Everybody");
    let webhook = Webhook::configure(&input.config.to_string()).unwrap();
    let (method, url) = (webhook.config.method.name(), &webhook.config.url);
    host.http(&format!("{method} {url}"), http::Response::new(202));
    let notification = mock::read_notification(&input.notification);
    assert_eq!(webhook.notify(&notification), Ok(Receipt::sent()));
    let requests = host.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        !requests[0].fill_body,
        "what alerts carry is never searched for secrets"
    );
    let text = requests[0].text();
    serde_json::json!({
        "request": format!("{} {}", requests[0].method, requests[0].url),
        "headers": requests[0].headers,
        "body": serde_json::from_str(&text).unwrap_or(serde_json::Value::from(&*text)),
    })
}

fn configured(config: serde_json::Value) -> Result<Webhook> {
    Webhook::configure(&config.to_string())
}

#[test]
fn testdata_is_sent_as_expected() {
    for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
        let expected: serde_json::Value = case.json("expected.json");
        assert_eq!(sent(&case.json("input.json")), expected, "{}", case.name);
    }
}

#[test]
fn every_reason_is_the_contracts_word() {
    for reason in [
        "fire",
        "escalate",
        "deescalate",
        "repeat",
        "resolve",
        "flap-start",
        "exhausted",
        "approval-wanted",
        "later",
    ] {
        let input = Input {
            config: serde_json::json!({"url": "http://127.0.0.1/hook"}),
            notification: serde_json::json!({"reason": reason, "alerts": [{}]}),
        };
        assert_eq!(sent(&input)["body"]["reason"], reason);
    }
}

#[test]
fn the_signature_is_over_time_and_body() {
    // Checked against `printf '1700000000.{}' | openssl dgst -sha256 -hmac key`.
    let sign = |seconds, body| sign::signature("key", seconds, body).unwrap();
    assert_eq!(
        sign(1_700_000_000, "{}"),
        "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    );
    assert_ne!(sign(1, "1.{}"), sign(11, ".{}"));

    let host = mock::Host::new();
    host.now(Timestamp(1_700_000_100_999));
    host.secret("signing", "key");
    let webhook = configured(serde_json::json!({
        "url": "http://127.0.0.1/", "hmac": {"secret": "signing", "header": "X-Sign"}, "body": "{{ title | tojson }}",
    }));
    let request = webhook
        .unwrap()
        .request(&mock::notification(Reason::Drill, vec![]), "as sent".into())
        .unwrap();
    let header = |name: &str| {
        let found = request.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(request.text(), "as sent");
    assert_eq!(
        header("X-Watchfire-Timestamp").as_deref(),
        Some("1700000100")
    );
    assert_eq!(header("X-Sign"), Some(sign(1_700_000_100, "as sent")));
}

#[test]
fn without_the_secret_nothing_is_sent() {
    let host = mock::Host::new();
    host.http("POST http://127.0.0.1/hook", http::Response::new(200));
    let webhook = configured(serde_json::json!({
        "url": "http://127.0.0.1/hook", "hmac": {"secret": "{{secret:absent}}"},
    }));
    let error = webhook
        .unwrap()
        .notify(&mock::notification(Reason::Fire, vec![]))
        .unwrap_err();
    assert!(matches!(error, Error::Denied(_)));
    assert!(host.requests().is_empty());
}

#[test]
fn the_answer_decides_what_happens_next() {
    let webhook = configured(serde_json::json!({"url": "http://127.0.0.1/hook"})).unwrap();
    let fire = mock::notification(Reason::Fire, vec![mock::alert("cpu", Severity::High)]);
    let answered = |response| {
        let host = mock::Host::new();
        host.http("POST http://127.0.0.1/hook", response);
        webhook.notify(&fire)
    };
    assert_eq!(
        answered(http::Response::new(204).with_body("x")),
        Ok(Receipt::sent())
    );
    assert_eq!(
        answered(http::Response::new(429).with_header("Retry-After", "7")),
        Err(Error::unavailable("answered 429").retry_after(Duration::from_secs(7)))
    );
    assert_eq!(
        answered(http::Response::new(500)),
        Err(Error::unavailable("answered 500"))
    );
    assert_eq!(
        answered(http::Response::new(410).with_body("gone")),
        Err(Error::rejected("answered 410: gone"))
    );
    let moved = answered(http::Response::new(302)).unwrap_err();
    assert!(matches!(&moved, Error::Rejected(text) if text.contains("redirect")));
}

#[test]
fn templates_have_the_filters_that_the_readme_names() {
    let body = r#"{{ title | upper }} {{ title | lower }} {{ title | tojson }} {{ alerts | length }} {{ alerts[0].limit | default("none") }} {{ extra.nothing | default(title) | replace("C", "D") | truncate(3) }} {{ alerts | tojson | truncate(2) }}"#;
    let input = Input {
        config: serde_json::json!({"url": "http://127.0.0.1/", "body": body, "content_type": "text/plain"}),
        notification: serde_json::json!({"title": "Cpu \"1\"", "alerts": [{"limit": null}]}),
    };
    assert_eq!(
        sent(&input)["body"],
        "CPU \"1\" cpu \"1\" \"Cpu \\\"1\\\"\" 1 none Dp… […"
    );
}

#[test]
fn retries_carry_the_same_id() {
    let host = mock::Host::new();
    host.http("POST http://127.0.0.1/hook", http::Response::new(503));
    let webhook = configured(serde_json::json!({"url": "http://127.0.0.1/hook"})).unwrap();
    let fire = mock::notification(Reason::Fire, vec![mock::alert("cpu", Severity::High)]);
    assert!(webhook.notify(&fire).is_err() && webhook.notify(&fire).is_err());
    let requests = host.requests();
    assert_eq!(requests[0], requests[1]);
    let id = ("Idempotency-Key".to_owned(), fire.id.clone());
    assert!(requests[0].headers.contains(&id));
}

#[test]
fn mistakes_say_what_to_write() {
    for (config, says) in [
        (serde_json::json!({}), "missing field `url`"),
        (
            serde_json::json!({"url": "hooks.example.org"}),
            "config.url: \"hooks.example.org\" is no address: write it whole",
        ),
        (
            serde_json::json!({"url": "http://a", "method": "GET"}),
            "config.method: unknown variant `GET`, expected one of `POST`",
        ),
        (
            serde_json::json!({"url": "http://a", "header": {}}),
            "config.header: unknown field `header`",
        ),
        (
            serde_json::json!({"url": "http://a", "headers": {"X Team": "a"}}),
            "config.headers: \"X Team\" is no name of a header",
        ),
        (
            serde_json::json!({"url": "http://a", "hmac": {"secret": ""}}),
            "config.hmac.secret: write the name",
        ),
        (
            serde_json::json!({"url": "http://a", "hmac": {"secret": "s", "header": "a:b"}}),
            "config.hmac.header: \"a:b\"",
        ),
        (
            serde_json::json!({"url": "http://a", "content_type": "text/plain"}),
            "config.content_type: without config.body",
        ),
        (
            serde_json::json!({"url": "http://a", "body": "{{ title"}),
            "config.body: syntax error",
        ),
        (
            serde_json::json!({"url": "http://a", "body": "{\"a\": {{ titel | tojson }}}"}),
            "config.body: there is no \"titel\"",
        ),
        (
            serde_json::json!({"url": "http://a", "body": "{\"a\": \"{{ title }}\"}"}),
            "write {{ title | tojson }} without quotes",
        ),
        (
            serde_json::json!({"url": "http://a", "body": "{{secret:a}}"}),
            "config.body: a secret cannot stand in the body",
        ),
        (
            serde_json::json!({"url": "http://a", "body": "{{ title | nosuch }}"}),
            "config.body: unknown filter",
        ),
        (
            serde_json::json!({"url": "http://a", "timeout": "soon"}),
            "config.timeout: ",
        ),
    ] {
        let error = configured(config.clone())
            .err()
            .unwrap_or_else(|| panic!("{config} was taken"));
        assert!(matches!(error, Error::Config(_)));
        assert!(error.to_string().contains(says), "{error} / {says}");
    }
}
