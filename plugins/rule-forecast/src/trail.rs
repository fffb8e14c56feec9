//! What the line is laid through: the window in sixty slots, in each the mean of what was seen.
//!
//! Sixty means make 1,770 slopes: a tenth of a millisecond, however many points there were. As memory of the rule a trail
//! is at most 1.3 KiB; another encoding or another window starts anew.

use watchfire_plugin_sdk::Timestamp;
use watchfire_plugin_sdk::units::Span;

use crate::trend::Trend;

/// Slots of a window; one more is under way.
const SLOTS: u64 = 60;

/// Fewer means than these make no line.
const MEANS_MIN: usize = 6;

/// The share of the window that must be covered before anything is said.
const COVERED_MIN: f64 = 0.5;

/// First byte of the memory; counted up with each change of the encoding.
const VERSION: u8 = 1;

/// Bytes of a slot in the memory.
const SLOT_BYTES: usize = 8 + 4 + 4 + 8;

/// The means of a window, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    window_ms: u64,
    slot_ms: u64,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    /// Time since 1970 divided by the length of a slot.
    number: u64,
    /// How many values.
    count: u32,
    /// Their mean time, in milliseconds from the beginning of the slot.
    offset: f32,
    /// Their mean.
    mean: f64,
}

impl Trail {
    pub(crate) fn new(window: Span) -> Self {
        let window_ms = u64::try_from(window.0.as_millis()).unwrap_or(u64::MAX);
        Trail {
            window_ms,
            slot_ms: (window_ms / SLOTS).max(1),
            slots: Vec::new(),
        }
    }

    /// Takes a value; what is not known is left out.
    pub(crate) fn add(&mut self, at: Timestamp, value: f64) {
        if !value.is_finite() {
            return;
        }
        let number = at.0 / self.slot_ms;
        // A clock that was set back makes slots of the future: they are of no use.
        while self.slots.last().is_some_and(|slot| slot.number > number) {
            self.slots.pop();
        }
        let offset = (at.0 % self.slot_ms) as f32;
        match self.slots.last_mut() {
            Some(slot) if slot.number == number => {
                slot.count = slot.count.saturating_add(1);
                let weight = 1.0 / f64::from(slot.count);
                slot.mean += (value - slot.mean) * weight;
                slot.offset += (offset - slot.offset) * weight as f32;
            }
            _ => self.slots.push(Slot {
                number,
                count: 1,
                offset,
                mean: value,
            }),
        }
    }

    /// Lets go of what is older than the window.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        let oldest = now.0.saturating_sub(self.window_ms) / self.slot_ms;
        self.slots.retain(|slot| slot.number >= oldest);
    }

    /// The line; none: too little is known for one.
    pub(crate) fn trend(&self, now: Timestamp) -> Option<Trend> {
        if self.slots.len() < MEANS_MIN {
            return None;
        }
        let points: Vec<(f64, f64)> = self
            .slots
            .iter()
            .map(|slot| {
                let at = (slot.number * self.slot_ms) as f64 + f64::from(slot.offset);
                ((at - now.0 as f64) / 1_000.0, slot.mean)
            })
            .collect();
        let trend = Trend::through(&points)?;
        (trend.covered * 1_000.0 >= COVERED_MIN * self.window_ms as f64).then_some(trend)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + self.slots.len() * SLOT_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.window_ms.to_le_bytes());
        for slot in &self.slots {
            bytes.extend(slot.number.to_le_bytes());
            bytes.extend(slot.count.to_le_bytes());
            bytes.extend(slot.offset.to_le_bytes());
            bytes.extend(slot.mean.to_le_bytes());
        }
        bytes
    }

    /// What was remembered; an empty trail where it is of another encoding or another window.
    pub(crate) fn decode(bytes: &[u8], window: Span) -> Self {
        let mut trail = Trail::new(window);
        let head = bytes.split_first_chunk::<9>();
        let Some((head, slots)) = head
            .filter(|(head, _)| head[0] == VERSION && head[1..] == trail.window_ms.to_le_bytes())
        else {
            return trail;
        };
        let _ = head;
        let (slots, rest) = slots.as_chunks::<SLOT_BYTES>();
        if rest.is_empty() {
            trail.slots = slots.iter().map(slot).collect();
        }
        trail
    }
}

fn slot(bytes: &[u8; SLOT_BYTES]) -> Slot {
    let part = |from: usize| -> [u8; 4] { std::array::from_fn(|n| bytes[from + n]) };
    let whole = |from: usize| -> [u8; 8] { std::array::from_fn(|n| bytes[from + n]) };
    Slot {
        number: u64::from_le_bytes(whole(0)),
        count: u32::from_le_bytes(part(8)),
        offset: f32::from_le_bytes(part(12)),
        mean: f64::from_le_bytes(whole(16)),
    }
}
