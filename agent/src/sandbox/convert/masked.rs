//! Answers of guests that were shown a secret, with its value taken out of every text.
//!
//! It guards against the accident: a guest that wants to can write a value backwards.

use crate::sandbox::secrets::Mask;
use crate::sandbox::types::{Collection, Description, Needs, Outcome, Receipt, Verdicts};
use std::borrow::Cow;
use std::sync::Arc;
use watchfire_engine::model::Labels;

/// An answer that can be masked.
pub(crate) trait Masked: Sized {
    /// The same with every known value replaced.
    fn masked(self, mask: &Mask) -> Self;
}

impl Masked for () {
    fn masked(self, _: &Mask) -> Self {}
}

/// Rules are shown nothing.
impl Masked for Needs {
    fn masked(self, _: &Mask) -> Self {
        self
    }
}

/// Rules are shown nothing.
impl Masked for Verdicts {
    fn masked(self, _: &Mask) -> Self {
        self
    }
}

/// Said before anything is granted.
impl Masked for Description {
    fn masked(self, _: &Mask) -> Self {
        self
    }
}

impl Masked for Collection {
    fn masked(mut self, mask: &Mask) -> Self {
        for family in &mut self.families {
            if let Cow::Owned(help) = mask.apply(&family.help) {
                family.help = help.into();
            }
            for point in &mut family.points {
                mask_labels(&mut point.series.labels, mask);
            }
        }
        let failures = self.failures.into_iter();
        self.failures = failures.map(|failure| mask.error(failure)).collect();
        self
    }
}

impl Masked for Receipt {
    fn masked(self, mask: &Mask) -> Self {
        Receipt {
            remote_id: self.remote_id.map(|id| owned(id, mask)),
            extra: pairs(self.extra, mask),
        }
    }
}

impl Masked for Outcome {
    fn masked(self, mask: &Mask) -> Self {
        Outcome {
            did: owned(self.did, mask),
            changed: self.changed,
        }
    }
}

fn mask_labels(labels: &mut Labels, mask: &Mask) {
    let shows = |value: &str| matches!(mask.apply(value), Cow::Owned(_));
    if !labels.iter().any(|(_, value)| shows(value)) {
        return;
    }
    let masked = labels
        .iter()
        .map(|(name, value)| (Arc::<str>::from(name), mask.apply(value).into_owned()));
    // The names stay what they were, so they are good ones; stars are no longer than what they stand for, or short.
    *labels = Labels::new(masked).unwrap_or_default();
}

fn owned(text: String, mask: &Mask) -> String {
    match mask.apply(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => masked,
    }
}

fn pairs(pairs: Vec<(String, String)>, mask: &Mask) -> Vec<(String, String)> {
    let both = |(key, value)| (owned(key, mask), owned(value, mask));
    pairs.into_iter().map(both).collect()
}
