//! The log: one event, one line, as text for people or as JSON with ECS names.
//!
//! Fields of the spans around an event stand on its line. Whatever a plugin or a service said is
//! escaped: a line break or a terminal sequence in it stays text.

use super::log_writer::{self, Queue, Sink};
use crate::config::{LogConfig, LogFormat};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

/// Bytes of one value on a line; longer ones are cut, so that no plugin can fill the disk with one event.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// The version of the Elastic Common Schema whose names are used.
const ECS_VERSION: &str = "8.11.0";

/// Severities as `event.severity` numbers them, from 1.
const SEVERITIES: [&str; 4] = ["low", "warning", "high", "critical"];

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file of `[log] file` cannot be opened.
    #[error("open the log file {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that writes it cannot be started.
    #[error("start the log")]
    Start(#[source] std::io::Error),
    /// There is a log already.
    #[error("set up the log twice in one process")]
    Twice,
}

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// From now on, only events at `level` or above.
    pub fn set_level(&self, level: Level) {
        // An error means that the subscriber is gone: nobody logs any more.
        let _ = self.0.reload(targets(level));
    }
}

/// Sets the log of this process up; `host` stands on each JSON line.
pub fn init(config: &LogConfig, host: &str) -> Result<LogHandle, LogError> {
    let sink = match &config.file {
        None => Sink::stderr().map_err(LogError::Start)?,
        Some(path) => Sink::file(path).map_err(|source| LogError::Open {
            path: path.clone(),
            source,
        })?,
    };
    let queue = log_writer::start(sink).map_err(LogError::Start)?;
    let (filter, handle) = reload::Layer::new(targets(config.level));
    let lines = Lines {
        format: config.format,
        host: host.into(),
        out: Out::Queue(queue),
    };
    tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines))
        .map_err(|_| LogError::Twice)?;
    Ok(LogHandle(handle))
}

/// Our own events at `level`; those of libraries only as warnings, for their debug output holds
/// what must not be logged (headers, bodies).
fn targets(level: Level) -> Targets {
    Targets::new()
        .with_target("watchfire", level)
        .with_default(level.min(Level::WARN))
}

/// The layer that turns events into lines.
struct Lines {
    format: LogFormat,
    host: Box<str>,
    out: Out,
}

/// Where lines go.
enum Out {
    Queue(Arc<Queue>),
    #[cfg(test)]
    Memory(Arc<std::sync::Mutex<String>>),
}

/// Fields of one event or span, in their order.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        // `r#type` is how Rust writes the field `type`.
        let name = field.name().trim_start_matches("r#");
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, cut(value).into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field, cut(&crate::error::chain(value)).into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.set(field, cut(&format!("{value:?}")).into());
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    if !fields.0.iter().any(|(n, _)| n == name) {
                        fields.0.push((name, value.clone()));
                    }
                }
            }
        }
        event.record(&mut fields);
        let now = jiff::Timestamp::now();
        let line = match self.format {
            LogFormat::Text => text_line(now, event, &fields),
            LogFormat::Json => json_line(now, event, fields, &self.host),
        };
        match &self.out {
            Out::Queue(queue) => queue.push(line),
            #[cfg(test)]
            Out::Memory(text) => text.lock().unwrap().push_str(&line),
        }
    }
}

