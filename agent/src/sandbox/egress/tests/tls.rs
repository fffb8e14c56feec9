//! Certificates.

use super::http::{answer_one, get, ok, send};
use super::*;

async fn tls_server(own: &SelfSigned) -> u16 {
    let (listener, port) = listen().await;
    let acceptor = own.acceptor.clone();
    serve(listener, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let seen = Mutex::new(Vec::new());
                while answer_one(&mut stream, &|_| ok("over tls"), &seen).await {}
            }
        }
    });
    port
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_needs_insecure() {
    let own = SelfSigned::until(2100);
    let port = tls_server(&own).await;
    // Trusts somebody, also where the system has no roots.
    let other = SelfSigned::until(2100);
    let setup = || {
        let mut setup = Setup::http(&["https://127.0.0.1:*"]);
        setup.settings.extra_roots = vec![other.certificate.clone()];
        setup
    };
    let url = format!("https://127.0.0.1:{port}/");
    let mut blind = get(&url);
    blind.extra.push(("verify".to_owned(), "false".to_owned()));

    let refused = send(&setup().make(), &get(&url))
        .await
        .expect_err("self-signed");
    assert!(
        is_unavailable(&refused) && refused.to_string().contains("invalid peer certificate"),
        "{refused:?}"
    );

    let refused = send(&setup().make(), &blind)
        .await
        .expect_err("insecure is not granted");
    assert!(
        matches!(&refused, CallError::Denied(t) if t.ends_with("add `insecure = true` to the grant of \"ops-slack\"")),
        "{refused:?}"
    );

    let mut granted = setup();
    granted.grants.insecure = true;
    let granted = granted.make();
    // The grant alone changes nothing: the plugin must ask, request by request, and no client is mixed up.
    assert!(send(&granted, &get(&url)).await.is_err());
    let response = send(&granted, &blind).await.expect("accepted");
    assert_eq!(response.body, b"over tls");
    assert!(response.certificate_seconds_left.expect("TLS") > 365 * 24 * 3600);
    assert!(send(&granted, &get(&url)).await.is_err());

    let mut trusting = setup();
    trusting.settings.extra_roots = vec![own.certificate.clone()];
    let response = send(&trusting.make(), &get(&url)).await.expect("trusted");
    assert!(response.certificate_seconds_left.expect("TLS") > 0);
}

#[tokio::test]
async fn a_certificate_that_ended_or_names_another_is_refused() {
    let ended = SelfSigned::until(2020);
    let port = tls_server(&ended).await;
    let mut setup = Setup::http(&["https://127.0.0.1:*"]);
    setup.settings.extra_roots = vec![ended.certificate.clone()];
    setup.grants.insecure = true;
    let fixture = setup.make();
    let mut request = get(format!("https://127.0.0.1:{port}/"));
    let refused = send(&fixture, &request).await.expect_err("ended");
    assert!(
        refused.to_string().contains("certificate expired"),
        "{refused}"
    );
    request
        .extra
        .push(("verify".to_owned(), "false".to_owned()));
    let response = send(&fixture, &request).await.expect("accepted");
    assert!(response.certificate_seconds_left.expect("TLS") < 0);

    let good = SelfSigned::until(2100);
    let port = tls_server(&good).await;
    let mut setup = Setup::http(&["https://other.example:*"]);
    setup.settings.extra_roots = vec![good.certificate.clone()];
    setup.names = vec![("other.example", &["127.0.0.1"])];
    let refused = send(
        &setup.make(),
        &get(format!("https://other.example:{port}/")),
    )
    .await
    .expect_err("wrong name");
    assert!(
        refused
            .to_string()
            .contains("certificate not valid for name \"other.example\""),
        "{refused}"
    );
}
