//! The scenarios: configurations, what series show when, what operators do, how services answer.

use std::time::Duration;
use watchfire_engine::input::DeliveryOutcome;

/// One scenario. Times are seconds from its begin.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Behind [`HEAD`].
    pub(super) config: &'static str,
    /// `[alerting] flapping`.
    pub(super) flapping: &'static str,
    /// `rule/instance` and a timeline of `ok`, `warn`, `crit`, `_` (absent), `E` (the probe failed); each
    /// at its second. `fixed` is `crit` until an action was done, then `ok`.
    pub(super) shows: &'static [(&'static str, &'static str)],
    pub(super) events: &'static [(u64, Doing)],
    /// Notifier and a timeline of statuses; `down` is a refused connection. Others answer 200.
    pub(super) answers: &'static [(&'static str, &'static str)],
    /// From handing a message out to its answer.
    pub(super) delivery_takes_ms: u64,
    pub(super) end: u64,
    /// A crash may lose an attempt: it is counted and never run again, so that recovery takes another
    /// course than without the crash.
    pub(super) recovers: bool,
    /// Its messages overtake one another while they wait, so that a retry after the crash may tell at
    /// once what was overtaken without it, or the other way round: which of them arrive is no rule.
    pub(super) overtakes: bool,
}

/// Something from outside.
#[derive(Debug)]
pub(super) enum Doing {
    Acknowledge(&'static str),
    Silence {
        rule: &'static str,
        from: u64,
        until: u64,
    },
    /// The new configuration.
    Reload(&'static str),
    ConfigInvalid(bool),
    Pause,
    Resume,
    Approve(&'static str),
}

impl Scenario {
    /// What a series shows at a second; `acted`: how many actions were done.
    pub(super) fn shown(&self, series: &str, secs: u64, acted: usize) -> &'static str {
        let (_, timeline) = self
            .shows
            .iter()
            .find(|(name, _)| *name == series)
            .expect("a series");
        match at(timeline, secs) {
            "fixed" if acted == 0 => "crit",
            "fixed" => "ok",
            shown => shown,
        }
    }

    /// How a notifier's service answers at a second.
    pub(super) fn answer(&self, notifier: &str, secs: u64) -> DeliveryOutcome {
        let told = self.answers.iter().find(|(name, _)| *name == notifier);
        let status = told.map_or("200", |(_, timeline)| at(timeline, secs));
        let message = format!("the service answered {status}");
        match status {
            "200" => DeliveryOutcome::Accepted { remote_id: None },
            "down" => DeliveryOutcome::Failed {
                message,
                retry_after: None,
                answered: false,
            },
            "429" => DeliveryOutcome::Failed {
                message,
                retry_after: Some(Duration::from_secs(20)),
                answered: true,
            },
            "503" => DeliveryOutcome::Failed {
                message,
                retry_after: None,
                answered: true,
            },
            _ => DeliveryOutcome::Refused { message },
        }
    }
}

/// The word of `a@0 b@10` that holds at a second.
fn at(timeline: &'static str, secs: u64) -> &'static str {
    let words = timeline.split_whitespace().map(|word| {
        let (word, from) = word.split_once('@').expect("WORD@SECOND");
        (word, from.parse::<u64>().expect("seconds"))
    });
    let mut held = words.filter(|(_, from)| *from <= secs);
    held.next_back().expect("a word from second 0 on").0
}

/// In front of every configuration: nothing waits, repeats or flaps unless a scenario says so.
pub(super) const HEAD: &str = r#"
[agent]
host = "simulated"

[defaults]
every = "10s"

[alerting]
stale_after = "25s"
gone_after  = 3
keep        = "0s"
meta_keep   = "0s"
flapping    = FLAPPING

[delivery]
first_retry = "5s"
factor      = 2
max_retry   = "5m"
jitter      = 0
fallback    = "spare"

[recover]
concurrency = 1
per_hour    = 1000
boot_grace  = "0s"

[[notifier]]
id     = "pager"
plugin = "notifier-log"

[[notifier]]
id     = "spare"
plugin = "notifier-log"

[[notifier]]
id     = "boss"
plugin = "notifier-log"
"#;

const PLAIN: &str = r#"
[[route]]
notify         = ["pager"]
group_by       = []
group_wait     = "0s"
group_interval = "0s"
repeat         = "0s"

[[rule]]
id     = "cpu"
metric = "cpu"
config = { above = { warning = 80, critical = 90 } }
"#;

const FOR_AND_KEEP: &str = r#"
[[route]]
notify         = ["pager", "boss"]
group_by       = []
group_wait     = "0s"
group_interval = "0s"
repeat         = "0s"

[[rule]]
id     = "cpu"
metric = "cpu"
for    = "30s"
keep   = "30s"
config = { above = { warning = 80, critical = 90 } }
"#;

const REPEATS: &str = r#"
[[route]]
notify         = ["pager"]
group_by       = []
group_wait     = "0s"
group_interval = "0s"
repeat         = "100s"
escalate       = [{ after = "150s", notify = ["boss"] }]

[[rule]]
id     = "cpu"
metric = "cpu"
config = { above = { warning = 80, critical = 90 } }
"#;

const GROUPS: &str = r#"
[[route]]
notify         = ["pager"]
group_by       = ["rule"]
group_wait     = "15s"
group_interval = "40s"
repeat         = "0s"

[[rule]]
id     = "disk"
metric = "disk"
config = { above = { warning = 80, critical = 90 } }
"#;

const INHIBITED: &str = r#"
[[route]]
notify         = ["pager"]
group_by       = []
group_wait     = "0s"
group_interval = "0s"
repeat         = "0s"

[[rule]]
id     = "host"
metric = "host"
config = { above = { warning = 80, critical = 90 } }

[[rule]]
id     = "app"
metric = "app"
config = { above = { warning = 80, critical = 90 } }

[[rule]]
id       = "both"
all      = ["host", "app"]
severity = "critical"

[[inhibit]]
source = ["host"]
target = ["app"]
"#;

/// With a recovery in this mode, which may try so often.
macro_rules! recovery {
    ($mode:literal, $most:literal) => {
        concat!(
            r#"
[[route]]
notify         = ["pager"]
group_by       = []
group_wait     = "0s"
group_interval = "0s"
repeat         = "0s"

[[rule]]
id     = "cpu"
metric = "cpu"
config = { above = { warning = 80, critical = 90 } }

[[recovery]]
id           = "fix"
plugin       = "action-command"
rules        = ["cpu"]
cooldown     = "30s"
verify_after = "15s"
timeout      = "30s"
mode         = ""#,
            $mode,
            "\"\nmax_attempts = ",
            $most
        )
    };
}

const QUIET: Scenario = Scenario {
    name: "",
    config: PLAIN,
    flapping: "false",
    shows: &[],
    events: &[],
    answers: &[],
    delivery_takes_ms: 0,
    end: 0,
    recovers: false,
    overtakes: false,
};

/// All of them. Each ends with everything healthy and every service well, long enough to settle.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "fires, escalates, de-escalates, resolves, twice",
        shows: &[("cpu", "ok@0 warn@10 crit@30 warn@50 ok@70 crit@90 ok@110")],
        end: 150,
        ..QUIET
    },
    Scenario {
        name: "deliveries that take longer than a round",
        shows: &[
            ("cpu/a", "ok@0 warn@10 crit@30 ok@60"),
            ("cpu/b", "ok@0 crit@20 ok@40 crit@50 ok@60"),
        ],
        delivery_takes_ms: 14_000,
        end: 200,
        ..QUIET
    },
    Scenario {
        name: "for and keep, to two notifiers",
        config: FOR_AND_KEEP,
        shows: &[("cpu", "ok@0 crit@10 ok@60 crit@80 ok@100")],
        end: 200,
        ..QUIET
    },
    Scenario {
        name: "unknown and absent series, and a probe that fails",
        shows: &[
            ("cpu/a", "ok@0 crit@10 E@30 crit@80 ok@100"),
            ("cpu/b", "ok@0 crit@10 E@30 crit@80 _@90"),
        ],
        end: 200,
        ..QUIET
    },
    Scenario {
        name: "repeats, an acknowledgement, an escalation step",
        config: REPEATS,
        shows: &[
            ("cpu/a", "ok@0 warn@10 ok@440"),
            ("cpu/b", "ok@0 crit@20 ok@300"),
        ],
        events: &[(250, Doing::Acknowledge("cpu"))],
        end: 500,
        ..QUIET
    },
    Scenario {
        name: "a silence over the onset, another over the resolve",
        shows: &[("cpu", "ok@0 crit@20 ok@100")],
        events: &[
            (
                5,
                Doing::Silence {
                    rule: "cpu",
                    from: 10,
                    until: 50,
                },
            ),
            (
                75,
                Doing::Silence {
                    rule: "cpu",
                    from: 75,
                    until: 150,
                },
            ),
        ],
        end: 200,
        ..QUIET
    },
    Scenario {
        name: "a group that grows, and resolves in parts",
        config: GROUPS,
        shows: &[
            ("disk/a", "ok@0 warn@10 ok@110"),
            ("disk/b", "ok@0 warn@20 ok@70"),
            ("disk/c", "ok@0 warn@40 crit@60 ok@110"),
        ],
        end: 250,
        ..QUIET
    },
    Scenario {
        name: "a group towards a slow service that fails",
        config: GROUPS,
        shows: &[
            ("disk/a", "ok@0 warn@10 ok@120"),
            ("disk/b", "ok@0 warn@20 ok@90"),
            ("disk/c", "ok@0 warn@70 ok@120"),
        ],
        answers: &[("pager", "503@0 200@50")],
        delivery_takes_ms: 4_000,
        end: 400,
        overtakes: true,
        ..QUIET
    },
    Scenario {
        name: "inhibition and a composite",
        config: INHIBITED,
        shows: &[
            ("host", "ok@0 crit@20 ok@60"),
            ("app", "ok@0 warn@20 crit@40 ok@90"),
        ],
        end: 150,
        ..QUIET
    },
    Scenario {
        name: "an outage of the service over fire and escalation",
        shows: &[
            ("cpu/a", "ok@0 warn@10 crit@30 ok@140"),
            ("cpu/b", "ok@0 crit@20 ok@40"),
        ],
        answers: &[("pager", "503@0 down@60 200@100")],
        end: 250,
        ..QUIET
    },
    Scenario {
        name: "a service that asks for patience",
        shows: &[("cpu", "ok@0 warn@10 ok@90")],
        answers: &[("pager", "429@0 200@50")],
        end: 200,
        ..QUIET
    },
    Scenario {
        name: "a dead letter, and the fallback",
        shows: &[("cpu", "ok@0 crit@10 ok@50 crit@80 ok@100")],
        answers: &[("pager", "404@0 200@70")],
        end: 200,
        ..QUIET
    },
    Scenario {
        name: "flapping",
        flapping: "{ start = 4, stop = 1, window = \"100s\" }",
        shows: &[("cpu", "ok@0 crit@10 ok@20 crit@30 ok@40 crit@50 ok@60")],
        end: 300,
        ..QUIET
    },
    Scenario {
        name: "reloads: longer for, another threshold, a refused file, a rule removed",
        shows: &[("cpu", "ok@0 crit@10")],
        events: &[
            (15, Doing::Reload(FOR_AND_KEEP)),
            (25, Doing::ConfigInvalid(true)),
            (35, Doing::ConfigInvalid(false)),
            (55, Doing::Reload(GROUPS)),
        ],
        end: 150,
        ..QUIET
    },
    Scenario {
        name: "a recovery that helps",
        config: recovery!("auto", 3),
        shows: &[("cpu", "ok@0 fixed@10")],
        end: 200,
        recovers: true,
        ..QUIET
    },
    Scenario {
        name: "a recovery that gives up",
        config: recovery!("auto", 2),
        shows: &[("cpu", "ok@0 crit@10 ok@250")],
        end: 260,
        recovers: true,
        ..QUIET
    },
    Scenario {
        name: "a recovery that asks, is paused, and resumed",
        config: recovery!("approve", 3),
        shows: &[("cpu", "ok@0 fixed@10 ok@250")],
        events: &[
            (15, Doing::Pause),
            (25, Doing::Approve("fix")),
            (45, Doing::Resume),
        ],
        end: 260,
        recovers: true,
        ..QUIET
    },
];
