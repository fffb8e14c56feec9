//! What a rule sees: a round, in columns, and one instance of it.

use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Verdicts;
use super::verdict::encode;
use crate::alert::lookup;
use crate::error::parse_kept;
use crate::{Pairs, Severities, Timestamp};

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
        index
            .and_then(|index| self.columns.get(index))
            .map_or(&[], Vec::as_slice)
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
        assert_eq!(
            values.len(),
            self.columns.len(),
            "one value for each of {:?}",
            self.inputs
        );
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

    /// With this memory of the instance at `index`, as [`Verdict::remember`](super::Verdict::remember) writes it.
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
        let place = self
            .points_of
            .iter()
            .position(|name| name == input)
            .unwrap_or_else(|| {
                self.points_of = self
                    .points_of
                    .iter()
                    .cloned()
                    .chain([input.to_owned()])
                    .collect();
                self.points.push(Vec::new());
                self.points_of.len() - 1
            });
        let instances = &mut self.points[place];
        instances.resize(self.active.len(), Vec::new());
        instances[index] = points
            .iter()
            .map(|&(at, value)| Moment {
                at: Timestamp(at),
                value,
            })
            .collect();
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
        self.batch
            .inputs
            .iter()
            .position(|input| input == name)
            .map_or(f64::NAN, |input| self.at(input))
    }

    /// The value of the input at this place, in the order of [`Rule::new`](super::Rule::new); NaN = not known now.
    pub fn at(&self, input: usize) -> f64 {
        self.batch
            .columns
            .get(input)
            .and_then(|column| column.get(self.index))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// The severities at which it is firing: judge those by their clear limits.
    pub fn active(&self) -> Severities {
        self.batch
            .active
            .get(self.index)
            .copied()
            .unwrap_or_default()
    }

    /// Its labels, where [`Needs::labels`](super::Needs::labels) asked for them.
    pub fn labels(&self) -> &'a [(String, String)] {
        self.batch.labels.get(self.index).map_or(&[], Vec::as_slice)
    }

    /// The label called `name`, where [`Needs::labels`](super::Needs::labels) asked for them.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        lookup(self.labels(), name)
    }

    /// The bytes of [`Verdict::memory`](super::Verdict::memory) of the last round; empty at first.
    pub fn memory(&self) -> &'a [u8] {
        self.batch.memory.get(self.index).map_or(&[], Vec::as_slice)
    }

    /// What [`Verdict::remember`](super::Verdict::remember) kept in the last round; `None` at first, and where it cannot be read: after an update
    /// of the plugin it may be of another shape.
    pub fn recall<T: DeserializeOwned>(&self) -> Option<T> {
        parse_kept(self.memory())
    }

    /// The raw points of an input, oldest first, where [`Needs::points`](super::Needs::points) asked for them.
    pub fn points(&self, input: &str) -> &'a [Moment] {
        let place = self.batch.points_of.iter().position(|name| name == input);
        place
            .and_then(|place| self.batch.points.get(place)?.get(self.index))
            .map_or(&[], Vec::as_slice)
    }
}
