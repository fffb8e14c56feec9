//! Never ends.

use watchfire_plugin_sdk::prelude::*;

struct Guest;

#[derive(serde::Deserialize)]
struct Config {}

impl Probe for Guest {
    type Config = Config;

    fn new(_: Config) -> Result<Self> {
        Ok(Guest)
    }

    fn collect(&mut self) -> Result<Collection> {
        let mut number = 1_u64;
        loop {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
    }
}

watchfire_plugin_sdk::probe!(Guest);
