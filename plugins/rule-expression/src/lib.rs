//! Judges one line of arithmetic and comparison over the inputs, for each severity.
//!
//! The language (`tokens.rs`, `parse.rs`, `eval.rs`) is our own: no library knows that a number may be unknown, which here is the
//! difference between an alert that ends and one that is held.

mod config;
mod eval;
mod parse;
mod tokens;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::text::number;

use config::Config;
use eval::{number_of, truth_of};
use parse::{Condition, Number};

/// The rule: its parsed expressions.
#[derive(Debug)]
pub struct Expression {
    /// By severity, lowest first.
    cases: Vec<Case>,
    /// What people are shown; none: the sides of the first comparison.
    value: Option<Number>,
    limit: Option<Number>,
}

/// One severity.
#[derive(Debug)]
struct Case {
    severity: Severity,
    raise: Condition,
    /// While the severity fires it lasts until this holds; none: until `raise` does not.
    clear: Option<Condition>,
    /// For people.
    text: String,
}

impl Rule for Expression {
    type Config = Config;

    fn new(config: Config, inputs: &[String]) -> Result<Self> {
        config.check(inputs)
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let inputs = |input: usize| instance.at(input);
        let active = instance.active();
        let (mut breached, mut certain) = (Severities::NONE, false);
        for case in &self.cases {
            let firing = active.contains(case.severity);
            let truth = match &case.clear {
                Some(clear) if firing => truth_of(clear, &inputs).map(|over| !over),
                _ => truth_of(&case.raise, &inputs),
            };
            certain |= truth.is_some();
            // What is not known of one severity changes nothing about it.
            if truth.unwrap_or(firing) {
                breached = breached.with(case.severity);
            }
        }
        if !certain {
            return Verdict::unknown();
        }
        let highest = breached.highest();
        let told = self
            .cases
            .iter()
            .find(|case| highest.is_none_or(|severity| case.severity == severity));
        let Some(case) = told else {
            return Verdict::breach(breached);
        };
        let (value, limit) = self.shown(case, active, &inputs);
        let verdict = Verdict::breach(breached).value(value).limit(limit);
        if breached.is_empty() {
            return verdict;
        }
        let known = if value.is_nan() {
            String::new()
        } else {
            format!(" (at {})", number(value))
        };
        verdict.note(format!("{}{known}", case.text))
    }
}

impl Expression {
    /// Value and limit for people.
    fn shown(&self, case: &Case, active: Severities, inputs: &dyn Fn(usize) -> f64) -> (f64, f64) {
        let held_against = match &case.clear {
            Some(clear) if active.contains(case.severity) => clear,
            _ => &case.raise,
        };
        let sides = held_against.first_comparison();
        let one = |own: &Option<Number>, side: Option<&Number>| {
            let number = own.as_ref().or(side);
            number.map_or(f64::NAN, |number| number_of(number, inputs))
        };
        (
            one(&self.value, sides.map(|(left, _)| left)),
            one(&self.limit, sides.map(|(_, right)| right)),
        )
    }
}

watchfire_plugin_sdk::rule!(Expression);

#[cfg(test)]
mod tests;
