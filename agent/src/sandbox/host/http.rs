//! The interface `http`: one request with its whole body, one answer with its whole body.
//!
//! No redirects, no proxy, no referer, no decompression, no cookies: what the guest asked for is what goes out, and
//! only to where a grant lets it. [`egress`](crate::sandbox::egress) has the policy; this file has the client.

use super::HostState;
use crate::sandbox::bindings::wit;
use crate::sandbox::egress::grant::{Allowance, Host, Scheme, Target};
use crate::sandbox::egress::reach::Reach;
use crate::sandbox::egress::resolve::{Filtered, ResolveError};
use crate::sandbox::egress::tls;
use crate::sandbox::types::CallError;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::client::ClientConfig;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What the guest asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// `GET`, `POST` …; not `CONNECT` or `TRACE`.
    pub method: String,
    /// Absolute; may hold places for secrets.
    pub url: String,
    /// Values may hold places for secrets.
    pub headers: Vec<(String, String)>,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
    /// Whether the body has places for secrets.
    pub fill_body: bool,
    /// 0: [`TOTAL_DEFAULT`].
    pub timeout_ms: u32,
    /// `verify` = `false`: accept any certificate (grant `insecure`). `max_body` = bytes: read so many and say
    /// `truncated` instead of failing on more. Others are ignored.
    pub extra: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// 100–999.
    pub status: u16,
    /// In the order of the wire, names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
    /// From the first byte of the look-up to the last of the body.
    pub elapsed: Duration,
    /// None without TLS.
    pub certificate_seconds_left: Option<i64>,
    /// `truncated` = `true`.
    pub extra: Vec<(String, String)>,
}

/// What became of a request, also of one that came to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// What went out, headers counted as text; all of it where the connection failed later than at the dial.
    pub bytes_out: u64,
    /// What the answer began with.
    pub status: Option<u16>,
}

/// The clients of one use, made when first needed.
#[derive(Default)]
pub(crate) struct Clients(Mutex<Vec<Client>>);

struct Client {
    verify: bool,
    allowance: Allowance,
    /// The shared configuration it was made from: another one means that the roots were read again.
    made_from: Arc<ClientConfig>,
    client: reqwest::Client,
}

/// Bytes of a body, either way: a page of metrics of a big service; decisions.md 9.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of all headers, either way; decisions.md 9.
pub const HEADER_BYTES_MAX: usize = 32 << 10;
/// Where the guest names no time.
pub const TOTAL_DEFAULT: Duration = Duration::from_secs(10);
/// Name look-up, TCP and TLS together: the longest of them is bounded by 3 s.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Silence on an open connection.
const READ_MAX: Duration = Duration::from_secs(10);
/// An idle connection serves the next round of a probe (10 s by default, 60 s at the outside), then goes.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Clients of one use: one, as a rule; more only where its grants treat its targets differently.
const CLIENTS_MAX: usize = 4;
/// Bytes of a URL, filled in.
const URL_BYTES_MAX: usize = 8 << 10;
/// Set by the host, or no affair of a guest: message framing and everything hop by hop (RFC 9110, 7.6.1).
const FORBIDDEN: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

