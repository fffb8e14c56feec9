//! `[[schedule]]`, `[[on_call]]`, `[[maintenance]]`, `[heartbeat]`.

use super::super::calendar::{self, Week, Zone};
use super::super::file::At;
use super::super::read::{Entry, Table, secret_references};
use super::alert::{RawMatch, alert_match};
use jiff::civil::Date;
use std::time::Duration;
use watchfire_engine::model::WallTime;

/// The zone of a table that names none: the same everywhere, as Alertmanager's.
const ZONE: &str = "UTC";

/// Bounds of `every` of the heartbeat: outside services count minutes, and a day is the longest that
/// any of them waits.
const BEAT_MIN: Duration = Duration::from_secs(1);
const BEAT_MAX: Duration = Duration::from_secs(86_400);

/// Longest turn of a rotation, in days.
const TURN_DAYS_MAX: u64 = 366;

/// One `[[schedule]]`.
#[derive(Debug)]
pub(crate) struct RawSchedule {
    pub(crate) id: At<String>,
    pub(crate) week: Week,
    pub(crate) zone: Zone,
}

pub(super) fn schedule(table: &Table<'_, '_>) -> Option<RawSchedule> {
    let id = super::id(table);
    let days = table.get("days").and_then(|entry| days(&entry));
    let from = table.get("from").and_then(|entry| time(&entry));
    let to = table.get("to").and_then(|entry| time(&entry));
    let zone = zone(table);
    if !["days", "from", "to"].iter().any(|key| table.has(key)) {
        table.missing(
            "days",
            "write days = [\"mon-fri\"], from = \"09:00\", to = \"17:00\"",
        );
    }
    let (from, to) = (from.unwrap_or(0), to.unwrap_or(calendar::DAY_MINUTES));
    if from == to || from == calendar::DAY_MINUTES {
        table.reader().mistake(
            table.get("from").map_or(table.at, |entry| entry.at),
            &format!("{}.from", table.path()),
            "`from` and `to` leave no time between them",
            "leave both out for whole days; a window over midnight has `to` before `from`",
        );
    }
    table.finish();
    Some(RawSchedule {
        id: id?,
        week: Week {
            days: days.unwrap_or([true; 7]),
            from,
            to,
        },
        zone: zone?,
    })
}

/// One `[[on_call]]`.
#[derive(Debug)]
pub(crate) struct RawOnCall {
    pub(crate) id: At<String>,
    pub(crate) members: Vec<At<String>>,
    /// Days of a turn.
    pub(crate) days: i32,
    pub(crate) starts: Date,
    /// Minutes from midnight.
    pub(crate) handover: u16,
    pub(crate) zone: Zone,
}

