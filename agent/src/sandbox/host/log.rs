//! `log`: always granted. A flood is cut, counted and told in one line; the guest is never held up.

use super::HostState;
use crate::sandbox::bindings::wit;
use crate::sandbox::convert::cut;
use crate::sandbox::types::Kind;
use tokio::time::Instant;

pub use wit::log::Level;

/// Bytes of one message; the rest is cut off.
pub const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Fields of one message; further ones are dropped.
const FIELDS_MAX: usize = 16;
/// Bytes of the value of a field.
const FIELD_BYTES_MAX: usize = 1 << 10;
/// Lines a second in the long run: what a person could still read.
const LINES_PER_SECOND: f64 = 20.0;
/// Lines at once: a start-up or a stack of failures.
const LINES_BURST: f64 = 100.0;
/// Events a second in the long run; each is a row in the store.
const EVENTS_PER_SECOND: f64 = 10.0;
/// Events at once: a log probe that catches up.
const EVENTS_BURST: f64 = 500.0;

/// One line of a plugin. Its text is a stranger's: escape it before it reaches a terminal.
#[derive(Debug)]
pub struct LogLine<'a> {
    /// Name of the component.
    pub plugin: &'a str,
    /// Which use of it.
    pub id: &'a str,
    /// Its kind.
    pub kind: Kind,
    /// How loud.
    pub level: Level,
    /// What it says.
    pub message: &'a str,
    /// Key and value.
    pub fields: &'a [(String, String)],
}

/// Takes log lines. Must not block.
pub trait LogSink: Send + Sync + 'static {
    /// Takes one line, already bounded.
    fn line(&self, line: LogLine<'_>);
}

/// Hands lines to `tracing` with `plugin`, `id` and `kind` as fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLog;

/// A token bucket that counts what it refuses.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    per_second: f64,
    burst: f64,
    filled_at: Instant,
    /// Refused since the last one that passed.
    suppressed: u64,
}

impl LogSink for TracingLog {
    fn line(&self, line: LogLine<'_>) {
        let LogLine {
            plugin,
            id,
            message,
            ..
        } = line;
        let kind = line.kind.name();
        let fields = fields(line.fields);
        match line.level {
            Level::Trace => tracing::trace!(plugin, id, kind, fields, "{message}"),
            Level::Debug => tracing::debug!(plugin, id, kind, fields, "{message}"),
            Level::Info => tracing::info!(plugin, id, kind, fields, "{message}"),
            Level::Warn => tracing::warn!(plugin, id, kind, fields, "{message}"),
            Level::Error => tracing::error!(plugin, id, kind, fields, "{message}"),
        }
    }
}

fn fields(pairs: &[(String, String)]) -> String {
    let all: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
    all.join(" ")
}

impl Bucket {
    pub(crate) fn of_logs() -> Self {
        Bucket::new(LINES_PER_SECOND, LINES_BURST)
    }

    pub(crate) fn of_events() -> Self {
        Bucket::new(EVENTS_PER_SECOND, EVENTS_BURST)
    }

    fn new(per_second: f64, burst: f64) -> Self {
        Bucket {
            tokens: burst,
            per_second,
            burst,
            filled_at: Instant::now(),
            suppressed: 0,
        }
    }

    /// Whether one more may pass, and if so how many were refused before it.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let now = Instant::now();
        let passed = now.duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        if self.tokens < 1.0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl HostState {
    /// Logs a line of the guest, if its bucket lets it through.
    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let suppressed = {
            let mut bucket = self.using.log_bucket.lock();
            bucket
                .as_mut()
                .unwrap_or_else(|poisoned| poisoned.get_mut())
                .take()
        };
        let Some(suppressed) = suppressed else { return };
        let line = |level: Level, message: &str, fields: &[(String, String)]| {
            self.host.log.line(LogLine {
                plugin: &self.using.plugin,
                id: &self.using.settings.id,
                kind: self.using.kind,
                level,
                message,
                fields,
            });
        };
        if suppressed > 0 {
            let text = format!("{suppressed} log lines of the plugin were dropped");
            line(Level::Warn, &text, &[]);
        }
        let mask = self.host.secrets.mask();
        let fields: Vec<(String, String)> = fields
            .iter()
            .map(|(key, value)| (key.clone(), mask.apply(value).into_owned()))
            .collect();
        line(level, &mask.apply(message), &fields);
    }
}

impl wit::log::Host for HostState {
    async fn emit(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let charged = self.charge()?;
        self.log(level, cut(&message, MESSAGE_BYTES_MAX), &bounded(fields));
        self.settle(charged);
        Ok(())
    }
}

/// The first fields, their values cut.
pub(super) fn bounded(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.truncate(FIELDS_MAX);
    for (key, value) in &mut fields {
        for text in [key, value] {
            text.truncate(cut(text, FIELD_BYTES_MAX).len());
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_flood_passes_at_its_rate_and_is_counted() {
        let mut bucket = Bucket::of_logs();
        let passed = (0..1000).filter(|_| bucket.take().is_some()).count();
        assert_eq!(passed, 100);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(bucket.take(), Some(900));
        assert_eq!((0..100).filter(|_| bucket.take().is_some()).count(), 19);
    }

    #[test]
    fn fields_are_bounded() {
        let many = vec![("k".to_owned(), "ü".repeat(2000)); 40];
        let bounded = bounded(many);
        assert_eq!(bounded.len(), FIELDS_MAX);
        assert_eq!(bounded[0].1.len(), FIELD_BYTES_MAX);
    }
}
