use super::*;

#[derive(serde::Deserialize)]
struct Input {
    config: serde_json::Value,
    notification: serde_json::Value,
}

fn sent(input: &Input) -> serde_json::Value {
    let host = mock::Host::new();
    let email = Email::configure(&input.config.to_string()).unwrap();
    let receipt = email
        .notify(&mock::read_notification(&input.notification))
        .unwrap();
    let mails = host.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(receipt.remote_id.as_ref(), Some(&mails[0].message_id));
    serde_json::json!({
        "to": mails[0].to,
        "reply_to": mails[0].reply_to,
        "subject": mails[0].subject,
        "text": mails[0].text.lines().collect::<Vec<_>>(),
        "html": mails[0].html.as_deref().map(|html| html.lines().collect::<Vec<_>>()),
        "message_id": mails[0].message_id,
        "in_reply_to": mails[0].in_reply_to,
    })
}

#[test]
fn testdata_is_sent_as_expected() {
    for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
        let expected: serde_json::Value = case.json("expected.json");
        assert_eq!(sent(&case.json("input.json")), expected, "{}", case.name);
    }
}

fn notification(id: &str, reason: Reason) -> Notification {
    let mut sent = mock::notification(reason, vec![mock::alert("cpu", Severity::High)]);
    sent.id = id.into();
    sent
}

#[test]
fn mails_of_one_episode_are_one_thread() {
    let host = mock::Host::new();
    let email = Email::configure(r#"{"to": ["a@b"]}"#).unwrap();
    for (id, reason) in [
        ("1", Reason::Fire),
        ("1", Reason::Fire), // a retry, after an answer that got lost
        ("2", Reason::Escalate),
        ("3", Reason::Repeat),
        ("4", Reason::Resolve),
        ("5", Reason::Fire),
        ("6", Reason::Resolve),
        ("6", Reason::Resolve),
    ] {
        email.notify(&notification(id, reason)).unwrap();
    }
    let mut other = notification("7", Reason::Fire);
    other.dedup_key = "wf1:other".into();
    email.notify(&other).unwrap();
    let threads: Vec<_> = host
        .mails()
        .into_iter()
        .map(|mail| (mail.message_id.replace("@web-1", ""), mail.in_reply_to))
        .collect();
    let answers = |id: &str, to: Option<&str>| (id.to_owned(), to.map(|to| format!("{to}@web-1")));
    assert_eq!(
        threads,
        [
            answers("1", None),
            answers("1", None),
            answers("2", Some("1")),
            answers("3", Some("1")),
            answers("4", Some("1")),
            answers("5", None),
            answers("6", Some("5")),
            answers("6", None),
            answers("7", None),
        ]
    );
}

#[test]
fn a_refused_mail_opens_no_thread() {
    let host = mock::Host::new();
    let email = Email::configure(r#"{"to": ["a@b"]}"#).unwrap();
    host.mail(Err(Error::unavailable("greylisted")));
    assert_eq!(
        email.notify(&notification("1", Reason::Fire)),
        Err(Error::unavailable("greylisted"))
    );
    email.notify(&notification("2", Reason::Escalate)).unwrap();
    assert_eq!(host.mails()[1].in_reply_to, None);
}

#[test]
fn a_mail_is_never_too_big_for_the_host() {
    let mut alert = mock::alert("cpu", Severity::High);
    for label in 0..100 {
        let address = format!("https://a/{}", "&".repeat(9000));
        alert
            .labels
            .push((format!("l{label}{}", "&".repeat(9000)), address));
    }
    let mut group = mock::notification(Reason::Group, vec![alert; 20]);
    group.text = format!("https://a/{}", "&".repeat(100_000));
    let host = mock::Host::new();
    let email = Email::configure(r#"{"to": ["a@b"]}"#).unwrap();
    email.notify(&group).unwrap();
    let mail = &host.mails()[0];
    let bytes = mail.text.len() + mail.html.as_ref().unwrap().len();
    assert!(bytes < 1 << 20, "{bytes}");
    assert!(mail.text.contains("and ") && mail.html.as_ref().unwrap().contains("more</p>"));
}

#[test]
fn ids_are_plain_and_distinct() {
    let id = |id: &str, host: &str| {
        let mut sent = notification(id, Reason::Fire);
        sent.extra = vec![("host".into(), host.into())];
        message::id(&sent)
    };
    assert_eq!(
        id("5f1d-a_b", "web-1.example.org"),
        "5f1d-a_b@web-1.example.org"
    );
    assert_ne!(id("a b", "h"), id("a  b", "h"));
    for hostile in ["a@b", "a>\r\nBcc: x@y", "", "..", "ä", &"x".repeat(999)] {
        let whole = id(hostile, hostile);
        assert_eq!(whole.matches('@').count(), 1, "{whole}");
        assert!(whole.len() <= 240, "{whole}");
        assert!(
            whole
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c)),
            "{whole}"
        );
    }
}

#[test]
fn mistakes_say_what_to_write() {
    for (config, says) in [
        ("{}", "missing field `to`"),
        (r#"{"to": []}"#, "config.to: 0 addresses: write 1 to 50"),
        (r#"{"to": "a@b"}"#, "config.to: invalid type: string"),
        (
            r#"{"to": ["a@b", "oncall"]}"#,
            "config.to[1]: \"oncall\" is no address: write one, like oncall@example.org",
        ),
        (r#"{"to": ["a@b, c@d"]}"#, "config.to[0]"),
        (
            r#"{"to": ["a@b"], "reply_to": "x\ny@z"}"#,
            "config.reply_to",
        ),
        (
            r#"{"to": ["a@b"], "from": "c@d"}"#,
            "config.from: unknown field `from`",
        ),
    ] {
        let error = Email::configure(config)
            .err()
            .unwrap_or_else(|| panic!("{config} was taken"))
            .to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(Email::configure(r#"{"to": ["On call <oncall@example.org>"]}"#).is_ok());
}
