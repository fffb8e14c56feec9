//! A small HTTP/1.1 server for tests: answers as told, remembers what came. One request a connection.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What to answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Further header lines, each with `\r\n`.
    pub headers: String,
    /// Body.
    pub body: String,
}

impl Answer {
    /// 200 with a JSON body.
    pub fn json(body: impl Into<String>) -> Self {
        Answer {
            status: 200,
            headers: "content-type: application/json\r\n".to_owned(),
            body: body.into(),
        }
    }

    /// A bare status.
    pub fn status(status: u16) -> Self {
        Answer {
            status,
            headers: String::new(),
            body: String::new(),
        }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its head was complete.
    pub at: Instant,
    /// `POST /path`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: String,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
struct Shared {
    /// Answers still to give, in order; then `always`.
    next: Mutex<VecDeque<Answer>>,
    always: Mutex<Answer>,
    received: Mutex<Vec<Received>>,
    stop: AtomicBool,
}

/// The server. Ends with its value.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts on a free port.
    pub fn start(always: Answer) -> Self {
        Server::start_on("127.0.0.1:0".parse().unwrap(), always)
    }

    /// Starts on this address; used to come back after an outage.
    pub fn start_on(address: SocketAddr, always: Answer) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let shared = Arc::new(Shared {
            next: Mutex::default(),
            always: Mutex::new(always),
            received: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let address = listener.local_addr().unwrap();
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming() {
                    if shared.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = shared.clone();
                    std::thread::spawn(move || {
                        // A client that goes away ends its own connection.
                        let _ = serve(stream?, &shared);
                        std::io::Result::Ok(())
                    });
                }
            }
        });
        Server {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port/path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on, once the queued answers are given.
    pub fn always(&self, answer: Answer) {
        *self.shared.always.lock().unwrap() = answer;
    }

    /// Once each, in order.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.next.lock().unwrap().extend(answers);
    }

    /// Everything that came.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((key, value)) = header.trim_end().split_once(':') else {
                break;
            };
            headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let at = super::now();
        let length = headers
            .iter()
            .find(|(key, _)| key == "content-length")
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = line.split_whitespace();
        let line = format!(
            "{} {}",
            words.next().unwrap_or(""),
            words.next().unwrap_or("")
        );
        let body = String::from_utf8_lossy(&body).into_owned();
        shared.received.lock().unwrap().push(Received {
            at,
            line,
            headers,
            body,
        });
        let queued = shared.next.lock().unwrap().pop_front();
        let answer = queued.unwrap_or_else(|| shared.always.lock().unwrap().clone());
        let text = format!(
            "HTTP/1.1 {} X\r\n{}content-length: {}\r\n\r\n{}",
            answer.status,
            answer.headers,
            answer.body.len(),
            answer.body
        );
        reader.get_mut().write_all(text.as_bytes())?;
    }
}
