//! What the binary brings: the stock components and what `plugin new` writes, packed by `build.rs` in one
//! piece, so that what components have in common is there once.

use std::io::{self, Read};

static ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/archive.lzma"));

include!(concat!(env!("OUT_DIR"), "/author.rs"));

/// Memory of the unpacking in KiB: the build's window of 8 MiB and as much again.
const MEMORY_KIB_MAX: u32 = 16 << 10;

/// A part of the archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    /// Where it begins, unpacked.
    pub(super) at: u64,
    /// Its bytes.
    pub(super) size: usize,
}

impl Packed {
    /// Unpacks everything up to the end of this part, which takes up to about 60 ms: nobody asks for one
    /// that was compiled before.
    ///
    /// # Errors
    /// The executable is damaged.
    pub(crate) fn unpack(self) -> io::Result<Vec<u8>> {
        let mut reader = lzma_rust2::LzmaReader::new_mem_limit(ARCHIVE, MEMORY_KIB_MAX, None)?;
        io::copy(&mut reader.by_ref().take(self.at), &mut io::sink())?;
        let mut bytes = vec![0; self.size];
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
