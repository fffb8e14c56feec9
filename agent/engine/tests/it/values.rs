//! Plain values: what is equal, how they are written, sets of severities.

use crate::common::{instance, secs};
use watchfire_engine::calendar::OfWall;
use watchfire_engine::model::{
    Fingerprint, Labels, Moment, Series, Severities, Severity, WallTime, parse_duration,
};
use watchfire_engine::policy::{Rank, Recipient, Regexes, TextPattern};

#[test]
fn what_is_another_is_not_equal() {
    assert_ne!(instance("0"), instance("1"));
    assert_eq!(instance("0"), instance("0"));
    let compiles = || Regexes::new(|_| None::<TextPattern>);
    assert_eq!(compiles(), compiles());
    assert_eq!(Regexes::default(), Regexes::default());
    assert_ne!(compiles(), Regexes::default());
    assert_eq!(format!("{:?}", compiles()), "Regexes");
}

/// What decides whether a reload changed anything.
#[test]
fn functions_of_the_clock_are_told_apart_by_their_source() {
    let open = |source: &str| OfWall::new(source, |wall: WallTime| wall.0 > 5);
    assert_eq!(open("nights"), open("nights"));
    assert_ne!(open("nights"), open("days"));
    assert_eq!(format!("{:?}", open("nights")), "\"nights\"");
    assert!(open("nights").at(WallTime(6)) && !open("nights").at(WallTime(5)));
}

#[test]
fn recipients_are_written_as_in_the_configuration() {
    let on_call = |rank| Recipient::OnCall {
        rotation: "pager".into(),
        rank,
    };
    for (recipient, text) in [
        ("slack".into(), "slack"),
        (on_call(Rank::Primary), "pager"),
        (on_call(Rank::Secondary), "pager:secondary"),
    ] {
        assert_eq!(recipient.to_string(), text);
    }
}

#[test]
fn labels_are_a_map() {
    let labels = Labels::new([("b", "2"), ("a", "1")]).expect("labels");
    assert_eq!(format!("{labels:?}"), r#"{"a": "1", "b": "2"}"#);
    let left = labels.without(&["a"]);
    assert_eq!(left.iter().collect::<Vec<_>>(), [("b", "2")]);
}

#[test]
fn series_and_fingerprints_are_written_as_people_know_them() {
    let series = Series {
        metric: "disk".into(),
        labels: Labels::new([("dev", "sda")]).expect("labels"),
    };
    assert_eq!(series.to_string(), r#"disk{dev="sda"}"#);
    let fingerprint = instance("0").fingerprint;
    assert_eq!(format!("{fingerprint:?}"), fingerprint.to_string());
    assert_eq!(
        Fingerprint::parse(&fingerprint.to_string()),
        Some(fingerprint)
    );
}

#[test]
fn a_duration_that_is_none_says_what_to_write() {
    let wrong = parse_duration("soon").expect_err("no duration").to_string();
    assert!(wrong.contains("\"soon\""), "{wrong}");
}

#[test]
fn moments_go_back_to_the_begin_and_no_further() {
    let at = Moment(5_000);
    assert_eq!(at - secs(2), Moment(3_000));
    assert_eq!(at - secs(6), Moment(0));
    assert_eq!(at + secs(2), Moment(7_000));
    assert_eq!((at + secs(2)).since(at), secs(2));
    assert_eq!(at.since(at + secs(2)), secs(0));
}

#[test]
fn a_set_of_severities_has_each_once_and_knows_the_worst() {
    use Severity::{Critical, Low, Warning};
    for (all, highest, text) in [
        (&[][..], None, "{}"),
        (&[Low, Low][..], Some(Low), "{Low}"),
        (
            &[Critical, Warning, Critical, Warning, Warning][..],
            Some(Critical),
            "{Warning, Critical}",
        ),
    ] {
        let set: Severities = all.iter().copied().collect();
        assert_eq!(set.highest(), highest, "{text}");
        assert_eq!(format!("{set:?}"), text);
        for severity in Severity::ALL {
            assert_eq!(set.contains(severity), all.contains(&severity), "{text}");
            let without = set.without(severity);
            assert!(!without.contains(severity), "{text}");
            assert!(without.with(severity).contains(severity), "{text}");
        }
    }
    let wrong = "urgent".parse::<Severity>().expect_err("no severity");
    assert_eq!(
        wrong.to_string(),
        r#"unknown severity "urgent": write low, warning, high or critical"#
    );
}
