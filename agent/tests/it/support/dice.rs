//! Chances of a test, so that a failure names them.

use std::time::SystemTime;

/// A seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as those with the same seed did.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// A number from 0 to below `below`, which is not 0.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// An index into something of this length, which is not 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap_or(0)
    }

    /// One of these, of which there is at least one.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.index(all.len())]
    }
}

/// The seed that a variable of the environment names, else one by the clock. Printed, for a repetition.
pub fn seed(variable: &str) -> u64 {
    let by_the_clock = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seed = number(variable).unwrap_or(by_the_clock.as_millis() as u64);
    println!("seed {seed}: {variable}={seed} repeats its chances");
    seed
}

/// The number in a variable of the environment.
///
/// # Panics
/// If it holds something else.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}
