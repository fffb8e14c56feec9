//! What the tests share.

pub mod bed;
