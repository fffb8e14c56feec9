//! What strangers say reaches people and machines as text: it steers no terminal, breaks no line, forges no sample.

use crate::configs::hook;
use crate::containment::hand_made;
use crate::support::{Agent, Answer, Folder, Server, command, hostile, wait_for};
use std::io::Write as _;
use std::process::Stdio;

/// A probe whose labels are hostile, one whose error is, and a rule that makes alerts of them.
const STRANGERS: &str = r#"
[[probe]]
id = "strange"
plugin = "hostile"
every = "1s"
timeout = "900ms"
config = { do = "strange text" }

[[probe]]
id = "strange-error"
plugin = "hostile"
every = "1s"
timeout = "900ms"
config = { do = "fail strangely" }

[[rule]]
id = "odd"
metric = "strange"
keep = "0s"
config = { above = { critical = 1e-320 } }
"#;

/// Pieces of what the guest says, as it says them.
const RAW: [&str; 8] = [
    "\u{1b}", "\u{202e}", "\u{2066}", "\u{9b}", "\u{7f}", "\u{feff}", "\0", "\r",
];

/// A line or a screen for a terminal: nothing of it acts.
#[track_caller]
fn harmless(what: &str, text: &str) {
    for raw in RAW {
        assert!(!text.contains(raw), "{what} shows {raw:?}: {text:?}");
    }
}

/// Output of a command of the operator's.
fn screen(folder: &Folder, words: &[&str]) -> String {
    let output = command()
        .args(words)
        .arg("--socket")
        .arg(folder.path("data/watchfire.sock"))
        .output()
        .unwrap();
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8(all).unwrap()
}

/// What a checker from outside says about the exposition; none: it is not installed.
#[expect(
    clippy::disallowed_methods,
    reason = "an outside reader of the format judges it"
)]
fn promtool(text: &str) -> Option<(bool, String)> {
    let mut child = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[test]
fn hostile_text_stays_text_wherever_it_is_shown() {
    let sink = Server::start(Answer::json("{}"));
    let folder = Folder::new(&(STRANGERS.to_owned() + &hook(&sink)));
    hostile::install(&folder);
    let agent = Agent::start(&folder);
    let pages = wait_for(
        "pages about infinity, 1e308 and the smallest number",
        || {
            let pages: Vec<serde_json::Value> = sink.received().iter().map(|r| r.json()).collect();
            (pages.len() >= 3).then_some(pages)
        },
    );
    // As JSON the text is whole, and no number is none.
    let text_of = |page: &serde_json::Value| page["alerts"][0]["labels"]["text"].clone();
    let texts: Vec<_> = pages.iter().map(text_of).collect();
    assert!(
        texts.contains(&"<script>alert(1)</script>".into()),
        "{texts:?}"
    );
    wait_for("the error of the other", || {
        let probes = agent.get("/api/v1/probes")?;
        let all = probes.as_array()?.clone();
        let failing = all.iter().find(|probe| probe["id"] == "strange-error")?;
        failing["error"].as_str()?.contains("$(id)").then_some(())
    });

    // The exposition has one line a sample, and nobody forged one.
    let metrics = agent.text("/metrics").unwrap();
    let strange: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("strange{"))
        .collect();
    assert_eq!(strange.len(), 6, "{strange:#?}");
    for value in ["NaN", "+Inf", "-Inf", "-0", "1e308", "5e-324"] {
        let ends = |line: &&&str| line.ends_with(&format!("\"}} {value}"));
        assert_eq!(
            strange.iter().filter(ends).count(),
            1,
            "{value}: {strange:#?}"
        );
    }
    assert!(!metrics.lines().any(|line| line.starts_with("forged")));
    assert!(!metrics.contains('\u{1b}') && !metrics.contains('\0') && !metrics.contains('\r'));
    match promtool(&metrics) {
        Some((passed, said)) => assert!(passed, "{said}"),
        None => eprintln!("SKIPPED: promtool is not installed"),
    }

    for path in [
        "/api/v1/probes",
        "/api/v1/rules",
        "/api/v1/alerts",
        "/api/v1/plugins",
        "/api/v1/incidents",
        "/events?limit=100",
        "/health/detailed",
        "/api/v2/alerts",
    ] {
        let text = agent.text(path).unwrap();
        serde_json::from_str::<serde_json::Value>(&text)
            .unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        // JSON's own escapes: a browser that is shown the text as a page finds no control character.
        assert!(!text.contains('\u{1b}') && !text.contains('\0'), "{path}");
        assert!(
            !text.contains("NaN") || text.contains("\"NaN"),
            "{path}: {text}"
        );
    }

    for words in [
        &["status"][..],
        &["alerts"],
        &["events"],
        &["explain", "odd"],
        &["incident"],
        &["incident", "odd"],
        &["plugin", "list"],
    ] {
        harmless(&words.join(" "), &screen(&folder, words));
    }

    // One event, one line, each with its time in front.
    let log = agent.log();
    assert!(
        log.contains("alert(1)"),
        "the guest's own line is there: {log}"
    );
    harmless("the log", &log);
    for line in log.lines() {
        assert!(line.starts_with("20"), "a line of its own: {line:?}");
    }
    agent.terminate();

    // The same as JSON, from a second life.
    let config = format!("\n[log]\nformat = \"json\"\n{STRANGERS}{}", hook(&sink));
    folder.write_config(&config);
    let agent = Agent::start(&folder);
    let seen = || {
        let log = agent.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.starts_with('{')).collect();
        let said = lines
            .iter()
            .filter(|line| line.contains("alert(1)"))
            .count();
        (said > 0).then(|| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())
    };
    for line in wait_for("the guest's words as JSON", seen) {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line["@timestamp"].is_string(), "{line}");
    }
}

