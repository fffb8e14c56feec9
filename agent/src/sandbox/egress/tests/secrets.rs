//! Secrets: filled in where they belong, masked everywhere else.

use super::http::{get, ok, send, server};
use super::*;
use crate::sandbox::host::http::Request;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn secrets_go_into_url_header_and_body_but_only_to_their_host() {
    let server = server(|_| ok("")).await;
    let here = format!("127.0.0.1:{}", server.port);
    let fixture = Setup::http(&["http://127.0.0.1:*", "http://localhost:*"])
        .bind("url", &here, &format!("http://{here}/services/T0/B0/zzz\n"))
        .bind("key", &here, "k3y-value")
        .bind("elsewhere", "hooks.slack.com", "s1ack-value")
        .make();
    let request = Request {
        method: "POST".to_owned(),
        url: "{{secret:url}}?k={{secret:key}}".to_owned(),
        headers: vec![(
            "authorization".to_owned(),
            "Bearer {{secret:key}}".to_owned(),
        )],
        body: b"{\"routing_key\":\"{{secret:key}}\"}".to_vec(),
        fill_body: true,
        ..Request::default()
    };
    send(&fixture, &request).await.expect("an answer");
    let seen = server.seen.lock().expect("lock").concat();
    assert!(
        seen.starts_with("POST /services/T0/B0/zzz?k=k3y-value HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(
        seen.contains("authorization: Bearer k3y-value\r\n"),
        "{seen}"
    );
    assert!(seen.ends_with("{\"routing_key\":\"k3y-value\"}"), "{seen}");

    let before = server.connections.load(Ordering::Relaxed);
    let to = |url: String, header: &str, body: &str| Request {
        method: "POST".to_owned(),
        url,
        headers: vec![("x".to_owned(), header.to_owned())],
        body: body.as_bytes().to_vec(),
        fill_body: true,
        ..Request::default()
    };
    let plain = format!("http://{here}/");
    for request in [
        to(format!("{plain}?{{{{secret:elsewhere}}}}"), "", ""),
        to(plain.clone(), "{{secret:elsewhere}}", ""),
        to(plain.clone(), "", "{{secret:elsewhere}}"),
        to(plain.clone(), "{{secret:not-granted}}", ""),
        // The same host under a name the secret is not bound to.
        to(
            format!("http://localhost:{}/{{{{secret:key}}}}", server.port),
            "",
            "",
        ),
        // A secret as a piece of a host: whoever runs that zone would read it from the question.
        to("http://{{secret:key}}.example.org/".to_owned(), "", ""),
        to(
            format!("http://{{{{secret:key}}}}@{here}.example.org/"),
            "",
            "",
        ),
    ] {
        let refused = send(&fixture, &request).await.expect_err("bound elsewhere");
        assert!(
            matches!(refused, CallError::Denied(_) | CallError::Config(_)),
            "{refused:?}"
        );
        for value in ["s1ack-value", "k3y-value", "zzz"] {
            assert!(!refused.to_string().contains(value), "{refused}");
        }
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), before);
    assert_eq!(*fixture.asked.lock().expect("lock"), Vec::<String>::new());
}

