//! Limits of inotify are reached: files are polled, everybody is told, and raising the limits heals it.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, guests, now, wait_for};
use std::fs;
use std::process::{Command, Output};

/// Both limits, of a user namespace of its own, and what the operator is told to raise.
const LIMITS: [(&str, &str); 2] = [
    ("max_inotify_instances", "fs.inotify.max_user_instances"),
    ("max_inotify_watches", "fs.inotify.max_user_watches"),
];

#[expect(
    clippy::disallowed_methods,
    reason = "limits are set by tools of the system"
)]
fn tool(words: &[&str]) -> std::io::Result<Output> {
    Command::new(words[0]).args(&words[1..]).output()
}

/// Words that set a limit to 0 for what they execute.
fn without(limit: &str) -> Vec<String> {
    let script = format!("echo 0 > /proc/sys/user/{limit} && exec \"$0\" \"$@\"");
    ["unshare", "--user", "--map-root-user", "sh", "-c", &script]
        .map(str::to_owned)
        .to_vec()
}

fn degraded(agent: &Agent) -> Option<String> {
    let config = agent.get("/api/v1/config")?;
    Some(config["watch_degraded"].as_str()?.to_owned())
}

fn rules(agent: &Agent) -> Option<usize> {
    Some(agent.get("/api/v1/rules")?.as_array()?.len())
}

#[test]
fn where_inotify_has_no_room_files_are_polled_and_it_says_so() {
    for (limit, advice) in LIMITS {
        let wrapper = without(limit);
        let mut words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        words.push("true");
        if !tool(&words).is_ok_and(|output| output.status.success()) {
            println!("skipped: this machine gives no user namespace with limits of its own");
            return;
        }
        words.pop();
        let source = Server::start(Answer::json(r#"{"queue": 7}"#));
        let sink = Server::start(Answer::json("{}"));
        let parts = [queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)];
        let config = parts.concat();
        let folder = Folder::new(&config);
        let agent = Agent::spawn_under(&folder, &words, &[]);
        agent.wait_ready();

        // Everybody is told: the log, the health, whoever gets alerts.
        let reason = wait_for("it says that it is degraded", || degraded(&agent));
        assert!(reason.contains(advice), "{limit}: {reason}");
        assert!(agent.log().contains("found by polling"), "{}", agent.log());
        let health = agent.text("/health/detailed").unwrap();
        assert!(health.contains("watchfire_watch_degraded"), "{health}");
        let told = wait_for("the meta-alert is sent", || {
            let messages = sink.received().into_iter().map(|message| message.json());
            messages
                .map(|message| message["alerts"][0].clone())
                .find(|alert| alert["rule"] == "watchfire_watch_degraded")
        });
        assert_eq!(told["severity"], "low");

        // An edit and a component are found all the same.
        let more = QUEUE_RULE.replace("queue-long", "queue-longer");
        let edited = now();
        folder.write_config(&format!("{config}{more}"));
        wait_for("the edit is found", || (rules(&agent)? == 2).then_some(()));
        println!(
            "{limit} = 0: an edit is served after {:?}",
            edited.elapsed()
        );
        fs::copy(
            guests::component("example-probe"),
            folder.path("data/plugins/example.wasm"),
        )
        .unwrap();
        wait_for("the component is found", || {
            agent
                .text("/metrics")
                .filter(|text| text.contains("\nexample_"))
        });

        // More room: the folders are watched again, and nothing has to be restarted.
        let pid = agent.pid().to_string();
        let raise = format!("echo 100 > /proc/sys/user/{limit}");
        let raised = tool(&["nsenter", "--target", &pid, "--user", "sh", "-c", &raise]);
        let raised = raised.unwrap();
        assert!(raised.status.success(), "{raised:?}");
        wait_for("it is healed", || degraded(&agent).is_none().then_some(()));
        wait_for("the log says so", || {
            let log = agent.log();
            log.contains("all folders are watched again").then_some(())
        });
        folder.write_config(&config);
        wait_for("an event tells of an edit", || {
            (rules(&agent)? == 1).then_some(())
        });
    }
}
