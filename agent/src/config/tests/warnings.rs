//! Doubtful relations are told, sound ones are not.

use super::{good, lines};

#[track_caller]
fn check(text: &str, wanted: &[&str]) {
    assert_eq!(lines(&good(text).warnings), wanted, "{text}");
}

const HOST: &str = "[[probe]]\nid = \"h\"\nplugin = \"probe-host\"\n";

#[test]
fn intervals_and_timeouts() {
    check(
        "",
        &[
            "1:1 no probe is configured: only dropped-in ones will collect anything | write [[probe]] id = \"host\", plugin = \"probe-host\", grant = { system = true }",
        ],
    );
    check(
        "[[probe]]\nid = \"a\"\nplugin = \"x\"\nevery = \"500ms\"\ntimeout = \"100ms\"\n[[probe]]\nid = \"b\"\nplugin = \"x\"\nevery = \"10m\"\n[[probe]]\nid = \"c\"\nplugin = \"x\"\nevery = \"5s\"\n",
        &[
            "4:9 `every` of 500ms is shorter than a second | every round costs CPU and disk; 10s is usual",
            "9:9 `every` of 10m is longer than five minutes | nothing can be noticed sooner than that",
            "13:9 the timeout of 5s is not shorter than the interval of 5s: a slow run makes the next one skip | make timeout shorter than every",
        ],
    );
    check(
        &format!("[alerting]\nstale_after = \"20s\"\n{HOST}"),
        &[
            "2:15 stale_after of 20s is shorter than 2.5 times the interval of probe h (10s): one lost round makes its alerts stale | leave it out: by default it follows each probe's interval",
        ],
    );
}

#[test]
fn rules_against_the_interval_of_their_probe() {
    check(
        &format!(
            "{HOST}every = \"30s\"\nadaptive = true\n[[rule]]\nid = \"r\"\nmetric = \"cpu_usage_ratio\"\nover = \"1m\"\nfor = \"5s\"\ndetect_within = \"1m\"\n"
        ),
        &[
            "9:8 a window of 1m holds fewer than two rounds of 2m | make `over` at least twice the probe's interval",
            "10:7 `for` of 5s is shorter than the probe's interval of 30s: it fires at the second round anyway | make `for` at least as long as the interval, or leave it out",
            "11:17 a breach can take 2m5s (interval 2m, for 5s), longer than the 1m asked for | lower the probe's every or adaptive.max, or the rule's for",
        ],
    );
    check(
        &format!(
            "{HOST}[[rule]]\nid = \"r\"\nmetric = \"cpu_usage_ratio\"\nover = \"1m\"\nfor = \"10s\"\ndetect_within = \"20s\"\n"
        ),
        &[],
    );
}

#[test]
fn metrics_that_nobody_yields() {
    check(
        &format!(
            "{HOST}[[rule]]\nid = \"a\"\nmetric = \"queue_size\"\n[[rule]]\nid = \"b\"\nmetric = \"cpu_usage_ration\"\n[[rule]]\nid = \"c\"\nmetric = \"watchfire_rounds_total\"\n"
        ),
        &[
            "6:10 no configured probe yields queue_size | configure a probe for it; until then the rule has nothing to judge",
            "9:10 probe-host is not known to yield cpu_usage_ration | did you mean \"cpu_usage_ratio\"?",
        ],
    );
    // A pack says it once.
    check(
        &format!("[agent]\npacks = [\"host\", \"service-levels\"]\n{HOST}"),
        &[
            "2:18 26 rules of the pack \"service-levels\" judge metrics that no configured probe yields | configure a probe for them, or leave the pack out; the head of the pack names its metrics",
        ],
    );
    // Who scrapes may yield anything.
    check(
        &format!(
            "{HOST}[[probe]]\nid = \"s\"\nplugin = \"probe-prometheus\"\n[[rule]]\nid = \"a\"\nmetric = \"queue_size\"\n"
        ),
        &[],
    );
}

