//! What a test says and cannot mean: it may pass, and proves less than its author thinks.

use crate::file::Test;
use crate::happening::{Event, EventKind};
use crate::reading::Mistake;
use crate::scenario::Setup;
use std::ops::Range;
use watchfire_engine::model::format_duration;

/// How the names of the agent's own alerts begin: those no configuration knows.
const META: &str = "watchfire_";

/// What is doubtful in a test that can run. `setups`: its configurations.
pub fn doubts(test: &Test<'_>, setups: &[Setup]) -> Vec<Mistake> {
    let mut found = Vec::new();
    let key = format!("test[{}]", test.id);
    let mut doubt = |span: &Range<usize>, part: &str, message: String, help: &str| {
        found.push(Mistake {
            span: span.clone(),
            key: format!("{key}.{part}"),
            message,
            help: help.to_owned(),
        });
    };
    for event in &test.events {
        if event.at > test.end {
            let at = format_duration(event.at);
            let message = format!("nothing happens at {at}: the test is over by then");
            doubt(&event.span, "at", message, "let `end` be later");
        } else if let Some((message, help)) = void(event, setups) {
            doubt(&event.span, "at", message, help);
        }
    }
    let read = |metric: &str| {
        let mut rules = setups.iter().flat_map(|setup| &setup.policy.rules);
        rules.any(|rule| rule.probes.iter().any(|probe| probe.as_str() == metric))
    };
    for samples in test.samples.iter().filter(|s| !read(&s.series.metric)) {
        let message = format!("no rule reads {}", samples.series);
        doubt(&test.span, "samples", message, "write the metric of a rule");
    }
    for notifier in test.answers.keys() {
        let known = |setup: &Setup| {
            let mut all = setup.policy.notifiers.iter();
            all.any(|id| id.as_str() == notifier)
        };
        if !setups.iter().any(known) {
            let message = format!("{notifier:?} answers, and no route names it");
            doubt(&test.span, "answers", message, "write a notifier's id");
        }
    }
    for procedure in test.takes.keys() {
        let known = |setup: &Setup| {
            let mut all = setup.policy.procedures.iter();
            all.any(|policy| policy.id.as_str() == procedure)
        };
        if !setups.iter().any(known) {
            let message = format!("no recovery is called {procedure:?}");
            doubt(
                &test.span,
                "actions",
                message,
                "write the id of a [[recovery]]",
            );
        }
    }
    let expect = test.expect.as_ref();
    let lines = expect.into_iter().flat_map(|expect| {
        let all = [&expect.timeline, &expect.states];
        all.into_iter().flatten().flatten()
    });
    for line in lines.filter(|line| line.at_secs > test.end.as_secs()) {
        let message = format!("\"{line}\" is never seen: the test is over by then");
        doubt(&test.span, "expect", message, "let `end` be later");
    }
    found
}

/// Why nothing comes of an event, and what to write instead.
fn void(event: &Event<'_>, setups: &[Setup]) -> Option<(String, &'static str)> {
    let unknown = |rule: &str| {
        let known = |setup: &Setup| {
            let mut rules = setup.policy.rules.iter();
            rules.any(|policy| match rule.strip_suffix('*') {
                Some(start) => policy.id.as_str().starts_with(start),
                None => policy.id.as_str() == rule,
            })
        };
        let unknown = !rule.starts_with(META) && !setups.iter().any(known);
        let message = format!("no rule is called {rule:?}");
        unknown.then_some((message, "write the id of a rule"))
    };
    let over = |until| {
        let help = "times count from the begin of the test: write a later one";
        let message = format!(
            "this ends at {}, before it begins at {}",
            format_duration(until),
            format_duration(event.at)
        );
        (until <= event.at).then_some((message, help))
    };
    match &event.kind {
        EventKind::Acknowledge(rule) => unknown(rule),
        EventKind::Silence { rule, from, to, .. } => unknown(rule).or_else(|| {
            let help = "both count from the begin of the test: let `to` be later than `from`";
            (to <= from).then(|| ("this silence ends before it begins".to_owned(), help))
        }),
        EventKind::RuleTraps { rule, until } => unknown(rule).or_else(|| until.and_then(over)),
        EventKind::Crash { until, .. } | EventKind::Suspend { until } => over(*until),
        EventKind::Reload(_) | EventKind::ClockStep(_) | EventKind::EvaluationTakes(_) => None,
    }
}
