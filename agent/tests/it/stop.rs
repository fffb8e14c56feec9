//! Signals at awkward moments: while the agent starts, and while somebody it talks to hangs.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};

/// A service that takes requests and never answers.
struct Hanging(TcpListener);

impl Hanging {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Hanging(listener)
    }

    /// The configuration that was written for `server`, with this one in its place.
    fn instead_of(&self, server: &Server, config: &str) -> String {
        let address = self.0.local_addr().unwrap().to_string();
        config.replace(&server.address().to_string(), &address)
    }

    /// Waits for a request: its body, and the connection to hold.
    fn taken(&self) -> (serde_json::Value, TcpStream) {
        let (stream, _) = wait_for("a request", || self.0.accept().ok());
        stream.set_nonblocking(false).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        (serde_json::from_slice(&body).unwrap_or_default(), stream)
    }
}

fn log_of(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path("log")).unwrap()
}

fn signal(agent: &Agent, signal: Signal) {
    let pid = Pid::from_raw(agent.pid().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn a_delivery_that_hangs_holds_up_no_stop_and_is_sent_again() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let hanging = Hanging::start();
    let before = [queue_probe(&source), QUEUE_RULE.to_owned()].concat();
    let folder = Folder::new(&[before.clone(), hanging.instead_of(&sink, &hook(&sink))].concat());
    let agent = Agent::start(&folder);
    let (first, _held) = hanging.taken();
    assert_eq!(agent.terminate(), Some(0));
    let log = log_of(&folder);
    assert!(log.contains("deliveries were under way"), "{log}");
    assert!(log.contains("deliveries=1"), "{log}");

    folder.write_config(&[before, hook(&sink)].concat());
    let agent = Agent::start(&folder);
    let again = wait_for("the page", || sink.received().first().cloned());
    assert_eq!(again.json()["id"], first["id"]);
    assert_eq!(again.json()["reason"], "fire");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn an_action_that_hangs_holds_up_no_stop_and_is_lost() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let target = Server::start(Answer::json("{}"));
    let hanging = Hanging::start();
    let procedure = crate::recovery::procedure(&target, "auto").replace("\"5s\"", "\"30s\"");
    let procedure = hanging.instead_of(&target, &procedure);
    let folder = Folder::new(&[queue_probe(&source), QUEUE_RULE.to_owned(), procedure].concat());
    let agent = Agent::start(&folder);
    let _held = hanging.taken();
    assert_eq!(agent.terminate(), Some(0));
    let log = log_of(&folder);
    assert!(log.contains("recovery was under way"), "{log}");

    let agent = Agent::start(&folder);
    wait_for("the lost attempt is on record", || {
        let events = agent.get("/events?since=0&type=action")?;
        let mut events = events["events"].as_array()?.iter();
        events.any(|event| event["step"] == "lost").then_some(())
    });
    assert_eq!(agent.terminate(), Some(0));
}

/// Starts, and returns while its plugins are compiled for the first time.
fn starting(folder: &Folder) -> Agent {
    let agent = Agent::spawn(folder);
    wait_for("the start", || {
        agent.log().contains("watchfire starts").then_some(())
    });
    agent
}

#[test]
fn a_hangup_during_the_start_is_a_look_at_all_files_after_it() {
    let folder = Folder::with_host_pack("");
    let agent = starting(&folder);
    signal(&agent, Signal::HUP);
    wait_for("the look at all files", || {
        agent.log().contains("looked at all files").then_some(())
    });
    agent.wait_ready();
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn the_end_during_the_start_is_an_orderly_one() {
    for sent in [Signal::TERM, Signal::INT] {
        let folder = Folder::with_host_pack("");
        let agent = starting(&folder);
        signal(&agent, sent);
        assert_eq!(agent.ended(), Some(0), "{sent:?}");
        let log = log_of(&folder);
        assert!(log.contains("watchfire stops"), "{log}");
    }
}
