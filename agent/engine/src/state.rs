//! Everything the engine remembers, and how it is kept and brought back.

use crate::effect::{AlertView, Effects, RecordChange, Table};
use crate::input::Input;
use crate::model::{Fingerprint, Moment, Now, RuleId, Severities};
use crate::policy::Policy;
use std::sync::Arc;

/// Everything the engine remembers.
#[derive(Clone, Debug, Default)]
pub struct State {}

/// A stored row that the engine cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreError {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: String,
    /// Why.
    pub message: String,
}

impl State {
    /// An engine that has seen nothing: a first start, or one after the state was lost.
    pub fn new(_policy: &Policy, _now: Now) -> Self {
        State {}
    }

    /// Takes up the committed rows after a restart at `now`. Rows that cannot be read are left out and
    /// named; the effects close what the outage left open (attempts that ran become lost, rules that
    /// are gone resolve).
    pub fn restore(
        _rows: impl IntoIterator<Item = (Table, String, String)>,
        _policy: &Policy,
        _now: Now,
    ) -> (Self, Effects, Vec<RestoreError>) {
        (State {}, Effects::default(), Vec::new())
    }

    /// When [`Input::Timer`] is due: retries, group flushes. None: nothing waits.
    pub fn next_due(&self) -> Option<Moment> {
        None
    }

    /// The instances of `rule` that fire, and at which severities (recovering ones included): what a
    /// rule component needs to judge them by their clear thresholds.
    pub fn active(&self, _rule: &RuleId) -> Vec<(Fingerprint, Severities)> {
        Vec::new()
    }

    /// The rules' own memory, per instance, for a start.
    pub fn memories(&self, _rule: &RuleId) -> Vec<(Fingerprint, Arc<[u8]>)> {
        Vec::new()
    }

    /// Undelivered notifications.
    pub fn outbox_pending(&self) -> usize {
        0
    }

    /// Whether an operator paused recovery.
    pub fn is_paused(&self) -> bool {
        false
    }

    /// Alerts (as `cpu{host="a"}`) for which the procedure waits for an approval.
    pub fn waiting_for_approval(&self, _procedure: &crate::model::ProcedureId) -> Vec<String> {
        Vec::new()
    }

    /// Every alert that is not plainly ok, meta-alerts included; ordered by rule, then labels.
    pub fn alerts(&self) -> Vec<AlertView> {
        Vec::new()
    }
}

/// Takes one input and decides. `now` never goes back; `policy` may differ from the last step's only
/// with [`Input::Reload`].
pub fn step(_state: &mut State, _policy: &Policy, _input: Input, _now: Now) -> Effects {
    let _: Vec<RecordChange> = Vec::new();
    Effects::default()
}
