//! Reload under fire: every two seconds a probe, a rule and a notifier are swapped, well and badly, and beside
//! them the configuration is edited, well and badly. What nobody touched must notice nothing.
//!
//! ```text
//!   plan of answers --> steady source --> probe `steady` (untouched) --+--> rule `plain` (untouched)
//!                                                                      +--> rule `swapped` (component swapped)
//!                                                                      +--> rule `edited` (table edited)
//!   component swapped --> probe `swapped` --> rule `on-swapped`: fires once, and for ever
//!   each alert --> notifier `untouched`, notifier `swapped` (component and table exchanged) --> one sink, two paths
//! ```
//!
//! The source answers by plan, one answer a request, so that every fire and every resolve is known beforehand:
//! what the sink got is compared with that.

mod edits;
mod reckoning;
mod swaps;

use crate::support::{
    Agent, Answer, Dice, Folder, Footprint, Server, all_told, history, now, number,
    on_a_machine_that_runs, seed, wait_for, wait_within,
};
use edits::{Edit, Editor};
use reckoning::Plan;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use swaps::{Kind, Outcome, Target};

/// Between two volleys.
const EVERY: Duration = Duration::from_secs(2);

/// How long it goes on, in seconds, unless [`SECS_VARIABLE`] says otherwise: each kind of swap comes twice. On a busy
/// machine it goes on until each has come once.
const SECS: u64 = 50;

/// A longer run: 600 is the ten minutes of the figure.
const SECS_VARIABLE: &str = "WATCHFIRE_UNDER_FIRE_SECS";

/// Repeats the volleys of a failed run. What the machine does between them is not repeated.
const SEED_VARIABLE: &str = "WATCHFIRE_UNDER_FIRE_SEED";

/// After so many volleys everything gets the time to settle, and is compared with what should be. Between two
/// such stops volleys fall into the work on those before.
const STOP_EVERY: u64 = 5;

/// For what was shot last to be served or refused: a compilation by an unoptimised compiler on a busy machine.
const SETTLE: Duration = Duration::from_secs(120);

/// Growth that counts as flat, bytes: what an allocator keeps of the largest reload so far.
const GROWTH: u64 = 6 << 20;

/// Mappings that may be there more in the last third than in the first. Compiled code is mapped from its file in
/// pieces, some fifty to a hundred a version: as many as the tables that come and go use, and the versions that
/// calls still hold.
const MAPPINGS: u64 = 400;

/// Descriptors that may be open more in the last third than in the first: connections that are kept alive, and
/// looks that have just ended.
const DESCRIPTORS: u64 = 10;

/// What the agent says of one plugin.
fn plugin(agent: &Agent, name: &str) -> Option<serde_json::Value> {
    let all = agent.get("/api/v1/plugins")?;
    let found = all.as_array()?.iter().find(|one| one["name"] == name);
    found.cloned()
}

/// Whether the agent took the last swap of a target as it should.
fn is_as(agent: &Agent, target: &Target) -> bool {
    let Some(plugin) = plugin(agent, target.name) else {
        return false;
    };
    let refused = !plugin["rejected"].is_null();
    match target.outcome {
        Outcome::Serves => !refused && plugin["sha256"] == target.serving,
        // A version before it goes on; the last one may have come and gone between two looks.
        Outcome::Refused => refused && plugin["running"] == true,
    }
}

/// Shoots until the time is over and each kind of swap has come; what was seen at each stop.
fn fire(
    agent: &Agent,
    targets: &mut [Target],
    editor: &mut Editor,
    time: Duration,
) -> (u64, Vec<Footprint>) {
    let start = now();
    let mut footprints = Vec::new();
    let mut volley = 0;
    while start.elapsed() < time || volley < Kind::ALL.len() as u64 {
        let begin = now();
        std::thread::scope(|scope| {
            for target in &mut *targets {
                scope.spawn(|| target.swap());
            }
            scope.spawn(|| editor.edit());
        });
        volley += 1;
        if volley % STOP_EVERY == 0 {
            settle(agent, targets, editor);
            footprints.push(Footprint::of(agent));
        }
        // The cadence of the volleys; nothing is waited for here.
        std::thread::sleep(EVERY.saturating_sub(begin.elapsed()));
    }
    (volley, footprints)
}

