//! The grammar of the operator's grants for the network, and what each line covers.
//!
//! ```text
//!   http = ["https://hooks.slack.com:443", "http://127.0.0.1:*", "https://*.example.org:443", "http://10.0.0.0/8:*"]
//!   tcp  = ["127.0.0.1:6379", "[::1]:5432", "unix:/run/redis.sock"]
//!   dns  = ["example.org", "*.example.org", "*"]
//! ```

use super::address::Cidr;
use crate::sandbox::grants::Grants;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A grant that cannot be read. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grant `{key}`: \"{line}\" {problem}")]
pub struct GrantError {
    /// `http`, `tcp`, `dns`, `secrets.NAME`.
    pub key: String,
    /// The operator's line.
    pub line: String,
    /// What is wrong with it, and what to write instead.
    pub problem: String,
}

/// A host as it is dialled: a name in lower case without a final dot, or an address in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// `hooks.slack.com`, also in punycode.
    Name(String),
    /// Never an IPv4 address mapped into IPv6.
    Ip(IpAddr),
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// TLS.
    Https,
}

/// Where something is about to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A request.
    Http {
        /// `http` or `https`.
        scheme: Scheme,
        /// To whom.
        host: Host,
        /// Never 0.
        port: u16,
    },
    /// A connection.
    Tcp {
        /// To whom.
        host: Host,
        /// Never 0.
        port: u16,
    },
    /// A unix socket, by its absolute path.
    Unix(String),
}

/// What may answer behind a target that a grant covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// A grant names the very host: its addresses may be local ones.
    pub named: bool,
    /// Networks that grants of the same scheme and port name.
    pub networks: Vec<Cidr>,
}

/// The grants of one use, parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    http: Vec<(Scheme, HostRule, PortRule)>,
    tcp: Vec<(HostRule, PortRule)>,
    unix: Vec<String>,
    dns: Vec<HostRule>,
    /// `mail = true`.
    pub mail: bool,
    /// `insecure = true`.
    pub insecure: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum HostRule {
    /// `hooks.slack.com`.
    Name(String),
    /// `*.example.org`: what stands behind the star, with its dot. Not the domain itself.
    Suffix(String),
    /// `*`.
    Any,
    /// An address or a network.
    Network(Cidr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortRule {
    One(u16),
    Any,
}

impl Rules {
    /// Parses the network's part of a `grant` table; all mistakes at once.
    pub fn parse(grants: &Grants) -> Result<Self, Vec<GrantError>> {
        let mut wrong = Vec::new();
        let mut rules = Rules {
            mail: grants.mail,
            insecure: grants.insecure,
            ..Rules::default()
        };
        let mut note = |key: &str, line: &str, problem: String| {
            wrong.push(GrantError {
                key: key.to_owned(),
                line: line.to_owned(),
                problem,
            });
        };
        for line in &grants.http {
            match http_rule(line) {
                Ok(rule) => rules.http.push(rule),
                Err(problem) => note("http", line, problem),
            }
        }
        for line in &grants.tcp {
            match line.strip_prefix("unix:") {
                Some(path) => match unix_path(path) {
                    Ok(path) => rules.unix.push(path),
                    Err(problem) => note("tcp", line, problem),
                },
                None => match tcp_rule(line) {
                    Ok(rule) => rules.tcp.push(rule),
                    Err(problem) => note("tcp", line, problem),
                },
            }
        }
        for line in &grants.dns {
            match dns_rule(line) {
                Ok(rule) => rules.dns.push(rule),
                Err(problem) => note("dns", line, problem),
            }
        }
        if wrong.is_empty() {
            Ok(rules)
        } else {
            Err(wrong)
        }
    }

    /// What the grants say of a target; none: nothing covers it.
    pub fn covers(&self, target: &Target) -> Option<Allowance> {
        match target {
            Target::Http { scheme, host, port } => allowance(
                self.http
                    .iter()
                    .filter(|(s, _, p)| s == scheme && p.admits(*port))
                    .map(|(_, rule, _)| rule),
                host,
            ),
            Target::Tcp { host, port } => allowance(
                self.tcp
                    .iter()
                    .filter(|(_, p)| p.admits(*port))
                    .map(|(rule, _)| rule),
                host,
            ),
            Target::Unix(path) => self
                .unix
                .iter()
                .any(|granted| granted == path)
                .then(Allowance::default),
        }
    }

    /// Whether a name may be asked for; the name as [`Host::parse`] yields it, or one with underscores.
    pub fn covers_dns(&self, name: &str) -> bool {
        let host = Host::Name(name.trim_end_matches('.').to_ascii_lowercase());
        self.dns.iter().any(|rule| rule.matches(&host))
    }
}

/// Checks the path of a unix socket: absolute and plain.
pub fn unix_path(path: &str) -> Result<String, String> {
    let plain = path.starts_with('/')
        && !path.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'))
        && path
            .split('/')
            .skip(1)
            .all(|part| !matches!(part, "" | "." | ".."));
    if plain {
        Ok(path.to_owned())
    } else {
        Err(
            "must be an absolute path without `..`: write \"unix:/run/redis/redis.sock\""
                .to_owned(),
        )
    }
}

impl PortRule {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(PortRule::Any);
        }
        match text.parse::<u16>() {
            Ok(port) if port != 0 && text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(PortRule::One(port))
            }
            _ => Err(format!(
                "has no port \"{text}\": write a number from 1 to 65535, or `*` for all"
            )),
        }
    }

    fn admits(self, port: u16) -> bool {
        match self {
            PortRule::One(one) => one == port,
            PortRule::Any => true,
        }
    }
}

