//! Sends each notification as a mail, through the server of `[mail]`. All mails of one episode of an alert are one thread.

mod message;

use watchfire_plugin_sdk::host::mail;
use watchfire_plugin_sdk::prelude::*;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses, at least one.
    to: Vec<String>,
    /// Where answers go; default: the sender.
    reply_to: Option<String>,
    /// Whether the mail has an HTML part beside the plain one; default yes.
    #[serde(default = "yes")]
    html: bool,
}

/// The notifier.
pub struct Email {
    config: Config,
}

/// Recipients that the host takes.
const TO_MAX: usize = 50;

impl Notifier for Email {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.to.is_empty() || config.to.len() > TO_MAX {
            return Err(Error::config(format!(
                "config.to: {} addresses: write 1 to {TO_MAX}, like to = [\"oncall@example.org\"]",
                config.to.len()
            )));
        }
        for (at, address) in config.to.iter().enumerate() {
            check_address(&format!("config.to[{at}]"), address)?;
        }
        if let Some(address) = &config.reply_to {
            check_address("config.reply_to", address)?;
        }
        Ok(Email { config })
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        let message_id = message::id(notification);
        let thread = Thread::of(notification);
        let first = thread.first()?;
        mail::send(&mail::Message {
            to: self.config.to.clone(),
            reply_to: self.config.reply_to.clone(),
            subject: message::subject(notification),
            text: message::text(notification),
            html: self.config.html.then(|| message::html(notification)),
            message_id: message_id.clone(),
            // A retry of the first mail does not answer itself.
            in_reply_to: first.clone().filter(|first| *first != message_id),
        })?;
        // The mail is out: an error here would send it again.
        if let Err(error) = thread.sent(first.is_some(), notification.is_resolved(), &message_id) {
            log::warn(format!(
                "the next mail will start a thread of its own: {error}"
            ));
        }
        Ok(Receipt::from(Some(message_id)))
    }

    fn wants() -> Vec<String> {
        vec!["mail".into()]
    }
}

/// The id of the mail that opened an alert's thread, kept from its first mail to the one that says it is over.
struct Thread {
    key: String,
}

impl Thread {
    fn of(notification: &Notification) -> Self {
        // Keys of the store are short; the alert's own may not be.
        Thread {
            key: format!("thread:{:016x}", message::checksum(&notification.dedup_key)),
        }
    }

    fn first(&self) -> Result<Option<String>> {
        state::load(&self.key)
    }

    fn sent(&self, is_open: bool, is_over: bool, message_id: &str) -> Result<()> {
        match (is_open, is_over) {
            (_, true) => state::delete(&self.key),
            (false, false) => state::store(&self.key, message_id),
            (true, false) => Ok(()),
        }
    }
}

fn yes() -> bool {
    true
}

fn check_address(key: &str, address: &str) -> Result<()> {
    // The host reads it in full; this finds what is plainly something else while the configuration is checked.
    let bare = match address.rsplit_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
        None => address,
    };
    let (local, domain) = bare.rsplit_once('@').unwrap_or_default();
    let wrong = |part: &str| part.is_empty() || part.contains(char::is_whitespace);
    if wrong(local) || wrong(domain) || address.contains(char::is_control) || address.contains(',')
    {
        return Err(Error::config(format!(
            "{key}: {address:?} is no address: write one, like oncall@example.org or \"On call <oncall@example.org>\""
        )));
    }
    Ok(())
}

watchfire_plugin_sdk::notifier!(Email);

#[cfg(test)]
mod tests;
