//! The agent's three clocks: boottime for every timer, monotonic to notice a suspend, wall for people.

use crate::store::SavedClock;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use watchfire_engine::model::{Moment, Now, WallTime};

/// Maps the system's clocks to the agent's timeline. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    boot_id: std::sync::Arc<str>,
    /// Added to boottime; negative where the timeline began after the boot.
    offset_ms: i128,
}

impl Clock {
    /// Goes on from `saved`: on the same boot by boottime, after a reboot by the wall clock (never
    /// backwards), and from the wall clock where nothing was saved: a timeline that began
    /// at zero again would give the first messages after a loss the ids of those before it.
    pub fn resume(saved: Option<&SavedClock>) -> Clock {
        let boot_id = boot_id();
        let boottime = millis(ClockId::Boottime);
        let moment = match saved {
            Some(saved) if *saved.boot_id == *boot_id => {
                saved.moment_ms + boottime.saturating_sub(saved.boottime_ms)
            }
            Some(saved) => saved.moment_ms + wall_ms().saturating_sub(saved.wall_ms),
            None => wall_ms(),
        };
        Clock {
            boot_id: boot_id.into(),
            offset_ms: i128::from(moment) - i128::from(boottime),
        }
    }

    /// This instant.
    pub fn now(&self) -> Now {
        let moment = i128::from(millis(ClockId::Boottime)) + self.offset_ms;
        Now {
            at: Moment(u64::try_from(moment).unwrap_or(0)),
            wall: WallTime(wall_ms()),
        }
    }

    /// What to store so that [`Clock::resume`] can go on from `now`.
    pub fn saved(&self, now: Now) -> SavedClock {
        let boottime = i128::from(now.at.0) - self.offset_ms;
        SavedClock {
            boot_id: self.boot_id.to_string(),
            boottime_ms: u64::try_from(boottime).unwrap_or(0),
            moment_ms: now.at.0,
            wall_ms: now.wall.0,
        }
    }
}

/// Notices suspends: the growth of boottime beyond that of the monotonic clock.
#[derive(Debug)]
pub struct SuspendWatch {
    lead_ms: u64,
}

impl SuspendWatch {
    /// Starts from now.
    pub fn new() -> Self {
        SuspendWatch { lead_ms: lead_ms() }
    }

    /// How long the host slept since the last call.
    pub fn slept(&mut self) -> Duration {
        let lead = lead_ms();
        let slept = lead.saturating_sub(self.lead_ms);
        self.lead_ms = lead;
        Duration::from_millis(slept)
    }
}

impl Default for SuspendWatch {
    fn default() -> Self {
        SuspendWatch::new()
    }
}

fn lead_ms() -> u64 {
    millis(ClockId::Boottime).saturating_sub(millis(ClockId::Monotonic))
}

fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000
        + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

fn wall_ms() -> u64 {
    millis(ClockId::Realtime)
}

/// Where the kernel tells no boot id (a container without /proc), every start counts as a new boot.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_else(|_| format!("unknown-{}", wall_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(boot_id: &str, moment_ms: u64, ago_ms: u64) -> SavedClock {
        SavedClock {
            boot_id: boot_id.to_owned(),
            boottime_ms: millis(ClockId::Boottime) - ago_ms.min(millis(ClockId::Boottime)),
            moment_ms,
            wall_ms: wall_ms() - ago_ms,
        }
    }

    #[test]
    fn the_timeline_goes_on_over_restarts_and_reboots() {
        let within = |clock: &Clock, wanted: u64| {
            let got = clock.now().at.0;
            // Two clocks, each cut to its millisecond; and a machine that stands still.
            let wanted = wanted - 1;
            assert!(
                (wanted..wanted + 3_000).contains(&got),
                "{got} not {wanted}"
            );
        };
        within(&Clock::resume(None), wall_ms());
        within(
            &Clock::resume(Some(&saved(&boot_id(), 50_000, 5_000))),
            55_000,
        );
        within(
            &Clock::resume(Some(&saved("another boot", 50_000, 9_000))),
            59_000,
        );
    }

    #[test]
    fn a_wall_clock_that_went_back_over_a_reboot_stops_the_timeline_but_never_turns_it() {
        let mut future = saved("another boot", 50_000, 0);
        future.wall_ms += 3_600_000;
        let clock = Clock::resume(Some(&future));
        assert!(clock.now().at.0 >= 50_000);
    }

    #[test]
    fn what_is_saved_resumes_at_the_same_moment() {
        let clock = Clock::resume(Some(&saved(&boot_id(), 123_456, 0)));
        let now = clock.now();
        let again = Clock::resume(Some(&clock.saved(now)));
        assert!(again.now().at.since(now.at) < Duration::from_secs(20));
    }
}
