//! Mail, against a server that speaks SMTP.

use super::*;
use crate::sandbox::host::mail::Message;
use crate::sandbox::types::{MailServer, MailTls};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufStream};

/// How the server behaves.
#[derive(Clone)]
struct Post {
    tls: MailTls,
    /// Answer to RCPT TO.
    rcpt: &'static str,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    /// All that clients said.
    said: Arc<Mutex<String>>,
}

impl Post {
    fn new(tls: MailTls, rcpt: &'static str, own: Option<&SelfSigned>) -> Self {
        Post {
            tls,
            rcpt,
            acceptor: own.map(|own| own.acceptor.clone()),
            said: Arc::default(),
        }
    }

    async fn open(&self) -> u16 {
        let (listener, port) = listen().await;
        let post = self.clone();
        serve(listener, move |stream| {
            let post = post.clone();
            async move {
                let acceptor = post.acceptor.clone();
                match (post.tls, acceptor) {
                    (MailTls::Wrapped, Some(acceptor)) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            post.talk(BufStream::new(stream), true).await;
                        }
                    }
                    (_, acceptor) => {
                        let upgrade = post.talk(BufStream::new(stream), true).await;
                        if let (Some(stream), Some(acceptor)) = (upgrade, acceptor)
                            && let Ok(stream) = acceptor.accept(stream).await
                        {
                            post.talk(BufStream::new(stream), false).await;
                        }
                    }
                }
            }
        });
        port
    }

    /// One session; yields the stream where the client asks for TLS.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: BufStream<S>,
        greet: bool,
    ) -> Option<S> {
        if greet {
            say(&mut stream, "220 post.example ESMTP").await;
        }
        loop {
            let line = read_until(&mut stream, "\r\n").await;
            self.said.lock().expect("lock").push_str(&line);
            let word = line
                .split([' ', '\r'])
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase();
            match word.as_str() {
                "EHLO" if self.tls == MailTls::StartTls && greet => {
                    say(&mut stream, "250-post.example\r\n250 STARTTLS").await;
                }
                "EHLO" => say(&mut stream, "250-post.example\r\n250 AUTH PLAIN").await,
                "STARTTLS" => {
                    say(&mut stream, "220 go").await;
                    return Some(stream.into_inner());
                }
                "AUTH" => say(&mut stream, "235 welcome").await,
                "RCPT" => say(&mut stream, self.rcpt).await,
                "DATA" => {
                    say(&mut stream, "354 go").await;
                    let mail = read_until(&mut stream, "\r\n.\r\n").await;
                    self.said.lock().expect("lock").push_str(&mail);
                    say(&mut stream, "250 taken").await;
                }
                "MAIL" => say(&mut stream, "250 ok").await,
                "QUIT" => {
                    say(&mut stream, "221 bye").await;
                    return None;
                }
                _ => return None,
            }
        }
    }

    fn said(&self) -> String {
        self.said.lock().expect("lock").clone()
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), line: &str) {
    let _ = stream.write_all(format!("{line}\r\n").as_bytes()).await;
    let _ = stream.flush().await;
}

fn setup(port: u16, tls: MailTls) -> Setup {
    let mut setup = Setup::default();
    setup.grants.mail = true;
    setup.settings.mail = Some(MailServer {
        host: "127.0.0.1".to_owned(),
        port,
        tls,
        user: Some("watch".to_owned()),
        password: Some("{{secret:smtp}}".to_owned()),
        from: "watchfire <watch@example.org>".to_owned(),
    });
    // Defined, but not granted to the use: the login is the operator's.
    setup.secrets.push(("smtp", "m41l-pass".to_owned()));
    setup
}

fn message() -> Message {
    Message {
        to: own(&["On Call <oncall@example.org>", "second@example.org"]),
        reply_to: Some("team@example.org".to_owned()),
        subject: "CPU at 91 %\r\nBcc: evil@example.org".to_owned(),
        text: "plain words".to_owned(),
        html: Some("<b>bold words</b>".to_owned()),
        message_id: "abc.1@web-1".to_owned(),
        in_reply_to: Some("<abc.0@web-1>".to_owned()),
    }
}

#[tokio::test]
async fn a_mail_arrives_with_its_headers() {
    let post = Post::new(MailTls::None, "250 ok", None);
    let port = post.open().await;
    let fixture = setup(port, MailTls::None).make();
    let bytes = fixture.reach.mail(&message(), LONG).await.expect("taken");
    assert!(bytes > 400);
    let said = post.said();
    for want in [
        // base64 of "\0watch\0m41l-pass".
        "AUTH PLAIN AHdhdGNoAG00MWwtcGFzcw==\r\n",
        "MAIL FROM:<watch@example.org>",
        "RCPT TO:<oncall@example.org>",
        "RCPT TO:<second@example.org>",
        "Message-ID: <abc.1@web-1>\r\n",
        "In-Reply-To: <abc.0@web-1>\r\n",
        "References: <abc.0@web-1>\r\n",
        "Reply-To: team@example.org\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "From: watchfire <watch@example.org>\r\n",
        "plain words",
        "<b>bold words</b>",
        "multipart/alternative",
    ] {
        assert!(said.contains(want), "{want} is not in {said}");
    }
    assert!(
        !said.contains("\r\nBcc:") && !said.contains("RCPT TO:<evil"),
        "{said}"
    );
}

