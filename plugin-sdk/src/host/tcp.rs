//! Connections. Grant `tcp`, as `host:port`. The host dials, resolves and, where asked, does TLS.
//!
//! ```
//! use std::time::Duration;
//! use watchfire_plugin_sdk::host::{DEFAULT_TIMEOUT, tcp::Connection};
//! use watchfire_plugin_sdk::mock;
//!
//! let host = mock::Host::new();
//! host.tcp("cache:6379", |sent| if sent == b"PING\r\n" { b"+PONG\r\n".to_vec() } else { Vec::new() });
//!
//! let mut redis = Connection::connect("cache", 6379, None, DEFAULT_TIMEOUT)?;
//! redis.send(b"PING\r\n")?;
//! assert_eq!(redis.receive_until(b"\r\n", 512, DEFAULT_TIMEOUT)?, b"+PONG\r\n");
//! # Ok::<(), watchfire_plugin_sdk::Error>(())
//! ```

use std::time::Duration;

use super::millis;
use crate::{Error, Result, calls};

/// Bytes asked for at a time while looking for the end of a line.
const PIECE: u32 = 8 * 1024;

/// How to do TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name the certificate must carry; `None` = the dialled host.
    pub server_name: Option<String>,
    /// `false` (grant `insecure`) takes any certificate and still tells its dates.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            server_name: None,
            verify: true,
        }
    }
}

/// A connection. Closed when dropped.
#[derive(Debug)]
pub struct Connection {
    raw: calls::Connection,
    /// Received and not taken yet.
    pending: Vec<u8>,
}

impl Connection {
    /// Dials.
    ///
    /// # Errors
    /// [`Denied`](Error::Denied) without the grant, [`Unavailable`](Error::Unavailable) where nobody answered in time.
    pub fn connect(host: &str, port: u16, tls: Option<&Tls>, timeout: Duration) -> Result<Self> {
        calls::tcp_connect(host, port, tls, millis(timeout)).map(Connection::over)
    }

    /// Dials a unix socket.
    ///
    /// # Errors
    /// As [`connect`](Connection::connect).
    pub fn connect_unix(path: &str, timeout: Duration) -> Result<Self> {
        calls::tcp_connect_unix(path, millis(timeout)).map(Connection::over)
    }

    fn over(raw: calls::Connection) -> Self {
        Connection {
            raw,
            pending: Vec::new(),
        }
    }

    /// How long the dial took, with the TLS handshake.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.raw.elapsed_us())
    }

    /// Until the peer's certificate expires, seconds, negative afterwards; `None` without TLS.
    pub fn certificate_seconds_left(&self) -> Option<i64> {
        self.raw.certificate_seconds_left()
    }

    /// Sends everything.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) where the peer has gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.raw.send(bytes)
    }

    /// Sends everything, with `{{secret:name}}` filled in by the host.
    ///
    /// # Errors
    /// As [`send`](Connection::send), and [`Denied`](Error::Denied) for a secret that is not bound to this peer.
    pub fn send_filled(&mut self, bytes: &[u8]) -> Result<()> {
        self.raw.send_filled(bytes)
    }

    /// At least one byte and at most `limit`; nothing at the end of the stream.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) where nothing came in time.
    pub fn receive(&mut self, limit: u32, timeout: Duration) -> Result<Vec<u8>> {
        if self.pending.is_empty() {
            return self.raw.receive(limit, millis(timeout));
        }
        let count = self.pending.len().min(limit as usize);
        Ok(self.pending.drain(..count).collect())
    }

    /// Exactly `count` bytes; `timeout` counts for each piece of them.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) where they did not come in time or the stream ended before.
    pub fn receive_exact(&mut self, count: usize, timeout: Duration) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let missing = u32::try_from(count - bytes.len()).unwrap_or(u32::MAX);
            let piece = self.receive(missing, timeout)?;
            if piece.is_empty() {
                return Err(ended(&format!("{count} bytes"), bytes.len()));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Everything up to and with `end`, at most `limit` bytes; `timeout` counts for each piece.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) where it did not come in time or the stream ended before,
    /// [`Rejected`](Error::Rejected) where `end` is not among the first `limit` bytes.
    pub fn receive_until(
        &mut self,
        end: &[u8],
        limit: usize,
        timeout: Duration,
    ) -> Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.pending[searched..], end) {
                let count = searched + at + end.len();
                if count <= limit {
                    return Ok(self.pending.drain(..count).collect());
                }
            }
            if self.pending.len() >= limit {
                return Err(Error::rejected(format!(
                    "the answer did not end within {limit} bytes"
                )));
            }
            // The end may begin in this piece and finish in the next.
            searched = self
                .pending
                .len()
                .saturating_sub(end.len().saturating_sub(1));
            let piece = self.raw.receive(PIECE, millis(timeout))?;
            if piece.is_empty() {
                return Err(ended("the end of the line", self.pending.len()));
            }
            self.pending.extend_from_slice(&piece);
        }
    }

    /// Turns the connection into TLS (STARTTLS, PostgreSQL's SSLRequest).
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) where the handshake fails; [`Rejected`](Error::Rejected) where the peer has
    /// sent more than was taken, since that would now be read as if it had come over TLS.
    pub fn start_tls(&mut self, tls: &Tls) -> Result<()> {
        if !self.pending.is_empty() {
            return Err(Error::rejected(
                "the peer went on in clear text where TLS should begin",
            ));
        }
        self.raw.start_tls(tls)
    }
}

