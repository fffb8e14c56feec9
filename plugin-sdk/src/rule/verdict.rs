//! What a rule says: one verdict an instance, in columns again.

use serde::Serialize;

use super::Batch;
use crate::{Severities, Severity};

/// What a rule says of one instance now.
///
/// Two verdicts are equal where they say the same: NaN, nothing to say, equals itself.
#[derive(Clone, Debug)]
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
        Verdict::breach(if breached {
            severity.into()
        } else {
            Severities::NONE
        })
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

    /// With memory for the next round, written as JSON; read it with [`Instance::recall`](super::Instance::recall).
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

impl PartialEq for Verdict {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        self.breached == other.breached
            && same(self.value, other.value)
            && same(self.limit, other.limit)
            && self.note == other.note
            && self.memory == other.memory
    }
}

/// What cannot be written (a map with keys that are no text) is kept as nothing, and recalled as nothing.
pub(super) fn encode(memory: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(memory).unwrap_or_default()
}

/// What a rule says of a round: columns again.
#[derive(Clone, Debug, Default)]
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
        self.notes
            .iter()
            .find(|(of, _)| *of as usize == index)
            .map(|(_, note)| &**note)
    }

    /// The memory of the instance at `index` for the next round; empty where there is none.
    pub fn memory(&self, index: usize) -> &[u8] {
        self.memory.get(index).map_or(&[], Vec::as_slice)
    }
}
