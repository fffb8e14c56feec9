//! Redis servers, over RESP2 on the host's connections: `AUTH` where there is a password, `PING`, `INFO`.

#![expect(
    clippy::disallowed_methods,
    reason = "a guest has no other clock that is finer than a millisecond; the host gives it"
)]

mod info;
mod resp;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use watchfire_plugin_sdk::host::state;
use watchfire_plugin_sdk::host::tcp::{Connection, Tls};
use watchfire_plugin_sdk::prelude::*;

use info::{Lookups, Report};
use resp::{Reply, excerpt};

/// Servers of one probe: they are asked one after the other within the time of one round.
const ADDRESSES_MAX: usize = 64;

/// Bytes asked for at a time: most of an `INFO` in one piece.
const PIECE: u32 = 16 * 1024;

/// Key of the look-ups at the last look, by address.
const LOOKUPS: &str = "lookups";

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port`, or `unix:/path`.
    address: Option<String>,
    /// Several instead.
    #[serde(default)]
    addresses: Vec<String>,
    /// User of the access list.
    user: Option<String>,
    /// Usually `{{secret:name}}`.
    password: Option<String>,
    #[serde(default)]
    tls: bool,
    /// Takes any certificate; needs the grant of that name.
    #[serde(default)]
    insecure: bool,
    /// For all addresses together, in milliseconds.
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
}

/// Below the 5 s that a probe has for everything.
fn timeout_ms() -> u64 {
    4_000
}

/// The probe.
pub struct Redis {
    servers: Vec<Server>,
    auth: Option<Auth>,
    tls: Option<Tls>,
    timeout: Duration,
}

/// A server and how to reach it.
struct Server {
    /// As the table has it: the label.
    address: String,
    peer: Peer,
}

#[derive(Debug, PartialEq, Eq)]
enum Peer {
    Tcp(String, u16),
    Unix(String),
}

/// The command that opens the door.
#[derive(Debug, PartialEq, Eq)]
enum Auth {
    /// As it is.
    Plain(Vec<u8>),
    /// With a secret that the host fills in.
    Filled(Vec<u8>),
}

/// What keeps a server from being measured.
enum Trouble {
    /// It is not there, or does not serve: an answer.
    Down(Error),
    /// It cannot be told: the door is shut to us.
    Unknown(Error),
}

impl Probe for Redis {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let auth = auth(config.user.as_deref(), config.password.as_deref())?;
        let addresses = match (config.address, config.addresses) {
            (Some(one), several) if several.is_empty() => vec![one],
            (None, several) if (1..=ADDRESSES_MAX).contains(&several.len()) => several,
            (Some(_), _) => {
                return Err(Error::config(
                    "config: both address and addresses: keep addresses",
                ));
            }
            (None, several) if several.is_empty() => {
                return Err(Error::config(
                    "config: no address: write address = \"127.0.0.1:6379\"",
                ));
            }
            (None, several) => {
                return Err(Error::config(format!(
                    "config.addresses: {} of them: write at most {ADDRESSES_MAX}, and the others in a probe of their own",
                    several.len()
                )));
            }
        };
        if config.insecure && !config.tls {
            return Err(Error::config(
                "config.insecure: there is no certificate to take without tls: write tls = true",
            ));
        }
        let mut servers: Vec<Server> = Vec::new();
        for address in addresses {
            if servers.iter().any(|server| server.address == address) {
                return Err(Error::config(format!(
                    "config.addresses: {address:?} stands twice: keep one"
                )));
            }
            let peer = peer(&address)?;
            servers.push(Server { address, peer });
        }
        Ok(Redis {
            servers,
            auth,
            tls: config.tls.then_some(Tls {
                server_name: None,
                verify: !config.insecure,
            }),
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
        })
    }

    fn collect(&mut self) -> Result<Collection> {
        let end = Instant::now() + self.timeout;
        let (mut report, mut failures) = (Report::new(), Vec::new());
        let mut lookups: BTreeMap<String, Lookups> = state::load(LOOKUPS)?.unwrap_or_default();
        lookups.retain(|address, _| self.servers.iter().any(|s| s.address == *address));
        let mut judged = 0;
        for (index, server) in self.servers.iter().enumerate() {
            let address = server.address.as_str();
            let mut told = |error: Error| failures.push(error.context(address));
            // What the fast ones leave goes to the slow ones.
            let left = end.saturating_duration_since(Instant::now());
            let share = left / (self.servers.len() - index) as u32;
            let mut up = 1.0;
            match self.look(server, share, &mut report) {
                Ok(Look { info, trouble }) => {
                    if let Some(error) = trouble {
                        up = 0.0;
                        told(error);
                    }
                    match info {
                        Ok(info) => {
                            let last = lookups.get(address).copied();
                            if let Some(seen) = info::add(&mut report, address, &info, last) {
                                lookups.insert(address.to_owned(), seen);
                            }
                        }
                        // One reason is enough.
                        Err(_) if up == 0.0 => {}
                        Err(error) => told(error),
                    }
                }
                Err(Trouble::Down(error)) => {
                    up = 0.0;
                    told(error);
                }
                Err(Trouble::Unknown(error)) => {
                    told(error);
                    continue;
                }
            }
            judged += 1;
            report.add("redis_up", &[("address", address)], up);
        }
        if judged == 0 {
            return Err(failures.swap_remove(0));
        }
        state::store(LOOKUPS, &lookups)?;
        let mut collection = Collection::from(report.families());
        collection.failures = failures;
        Ok(collection)
    }

    fn wants() -> Vec<String> {
        vec!["tcp 127.0.0.1:6379".to_owned()]
    }
}

/// What a server that was reached said.
struct Look {
    info: Result<String>,
    /// Why it does not serve, where it does not.
    trouble: Option<Error>,
}

impl Redis {
    fn look(&self, server: &Server, time: Duration, report: &mut Report) -> Result<Look, Trouble> {
        let labels = [("address", server.address.as_str())];
        let mut session = Session::open(&server.peer, self.tls.as_ref(), time).map_err(closed)?;
        if let Some(left) = session.connection.certificate_seconds_left() {
            report.add("redis_certificate_seconds_left", &labels, left as f64);
        }
        if let Some(auth) = &self.auth
            && let Reply::Error(said) = session.auth(auth).map_err(closed)?
        {
            return Err(shut_out(&said));
        }
        let before = Instant::now();
        let trouble = match session.call(&resp::command(&["PING"])).map_err(closed)? {
            Reply::Text(_) => {
                let seconds = before.elapsed().as_secs_f64();
                report.add("redis_ping_duration_seconds", &labels, seconds);
                None
            }
            Reply::Error(said) => match code(&said) {
                "NOAUTH" | "NOPERM" | "DENIED" => return Err(shut_out(&said)),
                // LOADING, BUSY, MASTERDOWN, too many clients: it is there and of no use.
                _ => Some(Error::unavailable(format!(
                    "does not serve: {}",
                    excerpt(&said)
                ))),
            },
        };
        let info = session
            .call(&resp::command(&["INFO"]))
            .and_then(|reply| match reply {
                Reply::Text(info) => Ok(info),
                Reply::Error(said) => Err(Error::rejected(format!(
                    "INFO is refused: {}",
                    excerpt(&said)
                ))),
            });
        Ok(Look { info, trouble })
    }
}

/// A conversation within its time.
struct Session {
    connection: Connection,
    /// Received and not understood yet.
    pending: Vec<u8>,
    end: Instant,
}

impl Session {
    fn open(peer: &Peer, tls: Option<&Tls>, time: Duration) -> Result<Self> {
        let end = Instant::now() + time;
        let connection = match peer {
            Peer::Tcp(host, port) => Connection::connect(host, *port, tls, time)?,
            Peer::Unix(path) => Connection::connect_unix(path, time)?,
        };
        Ok(Session {
            connection,
            pending: Vec::new(),
            end,
        })
    }

    fn auth(&mut self, auth: &Auth) -> Result<Reply> {
        match auth {
            Auth::Plain(command) => self.connection.send(command)?,
            Auth::Filled(command) => self.connection.send_filled(command)?,
        }
        self.reply()
    }

    fn call(&mut self, command: &[u8]) -> Result<Reply> {
        self.connection.send(command)?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Reply> {
        loop {
            // Bounded: parse refuses what is longer than REPLY_MAX as soon as its length is known.
            if let Some((reply, length)) = resp::parse(&self.pending)? {
                self.pending.drain(..length);
                return Ok(reply);
            }
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::unavailable("no answer in time"));
            }
            let piece = self.connection.receive(PIECE, left)?;
            if piece.is_empty() {
                return Err(Error::unavailable("closed the connection"));
            }
            self.pending.extend_from_slice(&piece);
        }
    }
}

/// A refusal of the host says nothing about the server; everything else does.
fn closed(error: Error) -> Trouble {
    match error {
        Error::Denied(_) | Error::Config(_) | Error::Internal(_) => Trouble::Unknown(error),
        Error::Unavailable { .. } | Error::Rejected(_) => Trouble::Down(error),
    }
}

/// The server answers, but not to us. Its words are not repeated: some servers repeat the password in them.
fn shut_out(said: &str) -> Trouble {
    let says = |part: &str| said.contains(part);
    let what = if code(said) == "NOAUTH" {
        "asks for a password: write password = \"{{secret:redis}}\""
    } else if code(said) == "NOPERM" {
        "the user may not ask: give it the rights +ping and +info"
    } else if code(said) == "DENIED" {
        "is in protected mode and refuses all but its own host: set a password or bind an address there"
    } else if code(said) == "WRONGPASS" || says("invalid password") {
        "wrong password, or the user is unknown or disabled: correct user and password"
    } else if says("no password is set") || says("without any password") {
        "has no password: remove password from config"
    } else if says("unbalanced quotes") {
        "the password holds a ' or a line break and cannot be sent: choose another"
    } else if says("wrong number of arguments") {
        "knows no users (Redis 6 and later do): remove user from config"
    } else {
        "refuses the password for a reason of its own: see its log"
    };
    Trouble::Unknown(Error::rejected(what))
}

/// The first word of an error.
fn code(said: &str) -> &str {
    said.split(' ').next().unwrap_or(said)
}

/// `AUTH`, with a secret in an inline command: RESP would need the length of the secret, which only the host knows.
/// Between single quotes a server takes everything but `'` as it stands.
fn auth(user: Option<&str>, password: Option<&str>) -> Result<Option<Auth>> {
    let Some(password) = password else {
        return match user {
            None => Ok(None),
            Some(_) => Err(Error::config(
                "config.user: there is no password for it: write password = \"{{secret:redis}}\"",
            )),
        };
    };
    let words: Vec<&str> = user.into_iter().chain([password]).collect();
    if !words.iter().any(|word| word.contains("{{secret:")) {
        let words: Vec<&str> = ["AUTH"].into_iter().chain(words).collect();
        return Ok(Some(Auth::Plain(resp::command(&words))));
    }
    let odd = |word: &&str| word.contains('\'') || word.contains(char::is_control);
    if words.iter().any(odd) {
        return Err(Error::config(
            "config: beside a {{secret:…}} user and password cannot hold a ' or a line break: choose others",
        ));
    }
    let quoted: Vec<String> = words.iter().map(|word| format!(" '{word}'")).collect();
    let line = format!("AUTH{}\r\n", quoted.concat());
    Ok(Some(Auth::Filled(line.into_bytes())))
}

fn peer(address: &str) -> Result<Peer> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok(Peer::Unix(path.to_owned()));
    }
    let wrong = |write: String| {
        Error::config(format!(
            "config.address: {address:?} is no address: write {write:?}"
        ))
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(wrong(format!("{address}:6379")));
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match bare {
        Some(bare) => bare,
        None if host.contains(':') => return Err(wrong(format!("[{address}]:6379"))),
        None => host,
    };
    match port.parse() {
        Ok(port) if port > 0 && !host.is_empty() && !host.contains('/') => {
            Ok(Peer::Tcp(host.to_owned(), port))
        }
        _ => Err(wrong("127.0.0.1:6379".to_owned())),
    }
}

watchfire_plugin_sdk::probe!(Redis);

#[cfg(test)]
mod tests;
