//! The way of an order to the alert stage and back: it answers once the order is committed.

use super::{Api, problem};
use crate::pipeline::view::{CommandRequest, Order};
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the alert stage may take: it commits the order with its next input.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a name that somebody gives for the record.
const NAME_BYTES_MAX: usize = 100;

/// Hands an order to the alert stage and waits until it is committed; else the answer that says why not.
pub(super) async fn give(api: &Api, by: Option<&str>, what: Order) -> Result<(), Response> {
    let by = by.unwrap_or("api");
    let by: Arc<str> = by[..by.floor_char_boundary(NAME_BYTES_MAX)].into();
    let (reply, answer) = oneshot::channel();
    let request = CommandRequest { by, what, reply };
    let ask = async {
        api.views.commands.send(request).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(ORDER_TIMEOUT, ask).await {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(reason))) => Err(problem(StatusCode::CONFLICT, &reason)),
        Ok(None) => Err(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent is stopping",
        )),
        Err(_) => Err(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the alert stage did not answer within 5 s; whether it took the order shows in /events",
        )),
    }
}
