//! Asks an address before all it does, and panics while that answers `trap`. As a rule it can ask nobody: it panics at a
//! number below zero.

use watchfire_plugin_sdk::host::http::Request;
use watchfire_plugin_sdk::prelude::*;

#[derive(serde::Deserialize)]
struct Config {
    /// Where its mood is; a notifier sends there, too.
    url: String,
}

impl Config {
    fn mood(&self) -> Result<()> {
        let mood = Request::get(&self.url).send()?.check()?;
        assert!(mood.text() != "trap", "in a bad mood, on purpose");
        Ok(())
    }
}

struct Watcher(Config);

impl Probe for Watcher {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Watcher(config))
    }

    fn collect(&mut self) -> Result<Collection> {
        self.0.mood()?;
        Ok(Collection::from(
            Family::gauge("moody_is_well", "That it answered").value(1.0),
        ))
    }
}

struct Teller(Config);

impl Notifier for Teller {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Teller(config))
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        self.0.mood()?;
        let told = Request::post(&self.0.url).body(format!("{:?}", notification.reason));
        told.send()?.check()?;
        Ok(Receipt::default())
    }
}

struct Doer(Config);

impl Action for Doer {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Doer(config))
    }

    fn act(&self, _: &Alert, _: u32, _: bool) -> Result<Outcome> {
        self.0.mood()?;
        Ok(Outcome::unchanged("looked at its mood"))
    }
}

struct Judge;

impl Rule for Judge {
    type Config = Limit;

    fn new(_: Limit, _: &[String]) -> Result<Self> {
        Ok(Judge)
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let value = instance.at(0);
        assert!(value >= 0.0, "in a bad mood, on purpose");
        Verdict::breach_if(value > 100.0, Severity::Critical).value(value)
    }
}

/// Nothing to say.
#[derive(serde::Deserialize)]
struct Limit {}

probe!(Watcher);
rule!(Judge);
notifier!(Teller);
action!(Doer);
