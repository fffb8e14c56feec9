//! Moments at which one alert changed between firing and not firing.

use crate::model::Moment;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// What fires once and resolves; thousands do in a storm, and are remembered for the window of flapping.
const FEW: usize = 2;

/// The changes of the newest window, oldest first. Few need no memory of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "VecDeque<Moment>", into = "VecDeque<Moment>")]
pub(crate) enum Flaps {
    /// As many as the number says.
    Few(u8, [Moment; FEW]),
    Many(VecDeque<Moment>),
}

impl Flaps {
    pub(crate) fn push(&mut self, now: Moment) {
        match self {
            Flaps::Few(count, few) if usize::from(*count) < FEW => {
                few[usize::from(*count)] = now;
                *count += 1;
            }
            Flaps::Few(_, few) => {
                let mut many = VecDeque::from(*few);
                many.push_back(now);
                *self = Flaps::Many(many);
            }
            Flaps::Many(many) => many.push_back(now),
        }
    }

    /// Forgets what left the window.
    pub(crate) fn forget(&mut self, window: Duration, now: Moment) {
        let is_past = |first: &Moment| now.since(*first) >= window;
        match self {
            Flaps::Few(count, few) => {
                while *count > 0 && is_past(&few[0]) {
                    few.rotate_left(1);
                    *count -= 1;
                }
            }
            Flaps::Many(many) => {
                while many.front().is_some_and(is_past) {
                    many.pop_front();
                }
                if many.len() <= FEW {
                    *self = std::mem::take(many).into();
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Flaps::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Flaps::Few(count, _) => usize::from(*count),
            Flaps::Many(many) => many.len(),
        }
    }
}

impl Default for Flaps {
    fn default() -> Self {
        Flaps::Few(0, [Moment::default(); FEW])
    }
}

impl From<VecDeque<Moment>> for Flaps {
    fn from(moments: VecDeque<Moment>) -> Self {
        if moments.len() > FEW {
            return Flaps::Many(moments);
        }
        let mut flaps = Flaps::default();
        for moment in moments {
            flaps.push(moment);
        }
        flaps
    }
}

impl From<Flaps> for VecDeque<Moment> {
    fn from(flaps: Flaps) -> Self {
        match flaps {
            Flaps::Few(count, few) => few.into_iter().take(usize::from(count)).collect(),
            Flaps::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_changes_comes_and_goes_like_a_queue() {
        let window = Duration::from_millis(10);
        for step in [1, 3, 4, 7, 20] {
            let mut flaps = Flaps::default();
            let mut plain: VecDeque<Moment> = VecDeque::new();
            for at in (0..100).map(|n| Moment(n * step)) {
                flaps.push(at);
                plain.push_back(at);
                // Not at each change, so that there are many at times.
                if at.0 % 5 == 0 {
                    flaps.forget(window, at);
                    plain.retain(|first| at.since(*first) < window);
                }
                assert_eq!(flaps.len(), plain.len(), "{step} at {at:?}");
                assert_eq!(VecDeque::from(flaps.clone()), plain);
                let row = serde_json::to_string(&flaps).expect("plain numbers");
                assert_eq!(row, serde_json::to_string(&plain).expect("plain numbers"));
                let read: Flaps = serde_json::from_str(&row).expect("as written");
                assert_eq!(VecDeque::from(read), plain);
            }
            flaps.clear();
            assert!(flaps.is_empty());
        }
    }
}
