//! Rules: pure judgements over numbers.
//!
//! A rule reaches nothing. The host computes the declared inputs, keeps the rule's memory and knows all about `for`,
//! `keep`, absence and grouping; a rule says only what holds now.
//!
//! ```
//! use watchfire_plugin_sdk::prelude::*;
//!
//! /// Breaches while more connections are lost than were ever usual here.
//! struct Losses {
//!     factor: f64,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     factor: f64,
//! }
//!
//! impl Rule for Losses {
//!     type Config = Config;
//!
//!     fn new(config: Config, inputs: &[String]) -> Result<Self> {
//!         if inputs != ["lost"] {
//!             return Err(Error::config(format!("the inputs are {inputs:?}: write one, inputs.lost")));
//!         }
//!         Ok(Losses { factor: config.factor })
//!     }
//!
//!     fn needs(&self) -> Needs {
//!         Needs::memory()
//!     }
//!
//!     fn judge(&self, instance: &Instance) -> Verdict {
//!         let lost = instance.input("lost");
//!         if lost.is_nan() {
//!             return Verdict::unknown();
//!         }
//!         let usual: f64 = instance.recall().unwrap_or(lost);
//!         let limit = usual * self.factor;
//!         // Frozen while firing: an incident must not teach the rule that it is usual.
//!         let learnt = if instance.active().is_empty() { usual * 0.9 + lost * 0.1 } else { usual };
//!         Verdict::breach_if(lost > limit, Severity::High).value(lost).limit(limit).remember(&learnt)
//!     }
//! }
//!
//! rule!(Losses);
//!
//! // What follows would stand in the tests of the plugin.
//! let rule = Losses::configure(r#"{"factor": 2}"#, &["lost"])?;
//! let batch = Batch::of(&["lost"]).instance(&[10.0]).instance(&[f64::NAN]).instance(&[50.0]).recalling(2, &20.0);
//! let verdicts = rule.evaluate(&batch)?;
//! assert_eq!(verdicts.breached(0), Some(Severities::NONE));
//! assert_eq!(verdicts.breached(1), None);
//! assert_eq!(verdicts.breached(2), Some(Severity::High.into()));
//! assert_eq!((verdicts.value(2), verdicts.limit(2)), (50.0, 40.0));
//! # Ok::<(), Error>(())
//! ```

mod batch;
mod verdict;

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::Result;
use crate::error::parse_config;

pub use batch::{Batch, Instance, Moment};
pub use verdict::{Verdict, Verdicts};

/// A rule: see the [module](self) for a whole one.
///
/// One of [`judge`](Rule::judge) and [`evaluate`](Rule::evaluate) must be written.
pub trait Rule: Sized + 'static {
    /// The plugin's table, read by serde. Put `deny_unknown_fields` on it, so that a misspelt key is an error.
    type Config: DeserializeOwned;

    /// Takes the configuration and the names of the rule's inputs, in the order of [`Instance::at`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), naming the key or the input and what to write instead.
    fn new(config: Self::Config, inputs: &[String]) -> Result<Self>;

    /// What the rule wants beside the current values: nothing, unless it says so.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Judges one instance. Equal instances give equal verdicts: no clock, no chance.
    ///
    /// The default says *unknown*, which neither fires nor resolves; it is there for rules that write `evaluate`.
    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let _ = instance;
        Verdict::unknown()
    }

    /// Judges a round. Write it only where instances must be seen together, or columns are faster than instances.
    ///
    /// # Errors
    /// Where the whole round cannot be judged: every instance is then unknown.
    fn evaluate(&self, batch: &Batch) -> Result<Verdicts> {
        let mut verdicts = Verdicts::for_batch(batch);
        for instance in batch.instances() {
            verdicts.push(self.judge(&instance));
        }
        Ok(verdicts)
    }

    /// JSON Schema of the table, so that the host can check it and print documentation.
    fn config_schema() -> Option<String> {
        None
    }

    /// Reads a table written as JSON and calls [`new`](Rule::new), as the host does. Meant for tests.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the key.
    fn configure(config: &str, inputs: &[&str]) -> Result<Self> {
        let inputs: Vec<String> = inputs.iter().map(|name| (*name).to_owned()).collect();
        Self::new(parse_config(config)?, &inputs)
    }
}

