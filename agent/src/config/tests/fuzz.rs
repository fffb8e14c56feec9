//! No text, however broken, makes the loader panic, and what it prints stays printable.

use super::super::render;
use super::load_text;
use proptest::prelude::*;

const WHOLE: &str = include_str!("../../../../config/watchfire.toml");

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
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn mutations_of_the_whole_file(
        edits in prop::collection::vec((0.0..1.0f64, 0usize..40, splice()), 1..6)
    ) {
        let mut text = WHOLE.to_owned();
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
fn deep_and_wide_texts_stay_cheap() {
    let started = std::time::SystemTime::now();
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("[{}]", vec!["a"; 50_000].join(".")),
        "[[rule]]\n".repeat(50_000),
        "x = 1\n".repeat(50_000),
        format!("[[rule]]\nid = \"a\"\nall = [{}]", "\"b\",".repeat(50_000)),
    ] {
        assert!(load_text(&text).is_err());
    }
    let took = started.elapsed().unwrap_or_default();
    assert!(took.as_secs() < 60, "{took:?}");
}
