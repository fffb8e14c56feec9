//! Actions: they try to put things right.
//!
//! An action runs once an attempt. When, how often and whether it helped is the host's affair: the next samples tell,
//! not the action's own word.
//!
//! ```
//! use watchfire_plugin_sdk::host::control::{self, Verb};
//! use watchfire_plugin_sdk::prelude::*;
//!
//! /// Restarts the unit that the alert names.
//! struct Restart {
//!     label: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     label: String,
//! }
//!
//! impl Action for Restart {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self> {
//!         Ok(Restart { label: config.label })
//!     }
//!
//!     fn act(&self, alert: &Alert, attempt: u32, dry_run: bool) -> Result<Outcome> {
//!         let unit = alert.label(&self.label).ok_or_else(|| {
//!             Error::config(format!("config.label: the alert has no label {:?}", self.label))
//!         })?;
//!         if dry_run {
//!             return Ok(Outcome::unchanged(format!("would restart {unit}")));
//!         }
//!         control::service(unit, Verb::Restart)?;
//!         Ok(Outcome::changed(format!("restarted {unit}, attempt {attempt}")))
//!     }
//!
//!     fn wants() -> Vec<String> {
//!         vec!["services nginx.service:restart".into()]
//!     }
//! }
//!
//! action!(Restart);
//!
//! // What follows would stand in the tests of the plugin.
//! let host = mock::Host::new();
//! let action = Restart::configure(r#"{"label": "unit"}"#)?;
//! let mut alert = mock::alert("unit-down", Severity::Critical);
//! alert.labels = vec![("unit".into(), "nginx.service".into())];
//!
//! assert!(!action.act(&alert, 1, true)?.changed);
//! assert!(host.controls().is_empty());
//! assert_eq!(action.act(&alert, 1, false)?.did, "restarted nginx.service, attempt 1");
//! assert_eq!(host.controls(), [mock::Control::Service("nginx.service".into(), Verb::Restart)]);
//! # Ok::<(), Error>(())
//! ```

use serde::de::DeserializeOwned;

use crate::error::parse_config;
use crate::{Alert, Result};

/// An action: see the [module](self) for a whole one.
pub trait Action: Sized + 'static {
    /// The plugin's table, read by serde. Put `deny_unknown_fields` on it, so that a misspelt key is an error.
    type Config: DeserializeOwned;

    /// Takes the configuration. An error here refuses the plugin before anything changes: check everything.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), naming the key and what to write instead.
    fn new(config: Self::Config) -> Result<Self>;

    /// Runs one attempt, counted from 1. With `dry_run` it says what it would do; the host then withholds
    /// [`host::control`](crate::host::control) and answers whatever would change something with
    /// [`Denied`](crate::Error::Denied).
    ///
    /// # Errors
    /// Where the attempt failed.
    fn act(&self, alert: &Alert, attempt: u32, dry_run: bool) -> Result<Outcome>;

    /// The grants the plugin asks for, as lines for the operator: `services nginx.service:restart`.
    fn wants() -> Vec<String> {
        Vec::new()
    }

    /// JSON Schema of the table, so that the host can check it and print documentation.
    fn config_schema() -> Option<String> {
        None
    }

    /// Reads a table written as JSON and calls [`new`](Action::new), as the host does. Meant for tests.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the key.
    fn configure(config: &str) -> Result<Self> {
        Self::new(parse_config(config)?)
    }
}

/// Exports an [`Action`](crate::Action) from the component; natively it only checks the type.
#[macro_export]
macro_rules! action {
    ($plugin:ty) => {
        $crate::__export!($plugin, Action, ActionExport, action, __export_action);
    };
}

/// What an attempt did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// One line for people, past tense: `restarted nginx.service`.
    pub did: String,
    /// Whether anything is different now.
    pub changed: bool,
}

impl Outcome {
    /// Something is different now.
    pub fn changed(did: impl Into<String>) -> Self {
        Outcome {
            did: did.into(),
            changed: true,
        }
    }

    /// Nothing is different: there was nothing to do, or it was a dry run.
    pub fn unchanged(did: impl Into<String>) -> Self {
        Outcome {
            did: did.into(),
            changed: false,
        }
    }
}
