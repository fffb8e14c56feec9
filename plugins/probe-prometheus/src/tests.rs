//! Whole pages through the whole probe, and pages that nobody should send.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const URL: &str = "http://127.0.0.1:9100/metrics";

/// A page of a real server, to be damaged.
const REAL: &[u8] = include_bytes!("../testdata/prometheus-server/page.txt");

/// The table (without its URL) and the type of `page.txt` beside it.
#[derive(serde::Deserialize)]
struct Input {
    config: Value,
    #[serde(default)]
    content_type: String,
}

fn scrape(mut config: Value, content_type: &str, page: &[u8]) -> Result<Collection> {
    let host = mock::Host::new();
    let response = Response {
        elapsed: Duration::from_millis(250),
        ..Response::new(200)
            .with_body(page)
            .with_header("Content-Type", content_type)
    };
    host.http(&format!("GET {URL}"), response);
    config["url"] = json!(URL);
    Prometheus::configure(&config.to_string())?.collect()
}

/// `{"error": …}`, or families with their type, help and samples. Infinite and NaN are texts.
fn told(found: Result<Collection>) -> Value {
    let collection = match found {
        Ok(collection) => collection,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let mut families = serde_json::Map::new();
    for family in &collection.families {
        let samples: BTreeMap<String, Value> = family
            .points
            .iter()
            .map(|point| {
                let labels: Vec<_> = point
                    .labels
                    .iter()
                    .map(|(k, v)| format!("{k}={v}"))
                    .collect();
                let value = if point.value.is_finite() {
                    json!(point.value)
                } else {
                    json!(point.value.to_string())
                };
                (
                    format!("{}{}{{{}}}", family.metric, point.suffix, labels.join(",")),
                    value,
                )
            })
            .collect();
        let kind = format!("{:?}", family.kind).to_lowercase();
        families.insert(
            family.metric.clone(),
            json!({ "kind": kind, "help": family.help, "samples": samples }),
        );
    }
    let failures: Vec<_> = collection
        .failures
        .iter()
        .map(ToString::to_string)
        .collect();
    json!({ "families": families, "failures": failures })
}

#[test]
fn testdata_is_read_as_expected() {
    for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
        let input: Input = case.json("input.json");
        let page = case.bytes("page.txt");
        assert_eq!(
            told(scrape(input.config, &input.content_type, &page)),
            case.json::<Value>("expected.json"),
            "{}",
            case.name
        );
    }
}

/// A page with so many samples.
fn page_of(samples: usize) -> String {
    (0..samples)
        .map(|i| format!("requests_total{{path=\"/api/v1/things/{i}\",code=\"200\"}} {i}\n"))
        .collect()
}

#[test]
fn a_page_that_is_too_large_is_refused_and_says_what_to_write() {
    let fits = scrape(json!({}), "", page_of(9_998).as_bytes()).unwrap();
    let taken = fits.value("prometheus_scrape_samples", &[("url", URL)]);
    assert_eq!(taken, Some(9_998.0));
    let refused = scrape(json!({}), "", page_of(9_999).as_bytes()).unwrap_err();
    assert!(matches!(refused, Error::Rejected(_)));
    assert!(
        refused.to_string().contains("more than the 9998 samples"),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("raise max_samples"),
        "{refused}"
    );
    // What is not wanted does not count.
    let chosen = json!({"match": {"path": "/api/v1/things/7*"}, "max_samples": 2_000});
    assert!(scrape(chosen, "", page_of(9_999).as_bytes()).is_ok());
    let names: String = (0..20_001)
        .map(|i| format!("# TYPE m{i} gauge\n"))
        .collect();
    assert!(matches!(
        scrape(json!({}), "", names.as_bytes()),
        Err(Error::Rejected(_))
    ));
}

#[test]
fn a_service_that_refuses_is_a_failed_probe() {
    let host = mock::Host::new();
    host.http(
        &format!("GET {URL}"),
        Response::new(503).with_body("starting"),
    );
    let mut probe = Prometheus::configure(&json!({ "url": URL }).to_string()).unwrap();
    assert_eq!(
        probe.collect(),
        Err(Error::unavailable("answered 503: starting"))
    );
    assert!(host.requests()[0].headers[0].1.starts_with("text/plain"));
}

#[test]
fn the_table_is_checked() {
    for (table, says) in [
        (
            json!({"prefix": "9"}),
            "config.prefix: \"9\" cannot begin a name",
        ),
        (
            json!({"rename_labels": {"a": "b-c"}}),
            "config.rename_labels: \"b-c\" is no name",
        ),
        (
            json!({"add_labels": {"": "x"}}),
            "config.add_labels: \"\" is no name",
        ),
        (
            json!({"max_samples": 2}),
            "config.max_samples: 2 is out of bounds: write 3 to 100000",
        ),
        (
            json!({"match": {"code": 5}}),
            "config.match.code: expected a text like",
        ),
        (json!({"includes": []}), "unknown field `includes`"),
    ] {
        let error = scrape(table, "", b"").unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Damage to a page: where, how much of it is replaced, and by what.
fn damage() -> impl Strategy<Value = Vec<(usize, usize, Vec<u8>)>> {
    let telling = prop::sample::select(vec![
        &b"\""[..],
        b"{",
        b"}",
        b"\\",
        b"\n",
        b"#",
        b"# TYPE ",
        b" ",
        b"=",
        b",",
        b"NaN",
        b"1e999",
        b"\xff",
        "é".as_bytes(),
        b"_total",
        b"_bucket",
    ]);
    let text = prop_oneof![
        telling.prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..6)
    ];
    prop::collection::vec((any::<usize>(), 0..40usize, text), 1..12)
}

/// Whatever came in, only legal names come out, and no label twice.
fn sound(found: Result<Collection>) -> Result<(), TestCaseError> {
    for family in found.into_iter().flat_map(|collection| collection.families) {
        prop_assert!(parse::is_name(&family.metric), "{}", family.metric);
        for point in &family.points {
            for (index, (name, _)) in point.labels.iter().enumerate() {
                prop_assert!(parse::is_name(name), "{name}");
                let again = point.labels[..index].iter().any(|(known, _)| known == name);
                prop_assert!(!again, "{name} stands twice");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_are_beyond_it(page in prop::collection::vec(any::<u8>(), 0..400), open: bool) {
        let kind = if open { "application/openmetrics-text" } else { "text/plain" };
        sound(scrape(json!({}), kind, &page))?;
    }

    #[test]
    fn a_damaged_page_loses_lines_and_nothing_else(edits in damage(), open: bool) {
        // A window of the page: damage is as telling there and a case is quicker.
        let start = edits[0].0 % REAL.len();
        let mut page = REAL[start..(start + 4_000).min(REAL.len())].to_vec();
        for (at, length, text) in edits {
            let at = at % (page.len() + 1);
            let until = (at + length).min(page.len());
            page.splice(at..until, text);
        }
        if open {
            page.extend_from_slice(b"\n# EOF\n");
        }
        let kind = if open { "application/openmetrics-text; version=1.0.0" } else { "text/plain" };
        let config = json!({"drop_labels": ["code"], "add_labels": {"env": "test"}, "prefix": "p_"});
        sound(scrape(config, kind, &page))?;
    }
}
