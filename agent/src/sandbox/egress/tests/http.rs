//! Requests.

use super::*;
use crate::sandbox::host::http::{BODY_BYTES_MAX, Request, Response, Sent};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

/// A server that answers each request with what `answer` makes of it, and keeps what it saw.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) seen: Arc<Mutex<Vec<String>>>,
    pub(super) connections: Arc<AtomicUsize>,
}

pub(super) async fn server(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Server {
    let (listener, port) = listen().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let answer = Arc::new(answer);
    let kept = Arc::clone(&seen);
    let counted = Arc::clone(&connections);
    serve(listener, move |mut stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        let (answer, seen) = (Arc::clone(&answer), Arc::clone(&kept));
        async move { while answer_one(&mut stream, &*answer, &seen).await {} }
    });
    Server {
        port,
        seen,
        connections,
    }
}

pub(super) async fn answer_one<S>(
    stream: &mut S,
    answer: &(dyn Fn(&str) -> Vec<u8> + Send + Sync),
    seen: &Mutex<Vec<String>>,
) -> bool
where
    S: AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut text = read_until(stream, "\r\n\r\n").await;
    if text.is_empty() {
        return false;
    }
    let length = text
        .lines()
        .find_map(|l| l.strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |l| l.parse().expect("a length"))];
    stream.read_exact(&mut body).await.expect("the body");
    text.push_str(&String::from_utf8_lossy(&body));
    let bytes = answer(&text);
    seen.lock().expect("lock").push(text);
    stream.write_all(&bytes).await.is_ok()
}

pub(super) fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(super) fn get(url: impl Into<String>) -> Request {
    Request {
        method: "GET".to_owned(),
        url: url.into(),
        ..Request::default()
    }
}

pub(super) async fn send(fixture: &Fixture, request: &Request) -> Result<Response, CallError> {
    send_noting(fixture, request).await.0
}

async fn send_noting(fixture: &Fixture, request: &Request) -> (Result<Response, CallError>, Sent) {
    let mut sent = Sent::default();
    let answer = fixture.reach.http(request.clone(), LONG, &mut sent).await;
    (answer, sent)
}

#[tokio::test]
async fn a_granted_request_arrives_whole_and_so_does_its_answer() {
    let server = server(|_| {
        b"HTTP/1.1 201 Created\r\nX-Two: a\r\nX-Two: b\r\ncontent-length: 2\r\n\r\nhi".to_vec()
    })
    .await;
    let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
    let request = Request {
        method: "POST".to_owned(),
        url: format!("http://127.0.0.1:{}/a/b?c=d#e", server.port),
        headers: vec![("X-Mine".to_owned(), "1".to_owned())],
        body: b"body {{secret:x}}".to_vec(),
        ..Request::default()
    };
    let (response, sent) = send_noting(&fixture, &request).await;
    let response = response.expect("an answer");
    assert_eq!(
        (response.status, response.body.as_slice()),
        (201, b"hi".as_slice())
    );
    assert!(sent.bytes_out > 40 && sent.status == Some(201), "{sent:?}");
    let two: Vec<_> = response
        .headers
        .iter()
        .filter(|(k, _)| k == "x-two")
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(two, ["a", "b"]);
    assert!(response.elapsed > Duration::ZERO);
    assert_eq!(response.certificate_seconds_left, None);
    let seen = server.seen.lock().expect("lock").concat();
    assert!(seen.starts_with("POST /a/b?c=d HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-mine: 1\r\n"), "{seen}");
    assert!(
        seen.contains(concat!(
            "user-agent: watchfire/",
            env!("CARGO_PKG_VERSION"),
            "\r\n"
        )),
        "{seen}"
    );
    // Without `fill_body` the body is nobody's template.
    assert!(seen.ends_with("\r\n\r\nbody {{secret:x}}"), "{seen}");
    assert!(!seen.to_lowercase().contains("accept-encoding"), "{seen}");
}

