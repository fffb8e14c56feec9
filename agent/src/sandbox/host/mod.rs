//! One file per imported interface.

pub mod dns;
pub mod http;
pub mod mail;
pub mod tcp;
