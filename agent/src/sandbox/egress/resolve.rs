//! The system's resolver, bounded and filtered.
//!
//! `getaddrinfo` runs on the blocking pool and cannot be cancelled: whoever waits for it gives up after
//! [`LOOKUP_WAIT`], the look-up itself goes on and keeps its two permits until it ends. So a resolver that
//! swallows questions can hold at most [`LOOKUPS`] threads, and one use of a plugin at most [`LOOKUPS_PER_USE`].

use super::address::{Standing, standing};
use super::grant::Allowance;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long one look-up is waited for, its turn included. Longer than two tries of a usual resolv.conf take to a
/// second server that works is not worth it: the next round asks again.
pub const LOOKUP_WAIT: Duration = Duration::from_secs(3);
/// Look-ups of the whole agent at a time; each holds a thread of the blocking pool.
pub const LOOKUPS: usize = 8;
/// Look-ups of one use at a time: four uses together cannot fill the pool.
pub const LOOKUPS_PER_USE: usize = 2;
/// Addresses kept of one answer; nobody dials more before the deadline.
const ADDRESSES_MAX: usize = 16;

/// How a look-up failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The resolver said no, or could not be reached.
    #[error("the name \"{name}\" does not resolve: {reason}")]
    Failed {
        /// Asked for.
        name: String,
        /// Its words.
        reason: String,
    },
    /// No answer in time.
    #[error("resolving \"{name}\" took longer than {LOOKUP_WAIT:?}")]
    Late {
        /// Asked for.
        name: String,
    },
    /// Every address is one that only a grant by name opens.
    #[error("the name \"{name}\" resolves to {ip}, {what}; a wildcard opens public addresses only")]
    Local {
        /// Asked for.
        name: String,
        /// The first such address.
        ip: IpAddr,
        /// Its class.
        what: &'static str,
    },
    /// Every address is one that no grant opens.
    #[error("the name \"{name}\" resolves to {ip}, {what}; no grant opens it")]
    Never {
        /// Asked for.
        name: String,
        /// The first such address.
        ip: IpAddr,
        /// Its class.
        what: &'static str,
    },
}

/// Where names become addresses.
pub type Lookup = Arc<dyn Fn(&str) -> std::io::Result<Vec<IpAddr>> + Send + Sync>;

/// Asks the system. Blocking: runs on the blocking pool only.
pub fn system_lookup(name: &str) -> std::io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect())
}

/// The resolver of one use of a plugin.
#[derive(Clone)]
pub struct Resolver {
    lookup: Lookup,
    /// Shared by all uses.
    of_all: Arc<Semaphore>,
    /// This use's own.
    of_use: Arc<Semaphore>,
}

/// A [`Resolver`] as reqwest wants it, for one kind of target.
pub struct Filtered {
    /// Who asks.
    pub resolver: Resolver,
    /// What may answer.
    pub allowance: Allowance,
}

impl Resolver {
    /// `of_all` holds [`LOOKUPS`] permits and is shared.
    pub fn new(lookup: Lookup, of_all: Arc<Semaphore>) -> Self {
        Resolver {
            lookup,
            of_all,
            of_use: Arc::new(Semaphore::new(LOOKUPS_PER_USE)),
        }
    }

    /// The addresses behind a name that may be dialled: at least one.
    pub async fn resolve(
        &self,
        name: &str,
        allowance: &Allowance,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let found = tokio::time::timeout(LOOKUP_WAIT, self.ask(name.to_owned()))
            .await
            .unwrap_or_else(|_| {
                Err(ResolveError::Late {
                    name: name.to_owned(),
                })
            })?;
        filter(name, found, allowance)
    }

    async fn ask(&self, name: String) -> Result<Vec<IpAddr>, ResolveError> {
        let failed = |name: &str, reason: String| ResolveError::Failed {
            name: name.to_owned(),
            reason,
        };
        let closed = "the agent is stopping";
        let of_use = Arc::clone(&self.of_use).acquire_owned().await;
        let of_use = of_use.map_err(|_| failed(&name, closed.to_owned()))?;
        let of_all = Arc::clone(&self.of_all).acquire_owned().await;
        let of_all = of_all.map_err(|_| failed(&name, closed.to_owned()))?;
        let lookup = Arc::clone(&self.lookup);
        let asked = name.clone();
        let looked_up = tokio::task::spawn_blocking(move || {
            let found = lookup(&asked);
            // Here and not in the waiting future: that one may be gone long before.
            drop((of_use, of_all));
            found
        });
        match looked_up.await {
            Ok(Ok(found)) if found.is_empty() => Err(failed(&name, "it has no address".to_owned())),
            Ok(Ok(found)) => Ok(found),
            Ok(Err(e)) => Err(failed(&name, e.to_string())),
            Err(_) => Err(failed(&name, closed.to_owned())),
        }
    }
}

