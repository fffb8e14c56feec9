//! Ways around the walls that were tried elsewhere: names that change their mind, redirects, drips, old TLS.

use super::http::{get, ok, send, server};
use super::*;
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

/// An answer after which the connection is closed, so that the next request resolves anew.
fn last(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn a_name_that_moves_inside_is_refused_from_then_on() {
    let server = server(|_| last("good")).await;
    let port = server.port;
    let setup = Setup {
        names: vec![
            ("moves.example.org", &["127.0.0.1"]),
            ("moves.example.org", &["169.254.169.254", "fd00:ec2::254"]),
        ],
        ..Setup::http(&[&format!("http://moves.example.org:{port}")])
    };
    let fixture = setup.make();
    let url = format!("http://moves.example.org:{port}/");
    let good = send(&fixture, &get(&url)).await.expect("granted by name");
    assert_eq!(good.body, b"good");
    // One question a request: what was checked is what was dialled.
    assert_eq!(fixture.asked.lock().expect("lock").len(), 1);
    for turn in 2..4 {
        let refused = send(&fixture, &get(&url)).await.expect_err("metadata");
        assert!(
            matches!(&refused, CallError::Denied(text) if text.ends_with("no grant opens it")),
            "{refused:?}"
        );
        assert_eq!(fixture.asked.lock().expect("lock").len(), turn);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn of_a_mixed_answer_only_what_may_be_dialled_is() {
    let server = server(|_| last("good")).await;
    let port = server.port;
    let setup = Setup {
        names: vec![(
            "mixed.example.org",
            &["169.254.169.254", "::ffff:169.254.169.254", "127.0.0.1"],
        )],
        ..Setup::http(&[&format!("http://mixed.example.org:{port}")])
    };
    let url = format!("http://mixed.example.org:{port}/");
    let answer = send(&setup.make(), &get(url)).await.expect("the good one");
    assert_eq!(answer.body, b"good");
}

#[tokio::test]
async fn no_redirect_is_followed_wherever_it_leads() {
    let inside = server(|_| ok("inside")).await;
    for location in [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "https://127.0.0.1/".to_owned(),
        "//[::1]/".to_owned(),
        "/again".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("http://127.0.0.1:{}/", inside.port),
    ] {
        for status in ["301 Moved", "307 Temporary", "308 Permanent"] {
            let told = location.clone();
            let server = server(move |_| {
                format!("HTTP/1.1 {status}\r\nlocation: {told}\r\ncontent-length: 0\r\n\r\n")
                    .into_bytes()
            })
            .await;
            let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
            let answer = send(&fixture, &get(format!("http://127.0.0.1:{}/", server.port)))
                .await
                .expect("an answer");
            assert_eq!(answer.status / 100, 3, "{location}");
            assert_eq!(server.connections.load(Ordering::Relaxed), 1);
        }
    }
    assert_eq!(inside.connections.load(Ordering::Relaxed), 0);
}

/// A byte at a time: of the status line, of a header, of the size of a chunk.
#[tokio::test]
async fn drips_end_with_the_request() {
    for start in [
        "",
        "HTTP/1.1 200 OK\r\nx: ",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let (listener, port) = listen().await;
        serve(listener, move |mut stream| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(start.as_bytes()).await;
            let mut every = tokio::time::interval(Duration::from_millis(5));
            let drip = if start.ends_with("\r\n\r\n") {
                b"0"
            } else {
                b"H"
            };
            while stream.write_all(drip).await.is_ok() {
                every.tick().await;
            }
        });
        let fixture = Setup::http(&["http://127.0.0.1:*"]).make();
        let mut request = get(format!("http://127.0.0.1:{port}/"));
        request.timeout_ms = 200;
        let began = tokio::time::Instant::now();
        let late = send(&fixture, &request).await.expect_err("late");
        assert!(is_unavailable(&late), "{start:?}: {late:?}");
        assert!(began.elapsed() < LONG / 2, "{start:?}");
    }
}

#[tokio::test]
async fn a_handshake_of_https_that_stalls_ends() {
    let (listener, port) = listen().await;
    serve(listener, |mut stream| async move {
        read_until(&mut stream, "never").await;
    });
    let mut setup = Setup::http(&["https://127.0.0.1:*"]);
    setup.settings.extra_roots = vec![SelfSigned::until(2100).certificate];
    let mut request = get(format!("https://127.0.0.1:{port}/"));
    request.timeout_ms = 200;
    let late = send(&setup.make(), &request).await.expect_err("stalled");
    assert!(
        late.to_string().ends_with("no whole answer within 200ms"),
        "{late}"
    );
}

/// Servers that know TLS 1.0 and 1.1 only, and one that speaks no TLS: by what they send first.
#[tokio::test]
async fn old_tls_and_none_are_refused_in_words() {
    // A record of the handshake with a ServerHello of that version, a suite of the time, no extensions.
    let hello = |minor: u8| {
        let mut body = vec![3, minor];
        body.extend([7; 32]);
        body.extend([0, 0x00, 0x2f, 0]);
        let mut record = vec![
            22,
            3,
            minor,
            0,
            body.len() as u8 + 4,
            2,
            0,
            0,
            body.len() as u8,
        ];
        record.extend(body);
        record
    };
    let old = "it offers TLS older than 1.2 only";
    for (what, first, told) in [
        ("TLS 1.0", hello(1), old),
        ("TLS 1.1", hello(2), old),
        // fatal, protocol_version
        ("an alert", vec![21, 3, 1, 0, 2, 2, 70], old),
        (
            "plain HTTP",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "does not speak TLS",
        ),
    ] {
        let (listener, port) = listen().await;
        let first = Arc::new(first);
        serve(listener, move |mut stream| {
            let first = Arc::clone(&first);
            async move {
                let mut hello = [0; 64];
                let _ = stream.read(&mut hello).await;
                let _ = stream.write_all(&first).await;
                read_until(&mut stream, "never").await;
            }
        });
        for insecure in [false, true] {
            let mut setup = Setup::http(&["https://127.0.0.1:*"]);
            setup.settings.extra_roots = vec![SelfSigned::until(2100).certificate];
            setup.grants.insecure = insecure;
            let mut request = get(format!("https://127.0.0.1:{port}/"));
            request.timeout_ms = 5_000;
            if insecure {
                request
                    .extra
                    .push(("verify".to_owned(), "false".to_owned()));
            }
            let refused = send(&setup.make(), &request).await.expect_err(what);
            assert!(
                is_unavailable(&refused) && refused.to_string().contains(told),
                "{what}: {refused:?}"
            );
        }
    }
}
