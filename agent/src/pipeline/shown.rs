//! What the alert stage remembers beside the engine, for its views: attempts as events tell of them,
//! procedures as the policy and the engine have them.

use super::report::Report;
use super::view::{AttemptView, PipelineView, ProcedureView, RecoveryView};
use crate::plugin::Generation;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use watchfire_engine::effect::{ActionStep, AlertView, Event, Happening, Reason};
use watchfire_engine::model::{
    ByFingerprint, Moment, Now, ProcedureId, RuleId, Severity, WallTime,
};
use watchfire_engine::policy::Mode;
use watchfire_engine::{Send, State};

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
    /// Alerts of which nobody was told yet.
    pub(super) untold: Untold,
    /// Reports that the stage makes to itself, for sends and attempts it could not hand out.
    pub(super) own_reports: VecDeque<Report>,
    /// Procedures whose action is quarantined, as the engine was told last.
    pub(super) unfit: BTreeSet<ProcedureId>,
}

/// When alerts rose to their severity, until the first attempt to tell anybody: the targets of delivery
/// are measured from one to the other. What was muted when it rose is not measured. At most one entry a
/// firing alert.
#[derive(Debug, Default)]
pub(super) struct Untold(ByFingerprint<(RuleId, Moment)>);

impl Untold {
    /// Takes a transition in.
    pub(super) fn transition(&mut self, event: &Event, from: &str, to: &str, muted: bool) {
        let Some(fingerprint) = event.fingerprint else {
            return;
        };
        if muted || severity_of(to).is_none() {
            self.0.remove(&fingerprint);
        } else if severity_of(to) > severity_of(from) {
            let rule = event.alert.split('{').next().unwrap_or_default();
            self.0.insert(fingerprint, (RuleId::new(rule), event.at));
        }
    }

    /// The alerts that this attempt is the first to tell of, and how long that took.
    pub(super) fn told(&mut self, send: &Send, now: Now) -> Vec<(Severity, Duration)> {
        let news = matches!(
            send.notification.reason,
            Reason::Fire | Reason::Escalate | Reason::Group
        );
        if send.attempt != 1 || !news {
            return Vec::new();
        }
        let alerts = &send.notification.alerts;
        let found = alerts.iter().filter_map(|alert| {
            let (_, at) = self.0.remove(&alert.fingerprint)?;
            Some((alert.severity, now.at.since(at)))
        });
        let found = found.collect();
        // A message that lists only some of its alerts tells of them all.
        let group = send.notification.group.as_ref();
        if group.is_some_and(|group| group.firing as usize > alerts.len()) {
            self.0
                .retain(|_, (rule, _)| !alerts.iter().any(|alert| alert.rule == *rule));
        }
        found
    }
}

/// The severity to which a transition raised its alert.
pub(super) fn raised_to(event: &Event) -> Option<Severity> {
    let Happening::Transition { from, to, .. } = &event.what else {
        return None;
    };
    severity_of(to).filter(|to| Some(*to) > severity_of(from))
}

/// Of `firing:S` and `recovering:S`, stale or not.
fn severity_of(state: &str) -> Option<Severity> {
    let (_, severity) = state.split_once(':')?;
    severity.trim_end_matches("+stale").parse().ok()
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
            ActionStep::WouldStart
            | ActionStep::ApprovalWanted
            | ActionStep::Exhausted
            | ActionStep::Held => {}
        }
    }
}

