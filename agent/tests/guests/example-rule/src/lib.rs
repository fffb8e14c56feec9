//! A rule, for places where a probe is expected.

use watchfire_plugin_sdk::prelude::*;

struct Never;

#[derive(serde::Deserialize)]
struct Config {}

impl Rule for Never {
    type Config = Config;

    fn new(_: Config, _: &[String]) -> Result<Self> {
        Ok(Never)
    }

    fn judge(&self, _: &Instance<'_>) -> Verdict {
        Verdict::healthy()
    }
}

watchfire_plugin_sdk::rule!(Never);