/// `2026-01-02T03:04:05.678Z WARN  message key=value`
fn text_line(now: jiff::Timestamp, event: &Event<'_>, fields: &Fields) -> String {
    let mut line = format!("{now:.3} {:<5} ", event.metadata().level());
    if let Some((_, message)) = fields.0.iter().find(|(name, _)| *name == "message") {
        escape(&plain(message), &mut line);
    }
    for (name, value) in &fields.0 {
        if *name == "message" {
            continue;
        }
        let value = plain(value);
        let _ = write!(line, " {name}=");
        if value.is_empty() || value.contains([' ', '"', '=']) {
            line.push('"');
            escape(&value.replace('"', "\\\""), &mut line);
            line.push('"');
        } else {
            escape(&value, &mut line);
        }
    }
    line.push('\n');
    line
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn escape(text: &str, to: &mut String) {
    to.push_str(&crate::telemetry::printable(text));
}

/// One object with ECS names; fields of our own are labels.
fn json_line(now: jiff::Timestamp, event: &Event<'_>, fields: Fields, host: &str) -> String {
    let metadata = event.metadata();
    let level = metadata.level();
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
    put("@timestamp", format!("{now:.3}").into());
    put("log.level", level.as_str().to_lowercase().into());
    put("ecs.version", ECS_VERSION.into());
    put("event.kind", "event".into());
    put("event.category", json!([category(metadata.target())]));
    let kind = if *level == Level::ERROR {
        "error"
    } else {
        "info"
    };
    put("event.type", json!([kind]));
    put("service.name", "watchfire".into());
    put("host.name", host.into());
    put("log.logger", metadata.target().into());
    for (name, value) in fields.0 {
        match name {
            "message" => put("message", value),
            "category" => put("event.category", json!([value])),
            "rule" => put("rule.name", value),
            "severity" => {
                // ECS wants a number there; the word stays beside it.
                if let Some(at) = SEVERITIES.iter().position(|word| value == *word) {
                    put("event.severity", (at + 1).into());
                }
                put("labels.severity", value)
            }
            "error" => put("error.message", value),
            _ => put(&format!("labels.{name}"), value),
        };
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    text
}

/// The part of the agent that speaks, by its module.
fn category(target: &str) -> &'static str {
    let has = |part: &str| target.split("::").any(|p| p == part);
    if has("deliver") {
        "delivery"
    } else if has("recover") {
        "recovery"
    } else if has("plugin") || has("sandbox") {
        "plugin"
    } else if has("guard") {
        "security"
    } else {
        "pipeline"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(format: LogFormat, level: Level, say: impl FnOnce()) -> String {
        let text = Arc::new(std::sync::Mutex::new(String::new()));
        let lines = Lines {
            format,
            host: "web-1".into(),
            out: Out::Memory(text.clone()),
        };
        let subscriber = Registry::default().with(targets(level)).with(lines);
        tracing::subscriber::with_default(subscriber, say);
        let text = text.lock().unwrap();
        text.clone()
    }

    #[test]
    fn text_is_one_line_whatever_a_plugin_says() {
        let text = logged(LogFormat::Text, Level::INFO, || {
            let _span = tracing::info_span!("run", probe = "host").entered();
            tracing::warn!(reason = "a\n\u{1b}[2J \"b\"", tries = 2, "it\nfailed");
            tracing::debug!("not shown");
            tracing::info!(target: "hyper", "not shown");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let (_, rest) = text.split_once(' ').unwrap();
        assert_eq!(
            rest,
            "WARN  it\\nfailed probe=host reason=\"a\\n\\u{1b}[2J \\\"b\\\"\" tries=2\n"
        );
    }

    #[test]
    fn json_has_the_names_of_ecs() {
        let text = logged(LogFormat::Json, Level::DEBUG, || {
            let span = tracing::info_span!("run", rule = "cpu", id = tracing::field::Empty);
            span.record("id", 7);
            let _entered = span.entered();
            tracing::error!(target: "watchfire::pipeline::deliver", value = f64::NAN, "gone\nwrong");
        });
        let line: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(text.lines().count(), 1);
        for (key, value) in [
            ("log.level", json!("error")),
            ("message", json!("gone\nwrong")),
            ("event.category", json!(["delivery"])),
            ("event.type", json!(["error"])),
            ("rule.name", json!("cpu")),
            ("labels.id", json!(7)),
            ("labels.value", Value::Null),
            ("host.name", json!("web-1")),
        ] {
            assert_eq!(line[key], value, "{key} in {text}");
        }
        assert!(line["@timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