/// The procedures of the configuration, with the alerts for which they ask.
pub(super) fn procedures(state: &State, current: &Generation, now: Now) -> Vec<ProcedureView> {
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
                held_until: state.held_until(policy).map(|until| {
                    let wait = until.since(now.at).as_millis();
                    WallTime(now.wall.0 + u64::try_from(wait).unwrap_or(0))
                }),
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
        ActionStep::Held => "held",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use watchfire_engine::effect::{AlertSnapshot, GroupSummary, Notification};
    use watchfire_engine::model::{Instance, Labels, NotificationId};

    fn rises(instance: &Instance, at: u64, from: &str, to: &str) -> Event {
        Event {
            at: Moment(at),
            wall: WallTime(at),
            alert: instance.to_string(),
            fingerprint: Some(instance.fingerprint),
            episode: 1,
            what: Happening::Transition {
                from: from.to_owned(),
                to: to.to_owned(),
                value: None,
                cause: "threshold",
                suppressed_by: None,
            },
        }
    }

    fn send(alerts: &[&Instance], firing: u32, attempt: u32, reason: Reason) -> Send {
        let snapshot = |instance: &&Instance| AlertSnapshot {
            fingerprint: instance.fingerprint,
            episode: 1,
            rule: instance.rule.clone(),
            severity: Severity::High,
            labels: instance.labels.clone(),
            value: None,
            limit: None,
            note: None,
            started_at: WallTime(0),
            ended_at: None,
            end_cause: None,
        };
        Send {
            notifier: "ops".into(),
            attempt,
            order: 0,
            notification: Arc::new(Notification {
                id: NotificationId::new("n"),
                dedup_key: String::new(),
                reason,
                alerts: alerts.iter().map(snapshot).collect(),
                group: Some(GroupSummary {
                    labels: Labels::default(),
                    firing,
                    new: firing,
                    resolved: 0,
                }),
                decided_at: Moment(0),
                late: false,
                note: None,
            }),
        }
    }

    fn now(at: u64) -> Now {
        Now {
            at: Moment(at),
            wall: WallTime(at),
        }
    }

    #[test]
    fn the_first_attempt_ends_the_delay_of_each_rise_once() {
        let [a, b] = ["a", "b"].map(|i| {
            let labels = Labels::new([("i", i)]).unwrap();
            Instance::new("disk".into(), labels)
        });
        let mut untold = Untold::default();
        let take = |untold: &mut Untold, event: &Event, muted| {
            let Happening::Transition { from, to, .. } = &event.what else {
                unreachable!()
            };
            untold.transition(event, from, to, muted);
        };
        take(&mut untold, &rises(&a, 100, "ok", "pending"), false);
        take(
            &mut untold,
            &rises(&a, 200, "pending", "firing:high"),
            false,
        );
        take(&mut untold, &rises(&b, 200, "ok", "firing:high"), true);
        let both = send(&[&a, &b], 2, 1, Reason::Group);
        let delay = Duration::from_millis(50);
        assert_eq!(untold.told(&both, now(250)), [(Severity::High, delay)]);
        assert_eq!(untold.told(&both, now(900)), []);

        take(
            &mut untold,
            &rises(&a, 300, "firing:high", "recovering:high"),
            false,
        );
        take(
            &mut untold,
            &rises(&a, 400, "recovering:high", "firing:high"),
            false,
        );
        let one = send(&[&a], 1, 1, Reason::Fire);
        assert_eq!(untold.told(&one, now(500)), [], "nothing rose");

        take(
            &mut untold,
            &rises(&a, 600, "firing:high", "firing:critical"),
            false,
        );
        let retry = send(&[&a], 1, 2, Reason::Escalate);
        assert_eq!(
            untold.told(&retry, now(700)),
            [],
            "a retry is no first attempt"
        );
        take(
            &mut untold,
            &rises(&b, 600, "firing:low", "firing:high"),
            false,
        );
        let listed = send(&[&b], 2, 1, Reason::Group);
        assert_eq!(untold.told(&listed, now(700)).len(), 1);
        assert!(untold.0.is_empty(), "told of without being listed");
    }

    #[test]
    fn only_a_rise_is_a_detection() {
        let a = Instance::new("cpu".into(), Labels::default());
        for (from, to, raised) in [
            ("ok", "firing:low", Some(Severity::Low)),
            ("firing:low+stale", "firing:high", Some(Severity::High)),
            ("firing:high", "firing:low", None),
            ("recovering:low", "firing:low", None),
            ("ok", "pending", None),
        ] {
            assert_eq!(raised_to(&rises(&a, 0, from, to)), raised, "{from} {to}");
        }
    }
}
