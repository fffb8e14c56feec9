//! A probe that runs as it is dropped in: no configuration, no grants, two families, some state.

use watchfire_plugin_sdk::prelude::*;

struct Example;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl Probe for Example {
    type Config = Config;

    fn new(_: Config) -> Result<Self> {
        Ok(Example)
    }

    fn collect(&mut self) -> Result<Collection> {
        let rounds: u64 = host::state::load("rounds")?.unwrap_or_default();
        host::state::store("rounds", &(rounds + 1))?;
        let mut answers = Family::gauge("example_answer", "One point a letter");
        for letter in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
            answers.push([("letter", letter)], 42.0);
        }
        let rounds = Family::counter("example_rounds_total", "Rounds so far").value(rounds as f64);
        Ok(Collection::from([answers, rounds]))
    }
}

watchfire_plugin_sdk::probe!(Example);
