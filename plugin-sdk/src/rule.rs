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

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::alert::lookup;
use crate::error::parse_config;
use crate::{Pairs, Result, Severities, Severity, Timestamp};

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
    /// From how far back it wants the points.
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

/// A value and when it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// How much.
    pub value: f64,
}

/// One round of a rule: a column of numbers an input, an entry an instance. Columns stay columns: ten thousand
/// instances cost ten thousand numbers, not ten thousand records.
///
/// The methods from [`of`](Batch::of) on build one, for tests.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) now: Timestamp,
    pub(crate) inputs: Rc<[String]>,
    pub(crate) points_of: Rc<[String]>,
    pub(crate) columns: Vec<Vec<f64>>,
    pub(crate) active: Vec<Severities>,
    pub(crate) labels: Vec<Pairs>,
    pub(crate) memory: Vec<Vec<u8>>,
    pub(crate) points: Vec<Vec<Vec<Moment>>>,
}

impl Batch {
    /// The moment of the round. A rule has no other clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// Whether there is no instance.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Names of the inputs, in the order of the columns.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// All values of an input, one an instance; NaN = not known now. Empty where there is no such input.
    pub fn column(&self, input: &str) -> &[f64] {
        let index = self.inputs.iter().position(|name| name == input);
        index.and_then(|index| self.columns.get(index)).map_or(&[], Vec::as_slice)
    }

    /// The severities at which each instance is firing.
    pub fn active(&self) -> &[Severities] {
        &self.active
    }

    /// One instance after the other.
    pub fn instances(&self) -> impl ExactSizeIterator<Item = Instance<'_>> {
        (0..self.len()).map(|index| Instance { batch: self, index })
    }

    /// A round without instances over these inputs, at 1970-01-01.
    pub fn of(inputs: &[&str]) -> Self {
        Batch {
            inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
            columns: vec![Vec::new(); inputs.len()],
            ..Batch::default()
        }
    }

    /// At another moment.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    /// With one more instance that is not firing: one value an input.
    ///
    /// # Panics
    /// Where there is not one value for each input.
    #[must_use]
    pub fn instance(self, values: &[f64]) -> Self {
        self.firing(values, Severities::NONE)
    }

    /// With one more instance that is firing at `active`.
    ///
    /// # Panics
    /// Where there is not one value for each input.
    #[must_use]
    pub fn firing(mut self, values: &[f64], active: impl Into<Severities>) -> Self {
        assert_eq!(values.len(), self.columns.len(), "one value for each of {:?}", self.inputs);
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(*value);
        }
        self.active.push(active.into());
        self
    }

    /// With these labels on the instance at `index`.
    #[must_use]
    pub fn labelled(mut self, index: usize, labels: &[(&str, &str)]) -> Self {
        self.labels.resize(self.active.len(), Pairs::new());
        self.labels[index] = crate::alert::pairs(labels.iter().copied());
        self
    }

    /// With this memory of the instance at `index`, as [`Verdict::remember`] writes it.
    #[must_use]
    pub fn recalling(mut self, index: usize, memory: &impl Serialize) -> Self {
        self.memory.resize(self.active.len(), Vec::new());
        self.memory[index] = encode(memory);
        self
    }

    /// With the memories that these verdicts left behind: the next round over the same instances.
    #[must_use]
    pub fn after(mut self, verdicts: &Verdicts) -> Self {
        self.memory.clone_from(&verdicts.memory);
        self
    }

    /// With the raw points of `input` for the instance at `index`: milliseconds and values, oldest first.
    #[must_use]
    pub fn with_points(mut self, input: &str, index: usize, points: &[(u64, f64)]) -> Self {
        let place = self.points_of.iter().position(|name| name == input).unwrap_or_else(|| {
            self.points_of = self.points_of.iter().cloned().chain([input.to_owned()]).collect();
            self.points.push(Vec::new());
            self.points_of.len() - 1
        });
        let instances = &mut self.points[place];
        instances.resize(self.active.len(), Vec::new());
        instances[index] = points.iter().map(|&(at, value)| Moment { at: Timestamp(at), value }).collect();
        self
    }
}

/// One instance of a round: one label set and its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    batch: &'a Batch,
    index: usize,
}

