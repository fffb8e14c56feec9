//! The budget on a clock of its own, and the shared one on tokio's.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// A budget on a clock of its own.
struct Scene {
    budget: Budget,
    start: Instant,
    at: Duration,
}

impl Scene {
    fn new() -> Self {
        Scene {
            budget: Budget::default(),
            start: Instant::now(),
            at: Duration::ZERO,
        }
    }

    fn now(&self) -> Instant {
        self.start + self.at
    }

    /// One turn: asks, and if it may, calls with that verdict.
    fn turn(&mut self, verdict: Verdict) -> (Answer, Change) {
        let asked = self.budget.ask(self.now());
        let change = match asked {
            Answer::NotBefore(_) => Change::None,
            asked => self.budget.judge(asked, verdict, self.now()),
        };
        (asked, change)
    }

    /// Faults until it is quarantined; how many it took.
    fn spoil(&mut self) -> u32 {
        (1..100)
            .find(|_| self.turn(Verdict::Fault).1 == Change::Quarantined)
            .expect("it has a bound")
    }

    /// How long it is not called from now on.
    fn withheld(&mut self) -> Duration {
        let now = self.now();
        match self.budget.clone().ask(now) {
            Answer::NotBefore(until) => until - now,
            _ => Duration::ZERO,
        }
    }
}

#[test]
fn five_faults_in_a_row_and_no_fewer() {
    let mut scene = Scene::new();
    for verdict in [
        Verdict::Fault,
        Verdict::Fault,
        Verdict::Fault,
        Verdict::Fault,
        Verdict::Answered,
        Verdict::Fault,
        Verdict::Nothing,
        Verdict::Fault,
        Verdict::Fault,
        Verdict::Fault,
    ] {
        assert_eq!(scene.turn(verdict), (Answer::Call, Change::None));
    }
    assert_eq!(scene.turn(Verdict::Fault).1, Change::Quarantined);
    assert_eq!(scene.withheld(), SECOND);
}

#[test]
fn the_wait_doubles_to_five_minutes_and_an_answer_ends_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.spoil(), FAILURES_MAX);
    let mut waits = Vec::new();
    for _ in 0..11 {
        let wait = scene.withheld();
        waits.push(wait.as_secs());
        scene.at += wait - Duration::from_nanos(1);
        assert!(matches!(
            scene.turn(Verdict::Answered).0,
            Answer::NotBefore(_)
        ));
        scene.at += Duration::from_nanos(1);
        assert_eq!(
            scene.turn(Verdict::Fault),
            (Answer::Trial, Change::Prolonged)
        );
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    scene.at += WAIT_MAX;
    assert_eq!(
        scene.turn(Verdict::Answered),
        (Answer::Trial, Change::Released)
    );
    assert_eq!(scene.turn(Verdict::Answered), (Answer::Call, Change::None));
}

#[test]
fn a_relapse_goes_on_where_the_wait_was_and_a_long_peace_forgives() {
    let mut scene = Scene::new();
    scene.spoil();
    scene.at += SECOND;
    scene.turn(Verdict::Fault);
    scene.at += 2 * SECOND;
    assert_eq!(scene.turn(Verdict::Answered).1, Change::Released);
    scene.at += RELAPSE - SECOND;
    assert_eq!(scene.spoil(), FAILURES_MAX, "a release gives a full budget");
    assert_eq!(scene.withheld(), 4 * SECOND);
    scene.at += 4 * SECOND;
    assert_eq!(scene.turn(Verdict::Answered).1, Change::Released);
    scene.at += RELAPSE;
    scene.spoil();
    assert_eq!(scene.withheld(), SECOND);
}

#[test]
fn one_trial_at_a_time_and_one_that_was_not_made_is_due_again() {
    let mut scene = Scene::new();
    scene.spoil();
    scene.at += SECOND;
    assert_eq!(scene.budget.ask(scene.now()), Answer::Trial);
    assert!(matches!(
        scene.budget.ask(scene.now()),
        Answer::NotBefore(_)
    ));
    // What began before the quarantine says nothing in it.
    let late = scene
        .budget
        .judge(Answer::Call, Verdict::Answered, scene.now());
    assert_eq!(late, Change::None);
    scene.budget.abandon(scene.now());
    assert_eq!(scene.budget.ask(scene.now()), Answer::Trial);
    // A trial that showed nothing is repeated after the same wait.
    let nothing = scene
        .budget
        .judge(Answer::Trial, Verdict::Nothing, scene.now());
    assert_eq!((nothing, scene.withheld()), (Change::None, SECOND));
}

