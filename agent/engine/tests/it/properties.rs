//! The invariants of alerting.md 1.8 on random scenarios: verdicts, gaps, operators, services, restarts.

use crate::common::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use watchfire_engine::effect::{Happening, Reason};
use watchfire_engine::input::{CommandKind, DeliveryOutcome, Input, Observation, Seen, Silence};
use watchfire_engine::model::{NotifierId, PerSeverity, Severity, WallTime};
use watchfire_engine::policy::{Flapping, Mode};
use watchfire_engine::{Effects, Policy};

/// What one instance shows in one round.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shows {
    Ok,
    Warning,
    Critical,
    Unknown,
    Absent,
}

/// One round and what happens around it.
#[derive(Clone, Debug)]
struct Turn {
    /// Rounds until this one: more than one is a gap.
    rounds: u64,
    shows: [Shows; 2],
    /// How the service answers everything in this round.
    answer: Answer,
    event: Happens,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Accepts,
    Fails,
    Refuses,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Happens {
    Nothing,
    Acknowledge,
    Silence,
    Restart,
    Reload,
}

fn shows() -> impl Strategy<Value = Shows> {
    prop_oneof![
        4 => Just(Shows::Ok),
        3 => Just(Shows::Warning),
        3 => Just(Shows::Critical),
        1 => Just(Shows::Unknown),
        1 => Just(Shows::Absent),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let answer = prop_oneof![
        6 => Just(Answer::Accepts),
        2 => Just(Answer::Fails),
        1 => Just(Answer::Refuses),
    ];
    let event = prop_oneof![
        12 => Just(Happens::Nothing),
        1 => Just(Happens::Acknowledge),
        1 => Just(Happens::Silence),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Reload),
    ];
    let rounds = prop_oneof![9 => Just(1_u64), 1 => 2_u64..10];
    (rounds, [shows(), shows()], answer, event).prop_map(|(rounds, shows, answer, event)| Turn {
        rounds,
        shows,
        answer,
        event,
    })
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    proptest::collection::vec(turn(), 1..40)
}

/// One of a few policies, each with other timers.
fn policies() -> impl Strategy<Value = Policy> {
    (0_u64..4, 0_u64..4, 0_u64..3, any::<bool>(), any::<bool>()).prop_map(
        |(wait, keep, repeat, flaps, groups)| {
            let mut policy = policy();
            policy.rules[0].wait = PerSeverity::all(secs(wait * 10));
            policy.rules[0].keep = PerSeverity::all(secs(keep * 10));
            policy.routes[0].repeat = PerSeverity::all(secs(repeat * 40));
            policy.alerting.flapping = flaps.then_some(Flapping {
                start: 4,
                stop: 1,
                window: secs(100),
            });
            if groups {
                policy.routes[0].group_by = vec!["rule".into()];
                policy.routes[0].group_wait = secs(15);
                policy.routes[0].group_interval = secs(30);
            }
            policy.procedures = vec![procedure(Mode::Auto)];
            policy
        },
    )
}

fn observed(shows: Shows, name: &str) -> Observation {
    let instance = instance(name);
    match shows {
        Shows::Ok => observation(&instance, Some(&[])),
        Shows::Warning => observation(&instance, Some(&[Severity::Warning])),
        Shows::Critical => observation(&instance, Some(&[Severity::Warning, Severity::Critical])),
        Shows::Unknown => observation(&instance, None),
        Shows::Absent => Observation {
            seen: Seen::Absent,
            ..observation(&instance, None)
        },
    }
}

/// What a scenario left behind.
struct Run {
    engine: Engine,
    /// Every step's effects with its second.
    log: Vec<(u64, Effects)>,
    at: u64,
    /// Largest outbox seen after a step.
    pending: usize,
}

impl Run {
    fn of(policy: &Policy, turns: &[Turn], restarts: bool, operators: bool) -> Run {
        let mut run = Run {
            engine: Engine::new(policy.clone()),
            log: Vec::new(),
            at: 0,
            pending: 0,
        };
        for turn in turns {
            run.turn(turn, restarts, operators);
        }
        run
    }

    fn note(&mut self, effects: Effects) {
        self.log.push((self.at, effects));
        self.pending = self.pending.max(self.engine.state.outbox_pending());
    }

    fn feed(&mut self, input: Input) {
        let effects = self.engine.feed(self.at, input);
        self.note(effects);
    }

