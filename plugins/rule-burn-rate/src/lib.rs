//! Judges how fast an error budget is spent: over a long and a short window at once, several such pairs.
//!
//! The long window says that it matters, the short one that it still goes on. The windows are inputs of the rule:
//! `errors_1h` and `total_1h`, `errors_5m` and `total_5m` … The host computes them; nothing is remembered here.

mod config;

use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::text::number;
use watchfire_plugin_sdk::units::Span;

use config::{Config, Pair, Place, Shown};

/// The rule: checked pairs of windows and where their inputs are.
#[derive(Debug)]
pub struct BurnRate {
    /// 1 - objective, greater than 0.
    budget: f64,
    pairs: Vec<Pair>,
    /// The window of the whole budget, where the rule has inputs for it.
    whole: Option<(Place, Span)>,
    min_total: f64,
    shown: Shown,
}

/// What one pair says of one instance; NaN where a window is not known.
#[derive(Clone, Copy)]
struct Burn {
    long: f64,
    short: f64,
}

impl Burn {
    /// Both above `factor`; none where that cannot be known.
    fn exceeds(self, factor: f64) -> Option<bool> {
        let one = |burn: f64| (!burn.is_nan()).then_some(burn > factor);
        match (one(self.long), one(self.short)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    /// The one that decides.
    fn least(self) -> f64 {
        if self.long.is_nan() || self.short.is_nan() {
            f64::NAN
        } else {
            self.long.min(self.short)
        }
    }
}

impl Rule for BurnRate {
    type Config = Config;

    fn new(config: Config, inputs: &[String]) -> Result<Self> {
        let checked = config.check(inputs)?;
        Ok(BurnRate {
            budget: checked.budget,
            pairs: checked.pairs,
            whole: checked.whole,
            min_total: checked.min_total,
            shown: checked.shown,
        })
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let burns: Vec<Burn> = self
            .pairs
            .iter()
            .map(|pair| Burn {
                long: self.burn(instance, pair.long_at),
                short: self.burn(instance, pair.short_at),
            })
            .collect();
        let Some(breached) = self.breached(&burns, instance.active()) else {
            return Verdict::unknown();
        };
        let left = self
            .whole
            .map_or(f64::NAN, |(place, _)| 1.0 - self.burn(instance, place));
        let told = self.told(&burns, breached);
        let mut verdict = Verdict::breach(breached);
        match (self.shown, told) {
            (Shown::Budget, _) => verdict = verdict.value(left),
            (Shown::Burn, Some((pair, burn))) => {
                verdict = verdict.value(burn.least()).limit(pair.burn);
            }
            (Shown::Burn, None) => {}
        }
        match told {
            Some((pair, burn)) if !breached.is_empty() => verdict.note(self.note(pair, burn, left)),
            _ => verdict,
        }
    }
}

impl BurnRate {
    /// How many times faster than allowed the budget is spent; NaN: not known.
    fn burn(&self, instance: &Instance<'_>, place: Place) -> f64 {
        let (errors, total) = (instance.at(place.errors), instance.at(place.total));
        if errors.is_nan() || total.is_nan() {
            f64::NAN
        } else if errors <= 0.0 || total < self.min_total {
            0.0
        } else {
            errors / total / self.budget
        }
    }

    /// Severities with a pair that certainly burns. One of which nothing certain is known stays as it is; none: nothing is known
    /// of any.
    fn breached(&self, burns: &[Burn], active: Severities) -> Option<Severities> {
        let (mut breached, mut open, mut certain) = (Severities::NONE, Severities::NONE, false);
        for (pair, burn) in self.pairs.iter().zip(burns) {
            match burn.exceeds(pair.burn) {
                Some(true) => breached = breached.with(pair.severity),
                Some(false) => {}
                None => open = open.with(pair.severity),
            }
            certain |= burn.exceeds(pair.burn).is_some();
        }
        let held = open.iter().filter(|severity| active.contains(*severity));
        certain.then(|| held.fold(breached, Severities::with))
    }

    /// The pair that is told about: the worst of the highest breached severity, or the worst of all.
    fn told(&self, burns: &[Burn], breached: Severities) -> Option<(&Pair, Burn)> {
        let highest = breached.highest();
        let candidates = self.pairs.iter().zip(burns.iter().copied());
        candidates
            .filter(|(pair, burn)| {
                !burn.least().is_nan() && highest.is_none_or(|severity| pair.severity == severity)
            })
            .max_by(|(a, x), (b, y)| (x.least() / a.burn).total_cmp(&(y.least() / b.burn)))
    }

    fn note(&self, pair: &Pair, burn: Burn, left: f64) -> String {
        let mut note = format!(
            "the error budget burns {} times too fast over {}, {} times over {}",
            tenths(burn.long),
            pair.long,
            tenths(burn.short),
            pair.short
        );
        if let (Some((_, period)), false) = (self.whole, left.is_nan()) {
            note.push_str(&format!("; {} % of {period} is left", tenths(left * 100.0)));
        }
        note
    }
}

/// With one digit behind the point, for people.
fn tenths(value: f64) -> String {
    number((value * 10.0).round() / 10.0)
}

watchfire_plugin_sdk::rule!(BurnRate);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Inputs of the four usual pairs, in the order in which the host hands them out.
    fn usual() -> Vec<String> {
        ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"]
            .iter()
            .flat_map(|over| [format!("errors_{over}"), format!("total_{over}")])
            .collect()
    }

    fn configure(config: Value, inputs: &[String]) -> Result<BurnRate> {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        BurnRate::configure(&config.to_string(), &inputs)
    }

    /// One instance of the usual inputs with these error ratios; NaN: not known.
    fn judged(rule: &BurnRate, ratios: [f64; 8], active: Severities) -> Verdict {
        let inputs = usual();
        let names: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let values: Vec<f64> = ratios
            .iter()
            .flat_map(|ratio| [ratio * 1e6, if ratio.is_nan() { f64::NAN } else { 1e6 }])
            .collect();
        let batch = Batch::of(&names).firing(&values, active);
        rule.judge(&batch.instances().next().unwrap())
    }

    #[test]
    fn testdata_is_judged_as_expected() {
        mock::judges_testdata::<BurnRate>(env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn each_usual_pair_wants_both_of_its_windows() {
        let rule = configure(json!({"objective": 0.999}), &usual()).unwrap();
        //                    5m     30m    1h     2h     6h     1d     3d
        let quiet = [0.0; 8];
        let with = |changes: &[(usize, f64)]| {
            let mut all = quiet;
            for (at, ratio) in changes {
                all[*at] = *ratio;
            }
            judged(&rule, all, Severities::NONE).breached().unwrap()
        };
        let (page, ticket) = (Severity::Critical.into(), Severity::Warning.into());
        for (long, short, burn, severity) in [
            (2, 0, 14.4, page),
            (4, 1, 6.0, page),
            (5, 3, 3.0, ticket),
            (6, 4, 1.0, ticket),
        ] {
            let (over, at) = (burn * 0.001_01, burn * 0.000_99);
            assert_eq!(with(&[(long, over), (short, over)]), severity, "{burn}");
            for (of_long, of_short) in [(over, at), (at, over), (over, 0.0), (0.0, over)] {
                let breached = with(&[(long, of_long), (short, of_short)]);
                assert_eq!(breached, Severities::NONE, "{burn}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_held() {
        let rule = configure(json!({"objective": 0.999}), &usual()).unwrap();
        let nan = f64::NAN;
        let both = Severities::NONE
            .with(Severity::Warning)
            .with(Severity::Critical);
        // The days are not known yet; the hours are quiet: critical is over, warning stays as it is.
        let young = [0.0, 0.0, 0.0, 0.1, 0.1, nan, nan, nan];
        let after = |active| judged(&rule, young, active).breached();
        assert_eq!(after(both), Some(Severity::Warning.into()));
        assert_eq!(after(Severities::NONE), Some(Severities::NONE));
        // A quiet short window is enough to know.
        let calm = [0.0, 0.0, nan, 0.0, 0.0, nan, nan, nan];
        assert_eq!(judged(&rule, calm, both).breached(), Some(Severities::NONE));
        assert_eq!(judged(&rule, [nan; 8], both), Verdict::unknown());
    }

    #[test]
    fn no_numbers_are_beyond_it() {
        let rule = configure(json!({"objective": 0.9}), &usual()).unwrap();
        let inputs = usual();
        let names: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let odd = [0.0, -1.0, 1.0, f64::NAN, f64::INFINITY, f64::MAX, 5e-324];
        for errors in odd {
            for total in odd {
                let values = [errors, total].repeat(8);
                let batch = Batch::of(&names).instance(&values);
                let verdicts = rule.evaluate(&batch).unwrap();
                if verdicts.breached(0).is_some_and(|b| !b.is_empty()) {
                    assert!(errors > 0.0 && total >= 0.0, "{errors} of {total}");
                }
            }
        }
    }
}
