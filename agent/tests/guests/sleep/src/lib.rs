//! Waits in a host call for an hour.

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
        std::thread::sleep(std::time::Duration::from_secs(3_600));
        Ok(Collection::new())
    }
}

watchfire_plugin_sdk::probe!(Guest);