impl<'a> Instance<'a> {
    /// The moment of the round.
    pub fn now(&self) -> Timestamp {
        self.batch.now
    }

    /// Its place in the round, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The value of the input called `name`; NaN = not known now, or no such input.
    pub fn input(&self, name: &str) -> f64 {
        self.batch.inputs.iter().position(|input| input == name).map_or(f64::NAN, |input| self.at(input))
    }

    /// The value of the input at this place, in the order of [`Rule::new`]; NaN = not known now.
    pub fn at(&self, input: usize) -> f64 {
        self.batch.columns.get(input).and_then(|column| column.get(self.index)).copied().unwrap_or(f64::NAN)
    }

    /// The severities at which it is firing: judge those by their clear limits.
    pub fn active(&self) -> Severities {
        self.batch.active.get(self.index).copied().unwrap_or_default()
    }

    /// Its labels, where [`Needs::labels`] asked for them.
    pub fn labels(&self) -> &'a [(String, String)] {
        self.batch.labels.get(self.index).map_or(&[], Vec::as_slice)
    }

    /// The label called `name`, where [`Needs::labels`] asked for them.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        lookup(self.labels(), name)
    }

    /// The bytes of [`Verdict::memory`] of the last round; empty at first.
    pub fn memory(&self) -> &'a [u8] {
        self.batch.memory.get(self.index).map_or(&[], Vec::as_slice)
    }

    /// What [`Verdict::remember`] kept in the last round; `None` at first, and where it cannot be read: after an update
    /// of the plugin it may be of another shape.
    pub fn recall<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.memory()).ok()
    }

    /// The raw points of an input, oldest first, where [`Needs::points`] asked for them.
    pub fn points(&self, input: &str) -> &'a [Moment] {
        let place = self.batch.points_of.iter().position(|name| name == input);
        place
            .and_then(|place| self.batch.points.get(place)?.get(self.index))
            .map_or(&[], Vec::as_slice)
    }
}

/// What a rule says of one instance now.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    breached: Option<Severities>,
    value: f64,
    limit: f64,
    note: Option<String>,
    memory: Option<Vec<u8>>,
}

impl Verdict {
    /// Nothing can be said: the host holds what is.
    pub fn unknown() -> Self {
        Verdict {
            breached: None,
            value: f64::NAN,
            limit: f64::NAN,
            note: None,
            memory: None,
        }
    }

    /// No severity is breached.
    pub fn healthy() -> Self {
        Verdict::breach(Severities::NONE)
    }

    /// These severities are breached. Say each one by itself: critical alone does not imply warning.
    pub fn breach(breached: impl Into<Severities>) -> Self {
        Verdict {
            breached: Some(breached.into()),
            ..Verdict::unknown()
        }
    }

    /// Breached at `severity`, or healthy.
    pub fn breach_if(breached: bool, severity: Severity) -> Self {
        Verdict::breach(if breached { severity.into() } else { Severities::NONE })
    }

    /// With the value that was judged, for people.
    #[must_use]
    pub fn value(mut self, value: f64) -> Self {
        self.value = value;
        self
    }

    /// With the limit it was held against, for people.
    #[must_use]
    pub fn limit(mut self, limit: f64) -> Self {
        self.limit = limit;
        self
    }

    /// With something to tell: one line, for people.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With memory for the next round, at most 4 KiB. A verdict without keeps what was there.
    #[must_use]
    pub fn memory(mut self, memory: Vec<u8>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// With memory for the next round, written as JSON; read it with [`Instance::recall`].
    #[must_use]
    pub fn remember(self, memory: &impl Serialize) -> Self {
        let memory = encode(memory);
        self.memory(memory)
    }

    /// The breached severities; `None` = unknown.
    pub fn breached(&self) -> Option<Severities> {
        self.breached
    }
}

/// What cannot be written (a map with keys that are no text) is kept as nothing, and recalled as nothing.
fn encode(memory: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(memory).unwrap_or_default()
}

/// What a rule says of a round: columns again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    pub(crate) breached: Vec<Option<Severities>>,
    pub(crate) values: Vec<f64>,
    pub(crate) limits: Vec<f64>,
    pub(crate) notes: Vec<(u32, String)>,
    /// Memories of the round before, then of this one: `push` overwrites those that changed.
    pub(crate) memory: Vec<Vec<u8>>,
}

