//! Samples from any JSON document over HTTP, by JSON pointer (RFC 6901).

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use watchfire_plugin_sdk::host::http::Request;
use watchfire_plugin_sdk::prelude::*;
use watchfire_plugin_sdk::probe::Kind;

/// Elements of one `each` list that are read. More would be a mistake in the pointer or a document
/// out of bounds; the rest is left out, and said so.
const EACH_MAX: usize = 1_000;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the document is.
    url: String,
    /// Default GET.
    #[serde(default = "get")]
    method: String,
    /// In order of their names.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Sent as it is.
    #[serde(default)]
    body: String,
    /// Limit of the request in milliseconds; default 4000.
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    /// Status codes that count as an answer; default: 200 to 299.
    #[serde(default)]
    expect: Vec<u16>,
    /// What to read.
    samples: Vec<Entry>,
}

/// One metric to read.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    metric: String,
    /// From the document, or from the element of `each`.
    pointer: String,
    /// A list or an object, of which each element gives one sample.
    each: Option<String>,
    /// Values; one that begins with `/` is a pointer from the element, and `@key` its key or index.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    kind: EntryKind,
    #[serde(default)]
    help: String,
    /// Multiplies the value: 0.001 makes seconds of milliseconds.
    #[serde(default = "one")]
    scale: f64,
    /// A missing value is no failure.
    #[serde(default)]
    optional: bool,
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum EntryKind {
    #[default]
    Gauge,
    Counter,
}

fn get() -> String {
    "GET".to_owned()
}

fn timeout_ms() -> u64 {
    4_000
}

fn one() -> f64 {
    1.0
}

/// The probe.
pub struct Json {
    config: Config,
}

impl Probe for Json {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.samples.is_empty() {
            return Err(Error::config(
                "samples is empty: write samples = [{ metric = \"queue_size\", pointer = \"/queue/size\" }]",
            ));
        }
        for entry in &config.samples {
            let pointers = [Some(&entry.pointer), entry.each.as_ref()];
            for pointer in pointers.into_iter().flatten() {
                if !pointer.is_empty() && !pointer.starts_with('/') {
                    return Err(Error::config(format!(
                        "samples: {pointer:?} is no JSON pointer: write \"/{}\"",
                        pointer.replace('.', "/")
                    )));
                }
            }
        }
        Ok(Json { config })
    }

    fn collect(&mut self) -> Result<Collection> {
        let config = &self.config;
        let request = config.headers.iter().fold(
            Request::new(config.method.as_str(), config.url.as_str())
                .timeout(Duration::from_millis(config.timeout_ms))
                .body(config.body.as_str()),
            |request, (name, value)| request.header(name.as_str(), value.as_str()),
        );
        let response = request.send()?;
        let response = if config.expect.is_empty() {
            response.check()?
        } else if config.expect.contains(&response.status) {
            response
        } else {
            return Err(Error::unavailable(format!(
                "the service answered {}, not one of {:?}",
                response.status, config.expect
            )));
        };
        let elapsed = response.elapsed.as_secs_f64();
        let mut collection = read(&response.json()?, &config.samples);
        let words = "Time from the request to the whole document";
        collection.push(Family::gauge("json_duration_seconds", words).point([("url", bare(&config.url))], elapsed));
        Ok(collection)
    }
}

/// Without the query, which may hold what nobody should read.
fn bare(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// Everything that the entries find in the document, and a failure for each that finds nothing.
fn read(document: &Value, entries: &[Entry]) -> Collection {
    let mut collection = Collection::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        let place = *places.entry(entry.metric.as_str()).or_insert_with(|| {
            let kind = match entry.kind {
                EntryKind::Gauge => Kind::Gauge,
                EntryKind::Counter => Kind::Counter,
            };
            collection.push(Family::new(kind, entry.metric.as_str(), entry.help.as_str()));
            collection.families.len() - 1
        });
        for (key, element) in entry.elements(document, &mut collection) {
            match entry.sample(&key, element) {
                Ok(Some((labels, value))) => collection.families[place].push(labels, value),
                Ok(None) => {}
                Err(error) => collection.fail(error),
            }
        }
    }
    collection.families.retain(|family| !family.points.is_empty());
    collection
}