#[tokio::test]
async fn one_use_keeps_one_connection() {
    let server = server(|_| ok("")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let one = Setup::http(&["http://127.0.0.1:*"]).make();
    let other = Setup::http(&["http://127.0.0.1:*"]).make();
    for fixture in [&one, &one, &one, &other] {
        send(fixture, &get(&url)).await.expect("an answer");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_refusal_ends_with_the_line_to_add() {
    let fixture = Setup::http(&["https://*.example.org:443"]).make();
    let refused = send(&fixture, &get("https://hooks.slack.com/services/T/B/x"))
        .await
        .expect_err("not granted");
    assert_eq!(
        refused,
        CallError::Denied(
            "https://hooks.slack.com:443 is not granted; \
             add `http = [\"https://hooks.slack.com:443\"]` to the grant of \"ops-slack\""
                .to_owned()
        )
    );
    // Not even the question where it is may leave the host.
    assert_eq!(*fixture.asked.lock().expect("lock"), Vec::<String>::new());
}

#[tokio::test]
async fn no_spelling_of_a_local_address_passes_a_wildcard() {
    let server = server(|_| ok("secret of this host")).await;
    let port = server.port;
    let fixture = Setup::http(&["http://*:*", "https://*:*"]).make();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "0.0.0.0",
        "0",
        "[::]",
        "10.0.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "[fd00::1]",
        "169.254.169.254",
        "2852039166",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        for scheme in ["http", "https"] {
            let refused = send(&fixture, &get(format!("{scheme}://{host}:{port}/"))).await;
            let refused = refused.expect_err(host);
            assert!(
                matches!(refused, CallError::Denied(_)),
                "{host}: {refused:?}"
            );
        }
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn metadata_addresses_are_closed_even_where_granted() {
    let fixture = Setup::http(&[
        "http://169.254.169.254:80",
        "http://169.254.0.0/16:*",
        "http://metadata.example:80",
    ]);
    let fixture = Setup {
        names: vec![("metadata.example", &["169.254.169.254"])],
        ..fixture
    }
    .make();
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.example/",
    ] {
        let refused = send(&fixture, &get(url)).await.expect_err(url);
        assert!(
            matches!(&refused, CallError::Denied(text) if text.ends_with("no grant opens it")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_passes_only_where_it_is_named() {
    let server = server(|_| ok("inside")).await;
    let port = server.port;
    let names: Vec<(_, &'static [&'static str])> = vec![
        ("inside.example.org", &["127.0.0.1"]),
        ("mapped.example.org", &["::ffff:127.0.0.1"]),
    ];
    let wild = Setup {
        names: names.clone(),
        ..Setup::http(&["http://*.example.org:*"])
    }
    .make();
    for host in ["inside.example.org", "mapped.example.org"] {
        let refused = send(&wild, &get(format!("http://{host}:{port}/")))
            .await
            .expect_err(host);
        let want = format!("add `http = [\"http://{host}:{port}\"]` to the grant of \"ops-slack\"");
        assert!(
            matches!(&refused, CallError::Denied(text) if text.ends_with(&want)),
            "{refused:?}"
        );
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);

    let exact = format!("http://inside.example.org:{port}");
    let network = "http://127.0.0.0/8:*";
    for grants in [
        [exact.as_str(), "http://*.example.org:1"],
        [network, "http://*.example.org:*"],
    ] {
        let named = Setup {
            names: names.clone(),
            ..Setup::http(&grants)
        }
        .make();
        let response = send(&named, &get(format!("http://inside.example.org:{port}/"))).await;
        assert_eq!(
            response.expect("granted by name or network").body,
            b"inside"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let target = server(|_| ok("")).await;
    let location = format!("http://127.0.0.1:{}/", target.port);
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let server = server(move |_| answer.clone().into_bytes()).await;
    let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
    let response = send(&fixture, &get(format!("http://127.0.0.1:{}/", server.port)))
        .await
        .expect("an answer");
    assert_eq!(response.status, 302);
    assert!(
        response
            .headers
            .contains(&("location".to_owned(), location))
    );
    assert_eq!(target.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_too_much_fails_or_is_cut() {
    let body = "x".repeat(BODY_BYTES_MAX + 1);
    let told = ok(&body);
    // The error page of a gateway, say: nobody refused the request for good.
    let untold = format!("HTTP/1.1 502 Bad Gateway\r\n\r\n{body}").into_bytes();
    let headers = format!(
        "HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n",
        "y".repeat(40 << 10)
    )
    .into_bytes();
    for (answer, want) in [
        (
            told.clone(),
            "answered 200, but the answer's body has more than 4194304 bytes",
        ),
        (
            untold,
            "answered 502, but the answer's body has more than 4194304 bytes",
        ),
        (
            headers,
            "answered 200, but the answer's headers have more than 32768 bytes",
        ),
    ] {
        let server = server(move |_| answer.clone()).await;
        let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
        let request = get(format!("http://127.0.0.1:{}/", server.port));
        let (failed, sent) = send_noting(&fixture, &request).await;
        let failed = failed.expect_err(want);
        assert!(
            is_unavailable(&failed) && failed.to_string().ends_with(want),
            "{failed:?}"
        );
        assert!(sent.bytes_out > 0 && sent.status.is_some(), "{sent:?}");
    }
    let server = server(move |_| told.clone()).await;
    let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
    let mut request = get(format!("http://127.0.0.1:{}/", server.port));
    request.extra.push(("max_body".to_owned(), "10".to_owned()));
    let cut = send(&fixture, &request).await.expect("cut");
    assert_eq!(cut.body, b"xxxxxxxxxx");
    assert_eq!(cut.extra, [("truncated".to_owned(), "true".to_owned())]);
}

#[tokio::test]
async fn endless_headers_end() {
    let (listener, port) = listen().await;
    serve(listener, |mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let mut line = b"HTTP/1.1 200 OK\r\n".to_vec();
        while stream.write_all(&line).await.is_ok() {
            line = b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".to_vec();
        }
    });
    let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
    let refused = send(&fixture, &get(format!("http://127.0.0.1:{port}/")))
        .await
        .expect_err("endless");
    assert!(is_unavailable(&refused), "{refused:?}");
}

#[tokio::test]
async fn the_silent_and_the_slow_are_cut_off() {
    for drip in [false, true] {
        let (listener, port) = listen().await;
        serve(listener, move |mut stream| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            if drip {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                    .await;
                let mut every = tokio::time::interval(Duration::from_millis(5));
                while stream.write_all(b"x").await.is_ok() {
                    every.tick().await;
                }
            }
            read_until(&mut stream, "never").await;
        });
        let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
        let mut request = get(format!("http://127.0.0.1:{port}/"));
        // What drips begins to answer first.
        let (limit_ms, limit) = if drip { (2_000, "2s") } else { (150, "150ms") };
        request.timeout_ms = limit_ms;
        let (late, sent) = send_noting(&fixture, &request).await;
        let late = late.expect_err("late");
        let answered = if drip { "answered 200, but " } else { "" };
        let want = format!("GET http://127.0.0.1:{port}: {answered}no whole answer within {limit}");
        assert_eq!(sent.status, drip.then_some(200));
        assert_eq!(
            late,
            CallError::Unavailable {
                message: want,
                retry_after: None
            }
        );
        // What is left of the call counts where it is less than what was asked for.
        request.timeout_ms = 60_000;
        let late = fixture
            .reach
            .http(request, Duration::from_millis(50), &mut Sent::default())
            .await
            .expect_err("late");
        assert!(late.to_string().ends_with("within 50ms"), "{late}");
    }
}

#[tokio::test]
async fn four_at_a_time_and_the_fifth_is_told() {
    let (listener, port) = listen().await;
    let arrived = Arc::new(tokio::sync::Semaphore::new(0));
    let go = Arc::new(Notify::new());
    let (came, wait) = (Arc::clone(&arrived), Arc::clone(&go));
    serve(listener, move |mut stream| {
        let (came, wait) = (Arc::clone(&came), Arc::clone(&wait));
        async move {
            let released = wait.notified();
            read_until(&mut stream, "\r\n\r\n").await;
            tokio::pin!(released);
            released.as_mut().enable();
            came.add_permits(1);
            released.await;
            let _ = stream.write_all(&ok("")).await;
        }
    });
    let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
    let request = get(format!("http://127.0.0.1:{port}/"));
    let four = futures_util::future::join_all((0..4).map(|_| send(&fixture, &request)));
    let fifth = async {
        let all = arrived.acquire_many(4).await.expect("permits");
        all.forget();
        let refused = send(&fixture, &request).await;
        go.notify_waiters();
        refused
    };
    let (four, fifth) = tokio::join!(four, fifth);
    assert!(four.iter().all(Result::is_ok), "{four:?}");
    let fifth = fifth.expect_err("one too many");
    assert!(is_unavailable(&fifth), "{fifth:?}");
}

#[tokio::test]
async fn what_the_host_sets_the_guest_may_not() {
    let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "proxy-authorization",
        "TE",
        "upgrade",
    ] {
        let mut request = get("http://127.0.0.1:1/");
        request.headers.push((name.to_owned(), "x".to_owned()));
        let refused = send(&fixture, &request).await.expect_err(name);
        assert!(
            matches!(&refused, CallError::Config(t) if t.ends_with("is the host's: leave it out")),
            "{refused:?}"
        );
    }
    for (name, value) in [("a b", "x"), ("x", "a\r\nhost: evil"), ("x\r\ny", "z")] {
        let mut request = get("http://127.0.0.1:1/");
        request.headers.push((name.to_owned(), value.to_owned()));
        assert!(
            matches!(send(&fixture, &request).await, Err(CallError::Config(_))),
            "{name:?}: {value:?}"
        );
    }
    for method in ["CONNECT", "TRACE", "GE T", ""] {
        let mut request = get("http://127.0.0.1:1/");
        request.method = method.to_owned();
        assert!(
            matches!(send(&fixture, &request).await, Err(CallError::Config(_))),
            "{method}"
        );
    }
    for url in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://u@127.0.0.1/",
        "http://u:p@127.0.0.1/",
        "/x",
        "http://127.0.0.1:0/",
    ] {
        assert!(
            matches!(send(&fixture, &get(url)).await, Err(CallError::Config(_))),
            "{url}"
        );
    }
}
