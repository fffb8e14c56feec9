//! Schedules, on-call rotations, maintenance windows: names followed, relations checked.

use super::super::calendar::{self, Turns};
use super::super::file::At;
use super::super::raw::Raw;
use super::Context;
use super::routing::{matcher, notifier_exists};
use std::collections::BTreeSet;
use std::sync::Arc;
use watchfire_engine::calendar::{Calendar, Rotation, Schedule};
use watchfire_engine::model::NotifierId;
use watchfire_engine::policy::{MaintenancePolicy, Rank, Recipient, RulePolicy};

/// What follows the id of a rotation for the second in line.
const SECONDARY: &str = ":secondary";

pub(super) fn calendar(context: &Context<'_>, raw: &Raw, notifiers: &BTreeSet<&str>) -> Calendar {
    context.duplicates("schedule", raw.schedules.iter().map(|s| &s.id));
    context.duplicates("on_call", raw.on_calls.iter().map(|o| &o.id));
    let schedules = raw.schedules.iter().map(|schedule| Schedule {
        id: schedule.id.value.as_str().into(),
        open: calendar::open(schedule.week.clone(), schedule.zone.clone()),
    });
    let rotations = raw.on_calls.iter().map(|on_call| {
        let id = &on_call.id;
        if notifiers.contains(id.value.as_str()) {
            context.reader.mistake(
                id.at,
                &format!("on_call[{}].id", id.value),
                format!("there is a notifier with the id {:?}, too", id.value),
                "rename one: a route names both in `notify`",
            );
        }
        for member in &on_call.members {
            let path = format!("on_call[{}].members", id.value);
            notifier_exists(context, notifiers, member, &path);
        }
        let turns = Turns {
            starts: on_call.starts,
            handover: on_call.handover,
            days: on_call.days,
        };
        let members = on_call.members.iter();
        Rotation {
            id: id.value.as_str().into(),
            members: members
                .map(|member| NotifierId::new(member.value.as_str()))
                .collect(),
            turn: calendar::turn(turns, on_call.zone.clone()),
        }
    });
    Calendar {
        schedules: schedules.collect(),
        rotations: rotations.collect(),
    }
}

/// Whom `name` means: a notifier, `ID` of a rotation, or `ID:secondary`.
pub(super) fn recipient(
    context: &Context<'_>,
    notifiers: &BTreeSet<&str>,
    calendar: &Calendar,
    name: &At<String>,
    path: &str,
) -> Recipient {
    let text = name.value.as_str();
    let on_call = |id: &str, rank| {
        let rotation = calendar.rotation(id)?.id.clone();
        Some(Recipient::OnCall { rotation, rank })
    };
    if !notifiers.contains(text) {
        let secondary = || on_call(text.strip_suffix(SECONDARY)?, Rank::Secondary);
        if let Some(found) = on_call(text, Rank::Primary).or_else(secondary) {
            return found;
        }
        notifier_exists(context, notifiers, name, path);
    }
    Recipient::from(text)
}

/// Ids of schedules that exist.
pub(super) fn schedules(
    context: &Context<'_>,
    calendar: &Calendar,
    names: &[At<String>],
    path: &str,
) -> Vec<Arc<str>> {
    for name in names {
        if calendar.schedule(&name.value).is_some() {
            continue;
        }
        let known = calendar.schedules.iter().map(|schedule| &*schedule.id);
        context.reader.absence(
            name.at,
            path,
            format!("no schedule is called {:?}", name.value),
            match context.reader.near(&name.value, known) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!(
                    "write [[schedule]] id = {:?}, days = [\"mon-fri\"], from = \"09:00\", to = \"17:00\"",
                    name.value
                ),
            },
        );
    }
    names
        .iter()
        .map(|name| name.value.as_str().into())
        .collect()
}

pub(super) fn maintenance(
    context: &Context<'_>,
    raw: &Raw,
    calendar: &Calendar,
    rules: &[RulePolicy],
) -> Vec<MaintenancePolicy> {
    context.duplicates("maintenance", raw.maintenances.iter().map(|m| &m.id));
    let windows = raw.maintenances.iter().map(|window| {
        let path = format!("maintenance[{}]", window.id.value);
        let named = window.schedule.as_slice();
        let schedule = schedules(context, calendar, named, &format!("{path}.schedule"));
        MaintenancePolicy {
            id: window.id.value.as_str().into(),
            from: window.from,
            until: window.until,
            schedule: schedule.into_iter().next(),
            matcher: matcher(
                context,
                &window.matcher,
                rules,
                &format!("{path}.match.rule"),
            ),
            notify: window.notify,
            recover: window.recover,
        }
    });
    windows.collect()
}
