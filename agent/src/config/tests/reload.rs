//! What a reload changes, and what it leaves alone.

use super::super::diff;
use super::good;

const BASE: &str = "[agent]\ndata_dir = \"/d\"\n[[probe]]\nid = \"p\"\nplugin = \"x\"\n[[rule]]\nid = \"a\"\nmetric = \"m\"\nmatch = { l = \"~x.*\" }\nfor = \"1m\"\n[[rule]]\nid = \"b\"\nmetric = \"m\"\n[[notifier]]\nid = \"n\"\nplugin = \"x\"\n[[recovery]]\nid = \"f\"\nplugin = \"x\"\nrules = [\"a\"]\n";

fn changed(from: &str, to: &str) -> super::super::Changes {
    let edited = BASE.replace(from, to);
    assert!(from.is_empty() || edited != BASE);
    diff(&good(BASE).config, &good(&edited).config)
}

#[test]
fn a_comment_or_another_order_of_keys_changes_nothing() {
    assert!(changed("[agent]", "# hello\n\n[agent]").is_empty());
    assert!(changed("id = \"a\"\nmetric = \"m\"", "metric = \"m\"\nid = \"a\"").is_empty());
    assert!(changed("for = \"1m\"", "for = \"60s\"").is_empty());
}

#[test]
fn a_rule_that_is_edited_is_the_only_one_that_changes() {
    for (from, to) in [
        ("~x.*", "~y.*"),
        ("~x.*", "x.*"),
        ("for = \"1m\"", "for = \"2m\""),
        ("for = \"1m\"", "for = \"1m\"\nsummary = \"hi\""),
        (
            "for = \"1m\"",
            "for = \"1m\"\nconfig = { above = { low = 1 } }",
        ),
        ("for = \"1m\"", "for = \"1m\"\nlabels = { t = \"x\" }"),
    ] {
        let changes = changed(from, to);
        assert_eq!(changes.rules.changed.len(), 1, "{to}");
        assert_eq!(changes.rules.changed[0].as_str(), "a");
        let rest = super::super::Changes {
            rules: Default::default(),
            ..changes
        };
        assert!(rest.is_empty(), "{to}: {rest:?}");
    }
}

#[test]
fn a_new_probe_does_not_touch_the_rules_it_may_feed() {
    let changes = changed(
        "[[rule]]\nid = \"a\"",
        "[[probe]]\nid = \"q\"\nplugin = \"y\"\n[[rule]]\nid = \"a\"",
    );
    assert_eq!(changes.probes.added[0].as_str(), "q");
    assert!(changes.rules.is_empty());
}

#[test]
fn tables_that_come_go_and_change() {
    let changes = changed("id = \"b\"", "id = \"c\"");
    assert_eq!(changes.rules.added[0].as_str(), "c");
    assert_eq!(changes.rules.removed[0].as_str(), "b");
    let changes = changed("rules = [\"a\"]", "rules = [\"a\"]\nmode = \"auto\"");
    assert_eq!(changes.recoveries.changed[0].as_str(), "f");
    let changes = changed(
        "id = \"n\"\nplugin = \"x\"",
        "id = \"n\"\nplugin = \"x\"\ntitle = \"t\"",
    );
    assert_eq!(changes.notifiers.changed[0].as_str(), "n");
    let changes = changed(
        "[agent]",
        "[[route]]\nnotify = [\"n\"]\nrepeat = \"1h\"\n[agent]",
    );
    assert_eq!(changes.tables, ["route"]);
}

#[test]
fn what_needs_a_restart_says_so() {
    let changes = changed("data_dir = \"/d\"", "data_dir = \"/e\"\nhost = \"h\"");
    assert_eq!(
        changes.restart,
        [
            "agent.host",
            "agent.data_dir",
            "agent.plugins",
            "api.socket"
        ]
    );
}
