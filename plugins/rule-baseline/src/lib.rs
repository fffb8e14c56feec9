//! Judges a number against its own history: so much above what is usual here, or so many deviations away from it.
//!
//! What is usual is learnt by one of four methods (`methods/`) and carried from round to round as the rule's memory, which
//! the host keeps (`memory.rs`). Nothing is learnt from a breach: an incident must not become what is usual.

mod config;
mod memory;
mod methods;

use std::time::Duration;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::text::number;
use watchfire_plugin_sdk::threshold::Thresholds;

use config::{Config, Unit};
use memory::Memory;
use methods::{Level, Shape};

/// The rule: how it learns, and what is too far from what it learnt.
#[derive(Debug)]
pub struct Baseline {
    shape: Shape,
    /// Nothing is judged before it has watched for so long.
    warm_up: Duration,
    /// A breach that lasts longer is learnt from after all; none: never.
    relearn_after: Option<Duration>,
    unit: Unit,
    /// Both directions away from the baseline count.
    both_sides: bool,
    /// The least that a distance is measured by, in the metric's unit.
    floor: f64,
    limits: Thresholds,
}

impl Rule for Baseline {
    type Config = Config;

    fn new(config: Config, inputs: &[String]) -> Result<Self> {
        if inputs.len() != 1 {
            return Err(Error::config(format!(
                "a baseline judges one input, and the rule has {}: write metric = \"…\" in the rule, or a rule for each input",
                inputs.len()
            )));
        }
        config.check()
    }

    fn needs(&self) -> Needs {
        Needs::memory()
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let (now, value) = (instance.now().0, instance.at(0));
        if !value.is_finite() {
            return Verdict::unknown();
        }
        let mut memory = Memory::decode(instance.memory(), self.shape, now);
        let warm = memory.watched(now) >= self.warm_up;
        let level = memory.learnt.level(now).filter(|_| warm);
        let Some(level) = level else {
            // While it warms up it learns from an alert, too: a lost memory must not hold one for ever.
            memory.learnt.learn(now, value);
            return Verdict::unknown().memory(memory.encode(self.shape));
        };
        let verdict = self.verdict(value, level, instance.active());
        let calm = instance.active().is_empty() && verdict.breached() == Some(Severities::NONE);
        let frozen = memory.freeze(now, !calm);
        if frozen.is_none_or(|since| self.relearn_after.is_some_and(|after| since >= after)) {
            memory.learnt.learn(now, value);
        }
        verdict.memory(memory.encode(self.shape))
    }
}

impl Baseline {
    fn verdict(&self, value: f64, level: Level, active: Severities) -> Verdict {
        let scale = match self.unit {
            Unit::Share => level.center.abs(),
            Unit::Sigma => level.spread,
        };
        let scale = scale.max(self.floor);
        let distance = value - level.center;
        // A constant series has no deviation: whatever differs from it is infinitely far, and what does not is at 0.
        let signed = if distance == 0.0 {
            0.0
        } else {
            distance / scale
        };
        let judged = if self.both_sides {
            signed.abs()
        } else {
            signed
        };
        let (breached, limit) = self.limits.judge_plain(judged, active);
        let Some(breached) = breached else {
            return Verdict::unknown();
        };
        let side = if self.both_sides && signed < 0.0 {
            -1.0
        } else {
            1.0
        };
        let verdict = Verdict::breach(breached)
            .value(value)
            .limit(level.center + side * limit * scale);
        if breached.is_empty() {
            verdict
        } else {
            verdict.note(self.note(signed, level))
        }
    }

    fn note(&self, signed: f64, level: Level) -> String {
        let side = if signed < 0.0 { "below" } else { "above" };
        let baseline = number(digits(level.center));
        match self.unit {
            Unit::Share => {
                let percent = number(digits(signed.abs() * 100.0));
                format!("{percent} % {side} the baseline of {baseline}")
            }
            Unit::Sigma => format!(
                "{} deviations of {} {side} the baseline of {baseline}",
                number(digits(signed.abs())),
                number(digits(level.spread.max(self.floor)))
            ),
        }
    }
}

/// Three digits that count: for people.
fn digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

watchfire_plugin_sdk::rule!(Baseline);

#[cfg(test)]
mod tests;
