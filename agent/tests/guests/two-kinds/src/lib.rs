//! One component, two kinds: it echoes what it was told.

use watchfire_plugin_sdk::prelude::*;

struct Echo;

#[derive(serde::Deserialize)]
struct Config {}

impl Notifier for Echo {
    type Config = Config;

    fn new(_: Config) -> Result<Self> {
        Ok(Echo)
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        host::state::set("sent", notification.id.as_bytes())?;
        Ok(Receipt::from(Some(format!(
            "{} {} {:?}",
            notification.title,
            notification.alerts.len(),
            notification.alerts[0].severity
        ))))
    }
}

struct Fix;

impl Action for Fix {
    type Config = Config;

    fn new(_: Config) -> Result<Self> {
        Ok(Fix)
    }

    fn act(&self, alert: &Alert, attempt: u32, _: bool) -> Result<Outcome> {
        // Asked in a dry run, too: the host is what must refuse.
        host::commands::run("fix", &[&alert.rule, &attempt.to_string()], b"")?;
        Ok(Outcome::changed("ran it"))
    }
}

notifier!(Echo);
action!(Fix);
