//! The table of the rule: which windows, how fast is too fast, and which inputs they are.

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::units::Span;

/// Pairs of windows: more say nothing that these could not, and each one costs four inputs.
const PAIRS_MAX: usize = 8;

/// Long window, short window, burn rate, and whether it pages: 2 %, 5 %, 10 % and 10 % of a budget of 30 days (alerting.md 1.2).
const USUAL: [(u64, u64, f64, bool); 4] = [
    (HOUR, 5 * MINUTE, 14.4, true),
    (6 * HOUR, 30 * MINUTE, 6.0, true),
    (24 * HOUR, 2 * HOUR, 3.0, false),
    (72 * HOUR, 6 * HOUR, 1.0, false),
];

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The share that must succeed: 0.999.
    objective: f64,
    /// What the budget is for.
    #[serde(default = "thirty_days")]
    period: Span,
    windows: Option<Vec<Window>>,
    /// Severity of the usual pairs that page.
    page: Option<Severity>,
    /// Severity of those that do not.
    ticket: Option<Severity>,
    /// A window with a lower total is too little traffic to judge.
    #[serde(default)]
    min_total: f64,
    #[serde(default)]
    value: Shown,
}

/// One pair as the operator writes it.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    long: Span,
    short: Span,
    burn: f64,
    severity: Severity,
}

/// What `{{ value }}` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shown {
    /// The burn rate of the pair that is told about.
    #[default]
    Burn,
    /// The share of the budget that is left.
    Budget,
}

/// Columns of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) errors: usize,
    pub(crate) total: usize,
}

/// One pair, checked.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) long: Span,
    pub(crate) short: Span,
    pub(crate) burn: f64,
    pub(crate) severity: Severity,
    pub(crate) long_at: Place,
    pub(crate) short_at: Place,
}

/// The whole table, checked against the inputs.
pub(crate) struct Checked {
    pub(crate) budget: f64,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) whole: Option<(Place, Span)>,
    pub(crate) min_total: f64,
    pub(crate) shown: Shown,
}

fn thirty_days() -> Span {
    seconds(30 * 24 * HOUR)
}

fn seconds(seconds: u64) -> Span {
    Span(std::time::Duration::from_secs(seconds))
}

impl Config {
    pub(crate) fn check(self, inputs: &[String]) -> Result<Checked> {
        if !(self.objective > 0.0 && self.objective < 1.0) {
            return Err(Error::config(format!(
                "config.objective: {} is no objective: write the share that must succeed, between 0 and 1, like 0.999",
                self.objective
            )));
        }
        if !self.min_total.is_finite() || self.min_total < 0.0 {
            return Err(Error::config(format!(
                "config.min_total: {} is below 0: write the least total that is worth judging, like min_total = 100",
                self.min_total
            )));
        }
        let inputs = Inputs::read(inputs)?;
        let windows = self.windows()?;
        let mut pairs = Vec::new();
        for window in windows {
            pairs.push(Pair {
                long_at: inputs.place(window.long)?,
                short_at: inputs.place(window.short)?,
                long: window.long,
                short: window.short,
                burn: window.burn,
                severity: window.severity,
            });
        }
        let whole = inputs.find(self.period).map(|place| (place, self.period));
        if self.value == Shown::Budget && whole.is_none() {
            inputs.place(self.period)?;
        }
        for (span, name) in &inputs.spans {
            let used =
                *span == self.period || pairs.iter().any(|p| p.long == *span || p.short == *span);
            if !used {
                return Err(Error::config(format!(
                    "the input {name} belongs to no window: remove it, or add a window over {span} to config.windows"
                )));
            }
        }
        Ok(Checked {
            budget: 1.0 - self.objective,
            pairs,
            whole,
            min_total: self.min_total,
            shown: self.value,
        })
    }

    fn windows(&self) -> Result<Vec<Window>> {
        let Some(windows) = &self.windows else {
            return Ok(self.usual());
        };
        if self.page.is_some() || self.ticket.is_some() {
            return Err(Error::config(
                "config.windows: page and ticket are severities of the usual windows: remove them, each window here names its own",
            ));
        }
        if windows.is_empty() || windows.len() > PAIRS_MAX {
            return Err(Error::config(format!(
                "config.windows: {} windows: write 1 to {PAIRS_MAX}, or leave it out for the usual four",
                windows.len()
            )));
        }
        for (at, window) in windows.iter().enumerate() {
            if window.short >= window.long || window.short == Span::default() {
                return Err(Error::config(format!(
                    "config.windows[{at}]: the short window ({}) is not shorter than the long one ({}): a twelfth of it is usual",
                    window.short, window.long
                )));
            }
            if !(window.burn > 0.0 && window.burn.is_finite()) {
                return Err(Error::config(format!(
                    "config.windows[{at}].burn: {} is no factor: write how many times faster than allowed is too fast, like 14.4",
                    window.burn
                )));
            }
        }
        Ok(windows.clone())
    }

    fn usual(&self) -> Vec<Window> {
        let page = self.page.unwrap_or(Severity::Critical);
        let ticket = self.ticket.unwrap_or(Severity::Warning);
        USUAL
            .into_iter()
            .map(|(long, short, burn, pages)| Window {
                long: seconds(long),
                short: seconds(short),
                burn,
                severity: if pages { page } else { ticket },
            })
            .collect()
    }
}

/// The rule's inputs by the window in their name.
struct Inputs {
    errors: Vec<(Span, usize)>,
    total: Vec<(Span, usize)>,
    /// All of them, for what belongs to no window.
    spans: Vec<(Span, String)>,
}

impl Inputs {
    fn read(names: &[String]) -> Result<Self> {
        let mut read = Inputs {
            errors: Vec::new(),
            total: Vec::new(),
            spans: Vec::new(),
        };
        for (at, name) in names.iter().enumerate() {
            let known =
                name.split_once('_')
                    .and_then(|(what, over)| match (what, over.parse::<Span>()) {
                        ("errors", Ok(span)) => Some((&mut read.errors, span)),
                        ("total", Ok(span)) => Some((&mut read.total, span)),
                        _ => None,
                    });
            let Some((list, span)) = known else {
                return Err(Error::config(format!(
                    "the input {name:?} has no window in its name: write slo = {{ errors = {{ metric = \"…\" }}, total = {{ metric = \"…\" }}, \
                     objective = 0.999 }} in the rule, or inputs.errors_5m, inputs.total_5m and so on"
                )));
            };
            list.push((span, at));
            read.spans.push((span, name.clone()));
        }
        Ok(read)
    }

    fn find(&self, span: Span) -> Option<Place> {
        let of = |list: &[(Span, usize)]| list.iter().find(|(s, _)| *s == span).map(|(_, at)| *at);
        Some(Place {
            errors: of(&self.errors)?,
            total: of(&self.total)?,
        })
    }

    fn place(&self, span: Span) -> Result<Place> {
        self.find(span).ok_or_else(|| {
            let what = if self.errors.iter().any(|(s, _)| *s == span) {
                "total"
            } else {
                "errors"
            };
            Error::config(format!(
                "the rule has no input {what}_{span}: write slo = {{ errors = {{ metric = \"…\" }}, total = {{ metric = \"…\" }}, objective = 0.999 }} \
                 in the rule, or inputs.{what}_{span} = {{ metric = \"…\", over = \"{span}\", aggregate = \"increase\" }}"
            ))
        })
    }
}
