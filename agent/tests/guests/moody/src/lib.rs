//! Asks an address before all it does, and panics while that answers `trap`.

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

probe!(Watcher);
notifier!(Teller);
