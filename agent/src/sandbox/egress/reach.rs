//! All that one configured use of a plugin may reach, and the means to reach it.

use super::address::{Standing, standing};
use super::grant::{Allowance, GrantError, Host, Rules, Target};
use super::resolve::{LOOKUPS, Lookup, ResolveError, Resolver, system_lookup};
use super::tls::Trust;
use crate::sandbox::grants::Grants;
use crate::sandbox::host::http::Clients;
use crate::sandbox::secrets::{Mask, Secrets, UseSecrets};
use crate::sandbox::types::{CallError, MailServer};
use arc_swap::ArcSwapOption;
use rustls::pki_types::CertificateDer;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests and connections of the whole agent at a time: far below the usual 1,024 descriptors.
const SLOTS: usize = 32;
/// Requests and connections of one use at a time: eight uses that hang leave room for others.
const SLOTS_PER_USE: usize = 4;

/// What the process shares for going out. Made once.
pub struct Network {
    /// Whom TLS trusts.
    pub trust: Trust,
    /// `[mail]`; a new configuration stores another.
    pub mail: ArcSwapOption<MailServer>,
    /// Names the servers of the `dns` interface: resolv.conf(5).
    pub resolv_conf: PathBuf,
    lookup: Lookup,
    lookups: Arc<Semaphore>,
    slots: Arc<Semaphore>,
}

/// How to make a [`Network`].
pub struct NetworkSettings {
    /// Trusted beside the system's roots.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// `[mail]`.
    pub mail: Option<MailServer>,
    /// Where names become addresses.
    pub lookup: Lookup,
    /// Names the servers of the `dns` interface.
    pub resolv_conf: PathBuf,
}

/// One use's way out. Made with the use, kept over its calls, dropped when the use changes: with it go its idle
/// connections and its TLS sessions, which no other use ever shares.
pub struct Reach {
    /// Name of the use in every refusal.
    pub id: Arc<str>,
    /// What is shared.
    pub network: Arc<Network>,
    /// What the operator granted.
    pub rules: Rules,
    /// Its secrets.
    pub secrets: UseSecrets,
    /// Its HTTP clients.
    pub(crate) clients: Clients,
    /// Its resolver.
    pub(crate) resolver: Resolver,
    slots: Arc<Semaphore>,
}

/// The right to one request or connection; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    _of_use: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        NetworkSettings {
            extra_roots: Vec::new(),
            mail: None,
            lookup: Arc::new(system_lookup),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

impl Network {
    /// Opens nothing: roots are read at the first use of TLS.
    pub fn new(settings: NetworkSettings) -> Self {
        Network {
            trust: Trust::new(settings.extra_roots),
            mail: ArcSwapOption::new(settings.mail.map(Arc::new)),
            resolv_conf: settings.resolv_conf,
            lookup: settings.lookup,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            slots: Arc::new(Semaphore::new(SLOTS)),
        }
    }
}

impl Reach {
    /// Parses the grants of one use; all mistakes at once.
    pub fn new(
        id: Arc<str>,
        grants: &Grants,
        secrets: Arc<Secrets>,
        network: Arc<Network>,
    ) -> Result<Self, Vec<GrantError>> {
        let rules = Rules::parse(grants);
        let secrets = UseSecrets::new(Arc::clone(&id), secrets, &grants.secrets);
        let (rules, secrets) = match (rules, secrets) {
            (Ok(rules), Ok(secrets)) => (rules, secrets),
            (rules, secrets) => {
                let both = [rules.err(), secrets.err()];
                return Err(both.into_iter().flatten().flatten().collect());
            }
        };
        Ok(Reach {
            resolver: Resolver::new(Arc::clone(&network.lookup), Arc::clone(&network.lookups)),
            clients: Clients::default(),
            slots: Arc::new(Semaphore::new(SLOTS_PER_USE)),
            id,
            network,
            rules,
            secrets,
        })
    }

    /// The mask for texts of this use.
    pub fn mask(&self) -> &Mask {
        self.secrets.mask()
    }

    /// Whether a target is granted, and what may answer there. A literal address is judged here, because no
    /// resolver will ever see it.
    pub fn admit(&self, target: &Target) -> Result<Allowance, CallError> {
        if let Some(Host::Ip(ip)) = target.host()
            && let Standing::Never(what) = standing(*ip)
        {
            let text = format!("{target} is {what}; no grant opens it");
            return Err(CallError::Denied(self.mask().apply(&text).into_owned()));
        }
        let Some(allowance) = self.rules.covers(target) else {
            return Err(self.denied(&format!("{target} is not granted"), &target.grant_line()));
        };
        if let Some(Host::Ip(ip)) = target.host()
            && let Standing::Local(what) = standing(*ip)
            && !allowance.admits_local(*ip)
        {
            let why = format!("{target} is {what}, which a wildcard does not open");
            return Err(self.denied(&why, &target.grant_line()));
        }
        Ok(allowance)
    }

    /// The addresses to dial for an admitted host and port: at least one, each checked.
    pub async fn addresses(
        &self,
        target: &Target,
        allowance: &Allowance,
    ) -> Result<Vec<SocketAddr>, CallError> {
        let (host, port) = match target {
            Target::Http { host, port, .. } | Target::Tcp { host, port } => (host, *port),
            Target::Unix(_) => return Ok(Vec::new()),
        };
        let ips: Vec<IpAddr> = match host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => {
                let found = self.resolver.resolve(name, allowance).await;
                found.map_err(|e| self.unresolved(&e, target))?
            }
        };
        Ok(ips
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect())
    }

    /// What a failed look-up means to the guest.
    pub fn unresolved(&self, error: &ResolveError, target: &Target) -> CallError {
        match error {
            ResolveError::Local { .. } => self.denied(&error.to_string(), &target.grant_line()),
            ResolveError::Never { .. } => {
                CallError::Denied(self.mask().apply(&error.to_string()).into_owned())
            }
            ResolveError::Failed { .. } | ResolveError::Late { .. } => {
                self.unavailable(error.to_string())
            }
        }
    }

    /// The right to one more request or connection. Refused at once where all are taken: a queue here would only
    /// eat the caller's deadline.
    pub fn slot(&self) -> Result<Slot, CallError> {
        let of_use = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let id = &self.id;
            self.unavailable(format!(
                "\"{id}\" has {SLOTS_PER_USE} requests and connections open, its limit"
            ))
        })?;
        let of_all = Arc::clone(&self.network.slots)
            .try_acquire_owned()
            .map_err(|_| {
                self.unavailable(format!(
                    "the agent has {SLOTS} requests and connections open, its limit"
                ))
            })?;
        Ok(Slot {
            _of_use: of_use,
            _of_all: of_all,
        })
    }

    /// A refusal that ends with the line to add.
    pub fn denied(&self, why: &str, line: &str) -> CallError {
        let text = format!("{why}; add `{line}` to the grant of \"{}\"", self.id);
        CallError::Denied(self.mask().apply(&text).into_owned())
    }

    /// The other side's failure, masked.
    pub fn unavailable(&self, message: impl AsRef<str>) -> CallError {
        CallError::Unavailable {
            message: self.mask().apply(message.as_ref()).into_owned(),
            retry_after: None,
        }
    }

    /// The caller's mistake, masked.
    pub fn wrong(&self, message: impl AsRef<str>) -> CallError {
        CallError::Config(self.mask().apply(message.as_ref()).into_owned())
    }
}
