//! What systemd hears of a service with `Type=notify` and `WatchdogSec=`: that it is ready, that it is alive, that
//! it stops. One datagram each to the socket that it names (sd_notify(3)); elsewhere nothing happens.
//!
//! Alive means what `/health/live` means: rounds are decided. A pipeline that stands is so restarted, as is a process
//! whose one thread hangs.

use crate::api::Api;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Signs of life in the time after which systemd gives the process up: one may come late.
const SIGNS: u32 = 2;

/// Between two signs at least, whatever the unit says: an idle agent does not wake up more often.
const EVERY_LEAST: Duration = Duration::from_secs(1);

/// The way to the service manager; without one nothing is said.
#[derive(Debug, Default)]
pub(super) struct Service {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// After so long without a sign of life the process is restarted; none: nobody waits for one.
    watchdog: Option<Duration>,
}

impl Service {
    /// As the manager of this process asked for it.
    pub(super) fn of_process() -> Self {
        let micros = std::env::var("WATCHDOG_USEC").ok();
        // Set for another process: a parent of ours that is none of ours.
        let other =
            std::env::var("WATCHDOG_PID").is_ok_and(|pid| pid != std::process::id().to_string());
        Service::of(
            std::env::var_os("NOTIFY_SOCKET"),
            micros.filter(|_| !other).as_deref(),
        )
    }

    fn of(address: Option<OsString>, watchdog_micros: Option<&str>) -> Self {
        let Some(address) = address else {
            return Service::default();
        };
        let bytes = address.as_bytes();
        let resolved = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&address),
        };
        let socket = resolved.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read must not hold up the agent: a sign less is no harm.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        let watchdog = watchdog_micros
            .and_then(|micros| micros.parse().ok())
            .map(Duration::from_micros)
            .filter(|limit| !limit.is_zero());
        Service {
            socket: socket
                .inspect_err(|error| {
                    tracing::warn!(%error, "the service manager cannot be told that watchfire runs");
                })
                .ok(),
            watchdog,
        }
    }

    fn say(&self, words: &str) {
        let Some((socket, address)) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send_to_addr(words.as_bytes(), address) {
            tracing::debug!(%error, words, "the service manager was not told");
        }
    }

    /// Everything is up: the interface, the store, the schedule.
    pub(super) fn ready(&self) {
        self.say("READY=1\nSTATUS=watching");
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// Gives signs of life for as long as it is polled and rounds are decided.
    pub(super) async fn live(&self, api: &Api) {
        let Some(limit) = self.watchdog.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        let every = (limit / SIGNS).max(EVERY_LEAST);
        let mut said = false;
        loop {
            let stands = api.stands();
            match &stands {
                None => self.say("WATCHDOG=1"),
                Some(reason) if !said => {
                    tracing::error!(reason, "no sign of life to the service manager any more");
                }
                Some(_) => {}
            }
            said = stands.is_some();
            tokio::time::sleep(every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn it_speaks_to_paths_and_to_abstract_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let on_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("watchfire-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let abstract_one = UnixDatagram::bind_addr(&address).expect("bound");
        for (socket, address) in [
            (on_path, path.into_os_string()),
            (abstract_one, format!("@{name}").into()),
        ] {
            let service = Service::of(Some(address), Some("30000000"));
            assert_eq!(service.watchdog, Some(Duration::from_secs(30)));
            service.ready();
            assert!(heard(&socket).starts_with("READY=1\n"));
            service.stopping();
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_nothing_fails() {
        for (address, micros) in [
            (None, Some("30000000")),
            (Some(OsString::from("/nowhere/at/all")), Some("no number")),
            (Some(OsString::from("x".repeat(300))), Some("0")),
        ] {
            let service = Service::of(address, micros);
            service.ready();
            assert_eq!(service.watchdog, None);
        }
    }
}
