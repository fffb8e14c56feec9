//! What the service manager and the operator say with signals. Heard from the first moment on: a SIGHUP that nobody
//! takes ends a process, and the first start compiles for a while.

use crate::plugin::Request;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// The signals of this process. One that came is kept until somebody waits for it.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes them over; from now on none of them ends the process by itself.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns on SIGTERM or SIGINT; leaves SIGHUP alone.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Returns on SIGTERM or SIGINT; SIGHUP, also one from before this call, asks for a look at all files.
    pub(super) async fn end_or_reload(&mut self, reload: &mpsc::Sender<Request>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => look_at_all(reload),
            }
        }
    }
}

fn look_at_all(reload: &mpsc::Sender<Request>) {
    let (reply, report) = oneshot::channel();
    // A look that is asked for already will see the same files.
    if reload.try_send(reply).is_ok() {
        tokio::spawn(async move {
            if let Ok(report) = report.await {
                tracing::info!(
                    generation = report.generation,
                    changed = report.changed,
                    "looked at all files"
                );
            }
        });
    }
}
