//! Schedules, on-call rotations, maintenance, the heartbeat: what they become, what is wrong or doubtful.

use super::super::{Changes, diff};
use super::{good, lines, load_text};
use watchfire_engine::model::WallTime;
use watchfire_engine::policy::{Rank, Recipient};

const HOST: &str = "[[probe]]\nid = \"h\"\nplugin = \"probe-host\"\n";
const TEAM: &str = "[[notifier]]\nid = \"ann\"\nplugin = \"x\"\n[[notifier]]\nid = \"ben\"\nplugin = \"x\"\n[[on_call]]\nid = \"pager\"\nmembers = [\"ann\", \"ben\"]\n";

fn at(text: &str) -> WallTime {
    let moment: jiff::Timestamp = text.parse().expect("a moment");
    WallTime(moment.as_millisecond().unsigned_abs())
}

#[track_caller]
fn mistakes(text: &str, wanted: &[&str]) {
    let found = load_text(text).expect_err("a mistake");
    assert_eq!(lines(&found), wanted, "{text}");
}

#[track_caller]
fn doubts(text: &str, wanted: &[&str]) {
    assert_eq!(lines(&good(text).warnings), wanted, "{text}");
}

#[test]
fn a_route_has_hours_and_names_whose_turn_it_is() {
    let text = format!(
        "{TEAM}[[schedule]]\nid = \"day\"\ndays = \"mon-fri\"\nfrom = \"09:00\"\nto = \"17:00\"\n\
         [[route]]\nnotify = [\"pager\", \"pager:secondary\", \"ann\"]\nactive = \"day\"\nmute = [\"day\"]\n\
         escalate = [{{ after = \"5m\", notify = \"pager:secondary\" }}]\n"
    );
    let policy = good(&text).config.policy;
    let on_call = |rank| Recipient::OnCall {
        rotation: "pager".into(),
        rank,
    };
    let route = &policy.routes[0];
    assert_eq!(
        route.notify,
        [
            on_call(Rank::Primary),
            on_call(Rank::Secondary),
            Recipient::from("ann")
        ]
    );
    assert_eq!(route.escalate[0].notify, [on_call(Rank::Secondary)]);
    assert_eq!((&*route.active[0], &*route.mute[0]), ("day", "day"));
    let open = &policy.calendar.schedules[0].open;
    assert!(open.at(at("2026-01-05T09:00:00Z")) && !open.at(at("2026-01-05T17:00:00Z")));
    let rotation = &policy.calendar.rotations[0];
    let duty = |when: &str, rank| rotation.on_duty(rank, at(when)).expect("somebody").as_str();
    // Weeks of Mondays at nine, from 2024-01-01 on.
    assert_eq!(duty("2024-01-08T08:59:59Z", Rank::Primary), "ann");
    assert_eq!(duty("2024-01-08T08:59:59Z", Rank::Secondary), "ben");
    assert_eq!(duty("2024-01-08T09:00:00Z", Rank::Primary), "ben");
    assert_eq!(duty("2024-01-08T09:00:00Z", Rank::Secondary), "ann");
}

#[test]
fn maintenance_has_an_end_or_a_schedule() {
    let text = "[[maintenance]]\nid = \"m\"\nfrom = \"2026-01-05T22:00\"\nuntil = 2026-01-06T04:00:00+01:00\n\
                timezone = \"CET-1CEST,M3.5.0,M10.5.0/3\"\nscope = \"recover\"\nmatch = { rule = \"http-*\" }\n";
    let window = good(text).config.policy.maintenance[0].clone();
    assert_eq!(window.from, Some(at("2026-01-05T21:00:00Z")));
    assert_eq!(window.until, Some(at("2026-01-06T03:00:00Z")));
    assert_eq!((window.notify, window.recover), (false, true));
    mistakes(
        "[[maintenance]]\nid = \"m\"\nfrom = \"tomorrow\"\nscope = [\"all\"]\n",
        &[
            "1:1 `maintenance[m]` lacks `until` | maintenance ends: write until = \"2026-01-05T06:00\", or schedule = \"ID\" for one that recurs",
            "3:8 `from` wants a date and a time, found \"tomorrow\" | write from = \"2026-01-05T22:00\", of `timezone`, or with an offset: \"2026-01-05T22:00+01:00\"",
            "4:9 `scope` knows no \"all\" | write scope = [\"notify\", \"recover\"], or one of them",
            "4:9 `scope` stops nothing | leave it out for both, or write [\"recover\"]",
        ],
    );
    mistakes(
        "[[maintenance]]\nid = \"m\"\nfrom = \"2026-01-05T22:00\"\nuntil = \"2026-01-05T22:00\"\nschedule = \"nigth\"\n[[schedule]]\nid = \"night\"\nfrom = \"22:00\"\nto = \"06:00\"\n",
        &[
            "4:9 the maintenance ends before it begins | write a later `until`",
            "5:12 no schedule is called \"nigth\" | did you mean \"night\"?",
        ],
    );
}

