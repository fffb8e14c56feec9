//! The components that come inside the binary, built by `build.rs` from `plugins/`.

use super::archive::Packed;

/// One embedded component.
#[derive(Debug)]
pub struct Stock {
    /// Name of its folder under `plugins/`, which is the name configuration uses.
    pub name: &'static str,
    /// The component. Reading it brings its pages into memory, so nothing does before it has to be compiled.
    packed: Packed,
    /// SHA-256 of the component, computed at build time.
    pub sha256: [u8; 32],
}

impl Stock {
    /// The component as it was built.
    pub fn bytes(&self) -> Vec<u8> {
        // Our own build packed it and knows its size: anything else is a broken binary, which the
        // digest shows.
        self.packed.unpack().unwrap_or_default()
    }

    /// Bytes of the component.
    pub fn size(&self) -> usize {
        self.packed.size
    }
}

include!(concat!(env!("OUT_DIR"), "/stock.rs"));

/// All of them, by name.
pub fn all() -> &'static [Stock] {
    STOCK
}

/// The one of that name.
pub fn find(name: &str) -> Option<&'static Stock> {
    STOCK
        .binary_search_by(|stock| stock.name.cmp(name))
        .ok()
        .map(|at| &STOCK[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn every_stock_component_is_found_and_is_what_its_hash_says() {
        for stock in all() {
            let found = find(stock.name).expect("listed, so found");
            assert_eq!(found.sha256, stock.sha256);
            assert_eq!(
                <[u8; 32]>::from(Sha256::digest(stock.bytes())),
                stock.sha256
            );
            // A component's preamble: magic, version 13, layer 1.
            assert_eq!(&stock.bytes()[..8], b"\0asm\x0d\0\x01\0", "{}", stock.name);
        }
        assert!(find("no-such-plugin").is_none());
    }
}
