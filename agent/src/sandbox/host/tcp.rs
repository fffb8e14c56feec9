//! The interface `tcp`: connections that the host dials, and turns into TLS where asked, for guests that speak a
//! protocol of their own (PostgreSQL, Redis, SMTP banners).
//!
//! A connection lives in its store's table and is closed with it: nothing is left open behind a call.

use super::{Charged, HostState};
use crate::sandbox::bindings::wit;
use crate::sandbox::egress::grant::{Host, Target, unix_path};
use crate::sandbox::egress::reach::{Reach, Slot};
use crate::sandbox::egress::tls;
use crate::sandbox::types::CallError;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use wasmtime::component::Resource;

/// How to do TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Who must answer; none: the host that was dialled.
    pub server_name: Option<String>,
    /// False needs the grant `insecure`.
    pub verify: bool,
}

/// One open connection.
pub struct Connection {
    reach: Arc<Reach>,
    target: Target,
    /// None: it broke, or a part of a message was sent and the rest was not.
    io: Option<Box<dyn Io>>,
    elapsed: Duration,
    certificate_seconds_left: Option<i64>,
    /// Bytes received so far.
    received: usize,
    _slot: Slot,
}

/// Bytes of one `send`.
pub const SEND_BYTES_MAX: usize = 4 << 20;
/// Bytes of one `receive`: a fraction of what may cross to the guest in one call.
pub const RECEIVE_BYTES_MAX: usize = 1 << 20;
/// Bytes that one connection may bring: four times what a call may yield, so that a peer cannot talk for ever.
pub const CONNECTION_BYTES_MAX: usize = 16 << 20;
/// Bytes of one read from the socket: a TLS record.
const READ_BYTES: usize = 16 << 10;
/// Where the guest names no time.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// Least time for one of several addresses.
const DIAL_MIN: Duration = Duration::from_millis(200);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Reach {
    /// Dials `host:port`. `limit` is what is left of the call.
    pub async fn connect(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        tls: Option<&TlsSettings>,
        timeout_ms: u32,
        limit: Duration,
    ) -> Result<Connection, CallError> {
        let target = match Host::parse(host) {
            Some(host) if port != 0 => Target::Tcp { host, port },
            _ => return Err(self.wrong(format!("{host:?} port {port} cannot be dialled"))),
        };
        let allowance = self.admit(&target)?;
        if let Some(tls) = tls {
            self.admit_tls(&target, tls)?;
        }
        let slot = self.slot()?;
        let wait = wait(timeout_ms, limit);
        let late = || self.unavailable(format!("{target}: no connection within {wait:?}"));
        let dialled = timeout(wait, async {
            let addresses = self.addresses(&target, &allowance).await?;
            let started = Instant::now();
            let stream = self.dial(&target, &addresses, started + wait).await?;
            // The guest writes whole messages; waiting for more only adds the peer's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
            let mut connection = self.opened(target.clone(), Box::new(stream), started, slot);
            if let Some(tls) = tls {
                connection.handshake(tls).await?;
            }
            Ok(connection)
        });
        dialled.await.unwrap_or_else(|_| Err(late()))
    }

    /// Opens a unix socket. `limit` is what is left of the call.
    pub async fn connect_unix(
        self: &Arc<Self>,
        path: &str,
        timeout_ms: u32,
        limit: Duration,
    ) -> Result<Connection, CallError> {
        let path = unix_path(path).map_err(|e| self.wrong(format!("the socket {path:?} {e}")))?;
        let target = Target::Unix(path.clone());
        self.admit(&target)?;
        let slot = self.slot()?;
        let wait = wait(timeout_ms, limit);
        let started = Instant::now();
        match timeout(wait, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => Ok(self.opened(target, Box::new(stream), started, slot)),
            Ok(Err(e)) => Err(self.unavailable(format!("{target}: {e}"))),
            Err(_) => Err(self.unavailable(format!("{target}: no connection within {wait:?}"))),
        }
    }

    fn opened(
        self: &Arc<Self>,
        target: Target,
        io: Box<dyn Io>,
        started: Instant,
        slot: Slot,
    ) -> Connection {
        Connection {
            reach: Arc::clone(self),
            target,
            io: Some(io),
            elapsed: started.elapsed(),
            certificate_seconds_left: None,
            received: 0,
            _slot: slot,
        }
    }

    fn admit_tls(&self, target: &Target, tls: &TlsSettings) -> Result<(), CallError> {
        if tls.verify || self.rules.insecure {
            return Ok(());
        }
        let why = format!("{target} without verification of its certificate is not granted");
        Err(self.denied(&why, "insecure = true"))
    }

    /// The addresses in turn, each with its share of the time.
    async fn dial(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        until: Instant,
    ) -> Result<TcpStream, CallError> {
        let mut last = "it has no address".to_owned();
        for (n, address) in addresses.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let share = (left / u32::try_from(addresses.len() - n).unwrap_or(1)).max(DIAL_MIN);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => last = e.to_string(),
                Err(_) => last = format!("no connection within {share:?}"),
            }
        }
        Err(self.unavailable(format!("{target}: {last}")))
    }
}