impl Verdicts {
    /// No verdict yet, with room for one an instance of `batch` and its memories.
    pub fn for_batch(batch: &Batch) -> Self {
        Verdicts {
            breached: Vec::with_capacity(batch.len()),
            values: Vec::with_capacity(batch.len()),
            limits: Vec::with_capacity(batch.len()),
            notes: Vec::new(),
            memory: batch.memory.clone(),
        }
    }

    /// Adds the verdict of the next instance.
    pub fn push(&mut self, verdict: Verdict) {
        let index = self.breached.len();
        self.breached.push(verdict.breached);
        self.values.push(verdict.value);
        self.limits.push(verdict.limit);
        if let Some(note) = verdict.note {
            // A round is far below 2^32 instances: the host cuts it to a few megabytes.
            self.notes.push((index as u32, note));
        }
        if let Some(memory) = verdict.memory {
            if self.memory.len() <= index {
                self.memory.resize(index + 1, Vec::new());
            }
            self.memory[index] = memory;
        }
    }

    /// Adds a verdict that is numbers only, for `evaluate` over columns.
    pub fn push_plain(&mut self, breached: Option<Severities>, value: f64, limit: f64) {
        self.breached.push(breached);
        self.values.push(value);
        self.limits.push(limit);
    }

    /// How many verdicts there are.
    pub fn len(&self) -> usize {
        self.breached.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.breached.is_empty()
    }

    /// The breached severities of the instance at `index`; `None` = unknown.
    ///
    /// # Panics
    /// Where there is no such verdict.
    pub fn breached(&self, index: usize) -> Option<Severities> {
        self.breached[index]
    }

    /// The judged value of the instance at `index`; NaN = nothing to say.
    ///
    /// # Panics
    /// Where there is no such verdict.
    pub fn value(&self, index: usize) -> f64 {
        self.values[index]
    }

    /// The limit the value was held against; NaN = nothing to say.
    ///
    /// # Panics
    /// Where there is no such verdict.
    pub fn limit(&self, index: usize) -> f64 {
        self.limits[index]
    }

    /// What there is to tell about the instance at `index`.
    pub fn note(&self, index: usize) -> Option<&str> {
        self.notes.iter().find(|(of, _)| *of as usize == index).map(|(_, note)| &**note)
    }

    /// The memory of the instance at `index` for the next round; empty where there is none.
    pub fn memory(&self, index: usize) -> &[u8] {
        self.memory.get(index).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                None => Verdict::healthy().note(format!("round {rounds}")).remember(&(rounds + 1)),
            }
        }
    }

    #[test]
    fn memory_goes_round_and_stays_where_nothing_is_said() {
        let batch = Batch::of(&["v"]).instance(&[1.0]).instance(&[1.0]).labelled(1, &[("quiet", "")]).recalling(1, &7);
        let first = Counter.evaluate(&batch).unwrap();
        assert_eq!((first.note(0), first.note(1)), (Some("round 0"), None));
        assert_eq!((first.memory(0), first.memory(1)), (&b"1"[..], &b"7"[..]));
        let second = Counter.evaluate(&batch.after(&first)).unwrap();
        assert_eq!(second.note(0), Some("round 1"));
    }

    #[test]
    fn inputs_by_name_and_place() {
        let batch = Batch::of(&["a", "b"]).instance(&[1.0, 2.0]).firing(&[3.0, f64::NAN], Severity::Low);
        let second = batch.instances().nth(1).unwrap();
        assert_eq!((second.input("a"), second.at(0)), (3.0, 3.0));
        assert!(second.input("b").is_nan() && second.input("c").is_nan() && second.at(9).is_nan());
        assert!(second.active().contains(Severity::Low));
        assert_eq!(batch.column("b")[0], 2.0);
        assert!(batch.column("c").is_empty());
    }

    #[test]
    fn points_belong_to_their_input() {
        let batch = Batch::of(&["a"]).instance(&[1.0]).with_points("a", 0, &[(1, 0.5), (2, 1.0)]);
        let instance = batch.instances().next().unwrap();
        assert_eq!(instance.points("a")[1], Moment { at: Timestamp(2), value: 1.0 });
        assert!(instance.points("b").is_empty());
    }
}