#[test]
fn whose_fault_it_is() {
    let text = String::new;
    let waited = Cost {
        wall: 5 * SECOND,
        host: 4 * SECOND,
        ..Cost::default()
    };
    let worked = Cost {
        wall: 5 * SECOND,
        busy: 4 * SECOND,
        ..Cost::default()
    };
    for (error, cost, verdict) in [
        (None, worked, Verdict::Answered),
        (
            Some(CallError::Config(text())),
            Cost::default(),
            Verdict::Answered,
        ),
        (
            Some(CallError::Denied(text())),
            Cost::default(),
            Verdict::Answered,
        ),
        (
            Some(CallError::Rejected(text())),
            Cost::default(),
            Verdict::Answered,
        ),
        (
            Some(CallError::Unavailable {
                message: text(),
                retry_after: None,
            }),
            waited,
            Verdict::Answered,
        ),
        (
            Some(CallError::Internal(text())),
            Cost::default(),
            Verdict::Fault,
        ),
        (
            Some(CallError::Trapped(text())),
            Cost::default(),
            Verdict::Fault,
        ),
        (Some(CallError::Exited(0)), Cost::default(), Verdict::Fault),
        (
            Some(CallError::CpuLimit(SECOND)),
            Cost::default(),
            Verdict::Fault,
        ),
        (
            Some(CallError::MemoryLimit(1)),
            Cost::default(),
            Verdict::Fault,
        ),
        (
            Some(CallError::HostCallLimit(1)),
            Cost::default(),
            Verdict::Fault,
        ),
        (
            Some(CallError::BadResult(text())),
            Cost::default(),
            Verdict::Fault,
        ),
        (Some(CallError::WallLimit(SECOND)), worked, Verdict::Fault),
        (Some(CallError::WallLimit(SECOND)), waited, Verdict::Nothing),
    ] {
        assert_eq!(Verdict::of(error.as_ref(), &cost), verdict, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_is_shown_rings_and_ends() {
    let bell = Arc::new(Notify::new());
    let quarantine = Quarantine::new(bell.clone());
    let trap = CallError::Trapped("boom\u{1b}".into());
    for _ in 0..FAILURES_MAX {
        assert!(quarantine.held().is_none());
        let leave = quarantine.ask().expect("it may be called");
        leave.settle(Some(&trap), &Cost::default());
    }
    bell.notified().await;
    let held = quarantine.held().expect("it is quarantined");
    assert_eq!(&*held.reason, "the plugin trapped: boom ");
    let refused = quarantine.ask().expect_err("it waits");
    assert!(refused.to_string().contains("boom"), "{refused}");
    assert!(matches!(refused, CallError::Quarantined { retry_after, .. } if retry_after == SECOND));
    tokio::time::advance(SECOND).await;
    drop(quarantine.ask().expect("a trial that is not made"));
    let leave = quarantine.ask().expect("is due again");
    assert_eq!(
        leave.settle(Some(&trap), &Cost::default()),
        Change::Prolonged
    );
    assert_eq!(quarantine.held().expect("still").trials, 1);
    tokio::time::advance(2 * SECOND).await;
    let leave = quarantine.ask().expect("the second trial");
    assert_eq!(leave.settle(None, &Cost::default()), Change::Released);
    bell.notified().await;
    assert!(quarantine.held().is_none());
}

fn verdicts() -> impl Strategy<Value = Vec<(Verdict, u64)>> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Fault),
        1 => Just(Verdict::Answered),
        1 => Just(Verdict::Nothing),
    ];
    proptest::collection::vec((verdict, 0..200_000_u64), 1..200)
}

proptest! {
    /// Whatever happens: nobody is withheld before five faults in a row, nobody waits longer than five
    /// minutes, trials are at least a second apart, and an answer to one always ends the quarantine.
    #[test]
    fn bounds_hold(turns in verdicts()) {
        let mut scene = Scene::new();
        let mut in_a_row = 0;
        let mut quarantined = false;
        let mut last_trial: Option<Duration> = None;
        for (verdict, millis) in turns {
            scene.at += Duration::from_millis(millis);
            let (asked, change) = scene.turn(verdict);
            match asked {
                Answer::Call => {
                    prop_assert!(!quarantined);
                    match verdict {
                        Verdict::Fault => in_a_row += 1,
                        Verdict::Answered => in_a_row = 0,
                        Verdict::Nothing => {}
                    }
                    prop_assert_eq!(change == Change::Quarantined, in_a_row == FAILURES_MAX);
                    quarantined = change == Change::Quarantined;
                }
                Answer::Trial => {
                    prop_assert!(quarantined);
                    if let Some(last) = last_trial {
                        prop_assert!(scene.at - last >= WAIT_FIRST);
                    }
                    last_trial = Some(scene.at);
                    prop_assert_eq!(change == Change::Released, verdict == Verdict::Answered);
                    if change == Change::Released {
                        quarantined = false;
                        in_a_row = 0;
                    }
                }
                Answer::NotBefore(until) => {
                    prop_assert!(quarantined);
                    prop_assert!(until > scene.now() && until <= scene.now() + WAIT_MAX);
                }
            }
        }
    }
}
