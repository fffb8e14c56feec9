//! Files that are no plugin, not any more, or not of this host: each is refused in words that teach, none panics
//! the compiler, none loads half.

use super::{Bench, hand_made};
use crate::support::guests;
use std::time::Duration;
use watchfire::sandbox::{CompileError, compile};

/// The message that its author gets, from whichever side refuses it.
fn refusal(bench: &Bench, bytes: &[u8]) -> String {
    match compile(bytes, bench.sandbox.settings()) {
        Err(error) => error.to_string(),
        Ok(artefact) => match bench.sandbox.load("x", [0; 32], &artefact, false) {
            Err(error) => error.to_string(),
            Ok(component) => panic!("loaded as {:?}", component.kinds()),
        },
    }
}

#[tokio::test]
async fn components_of_other_hosts_are_told_what_is_expected() {
    let bench = Bench::new();
    let rule_with_http = r#"(component
        (import "watchfire:plugin/http@0.1.0" (instance))
        (instance $i) (export "watchfire:plugin/rule@0.1.0" (instance $i)))"#;
    let stranger = hand_made::ByHand {
        world: "test:worlds/with-stranger",
        imports: r#"(import "nobody:knows/this@1.0.0" "call" (func $call))"#,
        collect: "(call $call) (i32.const 1024)",
        ..hand_made::ByHand::default()
    };
    for (what, bytes, told) in [
        (
            "nothing of ours",
            hand_made::text(
                r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
            ),
            "is no plugin: it exports none of watchfire:plugin/probe, rule, notifier, action; it exports wasi:cli/run@0.2.0",
        ),
        (
            "a contract of the future",
            hand_made::text(
                r#"(component (instance $i) (export "watchfire:plugin/probe@0.2.0" (instance $i)))"#,
            ),
            "this agent hosts contract 0.1: build the plugin with the matching SDK",
        ),
        (
            "an interface without its functions",
            hand_made::text(
                r#"(component (instance $i) (export "watchfire:plugin/probe@0.1.0" (instance $i)))"#,
            ),
            "describe",
        ),
        (
            "what only others may import",
            hand_made::text(rule_with_http),
            "imports watchfire:plugin/http, which is for probes, notifiers, actions, not for rules",
        ),
        (
            "what nobody has",
            stranger.bytes(),
            "imports nobody:knows/this@1.0.0; a plugin gets nothing but watchfire:plugin and the base of WASI 0.2",
        ),
        (
            "a core module",
            wat::parse_str("(module)").unwrap(),
            "it is a core module, not a component: build it with `cargo build --release --target wasm32-wasip2`",
        ),
        (
            "text",
            b"(component)".to_vec(),
            "it is WebAssembly text: translate it",
        ),
        (
            "64 bits",
            hand_made::only_module(&wat::parse_str("(module (memory i64 1))").unwrap()),
            "memory64",
        ),
        (
            "shared memory",
            hand_made::only_module(&wat::parse_str("(module (memory 1 2 shared))").unwrap()),
            "threads",
        ),
    ] {
        let error = refusal(&bench, &bytes);
        println!("{what}: {error}");
        assert!(error.contains(told), "{what}: {error}");
        assert!(!error.contains('\n'), "one line: {error:?}");
    }
}

#[tokio::test]
async fn an_interface_in_another_shape_is_told_which() {
    let bench = Bench::new();
    // `collect` that takes a number.
    let component = hand_made::text(
        r#"(component
            (core module $m (func (export "f") (param i32)))
            (core instance $i (instantiate $m))
            (func $f (param "n" u32) (canon lift (core func $i "f")))
            (instance $probe (export "describe" (func $f)) (export "configure" (func $f))
                (export "collect" (func $f)))
            (export "watchfire:plugin/probe@0.1.0" (instance $probe)))"#,
    );
    let artefact = compile(&component, bench.sandbox.settings()).unwrap();
    let component = bench.sandbox.load("x", [0; 32], &artefact, false).unwrap();
    // Every load asks it what it is, and gets this far only with the right types.
    let error = component.describe().await.unwrap_err().to_string();
    println!("{error}");
    assert!(
        error.contains("another type than the contract says"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_cut_anywhere_is_refused() {
    let bench = Bench::new();
    let whole = std::fs::read(guests::component("example-probe")).unwrap();
    let small = hand_made::probe("(i32.const 1024)", "");
    let cuts = (0..whole.len()).step_by(1 << 10).map(|at| &whole[..at]);
    // Of the small one every byte.
    let all = cuts.chain((0..small.len()).map(|at| &small[..at]));
    let mut refused = 0;
    for part in all {
        match compile(part, bench.sandbox.settings()) {
            // Cut between two sections, it is a component without exports.
            Err(
                CompileError::Invalid(_)
                | CompileError::NotAComponent(_)
                | CompileError::Refused(_),
            ) => {
                refused += 1;
            }
            // Cut before the names at its end, which nobody needs: whole.
            Ok(artefact) => {
                bench.sandbox.load("x", [0; 32], &artefact, false).unwrap();
            }
            Err(other) => panic!("{} bytes: {other}", part.len()),
        }
    }
    assert!(
        refused > small.len() / 2 + (whole.len() >> 10) - 2,
        "{refused}"
    );
}

#[tokio::test]
async fn flipped_bits_are_refused_or_stay_inside() {
    let bench = Bench::new();
    let whole = hand_made::probe("(i32.const 1024)", "(data (i32.const 512) \"metric\")");
    let (mut refused, mut ran) = (0, 0);
    // Every bit would take minutes; 7 goes through all of a byte.
    for bit in (0..whole.len() * 8).step_by(7) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let artefact = match compile(&bytes, bench.sandbox.settings()) {
            Ok(artefact) => artefact,
            Err(CompileError::Panicked) => panic!("bit {bit}: the compiler panicked"),
            Err(_) => {
                refused += 1;
                continue;
            }
        };
        let Ok(component) = bench.sandbox.load("x", [0; 32], &artefact, false) else {
            refused += 1;
            continue;
        };
        if !component
            .kinds()
            .contains(&watchfire::sandbox::types::Kind::Probe)
        {
            continue;
        }
        // Whatever it does now, it ends and costs what it may cost.
        let probe = super::probe(&component, &serde_json::json!({}), |limits, _| {
            limits.cpu = Duration::from_millis(20);
            limits.memory_bytes = 4 << 20;
        });
        let (_, cost) = probe.collect().await;
        assert!(cost.memory_bytes <= 4 << 20, "bit {bit}: {cost:?}");
        ran += 1;
    }
    println!("{} bits: {refused} refused, {ran} ran", whole.len() * 8);
    assert!(
        refused > ran / 10 && ran > 0,
        "{refused} refused, {ran} ran"
    );
}
