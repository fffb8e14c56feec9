//! The table of the rule: which limit, how soon is too soon; or how much growth is too much.

use std::time::Duration;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::threshold::{Bounds, Limits, Thresholds};
use watchfire_plugin_sdk::units::Span;

use crate::trend::Direction;
use crate::{Forecast, Goal};

/// The host keeps the points of two hours; longer windows are remembered by the rule.
const POINTS_MAX: Duration = Duration::from_secs(2 * 3_600);

/// Shorter windows have slots below a second.
const WINDOW_MIN: Duration = Duration::from_secs(60);

/// Longer windows would tell more about the last month than about the next hours.
const WINDOW_MAX: Duration = Duration::from_secs(31 * 86_400);

/// Share of agreeing pairs unless the operator says otherwise: a trend may be noisy, a leak is monotone.
const STEADY_TREND: f64 = 0.6;
const STEADY_LEAK: f64 = 0.9;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    rises_to: Option<f64>,
    falls_to: Option<f64>,
    within: Option<Spans>,
    grows_by: Option<Limits>,
    clear: Option<Clear>,
    #[serde(default = "an_hour")]
    window: Span,
    steady: Option<f64>,
}

/// `{ warning = "24h", critical = "4h" }`.
#[derive(Debug, Default)]
struct Spans(Vec<(Severity, Span)>);

/// Durations beside `within`, numbers beside `grows_by`: read when it is known which.
#[derive(Debug, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "a duration or a number for each severity, as in within or grows_by"
)]
enum Clear {
    Growth(Limits),
    Within(Spans),
}

impl<'de> serde::Deserialize<'de> for Spans {
    fn deserialize<D: serde::Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        let table = std::collections::BTreeMap::<String, Span>::deserialize(table)?;
        let mut spans = Vec::new();
        for (key, span) in table {
            let severity: Severity = key.parse().map_err(serde::de::Error::custom)?;
            if spans.iter().any(|(known, _)| *known == severity) {
                return Err(serde::de::Error::custom(format!(
                    "{severity} is given twice: keep one"
                )));
            }
            spans.push((severity, span));
        }
        spans.sort_by_key(|(severity, _)| *severity);
        Ok(Spans(spans))
    }
}

impl Spans {
    fn get(&self, severity: Severity) -> Option<Span> {
        let known = self.0.iter().find(|(known, _)| *known == severity);
        known.map(|(_, span)| *span)
    }

    fn seconds(&self) -> Limits {
        self.0.iter().fold(Limits::default(), |limits, (s, span)| {
            limits.with(*s, span.0.as_secs_f64())
        })
    }
}

fn an_hour() -> Span {
    Span(Duration::from_secs(3_600))
}

impl Config {
    pub(crate) fn check(self, input: &str) -> Result<Forecast> {
        if !(WINDOW_MIN..=WINDOW_MAX).contains(&self.window.0) {
            return Err(Error::config(format!(
                "config.window: {} is no window for a trend: write a duration from {} to {}, like \"6h\"",
                self.window,
                Span(WINDOW_MIN),
                Span(WINDOW_MAX)
            )));
        }
        if let Some(steady) = self.steady.filter(|s| !(0.0..=1.0).contains(s)) {
            return Err(Error::config(format!(
                "config.steady: {steady} is no share: write a number from 0 to 1, like {STEADY_TREND}"
            )));
        }
        let (window, steady) = (self.window, self.steady);
        let goal = self.goal()?;
        let usual = match goal {
            Goal::Reach { .. } => STEADY_TREND,
            Goal::Growth(_) => STEADY_LEAK,
        };
        Ok(Forecast {
            input: input.to_owned(),
            goal,
            window,
            steady: steady.unwrap_or(usual),
            remembers: window.0 > POINTS_MAX,
        })
    }

    fn goal(self) -> Result<Goal> {
        let reach = match (self.rises_to, self.falls_to, &self.grows_by) {
            (Some(limit), None, None) => Some((limit, Direction::Up, "rises_to")),
            (None, Some(limit), None) => Some((limit, Direction::Down, "falls_to")),
            (None, None, Some(_)) => None,
            _ => {
                return Err(Error::config(
                    "config: write one of rises_to, falls_to and grows_by, like rises_to = 1.0, within = { critical = \"4h\" }",
                ));
            }
        };
        let Some((limit, direction, key)) = reach else {
            if self.within.is_some() {
                return Err(Error::config(
                    "config.within: growth has no limit to reach: remove it, or write rises_to = 1.0 instead of grows_by",
                ));
            }
            let clear = match self.clear {
                None => Limits::default(),
                Some(Clear::Growth(clear)) => clear,
                Some(Clear::Within(_)) => {
                    return Err(Error::config(
                        "config.clear: beside grows_by it is a number for each severity, like { warning = 0.1 }",
                    ));
                }
            };
            let bounds = Bounds {
                above: self.grows_by,
                clear,
                ..Bounds::default()
            };
            let renamed = |error: Error| {
                Error::config(error.to_string().replace("config.above", "config.grows_by"))
            };
            return Ok(Goal::Growth(Thresholds::new(bounds).map_err(renamed)?));
        };
        let within = self.within.filter(|within| !within.0.is_empty());
        let Some(within) = within else {
            return Err(Error::config(format!(
                "config.within: {key} needs a time: write within = {{ warning = \"24h\", critical = \"4h\" }}"
            )));
        };
        for pair in within.0.windows(2) {
            let ((lower, far), (higher, near)) = (pair[0], pair[1]);
            if near > far {
                return Err(Error::config(format!(
                    "config.within: {higher} ({near}) begins before {lower} ({far}): write {{ {lower} = \"{near}\", {higher} = \"{far}\" }}"
                )));
            }
        }
        let clear = match self.clear {
            None => Spans::default(),
            Some(Clear::Within(clear)) => clear,
            Some(Clear::Growth(_)) => {
                return Err(Error::config(format!(
                    "config.clear: beside {key} it is a duration for each severity, like {{ critical = \"6h\" }}"
                )));
            }
        };
        for (severity, span) in &clear.0 {
            match within.get(*severity) {
                None => {
                    return Err(Error::config(format!(
                        "config.clear.{severity}: within has no {severity}: remove it, or add within.{severity}"
                    )));
                }
                Some(limit) if *span < limit => {
                    return Err(Error::config(format!(
                        "config.clear.{severity}: {span} is sooner than within.{severity} ({limit}): write {limit} or more"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(Goal::Reach {
            limit,
            direction,
            within: Thresholds::new(Bounds {
                at_most: Some(within.seconds()),
                clear: clear.seconds(),
                ..Bounds::default()
            })?,
        })
    }
}
