//! The error budget of one use of a component: five failures of its own in a row, and it is not called for
//! a while; then one call is a trial, and its answer or its next failure decides.
//!
//! ```text
//!              5th fault in a row             the wait is over
//!      Free ----------------------> Waiting ------------------> OnTrial
//!       ^                              ^                          |  |
//!       |                              +--- fault: wait twice ----+  |
//!       +-------------------------------- an answer -----------------+
//! ```
//!
//! A budget belongs to a use (one table), not to a component: a table that makes a component trap must
//! not take away the fifty others that it serves well. It lives as long as the use does, so a new file or a
//! new table, which make a new use, begin with a full one.
//!
//! [`Budget`] is the decision, without a clock of its own; [`Quarantine`] shares one between the stage that
//! calls and those who show it.

use crate::sandbox::types::{CallError, Cost};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use watchfire_engine::model::WallTime;

/// Failures in a row that a use may have (plugins.md 2.4): one is an accident, five are a habit.
const FAILURES_MAX: u32 = 5;

/// The first wait. Short, because what failed five times may have had five bad minutes.
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// The longest wait: what healed by itself serves again within five minutes.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Who is quarantined again within this time of the last one's end goes on with the wait it had: something
/// that works every sixth time would else be told of every few seconds. Twice the longest wait.
const RELAPSE: Duration = Duration::from_secs(600);

/// Longest text of a failure that is kept: a line or two of a panic.
const REASON_CHARS_MAX: usize = 500;

/// What a call says about the component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered. Also with an error of the contract: the code works, whatever its target does.
    Answered,
    /// It failed by its own fault.
    Fault,
    /// Neither: the call was over before the component could show anything.
    Nothing,
}

impl Verdict {
    /// Of a call that ended so and cost so much.
    ///
    /// A call that was stopped at its wall limit after it had spent most of the time in host calls waited
    /// for others; one that slept or computed is to blame.
    pub fn of(error: Option<&CallError>, cost: &Cost) -> Verdict {
        match error {
            None => Verdict::Answered,
            Some(CallError::Quarantined { .. }) => Verdict::Nothing,
            Some(CallError::WallLimit(_)) if cost.host * 2 > cost.wall => Verdict::Nothing,
            Some(error) if error.is_plugins_fault() => Verdict::Fault,
            Some(_) => Verdict::Answered,
        }
    }
}

/// What follows from a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays as it was.
    None,
    /// It is quarantined from now on.
    Quarantined,
    /// It failed again: the wait grows.
    Prolonged,
    /// It serves again.
    Released,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As ever.
    Call,
    /// This one decides.
    Trial,
    /// Not before then.
    NotBefore(Instant),
}

/// The decision: a function of verdicts and times.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// Faults in a row.
    failures: u32,
    standing: Standing,
    /// The wait of the newest quarantine.
    wait: Duration,
    /// When the newest quarantine ended.
    released: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Free,
    Waiting {
        until: Instant,
    },
    /// One call is under way; its own limits bound it.
    OnTrial,
}

impl Budget {
    /// Asks for a call.
    pub fn ask(&mut self, now: Instant) -> Answer {
        match (self.standing, self.not_before(now)) {
            (_, Some(until)) => Answer::NotBefore(until),
            (Standing::Free, None) => Answer::Call,
            (Standing::Waiting { .. } | Standing::OnTrial, None) => {
                self.standing = Standing::OnTrial;
                Answer::Trial
            }
        }
    }

    /// As [`Budget::ask`], without taking the leave.
    fn not_before(&self, now: Instant) -> Option<Instant> {
        match self.standing {
            Standing::Waiting { until } if now < until => Some(until),
            Standing::OnTrial => Some(now + WAIT_FIRST),
            Standing::Free | Standing::Waiting { .. } => None,
        }
    }

    /// Takes in how a call ended.
    pub fn judge(&mut self, asked: Answer, verdict: Verdict, now: Instant) -> Change {
        match (self.standing, asked, verdict) {
            (Standing::Free, _, Verdict::Answered) => {
                self.failures = 0;
                Change::None
            }
            (Standing::Free, _, Verdict::Nothing) => Change::None,
            (Standing::Free, _, Verdict::Fault) => {
                self.failures += 1;
                if self.failures < FAILURES_MAX {
                    return Change::None;
                }
                let relapsed = self.released.is_some_and(|at| now < at + RELAPSE);
                self.wait = if relapsed { self.longer() } else { WAIT_FIRST };
                self.standing = Standing::Waiting {
                    until: now + self.wait,
                };
                Change::Quarantined
            }
            (Standing::OnTrial, Answer::Trial, Verdict::Answered) => {
                self.failures = 0;
                self.standing = Standing::Free;
                self.released = Some(now);
                Change::Released
            }
            (Standing::OnTrial, Answer::Trial, Verdict::Fault) => {
                self.failures = self.failures.saturating_add(1);
                self.wait = self.longer();
                self.standing = Standing::Waiting {
                    until: now + self.wait,
                };
                Change::Prolonged
            }
            (Standing::OnTrial, Answer::Trial, Verdict::Nothing) => {
                self.standing = Standing::Waiting {
                    until: now + self.wait,
                };
                Change::None
            }
            // A call that began before the quarantine and ended in it.
            (Standing::Waiting { .. } | Standing::OnTrial, _, _) => Change::None,
        }
    }

