//! Bits, most significant first.

/// Appends bits to bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl BitWriter {
    /// Appends the lowest `count` bits (0 to 64) of `bits`.
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (bits >> (left - take)) & ((1 << take) - 1);
            self.free -= take;
            if let Some(last) = self.bytes.last_mut() {
                // `part` has at most 8 bits.
                *last |= (part << self.free) as u8;
            }
            left -= take;
        }
    }

    /// What was written, the last byte filled up with zeros.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads bits from bytes.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, at: 0 }
    }

    /// The next `count` bits (0 to 64); None: there are not so many.
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        let mut left = count;
        let mut bits = 0;
        while left > 0 {
            let byte = *self.bytes.get(self.at / 8)?;
            let unread = 8 - (self.at % 8) as u32;
            let take = left.min(unread);
            let part = (u64::from(byte) >> (unread - take)) & ((1 << take) - 1);
            bits = (bits << take) | part;
            self.at += take as usize;
            left -= take;
        }
        Some(bits)
    }
}
