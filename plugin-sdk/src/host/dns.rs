//! Questions to the DNS. Grant `dns`, as names.

use std::time::Duration;

use super::millis;
use crate::{Result, calls};

/// One record of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `A`, `AAAA`, `MX` …
    pub record_type: String,
    /// The record as text.
    pub data: String,
    /// Seconds it may be kept.
    pub ttl: u32,
}

/// An answer. One that says no is an answer too: see `code`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL` …
    pub code: String,
    /// The records.
    pub answers: Vec<Answer>,
    /// From question to answer.
    pub elapsed: Duration,
    /// Who answered.
    pub server: String,
}

/// Asks `server`, or the system's resolver, for the records of `name`.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) without the grant, [`Unavailable`](crate::Error::Unavailable) where nobody answered
/// in time.
pub fn query(
    name: &str,
    record_type: &str,
    server: Option<&str>,
    timeout: Duration,
) -> Result<Response> {
    calls::dns_query(name, record_type, server, millis(timeout))
}
