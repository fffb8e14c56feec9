//! The border to guests: what the host functions count, refuse and mask.

use super::*;
use crate::sandbox::bindings::wit;
use crate::sandbox::bindings::wit::types::Error;
use crate::sandbox::host::{CallSettings, Host, HostConfig, HostServices, HostState, Using};
use crate::sandbox::types::{Kind, Limits, Use};
use crate::sandbox::{LogLine, LogSink, MemoryState, NoEvents};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use wit::log::Host as _;
use wit::secrets::Host as _;
use wit::tcp::{Host as _, HostConnection as _};

/// Keeps lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl LogSink for Lines {
    fn line(&self, line: LogLine<'_>) {
        let text = format!("{} {:?}", line.message, line.fields);
        self.0.lock().expect("lock").push(text);
    }
}

impl Lines {
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("lock").clone()
    }
}

fn host(secrets: &[(&str, &std::path::Path)]) -> (Arc<Host>, Lines) {
    let lines = Lines::default();
    let host = Host::new(HostServices {
        state: Arc::new(MemoryState::default()),
        events: Arc::new(NoEvents),
        log: Arc::new(lines.clone()),
        config: config(secrets),
        system: crate::sandbox::host::system::SystemSettings::default(),
    });
    (Arc::new(host), lines)
}

fn config(secrets: &[(&str, &std::path::Path)]) -> HostConfig {
    let source = |(name, path): &(&str, &std::path::Path)| {
        ((*name).to_owned(), SecretSource::File((*path).to_owned()))
    };
    HostConfig {
        secrets: secrets.iter().map(source).collect(),
        ..HostConfig::default()
    }
}

fn state(host: &Arc<Host>, grants: Grants, dry_run: bool) -> HostState {
    let settings = Use {
        id: "restart".into(),
        config: "{}".into(),
        grants: Arc::new(grants),
        limits: Limits::of(Kind::Action),
    };
    let using = Using::new(host, "action-http".into(), Kind::Action, settings).expect("grants");
    let call = CallSettings {
        dry_run,
        ..CallSettings::default()
    };
    HostState::new(Arc::clone(host), Arc::new(using), &call)
}

fn request(method: &str, url: String) -> wit::http::Request {
    wit::http::Request {
        method: method.to_owned(),
        url,
        headers: Vec::new(),
        body: Vec::new(),
        fill_body: false,
        timeout_ms: 0,
        extra: Vec::new(),
    }
}

fn open_http() -> Grants {
    Grants {
        http: own(&["http://127.0.0.1:*"]),
        tcp: own(&["127.0.0.1:*"]),
        ..Grants::default()
    }
}

/// `send` of the interface `http`; connections have one, too.
async fn http(
    state: &mut HostState,
    request: wit::http::Request,
) -> wasmtime::Result<Result<wit::http::Response, Error>> {
    wit::http::Host::send(state, request).await
}

async fn web_server() -> u16 {
    let (listener, port) = listen().await;
    serve(listener, |mut stream| async move {
        while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
            stream.write_all(answer).await.expect("sent");
        }
    });
    port
}

#[tokio::test]
async fn requests_are_counted_and_refusals_told_once() {
    let port = web_server().await;
    let (host, lines) = host(&[]);
    let mut state = state(&host, open_http(), false);
    let answer = http(
        &mut state,
        request("POST", format!("http://127.0.0.1:{port}/")),
    )
    .await
    .expect("no trap");
    let answer = answer.expect("an answer");
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"hi".as_slice())
    );
    assert!(answer.elapsed_us > 0);
    assert_eq!(
        (
            state.cost.requests,
            state.cost.host_calls,
            state.cost.refusals
        ),
        (1, 1, 0)
    );
    assert!(state.cost.bytes_out > 20 && state.cost.host > Duration::ZERO);

    for _ in 0..3 {
        let refused = http(
            &mut state,
            request("GET", "https://hooks.slack.com/".to_owned()),
        )
        .await
        .expect("no trap");
        let Err(Error::Denied(text)) = refused else {
            panic!("not denied")
        };
        assert!(
            text.ends_with(
                "add `http = [\"https://hooks.slack.com:443\"]` to the grant of \"restart\""
            ),
            "{text}"
        );
    }
    assert_eq!(state.cost.refusals, 3);
    assert_eq!(lines.all().len(), 1);
}

#[tokio::test]
async fn a_dry_run_looks_but_does_not_touch() {
    let port = web_server().await;
    let (host, _) = host(&[]);
    let mut state = state(&host, open_http(), true);
    let url = format!("http://127.0.0.1:{port}/");
    assert!(
        http(&mut state, request("GET", url.clone()))
            .await
            .expect("no trap")
            .is_ok()
    );
    for method in ["POST", "DELETE", "post", "get"] {
        let refused = http(&mut state, request(method, url.clone()))
            .await
            .expect("no trap");
        assert!(
            matches!(refused, Err(Error::Denied(t)) if t.contains("is not done in a dry run")),
            "{method}"
        );
    }
    let refused = state
        .connect("127.0.0.1".to_owned(), port, None, 0)
        .await
        .expect("no trap");
    assert!(matches!(refused, Err(Error::Denied(_))));
}