impl Reach {
    /// Sends one request, and notes how far it came. `limit` is what is left of the call; the answer or an error comes
    /// before it.
    pub async fn http(
        &self,
        request: Request,
        limit: Duration,
        sent: &mut Sent,
    ) -> Result<Response, CallError> {
        let method = self.method(&request.method)?;
        let options = Options::read(&request.extra).map_err(|e| self.wrong(e))?;
        let (url, target, in_url) = self.destination(&request.url).await?;
        let allowance = self.admit(&target)?;
        for name in &in_url {
            self.secrets.check(name, &target)?;
        }
        if !options.verify && !self.rules.insecure {
            let why = format!("{target} without verification of its certificate is not granted");
            return Err(self.denied(&why, "insecure = true"));
        }
        let (headers, in_headers) = self.headers(&request.headers, &target).await?;
        let mut body = request.body;
        let mut secret_inside = in_headers || !in_url.is_empty();
        if request.fill_body {
            let filled = self.secrets.fill(&body, &target).await?;
            secret_inside |= !filled.names.is_empty();
            body = filled.bytes;
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(self.wrong(format!(
                "a body may have {BODY_BYTES_MAX} bytes, not {}",
                body.len()
            )));
        }
        let _slot = self.slot()?;
        let client = self.client(&target, options.verify, allowance).await?;

        let asked = match request.timeout_ms {
            0 => TOTAL_DEFAULT,
            ms => Duration::from_millis(u64::from(ms)),
        };
        let total = asked.min(limit);
        let head = headers.iter().map(|(k, v)| k.as_str().len() + v.len() + 4);
        let bytes_out =
            method.as_str().len() + url.as_str().len() + head.sum::<usize>() + body.len();
        let outgoing = client
            .request(method.clone(), url)
            .headers(headers)
            .body(body);
        let started = Instant::now();
        let status = &mut sent.status;
        let cap = Cap {
            bytes_max: options.body_bytes_max,
            // A value that the cap would cut in two has to be read to its end to be found.
            beyond: if secret_inside {
                self.mask().longest()
            } else {
                0
            },
        };
        let exchanged = exchange(outgoing, cap, status);
        let answer = tokio::time::timeout(total, exchanged).await;
        let answer = answer.unwrap_or(Err(Failure::Late));
        if !matches!(&answer, Err(Failure::Client(e)) if e.is_connect() || e.is_builder()) {
            sent.bytes_out = bytes_out as u64;
        }
        let (mut response, open_end) = answer
            .map_err(|cause| self.http_failed(&method, &target, total, sent.status, cause))?;
        response.elapsed = started.elapsed();
        if secret_inside {
            // A service that echoes the request must not hand the guest what the host put in.
            self.mask_response(&mut response);
        }
        let certain = response.body.len().saturating_sub(open_end);
        let given = cap.bytes_max.unwrap_or(BODY_BYTES_MAX);
        response.body.truncate(certain.min(given));
        Ok(response)
    }

    fn method(&self, text: &str) -> Result<reqwest::Method, CallError> {
        match reqwest::Method::from_bytes(text.as_bytes()) {
            Ok(method) if !matches!(method, reqwest::Method::CONNECT | reqwest::Method::TRACE) => {
                Ok(method)
            }
            _ => Err(self.wrong(format!("the method {text:?} cannot be sent"))),
        }
    }

