//! A hand of the alert stage: runs the attempts that the engine planned and reports how they ended.
//!
//! It decides nothing. Whether an attempt may run was decided and written down before it came here;
//! whether it helped is told by later samples.

use super::LAST_WAIT;
use super::called::Caller;
use super::render::Renderer;
use super::report::Report;
use crate::plugin::Generation;
use crate::sandbox::types::{CallError, Kind};
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use watchfire_engine::StartAttempt;
use watchfire_engine::input::{ActionOutcome, ActionReport};

/// The stage.
pub(super) struct Recover {
    /// Bounded; the engine's own concurrency limit is far below.
    pub(super) attempts: mpsc::Receiver<(StartAttempt, Arc<Generation>)>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) metrics: Arc<Metrics>,
}

impl Recover {
    /// Runs until the alert stage hands in nothing more and all attempts have ended, or have been waited for
    /// long enough: the next start finds their records without an end, and counts them as lost.
    pub(super) async fn run(mut self) {
        let mut running: JoinSet<ActionReport> = JoinSet::new();
        let mut open = true;
        let mut last = Instant::now();
        while open || !running.is_empty() {
            tokio::select! {
                biased;
                Some(joined) = running.join_next() => {
                    // An attempt awaits one sandbox call, which turns panics into errors of its own.
                    let Ok(report) = joined else { continue };
                    if self.reports.send(Report::Action(report)).await.is_err() { break }
                }
                start = self.attempts.recv(), if open => match start {
                    Some((start, generation)) => {
                        let metrics = self.metrics.clone();
                        running.spawn(async move { attempt(start, &generation, &metrics).await });
                    }
                    None => {
                        open = false;
                        last = Instant::now() + LAST_WAIT;
                    }
                },
                () = tokio::time::sleep_until(last), if !open => {
                    tracing::warn!(
                        attempts = running.len(),
                        "recovery was under way: how it ended is not known, and the next start says so"
                    );
                    break;
                }
            }
        }
    }
}

/// One attempt. Its bound is the procedure's `timeout`, kept by the sandbox.
async fn attempt(start: StartAttempt, generation: &Generation, metrics: &Metrics) -> ActionReport {
    let outcome = match generation.actions.get(&start.procedure) {
        None => ActionOutcome::Failed {
            message: format!(
                "recovery {:?} waits for its plugin",
                start.procedure.as_str()
            ),
        },
        Some(live) => {
            let alert = Renderer::new(&generation.config).alert(&start.alert);
            let caller = Caller {
                kind: Kind::Action,
                plugin: &live.config.plugin,
                id: start.procedure.as_str(),
                quarantine: &live.quarantine,
                metrics,
            };
            let act = live.action.act(alert, start.attempt, false);
            match caller.call(act).await.0 {
                Ok(done) => ActionOutcome::Done { did: done.did },
                Err(CallError::WallLimit(_)) => ActionOutcome::TimedOut,
                Err(error) => ActionOutcome::Failed {
                    message: error.to_string(),
                },
            }
        }
    };
    ActionReport {
        procedure: start.procedure,
        alert: start.alert.fingerprint,
        attempt: start.attempt,
        outcome,
    }
}
