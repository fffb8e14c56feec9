//! `slo` in a rule: which inputs it stands for, and what cannot stand beside it.

use super::{good, lines, load_text};
use crate::config::{Aggregate, RuleConfig};

fn rule(text: &str) -> RuleConfig {
    good(&format!("[[rule]]\nid = \"s\"\n{text}"))
        .config
        .rules
        .remove(0)
}

#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let mistakes = load_text(&format!("[[rule]]\nid = \"s\"\n{text}")).unwrap_err();
    assert_eq!(lines(&mistakes), wanted);
}

const SLO: &str = "slo = { errors = { metric = \"e\", match = { code = \"~5..\" } }, total = { metric = \"t\" }, objective = 0.999";

#[test]
fn it_stands_for_two_inputs_a_window() {
    let rule = rule(&format!("{SLO} }}\n"));
    assert_eq!(rule.plugin.as_deref(), Some("rule-burn-rate"));
    assert_eq!(
        rule.by.as_deref(),
        Some(&[][..]),
        "one alert for all series"
    );
    let names: Vec<&str> = rule.inputs.iter().map(|input| &*input.name).collect();
    let windows = ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"];
    let wanted: Vec<String> = windows
        .iter()
        .flat_map(|over| [format!("errors_{over}"), format!("total_{over}")])
        .collect();
    assert_eq!(names, wanted);
    for (at, input) in rule.inputs.iter().enumerate() {
        assert_eq!(input.aggregate, Aggregate::Increase);
        let counts_errors = at % 2 == 0;
        assert_eq!(&*input.metric, if counts_errors { "e" } else { "t" });
        assert_eq!(input.matches.len(), usize::from(counts_errors));
    }
    assert_eq!(rule.inputs[4].over.map(|over| over.as_secs()), Some(3_600));
    assert_eq!(&*rule.config, r#"{"objective":0.999}"#);
}

#[test]
fn windows_period_and_the_plugins_own_keys_join() {
    let rule = rule(&format!(
        "{SLO}, period = \"7d\", windows = [{{ long = \"30m\", short = \"90s\", burn = 20, severity = \"P2\" }}] }}\nby = [\"service\"]\nconfig = {{ min_total = 50 }}\n"
    ));
    let names: Vec<&str> = rule.inputs.iter().map(|input| &*input.name).collect();
    assert_eq!(
        names,
        [
            "errors_1m30s",
            "total_1m30s",
            "errors_30m",
            "total_30m",
            "errors_7d",
            "total_7d"
        ]
    );
    assert_eq!(rule.by.map(|by| by.len()), Some(1));
    let config: serde_json::Value = serde_json::from_str(&rule.config).unwrap();
    let window =
        serde_json::json!({"long": "30m", "short": "1m30s", "burn": 20.0, "severity": "high"});
    assert_eq!(
        config,
        serde_json::json!({"objective": 0.999, "period": "7d", "min_total": 50, "windows": [window]})
    );
}

#[test]
fn mistakes_are_told_with_what_to_write() {
    refused(
        "slo = { errors = { metric = \"e\", over = \"5m\" }, objective = \"99.9\", windows = [{ long = \"1h\", burn = 2, severity = \"high\" }] }\n",
        &[
            "3:7 `rule[s].slo` lacks `total` | write total = { metric = \"…_total\" }",
            "3:34 `over` is chosen by `slo` | remove it, or write the inputs out: inputs.errors_5m = { … }",
            "3:61 `objective` wants a number from 0 to 1, found the string \"99.9\" | ",
            "3:80 `rule[s].slo.windows[1]` lacks `short` | write { long = \"1h\", short = \"5m\", burn = 14.4, severity = \"critical\" }",
        ],
    );
    refused(
        &format!("metric = \"m\"\n{SLO} }}\nconfig = {{ objective = 0.9 }}\n"),
        &[
            "3:1 `metric` cannot stand beside `slo` | write it into slo.errors and slo.total",
            "5:24 `objective` belongs to `slo` | write it there, once",
        ],
    );
    refused(
        &format!("all = [\"s2\"]\n{SLO} }}\n[[rule]]\nid = \"s2\"\nmetric = \"m\"\n"),
        &[
            "4:1 `slo` has no meaning in a rule that combines others | remove it, or remove all/any/none",
        ],
    );
}

#[test]
fn what_is_left_of_the_budget_can_be_recorded() {
    let text = "config = { value = \"budget\" }\nrecord = \"budget_left_ratio\"\n";
    let rule = rule(&format!("{SLO} }}\n{text}"));
    assert_eq!(rule.record.as_deref(), Some("budget_left_ratio"));
}
