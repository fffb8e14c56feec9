//! Hours of a route, and the heartbeat to an outside dead-man's switch, in the real binary.

use crate::configs::{QUEUE_RULE, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, wait_for};

/// A hook on a route that is open on this day of the week alone.
fn timed_hook(sink: &Server, days: &str) -> String {
    format!(
        r#"
[[schedule]]
id   = "hours"
days = ["{days}"]

[[notifier]]
id     = "hook"
plugin = "notifier-webhook"
grant  = {{ http = ["http://{sink}"] }}
config = {{ url = "http://{sink}/hook" }}

[[route]]
notify     = ["hook"]
active     = "hours"
group_by   = []
group_wait = "0s"
"#,
        sink = sink.address()
    )
}

/// The day after tomorrow, so that no midnight during the test opens it.
fn another_day() -> String {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let later = today.weekday().wrapping_add(2);
    format!("{later:?}").to_lowercase()
}

#[test]
fn what_fires_outside_the_hours_of_its_route_is_told_when_it_opens() {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let parts = |days: &str| {
        [
            queue_probe(&source),
            QUEUE_RULE.to_owned(),
            timed_hook(&sink, days),
        ]
        .concat()
    };
    let folder = Folder::new(&parts(&another_day()));
    let agent = Agent::start(&folder);
    let alert = wait_for("the alert that is muted", || {
        let alerts = agent.get("/health/detailed")?["alerts"].clone();
        alerts.as_array()?.first().cloned()
    });
    let muted = alert["muted_by"].to_string();
    assert!(muted.contains("outside schedule hours"), "{alert}");
    assert_eq!(sink.received().len(), 0, "the route is closed");

    folder.write_config(&parts("mon-sun"));
    let page = wait_for("the late page", || sink.received().first().cloned()).json();
    assert_eq!(page["reason"], "fire");
    assert_eq!(page["alerts"][0]["rule"], "queue-long");

    // A resolve passes a closed route.
    folder.write_config(&parts(&another_day()));
    wait_for("the closed route is live", || {
        let alerts = agent.get("/health/detailed")?["alerts"].to_string();
        alerts.contains("outside schedule hours").then_some(())
    });
    source.always(Answer::json(r#"{"queue": 3}"#));
    let resolve = wait_for("the resolve", || sink.received().get(1).cloned()).json();
    assert_eq!(resolve["reason"], "resolve");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn the_heartbeat_goes_out_while_rounds_are_decided_and_its_address_stays_secret() {
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let switch = Server::start(Answer::status(200));
    let folder = Folder::new("");
    folder.write("beat", &format!("{}\n", switch.url("/ping/k3yOfTheSwitch")));
    let config = "\n[secrets]\nbeat = { file = \"beat\" }\n\n[heartbeat]\nurl = \"{{secret:beat}}\"\nevery = \"1s\"\n";
    folder.write_config(&[&queue_probe(&source), config].concat());
    let agent = Agent::start(&folder);
    let beat = wait_for("two beats", || switch.received().get(1).cloned());
    assert_eq!(beat.line, "GET /ping/k3yOfTheSwitch");
    assert_eq!(beat.body, "");

    let count = |outcome: &str| {
        let name = format!("watchfire_heartbeats_total{{outcome=\"{outcome}\"}} ");
        let metrics = agent.text("/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line?.parse::<f64>().ok()
    };
    wait_for("sent beats are counted", || count("sent"));
    // The service fails: counted, said once, and no alert.
    switch.always(Answer::status(503));
    wait_for("failed beats are counted", || {
        count("failed").filter(|failed| *failed >= 2.0)
    });
    assert_eq!(agent.log().matches("heartbeat did not arrive").count(), 1);
    assert_eq!(agent.get("/health").unwrap()["status"], "healthy");

    // A redirect is no arrival, and is not followed.
    let mut elsewhere = Answer::status(302);
    elsewhere.headers = format!("location: {}\r\n", source.url("/elsewhere"));
    let before = count("failed").unwrap_or_default();
    switch.always(elsewhere);
    wait_for("a redirect counts as failed", || {
        count("failed").filter(|failed| *failed >= before + 2.0)
    });
    let strayed = source.received();
    assert!(
        !strayed
            .iter()
            .any(|request| request.line.contains("elsewhere"))
    );

    switch.always(Answer::status(204));
    wait_for("it arrives again", || {
        agent.log().contains("arrives again").then_some(())
    });
    assert!(!agent.log().contains("k3yOfTheSwitch"), "{}", agent.log());
    assert!(!agent.text("/metrics").unwrap().contains("k3yOfTheSwitch"));
    assert_eq!(agent.terminate(), Some(0));
}
