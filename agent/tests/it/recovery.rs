//! Recovery: what one dares to switch on, and what it never does by itself.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, wait_for};

pub(crate) fn procedure(target: &Server, mode: &str) -> String {
    format!(
        r#"
[recover]
boot_grace = "0s"

[[recovery]]
id           = "drain"
plugin       = "action-http"
rules        = ["queue-long"]
severity     = "critical"
mode         = "{mode}"
max_attempts = 2
window       = "1h"
cooldown     = "300ms"
timeout      = "5s"
verify_after = "200ms"
grant        = {{ http = ["http://{address}"] }}
config       = {{ url = "http://{address}/drain" }}
"#,
        address = target.address()
    )
}

struct Scene {
    source: Server,
    sink: Server,
    target: Server,
    agent: Agent,
    _folder: Folder,
}

fn scene(mode: &str) -> Scene {
    scene_verified_after("200ms", mode)
}

/// `after`: longer than a test needs to make things well once the action was called.
fn scene_verified_after(after: &str, mode: &str) -> Scene {
    let source = Server::start(Answer::json(r#"{"queue": 250}"#));
    let sink = Server::start(Answer::json("{}"));
    let target = Server::start(Answer::json("{}"));
    let parts = [
        queue_probe(&source),
        QUEUE_RULE.to_owned(),
        hook(&sink),
        procedure(&target, mode).replace("\"200ms\"", &format!("{after:?}")),
    ];
    let folder = Folder::new(&parts.concat());
    let agent = Agent::start(&folder);
    Scene {
        source,
        sink,
        target,
        agent,
        _folder: folder,
    }
}

impl Scene {
    /// Steps of the procedure so far, in order.
    fn steps(&self) -> Vec<String> {
        let Some(events) = self.agent.get("/events?since=0&type=action") else {
            return Vec::new();
        };
        let events = events["events"].as_array().cloned().unwrap_or_default();
        events
            .iter()
            .map(|event| event["step"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn wait_for_step(&self, step: &str) {
        wait_for(step, || {
            self.steps().iter().any(|s| s == step).then_some(())
        });
    }
}

#[test]
fn auto_acts_and_stops_once_a_later_sample_is_fine() {
    let scene = scene_verified_after("3s", "auto");
    wait_for("the call", || scene.target.received().first().cloned());
    scene.source.always(Answer::json(r#"{"queue": 3}"#));
    scene.wait_for_step("verified_ok");
    assert_eq!(scene.steps(), ["start", "end", "verified_ok"]);
    assert_eq!(scene.target.received().len(), 1);
    let status = scene.agent.get("/recovery/status").unwrap();
    assert_eq!(status["success_rate"], 1.0, "{status}");
}

#[test]
fn auto_gives_up_after_its_attempts_and_says_so() {
    let scene = scene("auto");
    scene.wait_for_step("exhausted");
    assert_eq!(
        scene.steps(),
        [
            "start",
            "end",
            "verified_fail",
            "start",
            "end",
            "verified_fail",
            "exhausted"
        ]
    );
    let told = wait_for("the message that recovery gave up", || {
        let received = scene.sink.received();
        received
            .into_iter()
            .find(|message| message.json()["reason"] == "exhausted")
    });
    assert_eq!(told.json()["alerts"][0]["severity"], "critical");
    assert_eq!(
        scene.target.received().len(),
        2,
        "no attempt beyond the limit"
    );
}

#[test]
fn observe_only_says_what_it_would_do() {
    let scene = scene("observe");
    scene.wait_for_step("would_start");
    scene.source.always(Answer::json(r#"{"queue": 3}"#));
    wait_for("the resolve", || scene.sink.received().get(1).cloned());
    assert_eq!(scene.target.received().len(), 0);
}

#[test]
fn approve_waits_for_an_operator() {
    let scene = scene_verified_after("3s", "approve");
    let (status, body) = scene.agent.post("/recovery/nonsense/approve");
    assert!((400..500).contains(&status), "{status} {body}");
    scene.wait_for_step("approval_wanted");
    assert_eq!(
        scene.target.received().len(),
        0,
        "nothing runs before the approval"
    );
    let (status, body) = scene.agent.post("/recovery/drain/approve");
    assert_eq!(status, 200, "{body}");
    wait_for("the approved call", || {
        scene.target.received().first().cloned()
    });
    scene.source.always(Answer::json(r#"{"queue": 3}"#));
    scene.wait_for_step("verified_ok");
}

#[test]
fn paused_means_paused() {
    let source = Server::start(Answer::json(r#"{"queue": 3}"#));
    let sink = Server::start(Answer::json("{}"));
    let target = Server::start(Answer::json("{}"));
    let parts = [
        queue_probe(&source),
        QUEUE_RULE.to_owned(),
        hook(&sink),
        procedure(&target, "auto"),
    ];
    let folder = Folder::new(&parts.concat());
    let agent = Agent::start(&folder);
    assert_eq!(agent.post("/recovery/pause").0, 200);
    source.always(Answer::json(r#"{"queue": 250}"#));
    wait_for("the page", || sink.received().first().cloned());
    let rounds = |agent: &Agent| {
        agent.get("/health/events").unwrap()["rounds"]["total"]
            .as_u64()
            .unwrap()
    };
    let seen = rounds(&agent);
    wait_for("five more rounds", || {
        (rounds(&agent) >= seen + 5).then_some(())
    });
    assert_eq!(target.received().len(), 0);
    assert_eq!(agent.post("/recovery/resume").0, 200);
    wait_for("the call once resumed", || {
        target.received().first().cloned()
    });
}
