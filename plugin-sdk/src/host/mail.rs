//! Mail over the server the operator configured. Grant `mail`; notifiers only.

use crate::{Result, calls};

/// A message. The host adds sender and date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Addresses, at least one.
    pub to: Vec<String>,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// One line.
    pub subject: String,
    /// The plain body.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// Without angle brackets; the same over retries.
    pub message_id: String,
    /// The message it answers: keeps an alert in one thread.
    pub in_reply_to: Option<String>,
}

/// Sends once.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant; [`Unavailable`](crate::Error::Unavailable) and
/// [`Rejected`](crate::Error::Rejected) as the server said.
pub fn send(message: &Message) -> Result<()> {
    calls::mail_send(message)
}
