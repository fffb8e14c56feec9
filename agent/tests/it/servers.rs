//! Real servers that other people wrote, and a mail sink that speaks SMTP.

use crate::support::{Agent, Answer, Folder, Server, wait_for};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Debian's redis-server on a free port; ends with its value.
struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// None where it is not installed.
    fn start() -> Option<Redis> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = tempfile::tempdir().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test starts a real server")]
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .args(["--requirepass", "wonderland"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Redis {
            child,
            port,
            _folder: folder,
        };
        wait_for("redis answers", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_redis_is_watched_through_tcp() {
    let Some(redis) = Redis::start() else {
        println!("skipped: redis-server is not installed");
        return;
    };
    let sink = Server::start(Answer::json("{}"));
    let config = format!(
        r#"
[secrets]
redis = {{ file = "redis-password" }}

[[probe]]
id     = "cache"
plugin = "probe-redis"
every  = "200ms"
timeout = "150ms"
grant  = {{ tcp = ["127.0.0.1:{port}"], secrets = {{ redis = "127.0.0.1:{port}" }} }}
config = {{ address = "127.0.0.1:{port}", password = "{{{{secret:redis}}}}" }}

[[rule]]
id     = "redis-down"
metric = "redis_up"
keep   = "0s"
config = {{ below = {{ critical = 1 }} }}

[[notifier]]
id     = "hook"
plugin = "notifier-webhook"
grant  = {{ http = ["http://{sink}"] }}
config = {{ url = "http://{sink}/hook" }}

[[route]]
match      = {{ rule = ["redis-down"] }}
notify     = ["hook"]
group_by   = []
group_wait = "0s"
"#,
        port = redis.port,
        sink = sink.address()
    );
    let folder = Folder::new("");
    folder.write("redis-password", "wonderland\n");
    folder.write_config(&config);
    let agent = Agent::start(&folder);
    let metrics = wait_for("figures of redis", || {
        agent
            .text("/metrics")
            .filter(|text| text.contains("\nredis_memory_used_bytes"))
    });
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("redis_up") && line.ends_with(" 1")),
        "{metrics}"
    );

    drop(redis);
    let page = wait_for("the page that redis is down", || {
        sink.received().first().cloned()
    })
    .json();
    assert_eq!(page["alerts"][0]["rule"], "redis-down");
    assert!(
        !agent.log().contains("wonderland"),
        "the secret is in no log"
    );
}

/// Takes mail as an SMTP server does; keeps the messages.
fn smtp_sink() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mails = Arc::new(Mutex::new(Vec::new()));
    std::thread::spawn({
        let mails = mails.clone();
        move || {
            for stream in listener.incoming().flatten() {
                let mails = mails.clone();
                // A client that goes away ends its own session.
                std::thread::spawn(move || smtp_session(stream, &mails).ok());
            }
        }
    });
    (port, mails)
}

fn smtp_session(stream: TcpStream, mails: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(b"220 sink ESMTP\r\n")?;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer: &[u8] = match line
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase()
            .as_str()
        {
            "EHLO" => b"250-sink\r\n250 8BITMIME\r\n",
            "DATA" => {
                reader.get_mut().write_all(b"354 go ahead\r\n")?;
                let mut mail = String::new();
                loop {
                    line.clear();
                    reader.read_line(&mut line)?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail.push_str(&line);
                }
                mails.lock().unwrap().push(mail);
                b"250 queued\r\n"
            }
            "QUIT" => {
                return reader.get_mut().write_all(b"221 bye\r\n");
            }
            _ => b"250 ok\r\n",
        };
        reader.get_mut().write_all(answer)?;
    }
}

#[test]
fn mail_is_really_sent() {
    let (port, mails) = smtp_sink();
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let config = [
        crate::configs::queue_probe(&source),
        crate::configs::QUEUE_RULE.to_owned(),
        format!(
            r#"
[mail]
host = "127.0.0.1"
port = {port}
tls  = "none"
from = "watchfire@test-host.example"

[[notifier]]
id     = "post"
plugin = "notifier-email"
grant  = {{ mail = true }}
config = {{ to = ["oncall@example.org"] }}

[[route]]
notify     = ["post"]
group_by   = []
group_wait = "0s"
"#
        ),
    ];
    let folder = Folder::new(&config.concat());
    let _agent = Agent::start(&folder);
    let fire = wait_for("the mail", || mails.lock().unwrap().first().cloned());
    assert!(fire.contains("To: oncall@example.org"), "{fire}");
    assert!(fire.contains("queue is 250 long"), "{fire}");
    source.always(Answer::json(r#"{"queue": 7}"#));
    let resolve = wait_for("the mail that it is over", || {
        mails.lock().unwrap().get(1).cloned()
    });
    assert!(
        resolve.contains("In-Reply-To:"),
        "the second mail joins the thread: {resolve}"
    );
}
