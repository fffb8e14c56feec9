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

#[test]
fn a_failing_probes_alert_says_what_the_probe_said_last() {
    let mut engine = Engine::new(policy());
    let mut failing = |at, error: &str| {
        let run = ProbeRun {
            probe: "probe".into(),
            every: secs(EVERY),
            result: Err(error.into()),
        };
        let input = Input::Round(Round {
            probes: vec![run],
            ..Round::default()
        });
        engine.feed(at, input);
        engine.accept_all(at);
        let alerts = engine.state.alerts();
        alerts.first().and_then(|alert| alert.snapshot.note.clone())
    };
    assert_eq!(failing(0, "refused"), None);
    assert_eq!(failing(30, "refused").as_deref(), Some("refused"));
    assert_eq!(failing(40, "timed out").as_deref(), Some("timed out"));
}

#[test]
fn after_a_restart_a_composite_knows_of_a_rule_that_was_answered() {
    let mut policy = policy();
    policy.rules[0].probes.push("other".into());
    policy.rules.push(RulePolicy {
        source: RuleSource::Composite {
            operator: Operator::None,
            rules: vec!["cpu".into()],
        },
        ..rule("calm")
    });
    let fires = |observations, probes: [Result<(), &str>; 2]| {
        let mut engine = Engine::new(policy.clone());
        engine.restart(5);
        let Input::Round(mut all) = round(observations) else {
            panic!("a round")
        };
        all.probes = ["probe", "other"]
            .iter()
            .zip(probes)
            .map(|(probe, result)| ProbeRun {
                probe: (*probe).into(),
                every: secs(EVERY),
                result: result.map_err(Into::into),
            })
            .collect();
        engine.feed(10, Input::Round(all));
        let alerts = engine.state.alerts();
        alerts.iter().any(|a| a.instance.rule.as_str() == "calm")
    };
    assert!(fires(vec![], [Ok(()), Ok(())]), "there is no series");
    let seen = vec![shows("0", HEALTHY)];
    assert!(fires(seen, [Ok(()), Err("no answer")]), "one answered");
}
