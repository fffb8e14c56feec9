//! A rule's declared inputs: from the history's series to one column of numbers an input.
//!
//! Instances are told apart by `by`, or by all labels of the series. Where several series of one input
//! fall into one instance, counting aggregates add up, `min` and `max` keep their meaning, and the rest
//! takes the mean.

use crate::config::{Aggregate, InputConfig, RuleConfig};
use crate::sandbox::types::Needs;
use crate::store::history::{History, SeriesId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::input::Seen;
use watchfire_engine::model::{Instance, Labels, Now, ProbeId, RuleId};

/// What a rule reads.
#[derive(Debug)]
pub(super) struct RuleInputs {
    inputs: Vec<InputConfig>,
    by: Option<Vec<Arc<str>>>,
    points_of: Vec<usize>,
}

/// One round of a rule's inputs; one entry an instance.
#[derive(Debug, Default)]
pub(super) struct Column {
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) seen: Vec<Seen>,
    /// One column an input.
    pub(super) values: Vec<Vec<f64>>,
    /// Raw points of the inputs that the rule asked for.
    pub(super) points: Vec<Vec<Vec<(u64, f64)>>>,
}