#[test]
fn schedules_and_rotations_are_read_strictly() {
    mistakes(
        "[[schedule]]\nid = \"a\"\n[[schedule]]\nid = \"b\"\ndays = [\"mon-fry\"]\nfrom = \"9\"\ntimezone = \"Middle/Earth\"\n\
         [[schedule]]\nid = \"c\"\nfrom = \"09:00\"\nto = \"09:00\"\n",
        &[
            "1:1 `schedule[a]` lacks `days` | write days = [\"mon-fri\"], from = \"09:00\", to = \"17:00\"",
            "5:8 `days` knows no day \"mon-fry\" | write days = [\"mon-fri\"] or [\"sat\", \"sun\"]",
            "6:8 `from` wants a time of the day, found \"9\" | write from = \"09:00\"",
            "7:12 `timezone` names \"Middle/Earth\", which this host does not know | write timezone = \"Europe/Berlin\", \"UTC\" or \"local\"; the package tzdata brings the zones",
            "10:8 `from` and `to` leave no time between them | leave both out for whole days; a window over midnight has `to` before `from`",
        ],
    );
    mistakes(
        &format!(
            "{TEAM}every = \"36h\"\nstarts = \"soon\"\n[[on_call]]\nid = \"ann\"\nmembers = [\"bem\"]\n[[on_call]]\nid = \"e\"\nmembers = []\n\
             [[route]]\nnotify = [\"pagr\"]\nschedule = \"x\"\nactive = \"day\"\n"
        ),
        &[
            "10:9 `every` must be whole days, a year at most | write every = \"7d\"; for shifts within a day give routes `active` schedules",
            "11:10 `starts` is no date | write starts = \"2026-01-05\"",
            "13:6 there is a notifier with the id \"ann\", too | rename one: a route names both in `notify`",
            "14:12 no notifier is called \"bem\" | did you mean \"ben\"?",
            "15:1 `on_call[e]` lacks `members` | write the ids of the members' notifiers: members = [\"alice\", \"bob\"]",
            "19:11 no notifier is called \"pagr\" | write [[notifier]] id = \"pagr\", plugin = \"notifier-…\"",
            "20:1 `schedule` is not what the hours of a route are called | write active = \"ID\" or mute = \"ID\" with the id of a [[schedule]]",
            "21:10 no schedule is called \"day\" | write [[schedule]] id = \"day\", days = [\"mon-fri\"], from = \"09:00\", to = \"17:00\"",
        ],
    );
}

#[test]
fn hours_that_look_doubtful_are_told() {
    doubts(
        &format!(
            "{HOST}[[notifier]]\nid = \"ann\"\nplugin = \"x\"\n[[on_call]]\nid = \"pager\"\nmembers = [\"ann\"]\n\
             [[schedule]]\nid = \"day\"\ndays = \"mon\"\n[[schedule]]\nid = \"idle\"\ndays = \"tue\"\n\
             [[route]]\nmatch = {{ severity = \"low\" }}\nnotify = [\"ann\"]\nactive = \"day\"\n[[route]]\nnotify = [\"ann\"]\nmute = \"day\"\n"
        ),
        &[
            "8:6 no route names the rotation \"pager\" | write [[route]] notify = [\"pager\"]",
            "9:12 \"pager\" has one member, who is always on call, and second in line as well | name at least two members, or write the notifier in `notify`",
            "14:6 no route and no maintenance uses the schedule \"idle\" | write active = \"idle\" in a [[route]]; silences that recur can use it, too",
            "22:8 this route takes critical alerts, and nobody hears of them while it is closed | add match = { severity = [\"low\", \"warning\"] }, or continue = true and a route below",
        ],
    );
    // A member of a rotation that a route names is reached.
    doubts(
        &format!("{HOST}{TEAM}[[route]]\nnotify = [\"pager\"]\n"),
        &[],
    );
}

#[test]
fn the_heartbeat_has_an_address_that_is_never_printed() {
    let text = "[secrets]\nbeat = { env = \"BEAT\" }\n[heartbeat]\nurl = \"https://h.example/{{secret:beat}}\"\n";
    let heartbeat = good(text).config.heartbeat.expect("a heartbeat");
    assert_eq!(heartbeat.every.as_secs(), 60);
    assert!(!format!("{heartbeat:?}").contains("h.example"));
    mistakes(
        "[heartbeat]\nurl = \"{{secret:beat}}\"\nevery = \"10ms\"\n",
        &[
            "2:7 no secret is called \"beat\" | write [secrets] beat = { env = \"NAME\" }",
            "3:9 `every` must lie between a second and a day | write every = \"60s\"",
        ],
    );
    mistakes(
        "[heartbeat]\nurl = \"K3yThatIsNoAddress\"\n",
        &[
            "2:7 `url` is no address | write url = \"https://…\", or \"{{secret:NAME}}\" for all of it",
        ],
    );
    mistakes(
        "[heartbeat]\n",
        &[
            "1:1 `heartbeat` lacks `url` | write url = \"https://hc-ping.com/…\", or \"{{secret:NAME}}\"",
        ],
    );
}

#[test]
fn a_reload_tells_which_hours_changed() {
    let base = format!(
        "{TEAM}[[schedule]]\nid = \"day\"\ndays = \"mon-fri\"\n[heartbeat]\nurl = \"http://h/\"\n[[maintenance]]\nid = \"m\"\nschedule = \"day\"\n"
    );
    let changed = |from: &str, to: &str| {
        let edited = base.replace(from, to);
        diff(&good(&base).config, &good(&edited).config)
    };
    assert_eq!(
        changed("mon-fri", "mon-fri\"\nfrom = \"00:00"),
        Changes::default()
    );
    for (from, to, table) in [
        ("mon-fri", "mon-thu", "schedule"),
        (
            "id = \"pager\"",
            "id = \"pager\"\nevery = \"1d\"",
            "on_call",
        ),
        (
            "id = \"m\"",
            "id = \"m\"\nscope = \"notify\"",
            "maintenance",
        ),
        ("http://h/", "http://h/x", "heartbeat"),
    ] {
        assert_eq!(changed(from, to).tables, [table]);
    }
}