pub(super) fn on_call(table: &Table<'_, '_>) -> Option<RawOnCall> {
    let id = super::id(table);
    let members = table.strings("members");
    if !table.has("members") || members.as_ref().is_some_and(Vec::is_empty) {
        table.missing(
            "members",
            "write the ids of the members' notifiers: members = [\"alice\", \"bob\"]",
        );
    }
    let every = table.get("every");
    let days = every.map_or(Some(7), |entry| {
        let every = entry.duration()?.value.as_secs_f64();
        let days = (every / 86_400.0).round();
        let whole = (days * 86_400.0 - every).abs() < f64::EPSILON;
        #[expect(clippy::cast_precision_loss, reason = "a year has few days")]
        if !whole || !(1.0..=TURN_DAYS_MAX as f64).contains(&days) {
            entry.wrong(
                "must be whole days, a year at most",
                "write every = \"7d\"; for shifts within a day give routes `active` schedules",
            );
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
        Some(days as i32)
    });
    let starts = table.get("starts").map_or_else(
        // A Monday in the past: weeks begin on Mondays.
        || Some(jiff::civil::date(2024, 1, 1)),
        |entry| {
            let text = entry.string_or_date()?;
            let date = text.value.parse().ok();
            if date.is_none() {
                entry.wrong("is no date", "write starts = \"2026-01-05\"");
            }
            date
        },
    );
    let handover = match table.get("handover") {
        None => Some(9 * 60),
        Some(entry) => time(&entry).filter(|minutes| *minutes < calendar::DAY_MINUTES),
    };
    let zone = zone(table);
    table.finish();
    Some(RawOnCall {
        id: id?,
        members: members?,
        days: days?,
        starts: starts?,
        handover: handover?,
        zone: zone?,
    })
}

/// One `[[maintenance]]`.
#[derive(Debug)]
pub(crate) struct RawMaintenance {
    pub(crate) id: At<String>,
    pub(crate) from: Option<WallTime>,
    pub(crate) until: Option<WallTime>,
    pub(crate) schedule: Option<At<String>>,
    pub(crate) matcher: RawMatch,
    pub(crate) notify: bool,
    pub(crate) recover: bool,
}

pub(super) fn maintenance(table: &Table<'_, '_>) -> Option<RawMaintenance> {
    let id = super::id(table);
    let zone = zone(table)?;
    let from = table.get("from").and_then(|entry| instant(&entry, &zone));
    let until = table.get("until").and_then(|entry| instant(&entry, &zone));
    let schedule = table.string("schedule");
    if !table.has("until") && !table.has("schedule") {
        table.missing(
            "until",
            "maintenance ends: write until = \"2026-01-05T06:00\", or schedule = \"ID\" for one that recurs",
        );
    }
    if let (Some(from), Some(until)) = (from, until)
        && until <= from
    {
        table.reader().mistake(
            table.get("until").map_or(table.at, |entry| entry.at),
            &format!("{}.until", table.path()),
            "the maintenance ends before it begins",
            "write a later `until`",
        );
    }
    let matcher = alert_match(table);
    let scope = table.get("scope");
    let (mut notify, mut recover) = (scope.is_none(), scope.is_none());
    if let Some(entry) = scope {
        for word in entry.strings(true).unwrap_or_default() {
            match word.value.as_str() {
                "notify" => notify = true,
                "recover" => recover = true,
                other => entry.wrong(
                    &format!("knows no {other:?}"),
                    "write scope = [\"notify\", \"recover\"], or one of them",
                ),
            }
        }
        if !notify && !recover {
            entry.wrong(
                "stops nothing",
                "leave it out for both, or write [\"recover\"]",
            );
        }
    }
    table.finish();
    Some(RawMaintenance {
        id: id?,
        from,
        until,
        schedule,
        matcher,
        notify,
        recover,
    })
}

/// `[heartbeat]`.
#[derive(Debug)]
pub(crate) struct RawHeartbeat {
    pub(crate) url: String,
    pub(crate) every: Option<At<Duration>>,
    pub(crate) secrets: Vec<At<String>>,
}

pub(super) fn heartbeat(root: &Table<'_, '_>) -> Option<RawHeartbeat> {
    let table = root.table("heartbeat")?;
    let entry = table.get("url");
    let url = entry.as_ref().and_then(Entry::string);
    let mut secrets = Vec::new();
    if !table.has("url") {
        table.missing(
            "url",
            "write url = \"https://hc-ping.com/…\", or \"{{secret:NAME}}\"",
        );
    }
    if let (Some(entry), Some(url)) = (&entry, &url) {
        for found in secret_references(&url.value) {
            match found {
                Ok(name) => secrets.push(At {
                    value: name.to_owned(),
                    at: url.at,
                }),
                Err(_) => entry.wrong(
                    "has something in braces that is no reference to a secret",
                    "write {{secret:NAME}}, without spaces",
                ),
            }
        }
        let begins = ["http://", "https://", "{{secret:"];
        if !begins.iter().any(|begin| url.value.starts_with(begin))
            || url.value.contains(char::is_whitespace)
        {
            // The text is not repeated: it may be a secret in the wrong place.
            entry.wrong(
                "is no address",
                "write url = \"https://…\", or \"{{secret:NAME}}\" for all of it",
            );
        }
    }
    let every = table.duration("every").filter(|every| {
        let good = (BEAT_MIN..=BEAT_MAX).contains(&every.value);
        if !good {
            table.reader().mistake(
                every.at,
                "heartbeat.every",
                "`every` must lie between a second and a day",
                "write every = \"60s\"",
            );
        }
        good
    });
    table.finish();
    Some(RawHeartbeat {
        url: url?.value,
        every,
        secrets,
    })
}

fn days(entry: &Entry<'_, '_>) -> Option<[bool; 7]> {
    let mut all = [false; 7];
    let names = entry.strings(true)?;
    if names.is_empty() {
        entry.wrong("names no day", "leave it out for every day");
    }
    for name in names {
        let Some(days) = calendar::days(&name.value) else {
            entry.wrong(
                &format!("knows no day {:?}", name.value),
                "write days = [\"mon-fri\"] or [\"sat\", \"sun\"]",
            );
            return None;
        };
        for day in days {
            all[usize::from(day.to_monday_zero_offset().unsigned_abs())] = true;
        }
    }
    Some(all)
}

fn time(entry: &Entry<'_, '_>) -> Option<u16> {
    let text = entry.string_or_date()?.value;
    // TOML's own times have seconds.
    let found = calendar::time_of_day(
        text.strip_suffix(":00")
            .filter(|t| t.len() == 5)
            .unwrap_or(&text),
    );
    if found.is_none() {
        entry.wrong(
            &format!("wants a time of the day, found {text:?}"),
            format!("write {} = \"09:00\"", entry.name),
        );
    }
    found
}

fn zone(table: &Table<'_, '_>) -> Option<Zone> {
    let Some(entry) = table.get("timezone") else {
        return Zone::named(ZONE);
    };
    let name = entry.string()?.value;
    let zone = Zone::named(&name);
    if zone.is_none() {
        entry.wrong(
            &format!("names {name:?}, which this host does not know"),
            "write timezone = \"Europe/Berlin\", \"UTC\" or \"local\"; the package tzdata brings the zones",
        );
    }
    zone
}

/// A moment with its offset, or a time of the table's zone.
fn instant(entry: &Entry<'_, '_>, zone: &Zone) -> Option<WallTime> {
    let text = entry.string_or_date()?.value;
    let found = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => calendar::wall(moment),
        Err(_) => text.parse().ok().and_then(|time| zone.at(time)),
    };
    if found.is_none() {
        entry.wrong(
            &format!("wants a date and a time, found {text:?}"),
            format!(
                "write {} = \"2026-01-05T22:00\", of `timezone`, or with an offset: \"2026-01-05T22:00+01:00\"",
                entry.name
            ),
        );
    }
    found
}
