//! `[[probe]]` and the adaptive interval.

use super::super::file::{At, Place};
use super::super::read::{Json, Table};
use super::grant::{self, RawGrant, User};
use super::settings::count;
use std::time::Duration;

/// One `[[probe]]`.
#[derive(Debug)]
pub(crate) struct RawProbe {
    pub(crate) id: At<String>,
    pub(crate) plugin: String,
    pub(crate) plugin_at: Option<Place>,
    pub(crate) every: Option<At<Duration>>,
    pub(crate) timeout: Option<At<Duration>>,
    pub(crate) jitter: Option<At<Duration>>,
    pub(crate) adaptive: RawAdaptiveChoice,
    pub(crate) grant: RawGrant,
    pub(crate) config: Json,
    pub(crate) labels: Vec<(At<String>, String)>,
}

/// What was said about an adaptive interval.
#[derive(Debug, Default)]
pub(crate) enum RawAdaptiveChoice {
    /// Nothing: as `[defaults]` says.
    #[default]
    Unset,
    /// `false`.
    Off,
    /// `true` or a table.
    On(RawAdaptive),
}

/// `adaptive = { … }`.
#[derive(Debug)]
pub(crate) struct RawAdaptive {
    pub(crate) at: Place,
    pub(crate) min: Option<Duration>,
    pub(crate) max: Option<Duration>,
    pub(crate) calm: Option<u32>,
    pub(crate) grow: Option<f64>,
    pub(crate) shrink: Option<f64>,
}

pub(super) fn probe(table: &Table<'_, '_>) -> Option<RawProbe> {
    let id = super::id(table);
    let plugin = table.string("plugin");
    if !table.has("plugin") {
        table.missing(
            "plugin",
            "write plugin = \"probe-host\"; `watchfire plugin list` shows all",
        );
    }
    let raw = RawProbe {
        id: id.clone().unwrap_or(At {
            value: String::new(),
            at: super::here(table),
        }),
        plugin: plugin.as_ref().map(|p| p.value.clone()).unwrap_or_default(),
        plugin_at: plugin.as_ref().map(|p| p.at),
        every: table.duration("every").filter(|every| {
            // Shorter intervals would be all overhead: a call costs tens of microseconds, a round a commit.
            let good = every.value >= Duration::from_millis(10);
            if !good {
                table.reader().mistake(
                    every.at,
                    "every",
                    "`every` is shorter than 10 milliseconds",
                    "write every = \"10s\"",
                );
            }
            good
        }),
        timeout: table.duration("timeout"),
        jitter: table.duration_or_zero("jitter"),
        adaptive: adaptive(table),
        grant: grant::grant(table, User::Probe),
        config: super::plugin_config(table),
        labels: super::labels(table, "labels"),
    };
    table.finish();
    (id.is_some() && plugin.is_some()).then_some(raw)
}

pub(super) fn adaptive(table: &Table<'_, '_>) -> RawAdaptiveChoice {
    let Some(entry) = table.get("adaptive") else {
        return RawAdaptiveChoice::Unset;
    };
    let mut raw = RawAdaptive {
        at: entry.at,
        min: None,
        max: None,
        calm: None,
        grow: None,
        shrink: None,
    };
    if entry.is_boolean() {
        return match entry.boolean() {
            Some(true) => RawAdaptiveChoice::On(raw),
            _ => RawAdaptiveChoice::Off,
        };
    }
    let Some(inner) = entry.table() else {
        return RawAdaptiveChoice::Unset;
    };
    raw.min = inner.duration("min").map(|min| min.value);
    raw.max = inner.duration("max").map(|max| max.value);
    raw.calm = count(&inner, "calm", 0, 100_000);
    raw.grow = inner.number("grow", 1.0, 100.0);
    raw.shrink = inner.number("shrink", 1.0, 100.0);
    inner.finish();
    RawAdaptiveChoice::On(raw)
}
