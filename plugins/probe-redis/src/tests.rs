//! Whole looks at scripted servers, and the pure parts of the configuration.

use serde_json::{Value, json};

use super::*;

/// A case: the table, and what each peer answers to a command that holds a text. The text `INFO` may be given as
/// lines, which are wrapped as the reply they are.
#[derive(serde::Deserialize)]
struct Input {
    config: Value,
    #[serde(default)]
    peers: BTreeMap<String, BTreeMap<String, String>>,
    /// Look-ups at the last look, by address.
    lookups: Option<Value>,
}

fn answer(input: Input) -> Value {
    let host = mock::Host::new();
    if let Some(lookups) = input.lookups {
        host.state(LOOKUPS, lookups.to_string().as_bytes());
    }
    for (peer, answers) in input.peers {
        host.tcp(&peer, move |sent| {
            let sent = String::from_utf8_lossy(sent);
            let found = answers
                .iter()
                .find(|(command, _)| sent.contains(&**command));
            match found {
                Some((command, text)) if command == "INFO" && !text.starts_with('-') => {
                    let text = text.replace('\n', "\r\n");
                    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
                }
                Some((_, text)) => format!("{text}\r\n").into_bytes(),
                None => Vec::new(),
            }
        });
    }
    let mut probe = match Redis::configure(&input.config.to_string()) {
        Ok(probe) => probe,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let collection = match probe.collect() {
        Ok(collection) => collection,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let mut samples = BTreeMap::new();
    for family in &collection.families {
        for point in &family.points {
            let labels: Vec<_> = point
                .labels
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            // The time of a PING is what it is: it must be there, and small.
            let value = if family.metric == "redis_ping_duration_seconds" {
                assert!((0.0..4.0).contains(&point.value));
                json!("measured")
            } else {
                json!(point.value)
            };
            samples.insert(format!("{}{{{}}}", family.metric, labels.join(",")), value);
        }
    }
    let failures: Vec<_> = collection
        .failures
        .iter()
        .map(ToString::to_string)
        .collect();
    json!({ "samples": samples, "failures": failures })
}

#[test]
fn testdata_is_read_as_expected() {
    for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
        assert_eq!(
            answer(case.json("input.json")),
            case.json::<Value>("expected.json"),
            "{}",
            case.name
        );
    }
}

#[test]
fn a_secret_goes_out_inline_and_a_plain_password_by_its_length() {
    let filled = |user, password| auth(user, Some(password)).unwrap().unwrap();
    assert_eq!(
        filled(None, "{{secret:redis}}"),
        Auth::Filled(b"AUTH '{{secret:redis}}'\r\n".to_vec())
    );
    assert_eq!(
        filled(Some("watch fire"), "{{secret:redis}}"),
        Auth::Filled(b"AUTH 'watch fire' '{{secret:redis}}'\r\n".to_vec())
    );
    assert_eq!(
        filled(None, "it's"),
        Auth::Plain(b"*2\r\n$4\r\nAUTH\r\n$4\r\nit's\r\n".to_vec())
    );
    assert_eq!(auth(None, None).unwrap(), None);
    assert!(auth(Some("a"), None).is_err());
    // A quote would end the word and begin another command's argument.
    assert!(auth(Some("a' 'b"), Some("{{secret:redis}}")).is_err());
    assert!(auth(Some("a\r\nFLUSHALL"), Some("{{secret:redis}}")).is_err());
}

#[test]
fn addresses_name_a_host_and_a_port_or_a_socket() {
    let tcp = |host: &str, port| Peer::Tcp(host.into(), port);
    assert_eq!(peer("cache:6380").unwrap(), tcp("cache", 6380));
    assert_eq!(peer("[::1]:6379").unwrap(), tcp("::1", 6379));
    assert_eq!(
        peer("unix:/run/redis.sock").unwrap(),
        Peer::Unix("/run/redis.sock".into())
    );
    for (address, write) in [
        ("cache", "\"cache:6379\""),
        ("::1", "\"[::1]:6379\""),
        ("cache:port", "\"127.0.0.1:6379\""),
        ("redis://cache:6379", "\"127.0.0.1:6379\""),
        (":6379", "\"127.0.0.1:6379\""),
        ("cache:0", "\"127.0.0.1:6379\""),
    ] {
        let error = peer(address).unwrap_err().to_string();
        assert!(error.contains(write) || address.contains("//"), "{error}");
    }
}

#[test]
fn replies_may_come_in_pieces_and_with_others() {
    let host = mock::Host::new();
    let info = format!(
        "# Stats\r\n{}keyspace_hits:3\r\nkeyspace_misses:1",
        "x:1\r\n".repeat(20_000)
    );
    host.tcp("a:1", move |sent| match sent {
        b"" => b"+PONG\r\n".to_vec(),
        sent if sent.ends_with(b"INFO\r\n") => {
            format!("${}\r\n{info}\r\n", info.len()).into_bytes()
        }
        _ => Vec::new(),
    });
    let collection = Redis::configure(r#"{"address": "a:1"}"#)
        .unwrap()
        .collect()
        .unwrap();
    assert_eq!(
        collection.value("redis_hit_ratio", &[("address", "a:1")]),
        Some(0.75)
    );
    assert!(host.state_of(LOOKUPS).is_some());
}

#[test]
fn a_server_that_repeats_the_password_is_not_repeated() {
    let Trouble::Unknown(error) =
        shut_out("ERR unknown command 'AUTH', with args beginning with: 'hunter2'")
    else {
        panic!("a refusal tells nothing of the server");
    };
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
