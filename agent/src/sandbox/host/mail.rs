//! The interface `mail`: one message through the server that the operator wrote down under `[mail]`.
//!
//! The guest says to whom and what; server, login and sender are the operator's and stay out of its sight. A refusal
//! for good (5xx) is `rejected`; anything that may pass (4xx, no connection, no TLS) is `unavailable`.

use super::HostState;
use crate::sandbox::bindings::wit;
use crate::sandbox::egress::grant::Host;
use crate::sandbox::egress::reach::Reach;
use crate::sandbox::types::{CallError, MailServer, MailTls};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::net::IpAddr;
use std::time::Duration;

/// A mail as the guest gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// `user@host` or `Name <user@host>`; at least one, at most [`RECIPIENTS_MAX`].
    pub to: Vec<String>,
    /// The same form.
    pub reply_to: Option<String>,
    /// One line; breaks become spaces.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// `id@host`, with or without angle brackets; stable over retries.
    pub message_id: String,
    /// Of the mail that opened the thread.
    pub in_reply_to: Option<String>,
}

/// Recipients of one mail.
pub const RECIPIENTS_MAX: usize = 50;
/// Bytes of text and HTML together: servers take 10 MiB and more, an alert is a page.
pub const MAIL_BYTES_MAX: usize = 1 << 20;
/// The whole delivery, where the call has that much left.
const TOTAL_MAX: Duration = Duration::from_secs(30);
/// One command and its answer.
const COMMAND_MAX: Duration = Duration::from_secs(10);

impl Reach {
    /// Hands one mail to the server and says how many bytes that were. `limit` is what is left of the call.
    pub async fn mail(&self, message: &Message, limit: Duration) -> Result<usize, CallError> {
        if !self.rules.mail {
            return Err(self.denied("sending mail is not granted", "mail = true"));
        }
        let server = self.network.mail.load_full().ok_or_else(|| {
            self.wrong("there is no server for mail: add [mail] with host, port, tls and from to the configuration")
        })?;
        let server = &*server;
        let mail = self.compose(message, server)?;
        let bytes = mail.formatted().len();
        let _slot = self.slot()?;
        let total = TOTAL_MAX.min(limit);
        let sent = tokio::time::timeout(total, async {
            let transport = self.transport(server).await?;
            transport
                .send(mail)
                .await
                .map_err(|e| self.mail_failed(server, &e))
        });
        match sent.await {
            Ok(Ok(_)) => Ok(bytes),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(self.unavailable(format!(
                "{}: the mail was not taken within {total:?}",
                shown(server)
            ))),
        }
    }

