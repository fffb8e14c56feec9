//! The whole way out, over real sockets of this host's loopback.

mod dns;
mod guest;
mod http;
mod mail;
mod secrets;
mod tcp;
mod tls;
mod walls;

use super::{Network, NetworkSettings, Reach};
use crate::sandbox::grants::{Grants, SecretGrant};
use crate::sandbox::secrets::Secrets;
use crate::sandbox::types::{CallError, SecretSource};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};

/// More than any test needs; only a defect waits so long.
const LONG: Duration = Duration::from_secs(20);

/// What a test gives a use of a plugin.
#[derive(Default)]
struct Setup {
    grants: Grants,
    settings: NetworkSettings,
    /// Names and what they resolve to; others do not. A name that stands here several times answers in turn, and
    /// stays with the last.
    names: Vec<(&'static str, &'static [&'static str])>,
    secrets: Vec<(&'static str, String)>,
}

/// A [`Reach`] and what must live as long.
struct Fixture {
    reach: Arc<Reach>,
    /// Every name that was looked up.
    asked: Arc<Mutex<Vec<String>>>,
    _secrets: tempfile::TempDir,
}

impl Setup {
    fn http(lines: &[&str]) -> Self {
        Setup {
            grants: Grants {
                http: own(lines),
                ..Grants::default()
            },
            ..Setup::default()
        }
    }

    fn tcp(lines: &[&str]) -> Self {
        Setup {
            grants: Grants {
                tcp: own(lines),
                ..Grants::default()
            },
            ..Setup::default()
        }
    }

    fn bind(mut self, name: &'static str, to: &str, value: &str) -> Self {
        let to = to.to_owned();
        self.grants
            .secrets
            .insert(name.to_owned(), SecretGrant { to, reveal: false });
        self.secrets.push((name, value.to_owned()));
        self
    }

    fn make(mut self) -> Fixture {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let names = self.names;
        let seen = Arc::clone(&asked);
        self.settings.lookup = Arc::new(move |name| {
            let turn = {
                let mut seen = seen.lock().expect("lock");
                seen.push(name.to_owned());
                seen.iter().filter(|asked| *asked == name).count()
            };
            let answers = names.iter().filter(|(known, _)| *known == name);
            let found = answers.take(turn).last();
            let found = found.ok_or_else(|| std::io::Error::other("no such name"))?;
            Ok(found
                .1
                .iter()
                .map(|ip| ip.parse::<IpAddr>().expect("an address"))
                .collect())
        });
        let folder = tempfile::tempdir().expect("a folder");
        let mut sources = BTreeMap::new();
        for (name, value) in &self.secrets {
            let path = folder.path().join(name);
            std::fs::write(&path, value).expect("written");
            sources.insert((*name).to_owned(), SecretSource::File(path));
        }
        let secrets = Arc::new(Secrets::new(sources));
        let network = Arc::new(Network::new(self.settings));
        let reach = Reach::new("ops-slack".into(), &self.grants, secrets, network).expect("grants");
        Fixture {
            reach: Arc::new(reach),
            asked,
            _secrets: folder,
        }
    }
}

fn own(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// A port where nobody listens.
async fn closed_port() -> u16 {
    listen().await.1
}

/// Reads until `end` stands at the end.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A certificate for `localhost` and 127.0.0.1 that signs itself.
struct SelfSigned {
    certificate: CertificateDer<'static>,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl SelfSigned {
    fn until(year: i32) -> Self {
        let mut params =
            rcgen::CertificateParams::new(own(&["localhost", "127.0.0.1"])).expect("names");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a server");
        SelfSigned {
            certificate,
            acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(config)),
        }
    }
}

/// Accepts for ever; each connection is served on a task of its own. Ends with the test's runtime.
fn serve<F, S>(listener: TcpListener, each: F)
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
}

fn is_unavailable(error: &CallError) -> bool {
    matches!(error, CallError::Unavailable { .. })
}