#[test]
fn a_probe_that_makes_series_without_end_keeps_those_it_has() {
    let sink = Server::start(Answer::json("{}"));
    let config = r#"
[[probe]]
id = "exploding"
plugin = "hostile"
every = "1s"
timeout = "900ms"
config = { do = "new labels", at = "9000" }
"#;
    let folder = Folder::new(&(config.to_owned() + &hook(&sink)));
    hostile::install(&folder);
    let agent = Agent::start(&folder);
    let refused = || {
        let pages = sink.received();
        let pages = pages.iter().map(|page| page.json());
        let about =
            |page: &serde_json::Value| page["alerts"][0]["rule"] == "watchfire_series_refused";
        pages.filter(about).collect::<Vec<_>>()
    };
    let page = wait_for("the page about refused series", || {
        refused().first().cloned()
    });
    assert_eq!(page["alerts"][0]["labels"]["probe"], "exploding");
    assert!(page.to_string().contains("has 20000 series"), "{page}");

    // The one that was there before all others goes on, however many come.
    let always = || {
        let metrics = agent.text("/metrics")?;
        let line = metrics
            .lines()
            .find(|line| line.contains("n=\"always\""))?
            .to_owned();
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let then = wait_for("its value", always);
    wait_for("its next values", || {
        (always()? >= then + 3.0).then_some(())
    });
    let metrics = agent.text("/metrics").unwrap();
    let series = metrics
        .lines()
        .filter(|line| line.starts_with("exploding{"));
    assert!(series.count() <= 20_000);
    assert!(
        metrics.contains(
            "watchfire_samples_refused_total{probe=\"exploding\",reason=\"over_limit\"} "
        )
    );
    assert_eq!(refused().len(), 1, "told once");
    let told = agent.log().matches("yields new ones").count();
    assert_eq!(told, 1, "logged once");
}

#[test]
fn a_series_of_two_probes_belongs_to_the_first_in_the_configuration() {
    let sink = Server::start(Answer::json("{}"));
    let probe = |id: &str| {
        format!(
            "\n[[probe]]\nid = {id:?}\nplugin = \"shared\"\nevery = \"1s\"\ntimeout = \"900ms\"\n"
        )
    };
    // Not the order of the alphabet.
    let folder = Folder::new(&(probe("zebra") + &probe("ant") + &hook(&sink)));
    let component = hand_made::probe(&hand_made::one_point(""), hand_made::TEXTS);
    std::fs::write(folder.path("data/plugins/shared.wasm"), component).unwrap();
    for life in ["the first", "the second"] {
        let agent = Agent::start(&folder);
        let summary = wait_for(&format!("the meta-alert in {life} life"), || {
            let alerts = agent.get("/api/v1/alerts")?;
            let alerts = alerts["alerts"].as_array()?.clone();
            let mut refused = alerts
                .iter()
                .filter(|alert| alert["rule"] == "watchfire_series_refused");
            let alert = refused.next()?;
            assert_eq!(alert["labels"]["probe"], "ant", "{alert}");
            assert!(refused.next().is_none(), "one, not one a round");
            Some(alert.to_string())
        });
        assert!(summary.contains("probe \\\"zebra\\\"'s"), "{summary}");
        wait_for("the refusals are counted", || {
            let metrics = agent.text("/metrics")?;
            metrics
                .contains("watchfire_samples_refused_total{probe=\"ant\",reason=\"duplicate\"}")
                .then_some(())
        });
        let metrics = agent.text("/metrics").unwrap();
        let samples = metrics.lines().filter(|line| line.starts_with("metric"));
        assert_eq!(samples.count(), 1);
        agent.terminate();
    }
}