impl Connection {
    /// Dial and TLS handshake, without the look-up of the name.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Until the peer's certificate ends; none without TLS.
    pub fn certificate_seconds_left(&self) -> Option<i64> {
        self.certificate_seconds_left
    }

    /// Sends all of it, or breaks the connection.
    pub async fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<(), CallError> {
        if bytes.len() > SEND_BYTES_MAX {
            return Err(self.reach.wrong(format!(
                "a send may have {SEND_BYTES_MAX} bytes, not {}",
                bytes.len()
            )));
        }
        let mut io = self.take()?;
        let wait = WAIT_DEFAULT.min(limit);
        let sent = timeout(wait, async {
            io.write_all(bytes).await?;
            io.flush().await
        });
        match sent.await {
            Ok(Ok(())) => {
                self.io = Some(io);
                Ok(())
            }
            Ok(Err(e)) => Err(self.failed(e)),
            Err(_) => Err(self.failed(format!("the peer took nothing for {wait:?}"))),
        }
    }

    /// Fills in the secrets, sends, and says how many bytes went out. What the peer echoes is not masked, as it is
    /// with HTTP: a stream may be cut anywhere. Bind secrets to peers that do not echo.
    pub async fn send_filled(&mut self, bytes: &[u8], limit: Duration) -> Result<usize, CallError> {
        let filled = self.reach.secrets.fill(bytes, &self.target).await?;
        self.send(&filled.bytes, limit).await?;
        Ok(filled.bytes.len())
    }

    /// What is there, at most `bytes`; empty at the end of the stream. A timeout leaves the connection as it is.
    pub async fn receive(
        &mut self,
        bytes: u32,
        timeout_ms: u32,
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let left = CONNECTION_BYTES_MAX - self.received;
        if left == 0 {
            return Err(self.failed(format!("it brought more than {CONNECTION_BYTES_MAX} bytes")));
        }
        if bytes == 0 {
            return Err(self
                .reach
                .wrong("a receive needs room for one byte at least"));
        }
        let room = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(RECEIVE_BYTES_MAX)
            .min(left);
        let mut io = self.take()?;
        let wait = wait(timeout_ms, limit);
        // A guest that asks for a megabyte and gets ten bytes costs one read of usual size.
        let mut taken = Vec::with_capacity(room.min(READ_BYTES));
        let mut bounded = (&mut *io).take(room as u64);
        match timeout(wait, bounded.read_buf(&mut taken)).await {
            Ok(Ok(read)) => {
                self.received += read;
                self.io = Some(io);
                Ok(taken)
            }
            Ok(Err(e)) => Err(self.failed(e)),
            Err(_) => {
                self.io = Some(io);
                Err(self.failed(format!("nothing came for {wait:?}")))
            }
        }
    }

    /// Turns the open connection into TLS.
    pub async fn start_tls(
        &mut self,
        settings: &TlsSettings,
        limit: Duration,
    ) -> Result<(), CallError> {
        self.reach.admit_tls(&self.target, settings)?;
        if self.certificate_seconds_left.is_some() {
            return Err(self
                .reach
                .wrong(format!("{} speaks TLS already", self.target)));
        }
        let wait = WAIT_DEFAULT.min(limit);
        match timeout(wait, self.handshake(settings)).await {
            Ok(done) => done,
            Err(_) => Err(self.failed(format!("no TLS handshake within {wait:?}"))),
        }
    }

    async fn handshake(&mut self, settings: &TlsSettings) -> Result<(), CallError> {
        let name = match (&settings.server_name, self.target.host()) {
            (Some(name), _) => Host::parse(name),
            (None, host) => host.cloned(),
        };
        let name = match name {
            Some(Host::Name(name)) => ServerName::try_from(name).ok(),
            Some(Host::Ip(ip)) => Some(ServerName::IpAddress(ip.into())),
            None => None,
        };
        let name = name.ok_or_else(|| {
            self.reach
                .wrong(format!("{}: TLS needs the name of the server", self.target))
        })?;
        let config = self.reach.network.trust.config(settings.verify).await;
        let config = config.map_err(|e| self.reach.unavailable(e.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls::own_sessions(&config)));
        let io = self.take()?;
        let started = Instant::now();
        let stream = connector
            .connect(name, io)
            .await
            .map_err(|e| match tls::in_words(&e) {
                Some(words) => self.failed(words),
                None => self.failed(e),
            })?;
        self.elapsed += started.elapsed();
        let certificates = stream.get_ref().1.peer_certificates();
        self.certificate_seconds_left = certificates
            .and_then(|c| c.first())
            .and_then(|c| tls::seconds_left(c));
        self.io = Some(Box::new(stream));
        Ok(())
    }

