//! What the rule carries from round to round: at most 3.5 KiB an instance, kept by the host with the alert's state.
//!
//! The first bytes say what the rest is. Memory of another version, another method or another history means nothing now:
//! it starts anew, and so does the warm-up.

use std::time::Duration;

use crate::methods::{Learnt, Method, Shape};

/// First byte; counted up with each change of the encoding.
const VERSION: u8 = 1;

/// What was learnt, since when, and since when nothing is learnt any more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Memory {
    /// Milliseconds since 1970.
    begun_at: u64,
    /// 0: it is learning.
    frozen_at: u64,
    pub(crate) learnt: Learnt,
}

impl Memory {
    fn new(shape: Shape, now: u64) -> Self {
        Memory {
            begun_at: now,
            frozen_at: 0,
            learnt: Learnt::new(shape),
        }
    }

    /// For how long it has watched.
    pub(crate) fn watched(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.begun_at))
    }

    /// Stops or resumes the learning; for how long it has been stopped.
    pub(crate) fn freeze(&mut self, now: u64, frozen: bool) -> Option<Duration> {
        if !frozen {
            self.frozen_at = 0;
            return None;
        }
        if self.frozen_at == 0 {
            self.frozen_at = now.max(1);
        }
        Some(Duration::from_millis(now.saturating_sub(self.frozen_at)))
    }

    pub(crate) fn encode(&self, shape: Shape) -> Vec<u8> {
        let mut bytes = vec![VERSION, code(shape.method)];
        put(&mut bytes, shape.history_ms().to_le_bytes());
        put(&mut bytes, self.begun_at.to_le_bytes());
        put(&mut bytes, self.frozen_at.to_le_bytes());
        self.learnt.encode(&mut bytes);
        bytes
    }

    /// What was remembered; nothing yet where these bytes are something else.
    pub(crate) fn decode(bytes: &[u8], shape: Shape, now: u64) -> Self {
        read(bytes, shape).unwrap_or_else(|| Memory::new(shape, now))
    }
}

fn read(mut bytes: &[u8], shape: Shape) -> Option<Memory> {
    let head: [u8; 2] = take(&mut bytes)?;
    let history = u64::from_le_bytes(take(&mut bytes)?);
    if head != [VERSION, code(shape.method)] || history != shape.history_ms() {
        return None;
    }
    Some(Memory {
        begun_at: u64::from_le_bytes(take(&mut bytes)?),
        frozen_at: u64::from_le_bytes(take(&mut bytes)?),
        learnt: Learnt::decode(bytes, shape)?,
    })
}

fn code(method: Method) -> u8 {
    match method {
        Method::Mean => 1,
        Method::Mad => 2,
        Method::Ewma => 3,
        Method::Seasonal => 4,
    }
}

/// Adds bytes.
pub(crate) fn put<const N: usize>(into: &mut Vec<u8>, bytes: [u8; N]) {
    into.extend(bytes);
}

/// Takes bytes off the front; none: there are too few.
pub(crate) fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*first)
}
