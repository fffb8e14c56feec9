//! `[[notifier]]`, `[[route]]`, `[[inhibit]]`, `[[recovery]]`.

use super::super::file::{At, Place};
use super::super::read::{Json, PerSeverityTable, Table, severity, shared};
use super::grant::{self, RawGrant, User};
use super::rule::label_patterns;
use super::settings::{count, one_of, value};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::{Severity, is_label_name};
use watchfire_engine::policy::Mode;

/// One `[[notifier]]`.
#[derive(Debug)]
pub(crate) struct RawNotifier {
    pub(crate) id: At<String>,
    pub(crate) plugin: String,
    pub(crate) plugin_at: Option<Place>,
    pub(crate) grant: RawGrant,
    pub(crate) config: Json,
    pub(crate) title: Option<Arc<str>>,
    pub(crate) text: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
}

pub(super) fn notifier(table: &Table<'_, '_>) -> Option<RawNotifier> {
    let id = super::id(table);
    let plugin = table.string("plugin");
    if !table.has("plugin") && !table.reader().is_test {
        table.missing(
            "plugin",
            "write plugin = \"notifier-webhook\"; `watchfire plugin list` shows all",
        );
    }
    let grant = grant::grant(table, User::Notifier);
    let config = super::plugin_config(table);
    let title = super::template(table, "title");
    let text = super::template(table, "text");
    let timeout = value(table.duration("timeout"));
    table.finish();
    Some(RawNotifier {
        id: id?,
        plugin_at: plugin.as_ref().map(|p| p.at),
        plugin: match plugin {
            None if table.reader().is_test => String::new(),
            plugin => plugin?.value,
        },
        grant,
        config,
        title,
        text,
        timeout,
    })
}

/// `match` of a route or a maintenance window.
#[derive(Debug, Default)]
pub(crate) struct RawMatch {
    pub(crate) severity: Vec<Severity>,
    pub(crate) rule: Vec<At<String>>,
    pub(crate) labels: Vec<(At<String>, Vec<At<String>>)>,
}

/// Without `match` everything matches.
pub(super) fn alert_match(table: &Table<'_, '_>) -> RawMatch {
    let mut raw = RawMatch::default();
    if let Some(inner) = table.table("match") {
        for word in inner.one_or_many("severity").unwrap_or_default() {
            let path = format!("{}.severity", inner.path());
            raw.severity
                .extend(severity(inner.reader(), &path, &word).map(|s| s.value));
        }
        raw.rule = rule_patterns(&inner, "rule");
        if let Some(labels) = inner.table("labels") {
            raw.labels = label_patterns(&labels);
        }
        inner.finish();
    }
    raw
}

/// One `[[route]]`.
#[derive(Debug)]
pub(crate) struct RawRoute {
    pub(crate) at: super::Place,
    pub(crate) matcher: RawMatch,
    pub(crate) notify: Vec<At<String>>,
    pub(crate) active: Vec<At<String>>,
    pub(crate) mute: Vec<At<String>>,
    pub(crate) group_by: Option<Vec<Arc<str>>>,
    pub(crate) group_wait: Option<Duration>,
    pub(crate) group_interval: Option<Duration>,
    pub(crate) repeat: Option<PerSeverityTable>,
    pub(crate) escalate: Vec<(Duration, Vec<At<String>>)>,
    pub(crate) carry_on: bool,
}

pub(super) fn route(table: &Table<'_, '_>) -> RawRoute {
    let raw = RawRoute {
        at: table.at,
        notify: table.one_or_many("notify").unwrap_or_default(),
        active: table.one_or_many("active").unwrap_or_default(),
        mute: table.one_or_many("mute").unwrap_or_default(),
        group_by: table.strings("group_by").map(|names| {
            names
                .into_iter()
                .filter(|name| {
                    let good = is_label_name(&name.value);
                    if !good {
                        table.reader().mistake(
                            name.at,
                            &format!("{}.group_by", table.path()),
                            format!("{:?} cannot be the name of a label", name.value),
                            "write \"rule\" or names of labels; [] sends every alert by itself",
                        );
                    }
                    good
                })
                .map(|name| name.value.into())
                .collect()
        }),
        group_wait: value(table.duration_or_zero("group_wait")),
        group_interval: value(table.duration_or_zero("group_interval")),
        repeat: table.get("repeat").and_then(|entry| entry.per_severity()),
        escalate: escalation(table),
        carry_on: table.boolean("continue").unwrap_or(false),
        matcher: alert_match(table),
    };
    if !table.has("notify") {
        table.missing("notify", "write notify = [\"…\"]; [] drops what matches");
    }
    table.refuse(
        &["id"],
        "has no meaning: routes are told apart by their order",
        "remove it",
    );
    table.refuse(
        &["schedule", "active_time_intervals", "mute_time_intervals"],
        "is not what the hours of a route are called",
        "write active = \"ID\" or mute = \"ID\" with the id of a [[schedule]]",
    );
    table.finish();
    raw
}