    fn turn(&mut self, turn: &Turn, restarts: bool, operators: bool) {
        let round_at = self.at + turn.rounds * EVERY;
        while let Some(due) = self
            .engine
            .state
            .next_due()
            .filter(|due| *due < now(round_at).at)
        {
            let due = due.0.saturating_sub(now(0).at.0).div_ceil(1_000);
            self.at = self.at.max(due);
            self.feed(Input::Timer);
            self.answers(turn.answer);
        }
        self.at = round_at;
        match turn.event {
            Happens::Restart if restarts => {
                let effects = self.engine.restart(self.at);
                self.note(effects);
                self.answers(turn.answer);
            }
            Happens::Reload => self.feed(Input::Reload),
            Happens::Acknowledge if operators => {
                let effects = self.engine.command(
                    self.at,
                    CommandKind::Acknowledge {
                        alert: instance("0").fingerprint,
                        lasts: None,
                    },
                );
                self.note(effects);
            }
            Happens::Silence if operators => {
                let effects = self
                    .engine
                    .command(self.at, CommandKind::Silence(silence(self.at)));
                self.note(effects);
            }
            _ => {}
        }
        let observations = vec![observed(turn.shows[0], "0"), observed(turn.shows[1], "1")];
        let before = self.engine.attempts.len();
        self.feed(round(observations));
        self.answers(turn.answer);
        // Actions end within the round's second.
        for _ in before..self.engine.attempts.len() {
            self.engine.end_attempt(self.at);
        }
    }

    fn answers(&mut self, answer: Answer) {
        // A group may follow at once on the report of its last message; more than that is a loop.
        for _ in 0..8 {
            let sends = std::mem::take(&mut self.engine.sends);
            if sends.is_empty() {
                return;
            }
            for send in sends {
                let outcome = match answer {
                    Answer::Accepts => DeliveryOutcome::Accepted { remote_id: None },
                    Answer::Fails => DeliveryOutcome::Failed {
                        message: "no".to_owned(),
                        retry_after: None,
                        answered: true,
                    },
                    Answer::Refuses => DeliveryOutcome::Refused {
                        message: "never".to_owned(),
                    },
                };
                let effects = self.engine.answer(self.at, &send, outcome);
                self.note(effects);
            }
        }
        panic!("deliveries never end");
    }

    /// Healthy samples and a healthy service, long enough for everything to settle (I14).
    fn settle(&mut self) {
        for _ in 0..60 {
            let calm = Turn {
                rounds: 1,
                shows: [Shows::Ok, Shows::Ok],
                answer: Answer::Accepts,
                event: Happens::Nothing,
            };
            self.turn(&calm, false, false);
        }
    }

