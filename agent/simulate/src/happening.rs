//! `[[test.at]]`: what operators and the world do, and how it is read.

use crate::reading::{Keys, Reading, Value};
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use watchfire_engine::model::parse_duration;

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// When.
    pub at: Duration,
    /// Where it stands.
    pub span: Range<usize>,
    /// What.
    pub kind: EventKind<'a>,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum EventKind<'a> {
    /// Every firing alert of the rule is acknowledged.
    Acknowledge(String),
    /// A mute.
    Silence {
        /// Rule.
        rule: String,
        /// From the begin, by the wall clock.
        from: Duration,
        /// Likewise.
        to: Duration,
        /// Stops notifications.
        notify: bool,
        /// Stops recovery.
        recover: bool,
    },
    /// Other configuration.
    Reload(Reload<'a>),
    /// kill -9.
    Crash {
        /// When it is back.
        until: Duration,
        /// When exactly it dies.
        mode: CrashMode,
    },
    /// The host sleeps.
    Suspend {
        /// When it is back.
        until: Duration,
    },
    /// The wall clock jumps by so many milliseconds.
    ClockStep(i64),
    /// The round of this instant lasts so long.
    EvaluationTakes(Duration),
    /// The rule's component traps.
    RuleTraps {
        /// Which.
        rule: String,
        /// None: to the end.
        until: Option<Duration>,
    },
}

impl EventKind<'_> {
    fn is_outage(&self) -> bool {
        matches!(self, EventKind::Crash { .. } | EventKind::Suspend { .. })
    }
}

/// When the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Before timers and round of the instant.
    Idle,
    /// With the next message of this instant handed out and not yet sent.
    BeforeSend,
    /// With it sent, and its answer not yet written down.
    AfterSend,
}

/// A reload.
#[derive(Clone, Debug)]
pub enum Reload<'a> {
    /// It is refused.
    Invalid,
    /// These tables take the place of the running ones of that name.
    Tables(&'a DeTable<'a>),
}

/// Reads `[[test.at]]`: by time, outages after the other events of their instant.
pub(crate) fn events<'a>(keys: &mut Keys<'a>, reading: &mut Reading) -> Vec<Event<'a>> {
    let path = format!("{}.at", keys.path);
    let Some(value) = keys.get("at") else {
        return Vec::new();
    };
    let DeValue::Array(all) = value.get_ref() else {
        let help = "write [[test.at]] at = \"30s\", ack = \"cpu\"";
        reading.wrong(value.span(), path, "`at` must be a list of tables", help);
        return Vec::new();
    };
    let mut events = Vec::new();
    for value in all.iter() {
        let DeValue::Table(table) = value.get_ref() else {
            let help = "write [[test.at]] at = \"30s\", ack = \"cpu\"";
            reading.wrong(value.span(), &*path, "an event must be a table", help);
            continue;
        };
        let mut keys = Keys::new(table, value.span(), &*path);
        events.extend(event(&mut keys, reading));
        keys.finish(reading);
    }
    events.sort_by_key(|event| (event.at, event.kind.is_outage()));
    events
}

/// One table may hold several events of one instant.
fn event<'a>(keys: &mut Keys<'a>, reading: &mut Reading) -> Vec<Event<'a>> {
    let at = keys.span_of(reading, "at");
    if !keys.table.contains_key("at") {
        keys.missing(reading, "at", "say when: at = \"30s\"");
    }
    let mut kinds = Vec::new();
    kinds.extend(keys.text(reading, "ack").map(EventKind::Acknowledge));
    kinds.extend(silence(keys, reading));
    kinds.extend(reload(keys, reading).map(EventKind::Reload));
    if let Some(value) = keys.get("clock_step") {
        kinds.extend(clock_step(value, &keys.path, reading).map(EventKind::ClockStep));
    }
    let takes = keys.span_of(reading, "evaluation_takes");
    kinds.extend(takes.map(EventKind::EvaluationTakes));
    let traps = keys.text(reading, "rule_traps");
    let until = keys.get("until");
    match (traps, until) {
        (Some(rule), until) => {
            let until = until.and_then(|value| reading.duration(value, "until"));
            kinds.push(EventKind::RuleTraps { rule, until });
        }
        (None, Some(until)) if !keys.table.contains_key("rule_traps") => {
            let help = "write rule_traps = \"RULE\" beside it, or crash_until, suspend_until";
            reading.wrong(until.span(), &*keys.path, "`until` of what?", help);
        }
        (None, _) => {}
    }
    let suspend = keys.span_of(reading, "suspend_until");
    kinds.extend(suspend.map(|until| EventKind::Suspend { until }));
    let crash = keys.span_of(reading, "crash_until");
    let mode = mode(keys, reading);
    kinds.extend(crash.map(|until| EventKind::Crash { until, mode }));
    let told = |key: &&str| !["at", "mode"].contains(key);
    if !keys.table.iter().any(|(key, _)| told(&&**key.get_ref())) {
        let span = keys.span.start..keys.span.start + 1;
        let help = "write ack, silence, reload, crash_until, suspend_until, clock_step, evaluation_takes or rule_traps";
        reading.wrong(span, &*keys.path, "nothing happens in this event", help);
    }
    let Some(at) = at else { return Vec::new() };
    let span = keys
        .table
        .get("at")
        .map_or(keys.span.clone(), Spanned::span);
    let event = |kind| Event {
        at,
        span: span.clone(),
        kind,
    };
    kinds.into_iter().map(event).collect()
}

