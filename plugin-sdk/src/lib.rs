//! Write watchfire plugins in Rust: probes, rules, notifiers and actions.
//!
//! A plugin is one WebAssembly component. It runs in a sandbox that gives it nothing but the functions of
//! [`host`], and of those only what the operator granted. This crate turns the contract (the folder `wit` of the
//! repository) into a trait and a macro for each kind; nothing of the contract's own machinery shows.
//!
//! `watchfire plugin new probe-queue` writes a folder with a plugin that works, its tests, and this crate beside it; what
//! follows is what stands in such a folder.
//!
//! # A whole plugin
//!
//! `Cargo.toml`:
//!
//! ```toml
//! [package]
//! name = "probe-queue"
//! version = "0.1.0"
//! edition = "2024"
//! description = "Length of the job queue"   # what the operator reads in the list of plugins
//!
//! [lib]
//! crate-type = ["cdylib", "rlib"]           # a component, and a library for its tests
//!
//! [dependencies]
//! serde = { version = "1", features = ["derive"] }
//! watchfire-plugin-sdk = "0.1"
//!
//! [profile.release]                          # small: a component is compiled and kept by every agent
//! opt-level = "s"
//! lto = "fat"
//! codegen-units = 1
//! panic = "abort"
//! strip = true
//! ```
//!
//! `src/lib.rs`:
//!
//! ```
//! use watchfire_plugin_sdk::prelude::*;
//!
//! struct Queue {
//!     url: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// Where the service tells about itself.
//!     url: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Stats {
//!     waiting: f64,
//!     done: f64,
//! }
//!
//! impl Probe for Queue {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self> {
//!         if !config.url.starts_with("http") {
//!             return Err(Error::config("config.url: write a whole address, like http://127.0.0.1:8080/stats"));
//!         }
//!         Ok(Queue { url: config.url })
//!     }
//!
//!     fn collect(&mut self) -> Result<Collection> {
//!         let stats: Stats = http::Request::get(&self.url).send()?.check()?.json()?;
//!         Ok(Collection::from([
//!             Family::gauge("queue_waiting", "Jobs that wait").value(stats.waiting),
//!             Family::counter("queue_done_total", "Jobs that were done").value(stats.done),
//!         ]))
//!     }
//!
//!     fn wants() -> Vec<String> {
//!         vec!["http http://127.0.0.1:8080".into()]
//!     }
//! }
//!
//! probe!(Queue);
//!
//! // In a plugin of its own, this is `#[cfg(test)] mod tests`. No sandbox, no network: the mock answers.
//! let host = mock::Host::new();
//! host.http(
//!     "GET http://127.0.0.1:8080/stats",
//!     http::Response::new(200).with_body(r#"{"waiting": 7, "done": 1200}"#),
//! );
//! let mut queue = Queue::configure(r#"{"url": "http://127.0.0.1:8080/stats"}"#)?;
//! assert_eq!(queue.collect()?.value("queue_waiting", &[]), Some(7.0));
//!
//! host.http("GET http://127.0.0.1:8080/stats", http::Response::new(503));
//! queue.collect()?; // the first answer once more
//! assert!(Queue::configure(r#"{"adress": "…"}"#).is_err());
//! # Ok::<(), Error>(())
//! ```
//!
//! `cargo test` runs it in milliseconds; `cargo build --release --target wasm32-wasip2` makes the component
//! (`watchfire plugin build` calls it and puts the component beside `Cargo.toml`), ready to
//! be dropped into the agent's plugin folder:
//!
//! ```toml
//! [[probe]]
//! id     = "jobs"
//! plugin = "probe-queue"
//! every  = "10s"
//! grant  = { http = ["http://127.0.0.1:8080"] }
//! config = { url = "http://127.0.0.1:8080/stats" }
//! ```
//!
//! # From a file to an agent
//!
//! | command | what it does |
//! |---|---|
//! | `cargo test` | unit tests, natively, against [a mock host](#in-tests-of-your-own) |
//! | `watchfire plugin test` | builds the component and runs `testdata/NAME/case.toml` in the real sandbox |
//! | `watchfire plugin check` | what an agent would refuse, what an operator would stumble over |
//! | `watchfire plugin run` | one real call: its answer, host calls, CPU ticks, peak memory, time; `--fail-if-cpu-over 50ms` for CI |
//! | `watchfire plugin install` | verified, written whole, renamed into the agent's plugin folder |
//!
//! # In tests of your own
//!
//! Natively every function of [`host`] is answered by a `mock::Host`: `host.http(…)`, `host.file(…)`, `host.reading(…)`,
//! `host.command(…)`, `host.tcp(…)` script answers; `requests()`, `runs()`, `controls()`, `state_of(…)` say what the plugin did. What
//! nobody scripted is denied, as what nobody granted is. Parse and decide in plain functions, and most tests need no host at all.
//!
//! # What it may cost
//!
//! | | |
//! |---|---|
//! | time of a call | probe 5 s, rule 1 s, notifier 15 s, action 60 s; `configure` 2 s |
//! | CPU time of a call | 500 ms; a probe like the one above takes less than 0.1 ms |
//! | memory of a call | 64 MiB; the instance is gone afterwards |
//! | answer | 10,000 samples, 4 MiB |
//! | host calls | 10,000; log lines 20 a second; `state` 1 MiB |
//!
//! `[plugin.NAME] limits = { … }` in the agent's configuration changes the first four.
//!
//! # Where to read on
//!
//! | you write | read | it answers |
//! |---|---|---|
//! | a probe | [`mod@probe`] | numbers: [`Collection`] |
//! | a rule | [`mod@rule`], [`threshold`] | what holds now: [`Verdict`] |
//! | a notifier | [`mod@notifier`] | what the service said: [`Receipt`] |
//! | an action | [`mod@action`] | what it did: [`Outcome`] |
//!
//! [`units`] reads durations and sizes, [`text`] cuts and cleans what people read, [`template`] fills labels into addresses and
//! arguments, [`stats`] has a median, [`host`] is what a plugin may ask for, `mock` (natively only) is the host of your tests.
//!
//! # What every kind should know
//!
//! - **Nothing survives a call.** Each call finds a fresh instance: `new`, then the one verb. What must last goes into
//!   [`host::state`], or into a rule's memory.
//! - **The case of an [`Error`] decides what happens next**: whether it is retried, whose fault it is. Its text is for
//!   people, and says what to write instead.
//! - **A panic is a defect.** Its message reaches the log, the call fails, and after a few in a row the plugin is set
//!   aside. Answer with an [`Error`] instead.
//! - **Retries, grouping, muting and time windows are the host's affair.** Plugins look, judge, send or act, once.
//! - **`std::fs` and `std::net` lead nowhere**: a component that imports them is refused. Use [`host::files`] and
//!   [`host::tcp`].
//! - **Secrets stay outside.** `{{secret:name}}` in the configuration arrives as that text; the host fills it in on the
//!   way out. See [`host::http::Request`].

