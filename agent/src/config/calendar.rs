//! Hours by the wall: what `[[schedule]]` and `[[on_call]]` mean, as functions of the wall clock.
//!
//! A window is the time between two instants of the zone's own calendar, so it has no holes where a
//! clock change repeats an hour. A time that a clock change skips is the moment of the change.

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use watchfire_engine::calendar::OfWall;
use watchfire_engine::model::WallTime;

/// Minutes of a day.
pub(super) const DAY_MINUTES: u16 = 24 * 60;

/// A time zone and what was written for it.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// As written: `Europe/Berlin`.
    name: String,
    zone: TimeZone,
}

/// Days of the week and a time of the day.
#[derive(Clone, Debug)]
pub(super) struct Week {
    /// Monday first: the days on which a window begins.
    pub(super) days: [bool; 7],
    /// Minutes from midnight.
    pub(super) from: u16,
    /// Minutes from midnight, exclusive; not after `from`: of the next day.
    pub(super) to: u16,
}

/// Whose turn it is changes every so many days.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// The first turn begins on this day; before it the first member has it.
    pub(super) starts: Date,
    /// Minutes from midnight.
    pub(super) handover: u16,
    /// Days of a turn, at least one.
    pub(super) days: i32,
}

impl Zone {
    /// None: this host knows no such zone.
    pub(super) fn named(name: &str) -> Option<Self> {
        let zone = match name {
            "UTC" => Some(TimeZone::UTC),
            "local" => TimeZone::try_system().ok(),
            // A POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`) serves where no zone files are installed.
            _ => TimeZone::get(name).or_else(|_| TimeZone::posix(name)).ok(),
        };
        Some(Zone {
            name: name.to_owned(),
            zone: zone?,
        })
    }

    /// The local date of a moment.
    fn date(&self, now: Timestamp) -> Date {
        now.to_zoned(self.zone.clone()).date()
    }

    /// The moment at which the zone's clocks show this time of this day: the first of two, and the
    /// clock change itself where it is skipped. `DAY_MINUTES` is the next midnight.
    fn moment(&self, date: Date, minutes: u16) -> Option<Timestamp> {
        let date = match minutes {
            DAY_MINUTES.. => date.tomorrow().ok()?,
            _ => date,
        };
        let minutes = minutes % DAY_MINUTES;
        let hour = i8::try_from(minutes / 60).ok()?;
        let minute = i8::try_from(minutes % 60).ok()?;
        let time = self.zone.to_ambiguous_zoned(date.at(hour, minute, 0, 0));
        if !matches!(time.offset(), AmbiguousOffset::Gap { .. }) {
            return Some(time.compatible().ok()?.timestamp());
        }
        let before = time.earlier().ok()?.timestamp();
        let change = self.zone.following(before).next()?;
        Some(change.timestamp())
    }

    /// The moment of a date and time in this zone.
    pub(super) fn at(&self, time: jiff::civil::DateTime) -> Option<WallTime> {
        wall(self.zone.to_timestamp(time).ok()?)
    }
}

/// What the engine calls that moment; none before 1970.
pub(super) fn wall(moment: Timestamp) -> Option<WallTime> {
    u64::try_from(moment.as_millisecond()).ok().map(WallTime)
}

fn moment_of(wall: WallTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(wall.0).ok()?).ok()
}

/// Whether a schedule is open.
pub(super) fn open(week: Week, zone: Zone) -> OfWall<bool> {
    let source = format!("{:?} {}-{} {}", week.days, week.from, week.to, zone.name);
    OfWall::new(source, move |wall| {
        is_open(&week, &zone, wall).unwrap_or(false)
    })
}

/// None: beyond the calendar.
fn is_open(week: &Week, zone: &Zone, wall: WallTime) -> Option<bool> {
    let now = moment_of(wall)?;
    let today = zone.date(now);
    // A window that began yesterday may reach into today.
    for day in [today.yesterday().ok()?, today] {
        if !week.days[usize::from(day.weekday().to_monday_zero_offset().unsigned_abs())] {
            continue;
        }
        let ends_on = if week.to > week.from {
            day
        } else {
            day.tomorrow().ok()?
        };
        let begins = zone.moment(day, week.from)?;
        if begins <= now && now < zone.moment(ends_on, week.to)? {
            return Some(true);
        }
    }
    Some(false)
}

