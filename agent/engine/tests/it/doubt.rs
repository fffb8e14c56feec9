//! What is not known: stale children of a composite, probes that fail on.

use crate::common::*;
use watchfire_engine::input::{Input, ProbeRun, Round};
use watchfire_engine::policy::{Operator, RulePolicy, RuleSource};

#[test]
fn a_composite_is_held_while_a_healthy_child_is_stale() {
    let mut policy = policy();
    policy.rules.push(RulePolicy {
        source: RuleSource::Composite {
            operator: Operator::Any,
            rules: vec!["cpu".into()],
        },
        ..rule("any")
    });
    let mut engine = Engine::new(policy);
    let mut fires = |at, observations| {
        engine.feed(at, round(observations));
        engine.accept_all(at);
        let alerts = engine.state.alerts();
        alerts.iter().any(|a| a.instance.rule.as_str() == "any")
    };
    let unknown = || observation(&instance("1"), None);
    assert!(fires(0, vec![shows("0", CRITICAL), shows("1", HEALTHY)]));
    assert!(fires(10, vec![shows("0", CRITICAL), unknown()]));
    assert!(
        fires(30, vec![shows("0", HEALTHY), unknown()]),
        "the other was fine 30 s ago"
    );
    assert!(!fires(40, vec![shows("0", HEALTHY), shows("1", HEALTHY)]));
}

/// A round of the probe alone.
fn probe(fails: bool) -> Input {
    Input::Round(Round {
        probes: vec![ProbeRun {
            probe: "probe".into(),
            every: secs(EVERY),
            result: if fails {
                Err("no answer".into())
            } else {
                Ok(())
            },
        }],
        ..Round::default()
    })
}

#[test]
fn only_a_success_ends_the_alert_of_a_failing_probe() {
    let mut policy = policy();
    policy.alerting.meta_keep = secs(15);
    let said = |rounds: Vec<(u64, Input)>| {
        let mut engine = Engine::new(policy.clone());
        let mut said = Vec::new();
        for (at, input) in rounds {
            let effects = engine.feed(at, input);
            said.extend(reasons(&effects.sends).into_iter().map(|why| (at, why)));
            engine.accept_all(at);
        }
        said
    };
    let down = || (0..40).step_by(10).map(|at| (at, probe(true)));
    let relapse = [(40, probe(false)), (50, probe(true)), (60, probe(true))];
    let up = [(70, probe(false))];
    assert_eq!(
        said(down().chain(relapse).chain(up).collect()),
        [(30, "fire"), (70, "resolve")],
        "not at 60, though 15 s are over"
    );
    // Its next turn may be far away: time ends it at the rounds of others.
    let nothing = || Input::Round(Round::default());
    let well = [(40, probe(false)), (50, nothing()), (60, nothing())];
    assert_eq!(
        said(down().chain(well).collect()),
        [(30, "fire"), (60, "resolve")]
    );
}
