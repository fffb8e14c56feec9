//! No text, however broken, makes the loader panic, and what it prints stays printable.

use super::super::render;
use super::load_text;
use proptest::prelude::*;
use std::sync::LazyLock;

const WHOLE: &str = include_str!("../../../../config/watchfire.toml");

/// The file without its comments and packs: more mutations hit something, and each costs less.
static SHORT: LazyLock<String> = LazyLock::new(|| {
    let code = |line: &str| line.split(" #").next().unwrap_or("").trim_end().to_owned() + "\n";
    WHOLE
        .replace("[\"host\", \"service-levels\"]", "[]")
        .replace("host-cpu-high", "queue-silent")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(code)
        .collect()
});

/// What gets written over a random place.
fn splice() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("\"".to_owned()),
        Just("[[".to_owned()),
        Just("]\n[".to_owned()),
        Just("\n[[rule]]\n".to_owned()),
        Just(" = { ".to_owned()),
        Just("'''".to_owned()),
        Just("{{secret:".to_owned()),
        Just("~(".to_owned()),
        Just("1e999".to_owned()),
        Just("-9223372036854775809".to_owned()),
        Just("1979-05-27".to_owned()),
        "\\PC{0,6}",
        "[a-z_.]{1,8} = [0-9\"\\[{t]{1,3}\n",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn mutations_of_the_whole_file(
        edits in prop::collection::vec((0.0..1.0f64, 0usize..40, splice()), 1..6)
    ) {
        let mut text = SHORT.clone();
        for (at, length, with) in edits {
            let mut start = (at * text.len() as f64) as usize;
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + length).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, &with);
        }
        if let Err(mistakes) = load_text(&text) {
            prop_assert!(!mistakes.is_empty());
            let printed = render(&mistakes, false);
            prop_assert!(!printed.chars().any(|c| c.is_control() && c != '\n'));
            prop_assert!(mistakes.iter().all(|m| m.line > 0 && m.column > 0));
        }
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        let _ = load_text(&text).map_err(|mistakes| render(&mistakes, true));
    }
}

#[test]
fn what_is_mutated_holds_by_itself() {
    super::good(&SHORT);
}

#[test]
fn a_thousand_rules_load_quickly() {
    let text: String = (0..1_000)
        .map(|n| format!("[[rule]]\nid = \"rule-{n}\"\nmetric = \"m\"\nfor = \"1m\"\nsummary = \"at {{{{ value }}}}\"\nconfig = {{ above = {{ warning = 1, critical = 2 }} }}\n"))
        .collect();
    let started = std::time::SystemTime::now();
    assert_eq!(super::good(&text).config.rules.len(), 1_000);
    let took = started.elapsed().unwrap_or_default();
    assert!(
        took.as_secs() < 30,
        "{took:?}, unoptimised; about 20 times less as shipped"
    );
    println!("a thousand rules: {took:?}");
}

#[test]
fn deep_and_wide_texts_stay_cheap() {
    let started = std::time::SystemTime::now();
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("[{}]", vec!["a"; 50_000].join(".")),
        "[[rule]]\n".repeat(50_000),
        "x = 1\n".repeat(50_000),
        format!("[[rule]]\nid = \"a\"\nall = [{}]", "\"b\",".repeat(50_000)),
        (0..5_000)
            .map(|n| format!("[[rule]]\nid = \"rule-{n}\"\nall = [\"rile-{n}\"]\n"))
            .collect(),
    ] {
        assert!(load_text(&text).is_err());
    }
    let took = started.elapsed().unwrap_or_default();
    assert!(
        took.as_secs() < 100,
        "{took:?}; a few seconds, unless it grows with the square"
    );
}