fn ended(wanted: &str, received: usize) -> Error {
    Error::unavailable(format!(
        "the connection ended after {received} bytes, before {wanted}"
    ))
}

fn find(within: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    within
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock;

    const WAIT: Duration = Duration::from_secs(1);

    fn peer(answer: &'static [u8]) -> (mock::Host, Connection) {
        let host = mock::Host::new();
        host.tcp("peer:1", move |sent| {
            if sent.is_empty() {
                answer.to_vec()
            } else {
                sent.to_vec()
            }
        });
        let connection = Connection::connect("peer", 1, None, WAIT).unwrap();
        (host, connection)
    }

    #[test]
    fn lines_and_lengths_can_be_mixed() {
        let (_host, mut peer) = peer(b"$5\r\nhello\r\n+OK\r\n");
        assert_eq!(peer.receive_until(b"\r\n", 99, WAIT).unwrap(), b"$5\r\n");
        assert_eq!(peer.receive_exact(7, WAIT).unwrap(), b"hello\r\n");
        assert_eq!(peer.receive(2, WAIT).unwrap(), b"+O");
        assert_eq!(peer.receive_until(b"\r\n", 99, WAIT).unwrap(), b"K\r\n");
        assert_eq!(peer.receive(9, WAIT).unwrap(), b"");
    }

    #[test]
    fn an_end_that_does_not_come_is_an_error() {
        let (_host, mut open) = peer(b"no end");
        assert!(matches!(
            open.receive_until(b"\n", 99, WAIT),
            Err(Error::Unavailable { .. })
        ));
        assert!(matches!(
            open.receive_until(b"\n", 3, WAIT),
            Err(Error::Rejected(_))
        ));
        assert!(matches!(
            open.receive_exact(7, WAIT),
            Err(Error::Unavailable { .. })
        ));
    }

    #[test]
    fn tls_never_begins_over_bytes_left_in_clear() {
        let (host, mut greeting) = peer(b"220 ready\r\nmore");
        greeting.receive_until(b"\r\n", 99, WAIT).unwrap();
        assert!(matches!(
            greeting.start_tls(&Tls::default()),
            Err(Error::Rejected(_))
        ));
        greeting.receive(99, WAIT).unwrap();
        greeting.start_tls(&Tls::default()).unwrap();
        greeting.send(b"EHLO").unwrap();
        assert_eq!(host.sent("peer:1"), b"EHLO");
    }
}
