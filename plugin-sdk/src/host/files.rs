//! Files, read only. Grant `files`, as globs.
//!
//! To follow a file, keep `inode` and offset in [`state`](super::state): a chunk comes with the file it was read from,
//! so that rotation cannot slip in between.

use crate::{Error, Result, calls};

/// Most bytes that [`read_text`] takes, 1 MiB: configuration and status files are far smaller.
pub const TEXT_MAX: u32 = 1 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Size in bytes.
    pub size: u64,
    /// Last change, seconds since 1970.
    pub modified_at: u64,
    /// Device. With `inode` it names one file, whatever its path.
    pub device: u64,
    /// Inode.
    pub inode: u64,
}

/// A part of a file, and the file it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes; fewer than asked for at the end.
    pub bytes: Vec<u8>,
    /// The file of the same open.
    pub file: Metadata,
}

/// At most `limit` bytes from `offset` on; the host may give fewer.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) outside of the grant, [`Unavailable`](crate::Error::Unavailable) where there is no
/// such file.
pub fn read(path: &str, offset: u64, limit: u32) -> Result<Chunk> {
    calls::files_read(path, offset, limit)
}

/// A small file as text, up to [`TEXT_MAX`]; bytes that are no UTF-8 are replaced.
///
/// # Errors
/// As [`read`], and [`Rejected`](crate::Error::Rejected) for a longer file.
pub fn read_text(path: &str) -> Result<String> {
    let chunk = read(path, 0, TEXT_MAX)?;
    if chunk.file.size > u64::from(TEXT_MAX) {
        return Err(Error::rejected(format!(
            "{path} has {} bytes, more than {TEXT_MAX}",
            chunk.file.size
        )));
    }
    Ok(String::from_utf8_lossy(&chunk.bytes).into_owned())
}

/// What the file is; `None` where there is none.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) outside of the grant.
pub fn stat(path: &str) -> Result<Option<Metadata>> {
    calls::files_stat(path)
}

/// Paths that match a glob, sorted.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) outside of the grant.
pub fn listing(glob: &str) -> Result<Vec<String>> {
    calls::files_listing(glob)
}
