//! M-of-N over aligned buckets (alerting.md 1.2, decisions.md 13).

use crate::model::{Moment, Severities, Severity};
use crate::policy::AtLeast;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What one alert remembers of its buckets. Most rules count none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Buckets(Option<Box<Verdicts>>);

/// The newest verdicts, one a bucket, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Verdicts {
    /// Length of a bucket in milliseconds: another one makes the verdicts void.
    period: u64,
    verdicts: VecDeque<(u64, Severities)>,
    /// From this bucket on nothing breached, and no bucket passed without an observation: as long as that
    /// goes on, nothing has to be written but which bucket the rule saw last. None: that is not so.
    #[serde(skip_serializing_if = "Option::is_none")]
    calm_since: Option<u64>,
}

impl Buckets {
    /// The verdict of the running bucket; the last one of a bucket counts. Tells whether a restart would
    /// not know it by itself.
    pub(crate) fn put(
        &mut self,
        rule: AtLeast,
        born: Moment,
        now: Moment,
        breached: Severities,
    ) -> bool {
        let verdicts = self.0.get_or_insert_default();
        verdicts.put(rule, born, now, breached)
    }

    /// A round without an observation: tells whether a bucket began that is not known.
    pub(crate) fn pass(&mut self, rule: AtLeast, born: Moment, now: Moment) -> bool {
        let verdicts = self.0.as_mut();
        verdicts.is_some_and(|verdicts| verdicts.pass(rule, born, now))
    }

    /// After a restart: the rule was last judged `at`, and until then nothing had to be written.
    pub(crate) fn recall(&mut self, rule: AtLeast, born: Moment, at: Moment) {
        if let Some(verdicts) = &mut self.0 {
            verdicts.recall(rule, born, at);
        }
    }

    /// How many buckets breach at any severity.
    pub(crate) fn breaches(&self) -> usize {
        let verdicts = self.0.as_ref();
        verdicts.map_or(0, |verdicts| verdicts.breaches())
    }

    /// Whether `m` of the last `of` buckets breach: yes, no, or not known.
    pub(crate) fn judge(
        &self,
        rule: AtLeast,
        born: Moment,
        now: Moment,
        severity: Severity,
    ) -> Option<bool> {
        let none = Verdicts::default();
        let verdicts = self.0.as_deref().unwrap_or(&none);
        verdicts.judge(rule, born, now, severity)
    }
}

impl Verdicts {
    fn put(&mut self, rule: AtLeast, born: Moment, now: Moment, breached: Severities) -> bool {
        let period = period(rule);
        if self.period != period {
            *self = Verdicts {
                period,
                ..Verdicts::default()
            };
        }
        let index = index(rule, born, now);
        // After a lost state the buckets are aligned anew: what lies ahead was another alignment's.
        self.verdicts.retain(|(at, _)| *at <= index);
        let (calm, before) = (self.calm_since, self.verdicts.back().copied());
        let follows = match before {
            None => true,
            Some((last, _)) => index - last <= 1,
        };
        let known = before.filter(|(last, _)| *last == index);
        match self.verdicts.back_mut() {
            Some((last, verdict)) if *last == index => *verdict = breached,
            _ => self.verdicts.push_back((index, breached)),
        }
        self.calm_since = match calm {
            _ if !breached.is_empty() || !follows => None,
            Some(since) => Some(since.min(index)),
            None => Some(index),
        };
        // What goes on being calm follows from the rule's last round; a calm bucket behind a gap does not.
        let follows_by_itself = breached.is_empty() && self.calm_since.is_some();
        let is_known = follows_by_itself || known.is_some_and(|(_, verdict)| verdict == breached);
        let news = !is_known || self.calm_since != calm;
        while self
            .verdicts
            .front()
            .is_some_and(|(first, _)| index.saturating_sub(*first) >= u64::from(rule.of))
        {
            self.verdicts.pop_front();
        }
        news
    }

    fn pass(&mut self, rule: AtLeast, born: Moment, now: Moment) -> bool {
        let last = self.verdicts.back().map(|(last, _)| *last);
        let passes = self.calm_since.is_some() && last < Some(index(rule, born, now));
        if passes {
            self.calm_since = None;
        }
        passes
    }

