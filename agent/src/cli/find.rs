//! Which alert somebody means: a fingerprint, the unique beginning of one, a name as `watchfire alerts`
//! prints it, or a rule with one alert.

use super::client::Client;
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::Value;
use std::fmt::Write as _;

/// Names that a refusal lists.
const LISTED_MAX: usize = 10;

/// Asks the agent which alerts the text may mean.
pub(super) async fn candidates(client: &Client, text: &str) -> Result<Vec<Value>, Failure> {
    let path = format!("/api/v1/alerts/find?text={}", encoded(text));
    let mut answer = client.get(&path).await?;
    let all = answer["alerts"].as_array_mut().map(std::mem::take);
    Ok(all.unwrap_or_default())
}

/// The one that is meant. An exact name beats a rule's name; one that lives beats those that are over.
pub(super) fn one(text: &str, candidates: &[Value]) -> Result<Value, Failure> {
    let exact: Vec<&Value> = candidates.iter().filter(|c| c["alert"] == text).collect();
    let live: Vec<&Value> = candidates.iter().filter(|c| c["state"] != "ok").collect();
    for some in [exact, live] {
        if let [one] = some[..] {
            return Ok(one.clone());
        }
    }
    match candidates {
        [] => {
            let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let short = if digits && (1..4).contains(&text.len()) {
                "; of a fingerprint, write 4 digits at least"
            } else {
                ""
            };
            Err(Failure::failed(format!(
                "no alert is called {text:?}: `watchfire alerts --all` lists those that are not ok, `watchfire incident` those that were{short}"
            )))
        }
        [one] => Ok(one.clone()),
        several => {
            let mut words = format!("{text:?} may mean several alerts; name one of them:");
            for candidate in several.iter().take(LISTED_MAX) {
                let name = printable(candidate["alert"].as_str().unwrap_or("-"));
                let fingerprint = candidate["fingerprint"].as_str().unwrap_or("-");
                let short = &fingerprint[..fingerprint.len().min(8)];
                let state = candidate["state"].as_str().unwrap_or("-");
                // A text takes all that is written to it.
                let _ = write!(words, "\n  {short}  {name}  {state}");
            }
            if several.len() > LISTED_MAX {
                let _ = write!(words, "\n  and {} more", several.len() - LISTED_MAX);
            }
            Err(Failure::failed(words))
        }
    }
}

/// For a query.
pub(super) fn encoded(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    });
    bytes.collect()
}

/// `$USER`, else `$LOGNAME`, else `operator`.
pub(super) fn user() -> String {
    let names = ["USER", "LOGNAME"].iter();
    let mut names = names.filter_map(|name| std::env::var(name).ok());
    names
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "operator".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_alert_that_is_meant() {
        let of = |alert: &str, state: &str| json!({ "alert": alert, "fingerprint": "0123456789abcdef", "state": state });
        let all = [
            of("disk{m=\"/\"}", "ok"),
            of("disk{m=\"/var\"}", "firing:high"),
        ];
        assert_eq!(one("disk", &all).unwrap()["alert"], "disk{m=\"/var\"}");
        assert_eq!(one("disk{m=\"/\"}", &all).unwrap()["state"], "ok");
        assert_eq!(one("0123", &all[..1]).unwrap()["alert"], "disk{m=\"/\"}");
        let both = [of("a{x=\"1\"}", "pending"), of("a{x=\"2\"}", "pending")];
        let words = one("a", &both).unwrap_err().text;
        assert!(words.contains("01234567  a{x=\"2\"}  pending"), "{words}");
        let none = |text: &str| one(text, &[]).unwrap_err().text;
        assert!(none("a").contains("watchfire alerts"));
        assert!(none("a").ends_with("4 digits at least"));
        assert!(!none("cpu").contains("digits"));
        assert_eq!(encoded("a{b=\"c d\"}"), "a%7Bb%3D%22c%20d%22%7D");
    }
}