    /// A trial that was asked for was not made.
    fn abandon(&mut self, now: Instant) {
        if self.standing == Standing::OnTrial {
            self.standing = Standing::Waiting { until: now };
        }
    }

    fn longer(&self) -> Duration {
        (self.wait * 2).clamp(WAIT_FIRST, WAIT_MAX)
    }
}

/// The shared budget of one use.
#[derive(Debug, Default)]
pub struct Quarantine {
    inner: Mutex<Inner>,
    /// Rings when somebody is quarantined or released.
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    budget: Budget,
    held: Option<Held>,
}

/// A quarantine, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Since when.
    pub since: WallTime,
    /// The failure that began it; no control characters, a few lines at most.
    pub reason: Arc<str>,
    /// When the next call may be made.
    pub retry_at: WallTime,
    /// Trials that failed.
    pub trials: u32,
}

/// Leave to make one call. Dropped without a verdict, it was not made.
#[derive(Debug)]
pub struct Leave<'a> {
    quarantine: &'a Quarantine,
    asked: Answer,
    settled: bool,
}

impl Quarantine {
    /// A full budget, whose changes ring `bell`.
    pub fn new(bell: Arc<Notify>) -> Self {
        Quarantine {
            inner: Mutex::default(),
            bell,
        }
    }

    /// Asks for a call.
    ///
    /// # Errors
    /// [`CallError::Quarantined`]: it is not to be made now.
    pub fn ask(&self) -> Result<Leave<'_>, CallError> {
        let now = Instant::now();
        let mut inner = self.inner();
        match inner.budget.ask(now) {
            Answer::NotBefore(until) => {
                let reason = inner.held.as_ref().map(|held| held.reason.clone());
                Err(CallError::Quarantined {
                    message: format!(
                        "quarantined after {FAILURES_MAX} failures in a row; the one that began it: {}",
                        reason.as_deref().unwrap_or("unknown")
                    ),
                    retry_after: until.saturating_duration_since(now),
                })
            }
            asked => Ok(Leave {
                quarantine: self,
                asked,
                settled: false,
            }),
        }
    }

    /// How long it is not to be called from now on; none: it may be called, if only on trial.
    pub fn wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let until = self.inner().budget.not_before(now)?;
        Some(until - now)
    }

    /// The quarantine it is in; none: it is called as ever.
    pub fn held(&self) -> Option<Held> {
        self.inner().held.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No step here can panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave<'_> {
    /// Says how the call ended.
    pub fn settle(mut self, error: Option<&CallError>, cost: &Cost) -> Change {
        self.settled = true;
        let now = Instant::now();
        let verdict = Verdict::of(error, cost);
        let mut inner = self.quarantine.inner();
        let change = inner.budget.judge(self.asked, verdict, now);
        let wall = super::load::wall_time();
        let retry_at = WallTime(
            wall.0
                .saturating_add(super::load::millis(inner.budget.wait)),
        );
        match change {
            Change::None => {
                if let Some(held) = &mut inner.held {
                    held.retry_at = retry_at;
                }
            }
            Change::Quarantined => {
                let reason = error.map_or_else(String::new, CallError::to_string);
                inner.held = Some(Held {
                    since: wall,
                    reason: super::plain(&reason)
                        .chars()
                        .take(REASON_CHARS_MAX)
                        .collect::<String>()
                        .into(),
                    retry_at,
                    trials: 0,
                });
            }
            Change::Prolonged => {
                if let Some(held) = &mut inner.held {
                    held.retry_at = retry_at;
                    held.trials += 1;
                }
            }
            Change::Released => inner.held = None,
        }
        drop(inner);
        if change != Change::None {
            // One waits, and a ring that nobody waits for yet is kept.
            self.quarantine.bell.notify_one();
        }
        change
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if !self.settled && self.asked == Answer::Trial {
            self.quarantine.inner().budget.abandon(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
