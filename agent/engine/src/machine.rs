//! One severity of one alert: `off`, `pending`, `on`, `recovering` (alerting.md 1.2).

use crate::model::Moment;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where one severity stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// No breach.
    #[default]
    Off,
    /// A breach that has not lasted for `for` yet.
    Pending {
        /// Its begin, moved by unobserved time.
        since: Moment,
    },
    /// Fires.
    On,
    /// Cleared, held for `keep`.
    Recovering {
        /// The first clear, moved by unobserved time.
        since: Moment,
    },
}

impl Phase {
    /// Whether it fires or recovers: the clear threshold judges it.
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Phase::On | Phase::Recovering { .. })
    }

    /// One observation that is known.
    pub(crate) fn next(self, breach: bool, now: Moment, wait: Duration, keep: Duration) -> Phase {
        match (self, breach) {
            (Phase::Off, true) if wait.is_zero() => Phase::On,
            (Phase::Off, true) => Phase::Pending { since: now },
            (Phase::Off, false) => Phase::Off,
            (Phase::Pending { since }, true) if now.since(since) >= wait => Phase::On,
            (Phase::Pending { since }, true) => Phase::Pending { since },
            (Phase::Pending { .. }, false) => Phase::Off,
            (Phase::On | Phase::Recovering { .. }, true) => Phase::On,
            (Phase::On, false) if keep.is_zero() => Phase::Off,
            (Phase::On, false) => Phase::Recovering { since: now },
            (Phase::Recovering { since }, false) if now.since(since) >= keep => Phase::Off,
            (Phase::Recovering { since }, false) => Phase::Recovering { since },
        }
    }

    /// The gap rule: unobserved time counts for nothing. `gap` is the time since the last observation.
    pub(crate) fn after_gap(
        self,
        gap: Duration,
        stale_after: Duration,
        tolerance: Duration,
        now: Moment,
    ) -> Phase {
        if gap <= stale_after {
            return self;
        }
        let tolerated = gap <= tolerance;
        match self {
            Phase::Pending { since } if tolerated => Phase::Pending { since: since + gap },
            Phase::Pending { .. } => Phase::Off,
            Phase::Recovering { since } if tolerated => Phase::Recovering { since: since + gap },
            Phase::Recovering { .. } => Phase::Recovering { since: now },
            Phase::On | Phase::Off => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(secs: u64) -> Moment {
        Moment(secs * 1_000)
    }

    #[test]
    fn the_table_of_the_specification() {
        let pending = Phase::Pending { since: at(10) };
        let recovering = Phase::Recovering { since: at(10) };
        // (from, breach, now, for, keep) -> to
        for (from, breach, now, wait, keep, to) in [
            (Phase::Off, true, 20, 0, 0, Phase::On),
            (Phase::Off, true, 20, 5, 0, Phase::Pending { since: at(20) }),
            (Phase::Off, false, 20, 5, 0, Phase::Off),
            (pending, true, 39, 30, 0, pending),
            (pending, true, 40, 30, 0, Phase::On),
            (pending, false, 39, 30, 60, Phase::Off),
            (Phase::On, true, 20, 0, 30, Phase::On),
            (Phase::On, false, 20, 0, 0, Phase::Off),
            (
                Phase::On,
                false,
                20,
                0,
                30,
                Phase::Recovering { since: at(20) },
            ),
            (recovering, true, 20, 0, 30, Phase::On),
            (recovering, false, 39, 0, 30, recovering),
            (recovering, false, 40, 0, 30, Phase::Off),
        ] {
            let got = from.next(breach, at(now), secs(wait), secs(keep));
            assert_eq!(got, to, "{from:?} breach={breach} at {now}");
        }
    }

    #[test]
    fn unobserved_time_counts_for_nothing() {
        let pending = Phase::Pending { since: at(10) };
        let recovering = Phase::Recovering { since: at(10) };
        for (from, gap, to) in [
            (pending, 25, pending),
            (pending, 26, Phase::Pending { since: at(36) }),
            (pending, 3_600, Phase::Pending { since: at(3_610) }),
            (pending, 3_601, Phase::Off),
            (recovering, 26, Phase::Recovering { since: at(36) }),
            (recovering, 3_601, Phase::Recovering { since: at(9_999) }),
            (Phase::On, 999_999, Phase::On),
        ] {
            let got = from.after_gap(secs(gap), secs(25), secs(3_600), at(9_999));
            assert_eq!(got, to, "{from:?} after {gap}");
        }
    }
}
