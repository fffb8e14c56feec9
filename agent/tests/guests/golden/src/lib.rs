//! Calls every function of the host that its kind may import, and tells of each whether it was answered.
//!
//! Components of it, built when contract 0.1 was new, are kept under `agent/tests/golden`: whatever changes in `wit/`
//! must go on loading and serving them. So this is not built again for them, not even when it changes.

use std::time::Duration;
use watchfire_plugin_sdk::host::tcp::{Connection, Tls};
use watchfire_plugin_sdk::host::{commands, control, dns, events, files, mail, secrets, system};
use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::rule::Moment;

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default)]
    refuse: bool,
}

impl Config {
    fn take(self) -> Result<()> {
        if self.refuse {
            Err(Error::config("config.refuse: write false"))
        } else {
            Ok(())
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

type Tried = Vec<(&'static str, Result<()>)>;

fn log_and_state() -> Tried {
    log::emit(log::Level::Info, "golden", &[("key", "value")]);
    vec![
        ("state.set", state::set("key", b"value")),
        ("state.get", state::get("key").map(drop)),
        ("state.delete", state::delete("key")),
    ]
}

fn network() -> Tried {
    let tls = Tls {
        server_name: Some("localhost".into()),
        verify: false,
    };
    let talk = |mut connection: Connection| {
        connection.send(b"a")?;
        connection.send_filled(b"b")?;
        connection.receive(1, SECOND)?;
        connection.start_tls(&tls)?;
        let _ = (connection.elapsed(), connection.certificate_seconds_left());
        Ok(())
    };
    vec![
        (
            "http.send",
            http::Request::get("http://127.0.0.1:9/").send().map(drop),
        ),
        (
            "tcp.connect",
            Connection::connect("127.0.0.1", 9, Some(&tls), SECOND).and_then(talk),
        ),
        (
            "tcp.connect-unix",
            Connection::connect_unix("/nowhere", SECOND).and_then(talk),
        ),
        ("secrets.reveal", secrets::reveal("name").map(drop)),
        (
            "commands.run",
            commands::run("name", &["argument"], b"input").map(drop),
        ),
    ]
}

fn machine() -> Tried {
    let _ = system::hostname();
    events::emit("golden", Some(Timestamp(1)), "told", &[("key", "value")]);
    vec![
        ("system.read", system::read(&["load"]).map(drop)),
        ("system.processes", system::processes("init").map(drop)),
        ("system.services", system::services("*").map(drop)),
    ]
}

/// The names of the calls and how each ended.
fn told(tried: &Tried) -> String {
    let words: Vec<String> = tried
        .iter()
        .map(|(name, result)| {
            let word = match result {
                Ok(()) => "ok",
                Err(Error::Config(_)) => "config",
                Err(Error::Denied(_)) => "denied",
                Err(Error::Unavailable { .. }) => "unavailable",
                Err(Error::Rejected(_)) => "rejected",
                Err(Error::Internal(_)) => "internal",
            };
            format!("{name}={word}")
        })
        .collect();
    words.join(" ")
}

struct Everything;

#[cfg(feature = "probe")]
impl Probe for Everything {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.take().map(|()| Everything)
    }

    fn collect(&mut self) -> Result<Collection> {
        let mut tried = log_and_state();
        tried.extend(network());
        tried.extend(machine());
        tried.extend([
            ("files.read", files::read("/etc/hostname", 0, 1).map(drop)),
            ("files.stat", files::stat("/etc/hostname").map(drop)),
            ("files.listing", files::listing("/etc/*").map(drop)),
            (
                "dns.query",
                dns::query("localhost", "A", None, SECOND).map(drop),
            ),
        ]);
        let mut collection = Collection::from([
            Family::gauge("golden_calls", "Calls by their end")
                .point([("calls", told(&tried))], tried.len() as f64),
            Family::counter("golden_total", "A counter").value(1.0),
            Family::histogram("golden_seconds", "A histogram").distribution(
                [("of", "all")],
                &[(0.1, 1), (f64::INFINITY, 2)],
                0.5,
            ),
            Family::summary("golden_summary", "A summary").point([("quantile", "0.5")], 1.0),
            Family::untyped("golden_untyped", "Whatever").value(2.0),
        ]);
        collection.fail(Error::unavailable("a part").retry_after(SECOND));
        Ok(collection)
    }

    fn wants() -> Vec<String> {
        vec!["system".into()]
    }

    fn config_schema() -> Option<String> {
        Some("{}".into())
    }
}

#[cfg(feature = "rule")]
impl Rule for Everything {
    type Config = Config;

    fn new(config: Config, _: &[String]) -> Result<Self> {
        config.take().map(|()| Everything)
    }

    fn needs(&self) -> Needs {
        Needs {
            labels: true,
            points_of: vec!["value".into()],
            back: SECOND,
            ..Needs::memory()
        }
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        log::info("golden");
        let value = instance.at(0);
        if value.is_nan() {
            return Verdict::unknown();
        }
        let count = instance.recall().unwrap_or(0_u32) + 1;
        let points: &[Moment] = instance.points("value");
        Verdict::breach_if(value > 1.0, Severity::High)
            .value(value)
            .limit(1.0)
            .note(format!(
                "{} {} {}",
                points.len(),
                instance.label("host").unwrap_or("none"),
                instance.active().iter().count()
            ))
            .remember(&count)
    }
}

#[cfg(feature = "notifier")]
impl Notifier for Everything {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.take().map(|()| Everything)
    }

    fn notify(&self, notification: &Notification) -> Result<Receipt> {
        let mut tried = log_and_state();
        tried.extend(network());
        let message = mail::Message {
            to: vec!["a@example.org".into()],
            subject: notification.title.clone(),
            text: notification.text.clone(),
            ..mail::Message::default()
        };
        tried.push(("mail.send", mail::send(&message)));
        Ok(Receipt {
            remote_id: Some(told(&tried)),
            extra: vec![("reason".into(), format!("{:?}", notification.reason))],
        })
    }
}

#[cfg(feature = "action")]
impl Action for Everything {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.take().map(|()| Everything)
    }

    fn act(&self, alert: &Alert, attempt: u32, dry_run: bool) -> Result<Outcome> {
        let mut tried = log_and_state();
        tried.extend(network());
        tried.extend(machine());
        tried.extend([
            (
                "control.service",
                control::service("nothing.service", control::Verb::Reload),
            ),
            (
                "control.signal-process",
                control::signal_process(1, 2, "HUP"),
            ),
            (
                "control.delete-older",
                control::delete_older("/nowhere/*", SECOND).map(drop),
            ),
        ]);
        Ok(Outcome {
            did: format!("{} {attempt} {dry_run} {}", alert.rule, told(&tried)),
            changed: false,
        })
    }
}

#[cfg(feature = "probe")]
watchfire_plugin_sdk::probe!(Everything);
#[cfg(feature = "rule")]
watchfire_plugin_sdk::rule!(Everything);
#[cfg(feature = "notifier")]
watchfire_plugin_sdk::notifier!(Everything);
#[cfg(feature = "action")]
watchfire_plugin_sdk::action!(Everything);
