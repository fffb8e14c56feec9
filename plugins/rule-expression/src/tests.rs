//! What can be written, what it means, and what is said about mistakes.

use serde_json::{Value, json};

use super::*;

fn names(inputs: &[(&str, f64)]) -> Vec<String> {
    inputs.iter().map(|(name, _)| (*name).to_owned()).collect()
}

fn number(text: &str, inputs: &[(&str, f64)]) -> f64 {
    let number = parse::number(text, &names(inputs)).unwrap();
    number_of(&number, &|input| inputs[input].1)
}

fn truth(text: &str, inputs: &[(&str, f64)]) -> Option<bool> {
    let condition = parse::condition(text, &names(inputs)).unwrap();
    truth_of(&condition, &|input| inputs[input].1)
}

#[test]
fn testdata_is_judged_as_expected() {
    mock::judges_testdata::<Expression>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn arithmetic_binds_as_in_school() {
    let inputs = [("a", 7.0), ("b", 2.0)];
    for (text, wanted) in [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("10 - 4 - 3", 3.0),
        ("24 / 4 / 2", 3.0),
        ("a % b", 1.0),
        ("-a + b", -5.0),
        ("--a", 7.0),
        ("2 * -b", -4.0),
        ("1e3 + 1.5e-1 + .5", 1_000.65),
        ("max(a, b, 9) - min(a, b)", 7.0),
        ("abs(b - a)", 5.0),
        ("round(a / b) + floor(2.9) + ceil(2.1)", 9.0),
        ("sqrt(16) + pow(b, 3) + ln(1) + log10(1000) + exp(0)", 16.0),
    ] {
        assert!((number(text, &inputs) - wanted).abs() < 1e-9, "{text}");
    }
}

#[test]
fn words_and_signs_of_logic_bind_as_usual() {
    let inputs = [("a", 1.0), ("b", 2.0)];
    for (text, wanted) in [
        ("a < b", true),
        ("a >= b", false),
        ("a != b and b == 2", true),
        // and before or.
        ("a > b and a > b or b > a", true),
        ("b > a || a > b && a > b", true),
        ("not a > b", true),
        ("!(a < b)", false),
        ("not not a < b", true),
        ("(a < b) and ((b) > a)", true),
        ("(a + b) * 2 > 5 and not (a > b or a == b)", true),
        ("a<=1", true),
    ] {
        assert_eq!(truth(text, &inputs), Some(wanted), "{text}");
    }
}

#[test]
fn what_is_not_known_follows_kleene() {
    let inputs = [("u", f64::NAN), ("a", 1.0), ("z", 0.0)];
    for (text, wanted) in [
        ("u > 1", None),
        ("u != u", None),
        ("not u > 1", None),
        ("u > 1 and a > 2", Some(false)),
        ("u > 1 and a > 0", None),
        ("a > 0 or u > 1", Some(true)),
        ("a > 2 or u > 1", None),
        ("z / z > 0", None),
        ("a / z > 100", Some(true)),
        ("max(a, u) > 0", None),
        ("min(u, a) > 0", None),
        ("known(u)", Some(false)),
        ("known(a) and not known(u)", Some(true)),
        ("or_else(u, 5) > 4", Some(true)),
        ("or_else(a, 5) > 4", Some(false)),
        ("sqrt(0 - a) > 0", None),
    ] {
        assert_eq!(truth(text, &inputs), wanted, "{text}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let inputs = [("errors", 1.0), ("total", 2.0)];
    let says = |text: &str| parse::condition(text, &names(&inputs)).unwrap_err();
    for (text, at, message) in [
        (
            "error > 1",
            0,
            "the rule has no input \"error\": its inputs are errors, total",
        ),
        ("errors", 0, "this is a number: compare it, like … > 0.01"),
        (
            "errors > ",
            9,
            "expected a number or an input, found the end",
        ),
        ("errors = 1", 7, "= compares nothing: write =="),
        (
            "0 < errors < total",
            11,
            "comparisons cannot be chained: write a < b and b < c",
        ),
        (
            "errors and total > 1",
            0,
            "this is a number, and \"and\" joins comparisons: write … > 0",
        ),
        (
            "(errors > 1) + 1 > 0",
            0,
            "this is a comparison, and a number is wanted here: join comparisons with and, or",
        ),
        ("(errors > 1", 11, "expected \")\", found the end"),
        ("errors > 1)", 10, "expected an operator, found \")\""),
        (
            "errors > 1 %",
            12,
            "expected a number or an input, found the end",
        ),
        (
            "errors > 5x",
            9,
            "\"5x\" is no number: write it like 0.01 or 1e6",
        ),
        ("errors > 1 ; total", 11, "';' has no meaning here"),
        (
            "sin(errors) > 1",
            0,
            "there is no function \"sin\": there are abs, ceil, exp, floor, ln, log10, max, min, or_else, pow, round, sqrt and known",
        ),
        ("max(errors) > 1", 0, "max takes 2 to 8 numbers, not 1"),
        ("abs(errors, 1) > 1", 0, "abs takes 1 numbers, not 2"),
        ("größer > 1", 2, "'ö' has no meaning here"),
        ("", 0, "expected a number or an input, found the end"),
    ] {
        let found = says(text);
        assert_eq!((found.at, &*found.message), (at, message), "{text}");
    }
}

#[test]
fn no_text_is_too_deep_or_too_long() {
    for text in [
        "(".repeat(900),
        "-".repeat(900) + "1 > 0",
        "not ".repeat(200) + "1 > 0",
        "abs(".repeat(200) + "1" + &")".repeat(200) + " > 0",
        "1+".repeat(499) + "1",
        "1".repeat(1_001),
        "1 > 0 and ".repeat(99) + "1 > 0",
    ] {
        // Whatever comes of it, it comes.
        let parsed = parse::condition(&text, &[]);
        if let Ok(condition) = parsed {
            truth_of(&condition, &|_| 0.0);
        }
    }
    assert!(
        parse::condition(&"(".repeat(60), &[])
            .unwrap_err()
            .message
            .contains("split the rule")
    );
    assert!(
        parse::condition(&" ".repeat(1_001), &[])
            .unwrap_err()
            .message
            .contains("longer than 1000")
    );
}

#[test]
fn any_bytes_are_read_or_refused() {
    let pieces = [
        "a", "1", "(", ")", " and ", " or ", "not ", "<", ">=", "-", "/", "max(", ",", "é", "&&",
        ".", "e5", "=",
    ];
    let mut seed = 1_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..(seed % 12) {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match parse::condition(&text, &["a".to_owned()]) {
            Ok(condition) => {
                truth_of(&condition, &|_| 1.0);
            }
            Err(mistake) => assert!(mistake.at <= text.chars().count(), "{text:?}"),
        }
    }
}

#[test]
fn an_active_severity_lasts_until_it_is_clear() {
    let config = json!({"when": {"warning": "errors / total > 0.01"}, "clear": {"warning": "errors / total < 0.005"}});
    let rule = Expression::configure(&config.to_string(), &["errors", "total"]).unwrap();
    let judge = |errors: f64, total: f64, active: Severities| {
        let batch = Batch::of(&["errors", "total"]).firing(&[errors, total], active);
        rule.judge(&batch.instances().next().unwrap()).breached()
    };
    let (none, warning) = (Severities::NONE, Severities::from(Severity::Warning));
    assert_eq!(judge(7.0, 1_000.0, none), Some(none));
    assert_eq!(judge(7.0, 1_000.0, warning), Some(warning));
    assert_eq!(judge(4.0, 1_000.0, warning), Some(none));
    assert_eq!(judge(0.0, 0.0, warning), None);
}
