//! watchfire plugins in Rust.


#[cfg(target_family = "wasm")]
extern crate self as watchfire_plugin_sdk;

pub mod action;
pub mod host;
pub mod notifier;
pub mod probe;
pub mod rule;
pub mod threshold;

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
    #[cfg(not(target_family = "wasm"))]
    pub use crate::mock;
    pub use crate::{
        Action, Alert, Batch, Collection, Error, Family, Instance, Needs, Notification, Notifier, Outcome, Pairs, Probe,
        Reason, Receipt, Result, Rule, Severities, Severity, Timestamp, Verdict, Verdicts, action, notifier, probe, rule,
    };
    pub use crate::host::{self, http, log, state};
}

/// What the macros expand to. No part of the contract with authors.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::{bindings, export::*};
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen;

    /// Fails to compile for what is not a plugin of that kind.
    pub const fn is_plugin<T>() {}
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
