//! Connections.

use super::*;
use crate::sandbox::host::tcp::{Connection, TlsSettings};
use tokio::io::AsyncWriteExt;

fn tls(server_name: Option<&str>, verify: bool) -> TlsSettings {
    TlsSettings {
        server_name: server_name.map(str::to_owned),
        verify,
    }
}

async fn connect(
    fixture: &Fixture,
    port: u16,
    settings: Option<&TlsSettings>,
) -> Result<Connection, CallError> {
    fixture
        .reach
        .connect("127.0.0.1", port, settings, 0, LONG)
        .await
}

fn denied(result: Result<Connection, CallError>) -> String {
    match result {
        Err(CallError::Denied(text)) => text,
        Err(other) => panic!("not denied but {other:?}"),
        Ok(_) => panic!("not denied"),
    }
}

/// Answers each line with `+` and the line; `QUIT` closes, `STARTTLS` upgrades.
async fn line_server(own: Option<&SelfSigned>) -> u16 {
    let (listener, port) = listen().await;
    let acceptor = own.map(|own| own.acceptor.clone());
    serve(listener, move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            loop {
                match read_until(&mut stream, "\n").await.as_str() {
                    "" | "QUIT\n" => return,
                    "STARTTLS\n" => {
                        let _ = stream.write_all(b"+go\n").await;
                        let Ok(mut stream) = acceptor.expect("an acceptor").accept(stream).await
                        else {
                            return;
                        };
                        let line = read_until(&mut stream, "\n").await;
                        let _ = stream.write_all(format!("tls+{line}").as_bytes()).await;
                        read_until(&mut stream, "never").await;
                        return;
                    }
                    line => {
                        let _ = stream.write_all(format!("+{line}").as_bytes()).await;
                    }
                }
            }
        }
    });
    port
}

#[tokio::test]
async fn lines_go_and_come_and_the_end_is_empty() {
    let port = line_server(None).await;
    let fixture = Setup::tcp(&["127.0.0.1:*"]).make();
    let mut connection = connect(&fixture, port, None).await.expect("open");
    assert!(connection.elapsed() > Duration::ZERO);
    assert_eq!(connection.certificate_seconds_left(), None);
    connection.send(b"PING\n", LONG).await.expect("sent");
    assert_eq!(connection.receive(3, 0, LONG).await, Ok(b"+PI".to_vec()));
    assert_eq!(connection.receive(100, 0, LONG).await, Ok(b"NG\n".to_vec()));
    // Nothing comes: an error, but the connection lives on.
    let late = connection
        .receive(100, 30, LONG)
        .await
        .expect_err("silence");
    assert_eq!(
        late.to_string(),
        format!("127.0.0.1:{port}: nothing came for 30ms")
    );
    let late = connection
        .receive(100, 60_000, Duration::from_millis(20))
        .await
        .expect_err("silence");
    assert!(late.to_string().ends_with("for 20ms"), "{late}");
    assert!(matches!(
        connection.receive(0, 0, LONG).await,
        Err(CallError::Config(_))
    ));
    connection.send(b"QUIT\n", LONG).await.expect("sent");
    assert_eq!(connection.receive(100, 0, LONG).await, Ok(Vec::new()));
}

