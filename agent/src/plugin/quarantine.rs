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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A budget on a clock of its own.
    struct Scene {
        budget: Budget,
        start: Instant,
        at: Duration,
    }

    impl Scene {
        fn new() -> Self {
            Scene {
                budget: Budget::default(),
                start: Instant::now(),
                at: Duration::ZERO,
            }
        }

        fn now(&self) -> Instant {
            self.start + self.at
        }

        /// One turn: asks, and if it may, calls with that verdict.
        fn turn(&mut self, verdict: Verdict) -> (Answer, Change) {
            let asked = self.budget.ask(self.now());
            let change = match asked {
                Answer::NotBefore(_) => Change::None,
                asked => self.budget.judge(asked, verdict, self.now()),
            };
            (asked, change)
        }

        /// Faults until it is quarantined; how many it took.
        fn spoil(&mut self) -> u32 {
            (1..100)
                .find(|_| self.turn(Verdict::Fault).1 == Change::Quarantined)
                .expect("it has a bound")
        }

        /// How long it is not called from now on.
        fn withheld(&mut self) -> Duration {
            let now = self.now();
            match self.budget.clone().ask(now) {
                Answer::NotBefore(until) => until - now,
                _ => Duration::ZERO,
            }
        }
    }

    #[test]
    fn five_faults_in_a_row_and_no_fewer() {
        let mut scene = Scene::new();
        for verdict in [
            Verdict::Fault,
            Verdict::Fault,
            Verdict::Fault,
            Verdict::Fault,
            Verdict::Answered,
            Verdict::Fault,
            Verdict::Nothing,
            Verdict::Fault,
            Verdict::Fault,
            Verdict::Fault,
        ] {
            assert_eq!(scene.turn(verdict), (Answer::Call, Change::None));
        }
        assert_eq!(scene.turn(Verdict::Fault).1, Change::Quarantined);
        assert_eq!(scene.withheld(), SECOND);
    }

    #[test]
    fn the_wait_doubles_to_five_minutes_and_an_answer_ends_it() {
        let mut scene = Scene::new();
        assert_eq!(scene.spoil(), FAILURES_MAX);
        let mut waits = Vec::new();
        for _ in 0..11 {
            let wait = scene.withheld();
            waits.push(wait.as_secs());
            scene.at += wait - Duration::from_nanos(1);
            assert!(matches!(
                scene.turn(Verdict::Answered).0,
                Answer::NotBefore(_)
            ));
            scene.at += Duration::from_nanos(1);
            assert_eq!(
                scene.turn(Verdict::Fault),
                (Answer::Trial, Change::Prolonged)
            );
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        scene.at += WAIT_MAX;
        assert_eq!(
            scene.turn(Verdict::Answered),
            (Answer::Trial, Change::Released)
        );
        assert_eq!(scene.turn(Verdict::Answered), (Answer::Call, Change::None));
    }

    #[test]
    fn a_relapse_goes_on_where_the_wait_was_and_a_long_peace_forgives() {
        let mut scene = Scene::new();
        scene.spoil();
        scene.at += SECOND;
        scene.turn(Verdict::Fault);
        scene.at += 2 * SECOND;
        assert_eq!(scene.turn(Verdict::Answered).1, Change::Released);
        scene.at += RELAPSE - SECOND;
        assert_eq!(scene.spoil(), FAILURES_MAX, "a release gives a full budget");
        assert_eq!(scene.withheld(), 4 * SECOND);
        scene.at += 4 * SECOND;
        assert_eq!(scene.turn(Verdict::Answered).1, Change::Released);
        scene.at += RELAPSE;
        scene.spoil();
        assert_eq!(scene.withheld(), SECOND);
    }

    #[test]
    fn one_trial_at_a_time_and_one_that_was_not_made_is_due_again() {
        let mut scene = Scene::new();
        scene.spoil();
        scene.at += SECOND;
        assert_eq!(scene.budget.ask(scene.now()), Answer::Trial);
        assert!(matches!(
            scene.budget.ask(scene.now()),
            Answer::NotBefore(_)
        ));
        // What began before the quarantine says nothing in it.
        let late = scene
            .budget
            .judge(Answer::Call, Verdict::Answered, scene.now());
        assert_eq!(late, Change::None);
        scene.budget.abandon(scene.now());
        assert_eq!(scene.budget.ask(scene.now()), Answer::Trial);
        // A trial that showed nothing is repeated after the same wait.
        let nothing = scene
            .budget
            .judge(Answer::Trial, Verdict::Nothing, scene.now());
        assert_eq!((nothing, scene.withheld()), (Change::None, SECOND));
    }

    #[test]
    fn whose_fault_it_is() {
        let text = String::new;
        let waited = Cost {
            wall: 5 * SECOND,
            host: 4 * SECOND,
            ..Cost::default()
        };
        let worked = Cost {
            wall: 5 * SECOND,
            busy: 4 * SECOND,
            ..Cost::default()
        };
        for (error, cost, verdict) in [
            (None, worked, Verdict::Answered),
            (
                Some(CallError::Config(text())),
                Cost::default(),
                Verdict::Answered,
            ),
            (
                Some(CallError::Denied(text())),
                Cost::default(),
                Verdict::Answered,
            ),
            (
                Some(CallError::Rejected(text())),
                Cost::default(),
                Verdict::Answered,
            ),
            (
                Some(CallError::Unavailable {
                    message: text(),
                    retry_after: None,
                }),
                waited,
                Verdict::Answered,
            ),
            (
                Some(CallError::Internal(text())),
                Cost::default(),
                Verdict::Fault,
            ),
            (
                Some(CallError::Trapped(text())),
                Cost::default(),
                Verdict::Fault,
            ),
            (Some(CallError::Exited(0)), Cost::default(), Verdict::Fault),
            (
                Some(CallError::CpuLimit(SECOND)),
                Cost::default(),
                Verdict::Fault,
            ),
            (
                Some(CallError::MemoryLimit(1)),
                Cost::default(),
                Verdict::Fault,
            ),
            (
                Some(CallError::HostCallLimit(1)),
                Cost::default(),
                Verdict::Fault,
            ),
            (
                Some(CallError::BadResult(text())),
                Cost::default(),
                Verdict::Fault,
            ),
            (Some(CallError::WallLimit(SECOND)), worked, Verdict::Fault),
            (Some(CallError::WallLimit(SECOND)), waited, Verdict::Nothing),
        ] {
            assert_eq!(Verdict::of(error.as_ref(), &cost), verdict, "{error:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quarantine_is_shown_rings_and_ends() {
        let bell = Arc::new(Notify::new());
        let quarantine = Quarantine::new(bell.clone());
        let trap = CallError::Trapped("boom\u{1b}".into());
        for _ in 0..FAILURES_MAX {
            assert!(quarantine.held().is_none());
            let leave = quarantine.ask().expect("it may be called");
            leave.settle(Some(&trap), &Cost::default());
        }
        bell.notified().await;
        let held = quarantine.held().expect("it is quarantined");
        assert_eq!(&*held.reason, "the plugin trapped: boom ");
        let refused = quarantine.ask().expect_err("it waits");
        assert!(refused.to_string().contains("boom"), "{refused}");
        assert!(
            matches!(refused, CallError::Quarantined { retry_after, .. } if retry_after == SECOND)
        );
        tokio::time::advance(SECOND).await;
        drop(quarantine.ask().expect("a trial that is not made"));
        let leave = quarantine.ask().expect("is due again");
        assert_eq!(
            leave.settle(Some(&trap), &Cost::default()),
            Change::Prolonged
        );
        assert_eq!(quarantine.held().expect("still").trials, 1);
        tokio::time::advance(2 * SECOND).await;
        let leave = quarantine.ask().expect("the second trial");
        assert_eq!(leave.settle(None, &Cost::default()), Change::Released);
        bell.notified().await;
        assert!(quarantine.held().is_none());
    }

    fn verdicts() -> impl Strategy<Value = Vec<(Verdict, u64)>> {
        let verdict = prop_oneof![
            4 => Just(Verdict::Fault),
            1 => Just(Verdict::Answered),
            1 => Just(Verdict::Nothing),
        ];
        proptest::collection::vec((verdict, 0..200_000_u64), 1..200)
    }

    proptest! {
        /// Whatever happens: nobody is withheld before five faults in a row, nobody waits longer than five
        /// minutes, trials are at least a second apart, and an answer to one always ends the quarantine.
        #[test]
        fn bounds_hold(turns in verdicts()) {
            let mut scene = Scene::new();
            let mut in_a_row = 0;
            let mut quarantined = false;
            let mut last_trial: Option<Duration> = None;
            for (verdict, millis) in turns {
                scene.at += Duration::from_millis(millis);
                let (asked, change) = scene.turn(verdict);
                match asked {
                    Answer::Call => {
                        prop_assert!(!quarantined);
                        match verdict {
                            Verdict::Fault => in_a_row += 1,
                            Verdict::Answered => in_a_row = 0,
                            Verdict::Nothing => {}
                        }
                        prop_assert_eq!(change == Change::Quarantined, in_a_row == FAILURES_MAX);
                        quarantined = change == Change::Quarantined;
                    }
                    Answer::Trial => {
                        prop_assert!(quarantined);
                        if let Some(last) = last_trial {
                            prop_assert!(scene.at - last >= WAIT_FIRST);
                        }
                        last_trial = Some(scene.at);
                        prop_assert_eq!(change == Change::Released, verdict == Verdict::Answered);
                        if change == Change::Released {
                            quarantined = false;
                            in_a_row = 0;
                        }
                    }
                    Answer::NotBefore(until) => {
                        prop_assert!(quarantined);
                        prop_assert!(until > scene.now() && until <= scene.now() + WAIT_MAX);
                    }
                }
            }
        }
    }
}