    fn recall(&mut self, rule: AtLeast, born: Moment, at: Moment) {
        let Some(calm) = self.calm_since.filter(|_| self.period == period(rule)) else {
            return;
        };
        let end = index(rule, born, at);
        let last = self.verdicts.back().map_or(calm, |(last, _)| last + 1);
        let begin = last.max((end + 1).saturating_sub(u64::from(rule.of)));
        self.verdicts
            .extend((begin..=end).map(|bucket| (bucket, Severities::NONE)));
    }

    fn breaches(&self) -> usize {
        let breaching = self.verdicts.iter().filter(|(_, v)| !v.is_empty());
        breaching.count()
    }

    fn judge(&self, rule: AtLeast, born: Moment, now: Moment, severity: Severity) -> Option<bool> {
        let index = index(rule, born, now);
        let of = u64::from(rule.of);
        let recent = self
            .verdicts
            .iter()
            .filter(|(at, _)| *at <= index && index - at < of);
        let (known, breaching) = recent.fold((0, 0), |(known, breaching), (_, verdict)| {
            (known + 1, breaching + u64::from(verdict.contains(severity)))
        });
        let m = u64::from(rule.m);
        if breaching >= m {
            Some(true)
        } else if breaching + (of - known) < m {
            Some(false)
        } else {
            None
        }
    }
}

pub(crate) fn index(rule: AtLeast, born: Moment, now: Moment) -> u64 {
    now.0.saturating_sub(born.0) / period(rule)
}

/// In milliseconds, at least one.
fn period(rule: AtLeast) -> u64 {
    let millis = u64::try_from(rule.period.as_millis()).unwrap_or(u64::MAX);
    millis.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TWO_OF_THREE: AtLeast = AtLeast {
        m: 2,
        of: 3,
        period: Duration::from_secs(60),
    };

    /// Buckets after these verdicts, each at its second.
    fn after(verdicts: &[(u64, bool)]) -> Buckets {
        let mut buckets = Buckets::default();
        for (at, breaches) in verdicts {
            let breached = breaches.then_some(Severity::High).into_iter().collect();
            buckets.put(TWO_OF_THREE, Moment(0), Moment(at * 1_000), breached);
        }
        buckets
    }

    #[test]
    fn only_the_last_buckets_are_judged() {
        let two = after(&[(0, true), (70, true)]);
        for (at, wanted) in [
            (70, Some(true)),
            (179, Some(true)),
            // The first left the last three; two more are not known.
            (180, None),
            (239, None),
            (240, None),
            (300, None),
        ] {
            let judged = two.judge(TWO_OF_THREE, Moment(0), Moment(at * 1_000), Severity::High);
            assert_eq!(judged, wanted, "at {at}");
        }
        let judged = two.judge(TWO_OF_THREE, Moment(0), Moment(70_000), Severity::Low);
        assert_eq!(judged, Some(false), "of another severity");
        // An alignment that begins later: what lies ahead of now counts for nothing.
        let judged = two.judge(TWO_OF_THREE, Moment(0), Moment(0), Severity::High);
        assert_eq!(judged, None);
        // One breaches, one is not known, and two are enough.
        let gap = after(&[(0, true), (120, false)]);
        let judged = gap.judge(TWO_OF_THREE, Moment(0), Moment(120_000), Severity::High);
        assert_eq!(judged, None);
    }

    #[test]
    fn the_last_verdict_of_a_bucket_counts_and_old_ones_go() {
        assert_eq!(after(&[(0, true), (10, false)]).breaches(), 0);
        assert_eq!(after(&[(0, false), (10, true)]).breaches(), 1);
        assert_eq!(after(&[(0, true), (60, true), (120, true)]).breaches(), 3);
        assert_eq!(after(&[(0, true), (60, true), (180, true)]).breaches(), 2);
        let mut ahead = after(&[(600, true)]);
        ahead.put(TWO_OF_THREE, Moment(0), Moment(0), Severities::NONE);
        assert_eq!(ahead.breaches(), 0, "aligned anew");
        let longer = AtLeast {
            period: Duration::from_secs(90),
            ..TWO_OF_THREE
        };
        let mut other = after(&[(0, true), (60, true)]);
        other.put(longer, Moment(0), Moment(180_000), Severities::NONE);
        assert_eq!(other.breaches(), 0, "another period begins anew");
    }
}