#[test]
fn order_and_side_of_limits() {
    check(
        &format!(
            "{HOST}[[rule]]\nid = \"a\"\nmetric = \"cpu_usage_ratio\"\nconfig = {{ above = {{ warning = 0.9, P1 = 0.8 }}, clear = {{ warning = 0.95 }} }}\n[[rule]]\nid = \"b\"\nmetric = \"memory_available_bytes\"\nfor = {{ warning = \"1m\" }}\nconfig = {{ below = {{ warning = 10, critical = 20 }}, clear = {{ critical = 15 }} }}\n"
        ),
        &[
            "7:20 critical begins at 0.8, inside warning at 0.9: warning can never be told alone | the higher severity wants the more extreme limit",
            "7:69 clear of 0.95 is on the wrong side of above 0.9: the alert would end before it begins | for `above` clear wants a value below the limit",
            "11:7 `for` does not name critical, which therefore fires at once | add critical = \"…\", or write one duration for all",
            "12:47 critical begins at 20, inside warning at 10: warning can never be told alone | the higher severity wants the more extreme limit",
            "12:74 clear of 15 is on the wrong side of below 20: the alert would end before it begins | for `below` clear wants a value above the limit",
        ],
    );
    check(
        &format!(
            "{HOST}[[rule]]\nid = \"a\"\nmetric = \"cpu_usage_ratio\"\nconfig = {{ above = {{ warning = 0.8, critical = 0.9 }}, clear = {{ warning = 0.75 }} }}\n"
        ),
        &[],
    );
}

#[test]
fn notifiers_and_routes_that_are_not_reached() {
    check(
        &format!(
            "{HOST}[[notifier]]\nid = \"a\"\nplugin = \"x\"\n[[notifier]]\nid = \"b\"\nplugin = \"x\"\n[[notifier]]\nid = \"c\"\nplugin = \"x\"\n[[notifier]]\nid = \"d\"\nplugin = \"x\"\n[delivery]\nfallback = \"c\"\n[[route]]\nnotify = [\"a\"]\nescalate = [{{ after = \"1m\", notify = [\"d\"] }}]\n[[route]]\nnotify = [\"a\"]\n"
        ),
        &[
            "8:6 no route reaches the notifier \"b\" | write [[route]] notify = [\"b\"]",
            "21:1 this route is never reached: the one before it takes every alert | put the general route last, or give it continue = true",
        ],
    );
}

#[test]
fn a_cooldown_that_ends_before_the_verdict() {
    check(
        &format!(
            "{HOST}[[rule]]\nid = \"r\"\nmetric = \"cpu_usage_ratio\"\n[[recovery]]\nid = \"f\"\nplugin = \"x\"\nrules = [\"r\"]\ncooldown = \"10s\"\n[[recovery]]\nid = \"g\"\nplugin = \"x\"\nrules = [\"zz-*\"]\n"
        ),
        &[
            "11:12 the cooldown of 10s ends before verify_after of 15s has told whether the attempt helped | make cooldown at least as long as verify_after",
            "13:6 no rule triggers g | name a rule of this configuration",
        ],
    );
}

#[test]
fn inhibitions_that_silence_each_other() {
    let rules: String = ["disk", "http-a", "http-b"]
        .iter()
        .map(|id| format!("[[rule]]\nid = \"{id}\"\nmetric = \"cpu_usage_ratio\"\nconfig = {{ above = {{ warning = 0.9 }} }}\n"))
        .collect();
    let with = |inhibits: &str| format!("{HOST}{rules}{inhibits}");
    check(
        &with(
            "[[inhibit]]\nsource = \"disk\"\ntarget = [\"http-*\"]\n[[inhibit]]\nsource = [\"http-b\"]\ntarget = \"disk\"\n",
        ),
        &[
            "20:11 disk and http-b mute each other: while both fire nobody hears of either | remove one of the two inhibitions",
        ],
    );
    // Both sides of one, and one way round: sound.
    check(
        &with(
            "[[inhibit]]\nsource = [\"disk\", \"http-a\"]\ntarget = [\"disk\", \"http-a\"]\n[[inhibit]]\nsource = \"disk\"\ntarget = \"http-b\"\n",
        ),
        &[],
    );
}
