//! What operators and the world do: `[[test.at]]`.

use crate::happening::{CrashMode, Event, EventKind, Reload};
use crate::scenario::{Judges, Scenario};
use crate::world::{EPOCH_MS, millis};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::input::{Command, CommandKind, Condition, Input, Silence};
use watchfire_engine::model::{Instance, Labels, RuleId, Severity, WallTime};

/// How the world is at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outage {
    None,
    /// The process was killed.
    Dead {
        until: u64,
    },
    /// The host sleeps.
    Asleep {
        from: u64,
        until: u64,
    },
}

impl Outage {
    pub(crate) fn until(self) -> Option<u64> {
        match self {
            Outage::None => None,
            Outage::Dead { until } | Outage::Asleep { until, .. } => Some(until),
        }
    }
}

impl<'t, J: Judges> Scenario<'t, J> {
    pub(crate) fn event(&mut self, event: Event<'t>) {
        let now = self.world.now();
        let from = millis(event.at);
        match event.kind {
            EventKind::Acknowledge(rule) => {
                let alerts = self.world.state().alerts().into_iter();
                let firing: Vec<_> = alerts
                    .filter(|view| *view.instance.rule.as_str() == *rule && view.severity.is_some())
                    .map(|view| view.instance.fingerprint)
                    .collect();
                for alert in firing {
                    self.command(CommandKind::Acknowledge { alert, lasts: None });
                }
            }
            EventKind::Silence {
                rule,
                from,
                to,
                notify,
                recover,
            } => {
                let wall = |at: Duration| WallTime(EPOCH_MS + millis(at));
                self.silenced += 1;
                self.command(CommandKind::Silence(Silence {
                    // One of its own, also where two begin in one instant.
                    id: format!("{rule}@{}", self.silenced).into(),
                    rules: vec![rule.into()],
                    from: wall(from),
                    until: wall(to),
                    notify,
                    recover,
                    owner: "test".into(),
                    reason: "test".into(),
                    ..Silence::default()
                }));
            }
            EventKind::Reload(Reload::Invalid) => self.config_invalid(true),
            EventKind::Reload(Reload::Tables(_)) => {
                self.reload();
                self.config_invalid(false);
            }
            EventKind::Crash { until, mode } => {
                let until = millis(until);
                if until > now {
                    match mode {
                        CrashMode::Idle => self.outage = Outage::Dead { until },
                        mode => self.world.crash = Some((mode, until)),
                    }
                }
            }
            EventKind::Suspend { until } => {
                let until = millis(until);
                if until > now {
                    self.outage = Outage::Asleep { from: now, until };
                }
            }
            EventKind::ClockStep(by_ms) => self.world.step_wall(by_ms),
            EventKind::EvaluationTakes(takes) => self.slow = Some(millis(takes)),
            EventKind::RuleTraps { rule, until } => {
                self.traps
                    .push((rule, from, until.map_or(u64::MAX, millis)));
            }
        }
        self.notice_death();
    }

    fn command(&mut self, what: CommandKind) {
        self.world.feed(Input::Command(Command {
            by: "test".into(),
            what,
        }));
    }

    fn config_invalid(&mut self, active: bool) {
        let rule = RuleId::new("watchfire_config_invalid");
        self.world.feed(Input::Condition(Condition {
            alert: Arc::new(Instance::new(rule, Labels::default())),
            severity: Severity::Warning,
            active,
            summary: "the configuration is invalid".into(),
        }));
    }
}
