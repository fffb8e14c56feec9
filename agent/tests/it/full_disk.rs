//! A start on a disk that takes nothing: the agent watches and tells all the same.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::support::{Agent, Answer, Folder, Server, wait_for};
use std::process::Command;

/// What lies under the data folder, and what the log says of it.
const DISKS: [(&str, &[&str]); 2] = [
    ("ro", &["there is no token", "the socket cannot be made"]),
    ("size=4k", &["there is no token"]),
];

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "file systems are mounted by tools of the system"
)]
fn a_first_start_on_a_disk_that_takes_nothing_watches_and_tells() {
    for (options, words) in DISKS {
        let source = Server::start(Answer::json(r#"{"queue": 250}"#));
        let sink = Server::start(Answer::json("{}"));
        let parts = [queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)];
        let folder = Folder::new(&parts.concat());
        let data = folder.path("data");
        let script = format!(
            "mount -t tmpfs -o {options} none {} && exec \"$0\" \"$@\"",
            data.display()
        );
        let wrapper = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            &script,
        ];
        let tried = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg("true")
            .output();
        if !tried.is_ok_and(|output| output.status.success()) {
            println!("skipped: this machine gives no namespace with mounts of its own");
            return;
        }
        let agent = Agent::spawn_under(&folder, &wrapper, &[]);
        let page = wait_for("the page", || sink.received().first().cloned());
        assert_eq!(page.json()["reason"], "fire");
        for words in words {
            assert!(agent.log().contains(words), "{options}: {}", agent.log());
        }
        assert_eq!(agent.terminate(), Some(0));
    }
}
