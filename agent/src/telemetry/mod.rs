//! What the agent says of itself: its metrics ([`metrics`]), the accounts of its plugins ([`accounts`]) and its log ([`log`]).

pub mod accounts;
pub mod exposition;
pub mod instrument;
pub mod log;
mod log_writer;
pub mod metrics;
mod process;

pub use log_writer::flush as flush_log;

/// Text of a stranger for a terminal or a log line: control characters, bidirectional overrides
/// and line separators are written as escapes.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => out.extend(letter.escape_default()),
            _ if letter.is_control() || is_invisible(letter) => out.extend(letter.escape_unicode()),
            _ => out.push(letter),
        }
    }
    out
}

/// Letters that reorder or break a line without being control characters.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn strangers_text_cannot_steer_a_terminal() {
        assert_eq!(printable("größe µs 100 %"), "größe µs 100 %");
        assert_eq!(
            printable("a\u{1b}]0;x\u{7}\r\n\u{202e}\u{9b}"),
            "a\\u{1b}]0;x\\u{7}\\r\\n\\u{202e}\\u{9b}"
        );
    }
}
