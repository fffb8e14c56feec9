//! What operators and the world do: `[[test.at]]`, outages and their ends.

use super::{CrashMode, Driver, EPOCH_MS, Outage, ms};
use crate::config::{Config, Span};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use toml::{Table, Value};
use watchfire_engine::State;
use watchfire_engine::input::{Command, CommandKind, Condition, Input, Silence};
use watchfire_engine::model::{Instance, Labels, RuleId, Severity, WallTime};

/// What happens at one instant of `[[test.at]]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    pub(super) at: Span,
    ack: Option<String>,
    silence: Option<RawSilence>,
    reload: Option<Value>,
    pub(super) crash_until: Option<Span>,
    mode: Option<String>,
    pub(super) suspend_until: Option<Span>,
    clock_step: Option<String>,
    evaluation_takes: Option<Span>,
    rule_traps: Option<String>,
    until: Option<Span>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSilence {
    rule: String,
    from: Span,
    to: Span,
    scope: Option<Vec<String>>,
}

impl Driver {
    pub(super) fn event(&mut self, event: At) {
        if let Some(rule) = &event.ack {
            let firing = self
                .state
                .alerts()
                .into_iter()
                .filter(|view| view.instance.rule.as_str() == rule && view.severity.is_some());
            let firing: Vec<_> = firing.map(|view| view.instance.fingerprint).collect();
            for alert in firing {
                self.command(CommandKind::Acknowledge { alert });
            }
        }
        if let Some(silence) = &event.silence {
            let wall = |span: Span| WallTime(EPOCH_MS as u64 + ms(span));
            let scope = |name: &str, unset: bool| match &silence.scope {
                None => unset,
                Some(names) => names.iter().any(|n| n == name),
            };
            self.silenced += 1;
            self.command(CommandKind::Silence(Silence {
                // One of its own, also where two begin in one instant.
                id: format!("{}@{}", silence.rule, self.silenced).into(),
                rules: vec![silence.rule.as_str().into()],
                labels: Vec::new(),
                from: wall(silence.from),
                until: wall(silence.to),
                notify: scope("notify", true),
                recover: scope("recover", true),
                owner: "test".into(),
                reason: "test".into(),
                ..Silence::default()
            }));
        }
        match &event.reload {
            Some(Value::Table(tables)) => self.reload(tables),
            Some(_) => self.config_invalid(true),
            None => {}
        }
        if let Some(step) = &event.clock_step {
            let (sign, text) = match step.strip_prefix('-') {
                Some(text) => (-1, text),
                None => (1, step.as_str()),
            };
            let by = watchfire_engine::model::parse_duration(text).expect("a clock step");
            self.wall_step += sign * i64::try_from(by.as_millis()).expect("a clock step");
        }
        if let Some(takes) = event.evaluation_takes {
            self.slow = Some(ms(takes));
        }
        if let Some(rule) = &event.rule_traps {
            let until = event.until.map_or(u64::MAX, ms);
            self.traps.push((rule.clone(), ms(event.at), until));
        }
        if let Some(until) = event
            .suspend_until
            .map(ms)
            .filter(|until| *until > self.now)
        {
            self.outage = Outage::Asleep {
                from: self.now,
                until,
            };
        }
        if let Some(until) = event.crash_until.map(ms).filter(|until| *until > self.now) {
            match event.mode.as_deref() {
                None | Some("idle") => self.outage = Outage::Dead { until },
                Some("before_send") => self.crash = Some((CrashMode::BeforeSend, until)),
                Some("after_send") => self.crash = Some((CrashMode::AfterSend, until)),
                Some(other) => panic!("mode = {other:?}"),
            }
        }
    }

    fn command(&mut self, what: CommandKind) {
        self.feed(Input::Command(Command {
            by: "test".into(),
            what,
        }));
    }

    /// Each table that is named takes the place of the running one.
    fn reload(&mut self, tables: &Table) {
        for (key, value) in tables {
            self.tables.insert(key.clone(), value.clone());
        }
        self.config = Config::read(&self.tables);
        // A scenario lists no notifiers: one that no route names any more still hears the end of what it was told.
        let before = std::mem::replace(&mut self.policy, self.config.policy()).notifiers;
        self.policy.notifiers.extend(before);
        self.policy.notifiers.sort();
        self.policy.notifiers.dedup();
        self.feed(Input::Reload);
        self.config_invalid(false);
    }

    fn config_invalid(&mut self, active: bool) {
        let rule = RuleId::new("watchfire_config_invalid");
        self.feed(Input::Condition(Condition {
            alert: Arc::new(Instance::new(rule, Labels::default())),
            severity: Severity::Warning,
            active,
            summary: "the configuration is invalid".into(),
        }));
    }

    pub(super) fn restart(&mut self) {
        let rows = self
            .rows
            .iter()
            .map(|((table, key), body)| (*table, key.clone(), body.clone()));
        let rows: Vec<_> = rows.collect();
        let (state, effects, errors) = State::restore(rows, &self.policy, self.clock());
        assert_eq!(errors, [], "own records can be read");
        self.state = state;
        self.running.clear();
        self.begin_grid();
        self.carry_out(effects);
    }

    pub(super) fn resume(&mut self, from: u64) {
        self.begin_grid();
        let lost = Duration::from_millis(self.now - from);
        self.feed(Input::Resumed { lost });
    }

    fn begin_grid(&mut self) {
        self.busy_until = self.now;
        for (at, ..) in self.probes.values_mut() {
            *at = self.now;
        }
    }
}