/// Whose turn it is, counted from the first.
pub(super) fn turn(turns: Turns, zone: Zone) -> OfWall<usize> {
    let source = format!(
        "{} {} {} {}",
        turns.starts, turns.handover, turns.days, zone.name
    );
    OfWall::new(source, move |wall| {
        turn_at(&turns, &zone, wall).unwrap_or_default()
    })
}

fn turn_at(turns: &Turns, zone: &Zone, wall: WallTime) -> Option<usize> {
    let now = moment_of(wall)?;
    let today = zone.date(now);
    let since = if zone.moment(today, turns.handover)? <= now {
        today
    } else {
        today.yesterday().ok()?
    };
    let days = turns.starts.until(since).ok()?.get_days();
    usize::try_from(days.div_euclid(turns.days.max(1))).ok()
}

/// A day of the week by its English name, or its first three letters.
pub(super) fn weekday(name: &str) -> Option<Weekday> {
    let names = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let name = name.to_ascii_lowercase();
    let found = names
        .iter()
        .find(|(full, _)| *full == name || full[..3] == name);
    found.map(|(_, day)| *day)
}

/// `mon`, or `mon-fri`; a range may run over the end of the week.
pub(super) fn days(text: &str) -> Option<Vec<Weekday>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (weekday(first.trim())?, weekday(last.trim())?);
    let mut days = vec![first];
    let mut day = first;
    while day != last {
        day = day.next();
        days.push(day);
    }
    Some(days)
}

