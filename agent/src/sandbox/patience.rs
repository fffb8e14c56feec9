//! Which uses may start their calls on the caller's thread.
//!
//! A call cannot be stopped between two ticks of the epoch, nor inside one bulk operation on its memory or one
//! synchronous host function. So the caller's thread is lent to those that gave it back soon the last times.

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A call that keeps a thread longer than this is not quick. Ten times what a small call takes; the way to
/// another thread and back (about 60 µs) is then less than a third of it, and several such calls, large batches of
/// rules for one, run side by side there instead of one after the other on the agent's only thread.
const QUICK: Duration = Duration::from_micros(200);
/// Calls that have to be quick on the guests' threads before one starts on the caller's again. What spins at
/// every second call so holds the agent up for a tick in seventeen calls.
const PROBATION: u32 = 16;

/// How one use behaved lately. A new one is trusted.
#[derive(Default)]
pub(crate) struct Patience {
    /// Calls that still have to be quick.
    probation: AtomicU32,
    /// What its thread's CPU clock showed when the stretch that runs began, nanoseconds.
    began: AtomicU64,
}

/// The longest stretch of one call so far; the use is judged by it when the call is over, however it ends.
struct Longest<'a> {
    held: Duration,
    /// All stretches together.
    busy: Duration,
    patience: &'a Patience,
}

impl Patience {
    /// Whether the next call may start on the thread of its caller.
    pub(crate) fn is_quick(&self) -> bool {
        self.probation.load(Ordering::Relaxed) == 0
    }

    /// Runs a call and judges the use by it. Beside the call's answer comes how long it held a thread.
    pub(crate) async fn watch<F: Future>(&self, call: F) -> (F::Output, Duration) {
        let mut call = std::pin::pin!(call);
        let mut longest = Longest {
            held: Duration::ZERO,
            busy: Duration::ZERO,
            patience: self,
        };
        let answer = std::future::poll_fn(|cx| {
            let since = Instant::now();
            self.began.store(thread_cpu_nanos(), Ordering::Relaxed);
            let polled = call.as_mut().poll(cx);
            let held = since.elapsed();
            longest.held = longest.held.max(held);
            longest.busy += held;
            if polled.is_pending() && held > QUICK {
                // Not only when it is over: what is left of it goes into a lane.
                self.judge(held);
            }
            polled
        })
        .await;
        (answer, longest.busy)
    }

    /// CPU time of the stretch that runs, asked from inside of it. A thread that waits for a core does not count.
    pub(crate) fn stretch(&self) -> Duration {
        let began = self.began.load(Ordering::Relaxed);
        Duration::from_nanos(thread_cpu_nanos().saturating_sub(began))
    }

    // One call of a use runs at a time, so nothing is lost between the two steps.
    fn judge(&self, held: Duration) {
        let left = if held > QUICK {
            PROBATION
        } else {
            self.probation.load(Ordering::Relaxed).saturating_sub(1)
        };
        self.probation.store(left, Ordering::Relaxed);
    }
}

fn thread_cpu_nanos() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    // A thread's clock starts at zero, so neither part is negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

impl Drop for Longest<'_> {
    fn drop(&mut self) {
        self.patience.judge(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;

    #[tokio::test(start_paused = true)]
    async fn one_that_held_a_thread_up_is_on_probation() {
        let patience = Patience::default();
        assert!(patience.is_quick());
        // Stands for a stretch of work: the clock moves within one poll.
        let works = async |long: Duration| {
            let work = std::pin::pin!(tokio::time::advance(long));
            let ((), busy) = patience.watch(work).await;
            assert_eq!(busy, long);
        };
        works(QUICK / 2).await;
        assert!(patience.is_quick());
        works(QUICK * 2).await;
        for _ in 0..PROBATION {
            assert!(!patience.is_quick());
            patience.watch(async {}).await;
        }
        assert!(patience.is_quick());
    }

    #[tokio::test]
    async fn a_dropped_call_is_judged_too() {
        let patience = Patience::default();
        {
            let mut call = Box::pin(patience.watch(async {
                let since = Instant::now();
                while since.elapsed() <= QUICK {
                    std::hint::spin_loop();
                }
                std::future::pending::<()>().await;
            }));
            let mut nobody = Context::from_waker(std::task::Waker::noop());
            assert!(call.as_mut().poll(&mut nobody).is_pending());
        }
        assert!(!patience.is_quick());
    }
}
