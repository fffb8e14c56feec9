//! How often a probe runs: adaptive intervals (product.md C12).

use std::time::Duration;

/// `adaptive = { min, max, calm, grow, shrink }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// Shortest interval.
    pub min: Duration,
    /// Longest interval.
    pub max: Duration,
    /// Healthy rounds before it grows.
    pub calm: u32,
    /// Factor up.
    pub grow: f64,
    /// Divisor down.
    pub shrink: f64,
}

/// The current interval of one probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Now.
    pub every: Duration,
    /// Healthy rounds in a row.
    calm: u32,
}

impl Pace {
    /// As configured.
    pub fn new(every: Duration) -> Self {
        Pace { every, calm: 0 }
    }

    /// After a round: `configured` is the interval without adapting, `failed` says how the round ended,
    /// `worried` whether a rule that reads this probe is not ok.
    pub fn adapt(
        &mut self,
        adaptive: &Adaptive,
        configured: Duration,
        failed: bool,
        worried: bool,
    ) {
        if failed || worried {
            self.calm = 0;
        } else {
            self.calm = self.calm.saturating_add(1);
        }
        self.every = if failed {
            configured
        } else if worried {
            self.every.div_f64(adaptive.shrink).max(adaptive.min)
        } else if self.calm > adaptive.calm {
            self.every.mul_f64(adaptive.grow).min(adaptive.max)
        } else {
            self.every
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worry_shrinks_calm_grows_a_failure_resets() {
        let secs = Duration::from_secs;
        let adaptive = Adaptive {
            min: secs(10),
            max: secs(30),
            calm: 2,
            grow: 1.5,
            shrink: 2.0,
        };
        let mut pace = Pace::new(secs(24));
        let mut after = |failed, worried| {
            pace.adapt(&adaptive, secs(24), failed, worried);
            pace.every.as_secs()
        };
        assert_eq!(after(false, true), 12);
        assert_eq!(after(false, true), 10, "never below min");
        assert_eq!(after(false, false), 10);
        assert_eq!(after(false, false), 10, "calm rounds first");
        assert_eq!(after(false, false), 15, "more than calm");
        assert_eq!(after(false, false), 22);
        assert_eq!(after(false, false), 30, "never above max");
        assert_eq!(after(true, true), 24, "as configured after an error");
        assert_eq!(after(false, false), 24, "and calm counts anew");
    }
}