#[tokio::test]
async fn the_guest_hears_of_a_late_answer_before_its_own_end() {
    let (_listener, port) = listen().await;
    let (host, _) = host(&[]);
    let mut state = state(&host, open_http(), false);
    // Makes the client, which takes its time.
    let closed = format!("http://127.0.0.1:{}/", closed_port().await);
    let refused = http(&mut state, request("GET", closed)).await;
    assert!(refused.expect("no trap").is_err());
    state.deadline = Instant::now() + Duration::from_secs(1);
    let late = http(
        &mut state,
        request("GET", format!("http://127.0.0.1:{port}/")),
    )
    .await
    .expect("no trap");
    let Err(Error::Unavailable(why)) = late else {
        panic!("not unavailable but {late:?}")
    };
    assert!(
        why.message.contains("no whole answer within "),
        "{}",
        why.message
    );
    // It was told what is left of the call less the time for its last words, a tenth of a short call.
    assert!(
        state.left() < Duration::from_millis(100),
        "{:?}",
        state.left()
    );
    assert!(
        Instant::now() < state.deadline,
        "the guest itself is not late"
    );
}

#[tokio::test]
async fn a_connection_is_closed_when_the_guest_lets_go_and_when_the_call_ends() {
    let (listener, port) = listen().await;
    let (host, _) = host(&[]);
    for let_go in [true, false] {
        let mut state = state(&host, open_http(), false);
        let opened = state
            .connect("127.0.0.1".to_owned(), port, None, 0)
            .await
            .expect("no trap");
        let connection = opened.expect("open");
        let (mut peer, _) = listener.accept().await.expect("a connection");
        let again = || wasmtime::component::Resource::new_borrow(connection.rep());
        let sent = state
            .send(again(), b"ping".to_vec())
            .await
            .expect("no trap");
        assert!(sent.is_ok());
        peer.write_all(b"pong").await.expect("sent");
        let got = state.receive(again(), 10, 0).await.expect("no trap");
        assert!(matches!(got, Ok(bytes) if bytes == b"pong"));
        assert!(state.elapsed_us(again()).await.expect("no trap") > 0);
        assert_eq!(
            state
                .certificate_seconds_left(again())
                .await
                .expect("no trap"),
            None
        );
        assert_eq!((state.cost.requests, state.cost.bytes_out), (1, 4));
        if let_go {
            state.drop(connection).await.expect("no trap");
            assert!(read_until(&mut peer, "never").await.starts_with("ping"));
        } else {
            drop(state);
            assert!(read_until(&mut peer, "never").await.starts_with("ping"));
        }
    }
}

#[tokio::test]
async fn a_revealed_secret_does_not_get_into_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db");
    std::fs::write(&path, "sup3rs3cret\n").expect("written");
    let (host, lines) = host(&[]);
    let to = "127.0.0.1:5432".to_owned();
    let mut grants = open_http();
    grants
        .secrets
        .insert("db".to_owned(), SecretGrant { to, reveal: true });
    let mut state = state(&host, grants, false);
    let unknown = state.reveal("db".to_owned()).await.expect("no trap");
    assert!(matches!(unknown, Err(Error::Config(t)) if t.contains("add `db = ")));
    // What a new configuration defines is there for a use that runs already.
    host.update(config(&[("db", &path)]));
    let value = state
        .reveal("db".to_owned())
        .await
        .expect("no trap")
        .expect("revealed");
    assert_eq!(value, "sup3rs3cret");
    let fields = vec![("password".to_owned(), format!("<{value}>"))];
    state
        .emit(wit::log::Level::Info, format!("login with {value}"), fields)
        .await
        .expect("no trap");
    assert_eq!(lines.all(), ["login with *** [(\"password\", \"<***>\")]"]);
    let refused = state.reveal("other".to_owned()).await.expect("no trap");
    assert!(matches!(refused, Err(Error::Denied(_))));
    let refused = state.reveal("a\nb".to_owned()).await.expect("no trap");
    assert!(matches!(refused, Err(Error::Config(_))));
}

#[test]
fn wrong_grants_are_told_together() {
    let (host, _) = host(&[]);
    let grants = Grants {
        http: own(&["hooks.slack.com"]),
        tcp: own(&["/run/redis.sock"]),
        secrets: [(
            "s".to_owned(),
            SecretGrant {
                to: "https://a".to_owned(),
                reveal: false,
            },
        )]
        .into(),
        ..Grants::default()
    };
    let settings = Use {
        id: "x".into(),
        config: "{}".into(),
        grants: Arc::new(grants),
        limits: Limits::of(Kind::Probe),
    };
    let wrong = Using::new(&host, "p".into(), Kind::Probe, settings)
        .err()
        .expect("wrong");
    let keys: Vec<&str> = wrong.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["http", "tcp", "secrets.s"]);
}