impl HostRule {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(HostRule::Any);
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        if bare.contains('/') {
            return Cidr::parse(bare).map(HostRule::Network).ok_or_else(|| {
                "names no network: write its first address and its length, as in 10.0.0.0/8 or [fd00::/8]".to_owned()
            });
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return match Host::parse(suffix) {
                Some(Host::Name(name)) if !suffix.contains('*') => {
                    Ok(HostRule::Suffix(format!(".{name}")))
                }
                _ => Err("has a `*.` that no domain follows: write `*.example.org`".to_owned()),
            };
        }
        if text.contains('*') {
            return Err(
                "has a `*` inside the host: write the host, `*.example.org`, or `*`".to_owned(),
            );
        }
        match Host::parse(text) {
            Some(Host::Name(name)) => Ok(HostRule::Name(name)),
            Some(Host::Ip(ip)) => Ok(HostRule::Network(Cidr::single(ip))),
            None => Err(format!(
                "names no host: \"{text}\" is neither a name nor an address"
            )),
        }
    }

    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (HostRule::Name(granted), Host::Name(name)) => granted == name,
            (HostRule::Suffix(suffix), Host::Name(name)) => {
                name.len() > suffix.len() && name.ends_with(suffix.as_str())
            }
            (HostRule::Any, _) => true,
            (HostRule::Network(net), Host::Ip(ip)) => net.contains(*ip),
            _ => false,
        }
    }
}

fn allowance<'a>(rules: impl Iterator<Item = &'a HostRule>, host: &Host) -> Option<Allowance> {
    let mut covered = false;
    let mut allowance = Allowance::default();
    for rule in rules {
        covered |= rule.matches(host);
        match rule {
            HostRule::Name(_) => allowance.named |= rule.matches(host),
            HostRule::Network(net) => allowance.networks.push(*net),
            HostRule::Suffix(_) | HostRule::Any => {}
        }
    }
    covered.then_some(allowance)
}

