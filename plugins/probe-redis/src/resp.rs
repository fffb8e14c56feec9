//! The part of RESP2 that a client of `PING`, `AUTH` and `INFO` meets: one reply at a time, out of bytes that came.

use watchfire_plugin_sdk::{Error, Result};

/// Most bytes of one reply. `INFO` of a large server has some 20 KiB; what is longer is no `INFO`.
pub(crate) const REPLY_MAX: usize = 1024 * 1024;

/// Most bytes of a line: simple strings, errors and lengths are short, and their end must be searched.
const LINE_MAX: usize = 4 * 1024;

/// Most characters of a peer's words that an error repeats.
const EXCERPT_MAX: usize = 120;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A simple string, a bulk string or a number; a null is empty.
    Text(String),
    /// `-CODE words`.
    Error(String),
}

/// The reply that `bytes` begin with and its length; `None` where its end has not come yet.
///
/// # Errors
/// [`Error::Rejected`] where this is no such reply, or a longer one than [`REPLY_MAX`].
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    if !b"+-:$".contains(&kind) {
        return Err(strange(bytes));
    }
    let head = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_MAX {
            Ok(None)
        } else {
            Err(strange(bytes))
        };
    };
    let (line, after) = (String::from_utf8_lossy(&bytes[1..end]), end + 2);
    match kind {
        b'-' => Ok(Some((Reply::Error(line.into_owned()), after))),
        b'$' if line == "-1" => Ok(Some((Reply::Text(String::new()), after))),
        b'$' => {
            let length: usize = line.parse().map_err(|_| strange(bytes))?;
            if length > REPLY_MAX {
                return Err(Error::rejected(format!(
                    "a reply of {length} bytes, more than the {REPLY_MAX} that are read"
                )));
            }
            let Some(body) = bytes.get(after..after + length + 2) else {
                return Ok(None);
            };
            let text = body.strip_suffix(b"\r\n").ok_or_else(|| strange(bytes))?;
            let text = String::from_utf8_lossy(text).into_owned();
            Ok(Some((Reply::Text(text), after + length + 2)))
        }
        _ => Ok(Some((Reply::Text(line.into_owned()), after))),
    }
}

/// A command as RESP writes it: safe for any bytes in its words.
pub(crate) fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// The start of what a peer said, fit for a line of a log.
pub(crate) fn excerpt(said: &str) -> String {
    said.chars()
        .take(EXCERPT_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn strange(bytes: &[u8]) -> Error {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
    Error::rejected(format!(
        "what answers is no Redis, or wants TLS: it began with {:?}",
        excerpt(&start)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_whole_or_not_at_all() {
        for (bytes, reply) in [
            ("+PONG\r\n", Reply::Text("PONG".into())),
            (":12\r\n", Reply::Text("12".into())),
            ("$5\r\nab\r\nc\r\n", Reply::Text("ab\r\nc".into())),
            ("$0\r\n\r\n", Reply::Text(String::new())),
            ("$-1\r\n", Reply::Text(String::new())),
            (
                "-NOAUTH who are you\r\n",
                Reply::Error("NOAUTH who are you".into()),
            ),
        ] {
            let bytes = bytes.as_bytes();
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]).unwrap(), None, "{cut} of {bytes:?}");
            }
            let followed = [bytes, b"+more"].concat();
            assert_eq!(parse(&followed).unwrap(), Some((reply, bytes.len())));
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_at_once() {
        for bytes in [
            "HTTP/1.1 400 Bad Request\r\n".to_owned(),
            "*1\r\n+a\r\n".into(),
            "$-2\r\n".into(),
            "$x\r\n".into(),
            "$3\r\nabcdef\r\n".into(),
            "$99999999999999999999999\r\n".into(),
            format!("${}\r\n", REPLY_MAX + 1),
            format!("+{}", "x".repeat(LINE_MAX)),
        ] {
            assert!(
                matches!(parse(bytes.as_bytes()), Err(Error::Rejected(_))),
                "{}",
                excerpt(&bytes)
            );
        }
    }

    #[test]
    fn words_of_a_peer_cannot_paint_the_terminal() {
        let error = parse(b"\x1b[31mred\r\n").unwrap_err().to_string();
        assert!(!error.contains('\x1b'), "{error:?}");
    }

    #[test]
    fn commands_hold_any_bytes() {
        assert_eq!(
            command(&["AUTH", "a\r\nb"]),
            b"*2\r\n$4\r\nAUTH\r\n$4\r\na\r\nb\r\n"
        );
    }
}
