//! Takes all memory there is.

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
        let mut kept = Vec::new();
        loop {
            kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
        }
    }
}

watchfire_plugin_sdk::probe!(Guest);
