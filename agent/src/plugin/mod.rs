//! What is installed and live.

pub mod cache;
pub mod compile;
pub mod folder;
pub mod stock;
pub mod watch;

#[cfg(test)]
mod target_tests;
#[cfg(test)]
mod test_support;

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