/// Waits until every last shot was served or refused, as it deserves.
fn settle(agent: &Agent, targets: &[Target], editor: &Editor) {
    for target in targets {
        let what = format!(
            "{} after {:?} is {:?}, serving {}",
            target.name, target.last, target.outcome, target.serving
        );
        wait_within(SETTLE, &what, || is_as(agent, target).then_some(()));
    }
    let what = format!("the configuration after {:?}", editor.last);
    wait_within(SETTLE, &what, || editor.is_taken(agent).then_some(()));
}

fn how_often<K: Ord + Copy>(all: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

#[test]
fn what_nobody_touched_notices_nothing() {
    on_a_machine_that_runs(under_fire);
}

fn under_fire() {
    let seed = seed(SEED_VARIABLE);
    let mut dice = Dice::new(seed);
    let secs = number(SECS_VARIABLE).unwrap_or(SECS);
    let plan = Plan::new(&mut dice, secs);
    let steady = Server::start(Answer::json(reckoning::LOW));
    steady.next(plan.answers());
    let sink = Server::start(Answer::json("{}"));

    let mut editor = Editor::new(&steady, &sink, dice.roll(u64::MAX));
    let folder = Folder::new(&editor.tables());
    editor.aim(&folder);
    let plugins = folder.path("data/plugins");
    // Whatever the umask is: a folder that the group can write is refused.
    std::fs::set_permissions(&plugins, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut targets = swaps::targets(&plugins, &mut dice);
    let agent = Agent::start(&folder);
    settle(&agent, &targets, &editor);
    let first = Footprint::of(&agent);

    let (volleys, mut footprints) =
        fire(&agent, &mut targets, &mut editor, Duration::from_secs(secs));
    // Shots between two stops may be overtaken, on a slow machine all of them: these are seen.
    for target in &mut targets {
        target.shoot(Kind::Garbage);
    }
    editor.shoot(Edit::UnknownKey);
    settle(&agent, &targets, &editor);
    for target in &mut targets {
        target.shoot(Kind::Renamed);
    }
    editor.shoot(Edit::Good);
    settle(&agent, &targets, &editor);
    // Before the whole history is asked for, which takes memory.
    footprints.push(Footprint::of(&agent));
    // The plan goes on until its last answer; then everything is low and resolved.
    let planned = Duration::from_secs(plan.len() as u64 + 30);
    wait_within(planned, "the plan is over", || {
        (steady.received().len() > plan.len()).then_some(())
    });
    wait_for("nothing of it fires any more", || {
        let alerts = agent.get("/api/v1/alerts")?;
        let mut firing = alerts["alerts"].as_array()?.iter();
        firing
            .all(|alert| alert["rule"] == "on-swapped" || alert["state"] == "ok")
            .then_some(())
    });
    let history = wait_for("everything is told", || {
        let history = history(&agent)?;
        all_told(&history).then_some(history)
    });

    println!("{volleys} volleys in {secs} s");
    for target in &targets {
        println!("{}: {:?}", target.name, how_often(target.shots.clone()));
    }
    println!("configuration: {:?}", how_often(editor.shots.clone()));
    reckoning::reloads(&history, &targets, &editor);
    reckoning::probes(&agent, &steady);
    reckoning::timers(&history);
    reckoning::messages(&plan, &steady.received(), &sink.received());
    flat(first, &footprints);
}

/// Memory and descriptors of the last stops against those of the first ones.
fn flat(first: Footprint, later: &[Footprint]) {
    let third = later.len().div_ceil(3);
    let most = |all: &[Footprint]| {
        let most = |of: fn(&Footprint) -> u64| all.iter().map(of).max().unwrap_or(0);
        [
            most(|one| one.memory_bytes),
            most(|one| one.mappings),
            most(|one| one.descriptors),
        ]
    };
    let (early, last) = (most(&later[..third]), most(&later[later.len() - third..]));
    println!("at the start {first:?}, at each stop {later:?}");
    println!("memory in bytes, mappings, descriptors: at most {early:?} early, {last:?} late");
    let slack = [GROWTH, MAPPINGS, DESCRIPTORS];
    for ((early, last), slack) in early.into_iter().zip(last).zip(slack) {
        assert!(last <= early + slack, "it grows: {later:?}");
    }
}

/// When something came, beside when it was due.
fn late(at: Instant, due: Instant) -> Duration {
    at.saturating_duration_since(due)
}