#[tokio::test]
async fn tls_is_required_and_checked() {
    for tls in [MailTls::StartTls, MailTls::Wrapped] {
        let own = SelfSigned::until(2100);
        let post = Post::new(tls, "250 ok", Some(&own));
        let port = post.open().await;
        let refused = setup(port, tls)
            .make()
            .reach
            .mail(&message(), LONG)
            .await
            .expect_err("self-signed");
        assert!(is_unavailable(&refused), "{refused:?}");
        assert!(
            refused
                .to_string()
                .starts_with(&format!("mail server 127.0.0.1:{port}: ")),
            "{refused}"
        );
        assert!(!post.said().contains("AUTH"), "{}", post.said());

        let mut trusting = setup(port, tls);
        trusting.settings.extra_roots = vec![own.certificate.clone()];
        trusting
            .make()
            .reach
            .mail(&message(), LONG)
            .await
            .expect("taken");
        assert!(post.said().contains("AUTH PLAIN") && post.said().contains("plain words"));
    }
    // A server, or somebody in between, that offers no STARTTLS gets neither login nor mail.
    let post = Post::new(MailTls::None, "250 ok", None);
    let port = post.open().await;
    let refused = setup(port, MailTls::StartTls)
        .make()
        .reach
        .mail(&message(), LONG)
        .await
        .expect_err("no STARTTLS");
    assert!(is_unavailable(&refused), "{refused:?}");
    assert!(
        !post.said().contains("AUTH") && !post.said().contains("MAIL"),
        "{}",
        post.said()
    );
}

#[tokio::test]
async fn what_the_server_says_decides_whether_to_try_again() {
    for (answer, again) in [
        ("550 no such user, m41l-pass", false),
        ("450 try later, m41l-pass", true),
    ] {
        let post = Post::new(MailTls::None, answer, None);
        let port = post.open().await;
        let failed = setup(port, MailTls::None)
            .make()
            .reach
            .mail(&message(), LONG)
            .await
            .expect_err(answer);
        assert_eq!(is_unavailable(&failed), again, "{failed:?}");
        assert_eq!(
            matches!(failed, CallError::Rejected(_)),
            !again,
            "{failed:?}"
        );
        assert!(
            failed.to_string().contains("***") && !failed.to_string().contains("m41l-pass"),
            "{failed}"
        );
    }
    let port = closed_port().await;
    let failed = setup(port, MailTls::None)
        .make()
        .reach
        .mail(&message(), LONG)
        .await
        .expect_err("closed");
    assert!(is_unavailable(&failed), "{failed:?}");
    let (_listener, silent) = listen().await;
    let late = setup(silent, MailTls::None)
        .make()
        .reach
        .mail(&message(), Duration::from_millis(100))
        .await;
    assert!(
        late.expect_err("silence")
            .to_string()
            .ends_with("not taken within 100ms")
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anything_is_sent() {
    let mut closed = setup(1, MailTls::None);
    closed.grants.mail = false;
    let text = closed
        .make()
        .reach
        .mail(&message(), LONG)
        .await
        .expect_err("not granted")
        .to_string();
    assert!(
        text.ends_with("add `mail = true` to the grant of \"ops-slack\""),
        "{text}"
    );

    let mut nowhere = setup(1, MailTls::None);
    nowhere.settings.mail = None;
    let text = nowhere
        .make()
        .reach
        .mail(&message(), LONG)
        .await
        .expect_err("no server")
        .to_string();
    assert!(text.contains("add [mail] with host"), "{text}");

    let mut remote = setup(1, MailTls::None);
    remote.settings.mail.as_mut().expect("a server").host = "mail.example.org".to_owned();
    let text = remote
        .make()
        .reach
        .mail(&message(), LONG)
        .await
        .expect_err("in the clear")
        .to_string();
    assert!(text.contains("write tls = \"starttls\""), "{text}");

    let fixture = setup(1, MailTls::None).make();
    for wrong in [
        Message {
            to: Vec::new(),
            ..message()
        },
        Message {
            to: own(&["a@example.org"; 51]),
            ..message()
        },
        Message {
            to: own(&["not an address"]),
            ..message()
        },
        Message {
            to: own(&["a@example.org\r\nBcc: evil@example.org"]),
            ..message()
        },
        Message {
            reply_to: Some("x y".to_owned()),
            ..message()
        },
        Message {
            message_id: "a@b\r\nBcc: evil@example.org".to_owned(),
            ..message()
        },
        Message {
            message_id: String::new(),
            ..message()
        },
        Message {
            in_reply_to: Some("a> <b".to_owned()),
            ..message()
        },
        Message {
            text: "x".repeat(2 << 20),
            ..message()
        },
    ] {
        let refused = fixture.reach.mail(&wrong, LONG).await.expect_err("wrong");
        assert!(matches!(refused, CallError::Config(_)), "{refused:?}");
    }
}
