//! What the alert stage remembers beside the engine, for its views: attempts as events tell of them,
//! procedures as the policy and the engine have them.

use super::alert::Report;
use super::view::{AttemptView, PipelineView, ProcedureView, RecoveryView};
use crate::plugin::Generation;
use std::collections::{BTreeMap, VecDeque};
use watchfire_engine::State;
use watchfire_engine::effect::{ActionStep, AlertView, Event};
use watchfire_engine::model::{ProcedureId, Severity};
use watchfire_engine::policy::Mode;

/// Ended attempts that the view shows. Enough for a screen.
const RECENT_ATTEMPTS: usize = 50;

/// What the stage remembers beside the engine, for its views.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// As published.
    pub(super) recovery: RecoveryView,
    /// Verified attempts that helped, and all verified ones.
    pub(super) verified: (u32, u32),
    /// As published.
    pub(super) pipeline: PipelineView,
    /// Of the newest event that was committed.
    pub(super) last_seq: u64,
    /// Why the last commit is not durable; none: it is.
    pub(super) store_error: Option<String>,
    /// Reports that the stage makes to itself, for sends and attempts it could not hand out.
    pub(super) own_reports: VecDeque<Report>,
}

impl Shown {
    /// Keeps running and recent attempts as the events tell of them.
    pub(super) fn action(
        &mut self,
        event: &Event,
        procedure: &ProcedureId,
        attempt: u32,
        step: ActionStep,
        message: &str,
    ) {
        let is_it = |view: &AttemptView| {
            view.procedure == *procedure && view.alert == event.alert && view.attempt == attempt
        };
        let view = AttemptView {
            procedure: procedure.clone(),
            alert: event.alert.clone(),
            attempt,
            step: step_name(step),
            message: message.to_owned(),
            started_at: event.wall,
        };
        match step {
            ActionStep::Start => self.recovery.running.push(view),
            ActionStep::End | ActionStep::Timeout | ActionStep::Lost => {
                let before = self.recovery.running.iter().position(is_it);
                let started_at = before
                    .map(|at| self.recovery.running.remove(at).started_at)
                    .unwrap_or(event.wall);
                self.recovery
                    .recent
                    .insert(0, AttemptView { started_at, ..view });
                self.recovery.recent.truncate(RECENT_ATTEMPTS);
            }
            ActionStep::VerifiedOk | ActionStep::VerifiedFail => {
                if let Some(recent) = self.recovery.recent.iter_mut().find(|view| is_it(view)) {
                    recent.step = step_name(step);
                }
                self.verified.1 += 1;
                self.verified.0 += u32::from(step == ActionStep::VerifiedOk);
                self.recovery.success_ratio =
                    Some(f64::from(self.verified.0) / f64::from(self.verified.1));
            }
            ActionStep::WouldStart | ActionStep::ApprovalWanted | ActionStep::Exhausted => {}
        }
    }
}

/// The procedures of the configuration, with the alerts for which they ask.
pub(super) fn procedures(state: &State, current: &Generation) -> Vec<ProcedureView> {
    let policies = &current.config.policy.procedures;
    policies
        .iter()
        .map(|policy| {
            let config = current.config.recoveries.iter().find(|r| r.id == policy.id);
            ProcedureView {
                id: policy.id.clone(),
                plugin: config.map_or_else(|| "".into(), |config| config.plugin.clone()),
                mode: match policy.mode {
                    Mode::Observe => "observe",
                    Mode::Approve => "approve",
                    Mode::Auto => "auto",
                },
                description: config.and_then(|config| config.description.clone()),
                rules: policy.rules.clone(),
                severity: policy.severity,
                max_attempts: policy.max_attempts,
                window: policy.window,
                cooldown: policy.cooldown,
                waiting_for_approval: state.waiting_for_approval(&policy.id),
            }
        })
        .collect()
}

/// Firing and pending alerts by state and severity.
pub(super) fn count_by_state(alerts: &[AlertView]) -> Vec<([String; 2], f64)> {
    let mut counts: BTreeMap<[String; 2], f64> = BTreeMap::new();
    for view in alerts {
        let state = view.state.split(':').next().unwrap_or_default().to_owned();
        let severity = view.severity.map_or("none", Severity::name).to_owned();
        *counts.entry([state, severity]).or_default() += 1.0;
    }
    counts.into_iter().collect()
}

/// The step's name in metrics, logs and views.
pub(super) fn step_name(step: ActionStep) -> &'static str {
    match step {
        ActionStep::WouldStart => "would_start",
        ActionStep::ApprovalWanted => "approval_wanted",
        ActionStep::Start => "start",
        ActionStep::End => "end",
        ActionStep::Timeout => "timeout",
        ActionStep::Lost => "lost",
        ActionStep::VerifiedOk => "verified_ok",
        ActionStep::VerifiedFail => "verified_fail",
        ActionStep::Exhausted => "exhausted",
    }
}
