//! Who may ask: the checks before every route.
//!
//! 1. `Host` must name this agent (else 421): a page that rebinds its own name to 127.0.0.1 is refused.
//! 2. `Origin` and `Sec-Fetch-Site` must not tell of another site (else 403): no page reads or acts for its visitor.
//! 3. Whatever changes something needs the bearer token on TCP (else 401), and where TCP is bound to more
//!    than loopback, whatever reads more than a verdict, too; the unix socket is its own proof.
//! 4. A body must say that it is JSON (else 415): a form cannot.

use super::{Api, problem};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
    ORIGIN, TRANSFER_ENCODING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use std::net::{IpAddr, SocketAddr};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// TCP, bound here.
    Tcp(SocketAddr),
    /// The unix socket: only its owner can open it.
    Unix,
}

/// The checks of one door.
#[derive(Clone)]
pub(super) struct Guard {
    api: Api,
    door: Door,
}

impl Guard {
    pub(super) fn new(api: Api, door: Door) -> Self {
        Guard { api, door }
    }

    /// None: it may pass.
    fn refuse(&self, request: &Request) -> Option<Response> {
        let Some(authority) = self.authority(request) else {
            return Some(problem(
                StatusCode::MISDIRECTED_REQUEST,
                "this agent does not answer to that Host: use localhost or its address, or name it under [api] hosts",
            ));
        };
        let headers = request.headers();
        let changes = !matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        );
        if !same_site(headers, &authority, changes) {
            return Some(problem(
                StatusCode::FORBIDDEN,
                "requests on behalf of another site are refused",
            ));
        }
        let open = match self.door {
            Door::Unix => true,
            Door::Tcp(bound) => {
                !changes && (bound.ip().is_loopback() || is_verdict(request.uri().path()))
            }
        };
        if !open && !self.has_token(headers) {
            let mut answer = problem(
                StatusCode::UNAUTHORIZED,
                "this needs the header `Authorization: Bearer TOKEN`, TOKEN being the content of the file `token` in the data folder, or the unix socket",
            );
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(answer);
        }
        if changes && has_body(headers) && !is_json(headers) {
            return Some(problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON with `Content-Type: application/json`",
            ));
        }
        None
    }

    /// The `Host` of the request where it names this agent.
    fn authority(&self, request: &Request) -> Option<String> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return None;
        };
        let host = host.to_str().ok()?.to_ascii_lowercase();
        // The absolute form carries a second name; the two may not differ.
        if let Some(absolute) = request.uri().authority()
            && !absolute.as_str().eq_ignore_ascii_case(&host)
        {
            return None;
        }
        let name = host_name(&host)?;
        let known = name == "localhost"
            || name
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|ip| self.is_bound(ip))
            || self
                .api
                .config
                .borrow()
                .api
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name));
        known.then_some(host)
    }

    /// A literal address cannot be rebound, so where all addresses are bound any one will do.
    fn is_bound(&self, ip: IpAddr) -> bool {
        match self.door {
            Door::Unix => ip.is_loopback(),
            Door::Tcp(bound) => {
                let bound = bound.ip();
                bound.is_unspecified() || bound == ip || (bound.is_loopback() && ip.is_loopback())
            }
        }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.to_str().ok().and_then(|v| v.split_once(' ')) else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && self.api.token.is(token.trim())
    }
}

/// Checks a request and dresses its answer.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut answer = match guard.refuse(&request) {
        Some(refusal) => {
            tracing::debug!(status = refusal.status().as_u16(), method = %request.method(), path = request.uri().path(), "request refused");
            refusal
        }
        None => next.run(request).await,
    };
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        answer
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// Paths that say up or down and nothing else: for the probes of orchestrators, which have no token.
fn is_verdict(path: &str) -> bool {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    matches!(path, "/health" | "/health/live" | "/health/ready")
}

/// The name of `name:port`, `[::1]:port` or either without a port; none where it is neither.
fn host_name(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') {
        host.find(']')? + 1
    } else {
        host.find(':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at(end);
    let port_ok = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    (port_ok && !name.is_empty()).then_some(name)
}

/// Whether a browser, if it is one, asks for a page of ours or for its user.
fn same_site(headers: &HeaderMap, authority: &str, changes: bool) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin_ok = match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => origin.to_str().is_ok_and(|origin| {
            let origin = origin.to_ascii_lowercase();
            let rest = origin
                .strip_prefix("http://")
                .or(origin.strip_prefix("https://"));
            rest == Some(authority)
        }),
        (Some(_), Some(_)) => false,
    };
    let is = |name: &HeaderName, word: &str| headers.get(name).is_some_and(|v| v == word);
    let fetch_ok = !headers.contains_key(&SEC_FETCH_SITE)
        || is(&SEC_FETCH_SITE, "same-origin")
        || is(&SEC_FETCH_SITE, "none")
        // A link from another page may lead here; what it shows, that page cannot read.
        || (!changes && is(&SEC_FETCH_MODE, "navigate"));
    origin_ok && fetch_ok
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    kind.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn a_host_is_a_name_with_or_without_a_port() {
        for (host, name) in [
            ("localhost", Some("localhost")),
            ("localhost:9465", Some("localhost")),
            ("[::1]:9465", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("", None),
            (":80", None),
            ("[::1", None),
            ("localhost:99999", None),
            ("localhost:80@evil.com", None),
            ("[::1]evil.com", None),
            ("localhost:", None),
        ] {
            assert_eq!(host_name(host), name, "{host}");
        }
    }
}
