//! The ways into the interface. A disk that is full or read-only closes some of them and stops nothing: the agent
//! watches on and tells what it sees.

use crate::api::{self, Api, Listener, ServeError, Token, TokenError};
use crate::config::Config;
use crate::error::Failure;
use crate::store::is_disks_fault;
use std::io::ErrorKind;
use std::path::Path;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The token of the data folder; where the disk refuses it, one that nobody knows.
pub(super) fn token(data_dir: &Path) -> Result<Token, TokenError> {
    match Token::load_or_create(data_dir) {
        // Not found: the folder itself could not be made, which the store has told.
        Err(TokenError::File { source, path, .. })
            if is_disks_fault(&source) || source.kind() == ErrorKind::NotFound =>
        {
            let token = Token::known_to_nobody().map_err(|source| TokenError::File {
                what: "write",
                path: path.clone(),
                source,
            })?;
            tracing::error!(
                path = %path.display(),
                error = %source,
                "there is no token: changing calls over TCP are refused until a start that can write it; the socket takes them"
            );
            Ok(token)
        }
        other => other,
    }
}

/// Opens the socket and the TCP listener of the configuration; each ends after `stop` turned true.
pub(super) async fn open(
    config: &Config,
    api: &Api,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<(&'static str, JoinHandle<()>)>, Failure> {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        // A dropped sender is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let mut doors = Vec::new();
    if let Some(unix) = socket(api::bind_unix(&config.api.socket).await)? {
        doors.push((
            "socket",
            tokio::spawn(api::serve(api.clone(), unix, stopped(stop.clone()))),
        ));
    }
    if let Some(listen) = config.api.listen {
        let tcp = api::bind_tcp(listen).await.map_err(|error| {
            Failure::failed(format!(
                "{}; write another address with --listen or under [api] listen, or \"\" for none",
                crate::error::chain(&error)
            ))
        })?;
        tracing::info!(address = %listen, "the API listens");
        doors.push((
            "http",
            tokio::spawn(api::serve(api.clone(), tcp, stopped(stop.clone()))),
        ));
    }
    Ok(doors)
}

/// The socket, if the disk has a place for it.
fn socket(bound: Result<Listener, ServeError>) -> Result<Option<Listener>, ServeError> {
    match bound {
        Err(ServeError::Unix { path, source }) if is_disks_fault(&source) => {
            tracing::error!(
                path = %path.display(),
                error = %source,
                "the socket cannot be made: there is none until the next start"
            );
            Ok(None)
        }
        other => other.map(Some),
    }
}