/// Exports a [`Rule`](crate::Rule) from the component; natively it only checks the type.
#[macro_export]
macro_rules! rule {
    ($plugin:ty) => {
        $crate::__export!($plugin, Rule, RuleExport, rule, __export_rule);
    };
}

/// What a rule wants beside the current values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Labels of each instance.
    pub labels: bool,
    /// Memory of its own for each instance, at most 4 KiB, kept by the host with the alert's state.
    pub memory: bool,
    /// Inputs of which it wants the raw points.
    pub points_of: Vec<String>,
    /// From how far back it wants the points. The host keeps those of two hours, in memory only: more than that is not
    /// there, and after a start of the agent it is less. What needs longer keeps a digest of its own in its memory.
    pub back: Duration,
}

impl Needs {
    /// Memory alone.
    pub fn memory() -> Self {
        Needs {
            memory: true,
            ..Needs::default()
        }
    }

    /// Labels alone.
    pub fn labels() -> Self {
        Needs {
            labels: true,
            ..Needs::default()
        }
    }

    /// With the raw points of `input` from as far `back`.
    #[must_use]
    pub fn points(mut self, input: impl Into<String>, back: Duration) -> Self {
        self.points_of.push(input.into());
        self.back = self.back.max(back);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Severity, Timestamp};

    /// Counts its rounds, says nothing on every other one.
    struct Counter;

    impl Rule for Counter {
        type Config = serde_json::Value;

        fn new(_: serde_json::Value, _: &[String]) -> Result<Self> {
            Ok(Counter)
        }

        fn judge(&self, instance: &Instance<'_>) -> Verdict {
            let rounds: u32 = instance.recall().unwrap_or(0);
            match instance.label("quiet") {
                Some(_) => Verdict::unknown(),
                None => Verdict::healthy()
                    .note(format!("round {rounds}"))
                    .remember(&(rounds + 1)),
            }
        }
    }

    #[test]
    fn memory_goes_round_and_stays_where_nothing_is_said() {
        let batch = Batch::of(&["v"])
            .instance(&[1.0])
            .instance(&[1.0])
            .labelled(1, &[("quiet", "")])
            .recalling(1, &7);
        let first = Counter.evaluate(&batch).unwrap();
        assert_eq!((first.note(0), first.note(1)), (Some("round 0"), None));
        assert_eq!((first.memory(0), first.memory(1)), (&b"1"[..], &b"7"[..]));
        let second = Counter.evaluate(&batch.after(&first)).unwrap();
        assert_eq!(second.note(0), Some("round 1"));
    }

    #[test]
    fn inputs_by_name_and_place() {
        let batch = Batch::of(&["a", "b"])
            .instance(&[1.0, 2.0])
            .firing(&[3.0, f64::NAN], Severity::Low);
        let second = batch.instances().nth(1).unwrap();
        assert_eq!((second.input("a"), second.at(0)), (3.0, 3.0));
        assert!(second.input("b").is_nan() && second.input("c").is_nan() && second.at(9).is_nan());
        assert!(second.active().contains(Severity::Low));
        assert_eq!(batch.column("b")[0], 2.0);
        assert!(batch.column("c").is_empty());
    }

    #[test]
    fn points_belong_to_their_input() {
        let batch = Batch::of(&["a"])
            .instance(&[1.0])
            .with_points("a", 0, &[(1, 0.5), (2, 1.0)]);
        let instance = batch.instances().next().unwrap();
        assert_eq!(
            instance.points("a")[1],
            Moment {
                at: Timestamp(2),
                value: 1.0
            }
        );
        assert!(instance.points("b").is_empty());
    }
}
