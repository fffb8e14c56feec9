//! Panics, with words that the operator should read.

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
        panic!("panic on purpose: the operator reads this");
    }
}

watchfire_plugin_sdk::probe!(Guest);
