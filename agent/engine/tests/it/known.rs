//! What receivers know in the end, on random scenarios over overlapping routes, hours, escalation steps, a
//! fallback, inhibition with `hold`, flapping and messages that are answered late: who is routed to knows how
//! things stand, and nobody is left with an alert that is over.

use crate::common::*;
use crate::hours::schedule;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use watchfire_engine::effect::Reason;
use watchfire_engine::input::{
    CommandKind, DeliveryOutcome, Input, ProbeRun, Pushed, Round, RuleRound,
};
use watchfire_engine::model::{Fingerprint, PerSeverity, Severity};
use watchfire_engine::policy::{
    AlertMatcher, EscalationStep, Flapping, InhibitPolicy, RoutePolicy,
};
use watchfire_engine::{Policy, Send};

const NOTIFIERS: [&str; 3] = ["a", "b", "c"];

/// What one round shows and what goes with it.
#[derive(Clone, Debug)]
struct Turn {
    /// Of `cpu` 0 and 1, and of `mem`: nothing, warning, critical.
    levels: [usize; 3],
    answers: [Answer; 3],
    event: Happens,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Accepts,
    Fails,
    Refuses,
    /// In the next round.
    Later,
    /// Likewise, and then it could not.
    FailsLater,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Happens {
    Nothing,
    Acknowledge,
    Silence,
    Restart,
    Push,
    /// The routes in another order.
    Reload,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let answer = prop_oneof![
        8 => Just(Answer::Accepts),
        2 => Just(Answer::Fails),
        1 => Just(Answer::Refuses),
        2 => Just(Answer::Later),
        1 => Just(Answer::FailsLater),
    ];
    let event = prop_oneof![
        16 => Just(Happens::Nothing),
        1 => Just(Happens::Acknowledge),
        1 => Just(Happens::Silence),
        2 => Just(Happens::Restart),
        1 => Just(Happens::Push),
        1 => Just(Happens::Reload),
    ];
    let level = || prop_oneof![4 => Just(0_usize), 3 => Just(1), 2 => Just(2)];
    let one = (
        [level(), level(), level()],
        proptest::array::uniform3(answer),
        event,
    );
    let one = one.prop_map(|(levels, answers, event)| Turn {
        levels,
        answers,
        event,
    });
    proptest::collection::vec(one, 1..40)
}

fn route(severity: &[Severity], notify: &str, step: Option<&str>, grouped: bool) -> RoutePolicy {
    RoutePolicy {
        matcher: AlertMatcher {
            severity: severity.to_vec(),
            ..AlertMatcher::default()
        },
        notify: vec![notify.into()],
        active: Vec::new(),
        mute: Vec::new(),
        group_by: if grouped {
            vec!["rule".into()]
        } else {
            Vec::new()
        },
        group_wait: secs(if grouped { 25 } else { 0 }),
        group_interval: secs(if grouped { 30 } else { 0 }),
        repeat: PerSeverity::all(secs(70)),
        escalate: step
            .map(|step| EscalationStep {
                after: secs(30),
                notify: vec![step.into()],
            })
            .into_iter()
            .collect(),
        carry_on: false,
    }
}

/// Overlapping routes; `hours`: a route is closed for a while.
fn policies() -> impl Strategy<Value = Policy> {
    let flags = proptest::array::uniform6(any::<bool>());
    (0_usize..4, flags, 0_usize..3).prop_map(|(shape, flags, fallback)| {
        let [grouped, flaps, hours, inhibits, holds, keeps] = flags;
        let mut policy = policy();
        policy.rules.push(rule("mem"));
        policy.notifiers = NOTIFIERS.map(Into::into).to_vec();
        let (all, warning): (&[Severity], _) = (&[], &[Severity::Warning][..]);
        policy.routes = match shape {
            0 => vec![route(all, "a", Some("b"), grouped)],
            1 => vec![
                route(warning, "a", Some("b"), false),
                route(all, "b", Some("c"), grouped),
            ],
            2 => vec![
                RoutePolicy {
                    carry_on: true,
                    ..route(all, "a", None, false)
                },
                route(all, "b", None, grouped),
            ],
            _ => vec![
                RoutePolicy {
                    carry_on: true,
                    ..route(warning, "b", Some("c"), grouped)
                },
                route(all, "a", Some("b"), false),
            ],
        };
        if hours {
            policy.calendar.schedules = vec![schedule("day", 50, 200)];
            policy.routes[0].mute = vec!["day".into()];
        }
        if inhibits {
            policy.inhibitions = vec![InhibitPolicy {
                source: vec!["cpu".into()],
                target: vec!["mem".into()],
                equal: Vec::new(),
            }];
        }
        policy.rules[1].hold = secs(if holds { 20 } else { 0 });
        policy.rules[0].keep = PerSeverity::all(secs(if keeps { 20 } else { 0 }));
        policy.delivery.fallback = [None, Some("c"), Some("b")][fallback].map(Into::into);
        policy.alerting.flapping = flaps.then_some(Flapping {
            start: 4,
            stop: 1,
            window: secs(100),
        });
        policy
    })
}

/// The engine, and what its receivers were told: what they took, and what they refused for good.
struct Run {
    engine: Engine,
    at: u64,
    late: Vec<(Send, Answer)>,
    /// None of the map: nothing, or that it is over.
    known: BTreeMap<(String, Fingerprint), Severity>,
    /// They heard that it flaps, and not yet that it settled.
    flapping: BTreeSet<(String, Fingerprint)>,
    /// Something about it was sent.
    attempted: BTreeSet<(String, Fingerprint)>,
}

impl Run {
    fn new(policy: &Policy) -> Self {
        Run {
            engine: Engine::new(policy.clone()),
            at: 0,
            late: Vec::new(),
            known: BTreeMap::new(),
            flapping: BTreeSet::new(),
            attempted: BTreeSet::new(),
        }
    }

