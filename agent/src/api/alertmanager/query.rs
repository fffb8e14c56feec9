//! Queries of Alertmanager's clients: a parameter may stand several times.

use crate::matcher;
use watchfire_engine::input::LabelTest;

/// Parameters that are read; others are passed over, as Alertmanager does.
#[derive(Debug)]
pub(super) struct Filter {
    /// All must hold.
    pub(super) tests: Vec<LabelTest>,
    pub(super) active: bool,
    pub(super) silenced: bool,
    pub(super) inhibited: bool,
    /// Of a receiver's name.
    pub(super) receiver: Option<LabelTest>,
}

impl Filter {
    /// Reads the part of the address behind `?`; an error is for people.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, String> {
        let mut filter = Filter {
            tests: Vec::new(),
            active: true,
            silenced: true,
            inhibited: true,
            receiver: None,
        };
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty())
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value =
                decoded(value).ok_or_else(|| format!("{pair:?} is not encoded as it must be"))?;
            let flag = || match &*value {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(format!("{key} must be true or false")),
            };
            match key {
                "filter" => filter
                    .tests
                    .push(matcher::parse(&value).map_err(|e| e.to_string())?),
                "active" => filter.active = flag()?,
                "silenced" => filter.silenced = flag()?,
                "inhibited" => filter.inhibited = flag()?,
                "receiver" => {
                    let test = matcher::parse(&format!("receiver=~{value:?}"));
                    filter.receiver = Some(test.map_err(|e| e.to_string())?);
                }
                _ => {}
            }
        }
        Ok(filter)
    }
}

/// `%41+b` is `A b`; none: it is no UTF-8, or a sign is cut.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_the_clients_write_it() {
        let query = "active=true&filter=alertname%3D%22disk%22&filter=host%3D~%22a.%2A%22&inhibited=false&silenced=false&unprocessed=false&receiver=ops";
        let filter = Filter::parse(Some(query)).unwrap();
        let tests: Vec<String> = filter.tests.iter().map(matcher::written).collect();
        assert_eq!(tests, ["alertname=\"disk\"", "host=~\"a.*\""]);
        assert!(filter.active && !filter.inhibited && !filter.silenced);
        let receiver = filter.receiver.unwrap();
        assert!(matcher::passes(&receiver, "ops") && !matcher::passes(&receiver, "ops2"));
        let all = Filter::parse(None).unwrap();
        assert!(all.active && all.inhibited && all.silenced && all.tests.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for query in [
            "active=maybe",
            "filter=x",
            "filter=%zz",
            "filter=a%3",
            "receiver=(",
        ] {
            assert!(Filter::parse(Some(query)).is_err(), "{query}");
        }
    }
}