impl Entry {
    /// The document itself, or each element of the list or object that `each` points to.
    fn elements<'a>(&self, document: &'a Value, collection: &mut Collection) -> Vec<(String, &'a Value)> {
        let Some(each) = &self.each else {
            return vec![(String::new(), document)];
        };
        let mut elements: Vec<(String, &Value)> = match document.pointer(each) {
            Some(Value::Array(list)) => list.iter().enumerate().map(|(at, v)| (at.to_string(), v)).collect(),
            Some(Value::Object(map)) => map.iter().map(|(key, v)| (key.clone(), v)).collect(),
            Some(other) => {
                let found = shape(other);
                collection.fail(Error::unavailable(format!("{}: {each} is {found}, no list and no object", self.metric)));
                Vec::new()
            }
            None if self.optional => Vec::new(),
            None => {
                collection.fail(Error::unavailable(format!("{}: the document has no {each}", self.metric)));
                Vec::new()
            }
        };
        if elements.len() > EACH_MAX {
            collection.fail(Error::unavailable(format!(
                "{}: {each} has {} elements; only the first {EACH_MAX} are read",
                self.metric,
                elements.len()
            )));
            elements.truncate(EACH_MAX);
        }
        elements
    }

    fn sample(&self, key: &str, element: &Value) -> Result<Option<(Pairs, f64)>> {
        let Some(found) = element.pointer(&self.pointer) else {
            return if self.optional {
                Ok(None)
            } else {
                Err(Error::unavailable(format!("{}: the document has no {}", self.metric, self.pointer)))
            };
        };
        let value = number(found).ok_or_else(|| {
            Error::unavailable(format!("{}: {} is {}, no number", self.metric, self.pointer, shape(found)))
        })?;
        let labels = self
            .labels
            .iter()
            .map(|(name, source)| (name.clone(), label(source, key, element)))
            .collect();
        Ok(Some((labels, value * self.scale)))
    }
}

/// Numbers, booleans as 0 and 1, and texts that hold a number; null is not known (NaN).
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null => Some(f64::NAN),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn label(source: &str, key: &str, element: &Value) -> String {
    if source == "@key" {
        return key.to_owned();
    }
    if !source.starts_with('/') {
        return source.to_owned();
    }
    match element.pointer(source) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

watchfire_plugin_sdk::probe!(Json);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watchfire_plugin_sdk::host::http::Response;

    fn answer(input: &Value) -> Value {
        let host = mock::Host::new();
        host.http("GET http://127.0.0.1:1/s", Response::new(200).with_body(input["document"].to_string()));
        let mut config = input["config"].clone();
        config["url"] = json!("http://127.0.0.1:1/s");
        let mut probe = match Json::configure(&config.to_string()) {
            Ok(probe) => probe,
            Err(error) => return json!({ "error": error.to_string() }),
        };
        let collection = probe.collect().unwrap();
        let samples: BTreeMap<String, Value> = collection
            .families
            .iter()
            .filter(|family| family.metric != "json_duration_seconds")
            .flat_map(|family| {
                family.points.iter().map(|point| {
                    let labels: Vec<String> = point.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    (format!("{}{{{}}}", family.metric, labels.join(",")), json!(point.value))
                })
            })
            .collect();
        let failures: Vec<String> = collection.failures.iter().map(ToString::to_string).collect();
        json!({ "samples": samples, "failures": failures })
    }

    #[test]
    fn testdata_is_read_as_expected() {
        for case in mock::cases(env!("CARGO_MANIFEST_DIR")) {
            assert_eq!(answer(&case.json("input.json")), case.json::<Value>("expected.json"), "{}", case.name);
        }
    }

    #[test]
    fn a_service_that_refuses_is_a_failed_probe() {
        let host = mock::Host::new();
        host.http("GET http://127.0.0.1:1/s", Response::new(503));
        let config = r#"{"url": "http://127.0.0.1:1/s", "samples": [{"metric": "m", "pointer": "/a"}]}"#;
        let error = Json::configure(config).unwrap().collect().unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
    }
}
