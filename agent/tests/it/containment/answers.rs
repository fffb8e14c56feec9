//! What a guest hands over: too much of it, and bytes that are no answer.

use super::Bench;
use super::hand_made::{self, TEXTS, one_point};
use std::time::Duration;
use watchfire::sandbox::types::CallError;

#[tokio::test]
async fn answers_that_are_too_large_are_refused_whole() {
    let bench = Bench::new();
    for (deed, words) in [
        ("million", "more than"),
        (
            "eleven thousand",
            "11000 samples in 1 families, more than 10000",
        ),
        ("long value", "more than 4194304 bytes at once"),
        ("twice", "series twice stands twice"),
    ] {
        // The interpreter needs longer than a call may to make so much.
        let probe = bench.hostile(deed, |limits, _| {
            limits.cpu = Duration::from_secs(20);
            limits.wall = Duration::from_secs(30);
        });
        let error = probe.collect().await.0.unwrap_err();
        // A million samples may fail for their memory or for their transfer, whichever is first.
        let named = matches!(error, CallError::BadResult(_) | CallError::MemoryLimit(_));
        assert!(named, "{deed}: {error}");
        assert!(error.to_string().contains(words), "{deed}: {error}");
    }
}

#[tokio::test]
async fn strange_text_survives() {
    let bench = Bench::new();
    let (answer, _) = bench.collect("strange text").await;
    let collection = answer.unwrap();
    let text = "\u{1b}[31m<b>\"\\\n\u{202e}\0";
    let family = &collection.families[0];
    assert_eq!(&*family.help, text);
    assert_eq!(family.points[0].series.labels.get("text"), Some(text));
    assert!(family.points[0].value.is_nan());
}

#[tokio::test]
async fn an_answer_by_hand_is_an_answer() {
    let bench = Bench::new();
    let probe = bench.by_hand(&hand_made::probe(&one_point(""), TEXTS), |_, _| ());
    let collection = probe.collect().await.0.unwrap();
    assert_eq!(&*collection.families[0].metric, "metric");
    assert_eq!(super::value(&collection), 7.0);
}

#[tokio::test]
async fn bytes_that_are_no_answer_are_refused_in_words() {
    let bench = Bench::new();
    for (what, change, told) in [
        (
            "a name that is no UTF-8",
            "(i32.store (i32.const 2048) (i32.const 528)) (i32.store (i32.const 2052) (i32.const 4))",
            "text that is not UTF-8",
        ),
        (
            "a list behind the end of memory",
            "(i32.store (i32.const 1032) (i32.const 0x7ffffff0))",
            "outside of its memory",
        ),
        (
            "a list that is longer than memory",
            "(i32.store (i32.const 1036) (i32.const -1))",
            "outside of its memory",
        ),
        (
            "a text behind the end of memory",
            "(i32.store (i32.const 2052) (i32.const 0x7fffffff))",
            "outside of its memory",
        ),
        (
            "a list that is not aligned",
            "(i32.store (i32.const 1032) (i32.const 2049))",
            "not aligned",
        ),
        (
            "a kind that does not exist",
            "(i32.store8 (i32.const 2056) (i32.const 9))",
            "that the contract does not have",
        ),
        (
            "neither ok nor an error",
            "(i32.store8 (i32.const 1024) (i32.const 7))",
            "that the contract does not have",
        ),
        (
            "an answer behind the end of memory",
            "(return (i32.const 0x7ffffff0))",
            "outside of its memory",
        ),
    ] {
        let bytes = hand_made::probe(&one_point(change), TEXTS);
        let (answer, _) = bench.by_hand(&bytes, |_, _| ()).collect().await;
        let error = answer.unwrap_err();
        println!("{what}: {error}");
        assert!(matches!(error, CallError::BadResult(_)), "{what}: {error}");
        assert!(error.to_string().contains(told), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_few_bytes_that_stand_for_many_are_refused() {
    let bench = Bench::new();
    // 5,000 points, whose labels are all the same 32, whose texts are all the same 1,000 bytes: 320 MB.
    let points = r#"(local $n i32)
        (memory.fill (i32.const 300000) (i32.const 0x61) (i32.const 1000))
        (loop
            (i32.store (i32.add (i32.const 290000) (i32.mul (local.get $n) (i32.const 16)))
                (i32.const 300000))
            (i32.store (i32.add (i32.const 290004) (i32.mul (local.get $n) (i32.const 16)))
                (i32.const 1000))
            (i32.store (i32.add (i32.const 290008) (i32.mul (local.get $n) (i32.const 16)))
                (i32.const 300000))
            (i32.store (i32.add (i32.const 290012) (i32.mul (local.get $n) (i32.const 16)))
                (i32.const 1000))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $n) (i32.const 32))))
        (local.set $n (i32.const 0))
        (loop
            (i32.store (i32.add (i32.const 8200) (i32.mul (local.get $n) (i32.const 24)))
                (i32.const 290000))
            (i32.store (i32.add (i32.const 8204) (i32.mul (local.get $n) (i32.const 24)))
                (i32.const 32))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $n) (i32.const 5000))))"#;
    let change = "(i32.store (i32.const 2068) (i32.const 8192)) (i32.store (i32.const 2072) (i32.const 5000))";
    let collect = format!("{points} {}", one_point(change));
    let bytes = hand_made::probe(&collect, TEXTS);
    let (answer, cost) = bench.by_hand(&bytes, |_, _| ()).collect().await;
    let error = answer.unwrap_err();
    assert!(matches!(error, CallError::BadResult(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("more than 4194304 bytes at once"),
        "{error}"
    );
    assert!(cost.memory_bytes < 1 << 20, "{cost:?}");
}

#[tokio::test]
async fn half_a_gigabyte_in_one_text_is_refused() {
    let bench = Bench::new();
    // 32 MiB of memory, and the metric's name is all of it; beside it a label of a million pairs that overlap.
    for change in [
        "(drop (memory.grow (i32.const 512)))
         (i32.store (i32.const 2052) (i32.const 33000000))",
        "(drop (memory.grow (i32.const 512)))
         (i32.store (i32.const 4104) (i32.const 8192)) (i32.store (i32.const 4108) (i32.const 1000000))",
    ] {
        let bytes = hand_made::probe(&one_point(change), TEXTS);
        let (answer, _) = bench.by_hand(&bytes, |_, _| ()).collect().await;
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("more than 4194304 bytes at once"), "{error}");
    }
}
