//! What each door lets through.

use super::*;

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
            seen.push(match command(request.what) {
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
