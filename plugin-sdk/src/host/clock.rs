//! The time of day. Rules read [`Batch::now`](crate::Batch::now) instead.

use crate::{Timestamp, calls};

/// Now. Natively it stands still at what [`mock::Host::now`](crate::mock::Host::now) was told.
pub fn now() -> Timestamp {
    calls::now()
}