fn http_rule(line: &str) -> Result<(Scheme, HostRule, PortRule), String> {
    let (scheme, rest) = match line.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some((other, rest)) => {
            return Err(format!(
                "has the scheme \"{other}\": write \"https://{rest}\" or \"http://{rest}\""
            ));
        }
        None => {
            return Err(format!(
                "has no scheme: write \"https://{line}\" or \"http://{line}\""
            ));
        }
    };
    if rest.contains('@') {
        return Err("holds a user: credentials are secrets and go into a header".to_owned());
    }
    let (host, port) = split_port(rest);
    let port = match port {
        Some(port) => port.trim_end_matches('/'),
        None => {
            let (host, _) = host.split_once('/').unwrap_or((host, ""));
            return Err(format!(
                "has no port: write \"{}://{host}:{}\", or `:*` for all",
                scheme.name(),
                scheme.port()
            ));
        }
    };
    if let Some((port, _)) = port.split_once('/') {
        return Err(format!(
            "has a path: a grant ends with the port, write \"{}://{host}:{port}\"",
            scheme.name()
        ));
    }
    Ok((scheme, HostRule::parse(host)?, PortRule::parse(port)?))
}

fn tcp_rule(line: &str) -> Result<(HostRule, PortRule), String> {
    if let Some((_, rest)) = line.split_once("://") {
        return Err(format!(
            "has a scheme: write \"{rest}\", or put it under `http`"
        ));
    }
    if line.starts_with('/') {
        return Err(format!("is a path: write \"unix:{line}\""));
    }
    match split_port(line) {
        (host, Some(port)) => Ok((HostRule::parse(host)?, PortRule::parse(port)?)),
        (host, None) => Err(format!(
            "has no port: write \"{host}:5432\", or `:*` for all"
        )),
    }
}

fn dns_rule(line: &str) -> Result<HostRule, String> {
    if line == "*" {
        return Ok(HostRule::Any);
    }
    let (rest, suffix) = match line.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let name = rest.trim_end_matches('.').to_ascii_lowercase();
    // Names of DNS may hold underscores (`_dmarc.example.org`), which hosts may not.
    let plain = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    match (plain, suffix) {
        (true, true) => Ok(HostRule::Suffix(format!(".{name}"))),
        (true, false) => Ok(HostRule::Name(name)),
        (false, _) => {
            Err("names no domain: write \"example.org\", \"*.example.org\" or \"*\"".to_owned())
        }
    }
}

/// Splits `host:port`; an IPv6 address stands in brackets, so the last colon behind them is the port's.
fn split_port(text: &str) -> (&str, Option<&str>) {
    let behind = text.rfind(']').map_or(0, |at| at + 1);
    match text[behind..].rfind(':') {
        Some(at) => (&text[..behind + at], Some(&text[behind + at + 1..])),
        None => (text, None),
    }
}

impl Host {
    /// Reads a host the way a URL parser does (IDNA, `0x7f.1` and `2130706433` are addresses); none: it is no host.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = bare.parse::<Ipv6Addr>() {
            return Some(Host::Ip(IpAddr::V6(ip).to_canonical()));
        }
        let foreign = |c: char| c.is_whitespace() || c.is_control() || ":/?#@\\[]%*".contains(c);
        if text.is_empty() || text.contains(foreign) {
            return None;
        }
        let url = reqwest::Url::parse(&format!("http://{text}/")).ok()?;
        Host::of_url(&url)
    }

    /// The host of a parsed URL.
    pub fn of_url(url: &reqwest::Url) -> Option<Self> {
        let host = url.host_str()?;
        let bare = host
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Host::Ip(ip.to_canonical()));
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty() && name.len() <= 253).then_some(Host::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl Scheme {
    /// `http`, `https`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// 80, 443.
    pub fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Target {
    /// The host; none for a unix socket.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Target::Http { host, .. } | Target::Tcp { host, .. } => Some(host),
            Target::Unix(_) => None,
        }
    }

    /// The grant line that covers exactly this target: `http = ["https://hooks.slack.com:443"]`.
    pub fn grant_line(&self) -> String {
        match self {
            Target::Http { .. } => format!("http = [\"{self}\"]"),
            Target::Tcp { .. } | Target::Unix(_) => format!("tcp = [\"{self}\"]"),
        }
    }
}

/// As it stands in a grant.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Http { scheme, host, port } => write!(f, "{}://{host}:{port}", scheme.name()),
            Target::Tcp { host, port } => write!(f, "{host}:{port}"),
            Target::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

#[cfg(test)]
mod tests;
