//! Asks the running agent over its unix socket.

use super::Global;
use crate::config::{self, Environment};
use crate::error::{Failure, chain};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// From the connection to the whole answer: more than the agent allows itself for any.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of an answer. A page of a thousand events has about one MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The way to one agent.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    /// The agent that these options mean: that of `--socket`, else the one that runs with this configuration.
    pub(super) fn find(global: &Global) -> Result<Self, Failure> {
        if let Some(socket) = &global.socket {
            let socket = socket.clone();
            return Ok(Client { socket });
        }
        let mut environment = Environment::of_process();
        let data_dir = global.data_dir.as_ref();
        environment.data_dir_override = data_dir.map(|folder| environment.cwd.join(folder));
        let path = global.config.as_deref();
        let config = match config::load(path, &environment) {
            Ok(loaded) => loaded.config,
            // The agent itself goes on with its last good configuration, in the same data folder.
            Err(rejected) => {
                if environment.data_dir_override.is_none() {
                    let data_dir = config::data_dir_of_broken(path, &environment);
                    environment.data_dir_override = Some(data_dir);
                }
                let built_in = config::from_texts(&[], &environment);
                let unusable = |_| {
                    Failure::config(format!("{rejected}; name the agent's socket with --socket"))
                };
                built_in.map_err(unusable)?.config
            }
        };
        Ok(Client {
            socket: config.api.socket,
        })
    }

    /// Does `work` on a runtime of its own.
    pub(super) fn block_on<T>(
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(work)
    }

    /// Asks for a path; any status but those of health is a failure.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None).await
    }

    /// Changes something; `body` is JSON.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Ends something; `body` is JSON.
    pub(super) async fn delete(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::DELETE, path, Some(body)).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let (status, answer) = tokio::time::timeout(TIMEOUT, self.exchange(method, path, body))
            .await
            .map_err(|_| {
                Failure::failed(format!(
                    "the agent did not answer within 15 s on {}",
                    self.socket.display()
                ))
            })??;
        // Health says 503 for unhealthy, and its document is the answer.
        if status.is_success() || answer.get("error").is_none() {
            Ok(answer)
        } else {
            let said = answer["error"].as_str().unwrap_or("no reason");
            Err(Failure::failed(format!(
                "the agent refused ({}): {said}",
                status.as_u16()
            )))
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Failure> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| no_agent(&self.socket, &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))?;
        let ask = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await?;
            let answer = serde_json::from_slice(&body)?;
            Ok((head.status, answer))
        };
        let mut connection = std::pin::pin!(connection);
        let mut ask = std::pin::pin!(ask);
        tokio::select! {
            answer = &mut ask => return answer,
            // The connection may end before its answer was looked at.
            _ = &mut connection => {}
        }
        ask.await
    }
}

fn no_agent(socket: &Path, error: &std::io::Error) -> Failure {
    let socket = socket.display();
    Failure::failed(match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no agent answers on {socket}: start one with `watchfire run`, or name its socket with --socket, its configuration with --config"
        ),
        ErrorKind::PermissionDenied => {
            format!("the socket {socket} belongs to another user: run this as the agent's user")
        }
        _ => format!("cannot reach the agent on {socket}: {}", chain(error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn client(socket: &Path) -> Client {
        Client::find(&Global {
            socket: Some(socket.to_owned()),
            ..Global::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn without_an_agent_the_message_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = client(&folder.path().join("no.sock")).get("/health").await;
        let text = error.unwrap_err().text;
        assert!(
            text.contains("no agent answers") && text.contains("watchfire run"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn every_command_finds_what_it_reads_in_the_real_interface() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let listener = crate::api::bind_unix(&socket).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (api, _commands) = crate::api::tests::fixture();
        let agent = tokio::spawn(crate::api::serve(api, listener, async {
            drop(stopped.await);
        }));
        let client = client(&socket);
        let detailed = client.get("/health/detailed").await.unwrap();
        assert_eq!(detailed["status"], "healthy");
        for part in detailed["components"].as_array().unwrap() {
            for key in ["name", "kind", "status"] {
                assert!(part[key].is_string(), "{key} of {part}");
            }
        }
        let pipeline = client.get("/health/events").await.unwrap();
        for (group, key) in [
            ("handlers", "probes"),
            ("handlers", "rules"),
            ("handlers", "notifiers"),
            ("handlers", "recoveries"),
            ("rounds", "missed"),
            ("queue", "outbox_pending"),
        ] {
            assert!(pipeline[group][key].is_u64(), "{group}.{key} of {pipeline}");
        }
        assert!(pipeline["rounds"]["last"].is_string());
        assert!(client.get("/api/v1/alerts").await.unwrap()["alerts"].is_array());
        assert!(client.get("/api/v1/plugins").await.unwrap().is_array());
        let page = client
            .get("/events?limit=5&since=3&type=reload")
            .await
            .unwrap();
        assert_eq!(
            (&page["next_since"], &page["more"]),
            (&50.into(), &true.into())
        );
        let refused = client.get("/events?type=x").await.unwrap_err();
        assert_eq!(refused.text, "the agent refused (400): no such type");
        drop(stop);
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn documents_of_health_are_answers_and_refusals_are_failures() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let agent = tokio::spawn(async move {
            for body in [r#"{"status":"unhealthy"}"#, r#"{"error":"no such path"}"#] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 512];
                let read = stream.read(&mut head).await.unwrap();
                assert!(head[..read].starts_with(b"GET /x HTTP/1.1\r\n"));
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 503 X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let client = client(&socket);
        assert_eq!(client.get("/x").await.unwrap()["status"], "unhealthy");
        let refused = client.get("/x").await.unwrap_err();
        assert!(refused.text.contains("no such path"), "{}", refused.text);
        agent.await.unwrap();
    }
}