#[tokio::test]
async fn refusals_end_with_the_line_to_add() {
    let fixture = Setup {
        names: vec![("db.example.org", &["127.0.0.1"])],
        ..Setup::tcp(&["127.0.0.1:1", "*.example.org:*", "*:7"])
    }
    .make();
    let reach = &fixture.reach;
    let end = |line: &str| format!("add `{line}` to the grant of \"ops-slack\"");
    for (host, port, line) in [
        ("127.0.0.1", 2, "tcp = [\"127.0.0.1:2\"]"),
        ("::1", 5432, "tcp = [\"[::1]:5432\"]"),
        (
            "elsewhere.example",
            5432,
            "tcp = [\"elsewhere.example:5432\"]",
        ),
        ("2130706433", 7, "tcp = [\"127.0.0.1:7\"]"),
        ("db.example.org", 5432, "tcp = [\"db.example.org:5432\"]"),
    ] {
        let text = denied(reach.connect(host, port, None, 0, LONG).await);
        assert!(text.ends_with(&end(line)), "{text}");
    }
    let text = denied(reach.connect("169.254.169.254", 7, None, 0, LONG).await);
    assert!(text.ends_with("no grant opens it"), "{text}");
    let text = denied(reach.connect_unix("/run/docker.sock", 0, LONG).await);
    assert!(
        text.ends_with(&end("tcp = [\"unix:/run/docker.sock\"]")),
        "{text}"
    );
    let text = denied(
        reach
            .connect("127.0.0.1", 1, Some(&tls(None, false)), 0, LONG)
            .await,
    );
    assert!(text.ends_with(&end("insecure = true")), "{text}");
    for (host, port) in [
        ("", 1),
        ("a b", 1),
        ("127.0.0.1", 0),
        ("a/b", 1),
        ("x@y", 1),
    ] {
        let refused = reach.connect(host, port, None, 0, LONG).await.err();
        assert!(
            matches!(refused, Some(CallError::Config(_))),
            "{host:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn the_addresses_are_tried_in_turn() {
    let port = line_server(None).await;
    let fixture = Setup {
        names: vec![("db.internal", &["127.0.0.2", "127.0.0.1"])],
        ..Setup::tcp(&["db.internal:*"])
    }
    .make();
    // Nobody listens on 127.0.0.2.
    let mut connection = fixture
        .reach
        .connect("DB.internal.", port, None, 0, LONG)
        .await
        .expect("open");
    connection.send(b"x\n", LONG).await.expect("sent");
    assert_eq!(connection.receive(9, 0, LONG).await, Ok(b"+x\n".to_vec()));
    assert_eq!(*fixture.asked.lock().expect("lock"), ["db.internal"]);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let port = closed_port().await;
    let fixture = Setup::tcp(&["127.0.0.1:*"]).make();
    let refused = connect(&fixture, port, None).await.err().expect("closed");
    assert!(is_unavailable(&refused), "{refused:?}");
    assert!(
        refused
            .to_string()
            .starts_with(&format!("127.0.0.1:{port}: ")),
        "{refused}"
    );
}

#[tokio::test]
async fn tls_from_the_start_and_after_a_word() {
    let own = SelfSigned::until(2100);
    let port = line_server(Some(&own)).await;
    let mut setup = Setup::tcp(&["127.0.0.1:*"]);
    setup.settings.extra_roots = vec![own.certificate.clone()];
    let trusting = setup.make();
    let mut connection = connect(&trusting, port, None).await.expect("open");
    connection.send(b"STARTTLS\n", LONG).await.expect("sent");
    assert_eq!(connection.receive(9, 0, LONG).await, Ok(b"+go\n".to_vec()));
    connection
        .start_tls(&tls(None, true), LONG)
        .await
        .expect("TLS");
    assert!(connection.certificate_seconds_left().expect("TLS") > 0);
    connection.send(b"in private\n", LONG).await.expect("sent");
    assert_eq!(
        connection.receive(99, 0, LONG).await,
        Ok(b"tls+in private\n".to_vec())
    );
    assert!(matches!(
        connection.start_tls(&tls(None, true), LONG).await,
        Err(CallError::Config(_))
    ));

    // Somebody else's name is refused, and what is left is no connection any more.
    let mut connection = connect(&trusting, port, None).await.expect("open");
    connection.send(b"STARTTLS\n", LONG).await.expect("sent");
    connection.receive(9, 0, LONG).await.expect("an answer");
    let refused = connection
        .start_tls(&tls(Some("other.example"), true), LONG)
        .await
        .expect_err("wrong name");
    assert!(
        refused
            .to_string()
            .contains("not valid for name \"other.example\""),
        "{refused}"
    );
    let broken = connection
        .send(b"in the clear\n", LONG)
        .await
        .expect_err("broken");
    assert!(
        broken.to_string().ends_with("the connection is broken"),
        "{broken}"
    );

    let (listener, port) = listen().await;
    let acceptor = own.acceptor.clone();
    serve(listener, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_until(&mut stream, "never").await;
            }
        }
    });
    let connection = connect(&trusting, port, Some(&tls(Some("localhost"), true)))
        .await
        .expect("TLS");
    assert!(connection.certificate_seconds_left().expect("TLS") > 0);

    let mut strict = Setup::tcp(&["127.0.0.1:*"]);
    // Trusts somebody, also where the system has no roots.
    strict.settings.extra_roots = vec![SelfSigned::until(2100).certificate];
    let strict = strict.make();
    let refused = connect(&strict, port, Some(&tls(None, true)))
        .await
        .err()
        .expect("self-signed");
    assert!(
        is_unavailable(&refused) && refused.to_string().contains("invalid peer certificate"),
        "{refused:?}"
    );
    let mut setup = Setup::tcp(&["127.0.0.1:*"]);
    setup.grants.insecure = true;
    let blind = setup.make();
    assert!(connect(&blind, port, Some(&tls(None, true))).await.is_err());
    let connection = connect(&blind, port, Some(&tls(None, false)))
        .await
        .expect("accepted");
    assert!(connection.certificate_seconds_left().expect("TLS") > 0);
}