/// `09:00` as minutes from midnight; `24:00` is the end of the day.
pub(super) fn time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY_MINUTES).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule of central Europe, so that no zone file is needed: CEST from the last Sunday of March
    /// to that of October.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn at(text: &str) -> WallTime {
        wall(text.parse().expect("a moment")).expect("after 1970")
    }

    fn week(days: &str, from: &str, to: &str) -> Week {
        let mut all = [false; 7];
        for day in super::days(days).expect("days") {
            all[usize::from(day.to_monday_zero_offset().unsigned_abs())] = true;
        }
        Week {
            days: all,
            from: time_of_day(from).expect("a time"),
            to: time_of_day(to).expect("a time"),
        }
    }

    #[track_caller]
    fn check_open(week: Week, zone: &str, cases: &[(&str, bool)]) {
        let open = open(week, Zone::named(zone).expect("a zone"));
        for (moment, wanted) in cases {
            assert_eq!(open.at(at(moment)), *wanted, "{moment} {open:?}");
        }
    }

    #[test]
    fn office_hours_follow_the_zone_over_the_year() {
        check_open(
            week("mon-fri", "09:00", "17:00"),
            BERLIN,
            &[
                ("2026-01-05T07:59:59Z", false), // Monday, winter: 08:59:59
                ("2026-01-05T08:00:00Z", true),
                ("2026-01-05T15:59:59Z", true),
                ("2026-01-05T16:00:00Z", false),
                ("2026-07-06T07:00:00Z", true), // Monday, summer: 09:00
                ("2026-07-06T15:00:00Z", false),
                ("2026-07-04T10:00:00Z", false), // Saturday
            ],
        );
    }

    #[test]
    fn windows_over_midnight_belong_to_the_day_they_begin_on() {
        check_open(
            week("fri", "22:00", "06:00"),
            "UTC",
            &[
                ("2026-01-02T21:59:59Z", false), // Friday
                ("2026-01-02T22:00:00Z", true),
                ("2026-01-03T05:59:59Z", true),
                ("2026-01-03T06:00:00Z", false),
                ("2026-01-03T22:30:00Z", false), // Saturday evening
                ("2026-01-02T05:00:00Z", false), // Friday morning
            ],
        );
        check_open(
            week("sat-sun", "00:00", "24:00"),
            "UTC",
            &[
                ("2026-01-02T23:59:59Z", false),
                ("2026-01-03T00:00:00Z", true),
                ("2026-01-04T23:59:59Z", true),
                ("2026-01-05T00:00:00Z", false),
            ],
        );
    }

    #[test]
    fn clock_changes_leave_no_hole_and_lose_no_window() {
        // 29 March 2026, 01:00Z: 02:00 becomes 03:00.
        check_open(
            week("sun", "02:30", "03:30"),
            BERLIN,
            &[
                ("2026-03-29T00:59:59Z", false),
                ("2026-03-29T01:00:00Z", true), // 03:00, the change itself
                ("2026-03-29T01:29:59Z", true),
                ("2026-03-29T01:30:00Z", false),
            ],
        );
        check_open(
            week("sun", "02:00", "02:45"),
            BERLIN,
            &[
                ("2026-03-29T00:59:59Z", false),
                ("2026-03-29T01:00:00Z", false), // The whole window was skipped.
                ("2026-03-29T01:30:00Z", false),
            ],
        );
        // 25 October 2026, 01:00Z: 03:00 becomes 02:00 again.
        check_open(
            week("sat", "22:00", "02:30"),
            BERLIN,
            &[
                ("2026-10-24T20:00:00Z", true),
                ("2026-10-25T00:29:59Z", true),
                ("2026-10-25T00:30:00Z", false), // The first 02:30.
                ("2026-10-25T01:15:00Z", false), // 02:15 again.
            ],
        );
        check_open(
            week("sun", "02:00", "03:00"),
            BERLIN,
            &[
                ("2026-10-25T00:00:00Z", true),
                ("2026-10-25T00:59:59Z", true),
                ("2026-10-25T01:59:59Z", true), // Two hours long, without a hole.
                ("2026-10-25T02:00:00Z", false),
            ],
        );
    }

    #[test]
    fn turns_change_at_the_local_time_of_handover() {
        let turns = Turns {
            starts: "2026-03-16".parse().expect("a date"), // A Monday.
            handover: time_of_day("09:00").expect("a time"),
            days: 7,
        };
        let turn = turn(turns, Zone::named(BERLIN).expect("a zone"));
        for (moment, wanted) in [
            ("2020-01-01T00:00:00Z", 0), // Before it began: the first one.
            ("2026-03-16T07:59:59Z", 0),
            ("2026-03-16T08:00:00Z", 0),
            ("2026-03-23T07:59:59Z", 0),
            ("2026-03-23T08:00:00Z", 1),
            ("2026-03-30T06:59:59Z", 1), // The week of the clock change is an hour short.
            ("2026-03-30T07:00:00Z", 2),
            ("2026-04-06T07:00:00Z", 3),
        ] {
            assert_eq!(turn.at(at(moment)), wanted, "{moment}");
        }
    }

    #[test]
    fn what_lies_beyond_the_calendar_is_closed() {
        let open = open(
            week("mon-sun", "00:00", "24:00"),
            Zone::named("UTC").expect("UTC"),
        );
        assert!(!open.at(WallTime(u64::MAX)));
        assert!(open.at(at("1970-01-02T00:00:00Z")));
    }

    #[test]
    fn days_times_and_zones_are_read_strictly() {
        let count = |text| days(text).map(|days| days.len());
        let counts = ["mon", "Monday", "mon-fri", "fri-mon", "sun-sat", "wek", ""].map(count);
        assert_eq!(
            counts,
            [Some(1), Some(1), Some(5), Some(4), Some(7), None, None]
        );
        let times = [
            "00:00", "09:30", "24:00", "24:01", "9:00", "12:60", "noon", "+9:00",
        ];
        assert_eq!(
            times.map(time_of_day),
            [
                Some(0),
                Some(570),
                Some(1_440),
                None,
                None,
                None,
                None,
                None
            ]
        );
        assert!(Zone::named("Middle/Earth").is_none());
        assert!(Zone::named("UTC").is_some());
    }
}
