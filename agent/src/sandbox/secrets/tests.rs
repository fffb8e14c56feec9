//! Secrets: bindings, sources, places, masking.

use super::mask::MASKED_MAX;
use super::*;
use crate::sandbox::egress::grant::Scheme;
use std::borrow::Cow;

fn file_secrets(values: &[(&str, &str)]) -> (tempfile::TempDir, Arc<Secrets>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sources = BTreeMap::new();
    for (name, value) in values {
        let path = folder.path().join(name);
        std::fs::write(&path, value).expect("written");
        sources.insert((*name).to_owned(), SecretSource::File(path));
    }
    (folder, Arc::new(Secrets::new(sources)))
}

fn granted(secrets: &Arc<Secrets>, list: &[(&str, &str, bool)]) -> UseSecrets {
    let granted = list
        .iter()
        .map(|(name, to, reveal)| {
            let to = (*to).to_owned();
            (
                (*name).to_owned(),
                SecretGrant {
                    to,
                    reveal: *reveal,
                },
            )
        })
        .collect();
    UseSecrets::new("ops-slack".into(), Arc::clone(secrets), &granted).expect("bindings")
}

fn https(host: &str, port: u16) -> Target {
    Target::Http {
        scheme: Scheme::Https,
        host: Host::parse(host).expect("a host"),
        port,
    }
}

#[tokio::test]
async fn a_secret_goes_only_where_it_is_bound() {
    let (_folder, secrets) = file_secrets(&[("slack", "T0P-s3cret\n"), ("db", "pw")]);
    let own = granted(
        &secrets,
        &[
            ("slack", "Hooks.Slack.com", false),
            ("db", "[::1]:5432", false),
        ],
    );
    let text = b"Bearer {{secret:slack}}!";
    let filled = own
        .fill(text, &https("hooks.slack.com", 443))
        .await
        .expect("bound");
    assert_eq!(filled.bytes, b"Bearer T0P-s3cret!");
    assert_eq!(filled.names, ["slack"]);
    let refused = own
        .fill(text, &https("evil.org", 443))
        .await
        .err()
        .expect("bound elsewhere");
    assert_eq!(
        refused.to_string(),
        "the secret \"slack\" is bound to Hooks.Slack.com and may not go to https://evil.org:443; \
             add `secrets = { slack = \"evil.org:443\" }` to the grant of \"ops-slack\""
    );
    assert!(matches!(refused, CallError::Denied(_)));
    let db = |port| Target::Tcp {
        host: Host::parse("::1").expect("a host"),
        port,
    };
    assert!(own.fill(b"{{secret:db}}", &db(5432)).await.is_ok());
    assert!(own.fill(b"{{secret:db}}", &db(5433)).await.is_err());
    let unknown = own
        .fill(b"{{secret:other}}", &db(5432))
        .await
        .err()
        .expect("not granted");
    assert!(
        unknown
            .to_string()
            .ends_with("add `secrets = { other = \"[::1]:5432\" }` to the grant of \"ops-slack\"")
    );
}

#[tokio::test]
async fn rotation_counts_at_once_and_old_values_stay_masked() {
    let (folder, secrets) = file_secrets(&[("token", "first-value")]);
    let own = granted(&secrets, &[("token", "a.example", false)]);
    std::fs::write(folder.path().join("token"), "second-value\r\n").expect("written");
    let filled = own
        .fill(b"{{secret:token}}", &https("a.example", 443))
        .await
        .expect("bound");
    assert_eq!(filled.bytes, b"second-value");
    assert_eq!(
        secrets.mask().apply("first-value, second-value"),
        "***, ***"
    );
}

#[tokio::test]
async fn reveal_needs_its_own_word() {
    let (_folder, secrets) = file_secrets(&[("a", "one"), ("b", "two")]);
    let own = granted(&secrets, &[("a", "h:1", false), ("b", "h:1", true)]);
    assert_eq!(own.reveal("b").await, Ok("two".to_owned()));
    let refused = own.reveal("a").await.expect_err("not revealed");
    assert!(refused.to_string().ends_with(
        "add `secrets = { a = { to = \"h:1\", reveal = true } }` to the grant of \"ops-slack\""
    ));
    assert!(matches!(own.reveal("c").await, Err(CallError::Denied(_))));
}

