//! The server of a case, on loopback: it answers as the case says, and keeps what came.

use crate::error::Failure;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Bytes kept of a request's body: what the host lets a plugin send.
const BODY_BYTES_MAX: usize = 4 << 20;

/// An answer, to the next request of its method and path. The last one stays.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// `GET /path?query`.
    pub(super) request: String,
    #[serde(default = "fine")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    /// A file of the case in the place of `body`.
    pub(super) body_file: Option<String>,
    /// A document in the place of `body`.
    json: Option<serde_json::Value>,
}

fn fine() -> u16 {
    200
}

impl Answer {
    /// Takes the body from where the case says it is.
    pub(super) fn settle(&mut self, file: Option<String>) {
        if let Some(json) = &self.json {
            self.body = json.to_string();
            let kind = "application/json".to_owned();
            self.headers
                .entry("content-type".to_owned())
                .or_insert(kind);
        }
        if let Some(text) = file {
            self.body = text;
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Came {
    /// `POST /path?query`.
    pub(super) request: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
struct Script {
    answers: BTreeMap<String, VecDeque<Answer>>,
    came: Vec<Came>,
}

/// A server; it ends with this value.
#[derive(Debug)]
pub(super) struct Server {
    script: Arc<Mutex<Script>>,
    _serving: JoinSet<()>,
}

impl Server {
    /// Serves on a listener that is bound already.
    pub(super) fn start(listener: TcpListener, answers: &[Answer]) -> Self {
        let mut by_request: BTreeMap<String, VecDeque<Answer>> = BTreeMap::new();
        for answer in answers {
            let of = by_request.entry(answer.request.clone()).or_default();
            of.push_back(answer.clone());
        }
        let script = Arc::new(Mutex::new(Script {
            answers: by_request,
            came: Vec::new(),
        }));
        let app = Router::new().fallback(answer).with_state(script.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // Never ends by itself.
            let _ = axum::serve(listener, app).await;
        });
        Server {
            script,
            _serving: serving,
        }
    }

    /// Everything that came so far.
    pub(super) fn came(&self) -> Vec<Came> {
        lock(&self.script).came.clone()
    }
}

/// A free port of loopback.
pub(super) async fn bind() -> Result<(TcpListener, String), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    Ok((listener, address))
}

fn lock(script: &Mutex<Script>) -> std::sync::MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response<Body> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let name = format!("{} {path}", request.method());
    let headers = request.headers().clone();
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let mut script = lock(&script);
    script.came.push(Came {
        request: name.clone(),
        headers,
        body: body.unwrap_or_default().to_vec(),
    });
    let next = script.answers.get_mut(&name).and_then(|answers| {
        if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        }
    });
    let unscripted = || {
        let mut response =
            Response::new(Body::from(format!("the case has no [[http]] for {name:?}")));
        *response.status_mut() = axum::http::StatusCode::NOT_FOUND;
        response
    };
    let Some(answer) = next else {
        return unscripted();
    };
    let mut response = Response::builder().status(answer.status);
    for (key, value) in &answer.headers {
        response = response.header(key, value);
    }
    // A status or header that HTTP does not know is a mistake of the case, and shows as an answer it did not write.
    response
        .body(Body::from(answer.body))
        .unwrap_or_else(|_| unscripted())
}
