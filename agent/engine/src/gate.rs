//! Notifiers whose component is quarantined: one message tries it, the others wait behind, and the fallback
//! hears of all of them meanwhile.
//!
//! A gate is not stored: after a restart the component has a full budget again, and so it has after a reload.

use crate::delivery::Key;
use crate::model::{Moment, NotifierId};
use crate::outbox::Item;
use crate::turn::Turn;
use std::collections::BTreeSet;
use std::time::Duration;

/// Bounds of the wait for a quarantined component: no busy loop, and no longer than its own back-off.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);

/// How long the others wait for the report of the one that tries. More than a notifier usually has.
const TRIAL_MAX: Duration = Duration::from_secs(60);

impl Turn<'_> {
    /// A message came back from a quarantined component: it keeps its place.
    pub(crate) fn quarantined(&mut self, key: &Key, mut item: Item, retry_after: Duration) {
        let wait = retry_after.clamp(WAIT_MIN, WAIT_MAX);
        let until = self.now.at + wait;
        self.state.gates.insert(key.0.clone(), until);
        let copied = std::mem::replace(&mut item.stood_in, true);
        if !copied {
            self.stand_in(key, &item);
        }
        self.put_back(key, item, wait);
    }

    /// After a reload: another file or table may have taken a component's place, so what waits for it goes
    /// out. Whoever is quarantined still will say so again.
    pub(crate) fn open_gates(&mut self) {
        let gates = std::mem::take(&mut self.state.gates);
        if !gates.is_empty() {
            self.left_to_timer = 0;
        }
        let now = self.now.at;
        for (key, slot) in &mut self.state.outbox {
            if let Some(waiting) = &mut slot.waiting
                && gates.contains_key(&key.0)
                && waiting.next_at > now
            {
                waiting.next_at = now;
                self.dirty.slots.insert(key.clone());
            }
        }
    }

    /// What may be handed out although its notifier has a gate: of each whose time has come, the message
    /// that was decided upon first.
    pub(crate) fn trials(&mut self) -> BTreeSet<Key> {
        let now = self.now.at;
        let mut trials = BTreeSet::new();
        let gates = self.state.gates.iter();
        let open: Vec<NotifierId> = gates
            .filter(|(_, until)| **until <= now)
            .map(|(notifier, _)| notifier.clone())
            .collect();
        if open.is_empty() {
            return trials;
        }
        let behind = self.state.behind_others();
        for notifier in open {
            let places = self.state.outbox.iter();
            let places = places.filter(|(key, slot)| {
                key.0 == notifier && slot.flying.is_none() && !behind.contains(*key)
            });
            let due = places.filter_map(|(key, slot)| {
                let waiting = slot.waiting.as_ref()?;
                (waiting.next_at <= now).then_some((waiting.order, key))
            });
            if let Some((_, key)) = due.min() {
                trials.insert(key.clone());
                self.state.gates.insert(notifier, now + TRIAL_MAX);
            }
        }
        trials
    }

    /// Copies to the fallback what waits behind a gate.
    pub(crate) fn stand_in_behind_gates(&mut self) {
        let gates = &self.state.gates;
        let waiting = self.state.outbox.iter_mut().filter_map(|(key, slot)| {
            let item = slot.waiting.as_mut()?;
            let behind = gates.contains_key(&key.0) && slot.flying.is_none();
            let new = behind && !std::mem::replace(&mut item.stood_in, true);
            new.then(|| (key.clone(), item.clone()))
        });
        let waiting: Vec<(Key, Item)> = waiting.collect();
        for (key, item) in waiting {
            self.dirty.slots.insert(key.clone());
            self.stand_in(&key, &item);
        }
    }
}

/// When a message is due that becomes due at `next_at` by itself.
pub(crate) fn due_behind(gate: Option<&Moment>, next_at: Moment) -> Moment {
    gate.map_or(next_at, |until| next_at.max(*until))
}
