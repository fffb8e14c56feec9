//! Every effect boundary crashes once (reliability.md 2.3, C1 to C10; C12 in `quarantine`): the real engine on the real
//! `state.db`, a simulated world around them, and a comparison with the run that nobody killed.
//!
//! Two kinds of runs. In the first the process is back at once, so that what reaches the services must
//! be the same, message by message, ids included; only what was under way may come twice, with its id
//! (C4, C5). In the second it dies often, at random, and stays away for a while: then what happened
//! meanwhile was not seen, and the promises hold instead: nothing committed is lost, every fire is
//! followed by a resolve, no attempt runs twice.

mod quarantine;
mod scenarios;
mod told;
mod world;

use scenarios::{ALL, Scenario};
use std::collections::{BTreeMap, BTreeSet};
use told::{Arrival, content, is_meta, is_of_notifications};
use world::{Deaths, World};

/// Random runs of each scenario; their seeds are 0, 1, 2 …
const SEEDS: u64 = 6;

/// Another number of random runs, for longer hunts.
const SEEDS_VARIABLE: &str = "WATCHFIRE_CRASH_SEEDS";

/// Messages accepted by services, by id.
fn accepted(world: &World) -> BTreeMap<String, Vec<&Arrival>> {
    let mut all: BTreeMap<String, Vec<&Arrival>> = BTreeMap::new();
    for arrival in world.arrivals.iter().filter(|arrival| arrival.accepted) {
        let id = arrival.notification.id.to_string();
        all.entry(id).or_default().push(arrival);
    }
    all
}

/// What services know in the end: each message once, whatever its id; meta-alerts left out.
fn told(world: &World) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for arrivals in accepted(world).values() {
        let first = arrivals[0];
        if !first
            .notification
            .alerts
            .iter()
            .all(|a| is_meta(a.rule.as_str()))
        {
            *all.entry(content(first)).or_default() += 1;
        }
    }
    all
}

/// Faults that no run may have.
fn faults(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, arrivals) in accepted(world) {
        let first = arrivals[0];
        if arrivals.len() > 1 && !world.uncertain.contains(&id) {
            let said = content(first);
            faults.push(format!(
                "came {} times for no reason: {said}",
                arrivals.len()
            ));
        }
        if arrivals
            .iter()
            .any(|other| other.notification != first.notification)
        {
            faults.push(format!("two messages with one id: {}", content(first)));
        }
    }
    faults.extend(never_told(world));
    faults.extend(not_alternating(world));
    let mut acted = BTreeSet::new();
    for (_, what) in &world.acted {
        if !acted.insert(what) {
            faults.push(format!("done twice: {what}"));
        }
    }
    let (alerts, waiting) = world.left();
    if !alerts.is_empty() || waiting > 0 {
        faults.push(format!(
            "{waiting} messages wait, and these fire: {alerts:?}"
        ));
    }
    faults
}

/// One message as the history knows it.
struct Decided {
    notifier: String,
    reason: String,
    /// `cpu{i="0"}#1`.
    alert: String,
    /// What became of it; none: nothing yet.
    end: Option<&'static str>,
}

/// Every message that was decided upon, in order, by id.
fn decided(world: &World) -> Vec<(String, Decided)> {
    let mut all: Vec<(String, Decided)> = Vec::new();
    for event in world.history().iter().filter(|e| is_of_notifications(e)) {
        let body: serde_json::Value = serde_json::from_str(&event.event.body).expect("JSON");
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let id = text("id");
        let what = text("what");
        if what == "queued" {
            let message = Decided {
                notifier: text("notifier"),
                reason: text("reason").replace('_', "-"),
                alert: format!("{}#{}", event.event.alert, event.event.episode),
                end: None,
            };
            all.push((id, message));
            continue;
        }
        // What was not decided upon because something mutes it.
        if what == "suppressed" {
            continue;
        }
        let known = all.iter_mut().find(|(known, _)| *known == id);
        let (_, message) = known.expect("a message that was decided upon");
        message.end = match what.as_str() {
            "superseded" => Some("superseded"),
            "dead_letter" => Some("dead letter"),
            "delivered" if body["outcome"] == "accepted" => Some("accepted"),
            "delivered" => message.end,
            other => panic!("an event {other:?}"),
        };
    }
    all
}

/// P1: what was committed as decided upon reached its service, or a newer state took its place, or the
/// service refused it for good.
fn never_told(world: &World) -> Vec<String> {
    let accepted = accepted(world);
    let mut faults = Vec::new();
    for (id, message) in decided(world) {
        let Decided {
            notifier,
            reason,
            alert,
            end,
        } = message;
        let what = format!("{notifier} {reason} {alert} [{}]", &id[..6]);
        match end {
            None => faults.push(format!("decided upon and never told: {what}")),
            Some("accepted") if !accepted.contains_key(&id) => {
                faults.push(format!(
                    "never came, and the history says that it did: {what}"
                ));
            }
            Some(_) => {}
        }
    }
    faults
}

