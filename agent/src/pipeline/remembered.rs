//! What a rule's component remembers, one instance each, and when that is forgotten.

use std::sync::Arc;
use watchfire_engine::input::Observation;
use watchfire_engine::model::{ByFingerprint, Fingerprint};

/// Rounds of its rule in which an instance is not asked about until its memory is dropped: an hour at ten
/// seconds. The engine has forgotten what is gone long before; this only bounds what stays behind
/// here.
const ROUNDS_KEPT: u64 = 360;

/// One rule's memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// With the round in which the instance was last asked about.
    all: ByFingerprint<(Arc<[u8]>, u64)>,
    /// Rounds that the component answered.
    rounds: u64,
}

impl Remembered {
    /// As it was stored.
    pub(super) fn of(stored: impl IntoIterator<Item = (Fingerprint, Arc<[u8]>)>) -> Self {
        let all = stored.into_iter();
        Remembered {
            all: all.map(|(one, memory)| (one, (memory, 0))).collect(),
            rounds: 0,
        }
    }

    pub(super) fn get(&self, instance: &Fingerprint) -> Option<&Arc<[u8]>> {
        self.all.get(instance).map(|(memory, _)| memory)
    }

    /// Takes in one answered round; now and then forgets whom no round was about for long.
    pub(super) fn take(&mut self, observations: &[Observation]) {
        self.rounds += 1;
        let round = self.rounds;
        for observation in observations {
            let instance = observation.instance.fingerprint;
            if let Some(memory) = &observation.memory {
                self.all.insert(instance, (memory.clone(), round));
            } else if let Some((_, asked)) = self.all.get_mut(&instance) {
                *asked = round;
            }
        }
        if round.is_multiple_of(ROUNDS_KEPT) {
            self.all
                .retain(|_, (_, asked)| *asked + ROUNDS_KEPT > round);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_engine::input::Seen;
    use watchfire_engine::model::{Instance, Labels, RuleId};

    fn observation(name: &str, memory: Option<&[u8]>) -> Observation {
        let labels = Labels::new([("i", name)]).expect("labels");
        Observation {
            instance: Arc::new(Instance::new(RuleId::new("r"), labels)),
            seen: Seen::Value,
            breached: None,
            value: 1.0,
            limit: 1.0,
            note: None,
            memory: memory.map(Into::into),
        }
    }

    #[test]
    fn whom_no_round_is_about_for_long_is_forgotten_and_nobody_else() {
        let (quiet, gone, old) = (
            observation("quiet", None),
            observation("gone", Some(b"g")),
            observation("old", None),
        );
        let id = |one: &Observation| one.instance.fingerprint;
        let stored = [(id(&quiet), b"q"), (id(&old), b"o")];
        let stored = stored.map(|(one, memory)| (one, Arc::from(&memory[..])));
        let mut remembered = Remembered::of(stored);
        remembered.take(std::slice::from_ref(&gone));
        let known = |remembered: &Remembered| {
            [&quiet, &gone, &old].map(|one| remembered.get(&id(one)).is_some())
        };
        for _ in 1..ROUNDS_KEPT {
            assert_eq!(known(&remembered), [true, true, true], "not at once");
            remembered.take(std::slice::from_ref(&quiet));
        }
        assert_eq!(known(&remembered), [true, true, false], "since the start");
        for _ in 0..ROUNDS_KEPT {
            remembered.take(std::slice::from_ref(&quiet));
        }
        assert_eq!(known(&remembered), [true, false, false]);
    }
}
