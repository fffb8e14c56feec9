//! A hand of the alert stage: takes messages to the notifier components and reports back.
//!
//! Owns a queue and a worker for each notifier: messages to one notifier go one after the other and
//! in order, and one that hangs delays no other. It decides nothing: no retry, no back-off, no
//! dead letter; those are the engine's.

use super::LAST_WAIT;
use super::called::Caller;
use super::render::Renderer;
use super::report::Report;
use super::view::NotifierView;
use crate::clock::Clock;
use crate::plugin::Generation;
use crate::sandbox::types::{CallError, Kind};
use crate::telemetry::metrics::Metrics;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use watchfire_engine::Send;
use watchfire_engine::input::{DeliveryOutcome, DeliveryReport};
use watchfire_engine::model::NotifierId;

/// The stage.
pub(super) struct Deliver {
    /// Bounded at [`super::SENDS_IN_FLIGHT`].
    pub(super) sends: mpsc::Receiver<(Send, Arc<Generation>)>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) generation: watch::Receiver<Arc<Generation>>,
    pub(super) clock: Clock,
    pub(super) views: watch::Sender<Arc<Vec<NotifierView>>>,
    pub(super) metrics: Arc<Metrics>,
}

/// One notifier's queue. Bounded by the engine: one undelivered message an alert.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Send, Arc<Generation>)>,
    busy: bool,
}

/// What a worker brings back.
#[derive(Debug)]
struct Done {
    notifier: NotifierId,
    report: DeliveryReport,
}

impl Deliver {
    /// Runs until the alert stage hands in nothing more and all attempts have ended, or have been waited for
    /// long enough: what is not confirmed stays in the outbox.
    pub(super) async fn run(mut self) {
        let mut queues: BTreeMap<NotifierId, Queue> = BTreeMap::new();
        let mut views: BTreeMap<NotifierId, NotifierView> = BTreeMap::new();
        let mut workers: JoinSet<Done> = JoinSet::new();
        let mut open = true;
        let mut last = Instant::now();
        let generation = self.generation.borrow_and_update().clone();
        take_up(&generation, &mut views);
        self.publish(&views);
        while open || !workers.is_empty() {
            tokio::select! {
                biased;
                Some(joined) = workers.join_next() => {
                    // A worker awaits one sandbox call, which turns panics into errors of its own.
                    let Ok(done) = joined else { continue };
                    self.finish(&done, &mut views);
                    let queue = queues.entry(done.notifier.clone()).or_default();
                    queue.busy = false;
                    if self.reports.send(Report::Delivery(done.report)).await.is_err() { break }
                    if open {
                        self.start(&done.notifier, queue, &mut workers);
                    }
                }
                // An error would be ready for ever: at a stop the reloader ends before the stages do.
                Ok(()) = self.generation.changed(), if open => {
                    let generation = self.generation.borrow_and_update().clone();
                    take_up(&generation, &mut views);
                    self.publish(&views);
                }
                send = self.sends.recv(), if open => match send {
                    Some((send, generation)) => {
                        let notifier = send.notifier.clone();
                        let queue = queues.entry(notifier.clone()).or_default();
                        queue.waiting.push_back((send, generation));
                        self.start(&notifier, queue, &mut workers);
                    }
                    // What still waits stays in the outbox for the next start.
                    None => {
                        open = false;
                        last = Instant::now() + LAST_WAIT;
                    }
                },
                () = tokio::time::sleep_until(last), if !open => {
                    tracing::info!(
                        deliveries = workers.len(),
                        "deliveries were under way: what is not confirmed is sent again at the next start, with the same id"
                    );
                    break;
                }
            }
        }
    }

    fn start(&self, notifier: &NotifierId, queue: &mut Queue, workers: &mut JoinSet<Done>) {
        if queue.busy {
            return;
        }
        let Some((send, generation)) = queue.waiting.pop_front() else {
            return;
        };
        queue.busy = true;
        let notifier = notifier.clone();
        let metrics = self.metrics.clone();
        workers.spawn(async move {
            let outcome = attempt(&notifier, &send, &generation, &metrics).await;
            let report = DeliveryReport {
                id: send.notification.id.clone(),
                attempt: send.attempt,
                outcome,
            };
            Done { notifier, report }
        });
    }

    fn finish(&self, done: &Done, views: &mut BTreeMap<NotifierId, NotifierView>) {
        if let Some(view) = views.get_mut(&done.notifier) {
            match &done.report.outcome {
                DeliveryOutcome::Accepted { .. } => {
                    view.delivered += 1;
                    view.last_success = Some(self.clock.now().wall);
                    view.error = None;
                }
                DeliveryOutcome::Failed { message, .. }
                | DeliveryOutcome::Quarantined { message, .. }
                | DeliveryOutcome::Refused { message } => {
                    view.failed += 1;
                    view.error = Some(message.clone());
                }
            }
        }
        self.publish(views);
    }

    fn publish(&self, views: &BTreeMap<NotifierId, NotifierView>) {
        self.views
            .send_replace(Arc::new(views.values().cloned().collect()));
    }
}

fn take_up(generation: &Generation, views: &mut BTreeMap<NotifierId, NotifierView>) {
    let configured = &generation.config.notifiers;
    views.retain(|id, _| configured.iter().any(|notifier| notifier.id == *id));
    for notifier in configured {
        let view = views
            .entry(notifier.id.clone())
            .or_insert_with(|| NotifierView {
                id: notifier.id.clone(),
                plugin: notifier.plugin.clone(),
                delivered: 0,
                failed: 0,
                running: 0,
                last_success: None,
                error: None,
            });
        view.plugin = notifier.plugin.clone();
    }
}

/// One attempt. Its bound is the notifier's own wall limit, kept by the sandbox.
async fn attempt(
    notifier: &NotifierId,
    send: &Send,
    generation: &Generation,
    metrics: &Metrics,
) -> DeliveryOutcome {
    let Some(live) = generation.notifiers.get(notifier) else {
        return DeliveryOutcome::Failed {
            message: format!("notifier {:?} waits for its plugin", notifier.as_str()),
            retry_after: None,
            answered: false,
        };
    };
    let renderer = Renderer::new(&generation.config);
    let message = renderer.message(&send.notification, &live.config);
    let caller = Caller {
        kind: Kind::Notifier,
        plugin: &live.config.plugin,
        id: notifier.as_str(),
        quarantine: &live.quarantine,
        metrics,
    };
    let (result, cost) = caller.call(live.notifier.notify(message)).await;
    if let Err(error) = &result
        && let Some(retry_after) = live.quarantine.wait()
    {
        // Not called, or its last failure before it is not called any more: others hear of it meanwhile.
        return DeliveryOutcome::Quarantined {
            message: error.to_string(),
            retry_after,
        };
    }
    outcome_of(result.map(|receipt| receipt.remote_id), cost.answers > 0)
}

/// The error's case decides whether it is tried again; `answered` tells a service that refuses from a
/// connection that fails.
fn outcome_of(result: Result<Option<String>, CallError>, answered: bool) -> DeliveryOutcome {
    match result {
        Ok(remote_id) => DeliveryOutcome::Accepted { remote_id },
        Err(CallError::Unavailable {
            message,
            retry_after,
        }) => DeliveryOutcome::Failed {
            answered,
            message,
            retry_after,
        },
        Err(error @ (CallError::Config(_) | CallError::Denied(_) | CallError::Rejected(_))) => {
            DeliveryOutcome::Refused {
                message: error.to_string(),
            }
        }
        Err(error) => DeliveryOutcome::Failed {
            message: error.to_string(),
            retry_after: None,
            answered: false,
        },
    }
}