/// I1, I2: of each alert and service a fire, then what changes it, then one resolve, in the order of the
/// decisions. I3: the last word that every service heard is that it is over.
fn not_alternating(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    let mut open: BTreeMap<(String, String), bool> = BTreeMap::new();
    for (_, message) in decided(world) {
        let (name, _) = message.alert.rsplit_once('#').expect("an episode");
        let place = (message.notifier.clone(), name.to_owned());
        let open = open.entry(place).or_default();
        let fits = match message.reason.as_str() {
            "fire" | "escalation" => !std::mem::replace(open, true),
            "resolve" => std::mem::replace(open, false),
            "escalate" | "deescalate" | "repeat" => *open,
            // What it says of the state is told by the sink below.
            "flap-start" | "flap-stop" => {
                *open = false;
                true
            }
            _ => true,
        };
        if !fits {
            faults.push(format!("out of turn: {} {}", message.reason, message.alert));
        }
    }
    let mut last: BTreeMap<(String, String), bool> = BTreeMap::new();
    for arrival in world.arrivals.iter().filter(|arrival| arrival.accepted) {
        let said = &arrival.notification;
        for alert in &said.alerts {
            let fires = match said.reason.name() {
                "flap-stop" => said.note.as_deref() != Some("ok"),
                "exhausted" | "approval-wanted" => continue,
                _ => alert.ended_at.is_none(),
            };
            last.insert((arrival.notifier.clone(), told::name(alert)), fires);
        }
    }
    let last = last
        .iter()
        .filter(|((_, alert), fires)| **fires && !is_meta(alert));
    faults.extend(last.map(|(of, _)| format!("never told that it is over: {of:?}")));
    faults
}

/// Against the run without a crash: nothing more; nothing less, but for what a newer state overtook
/// while it was under way.
fn differences(world: &World, undisturbed: &World) -> Vec<String> {
    let (now, before) = (told(world), told(undisturbed));
    let overtaken: Vec<String> = decided(world)
        .into_iter()
        .filter(|(_, message)| message.end == Some("superseded"))
        .map(|(_, m)| format!("{} {} {}", m.notifier, m.reason, m.alert))
        .collect();
    let mut faults = Vec::new();
    for (what, count) in &now {
        if before.get(what).copied().unwrap_or(0) < *count {
            faults.push(format!("told, but not without the crash: {what}"));
        }
    }
    for (what, count) in &before {
        let newer = overtaken.iter().any(|other| what.starts_with(other));
        if now.get(what).copied().unwrap_or(0) < *count && !newer {
            faults.push(format!("told without the crash, but not now: {what}"));
        }
    }
    faults
}

fn fail(scenario: &Scenario, world: &World, how: &str, faults: &[String]) -> ! {
    let log = world.log().join("\n");
    let faults = faults.join("\n  ");
    panic!("\n{}: {how}:\n  {faults}\n{log}\n", scenario.name)
}

/// One death at every boundary, back at once.
fn at_every_boundary(scenario: &'static Scenario) {
    let undisturbed = World::new(scenario, Deaths::Never, 0).run();
    let found = faults(&undisturbed);
    if !found.is_empty() {
        fail(scenario, &undisturbed, "without a crash", &found);
    }
    assert!(!undisturbed.arrivals.is_empty(), "something was told");
    let boundaries = undisturbed.boundaries.clone();
    for (number, boundary) in boundaries.iter().enumerate() {
        let world = World::new(scenario, Deaths::At(number), 0).run();
        assert_eq!(world.died.len(), 1);
        let mut found = faults(&world);
        if !scenario.recovers && !scenario.overtakes {
            found.extend(differences(&world, &undisturbed));
        }
        if !found.is_empty() {
            let how = format!("killed at boundary {number}, {boundary:?}");
            fail(scenario, &world, &how, &found);
        }
    }
    println!("{}: {} crashes", scenario.name, boundaries.len());
}

/// Many deaths, and time away.
fn at_random(scenario: &'static Scenario) {
    let seeds = std::env::var(SEEDS_VARIABLE).ok();
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let often = Deaths::Often {
            per_mille: 60,
            most: 12,
        };
        let mut world = World::new(scenario, often, seed);
        world.away_max = 45_000;
        let world = world.run();
        let found = faults(&world);
        if !found.is_empty() {
            fail(scenario, &world, &format!("seed {seed}"), &found);
        }
    }
}

macro_rules! scenarios {
    ($($test:ident = $number:literal,)*) => {
        $(#[test]
        fn $test() {
            at_every_boundary(&ALL[$number]);
            at_random(&ALL[$number]);
        })*

        #[test]
        fn every_scenario_has_its_test() {
            let numbers: &[usize] = &[$($number),*];
            assert_eq!(numbers, (0..ALL.len()).collect::<Vec<_>>());
        }
    };
}

scenarios! {
    escalation = 0,
    slow_deliveries = 1,
    for_and_keep = 2,
    unknown_and_absent = 3,
    repeats = 4,
    silences = 5,
    groups = 6,
    slow_groups = 7,
    inhibition = 8,
    outages = 9,
    retry_after = 10,
    dead_letters = 11,
    flapping = 12,
    reloads = 13,
    recovery_helps = 14,
    recovery_gives_up = 15,
    recovery_asks = 16,
}
