//! Tells when a number will reach a limit ("disk full in 4 h"), and finds what grows without end.
//!
//! A line is laid through the last window (`trend.rs`). Windows up to two hours are read from the host's points; longer
//! ones are remembered here, thinned out to sixty means (`trail.rs`).

mod config;
mod trail;
mod trend;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::text::number;
use watchfire_plugin_sdk::threshold::Thresholds;
use watchfire_plugin_sdk::units::Span;

use config::Config;
use trail::Trail;
use trend::{Direction, Trend};

/// The rule: what it looks for, and over how long.
#[derive(Debug)]
pub struct Forecast {
    input: String,
    goal: Goal,
    window: Span,
    /// Share of the pairs of means that must agree on the direction.
    steady: f64,
    /// The window is longer than the points that the host keeps.
    remembers: bool,
}

/// What is judged.
#[derive(Debug)]
enum Goal {
    /// Time until `limit` is reached, in seconds.
    Reach {
        limit: f64,
        direction: Direction,
        within: Thresholds,
    },
    /// Growth over the window, relative to where it began.
    Growth(Thresholds),
}

impl Rule for Forecast {
    type Config = Config;

    fn new(config: Config, inputs: &[String]) -> Result<Self> {
        let [input] = inputs else {
            return Err(Error::config(format!(
                "a forecast judges one input, and the rule has {}: write metric = \"…\" in the rule, without over",
                inputs.len()
            )));
        };
        config.check(input)
    }

    fn needs(&self) -> Needs {
        if self.remembers {
            Needs::memory()
        } else {
            Needs::default().points(&self.input, self.window.0)
        }
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let now = instance.now();
        let value = instance.at(0);
        let mut trail = if self.remembers {
            Trail::decode(instance.memory(), self.window)
        } else {
            let mut trail = Trail::new(self.window);
            for point in instance.points(&self.input) {
                trail.add(point.at, point.value);
            }
            trail
        };
        if !self.remembers {
            trail.forget(now);
            return self.verdict(&trail, now, value, instance.active());
        }
        trail.add(now, value);
        trail.forget(now);
        let verdict = self.verdict(&trail, now, value, instance.active());
        verdict.memory(trail.encode())
    }
}

impl Forecast {
    fn verdict(&self, trail: &Trail, now: Timestamp, value: f64, active: Severities) -> Verdict {
        if value.is_nan() {
            return Verdict::unknown();
        }
        match &self.goal {
            Goal::Reach {
                limit,
                direction,
                within,
            } => {
                let beyond = match direction {
                    Direction::Up => value >= *limit,
                    Direction::Down => value <= *limit,
                };
                if beyond {
                    return within
                        .judge(0.0, active)
                        .note(format!("{} is reached", number(*limit)));
                }
                let Some(trend) = trail.trend(now) else {
                    return Verdict::unknown();
                };
                let steady = trend.share(*direction) >= self.steady;
                let left = if steady {
                    trend.until(*limit, *direction)
                } else {
                    f64::INFINITY
                };
                let (breached, held_against) = within.judge_plain(left, active);
                let verdict = Verdict::breach(breached.unwrap_or_default());
                if left.is_infinite() {
                    return verdict; // It is not on its way there: there is no time to tell.
                }
                let verdict = verdict.value(left).limit(held_against);
                if breached.is_none_or(Severities::is_empty) {
                    return verdict;
                }
                verdict.note(format!(
                    "{} is reached in {}, at {} an hour",
                    number(*limit),
                    rough(left),
                    number(signed_digits(trend.slope * 3_600.0))
                ))
            }
            Goal::Growth(limits) => {
                let Some(trend) = trail.trend(now) else {
                    return Verdict::unknown();
                };
                let growth = self.growth(&trend);
                let verdict = limits.judge(growth, active);
                if verdict.breached().is_none_or(Severities::is_empty) {
                    return verdict;
                }
                verdict.note(format!(
                    "it grew by {} % in {}, from {} to {}",
                    number((growth * 1_000.0).round() / 10.0),
                    rough(trend.covered),
                    number(signed_digits(trend.first)),
                    number(signed_digits(trend.last))
                ))
            }
        }
    }

    /// Relative growth; 0 where it does not grow steadily.
    fn growth(&self, trend: &Trend) -> f64 {
        if trend.share(Direction::Up) < self.steady {
            return 0.0;
        }
        // What began at nothing has no relative growth: its mean is the measure then.
        let base = if trend.first > 0.0 {
            trend.first
        } else {
            trend.mean.abs()
        };
        if base > 0.0 {
            ((trend.last - trend.first) / base).max(0.0)
        } else {
            0.0
        }
    }
}

/// Three digits that count, with the sign.
fn signed_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// To the minute, or to the second below an hour: `3h12m`.
fn rough(seconds: f64) -> Span {
    let unit = if seconds >= 3_600.0 { 60.0 } else { 1.0 };
    // Ten years: beyond, nobody plans.
    let seconds = ((seconds / unit).round() * unit).clamp(0.0, 315_360_000.0);
    Span(std::time::Duration::from_secs(seconds as u64))
}

watchfire_plugin_sdk::rule!(Forecast);

#[cfg(test)]
mod tests;