fn mode(keys: &mut Keys<'_>, reading: &mut Reading) -> CrashMode {
    let Some(value) = keys.get("mode") else {
        return CrashMode::Idle;
    };
    match reading.text(value, "mode") {
        Some("before_send") => CrashMode::BeforeSend,
        Some("after_send") => CrashMode::AfterSend,
        Some("idle") | None => CrashMode::Idle,
        Some(other) => {
            let message = format!("no crash has the mode {other:?}");
            let help = "write \"idle\", \"before_send\" or \"after_send\"";
            reading.wrong(value.span(), format!("{}.mode", keys.path), message, help);
            CrashMode::Idle
        }
    }
}

fn silence<'a>(keys: &mut Keys<'a>, reading: &mut Reading) -> Option<EventKind<'a>> {
    let mut inner = keys.sub(reading, "silence")?;
    let rule = inner.text(reading, "rule");
    let from = inner.span_of(reading, "from");
    let to = inner.span_of(reading, "to");
    let scope = inner.texts(reading, "scope");
    for key in ["rule", "from", "to"] {
        if !inner.table.contains_key(key) {
            let help = "write silence = { rule = \"cpu\", from = \"0s\", to = \"100s\" }";
            inner.missing(reading, key, help);
        }
    }
    for word in scope.iter().flatten() {
        if !["notify", "recover"].contains(&word.get_ref().as_str()) {
            let message = format!("a silence has no scope {:?}", word.get_ref());
            let help = "write scope = [\"notify\"], [\"recover\"] or both";
            reading.wrong(word.span(), &*inner.path, message, help);
        }
    }
    inner.finish(reading);
    let stops = |word: &str| {
        let scope = scope.as_ref();
        scope.is_none_or(|words| words.iter().any(|w| w.get_ref() == word))
    };
    Some(EventKind::Silence {
        rule: rule?,
        from: from?,
        to: to?,
        notify: stops("notify"),
        recover: stops("recover"),
    })
}

fn reload<'a>(keys: &mut Keys<'a>, reading: &mut Reading) -> Option<Reload<'a>> {
    let value = keys.get("reload")?;
    match value.get_ref() {
        DeValue::Table(tables) => Some(Reload::Tables(tables)),
        DeValue::String(word) if word == "invalid" => Some(Reload::Invalid),
        _ => {
            let key = format!("{}.reload", keys.path);
            let help =
                "write reload = { rule = [ … ] } with the tables that change, or \"invalid\"";
            reading.wrong(
                value.span(),
                key,
                "`reload` is neither tables nor \"invalid\"",
                help,
            );
            None
        }
    }
}

fn clock_step(value: &Value<'_>, path: &str, reading: &mut Reading) -> Option<i64> {
    let key = format!("{path}.clock_step");
    let text = reading.text(value, &key)?;
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let step = parse_duration(rest).ok();
    let millis = step.and_then(|step| i64::try_from(step.as_millis()).ok());
    if millis.is_none() {
        let message = format!("{text:?} is no step of a clock");
        reading.wrong(value.span(), key, message, "write \"3h\" or \"-10m\"");
    }
    Some(sign * millis?)
}
