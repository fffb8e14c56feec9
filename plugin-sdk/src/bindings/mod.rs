//! What wit-bindgen makes of `wit/`: one module a kind, hidden behind the SDK's own types.
//!
//! Generated and checked in, because its macros are nine tenths of what an author's first build would compile.
//! `plugin-sdk/tests/bindings.rs` says how, compares, and writes them anew.
//!
//! `imports` owns every host interface and the shared types; the four kinds borrow them, so that `Error` is one Rust
//! type whatever the kind. The macros that emit exports are public because they expand in the plugin's crate.

#![expect(
    unsafe_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "generated: values cross the wall by pointers"
)]

#[rustfmt::skip]
pub mod action;
#[rustfmt::skip]
pub mod imports;
#[rustfmt::skip]
pub mod notifier;
#[rustfmt::skip]
pub mod probe;
#[rustfmt::skip]
pub mod rule;
