//! The tables of defaults and bounds: `[defaults]`, `[alerting]`, `[delivery]`, `[recover]`.

use super::super::file::At;
use super::super::read::{PerSeverityTable, Table};
use super::probe::{RawAdaptiveChoice, adaptive};
use super::settings::{count, value};
use std::time::Duration;
use watchfire_engine::policy::Flapping;

/// `[defaults]`.
#[derive(Debug, Default)]
pub(crate) struct RawDefaults {
    pub(crate) every: Option<At<Duration>>,
    pub(crate) timeout: Option<At<Duration>>,
    pub(crate) jitter: Option<At<Duration>>,
    pub(crate) adaptive: RawAdaptiveChoice,
}

pub(super) fn defaults(root: &Table<'_, '_>) -> RawDefaults {
    let Some(table) = root.table("defaults") else {
        return RawDefaults::default();
    };
    let raw = RawDefaults {
        every: table.duration("every"),
        timeout: table.duration("timeout"),
        jitter: table.duration_or_zero("jitter"),
        adaptive: adaptive(&table),
    };
    table.finish();
    raw
}

/// `[alerting]`.
#[derive(Debug, Default)]
pub(crate) struct RawAlerting {
    pub(crate) stale_after: Option<At<Duration>>,
    pub(crate) gone_after: Option<u32>,
    pub(crate) outage_tolerance: Option<Duration>,
    pub(crate) keep: Option<PerSeverityTable>,
    pub(crate) meta_keep: Option<Duration>,
    pub(crate) max_instances: Option<usize>,
    /// Inner `None`: `flapping = false`.
    pub(crate) flapping: Option<Option<Flapping>>,
}

pub(super) fn alerting(root: &Table<'_, '_>) -> RawAlerting {
    let Some(table) = root.table("alerting") else {
        return RawAlerting::default();
    };
    let raw = RawAlerting {
        stale_after: table.duration("stale_after"),
        gone_after: count(&table, "gone_after", 1, 1_000),
        outage_tolerance: value(table.duration_or_zero("outage_tolerance")),
        keep: table.get("keep").and_then(|entry| entry.per_severity()),
        meta_keep: value(table.duration_or_zero("meta_keep")),
        max_instances: max_instances(&table),
        flapping: flapping(&table),
    };
    table.finish();
    raw
}

pub(super) fn max_instances(table: &Table<'_, '_>) -> Option<usize> {
    table
        .integer("max_instances", 1, 100_000)
        .and_then(|max| usize::try_from(max.value).ok())
}

fn flapping(table: &Table<'_, '_>) -> Option<Option<Flapping>> {
    let entry = table.get("flapping")?;
    if entry.is_boolean() {
        return Some(match entry.boolean()? {
            false => None,
            true => watchfire_engine::policy::AlertingPolicy::default().flapping,
        });
    }
    let inner = entry.table()?;
    let standard = watchfire_engine::policy::AlertingPolicy::default().flapping?;
    let flapping = Flapping {
        start: count(&inner, "start", 2, 1_000).unwrap_or(standard.start),
        stop: count(&inner, "stop", 0, 999).unwrap_or(standard.stop),
        window: value(inner.duration("window")).unwrap_or(standard.window),
    };
    inner.finish();
    if flapping.stop >= flapping.start {
        entry.wrong(
            "must stop at fewer transitions than it starts at",
            "write flapping = { start = 6, stop = 2, window = \"30m\" }",
        );
        return None;
    }
    Some(Some(flapping))
}

/// `[delivery]`.
#[derive(Debug, Default)]
pub(crate) struct RawDelivery {
    pub(crate) first_retry: Option<At<Duration>>,
    pub(crate) factor: Option<f64>,
    pub(crate) max_retry: Option<At<Duration>>,
    pub(crate) jitter: Option<f64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) fallback: Option<At<String>>,
}

pub(super) fn delivery(root: &Table<'_, '_>) -> RawDelivery {
    let Some(table) = root.table("delivery") else {
        return RawDelivery::default();
    };
    let raw = RawDelivery {
        first_retry: table.duration("first_retry"),
        factor: table.number("factor", 1.0, 100.0),
        max_retry: table.duration("max_retry"),
        jitter: table.number("jitter", 0.0, 1.0),
        timeout: value(table.duration("timeout")),
        fallback: table.string("fallback"),
    };
    table.finish();
    raw
}

/// `[recover]`.
#[derive(Debug, Default)]
pub(crate) struct RawRecover {
    pub(crate) concurrency: Option<u32>,
    pub(crate) per_hour: Option<u32>,
    pub(crate) boot_grace: Option<Duration>,
    pub(crate) paused: Option<bool>,
}

pub(super) fn recover(root: &Table<'_, '_>) -> RawRecover {
    let Some(table) = root.table("recover") else {
        return RawRecover::default();
    };
    let raw = RawRecover {
        concurrency: count(&table, "concurrency", 1, 100),
        per_hour: count(&table, "per_hour", 0, 1_000_000),
        boot_grace: value(table.duration_or_zero("boot_grace")),
        paused: table.boolean("paused"),
    };
    table.finish();
    raw
}
