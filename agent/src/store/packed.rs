//! Texts of rows in less room: each of the words that rows of alerts are made of is one byte.
//!
//! Of thousands of alerts that fired once a row of 200 to 350 bytes stays, nine tenths of which are the same in all.
//! Any text may be packed; one without these words becomes no shorter.

use std::borrow::Cow;

/// A text that is longer does not stay for long: it speaks of messages under way. Bytes.
const SHORT: usize = 512;

/// Stands before a control character that the text itself holds.
const LITERAL: char = '\0';

/// Word `n` is the character `n + 1`; what is written as JSON holds none of these. The first that fits is taken.
const WORDS: [&str; 29] = [
    "{\"rule\":\"",
    "\",\"labels\":{\"",
    "\"},\"phases\":[\"off\",\"off\",\"off\",\"off\"],\"observed\":",
    "\"},\"phases\":[",
    "\"probes\":[",
    ",\"counts\":{\"episode\":",
    ",\"sequence\":",
    "},\"more\":{\"started\":{\"at\":",
    "\"more\":{",
    "},\"ended\":{\"wall\":",
    ",\"wall\":",
    ",\"cause\":null},\"since\":",
    ",\"value\":",
    ",\"limit\":",
    ",\"note\":\"",
    ",\"severity\":\"critical\"",
    ",\"severity\":\"warning\"",
    ",\"severity\":\"",
    ",\"added\":{",
    ",\"flaps\":[",
    ",\"told\":{",
    ":{\"content\":\"",
    "\"delivered_at\":",
    "\"first_delivered_at\":",
    "\"heard\":",
    "\":\"",
    "\",\"",
    "\"off\",",
    "}}",
];

/// Appends the text to `to`, packed where that pays. True: it is packed.
pub(super) fn append(text: &str, to: &mut String) -> bool {
    let packs = text.len() <= SHORT;
    if packs {
        pack(text, to);
    } else {
        to.push_str(text);
    }
    packs
}

fn pack(text: &str, to: &mut String) {
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        // All words begin with one of these.
        let word = matches!(next, '{' | '}' | '"' | ',' | ':').then(|| {
            let mut words = WORDS.iter().zip('\u{1}'..);
            words.find(|(word, _)| rest.starts_with(**word))
        });
        if let Some((word, byte)) = word.flatten() {
            to.push(byte);
            rest = &rest[word.len()..];
            continue;
        }
        if next < ' ' {
            to.push(LITERAL);
        }
        to.push(next);
        rest = &rest[next.len_utf8()..];
    }
}

/// The text again.
pub(super) fn unpack(packed: &str) -> Cow<'_, str> {
    if !packed.bytes().any(|byte| byte < b' ') {
        return packed.into();
    }
    let mut text = String::with_capacity(SHORT);
    let mut chars = packed.chars();
    while let Some(next) = chars.next() {
        let word = |at: u32| WORDS.get(usize::try_from(at).ok()?).copied();
        match u32::from(next).checked_sub(1).map(word) {
            Some(Some(word)) => text.push_str(word),
            Some(None) => text.push(next),
            // What it stands before.
            None => text.extend(chars.next()),
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &str) -> String {
        let mut packed = String::new();
        assert!(append(text, &mut packed));
        assert_eq!(unpack(&packed), text);
        packed
    }

    #[test]
    fn rows_of_alerts_become_short() {
        let row = r#"{"rule":"cpu","labels":{"i":"0"},"phases":["off","off","off","off"],"observed":1010000,"counts":{"episode":1,"sequence":2}}"#;
        assert_eq!(row.len(), 123);
        assert_eq!(packed(row).len(), 21);
    }

    #[test]
    fn any_text_comes_back() {
        let all: String = ('\0'..='\u{ff}').chain(['€', '\u{1f600}']).collect();
        for text in ["", "x", "\"", "{}", "\0", "\u{1}\u{1d}\u{1e}\u{1f}", &all] {
            packed(text);
        }
        assert!(packed(&WORDS.concat()).len() <= WORDS.len());
        for word in WORDS {
            assert_eq!(packed(word).len(), 1, "{word}: one before it begins it");
            assert!(word.starts_with(['{', '}', '"', ',', ':']), "{word}");
        }
    }

    #[test]
    fn a_long_text_stays_as_it_is() {
        let text = WORDS.concat().repeat(3);
        let mut kept = String::new();
        assert!(!append(&text, &mut kept));
        assert_eq!(kept, text);
    }
}