    /// Fills in the URL and says where it leads, and which secrets are in it.
    async fn destination(
        &self,
        text: &str,
    ) -> Result<(reqwest::Url, Target, Vec<String>), CallError> {
        let filled = self.secrets.fill_unchecked(text.as_bytes()).await?;
        let wrong = |what: String| self.wrong(format!("the URL \"{}\" {what}", harmless(text)));
        if filled.bytes.len() > URL_BYTES_MAX {
            return Err(wrong(format!("is longer than {URL_BYTES_MAX} bytes")));
        }
        let filled_text = String::from_utf8_lossy(&filled.bytes);
        let mut url =
            reqwest::Url::parse(&filled_text).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(wrong("is neither http nor https".to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "holds a user: send an `authorization` header instead".to_owned(),
            ));
        }
        url.set_fragment(None);
        let host = Host::of_url(&url).ok_or_else(|| wrong("has no host".to_owned()))?;
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let port = port.ok_or_else(|| wrong("has port 0".to_owned()))?;
        // What is dialled must be what was checked: an IPv4 address in IPv6 clothes is written as what it is.
        if let Host::Ip(ip) = host {
            url.set_ip_host(ip)
                .map_err(|()| wrong("has no host".to_owned()))?;
        }
        Ok((url, Target::Http { scheme, host, port }, filled.names))
    }

    /// The headers, filled in, and whether a secret is among them.
    async fn headers(
        &self,
        asked: &[(String, String)],
        target: &Target,
    ) -> Result<(HeaderMap, bool), CallError> {
        let mut headers = HeaderMap::new();
        let mut secret = false;
        let mut bytes = 0;
        for (name, value) in asked {
            let lower = name.to_ascii_lowercase();
            if FORBIDDEN.contains(&lower.as_str()) || lower.starts_with("proxy-") {
                return Err(self.wrong(format!(
                    "the header \"{lower}\" is the host's: leave it out"
                )));
            }
            let filled = self.secrets.fill(value.as_bytes(), target).await?;
            let has_secret = !filled.names.is_empty();
            bytes += name.len() + filled.bytes.len() + 4;
            let (Ok(name), Ok(mut value)) = (
                HeaderName::from_bytes(lower.as_bytes()),
                HeaderValue::from_bytes(&filled.bytes),
            ) else {
                let what = "is no header: names are plain ASCII, values have no control characters";
                return Err(self.wrong(format!("\"{}\" {what}", harmless(name))));
            };
            value.set_sensitive(has_secret);
            secret |= has_secret;
            headers.append(name, value);
        }
        if bytes > HEADER_BYTES_MAX {
            return Err(self.wrong(format!(
                "headers may have {HEADER_BYTES_MAX} bytes, not {bytes}"
            )));
        }
        Ok((headers, secret))
    }

    async fn client(
        &self,
        target: &Target,
        verify: bool,
        allowance: Allowance,
    ) -> Result<reqwest::Client, CallError> {
        let https = matches!(
            target,
            Target::Http {
                scheme: Scheme::Https,
                ..
            }
        );
        // Plain HTTP needs no roots: a probe of localhost neither reads nor keeps a hundred certificates.
        let verify = verify && https;
        let made_from = self.network.trust.config(verify).await;
        let made_from = made_from.map_err(|e| self.unavailable(e.to_string()))?;
        let mut clients = self
            .clients
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clients.retain(|c| c.verify != verify || Arc::ptr_eq(&c.made_from, &made_from));
        if let Some(known) = clients
            .iter()
            .find(|c| c.verify == verify && c.allowance == allowance)
        {
            return Ok(known.client.clone());
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::own_sessions(&made_from))
            .tls_info(true)
            .dns_resolver(Arc::new(Filtered {
                resolver: self.resolver.clone(),
                allowance: allowance.clone(),
            }))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .connect_timeout(CONNECT_MAX)
            .read_timeout(READ_MAX)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE_MAX)
            .user_agent(concat!("watchfire/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| {
                CallError::Internal(format!("cannot make an HTTP client: {}", e.without_url()))
            })?;
        if clients.len() == CLIENTS_MAX {
            clients.remove(0);
        }
        clients.push(Client {
            verify,
            allowance,
            made_from,
            client: client.clone(),
        });
        Ok(client)
    }

    fn http_failed(
        &self,
        method: &reqwest::Method,
        target: &Target,
        total: Duration,
        status: Option<u16>,
        cause: Failure,
    ) -> CallError {
        let answered = status.map(|status| format!("answered {status}, but "));
        let answered = answered.unwrap_or_default();
        // Scheme, host and port, never the path or the query: those hold tokens (Slack, Telegram, Discord).
        let told = |what: String| format!("{method} {target}: {answered}{what}");
        match cause {
            Failure::Late => self.unavailable(told(format!("no whole answer within {total:?}"))),
            // Nobody refused anything: it may be the error page of a gateway that is gone a minute later.
            Failure::TooMuch(what) => self.unavailable(told(what)),
            Failure::Client(error) => {
                let error = error.without_url();
                if let Some(unresolved) =
                    chain(&error).find_map(|e| e.downcast_ref::<ResolveError>())
                {
                    return self.unresolved(unresolved, target);
                }
                if error.is_builder() {
                    return self.wrong(told(texts(&error)));
                }
                self.unavailable(told(match (error.is_timeout(), error.is_connect()) {
                    (true, true) => format!("no connection within {CONNECT_MAX:?}"),
                    (true, false) => format!("nothing came for {READ_MAX:?}"),
                    (false, _) => texts(&error),
                }))
            }
        }
    }

    fn mask_response(&self, response: &mut Response) {
        if let Some(masked) = self.mask().whole(&response.body) {
            response.body = masked;
        }
        for text in response.headers.iter_mut().flat_map(|(k, v)| [k, v]) {
            if let Some(masked) = self.mask().whole(text.as_bytes()) {
                *text = String::from_utf8_lossy(&masked).into_owned();
            }
        }
    }
}

enum Failure {
    Late,
    TooMuch(String),
    Client(reqwest::Error),
}

/// How much of a body is read, and how much of that the guest gets.
#[derive(Clone, Copy)]
struct Cap {
    /// None: the cap of the host, and more is an error.
    bytes_max: Option<usize>,
    /// Read behind it and taken off again.
    beyond: usize,
}

struct Options {
    verify: bool,
    /// None: the cap of the host, and more is an error.
    body_bytes_max: Option<usize>,
}