    fn compose(
        &self,
        message: &Message,
        server: &MailServer,
    ) -> Result<lettre::Message, CallError> {
        let mailbox = |text: &str, what: &str| {
            text.parse::<Mailbox>()
                .map_err(|e| self.wrong(format!("{what} {text:?} is no address: {e}")))
        };
        if message.to.is_empty() || message.to.len() > RECIPIENTS_MAX {
            let got = message.to.len();
            return Err(self.wrong(format!(
                "a mail goes to 1 to {RECIPIENTS_MAX} recipients, not {got}"
            )));
        }
        let bytes = message.text.len() + message.html.as_ref().map_or(0, String::len);
        if bytes > MAIL_BYTES_MAX {
            return Err(self.wrong(format!(
                "a mail may have {MAIL_BYTES_MAX} bytes of text, not {bytes}"
            )));
        }
        let subject: String = message
            .subject
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let mut builder = lettre::Message::builder()
            .from(mailbox(&server.from, "the sender `from` of [mail],")?)
            .subject(subject)
            .message_id(Some(self.id(&message.message_id)?))
            // Keeps holiday notices and ticket systems from answering (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for to in &message.to {
            builder = builder.to(mailbox(to, "the recipient")?);
        }
        if let Some(reply_to) = &message.reply_to {
            builder = builder.reply_to(mailbox(reply_to, "the reply-to")?);
        }
        if let Some(id) = &message.in_reply_to {
            let id = self.id(id)?;
            builder = builder.in_reply_to(id.clone()).references(id);
        }
        let mail = match &message.html {
            None => builder.singlepart(SinglePart::plain(message.text.clone())),
            Some(html) => builder.multipart(MultiPart::alternative_plain_html(
                message.text.clone(),
                html.clone(),
            )),
        };
        mail.map_err(|e| self.wrong(format!("the mail cannot be written: {e}")))
    }

    /// `<id@host>`; an id is a header of its own and must not bring another.
    fn id(&self, text: &str) -> Result<String, CallError> {
        let bare = text
            .strip_prefix('<')
            .and_then(|t| t.strip_suffix('>'))
            .unwrap_or(text);
        let plain =
            |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '(' | ')' | '"' | ',' | ';');
        let (left, right) = bare.split_once('@').unwrap_or((bare, "watchfire"));
        let whole = format!("{left}@{right}");
        if left.is_empty()
            || right.is_empty()
            || right.contains('@')
            || whole.len() > 240
            || !whole.chars().all(plain)
        {
            return Err(self.wrong(format!("{text:?} is no message id: write \"id@host\"")));
        }
        Ok(format!("<{whole}>"))
    }

    async fn transport(
        &self,
        server: &MailServer,
    ) -> Result<AsyncSmtpTransport<Tokio1Executor>, CallError> {
        let tls = match server.tls {
            MailTls::None if !is_loopback(&server.host) => {
                return Err(self.wrong(format!(
                    "[mail] tls = \"none\" is for this host alone, and {} is another: write tls = \"starttls\"",
                    server.host
                )));
            }
            MailTls::None => Tls::None,
            MailTls::StartTls => Tls::Required(self.mail_tls(server).await?),
            MailTls::Wrapped => Tls::Wrapper(self.mail_tls(server).await?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .tls(tls)
            .timeout(Some(COMMAND_MAX));
        if let Some(user) = &server.user {
            let password = server.password.as_deref().unwrap_or_default();
            let filled = async |text: &str| {
                let filled = self.secrets.secrets().fill_operators(text).await;
                filled.map_err(|e| self.wrong(format!("[mail]: {e}")))
            };
            builder = builder.credentials(Credentials::new(
                filled(user).await?,
                filled(password).await?,
            ));
        }
        Ok(builder.build())
    }

    async fn mail_tls(&self, server: &MailServer) -> Result<TlsParameters, CallError> {
        let host = server.host.clone();
        let roots = self.network.trust.extra_roots().to_vec();
        // Reads the system's roots from their files, once a mail: mail is rare, memory is not to hold them for it.
        let made = tokio::task::spawn_blocking(move || {
            let mut builder = TlsParameters::builder(host);
            for root in roots {
                builder = builder.add_root_certificate(Certificate::from_der(root.to_vec())?);
            }
            builder.build_rustls()
        });
        match made.await {
            Ok(Ok(parameters)) => Ok(parameters),
            Ok(Err(e)) => Err(self.unavailable(format!("{}: {e}", shown(server)))),
            Err(e) => Err(self.unavailable(format!("{}: {e}", shown(server)))),
        }
    }

    fn mail_failed(
        &self,
        server: &MailServer,
        error: &lettre::transport::smtp::Error,
    ) -> CallError {
        let text = format!("{}: {error}", shown(server));
        if error.is_permanent() {
            CallError::Rejected(self.mask().apply(&text).into_owned())
        } else {
            self.unavailable(text)
        }
    }
}

fn shown(server: &MailServer) -> String {
    format!("mail server {}:{}", server.host, server.port)
}

fn is_loopback(host: &str) -> bool {
    match Host::parse(host) {
        Some(Host::Name(name)) => name == "localhost",
        Some(Host::Ip(ip)) => match ip {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        },
        None => false,
    }
}

impl wit::mail::Host for HostState {
    async fn send(
        &mut self,
        message: wit::mail::Message,
    ) -> wasmtime::Result<Result<(), wit::types::Error>> {
        let charged = self.charge()?;
        let sent = self.send_mail(message.into()).await;
        self.answer(charged, sent)
    }
}

impl HostState {
    async fn send_mail(&mut self, message: Message) -> Result<(), CallError> {
        self.not_in_dry_run("sending mail")?;
        self.cost.requests += 1;
        let bytes = self.using.reach.mail(&message, self.left()).await?;
        self.cost.bytes_out += bytes as u64;
        Ok(())
    }
}

impl From<wit::mail::Message> for Message {
    fn from(message: wit::mail::Message) -> Self {
        let wit::mail::Message {
            to,
            reply_to,
            subject,
            text,
            html,
            message_id,
            in_reply_to,
        } = message;
        Message {
            to,
            reply_to,
            subject,
            text,
            html,
            message_id,
            in_reply_to,
        }
    }
}