#[tokio::test]
async fn no_error_text_holds_a_secret() {
    const VALUE: &str = "c4nary-0123456789";
    let dead = closed_port().await;
    let silent = listen().await;
    let bare = server(|_| b"not http at all c4nary-0123456789\r\n\r\n".to_vec()).await;
    let plain = format!("http://127.0.0.1:{}", bare.port);
    let fixture = |to: &str| {
        Setup::http(&[
            "http://127.0.0.1:*",
            "https://127.0.0.1:*",
            "http://gone.example:*",
        ])
        .bind("s", to, VALUE)
        .bind("broken", to, &format!("{VALUE}\r\nx-injected: 1"))
    };
    let header = |url: String, value: &str| Request {
        headers: vec![("authorization".to_owned(), value.to_owned())],
        timeout_ms: 200,
        ..get(url)
    };
    let mut checked = 0;
    for (to, request) in [
        (
            "127.0.0.1",
            header(
                format!("http://127.0.0.1:{dead}/{{{{secret:s}}}}?q={{{{secret:s}}}}"),
                "{{secret:s}}",
            ),
        ),
        (
            "gone.example",
            header(
                "http://gone.example/{{secret:s}}".to_owned(),
                "{{secret:s}}",
            ),
        ),
        (
            "127.0.0.1",
            header(
                format!("http://127.0.0.1:{}/{{{{secret:s}}}}", silent.1),
                "{{secret:s}}",
            ),
        ),
        (
            "127.0.0.1",
            header(format!("{plain}/{{{{secret:s}}}}"), "x"),
        ),
        (
            "127.0.0.1",
            header(
                format!("https://127.0.0.1:{}/{{{{secret:s}}}}", bare.port),
                "x",
            ),
        ),
        (
            "127.0.0.1",
            header(format!("{plain}/"), "{{secret:broken}}"),
        ),
        ("127.0.0.1", header("{{secret:s}}".to_owned(), "x")),
        (
            "127.0.0.1",
            header("http://[{{secret:s}}]/".to_owned(), "x"),
        ),
        (
            "127.0.0.1",
            header("http://u:{{secret:s}}@127.0.0.1/".to_owned(), "x"),
        ),
        (
            "127.0.0.1",
            header("gopher://{{secret:s}}/".to_owned(), "x"),
        ),
        ("127.0.0.1", header("http://{{secret:s}}/".to_owned(), "x")),
        (
            "127.0.0.1",
            header(format!("http://127.0.0.1:{VALUE}/"), "x"),
        ),
        (
            "hooks.slack.com",
            header(format!("{plain}/{{{{secret:s}}}}"), "{{secret:s}}"),
        ),
    ] {
        let failed = send(&fixture(to).make(), &request)
            .await
            .expect_err("it cannot work");
        for text in [failed.to_string(), format!("{failed:?}")] {
            assert!(
                !text.contains("c4nary") && !text.contains("0123456789"),
                "{text}"
            );
        }
        checked += 1;
    }
    assert_eq!(checked, 13);
}

#[tokio::test]
async fn no_cap_of_a_body_cuts_a_secret_out_of_its_mask() {
    let answer = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}", body.len());
        format!("{head}\r\n\r\n{body}").into_bytes()
    };
    let value = "k3y-value-of-some-length";
    let body = format!("one {value} and {value}");
    // What a guest may see, whatever it asks for.
    let masked = "one *** and ***";
    let server = server(move |_| answer(&body)).await;
    let fixture = Setup::http(&["http://127.0.0.1:*"])
        .bind("key", "127.0.0.1", value)
        .make();
    for bytes in 0..80 {
        let mut request = get(format!("http://127.0.0.1:{}/", server.port));
        let secret = ("authorization".to_owned(), "{{secret:key}}".to_owned());
        request.headers.push(secret);
        request
            .extra
            .push(("max_body".to_owned(), bytes.to_string()));
        let response = send(&fixture, &request).await.expect("an answer");
        let seen = String::from_utf8(response.body).expect("text");
        assert!(
            masked.starts_with(&seen) && seen.len() <= bytes,
            "{bytes}: {seen}"
        );
        let whole = bytes >= 4 + 2 * value.len() + 5;
        assert_eq!(response.extra.is_empty(), whole, "{bytes}: {seen}");
        assert!(!whole || seen == masked, "{bytes}: {seen}");
    }
}

#[tokio::test]
async fn an_echo_is_masked() {
    let server = server(|request| {
        let body = request.to_owned();
        format!(
            "HTTP/1.1 200 OK\r\nx-echo: k3y-value\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    })
    .await;
    let fixture = Setup::http(&["http://127.0.0.1:*"])
        .bind("key", "127.0.0.1", "k3y-value")
        .make();
    let mut request = get(format!("http://127.0.0.1:{}/", server.port));
    request.headers.push((
        "authorization".to_owned(),
        "Bearer {{secret:key}}".to_owned(),
    ));
    let response = send(&fixture, &request).await.expect("an answer");
    let body = String::from_utf8(response.body).expect("text");
    assert!(body.contains("authorization: Bearer ***\r\n"), "{body}");
    assert!(
        response
            .headers
            .contains(&("x-echo".to_owned(), "***".to_owned()))
    );
}
