//! TLS towards the world: whom to trust, and what a certificate says about its end.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use x509_cert::der::Decode;

/// After this time the system's roots are read again: the agent outlives updates of their package.
const ROOTS_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// TLS sessions a client remembers; it keeps one idle connection a host.
const SESSIONS_MAX: usize = 4;

/// The system's roots could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no root certificates to trust ({reason}): install the package `ca-certificates`, or point SSL_CERT_FILE at a bundle"
)]
pub struct NoRoots {
    /// The verifier's words.
    reason: String,
}

/// Whom the agent trusts: the system's roots, and those added to them.
pub struct Trust {
    provider: Arc<CryptoProvider>,
    extra_roots: Vec<CertificateDer<'static>>,
    /// The configuration made from the roots, and when they were read.
    verified: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
    unverified: Arc<ClientConfig>,
}

/// What a handshake came to, where rustls's own words would not tell anybody what to do.
pub fn in_words(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};
    let mut inner = error;
    // An I/O error carries it, and may be carried by another one; `source` skips what is carried.
    while let Some(carried) = inner.downcast_ref::<std::io::Error>() {
        inner = carried.get_ref()?;
    }
    match inner.downcast_ref::<Error>()? {
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => Some(
            "it offers TLS older than 1.2 only, which is refused: let the other side speak TLS 1.2 or 1.3",
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("what answers there does not speak TLS: is it meant without, or another port?")
        }
        _ => None,
    }
}

/// Accepts every certificate but still wants the peer to hold its key. Grant `insecure` only.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

/// Makes ring the provider of whatever in this process does not name its own. Once, at the start; later calls
/// change nothing.
pub fn install_crypto_provider() {
    // An error only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Trust {
    /// `extra_roots` are trusted beside the system's.
    pub fn new(extra_roots: Vec<CertificateDer<'static>>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let any = Arc::new(AcceptAny(Arc::clone(&provider)));
        Trust {
            unverified: Arc::new(config(&provider, any)),
            provider,
            extra_roots,
            verified: Mutex::new(None),
        }
    }

    /// The shared configuration; two calls yield the same `Arc` until the roots are read again.
    pub async fn config(&self, verify: bool) -> Result<Arc<ClientConfig>, NoRoots> {
        if !verify {
            return Ok(Arc::clone(&self.unverified));
        }
        let known = self.known();
        if let Some((read_at, config)) = &known
            && read_at.elapsed() < ROOTS_LIFETIME
        {
            return Ok(Arc::clone(config));
        }
        let provider = Arc::clone(&self.provider);
        let extra = self.extra_roots.clone();
        // A hundred and more files are read and parsed here. Two callers may do it at once; the later one wins.
        let read = tokio::task::spawn_blocking(move || {
            rustls_platform_verifier::Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
                .map(|verifier| Arc::new(config(&provider, Arc::new(verifier))))
                .map_err(|e| e.to_string())
        });
        match (read.await.unwrap_or_else(|e| Err(e.to_string())), known) {
            (Ok(config), _) => {
                *self.verified.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((Instant::now(), Arc::clone(&config)));
                Ok(config)
            }
            // The package is being replaced right now: yesterday's roots are better than none.
            (Err(_), Some((_, config))) => Ok(config),
            (Err(reason), None) => Err(NoRoots { reason }),
        }
    }

    /// The roots beside the system's.
    pub fn extra_roots(&self) -> &[CertificateDer<'static>] {
        &self.extra_roots
    }

    fn known(&self) -> Option<(Instant, Arc<ClientConfig>)> {
        self.verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A copy with session memory of its own: uses never resume each other's sessions.
pub fn own_sessions(shared: &ClientConfig) -> ClientConfig {
    let mut config = shared.clone();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    config
}

/// Seconds from now until the certificate ends; negative when it has. None: it cannot be read.
pub fn seconds_left(certificate: &[u8]) -> Option<i64> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let end = certificate
        .tbs_certificate
        .validity
        .not_after
        .to_unix_duration();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    let seconds = |d: Duration| i64::try_from(d.as_secs()).ok();
    Some(seconds(end)? - seconds(now)?)
}

fn config(provider: &Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    // Invariant: ring serves both versions.
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
