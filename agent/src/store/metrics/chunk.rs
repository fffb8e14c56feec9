//! Samples of one series as bits: times as differences of differences, values as the bits that changed.
//!
//! The scheme is Gorilla's (Pelkonen and others, 2015) with milliseconds: a regular time costs one bit, one
//! that is off by up to 32 ms eight; an unchanged value costs one bit. It is written sample by sample, so an
//! open chunk takes no more memory than on disk and can be written out at any time.
//!
//! ```text
//!   varint: number of samples   varint: time of the first   bits: 64 of the first value, then for each
//!   time:   0 | 10 + 6 | 110 + 9 | 1110 + 12 | 1111 + 32    (change of the step, two's complement)
//!   value:  0 | 10 + bits in the last frame | 11 + 6 leading zeros + 6 length - 1 + bits
//! ```
//!
//! NaN stands for "not known from here on"; of several in a row one is kept.

use super::bits::{BitReader, BitWriter};

/// Samples closer than this (milliseconds) to the one before are left out: a chunk of 20 minutes stays
/// below 2,400 samples, 26 KiB at the very worst.
const CLOSEST_MS: u32 = 500;

/// Prefix, its length, bits that follow: the codes for a change of the step.
const STEPS: [(u64, u32, u32); 4] = [
    (0b10, 2, 6),
    (0b110, 3, 9),
    (0b1110, 4, 12),
    (0b1111, 4, 32),
];

/// A chunk that grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    count: u32,
    /// Time of the first sample; all times are milliseconds from the start of the slot.
    first: u32,
    last: u32,
    step: u32,
    value: u64,
    /// Leading zeros and length of the last frame; length 0: none yet.
    frame: (u32, u32),
    bits: BitWriter,
}

/// The bytes are not those of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of samples is damaged")]
pub(super) struct Damaged;

impl Chunk {
    /// Adds a sample. False: it was left out, being too close to the last, before it, or one more unknown.
    pub(super) fn push(&mut self, at: u32, value: f64) -> bool {
        // One NaN for all, so that none of them costs bits.
        let value = if value.is_nan() { f64::NAN } else { value };
        let bits = value.to_bits();
        if self.count == 0 {
            self.first = at;
            self.bits.put(bits, 64);
        } else {
            let near = at < self.last.saturating_add(CLOSEST_MS);
            let still_unknown = value.is_nan() && f64::from_bits(self.value).is_nan();
            if near || still_unknown {
                return false;
            }
            let step = at - self.last;
            self.put_step(i64::from(step) - i64::from(self.step));
            self.step = step;
            self.put_value(bits);
        }
        self.last = at;
        self.value = bits;
        self.count += 1;
        true
    }

    /// How many samples it holds.
    pub(super) fn len(&self) -> u32 {
        self.count
    }

    /// Bytes of its samples.
    pub(super) fn bytes(&self) -> usize {
        self.bits.bytes().len()
    }

    /// As it is stored.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bits.bytes().len() + 8);
        put_varint(&mut bytes, self.count);
        put_varint(&mut bytes, self.first);
        bytes.extend_from_slice(self.bits.bytes());
        bytes
    }

    fn put_step(&mut self, change: i64) {
        if change == 0 {
            return self.bits.put(0, 1);
        }
        for (prefix, length, bits) in STEPS {
            let half = 1_i64 << (bits - 1);
            if (-half..half).contains(&change) {
                self.bits.put(prefix, length);
                return self
                    .bits
                    .put(change.cast_unsigned() & ((1 << bits) - 1), bits);
            }
        }
        unreachable!("times of a slot differ by less than 2^31 ms");
    }

    fn put_value(&mut self, bits: u64) {
        let changed = bits ^ self.value;
        if changed == 0 {
            return self.bits.put(0, 1);
        }
        let leading = changed.leading_zeros();
        let length = 64 - leading - changed.trailing_zeros();
        let (frame_leading, frame_length) = self.frame;
        let frame_end = frame_leading + frame_length;
        if frame_length > 0 && frame_leading <= leading && leading + length <= frame_end {
            self.bits.put(0b10, 2);
            return self.bits.put(changed >> (64 - frame_end), frame_length);
        }
        self.bits.put(0b11, 2);
        self.bits.put(u64::from(leading), 6);
        self.bits.put(u64::from(length - 1), 6);
        self.bits.put(changed >> changed.trailing_zeros(), length);
        self.frame = (leading, length);
    }
}

