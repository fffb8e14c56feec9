//! Tells a late agent from a machine that stood still.

use super::now;
use rustix::time::{ClockId, clock_gettime};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two breaths of the witness.
const BREATH: Duration = Duration::from_millis(200);

/// CPU time after each: about what the agent's thread computes at a reload. One that only sleeps is woken at once also
/// where others wait for a core.
const WORK: Duration = Duration::from_millis(20);

/// Breath and work end within this on a machine that runs at all: a fifth of a round of a second, and several times
/// what it takes beside compilers on every core.
const STALL: Duration = Duration::from_millis(200);

/// Runs of one test, the last of which counts whatever the machine did.
const TRIES: u32 = 3;

/// Runs a test of what happens when. If it fails while the machine did not let another thread wake and work in time
/// either, that says nothing of the agent, and it is run again.
pub fn on_a_machine_that_runs(test: impl Fn()) {
    for rest in (0..TRIES).rev() {
        let done = AtomicBool::new(false);
        let (result, stall) = std::thread::scope(|scope| {
            let witness = scope.spawn(|| {
                let mut worst = Duration::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let before = now();
                    std::thread::sleep(BREATH);
                    let worked = own_cpu();
                    while own_cpu() - worked < WORK {
                        std::hint::spin_loop();
                    }
                    worst = worst.max(before.elapsed().saturating_sub(BREATH + WORK));
                }
                worst
            });
            let result = catch_unwind(AssertUnwindSafe(&test));
            done.store(true, Ordering::Relaxed);
            (result, witness.join().unwrap())
        });
        println!("another thread was {stall:?} late at most");
        match result {
            Ok(()) => return,
            Err(_) if stall > STALL && rest > 0 => println!("the machine stood still: once more"),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// CPU time of this thread.
fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