    fn hears(&mut self, send: &Send) {
        let what = &send.notification;
        for alert in &what.alerts {
            let key = (send.notifier.to_string(), alert.fingerprint);
            let fires = alert.ended_at.is_none().then_some(alert.severity);
            match (what.reason, fires) {
                (Reason::Exhausted | Reason::ApprovalWanted, _) => {}
                (Reason::FlapStart, _) => {
                    self.flapping.insert(key);
                }
                (_, Some(severity)) => {
                    self.flapping.remove(&key);
                    self.known.insert(key, severity);
                }
                (_, None) => {
                    self.flapping.remove(&key);
                    self.known.remove(&key);
                }
            }
        }
    }

    fn answer_all(&mut self, answers: [Answer; 3]) {
        for _ in 0..12 {
            let sends = std::mem::take(&mut self.engine.sends);
            if sends.is_empty() {
                return;
            }
            for send in sends {
                for alert in &send.notification.alerts {
                    let key = (send.notifier.to_string(), alert.fingerprint);
                    // The fallback also hears an end that another one refused.
                    let fallback = self.engine.policy.delivery.fallback.as_ref();
                    let ends = send.notification.reason == Reason::Resolve
                        && fallback != Some(&send.notifier);
                    assert!(
                        !ends || self.attempted.contains(&key),
                        "I2: the end of what {} never heard of, at {}",
                        send.notifier,
                        self.at
                    );
                    self.attempted.insert(key);
                }
                let at = NOTIFIERS
                    .iter()
                    .position(|id| *id == send.notifier.as_str());
                self.answer(send, answers[at.expect("a notifier")]);
            }
        }
        panic!("deliveries never end");
    }

    fn answer(&mut self, send: Send, answer: Answer) {
        let outcome = match answer {
            Answer::Accepts => DeliveryOutcome::Accepted { remote_id: None },
            Answer::Fails => failed(),
            Answer::Refuses => DeliveryOutcome::Refused {
                message: "never".to_owned(),
            },
            Answer::Later => {
                self.late.push((send, Answer::Accepts));
                return;
            }
            Answer::FailsLater => {
                self.late.push((send, Answer::Fails));
                return;
            }
        };
        if answer != Answer::Fails {
            self.hears(&send);
        }
        self.engine.answer(self.at, &send, outcome);
    }