/// Reads the samples of a chunk, in order; `each` gets the time from the start of the slot and the value.
pub(super) fn read(bytes: &[u8], mut each: impl FnMut(u32, f64)) -> Result<(), Damaged> {
    let mut rest = bytes;
    let count = take_varint(&mut rest)?;
    let mut at = take_varint(&mut rest)?;
    if count == 0 {
        return Ok(());
    }
    let mut bits = BitReader::new(rest);
    let mut value = bits.take(64).ok_or(Damaged)?;
    let mut step = 0_i64;
    let mut frame = (0, 0);
    each(at, f64::from_bits(value));
    for _ in 1..count {
        step += take_step(&mut bits).ok_or(Damaged)?;
        let next = i64::from(at) + step;
        at = u32::try_from(next).map_err(|_| Damaged)?;
        value ^= take_value(&mut bits, &mut frame).ok_or(Damaged)?;
        each(at, f64::from_bits(value));
    }
    Ok(())
}

fn take_step(from: &mut BitReader<'_>) -> Option<i64> {
    let mut ones = 0_usize;
    while ones < 4 && from.take(1)? == 1 {
        ones += 1;
    }
    let Some(code) = ones.checked_sub(1) else {
        return Some(0);
    };
    let (_, _, bits) = STEPS[code];
    let raw = from.take(bits)?;
    // Extends the sign.
    Some((raw << (64 - bits)).cast_signed() >> (64 - bits))
}

fn take_value(from: &mut BitReader<'_>, frame: &mut (u32, u32)) -> Option<u64> {
    if from.take(1)? == 0 {
        return Some(0);
    }
    if from.take(1)? == 1 {
        let leading = from.take(6)? as u32;
        let length = from.take(6)? as u32 + 1;
        *frame = (leading, length);
    }
    let (leading, length) = *frame;
    let trailing = 64_u32.checked_sub(leading + length)?;
    (length > 0).then_some(())?;
    Some(from.take(length)? << trailing)
}

/// Seven bits a byte, the lowest first.
pub(super) fn put_varint(to: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Reads what [`put_varint`] wrote.
pub(super) fn take_varint(from: &mut &[u8]) -> Result<u32, Damaged> {
    let mut number = 0_u32;
    for at in 0..5 {
        let (byte, rest) = from.split_first().ok_or(Damaged)?;
        *from = rest;
        number |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(bytes: &[u8]) -> Result<Vec<(u32, u64)>, Damaged> {
        let mut all = Vec::new();
        read(bytes, |at, value| all.push((at, value.to_bits())))?;
        Ok(all)
    }

    proptest! {
        #[test]
        fn what_was_put_is_read(
            first in 0..1_200_000_u32,
            steps in proptest::collection::vec((prop_oneof![5 => 9_990..10_010_u32, 1 => 500..1_200_000_u32], any::<f64>()), 0..200),
        ) {
            let mut chunk = Chunk::default();
            let mut all = Vec::new();
            let mut at = first;
            for (step, value) in steps {
                at += step;
                if chunk.push(at, value) {
                    let value = if value.is_nan() { f64::NAN } else { value };
                    all.push((at, value.to_bits()));
                }
            }
            prop_assert_eq!(chunk.len() as usize, all.len());
            prop_assert_eq!(samples(&chunk.to_bytes()), Ok(all));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = samples(&bytes);
        }
    }

    #[test]
    fn regular_samples_are_small() {
        let mut steady = Chunk::default();
        let mut counter = Chunk::default();
        for n in 0..120_u32 {
            steady.push(n * 10_000, 42.5);
            counter.push(n * 10_000 + n % 3, f64::from(1_000_000 + 37 * n));
        }
        let (steady, counter) = (steady.to_bytes().len(), counter.to_bytes().len());
        // 8 for the first value, 5 for the first step, 2 bits a sample.
        assert!(steady <= 48, "{steady}");
        assert!(counter <= 480, "{counter}");
    }

    #[test]
    fn what_is_too_close_or_says_nothing_new_is_left_out() {
        let mut chunk = Chunk::default();
        assert!(chunk.push(1_000, 1.0));
        assert!(!chunk.push(1_000, 2.0) && !chunk.push(900, 2.0) && !chunk.push(1_499, 2.0));
        assert!(chunk.push(1_500, f64::NAN));
        assert!(!chunk.push(9_000, -f64::NAN));
        assert!(chunk.push(19_000, 3.0));
        assert_eq!(samples(&chunk.to_bytes()).unwrap().len(), 3);
    }
}