/// Drops what may not be dialled; an error where nothing is left.
fn filter(
    name: &str,
    found: Vec<IpAddr>,
    allowance: &Allowance,
) -> Result<Vec<IpAddr>, ResolveError> {
    let mut kept = Vec::new();
    let mut refused = None;
    for ip in found {
        let name = name.to_owned();
        let what = match standing(ip) {
            Standing::Public => None,
            Standing::Local(_) if allowance.admits_local(ip) => None,
            Standing::Local(what) => Some(ResolveError::Local { name, ip, what }),
            Standing::Never(what) => Some(ResolveError::Never { name, ip, what }),
        };
        match what {
            None => kept.push(ip.to_canonical()),
            Some(e) => refused = refused.or(Some(e)),
        }
    }
    kept.truncate(ADDRESSES_MAX);
    match (kept.is_empty(), refused) {
        (false, _) => Ok(kept),
        (true, Some(e)) => Err(e),
        (true, None) => Err(ResolveError::Failed {
            name: name.to_owned(),
            reason: "it has no address".to_owned(),
        }),
    }
}

impl Allowance {
    /// Whether a local address may be dialled.
    pub fn admits_local(&self, ip: IpAddr) -> bool {
        self.named || self.networks.iter().any(|net| net.contains(ip))
    }
}

impl reqwest::dns::Resolve for Filtered {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.resolver.clone();
        let allowance = self.allowance.clone();
        Box::pin(async move {
            let found = resolver.resolve(name.as_str(), &allowance).await?;
            let addrs = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addrs) as reqwest::dns::Addrs)
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn the_filter_keeps_what_the_grants_open() {
        let wildcard = Allowance::default();
        let named = Allowance {
            named: true,
            ..Allowance::default()
        };
        let network = Allowance {
            networks: vec![super::super::address::Cidr::parse("10.0.0.0/8").expect("a network")],
            ..Allowance::default()
        };
        let public_first = ips(&["93.184.216.34", "10.0.0.1", "169.254.169.254"]);
        assert_eq!(
            filter("x", public_first.clone(), &wildcard),
            Ok(ips(&["93.184.216.34"]))
        );
        assert_eq!(
            filter("x", public_first, &named),
            Ok(ips(&["93.184.216.34", "10.0.0.1"]))
        );
        assert_eq!(
            filter("x", ips(&["10.0.0.1", "192.168.0.1"]), &network),
            Ok(ips(&["10.0.0.1"]))
        );
        let private = filter("x", ips(&["::ffff:127.0.0.1"]), &wildcard).expect_err("loopback");
        assert!(
            private
                .to_string()
                .contains("a loopback address; a wildcard opens public"),
            "{private}"
        );
        let metadata = filter("x", ips(&["169.254.169.254"]), &named).expect_err("metadata");
        assert!(
            metadata.to_string().contains("no grant opens it"),
            "{metadata}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_never_answers_holds_no_more_than_its_permits() {
        let (release, held) = mpsc::sync_channel::<()>(1);
        let held = std::sync::Mutex::new(held);
        let lookup: Lookup = Arc::new(move |_| {
            let _ = held.lock().expect("lock").recv();
            Ok(vec![IpAddr::from([93, 184, 216, 34])])
        });
        let of_all = Arc::new(Semaphore::new(LOOKUPS));
        let resolver = Resolver::new(lookup, Arc::clone(&of_all));
        let allowance = Allowance::default();
        let asks = (0..5).map(|_| resolver.resolve("black.hole", &allowance));
        // The clock does not run by itself while a blocking task does.
        let later = async {
            tokio::task::yield_now().await;
            tokio::time::advance(LOOKUP_WAIT).await;
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(asks), later);
        for answer in answers {
            assert_eq!(
                answer,
                Err(ResolveError::Late {
                    name: "black.hole".into()
                })
            );
        }
        assert_eq!(of_all.available_permits(), LOOKUPS - LOOKUPS_PER_USE);
        assert_eq!(resolver.of_use.available_permits(), 0);
        // The two threads come home and their permits with them.
        drop(release);
        let both = resolver.of_use.acquire_many(2).await.expect("permits");
        drop(both);
        assert!(resolver.resolve("black.hole", &allowance).await.is_ok());
    }
}
