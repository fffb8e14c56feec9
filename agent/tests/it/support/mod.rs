//! What the tests of the whole agent share: the real binary in a folder of its own, and real servers
//! on loopback around it.

mod agent;
pub mod bed;
mod dice;
mod footprint;
pub mod guests;
mod history;
pub mod hostile;
mod http;
mod witness;

pub use agent::{Agent, Folder, command, use_binary};
pub use dice::{Dice, number, seed};
pub use footprint::Footprint;
pub use history::{all_told, history};
pub use http::{Answer, Received, Server};
pub use witness::on_a_machine_that_runs;

use std::time::{Duration, Instant};

/// How long a test waits for anything. Generous: the machine may be busy; no test waits it out unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until `what` is there.
///
/// # Panics
/// If it is not there within [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, name, &mut what)
}

/// Asks until `what` is there, for a time of the test's own.
///
/// # Panics
/// If it is not there in time.
#[track_caller]
pub fn wait_within<T>(time: Duration, name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let until = now() + time;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(now() < until, "{name}: not within {time:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The real clock: these tests watch a real process.
#[expect(
    clippy::disallowed_methods,
    reason = "these tests watch a real process on the real clock"
)]
pub fn now() -> Instant {
    Instant::now()
}