#[tokio::test]
async fn a_handshake_that_stalls_ends() {
    let (listener, port) = listen().await;
    serve(listener, |mut stream| async move {
        read_until(&mut stream, "never").await;
    });
    let mut setup = Setup::tcp(&["127.0.0.1:*"]);
    setup.settings.extra_roots = vec![SelfSigned::until(2100).certificate];
    let fixture = setup.make();
    let late = fixture
        .reach
        .connect("127.0.0.1", port, Some(&tls(None, true)), 100, LONG)
        .await
        .err()
        .expect("stalled");
    assert_eq!(
        late.to_string(),
        format!("127.0.0.1:{port}: no connection within 100ms")
    );
}

#[tokio::test]
async fn unix_sockets_and_filled_sends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let line = read_until(&mut stream, "\n").await;
            let _ = stream.write_all(line.as_bytes()).await;
        }
    });
    let path = path.to_str().expect("text");
    let line = format!("unix:{path}");
    let fixture = Setup::tcp(&[&line, "127.0.0.1:*"])
        .bind("here", &line, "s3cret")
        .bind("there", "127.0.0.1:5432", "other")
        .make();
    let mut connection = fixture
        .reach
        .connect_unix(path, 0, LONG)
        .await
        .expect("open");
    let refused = connection
        .send_filled(b"AUTH {{secret:there}}\n", LONG)
        .await
        .expect_err("bound elsewhere");
    assert!(
        matches!(&refused, CallError::Denied(t) if t.contains("bound to 127.0.0.1:5432")),
        "{refused:?}"
    );
    assert_eq!(
        connection
            .send_filled(b"AUTH {{secret:here}}\n", LONG)
            .await,
        Ok(12)
    );
    assert_eq!(
        connection.receive(99, 0, LONG).await,
        Ok(b"AUTH s3cret\n".to_vec())
    );

    let port = line_server(None).await;
    let mut connection = connect(&fixture, port, None).await.expect("open");
    assert!(
        connection
            .send_filled(b"{{secret:there}}\n", LONG)
            .await
            .is_err()
    );
    connection
        .send(b"{{secret:there}}\n", LONG)
        .await
        .expect("sent as it stands");
    assert_eq!(
        connection.receive(99, 0, LONG).await,
        Ok(b"+{{secret:there}}\n".to_vec())
    );
}

#[tokio::test]
async fn connections_are_counted_until_they_close() {
    let port = line_server(None).await;
    let fixture = Setup::tcp(&["127.0.0.1:*"]).make();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(connect(&fixture, port, None).await.expect("open"));
    }
    assert!(
        connect(&fixture, port, None)
            .await
            .is_err_and(|e| is_unavailable(&e))
    );
    open.pop();
    assert!(connect(&fixture, port, None).await.is_ok());
}