    /// Taken out for the time of an operation: whoever is cut off in between leaves a broken connection, not half
    /// a message.
    fn take(&mut self) -> Result<Box<dyn Io>, CallError> {
        let broken = || {
            self.reach
                .unavailable(format!("{}: the connection is broken", self.target))
        };
        self.io.take().ok_or_else(broken)
    }

    fn failed(&self, cause: impl std::fmt::Display) -> CallError {
        self.reach.unavailable(format!("{}: {cause}", self.target))
    }
}

fn wait(timeout_ms: u32, limit: Duration) -> Duration {
    match timeout_ms {
        0 => WAIT_DEFAULT.min(limit),
        ms => Duration::from_millis(u64::from(ms)).min(limit),
    }
}

type Answer<T> = wasmtime::Result<Result<T, wit::types::Error>>;

impl wit::tcp::Host for HostState {
    async fn connect(
        &mut self,
        host: String,
        port: u16,
        tls: Option<wit::tcp::Tls>,
        timeout_ms: u32,
    ) -> Answer<Resource<Connection>> {
        let charged = self.charge()?;
        let tls = tls.map(TlsSettings::from);
        let opened = match self.not_in_dry_run("opening a connection") {
            Ok(()) => {
                let reach = Arc::clone(&self.using.reach);
                self.cost.requests += 1;
                reach
                    .connect(&host, port, tls.as_ref(), timeout_ms, self.left())
                    .await
            }
            Err(e) => Err(e),
        };
        self.opened(charged, opened)
    }

    async fn connect_unix(
        &mut self,
        path: String,
        timeout_ms: u32,
    ) -> Answer<Resource<Connection>> {
        let charged = self.charge()?;
        let opened = match self.not_in_dry_run("opening a connection") {
            Ok(()) => {
                let reach = Arc::clone(&self.using.reach);
                self.cost.requests += 1;
                reach.connect_unix(&path, timeout_ms, self.left()).await
            }
            Err(e) => Err(e),
        };
        self.opened(charged, opened)
    }
}

impl wit::tcp::HostConnection for HostState {
    async fn elapsed_us(&mut self, this: Resource<Connection>) -> wasmtime::Result<u64> {
        let charged = self.charge()?;
        let elapsed = super::micros(self.table.get(&this)?.elapsed());
        self.settle(charged);
        Ok(elapsed)
    }

    async fn certificate_seconds_left(
        &mut self,
        this: Resource<Connection>,
    ) -> wasmtime::Result<Option<i64>> {
        let charged = self.charge()?;
        let seconds = self.table.get(&this)?.certificate_seconds_left();
        self.settle(charged);
        Ok(seconds)
    }

    async fn send(&mut self, this: Resource<Connection>, bytes: Vec<u8>) -> Answer<()> {
        let charged = self.charge()?;
        let left = self.left();
        let sent = self.table.get_mut(&this)?.send(&bytes, left).await;
        self.cost.bytes_out += sent.as_ref().map_or(0, |()| bytes.len() as u64);
        self.answer(charged, sent)
    }

    async fn send_filled(&mut self, this: Resource<Connection>, bytes: Vec<u8>) -> Answer<()> {
        let charged = self.charge()?;
        let left = self.left();
        let sent = self.table.get_mut(&this)?.send_filled(&bytes, left).await;
        self.cost.bytes_out += sent.as_ref().map_or(0, |sent| *sent as u64);
        self.answer(charged, sent.map(drop))
    }

    async fn receive(
        &mut self,
        this: Resource<Connection>,
        limit: u32,
        timeout_ms: u32,
    ) -> Answer<Vec<u8>> {
        let charged = self.charge()?;
        let left = self.left();
        let received = self
            .table
            .get_mut(&this)?
            .receive(limit, timeout_ms, left)
            .await;
        self.answer(charged, received)
    }

    async fn start_tls(
        &mut self,
        this: Resource<Connection>,
        settings: wit::tcp::Tls,
    ) -> Answer<()> {
        let charged = self.charge()?;
        let left = self.left();
        let done = self
            .table
            .get_mut(&this)?
            .start_tls(&settings.into(), left)
            .await;
        self.answer(charged, done)
    }

    async fn drop(&mut self, this: Resource<Connection>) -> wasmtime::Result<()> {
        // Not charged: a guest that gives back is not to be ended for it.
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostState {
    fn opened(
        &mut self,
        charged: Charged,
        opened: Result<Connection, CallError>,
    ) -> Answer<Resource<Connection>> {
        match opened {
            Ok(connection) => {
                let resource = self.table.push(connection)?;
                self.answer(charged, Ok(resource))
            }
            Err(e) => self.answer(charged, Err(e)),
        }
    }
}

impl From<wit::tcp::Tls> for TlsSettings {
    fn from(tls: wit::tcp::Tls) -> Self {
        TlsSettings {
            server_name: tls.server_name,
            verify: tls.verify,
        }
    }
}