#[tokio::test]
async fn what_cannot_be_read_says_what_to_write() {
    let mut sources = BTreeMap::new();
    sources.insert(
        "env".to_owned(),
        SecretSource::Env("WATCHFIRE_TEST_NOT_SET".into()),
    );
    sources.insert("dir".to_owned(), SecretSource::File("/proc".into()));
    sources.insert("nul".to_owned(), SecretSource::File("/dev/null".into()));
    let secrets = Secrets::new(sources);
    for (name, want) in [
        (
            "env",
            "environment variable WATCHFIRE_TEST_NOT_SET, which is not set",
        ),
        ("dir", "not a regular file"),
        ("nul", "not a regular file"),
        ("gone", "add `gone = { env = \"NAME\" }`"),
    ] {
        let text = secrets.value(name).await.expect_err(name).to_string();
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn places_are_found_and_look_alikes_left() {
    let shown = |text: &'static str| {
        parts(text.as_bytes())
            .map(|part| match part {
                Part::Text(t) => String::from_utf8_lossy(t).into_owned(),
                Part::Secret(name) => format!("<{name}>"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown("a{{secret:b}}c{{secret:d.e-f_1}}"),
        ["a", "<b>", "c", "<d.e-f_1>"]
    );
    assert_eq!(shown("{{secret:a}}{{secret:b}}"), ["<a>", "<b>"]);
    assert_eq!(
        shown("{{secret:}} {{secret:a b}} {{secret:a"),
        ["{{secret:}} {{secret:a b}} {{secret:a"]
    );
    assert_eq!(shown("{{secret:{{secret:a}}}}"), ["{{secret:", "<a>", "}}"]);
    assert_eq!(shown(""), Vec::<String>::new());
}

#[tokio::test]
async fn a_value_is_not_filled_in_again() {
    let (_folder, secrets) = file_secrets(&[("a", "{{secret:b}}"), ("b", "inner")]);
    let own = granted(&secrets, &[("a", "h", false), ("b", "h", false)]);
    let filled = own
        .fill(b"{{secret:a}}", &https("h", 443))
        .await
        .expect("bound");
    assert_eq!(filled.bytes, b"{{secret:b}}");
}

#[test]
fn the_mask_knows_the_forms_of_a_value() {
    let mask = Mask::default();
    mask.learn("p/w \"x\" ü&=");
    mask.learn("https://hooks.slack.com/services/T1/B2/abcdef");
    mask.learn("line-one-of-key\nline-two-of-key");
    for text in [
        "p/w \"x\" ü&=",
        "p/w \\\"x\\\" ü&=",
        "http://h/p/w%20%22x%22%20%C3%BC&=",
        "?q=p%2Fw+%22x%22+%C3%BC%26%3D",
        "https://hooks.slack.com/services/T1/B2/abcdef",
        "cannot post to /services/T1/B2/abcdef now",
        "line-two-of-key",
        "line-one-of-key\\nline-two-of-key",
    ] {
        let masked = mask.apply(text);
        assert!(masked.contains("***"), "{text} -> {masked}");
        for leak in ["x\\\"", "%22x", "abcdef", "-of-key"] {
            assert!(!masked.contains(leak), "{text} -> {masked}");
        }
    }
    assert!(matches!(mask.apply("nothing here"), Cow::Borrowed(_)));
}

#[test]
fn a_value_that_was_cut_is_masked_too() {
    let mask = Mask::default();
    mask.learn("c4nary-0123456789");
    let long = "x".repeat(1_000);
    for (text, want) in [
        (format!("{long}c4nary-0123"), format!("{long}***")),
        (format!("ary-0123456789{long}"), format!("***{long}")),
        // A piece that says nothing stays; a short text was not cut.
        (format!("{long}c4nary"), format!("{long}c4nary")),
        ("c4nary-0123".to_owned(), "c4nary-0123".to_owned()),
    ] {
        assert_eq!(mask.apply(&text), want);
    }
}

#[test]
fn the_mask_is_bounded_and_keeps_the_newest() {
    let mask = Mask::default();
    for n in 0..2 * MASKED_MAX {
        mask.learn(&format!("value-{n:06}"));
    }
    let newest = format!("value-{:06}", 2 * MASKED_MAX - 1);
    assert_eq!(mask.apply(&newest), "***");
    assert_eq!(mask.apply("value-000000"), "value-000000");
}

#[test]
fn bindings_that_cannot_be_read_teach() {
    for (to, want) in [
        ("https://hooks.slack.com/x", "write \"hooks.slack.com\""),
        ("*.slack.com", "write its name"),
        ("a b", "names no host"),
        ("h:0", "names no host"),
        ("unix:x", "absolute path"),
    ] {
        let granted = BTreeMap::from([(
            "s".to_owned(),
            SecretGrant {
                to: to.to_owned(),
                reveal: false,
            },
        )]);
        let text = check_bindings(&granted).expect_err(to)[0].to_string();
        assert!(
            text.contains(want) && text.starts_with("grant `secrets.s`"),
            "{text}"
        );
    }
    assert_eq!(
        place("::1"),
        Ok(Place::Host {
            host: Host::parse("::1").expect("a host"),
            port: None
        })
    );
}
