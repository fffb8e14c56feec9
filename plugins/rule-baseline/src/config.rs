//! The table of the rule.

use std::time::Duration;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::threshold::{Bounds, Limits, Thresholds};
use watchfire_plugin_sdk::units::Span;

use crate::Baseline;
use crate::methods::{Method, Shape};

const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Histories outside these are a typing error: a baseline of minutes is an average, one of years forgets nothing.
const HISTORY_MIN: Duration = Duration::from_secs(300);
const HISTORY_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "mad")]
    method: Method,
    history: Option<Span>,
    warm_up: Option<Span>,
    relearn_after: Option<Span>,
    #[serde(default)]
    unit: Unit,
    #[serde(default)]
    both_sides: bool,
    #[serde(default)]
    floor: f64,
    #[serde(default)]
    above: Option<Limits>,
    #[serde(default)]
    at_least: Option<Limits>,
    #[serde(default)]
    below: Option<Limits>,
    #[serde(default)]
    at_most: Option<Limits>,
    #[serde(default)]
    clear: Limits,
}

/// What the limits count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// Shares of the baseline: 0.5 is half as much again.
    #[default]
    Share,
    /// Standard deviations.
    Sigma,
}

fn mad() -> Method {
    Method::Mad
}

impl Config {
    pub(crate) fn check(self) -> Result<Baseline> {
        let history = match (self.history, self.method) {
            (Some(history), _) => history.0,
            (None, Method::Mean | Method::Mad) => HOUR * 24,
            (None, Method::Ewma) => HOUR,
            (None, Method::Seasonal) => WEEK * 4,
        };
        if !(HISTORY_MIN..=HISTORY_MAX).contains(&history) {
            return Err(Error::config(format!(
                "config.history: {} is no history: write a duration from {} to {}, like \"1d\"",
                Span(history),
                Span(HISTORY_MIN),
                Span(HISTORY_MAX)
            )));
        }
        if self.method == Method::Seasonal && history < WEEK {
            return Err(Error::config(format!(
                "config.history: {} holds no week: write at least \"7d\", or another method",
                Span(history)
            )));
        }
        let warm_up = match (self.warm_up, self.method) {
            (Some(warm_up), _) => warm_up.0,
            (None, Method::Mean | Method::Mad) => history / 24,
            (None, Method::Ewma) => history,
            (None, Method::Seasonal) => WEEK,
        };
        if !self.floor.is_finite() || self.floor < 0.0 {
            return Err(Error::config(format!(
                "config.floor: {} is below 0: write the least that a distance is measured by, in the unit of the metric",
                self.floor
            )));
        }
        if self.both_sides && (self.below.is_some() || self.at_most.is_some()) {
            return Err(Error::config(
                "config.both_sides: the distance has no sign then: write above or at_least",
            ));
        }
        Ok(Baseline {
            shape: Shape {
                method: self.method,
                history,
            },
            warm_up,
            relearn_after: self.relearn_after.map(|after| after.0),
            unit: self.unit,
            both_sides: self.both_sides,
            floor: self.floor,
            limits: Thresholds::new(Bounds {
                above: self.above,
                at_least: self.at_least,
                below: self.below,
                at_most: self.at_most,
                clear: self.clear,
            })?,
        })
    }
}