impl Options {
    fn read(extra: &[(String, String)]) -> Result<Self, String> {
        let mut options = Options {
            verify: true,
            body_bytes_max: None,
        };
        for (key, value) in extra {
            match (key.as_str(), value.as_str()) {
                ("verify", "true") => options.verify = true,
                ("verify", "false") => options.verify = false,
                ("verify", _) => return Err("`verify` is \"true\" or \"false\"".to_owned()),
                ("max_body", bytes) => {
                    let bytes = bytes
                        .parse::<usize>()
                        .map_err(|_| "`max_body` is a number of bytes".to_owned())?;
                    options.body_bytes_max = Some(bytes.min(BODY_BYTES_MAX));
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The answer, and how many bytes at the end of its body may be the beginning of a value.
async fn exchange(
    request: reqwest::RequestBuilder,
    cap: Cap,
    status: &mut Option<u16>,
) -> Result<(Response, usize), Failure> {
    let mut answer = request.send().await.map_err(Failure::Client)?;
    *status = Some(answer.status().as_u16());
    let certificate = answer.extensions().get::<reqwest::tls::TlsInfo>();
    let certificate_seconds_left = certificate
        .and_then(|info| info.peer_certificate())
        .and_then(tls::seconds_left);
    let head = answer
        .headers()
        .iter()
        .map(|(k, v)| k.as_str().len() + v.len() + 4);
    if head.sum::<usize>() > HEADER_BYTES_MAX {
        return Err(Failure::TooMuch(format!(
            "the answer's headers have more than {HEADER_BYTES_MAX} bytes"
        )));
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer
        .headers()
        .iter()
        .map(|(k, v)| (k.as_str().to_owned(), text(v)));
    let mut response = Response {
        status: answer.status().as_u16(),
        headers: headers.collect(),
        certificate_seconds_left,
        ..Response::default()
    };
    let most = match cap.bytes_max {
        Some(bytes) => bytes + cap.beyond,
        None => BODY_BYTES_MAX,
    };
    let mut more = false;
    while let Some(chunk) = answer.chunk().await.map_err(Failure::Client)? {
        let room = most - response.body.len();
        response
            .body
            .extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            if cap.bytes_max.is_none() {
                return Err(Failure::TooMuch(format!(
                    "the answer's body has more than {BODY_BYTES_MAX} bytes"
                )));
            }
            more = true;
            break;
        }
    }
    let read = response.body.len();
    if more || cap.bytes_max.is_some_and(|bytes| read > bytes) {
        let truncated = ("truncated".to_owned(), "true".to_owned());
        response.extra.push(truncated);
    }
    let open_end = if more { cap.beyond } else { 0 };
    Ok((response, open_end))
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |e: &&(dyn std::error::Error + 'static)| {
        (*e).source()
    })
}

/// The texts of an error and its causes, without the layers that say nothing and without repetitions.
fn texts(error: &reqwest::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    let words = |e: &(dyn std::error::Error + 'static)| match tls::in_words(e) {
        Some(words) => words.to_owned(),
        None => e.to_string(),
    };
    for text in chain(error).map(words) {
        if !text.starts_with("client error (") && !told.iter().any(|t| t.contains(&text)) {
            told.push(text);
        }
    }
    if told.is_empty() {
        error.to_string()
    } else {
        told.join(": ")
    }
}

/// The guest's own words, short and without control characters.
fn harmless(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl wit::http::Host for HostState {
    async fn send(
        &mut self,
        request: wit::http::Request,
    ) -> wasmtime::Result<Result<wit::http::Response, wit::types::Error>> {
        let charged = self.charge()?;
        let sent = self.send_http(request.into()).await;
        self.answer(charged, sent.map(Into::into))
    }
}

impl HostState {
    async fn send_http(&mut self, request: Request) -> Result<Response, CallError> {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            self.not_in_dry_run(&format!("a {} request", harmless(&request.method)))?;
        }
        self.cost.requests += 1;
        let reach = Arc::clone(&self.using.reach);
        let mut sent = Sent::default();
        let response = reach.http(request, self.left(), &mut sent).await;
        self.cost.bytes_out += sent.bytes_out;
        self.cost.answers += u32::from(sent.status.is_some());
        response
    }
}

impl From<wit::http::Request> for Request {
    fn from(request: wit::http::Request) -> Self {
        let wit::http::Request {
            method,
            url,
            headers,
            body,
            fill_body,
            timeout_ms,
            extra,
        } = request;
        Request {
            method,
            url,
            headers,
            body,
            fill_body,
            timeout_ms,
            extra,
        }
    }
}

impl From<Response> for wit::http::Response {
    fn from(response: Response) -> Self {
        wit::http::Response {
            status: response.status,
            headers: response.headers,
            body: response.body,
            elapsed_us: super::micros(response.elapsed),
            certificate_seconds_left: response.certificate_seconds_left,
            extra: response.extra,
        }
    }
}