    fn transitions(&self) -> Vec<(u64, String, String, String)> {
        let all = self.log.iter().flat_map(|(at, effects)| {
            effects.events.iter().filter_map(|event| match &event.what {
                Happening::Transition { from, to, .. } => Some((
                    *at,
                    event.alert.clone(),
                    from.replace("+stale", ""),
                    to.clone(),
                )),
                _ => None,
            })
        });
        all.filter(|(_, alert, ..)| alert.starts_with("cpu"))
            .collect()
    }
}

fn silence(at: u64) -> Silence {
    Silence {
        id: format!("s{at}").into(),
        rules: vec!["cpu".into()],
        labels: Vec::new(),
        from: now(at).wall,
        until: WallTime(now(at).wall.0 + 60_000),
        notify: true,
        recover: false,
        owner: "test".into(),
        reason: "test".into(),
        ..Silence::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// I4, I5: `for` of observed time, and a breach at all, precede every firing.
    #[test]
    fn never_firing_before_its_time(policy in policies(), turns in turns(), restarts in any::<bool>()) {
        let wait = policy.rules[0].wait[Severity::Warning].as_secs();
        let run = Run::of(&policy, &turns, restarts, true);
        // Observed breaching time of instance 0, by an independent count.
        let mut breaching: Option<u64> = None;
        let mut last = 0;
        let mut at = 0;
        let mut allowed = BTreeMap::new();
        for turn in &turns {
            at += turn.rounds * EVERY;
            match turn.shows[0] {
                Shows::Warning | Shows::Critical => {
                    let gap = at - last;
                    let counted = if gap <= 25 { gap } else { 0 };
                    breaching = Some(breaching.map_or(0, |before| before + counted));
                    last = at;
                }
                Shows::Ok => { breaching = None; last = at; }
                Shows::Unknown | Shows::Absent => {}
            }
            allowed.insert(at, breaching.is_some_and(|observed| observed >= wait));
        }
        for (at, alert, from, to) in run.transitions() {
            let begins = to.starts_with("firing") && (from == "ok" || from == "pending");
            if begins && alert == "cpu{i=\"0\"}" {
                prop_assert!(allowed.get(&at).copied().unwrap_or(false), "fired at {at}");
            }
        }
    }

    /// I1, I2, I3, I14: fires and resolves alternate for each notifier, and all ends well.
    #[test]
    fn every_fire_has_one_resolve(policy in policies(), turns in turns(), restarts in any::<bool>()) {
        let mut policy = policy;
        policy.alerting.flapping = None;
        policy.routes[0].group_by.clear();
        policy.routes[0].group_wait = std::time::Duration::ZERO;
        let mut run = Run::of(&policy, &turns, restarts, true);
        run.settle();
        // A dead letter is said until a message of another alert arrives.
        let left = run.engine.state.alerts();
        let left = left.iter().filter(|view| view.instance.rule.as_str() == "cpu");
        prop_assert_eq!(left.count(), 0);
        prop_assert_eq!(run.engine.state.outbox_pending(), 0);
        let mut open: BTreeMap<(NotifierId, String), bool> = BTreeMap::new();
        for (at, effects) in &run.log {
            for event in &effects.events {
                if event.alert.starts_with("watchfire_") {
                    continue;
                }
                let Happening::Queued { notifier, reason, .. } = &event.what else { continue };
                let open = open.entry((notifier.clone(), event.alert.clone())).or_default();
                match reason {
                    Reason::Fire => {
                        prop_assert!(!*open, "two fires of {} at {at}", event.alert);
                        *open = true;
                    }
                    Reason::Escalate | Reason::Deescalate | Reason::Repeat => prop_assert!(*open),
                    Reason::Resolve => {
                        prop_assert!(*open, "a resolve of nothing: {} at {at}", event.alert);
                        *open = false;
                    }
                    _ => {}
                }
            }
        }
        prop_assert!(open.values().all(|open| !open), "{open:?}");
    }

    /// Groups: all is told in the end, and nothing is left.
    #[test]
    fn groups_settle(policy in policies(), turns in turns(), restarts in any::<bool>()) {
        let mut policy = policy;
        policy.alerting.flapping = None;
        policy.routes[0].group_by = vec!["rule".into()];
        let mut run = Run::of(&policy, &turns, restarts, true);
        run.settle();
        prop_assert_eq!(run.engine.state.outbox_pending(), 0);
        prop_assert_eq!(run.engine.state.next_due(), None);
        // I3 is about what was delivered, or given up: what failed and was overtaken during a mute told nothing.
        let events = run.log.iter().flat_map(|(_, effects)| &effects.events);
        let delivered: BTreeSet<_> = events.filter_map(|event| match &event.what {
            Happening::Delivered { id, outcome: "accepted" | "refused", .. } => Some(id.clone()),
            _ => None,
        }).collect();
        let (mut told, mut last) = (BTreeMap::new(), 0);
        for (at, effects) in &run.log {
            prop_assert!(*at >= last);
            last = *at;
            let groups = effects.sends.iter().filter(|send| send.notification.reason == Reason::Group);
            for send in groups.filter(|send| delivered.contains(&send.notification.id)) {
                for alert in &send.notification.alerts {
                    told.insert(alert.fingerprint, alert.ended_at.is_none());
                }
            }
        }
        prop_assert!(told.values().all(|firing| !firing), "{told:?}");
    }

    /// A mute changes who hears, never the state.
    #[test]
    fn mutes_change_no_state(policy in policies(), turns in turns()) {
        let heard = Run::of(&policy, &turns, false, false);
        let muted = Run::of(&policy, &turns, false, true);
        prop_assert_eq!(heard.transitions(), muted.transitions());
    }

    /// I10: the same configuration again has no effects at all.
    #[test]
    fn reloads_of_the_same_do_nothing(policy in policies(), turns in turns()) {
        let mut run = Run::of(&policy, &turns, false, true);
        run.feed(Input::Reload);
        let effects = &run.log.last().expect("a step").1;
        prop_assert!(effects.is_empty(), "{effects:?}");
    }

    /// I13: a restart between two rounds changes nothing that is decided about alerts afterwards.
    #[test]
    fn restarts_forget_nothing(policy in policies(), turns in turns(), cut in 1_usize..30, rest in turns()) {
        // In the first round after a restart an absent series is unknown: that alone may differ.
        let plain = |turns: &[Turn]| -> Vec<Turn> {
            turns.iter().cloned().map(|mut turn| {
                turn.event = Happens::Nothing;
                turn.answer = Answer::Accepts;
                for shows in &mut turn.shows {
                    if *shows == Shows::Absent { *shows = Shows::Unknown; }
                }
                turn
            }).collect()
        };
        let mut policy = policy;
        policy.procedures.clear();
        // The first round after a restart comes at once; what was due before it waits for it.
        policy.routes[0].group_wait = secs(EVERY);
        let before = plain(&turns[..cut.min(turns.len())]);
        let mut after = plain(&rest);
        after[0].rounds = 1;
        let mut going_on = Run::of(&policy, &before, true, true);
        let mut restarted = Run::of(&policy, &before, true, true);
        let effects = restarted.engine.restart(restarted.at);
        prop_assert!(effects.sends.is_empty(), "{:?}", effects.sends);
        prop_assert_eq!(restarted.engine.state.not_ok(), going_on.engine.state.not_ok());
        going_on.log.clear();
        restarted.log.clear();
        for turn in &after {
            going_on.turn(turn, false, false);
            restarted.turn(turn, false, false);
        }
        prop_assert_eq!(going_on.transitions(), restarted.transitions());
        let told = |run: &Run| -> Vec<_> {
            let sends = run.log.iter().flat_map(|(at, effects)| effects.sends.iter().map(|s| (*at, s.clone())));
            let sends = sends.filter(|(_, s)| !s.notification.alerts[0].rule.as_str().starts_with("watchfire_"));
            sends.map(|(at, s)| (at, s.notification.reason, s.notification.id.clone())).collect()
        };
        prop_assert_eq!(told(&going_on), told(&restarted));
    }

    /// I7, I8, I9: attempts within their window, each written before it runs; a bounded outbox.
    #[test]
    fn bounds_hold(policy in policies(), turns in turns(), restarts in any::<bool>()) {
        let mut policy = policy;
        policy.procedures[0].window = secs(120);
        let run = Run::of(&policy, &turns, restarts, true);
        let mut starts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (at, effects) in &run.log {
            for start in &effects.attempts {
                let key = format!("{}/{}", start.procedure, start.alert.fingerprint);
                prop_assert!(effects.records.iter().any(|r| r.key == key && r.body.is_some()));
                starts.entry(key).or_default().push(*at);
            }
        }
        for all in starts.values() {
            for at in all {
                let within = all.iter().filter(|other| **other <= *at && *other + 120 > *at);
                prop_assert!(within.count() <= 2, "{all:?}");
            }
        }
        // Two alerts and two meta-alerts, a place each for state, exhaustion and the group; two at a time.
        prop_assert!(run.pending <= 14, "{}", run.pending);
    }

    /// I6: nothing is done on, and nothing said again of, what was not observed lately.
    #[test]
    fn nothing_old_causes_anything(policy in policies(), turns in turns(), restarts in any::<bool>()) {
        let run = Run::of(&policy, &turns, restarts, true);
        let mut seen: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
        let mut at = 0;
        for turn in &turns {
            at += turn.rounds * EVERY;
            for (all, shows) in seen.iter_mut().zip(turn.shows) {
                if !matches!(shows, Shows::Unknown | Shows::Absent) {
                    all.push(at);
                }
            }
        }
        let names = [instance("0").fingerprint, instance("1").fingerprint];
        let age = |alert, at: u64| {
            let which = names.iter().position(|name| *name == alert)?;
            let last = seen[which].iter().rev().find(|seen| **seen <= at)?;
            Some(at - last)
        };
        for (at, effects) in &run.log {
            for start in &effects.attempts {
                prop_assert_eq!(age(start.alert.fingerprint, *at), Some(0), "an attempt at {}", at);
            }
            for event in &effects.events {
                let repeats = matches!(&event.what, Happening::Queued { reason: Reason::Repeat, .. });
                if let (true, Some(alert)) = (repeats, event.fingerprint) {
                    prop_assert!(age(alert, *at).is_some_and(|age| age <= 25), "a repeat at {at}");
                }
            }
        }
    }

    /// I11: where the wall clock stands changes nothing but silences.
    #[test]
    fn the_wall_clock_changes_nothing(policy in policies(), turns in turns(), ahead in 1_u64..100_000_000) {
        let loud: Vec<Turn> = turns.iter().filter(|t| t.event != Happens::Silence).cloned().collect();
        let mut plain = Run::of(&policy, &[], false, true);
        let mut stepped = Run::of(&policy, &[], false, true);
        for (at, turn) in loud.iter().enumerate() {
            plain.turn(turn, false, true);
            // Forth and back.
            stepped.engine.wall_ahead = if at % 3 == 1 { ahead } else { 0 };
            stepped.turn(turn, false, true);
        }
        let done = |run: &Run| -> Vec<String> {
            let all = run.log.iter().flat_map(|(at, effects)| {
                let sends = effects.sends.iter().map(move |send| {
                    let what = &send.notification;
                    format!("{at} {} {:?} {:?} {}", send.notifier, what.reason, what.id, send.attempt)
                });
                let starts = effects.attempts.iter();
                sends.chain(starts.map(move |start| format!("{at} {} {}", start.procedure, start.attempt)))
            });
            all.collect()
        };
        prop_assert_eq!(plain.transitions(), stepped.transitions());
        prop_assert_eq!(done(&plain), done(&stepped));
    }

    /// I12: the same inputs give the same effects.
    #[test]
    fn replays_are_equal(policy in policies(), turns in turns()) {
        let one = Run::of(&policy, &turns, true, true);
        let two = Run::of(&policy, &turns, true, true);
        prop_assert_eq!(format!("{:?}", one.log), format!("{:?}", two.log));
    }
}
