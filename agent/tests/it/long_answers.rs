//! Services whose answers never end: the status says what became of a message, and no page is lost over the rest.

use crate::support::command;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Answers every request with the status that its path names, and a body without an end.
fn endless() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

/// Ends when the other side does.
fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let status = first.split(['/', ' ']).nth(2).unwrap();
    let mut written = stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes());
    while written.is_ok() {
        written = stream.write_all(&[b'x'; 16 << 10]);
    }
}

/// What one call of a plugin came to.
fn said(plugin: &str, url: &str, config: &str, words: &[&str]) -> String {
    let origin = url.rsplit_once('/').unwrap().0;
    let mut command = command();
    command.args(["plugin", "run", plugin, "--grant"]);
    command.arg(format!("http={origin}"));
    command.args(["--config", &format!(r#"{{"url": "{url}"{config}}}"#)]);
    let output = command.args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_status_counts_however_long_the_answer_is() {
    let at = format!("http://127.0.0.1:{}", endless());
    let notifiers = [
        ("notifier-webhook", ""),
        ("notifier-slack", ""),
        ("notifier-discord", ""),
        ("notifier-pagerduty", r#", "routing_key": "k""#),
    ];
    for (notifier, config) in notifiers {
        for (status, want) in [
            (200, "accepted"),
            (503, "failed (unavailable): answered 503"),
            (400, "failed (rejected): answered 400"),
        ] {
            let said = said(notifier, &format!("{at}/{status}"), config, &[]);
            assert!(said.contains(want), "{notifier}, {status}: {said}");
        }
    }
    let said = said("action-http", &format!("{at}/200"), "", &["--act"]);
    assert!(said.contains("answered 200"), "{said}");
}