    fn turn(&mut self, turn: &Turn) {
        let round_at = self.at + EVERY;
        for (send, answer) in std::mem::take(&mut self.late) {
            self.answer(send, answer);
        }
        self.answer_all(turn.answers);
        while let Some(due) = self.engine.state.next_due()
            && due < now(round_at).at
        {
            let due = due.0.saturating_sub(now(0).at.0).div_ceil(1_000);
            self.at = self.at.max(due);
            self.engine.feed(self.at, Input::Timer);
            self.answer_all(turn.answers);
        }
        self.at = round_at;
        self.happen(turn.event);
        self.answer_all(turn.answers);
        let shown = |level: usize| [HEALTHY, WARNING, CRITICAL][level];
        let observed = |rule: &str, name: &str, level| {
            let mut seen = shows(name, shown(level));
            let labels = seen.instance.labels.clone();
            seen.instance =
                std::sync::Arc::new(watchfire_engine::model::Instance::new(rule.into(), labels));
            seen
        };
        let rule_round = |rule: &str, result| RuleRound {
            rule: rule.into(),
            every: secs(EVERY),
            result: Ok(result),
        };
        let [first, second, mem] = turn.levels;
        self.engine.feed(
            self.at,
            Input::Round(Round {
                probes: vec![ProbeRun {
                    probe: "probe".into(),
                    every: secs(EVERY),
                    result: Ok(()),
                }],
                rules: vec![
                    rule_round(
                        "cpu",
                        vec![observed("cpu", "0", first), observed("cpu", "1", second)],
                    ),
                    rule_round("mem", vec![observed("mem", "0", mem)]),
                ],
                missed: 0,
            }),
        );
        self.answer_all(turn.answers);
    }

    fn happen(&mut self, event: Happens) {
        match event {
            Happens::Nothing => {}
            Happens::Acknowledge => {
                let alert = instance("0").fingerprint;
                let ack = CommandKind::Acknowledge { alert, lasts: None };
                self.engine.command(self.at, ack);
            }
            Happens::Silence => {
                let until = self.at + 60;
                self.engine
                    .command(self.at, silenced(self.at, until, Some("0")));
            }
            Happens::Restart => {
                self.late.clear();
                self.engine.restart(self.at);
            }
            Happens::Push => {
                let pushed = Pushed {
                    severity: Severity::Critical,
                    ..push("Pushed", 0)
                };
                self.engine.feed(self.at, Input::Pushed(vec![pushed]));
            }
            Happens::Reload => {
                self.engine.policy.routes.reverse();
                self.engine.feed(self.at, Input::Reload);
            }
        }
    }

    /// The world stands still, and all services are well.
    fn settle(&mut self, levels: [usize; 3]) {
        let calm = Turn {
            levels,
            answers: [Answer::Accepts; 3],
            event: Happens::Nothing,
        };
        for _ in 0..60 {
            self.turn(&calm);
        }
    }
}

/// Who is routed to now, by the text: the first route that takes it, and on where it says so.
fn routed(policy: &Policy, severity: Severity) -> Vec<String> {
    let mut found = Vec::new();
    for route in &policy.routes {
        let wanted = &route.matcher.severity;
        if wanted.is_empty() || wanted.contains(&severity) {
            let named = NOTIFIERS
                .iter()
                .filter(|id| route.notify.contains(&(**id).into()));
            found.extend(named.map(|id| (*id).to_owned()));
            if !route.carry_on {
                break;
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Level-triggered: whatever came before, whoever is routed to knows the severity that holds.
    #[test]
    fn who_is_routed_to_knows_how_things_stand(
        policy in policies(), turns in turns(), levels in proptest::array::uniform3(0_usize..3),
    ) {
        let mut run = Run::new(&policy);
        for turn in &turns {
            run.turn(turn);
        }
        run.settle(levels);
        for view in run.engine.state.alerts() {
            let Some(severity) = view.severity else { continue };
            let meta = view.instance.rule.as_str().starts_with("watchfire_");
            if meta || !view.muted_by.is_empty() {
                continue;
            }
            for notifier in routed(&run.engine.policy, severity) {
                let known = run.known.get(&(notifier.clone(), view.instance.fingerprint));
                prop_assert_eq!(known, Some(&severity), "{} of {}", notifier, view.instance);
            }
        }
    }

    /// I3, I14: in the end all is well, and everybody knows.
    #[test]
    fn nobody_is_left_with_an_alert_that_is_over(policy in policies(), turns in turns()) {
        let mut run = Run::new(&policy);
        for turn in &turns {
            run.turn(turn);
        }
        run.settle([0; 3]);
        let left: Vec<_> = run
            .engine
            .state
            .alerts()
            .into_iter()
            .filter(|view| !view.instance.rule.as_str().starts_with("watchfire_"))
            .map(|view| view.instance.to_string())
            .collect();
        prop_assert_eq!(left, [""; 0]);
        prop_assert_eq!(run.engine.state.outbox_pending(), 0);
        let dead_letters: BTreeSet<Fingerprint> = run
            .engine
            .state
            .alerts()
            .iter()
            .map(|view| view.instance.fingerprint)
            .collect();
        run.known.retain(|(_, alert), _| !dead_letters.contains(alert));
        prop_assert_eq!(run.known, BTreeMap::new());
        prop_assert_eq!(run.flapping, BTreeSet::new());
    }
}
