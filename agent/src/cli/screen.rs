//! What is printed, and whether it is coloured: only on a terminal, and never against `NO_COLOR`.

use crate::error::Failure;
use serde_json::Value;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;
use tokio::time::Instant;
use watchfire_engine::model::format_duration;

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    color: bool,
}

/// How a word looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Paint {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Low,
    Warning,
    High,
    Critical,
}

impl Paint {
    /// Of a severity, a state such as `firing:warning`, or a word for health.
    pub(super) fn of(word: &str) -> Self {
        match word
            .rsplit(':')
            .next()
            .unwrap_or(word)
            .trim_end_matches("+stale")
        {
            "critical" | "unhealthy" | "error" => Paint::Critical,
            "high" => Paint::High,
            "warning" | "degraded" | "rejected" | "quarantined" => Paint::Warning,
            "low" => Paint::Low,
            "healthy" | "ok" | "running" => Paint::Good,
            "unknown" | "pending" | "waiting" => Paint::Dim,
            _ => Paint::Plain,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Paint::Plain => "",
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Good => "32",
            Paint::Low => "36",
            Paint::Warning => "33",
            Paint::High => "31",
            Paint::Critical => "1;31",
        }
    }
}

impl Screen {
    /// Coloured where stdout is a terminal.
    pub(super) fn of_stdout(json: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            color: !json && !refused && std::io::stdout().is_terminal(),
        }
    }

    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Screen { color: false }
    }

    #[cfg(test)]
    pub(super) fn colored() -> Self {
        Screen { color: true }
    }

    pub(super) fn color(self) -> bool {
        self.color
    }

    /// The word as it is to be printed.
    pub(super) fn paint(self, paint: Paint, word: &str) -> String {
        if self.color && paint != Paint::Plain {
            format!("\x1b[{}m{word}\x1b[0m", paint.code())
        } else {
            word.to_owned()
        }
    }

    /// Prints text that was made printable before.
    pub(super) fn print(self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        quietly(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// Prints a document for people and programs alike.
    pub(super) fn print_json(self, value: &Value) -> Result<(), Failure> {
        self.print(&format!("{value:#}\n"))
    }
}

/// How far something is: shown on stderr where that is a terminal, once it takes longer than two seconds.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    told: Option<Duration>,
    shown: bool,
}

/// What is quicker needs no progress.
const PATIENCE: Duration = Duration::from_secs(2);

/// Least time between two figures: nobody reads faster.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

impl Progress {
    /// It begins now.
    pub(super) fn new() -> Self {
        Progress {
            started: Instant::now(),
            told: None,
            shown: std::io::stderr().is_terminal(),
        }
    }

    /// `share` of 1 is done.
    pub(super) fn tell(&mut self, share: f64) {
        let took = self.started.elapsed();
        let due = self.told.map_or(PATIENCE, |told| told + PROGRESS_EVERY);
        if self.shown && took > due {
            self.told = Some(took);
            eprint!("\r{:3.0} %", share * 100.0);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            eprint!("\r     \r");
        }
    }
}

/// A reader that has seen enough (`| head`) is no failure.
pub(super) fn quietly(written: std::io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// How long ago an RFC 3339 time was, to the second: `2m5s ago`; `-` for none.
pub(super) fn ago(time: &Value) -> String {
    let Some(time) = time
        .as_str()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok())
    else {
        return "-".to_owned();
    };
    let millis = jiff::Timestamp::now().as_millisecond() - time.as_millisecond();
    let seconds = u64::try_from(millis).unwrap_or(0) / 1_000;
    format!(
        "{} ago",
        format_duration(std::time::Duration::from_secs(seconds))
    )
}

/// `1 rule`, `2 rules`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A number with at most four digits after the point; `-` for none.
pub(super) fn number(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(value) => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// Bytes in the unit that fits.
#[expect(
    clippy::cast_precision_loss,
    reason = "printed with one digit after the point"
)]
pub(super) fn bytes(value: u64) -> String {
    let (unit, size) = match value {
        0..0x400 => return format!("{value} B"),
        0x400..0x10_0000 => ("KiB", 0x400),
        0x10_0000..0x4000_0000 => ("MiB", 0x10_0000),
        _ => ("GiB", 0x4000_0000_u64),
    };
    format!("{:.1} {unit}", value as f64 / size as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (json!(0.5), "0.5"),
            (json!(85), "85"),
            (json!(100.0), "100"),
            (json!(0.123_456), "0.1235"),
            (json!(null), "-"),
        ] {
            assert_eq!(number(&value), text);
        }
        assert_eq!(
            [bytes(5), bytes(2048), bytes(5 << 20), bytes(3 << 30)],
            ["5 B", "2.0 KiB", "5.0 MiB", "3.0 GiB"]
        );
        assert_eq!(ago(&json!("2999-01-01T00:00:00Z")), "0s ago");
        assert_eq!(ago(&Value::Null), "-");
    }

    #[test]
    fn a_state_is_painted_like_its_severity() {
        assert_eq!(Paint::of("firing:warning+stale"), Paint::Warning);
        assert_eq!(Paint::of("critical"), Paint::Critical);
        assert_eq!(Screen::plain().paint(Paint::Critical, "x"), "x");
        assert_eq!(
            Screen::colored().paint(Paint::Critical, "x"),
            "\x1b[1;31mx\x1b[0m"
        );
    }
}
