//! The HTTP interface: what the agent knows, read-only on loopback, and the few verbs of an operator.
//!
//! ```text
//!   TCP (loopback) --+                                  +--> health, views, metrics   <- published views
//!                    +--> limits --> guard --> router --+--> events, event store      <- EventSource
//!   unix socket -----+   (serve)    (Host, Origin,      +--> recovery verbs           -> alert stage
//!                                    token)
//! ```
//!
//! It owns no state of the pipeline: it reads views and asks with a reply, always under a limit.

mod alertmanager;
mod alerts;
mod events;
mod guard;
mod health;
mod incidents;
mod metrics;
mod order;
mod recovery;
mod serve;
mod shape;
mod silences;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod views;

pub use events::{EventSource, EventsError};
pub use guard::Door;
pub use serve::{Listener, ServeError, bind_tcp, bind_unix, serve};
pub use status::{AgentStatus, PluginStatus, PluginUse, Quarantine, Refusal, Rejection, UseLimits};
pub use token::{Token, TokenError};

use crate::config::Config;
use crate::pipeline::view::Views;
use crate::telemetry::metrics::Metrics;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes of a request's body; the largest one we take is a few lines of JSON.
const BODY_BYTES_MAX: usize = 1 << 20;

/// From the request's head to the answer. Views answer in microseconds; the event store is a disk.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the interface reads and asks.
#[derive(Clone)]
pub struct Sources {
    /// Views of the stages.
    pub views: Views,
    /// Our own metrics.
    pub metrics: Arc<Metrics>,
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// What the program knows beside the pipeline.
    pub status: watch::Receiver<Arc<AgentStatus>>,
    /// The event store.
    pub events: Arc<dyn EventSource>,
    /// Opens the verbs on TCP.
    pub token: Token,
}

/// The interface; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    sources: Sources,
    started: Instant,
    /// The number of rounds seen last and since when: a clock for liveness that no step of the wall clock moves.
    turned: Mutex<(u64, Instant)>,
}

impl std::ops::Deref for Api {
    type Target = Sources;
    fn deref(&self) -> &Sources {
        &self.0.sources
    }
}

impl Api {
    /// Wires it up; [`serve`] opens it.
    pub fn new(sources: Sources) -> Self {
        let now = Instant::now();
        Api(Arc::new(Inner {
            sources,
            started: now,
            turned: Mutex::new((0, now)),
        }))
    }

    /// All routes, for one door.
    pub fn router(&self, door: Door) -> Router {
        let health = Router::new()
            .route("/health", get(health::health))
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready))
            .route("/health/detailed", get(health::detailed))
            .route("/health/events", get(health::events))
            .route("/health/metrics", get(metrics::metrics));
        let views = Router::new()
            .route("/probes", get(views::probes))
            .route("/rules", get(views::rules))
            .route("/notifiers", get(views::notifiers))
            .route("/recoveries", get(views::recoveries))
            .route("/plugins", get(views::plugins))
            .route("/config", get(views::config))
            .route("/alerts", get(views::alerts))
            .route("/alerts/find", get(alerts::find))
            .route("/alerts/{fingerprint}", get(alerts::explain))
            .route("/alerts/{fingerprint}/ack", post(alerts::acknowledge))
            .route("/rules/{id}/explain", get(alerts::explain_rule))
            .route("/incidents", get(incidents::incidents))
            .route("/incidents/{id}", get(incidents::incident))
            .route("/silences", get(silences::silences).post(silences::add))
            .route("/silences/{id}", delete(silences::expire))
            .merge(health.clone());
        Router::new()
            .nest("/api/v1", views)
            .nest("/api/v2", alertmanager::router())
            .merge(health)
            .route("/metrics", get(metrics::metrics))
            .route("/recovery/status", get(recovery::status))
            .route("/recovery/pause", post(recovery::pause))
            .route("/recovery/resume", post(recovery::resume))
            .route("/recovery/{id}/approve", post(recovery::approve))
            .route("/recovery/{id}/reset", post(recovery::reset))
            .route("/events", get(events::events))
            .route("/event-store/stats", get(events::stats))
            .route("/event-store/cleanup", post(events::cleanup))
            .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such path") })
            .method_not_allowed_fallback(|| async {
                problem(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "this path does not know that method",
                )
            })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(axum::middleware::from_fn(timeout))
            .layer(axum::middleware::from_fn_with_state(
                guard::Guard::new(self.clone(), door),
                guard::guard,
            ))
            .with_state(self.clone())
    }

    fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// How long ago the pipeline finished a round, as far as anybody looked; from the start where it never did.
    fn since_turn(&self) -> Duration {
        let rounds = self.views.pipeline.borrow().rounds;
        let mut turned = self.0.turned.lock().unwrap_or_else(PoisonError::into_inner);
        if turned.0 != rounds {
            *turned = (rounds, Instant::now());
        }
        turned.1.elapsed()
    }

    /// Follows the rounds, so that [`Api::since_turn`] is right for whoever asks first.
    async fn follow_rounds(&self) {
        let mut pipeline = self.views.pipeline.clone();
        while pipeline.changed().await.is_ok() {
            self.since_turn();
        }
    }
}

/// An answer that says what went wrong.
fn problem(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({ "error": text }))).into_response()
}

async fn timeout(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| {
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "no answer within 10 s: try again",
            )
        })
}