#[cfg(target_family = "wasm")]
extern crate self as watchfire_plugin_sdk;

pub mod action;
pub mod host;
pub mod notifier;
pub mod probe;
pub mod rule;
pub mod stats;
pub mod template;
pub mod text;
pub mod threshold;
pub mod units;

#[cfg(not(target_family = "wasm"))]
pub mod mock;

mod alert;
mod error;
mod severity;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_family = "wasm")]
mod calls;
#[cfg(target_family = "wasm")]
mod export;
#[cfg(not(target_family = "wasm"))]
use mock::calls;

pub use action::{Action, Outcome};
pub use alert::{Alert, Pairs, Timestamp};
pub use error::{Error, Result};
pub use notifier::{Notification, Notifier, Reason, Receipt};
pub use probe::{Collection, Family, Probe};
pub use rule::{Batch, Instance, Needs, Rule, Verdict, Verdicts};
pub use severity::{Severities, Severity};

/// Everything a plugin's file usually names: `use watchfire_plugin_sdk::prelude::*;`
pub mod prelude {
    pub use crate::host::{self, http, log, state};
    #[cfg(not(target_family = "wasm"))]
    pub use crate::mock;
    pub use crate::{
        Action, Alert, Batch, Collection, Error, Family, Instance, Needs, Notification, Notifier,
        Outcome, Pairs, Probe, Reason, Receipt, Result, Rule, Severities, Severity, Timestamp,
        Verdict, Verdicts, action, notifier, probe, rule,
    };
}

/// What the macros expand to. No part of the contract with authors.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::{bindings, export::*};
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen;
}

/// Exports `$plugin` under cfg(wasm). Natively a component's exports are symbols that no linker knows, so a cdylib with
/// them would not link: there the macro only checks the type.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ty, $kind:ident, $export:ident, $bindings:ident, $macro:ident) => {
        const _: () = {
            const fn is_plugin<T: $crate::$kind>() {}
            is_plugin::<$plugin>()
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            impl $crate::__private::Hosted<$crate::__private::$kind> for $plugin {
                fn package() -> $crate::__private::Package {
                    $crate::__private::Package {
                        name: env!("CARGO_PKG_NAME"),
                        version: env!("CARGO_PKG_VERSION"),
                        summary: env!("CARGO_PKG_DESCRIPTION"),
                    }
                }

                fn slot() -> &'static ::std::thread::LocalKey<$crate::__private::Slot<Self>> {
                    ::std::thread_local! {
                        static SLOT: $crate::__private::Slot<$plugin> = const { $crate::__private::Slot::empty() };
                    }
                    &SLOT
                }
            }

            type Export = $crate::__private::$export<$plugin>;
            $crate::__private::bindings::$bindings::$macro!(
                Export with_types_in $crate::__private::bindings::$bindings
            );
        };
    };
}
