//! M-of-N over aligned buckets (alerting.md 1.2, decisions.md 13).

use crate::model::{Moment, Severities, Severity};
use crate::policy::AtLeast;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The newest verdicts, one a bucket, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Buckets(VecDeque<(u64, Severities)>);

impl Buckets {
    /// The verdict of the running bucket; the last one of a bucket counts.
    pub(crate) fn put(&mut self, rule: AtLeast, born: Moment, now: Moment, breached: Severities) {
        let index = index(rule, born, now);
        match self.0.back_mut() {
            Some((last, verdict)) if *last == index => *verdict = breached,
            _ => self.0.push_back((index, breached)),
        }
        while self
            .0
            .front()
            .is_some_and(|(first, _)| index - first >= u64::from(rule.of))
        {
            self.0.pop_front();
        }
    }

    /// Whether `m` of the last `of` buckets breach: yes, no, or not known.
    pub(crate) fn judge(
        &self,
        rule: AtLeast,
        born: Moment,
        now: Moment,
        severity: Severity,
    ) -> Option<bool> {
        let index = index(rule, born, now);
        let of = u64::from(rule.of);
        let recent = self.0.iter().filter(|(at, _)| index - at < of);
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

fn index(rule: AtLeast, born: Moment, now: Moment) -> u64 {
    let period = u64::try_from(rule.period.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    now.since(born).as_millis() as u64 / period
}