fn escalation(table: &Table<'_, '_>) -> Vec<(Duration, Vec<At<String>>)> {
    let mut steps = Vec::new();
    for step in table.tables("escalate") {
        let after = step.duration("after");
        let notify = step.one_or_many("notify");
        for key in ["after", "notify"] {
            if !step.has(key) {
                step.missing(
                    key,
                    "write escalate = [{ after = \"15m\", notify = [\"…\"] }]",
                );
            }
        }
        step.refuse(
            &["on_call"],
            "is no key of a step",
            "name the rotation in `notify`: \"ID\" or \"ID:secondary\"",
        );
        step.finish();
        if let (Some(after), Some(notify)) = (after, notify) {
            steps.push((after.value, notify));
        }
    }
    steps
}

/// One `[[inhibit]]`.
#[derive(Debug)]
pub(crate) struct RawInhibit {
    pub(crate) source: Vec<At<String>>,
    pub(crate) target: Vec<At<String>>,
    pub(crate) equal: Vec<Arc<str>>,
}

pub(super) fn inhibit(table: &Table<'_, '_>) -> Option<RawInhibit> {
    for key in ["source", "target"] {
        if !table.has(key) {
            table.missing(
                key,
                "write source = \"host-down\" and target = [\"http-*\"]",
            );
        }
    }
    let raw = RawInhibit {
        source: rule_patterns(table, "source"),
        target: rule_patterns(table, "target"),
        equal: table
            .strings("equal")
            .unwrap_or_default()
            .into_iter()
            .map(|name| name.value.into())
            .collect(),
    };
    table.refuse(&["id"], "has no meaning in [[inhibit]]", "remove it");
    table.finish();
    // An empty list would match every rule; nothing is safer than everything here.
    (!raw.source.is_empty() && !raw.target.is_empty()).then_some(raw)
}

/// One `[[recovery]]`.
#[derive(Debug)]
pub(crate) struct RawRecovery {
    pub(crate) id: At<String>,
    pub(crate) plugin: String,
    pub(crate) plugin_at: Option<Place>,
    pub(crate) rules: Vec<At<String>>,
    pub(crate) severity: Option<Severity>,
    pub(crate) mode: Option<Mode>,
    pub(crate) after: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) window: Option<Duration>,
    pub(crate) cooldown: Option<At<Duration>>,
    pub(crate) backoff: Option<f64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) verify_after: Option<At<Duration>>,
    pub(crate) grant: RawGrant,
    pub(crate) config: Json,
    pub(crate) description: Option<Arc<str>>,
}

pub(super) fn recovery(table: &Table<'_, '_>) -> Option<RawRecovery> {
    let id = super::id(table);
    let plugin = table.string("plugin");
    if !table.has("plugin") && !table.reader().is_test {
        table.missing(
            "plugin",
            "write plugin = \"action-service\"; `watchfire plugin list` shows all",
        );
    }
    if !table.has("rules") {
        table.missing(
            "rules",
            "write the ids of the rules that trigger it: rules = [\"…\"]",
        );
    }
    let raw = RawRecovery {
        id: id.clone().unwrap_or(At {
            value: String::new(),
            at: table.at,
        }),
        plugin: plugin.as_ref().map(|p| p.value.clone()).unwrap_or_default(),
        plugin_at: plugin.as_ref().map(|p| p.at),
        rules: rule_patterns(table, "rules"),
        severity: table
            .get("severity")
            .and_then(|entry| entry.severity())
            .map(|severity| severity.value),
        mode: one_of(
            table,
            "mode",
            &[
                ("observe", Mode::Observe),
                ("approve", Mode::Approve),
                ("auto", Mode::Auto),
            ],
        ),
        after: value(table.duration_or_zero("after")),
        max_attempts: count(table, "max_attempts", 1, 1_000),
        window: value(table.duration("window")),
        cooldown: table.duration_or_zero("cooldown"),
        backoff: table.number("backoff", 1.0, 100.0),
        timeout: value(table.duration("timeout")),
        verify_after: table.duration_or_zero("verify_after"),
        grant: grant::grant(table, User::Recovery),
        config: super::plugin_config(table),
        description: shared(table.string("description")),
    };
    table.finish();
    (id.is_some() && (plugin.is_some() || table.reader().is_test)).then_some(raw)
}

/// Ids of rules; a trailing `*` stands for any rest.
fn rule_patterns(table: &Table<'_, '_>, key: &'static str) -> Vec<At<String>> {
    let mut good = Vec::new();
    for pattern in table.one_or_many(key).unwrap_or_default() {
        let stem = pattern.value.strip_suffix('*').unwrap_or(&pattern.value);
        if pattern.value.is_empty() || stem.contains('*') {
            table.reader().mistake(
                pattern.at,
                &format!("{}.{key}", table.path()),
                format!(
                    "{:?} is no rule id: `*` can only stand at its end",
                    pattern.value
                ),
                "write for example \"http-*\"",
            );
            continue;
        }
        good.push(pattern);
    }
    good
}
