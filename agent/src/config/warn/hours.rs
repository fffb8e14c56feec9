//! Doubtful hours: schedules nobody uses, rotations of one, pages that nobody gets at night.

use super::super::model::Config;
use super::super::raw::Raw;
use super::super::read::Reader;
use watchfire_engine::model::Severity;
use watchfire_engine::policy::{Rank, Recipient};

pub(super) fn warn(config: &Config, raw: &Raw, to: &Reader<'_>) {
    unused_schedules(config, raw, to);
    rotations(config, raw, to);
    closed_to_critical(config, raw, to);
    over(config, raw, to);
}

fn unused_schedules(config: &Config, raw: &Raw, to: &Reader<'_>) {
    let policy = &config.policy;
    for schedule in &raw.schedules {
        let id = schedule.id.value.as_str();
        let of_routes = policy
            .routes
            .iter()
            .flat_map(|r| r.active.iter().chain(&r.mute));
        let of_windows = policy
            .maintenance
            .iter()
            .filter_map(|w| w.schedule.as_ref());
        if !of_routes.chain(of_windows).any(|used| &**used == id) {
            to.mistake(
                schedule.id.at,
                &format!("schedule[{id}]"),
                format!("no route and no maintenance uses the schedule {id:?}"),
                format!(
                    "write active = {id:?} in a [[route]]; silences that recur can use it, too"
                ),
            );
        }
    }
}

fn rotations(config: &Config, raw: &Raw, to: &Reader<'_>) {
    for on_call in &raw.on_calls {
        let id = on_call.id.value.as_str();
        let path = format!("on_call[{id}]");
        if let [only] = on_call.members.as_slice() {
            to.mistake(
                only.at,
                &format!("{path}.members"),
                format!("{id:?} has one member, who is always on call, and second in line as well"),
                "name at least two members, or write the notifier in `notify`",
            );
        }
        let named = |rank: Option<Rank>| {
            config.policy.routes.iter().any(|route| {
                let steps = route.escalate.iter().flat_map(|step| &step.notify);
                route
                    .notify
                    .iter()
                    .chain(steps)
                    .any(|recipient| match recipient {
                        Recipient::OnCall { rotation, rank: of } => {
                            &**rotation == id && rank.is_none_or(|rank| rank == *of)
                        }
                        Recipient::Notifier(_) => false,
                    })
            })
        };
        if !named(None) {
            to.mistake(
                on_call.id.at,
                &path,
                format!("no route names the rotation {id:?}"),
                format!("write [[route]] notify = [{id:?}]"),
            );
        } else if !named(Some(Rank::Primary)) {
            to.mistake(
                on_call.id.at,
                &path,
                format!("routes name only the second in line of {id:?}"),
                format!("write notify = [{id:?}] for the first"),
            );
        }
    }
}

/// A page in the night that waits for the morning is rarely meant.
fn closed_to_critical(config: &Config, raw: &Raw, to: &Reader<'_>) {
    for (written, route) in raw.routes.iter().zip(&config.policy.routes) {
        let severity = &route.matcher.severity;
        let critical = severity.is_empty() || severity.contains(&Severity::Critical);
        let hours = written.active.first().or(written.mute.first());
        if let Some(hours) = hours.filter(|_| critical && !route.carry_on) {
            to.mistake(
                hours.at,
                "route.active",
                "this route takes critical alerts, and nobody hears of them while it is closed",
                "add match = { severity = [\"low\", \"warning\"] }, or continue = true and a route below",
            );
        }
    }
}

/// What a clock would have to say is for whoever runs the check; here only what contradicts itself.
fn over(config: &Config, raw: &Raw, to: &Reader<'_>) {
    for (written, route) in raw.routes.iter().zip(&config.policy.routes) {
        for name in written.mute.iter() {
            if route.active.iter().any(|id| **id == *name.value) {
                to.mistake(
                    name.at,
                    "route.mute",
                    format!(
                        "the route is open and closed by the same schedule {:?}",
                        name.value
                    ),
                    "it never says anything: remove one",
                );
            }
        }
    }
}
