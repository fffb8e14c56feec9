//! Writes each notification as one line of the agent's log.

use watchfire_plugin_sdk::host::log::{self, Level};
use watchfire_plugin_sdk::prelude::*;

/// The plugin's table.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether the text is written beside the title; default no.
    #[serde(default)]
    text: bool,
}

/// The notifier.
pub struct Log {
    config: Config,
}

impl Notifier for Log {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Log { config })
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        let line = self.line(notification);
        let reason = notification.reason.as_str();
        let rules = rules(&notification.alerts);
        log::emit(
            level(notification),
            &line,
            &[
                ("reason", reason),
                ("rules", &rules),
                ("notification", &notification.id),
            ],
        );
        Ok(Receipt::sent())
    }
}

impl Log {
    fn line(&self, notification: &Notification) -> String {
        if self.config.text && !notification.text.is_empty() {
            format!(
                "{} | {}",
                notification.title,
                notification.text.replace('\n', " | ")
            )
        } else {
            notification.title.clone()
        }
    }
}

/// A page that is over is good news, whatever its severity was.
fn level(notification: &Notification) -> Level {
    if notification.is_resolved() {
        return Level::Info;
    }
    match notification.severity() {
        Some(Severity::Critical | Severity::High) => Level::Error,
        Some(Severity::Warning) => Level::Warn,
        Some(Severity::Low) | None => Level::Info,
    }
}

/// Each rule once, in order.
fn rules(alerts: &[Alert]) -> String {
    let mut names: Vec<&str> = alerts.iter().map(|alert| alert.rule.as_str()).collect();
    names.dedup();
    names.join(",")
}

watchfire_plugin_sdk::notifier!(Log);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Input {
        config: serde_json::Value,
        reason: String,
        severity: Severity,
        title: String,
        text: String,
    }

    fn logged(input: &Input) -> serde_json::Value {
        let host = mock::Host::new();
        let reason = Reason::from(input.reason.as_str());
        let mut alert = mock::alert("cpu-high", input.severity);
        if input.reason == "resolve" {
            alert.ended_at = Some(alert.started_at);
        }
        let mut notification = mock::notification(reason, vec![alert.clone(), alert]);
        notification.title = input.title.clone();
        notification.text = input.text.clone();
        let log = Log::configure(&input.config.to_string()).unwrap();
        log.notify(&notification).unwrap();
        let logs = host.logs();
        assert_eq!(logs.len(), 1);
        serde_json::json!({
            "level": format!("{:?}", logs[0].level).to_lowercase(),
            "message": logs[0].message,
            "rules": logs[0].fields.iter().find(|(key, _)| key == "rules").map(|(_, value)| value),
        })
    }

    #[test]
    fn testdata_is_written_as_expected() {
        for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
            assert_eq!(
                logged(&case.json("input.json")),
                case.json::<serde_json::Value>("expected.json"),
                "{}",
                case.name
            );
        }
    }
}
