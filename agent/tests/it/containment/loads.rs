//! A bad version arrives while a good one runs: it is refused in words, whatever is wrong with it, and the good one
//! goes on.

use super::hand_made::{self, ByHand};
use crate::support::bed::{Bed, version};
use crate::support::guests;
use std::sync::Arc;
use watchfire::plugin::UseState;

/// A probe of its own table.
const MINE: &str = "\n[[probe]]\nid = \"mine\"\nplugin = \"mine\"\nevery = \"1h\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_version_that_runs_outlives_every_bad_one() {
    let good = hand_made::probe("(i32.const 1024)", "");
    let mut bed = Bed::new(MINE)
        .with_plugin("mine", &version(&good, 1))
        .start()
        .await;
    // So that an unoptimised compiler gets there soon.
    bed.limit_compilations("ulimit -v 500000");
    assert_eq!(bed.state_of("mine"), UseState::Running);
    let before = Arc::clone(&bed.now().probes[0]);

    let trap = |describe: &'static str, configure: &'static str, collect: &'static str| {
        ByHand {
            describe,
            configure,
            collect,
            ..ByHand::default()
        }
        .bytes()
    };
    let (yes, no) = ("(i32.const 1024)", "(unreachable)");
    let stranger = ByHand {
        world: "test:worlds/with-stranger",
        imports: r#"(import "nobody:knows/this@1.0.0" "call" (func $call))"#,
        collect: "(call $call) (i32.const 1024)",
        ..ByHand::default()
    };
    let load = [0x20, 0, 0x28, 2, 0, 0x21, 0];
    let bomb = hand_made::only_module(&hand_made::functions(1, &load, 1_000_000));
    let rule = std::fs::read(guests::component("example-rule")).expect("built");
    for (what, bytes, told) in [
        (
            "a trap in describe",
            trap(no, yes, yes),
            "its describe failed: the plugin trapped",
        ),
        (
            "a trap in configure",
            trap(yes, no, yes),
            "configure failed",
        ),
        (
            "a trap in collect",
            trap(yes, yes, no),
            "a trial collection failed",
        ),
        (
            "a loop in describe",
            trap("(loop (br 0)) (unreachable)", yes, yes),
            // Its CPU budget or, on a busy machine, its two seconds.
            "its describe failed: the plugin ",
        ),
        (
            "a loop in collect",
            trap(yes, yes, "(loop (br 0)) (unreachable)"),
            "a trial collection failed: the plugin used up its CPU budget",
        ),
        (
            "an answer that is none",
            trap(yes, yes, "(i32.const 0x7ffffff0)"),
            "outside of its memory",
        ),
        (
            "more memory than there is",
            hand_made::probe(
                yes,
                "(data (i32.const 0) \"x\") (start $s) (func $s (if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable)))",
            ),
            "bytes of memory",
        ),
        (
            "a table larger than any",
            hand_made::probe(yes, "(table 2000000 funcref)"),
            "wants more than a plugin may have",
        ),
        ("another world", rule, "is no probe"),
        (
            "an unknown import",
            stranger.bytes(),
            "imports nobody:knows/this",
        ),
        ("a compile bomb", bomb, "its compilation wants more memory"),
    ] {
        bed.drop_in("mine", &bytes);
        bed.until(|now| {
            let rejection = now.plugins.rejection("mine");
            rejection.is_some_and(|rejection| rejection.reason.contains(told))
        })
        .await;
        let now = bed.now();
        assert!(Arc::ptr_eq(&before, &now.probes[0]), "{what}");
        println!(
            "{what}: {}",
            now.plugins.rejection("mine").expect("rejected").reason
        );
        let (answer, _) = before.probe.collect().await;
        answer.expect("the good one still answers");
    }
    let summary = bed.until_condition("watchfire_plugin_rejected", true).await;
    assert!(summary.starts_with("running "), "{summary}");
    bed.drop_in("mine", &version(&good, 2));
    bed.until(|now| now.plugins.rejection("mine").is_none())
        .await;
    assert!(
        !Arc::ptr_eq(&before, &bed.now().probes[0]),
        "version 2 serves"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artefact_is_compiled_anew() {
    let good = version(&hand_made::probe("(i32.const 1024)", ""), 1);
    let mut bed = Bed::new(MINE).with_plugin("mine", &good).start().await;
    bed.until_compilations(1).await;
    let folder = bed.data().join("code");
    let artefact = std::fs::read_dir(&folder)
        .expect("the cache")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .max_by_key(|path| path.metadata().map_or(0, |file| file.len()))
        .expect("an artefact");
    let whole = std::fs::read(&artefact).expect("read");
    let compilations = bed.compilations();
    // At its start, in its code, at its end; cut, and grown.
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damages = [
        flipped(0),
        flipped(whole.len() / 2),
        flipped(whole.len() - 1),
        whole[..whole.len() / 2].to_vec(),
        Vec::new(),
        [&whole[..], b"x"].concat(),
    ];
    for (at, damage) in damages.iter().enumerate() {
        bed = bed.stop().await;
        std::fs::write(&artefact, damage).expect("damaged");
        bed = bed.start().await;
        assert_eq!(bed.state_of("mine"), UseState::Running, "damage {at}");
        let (answer, _) = bed.now().probes[0].probe.collect().await;
        answer.expect("it answers");
        assert_eq!(bed.compilations(), compilations + at + 1, "damage {at}");
        assert_eq!(std::fs::read(&artefact).expect("read").len(), whole.len());
    }
}
