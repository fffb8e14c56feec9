//! `watchfire events`.

use super::Global;
use super::client::Client;
use super::screen::{Paint, Screen, number};
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// How often `--follow` asks: a person does not see the difference to less, and the agent does not feel it.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Options of `events`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: super::ConfigArg,
    /// Begin after this sequence number [default: the newest events]
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// Go on with every event as it comes
    #[arg(long, short)]
    follow: bool,
    /// Only these types, with commas between: transition, notification, action, reload, operator, plugin, system
    #[arg(long, value_name = "TYPES")]
    r#type: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

pub(super) fn events(args: &Args, global: &Global) -> Result<(), Failure> {
    let client = Client::find(global)?;
    let screen = Screen::of_stdout(global.json);
    let json = global.json;
    Client::block_on(async {
        let mut since = args.since;
        loop {
            let page = client.get(&path(args, since)?).await?;
            let mut text = String::new();
            for event in page["events"].as_array().into_iter().flatten() {
                if json {
                    // One object a line, so that a reader of --follow has each at once.
                    let _ = writeln!(text, "{event}");
                } else {
                    line(event, screen, &mut text);
                }
            }
            screen.print(&text)?;
            if !args.follow {
                return Ok(());
            }
            since = page["next_since"].as_u64().or(since);
            if page["more"] != true {
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        }
    })
}

fn path(args: &Args, since: Option<u64>) -> Result<String, Failure> {
    let mut path = format!("/events?limit={}", args.limit);
    if let Some(since) = since {
        let _ = write!(path, "&since={since}");
    }
    if let Some(types) = &args.r#type {
        if !types.bytes().all(|b| b.is_ascii_lowercase() || b == b',') {
            return Err(Failure {
                code: crate::error::USAGE,
                text: "--type takes names of types with commas between, such as transition,action"
                    .to_owned(),
            });
        }
        let _ = write!(path, "&type={types}");
    }
    Ok(path)
}

/// Fields that stand in front of the others, or that only programs need.
const PLACED: [&str; 9] = [
    "seq",
    "wall_ms",
    "at_ms",
    "type",
    "what",
    "alert",
    "fingerprint",
    "episode",
    "correlation",
];

/// `SEQ TIME TYPE WHAT ALERT key=value …`
fn line(event: &Value, screen: Screen, to: &mut String) {
    let time = event["wall_ms"]
        .as_i64()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"));
    let text = |key: &str| printable(event[key].as_str().unwrap_or(""));
    let _ = write!(
        to,
        "{:>7} {} {:<12} {:<10} {}",
        event["seq"].to_string(),
        screen.paint(Paint::Dim, &time),
        text("type"),
        text("what"),
        screen.paint(Paint::Bold, &text("alert")),
    );
    for (key, value) in event.as_object().into_iter().flatten() {
        if PLACED.contains(&key.as_str()) || value.is_null() {
            continue;
        }
        let shown = match value {
            Value::String(text) if text.is_empty() || text.contains(' ') => {
                format!("\"{}\"", printable(text))
            }
            Value::String(text) => screen.paint(Paint::of(text), &printable(text)),
            Value::Number(_) => number(value),
            other => printable(&other.to_string()),
        };
        let _ = write!(to, " {}={shown}", printable(key));
    }
    to.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let mut out = String::new();
        let event = json!({
            "seq": 7, "wall_ms": 1_700_000_000_000_i64, "at_ms": 5, "type": "transition", "what": "transition",
            "alert": "cpu", "fingerprint": "ab", "episode": 1, "from": "ok", "to": "firing:warning",
            "value": 0.71, "cause": "threshold", "suppressed_by": null, "message": "a\nb c",
        });
        line(&event, Screen::plain(), &mut out);
        assert_eq!(
            out,
            "      7 2023-11-14T22:13:20.000Z transition   transition cpu cause=threshold from=ok message=\"a\\nb c\" to=firing:warning value=0.71\n"
        );
    }

    #[test]
    fn the_query_holds_only_what_was_meant() {
        let args = |types: Option<&str>| Args {
            since: None,
            follow: false,
            config: crate::cli::ConfigArg::default(),
            r#type: types.map(str::to_owned),
            limit: 5,
        };
        assert_eq!(
            path(&args(Some("a,b")), Some(3)).unwrap(),
            "/events?limit=5&since=3&type=a,b"
        );
        assert_eq!(path(&args(None), None).unwrap(), "/events?limit=5");
        assert!(path(&args(Some("a&limit=9")), None).is_err());
    }
}
