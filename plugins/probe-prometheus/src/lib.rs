//! Takes over metrics from a page in Prometheus text format 0.0.4 or OpenMetrics 1.0.

mod page;
mod parse;
mod relabel;

use std::collections::BTreeMap;
use std::time::Duration;

use watchfire_plugin_sdk::host::http::{Request, Response};
use watchfire_plugin_sdk::prelude::*;

use relabel::Relabel;

/// What a page is asked for: text first, which every exporter speaks and which has no `_created` series.
const ACCEPT: &str =
    "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

/// Samples of this probe's own, which count for the host's limit as well.
const OWN: usize = 2;

/// Highest `max_samples`: beyond it the page itself passes the 4 MiB that the host reads.
const MAX_SAMPLES_MAX: usize = 100_000;

/// The plugin's table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the page is.
    url: String,
    /// In order of their names.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Limit of the request in milliseconds.
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    /// Takes any certificate; needs the grant of that name.
    #[serde(default)]
    insecure: bool,
    /// Globs of metrics; none = all.
    #[serde(default)]
    include: Vec<String>,
    /// Globs of metrics; they win.
    #[serde(default)]
    exclude: Vec<String>,
    /// Globs of values by label.
    #[serde(default, rename = "match")]
    matches: BTreeMap<String, OneOrMore>,
    /// Globs of labels.
    #[serde(default)]
    drop_labels: Vec<String>,
    /// New name by old.
    #[serde(default)]
    rename_labels: BTreeMap<String, String>,
    #[serde(default)]
    add_labels: BTreeMap<String, String>,
    /// Put before each metric's name.
    #[serde(default)]
    prefix: String,
    /// A page with more is refused.
    #[serde(default = "max_samples")]
    max_samples: usize,
}

#[derive(Debug, serde::Deserialize)]
#[serde(untagged, expecting = "expected a text like \"5*\", or a list of such")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn timeout_ms() -> u64 {
    4_000
}

/// What the host takes of one call.
fn max_samples() -> usize {
    10_000
}

/// The probe.
pub struct Prometheus {
    request: Request,
    /// The URL without what nobody should read.
    label: String,
    relabel: Relabel,
    max_samples: usize,
}

impl Probe for Prometheus {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if !(OWN + 1..=MAX_SAMPLES_MAX).contains(&config.max_samples) {
            return Err(Error::config(format!(
                "config.max_samples: {} is out of bounds: write {} to {MAX_SAMPLES_MAX}",
                config.max_samples,
                OWN + 1
            )));
        }
        let mut request = Request::get(config.url.as_str())
            .timeout(Duration::from_millis(config.timeout_ms.max(1)));
        if !config
            .headers
            .keys()
            .any(|name| name.eq_ignore_ascii_case("accept"))
        {
            request = request.header("Accept", ACCEPT);
        }
        for (name, value) in config.headers {
            request = request.header(name, value);
        }
        if config.insecure {
            request = request.extra("verify", "false");
        }
        let matches = config
            .matches
            .into_iter()
            .map(|(name, values)| match values {
                OneOrMore::One(one) => (name, vec![one]),
                OneOrMore::More(more) => (name, more),
            });
        let relabel = Relabel {
            include: config.include,
            exclude: config.exclude,
            matches: matches.collect(),
            drop_labels: config.drop_labels,
            rename_labels: config.rename_labels,
            add_labels: config.add_labels,
            prefix: config.prefix,
        };
        Ok(Prometheus {
            request,
            label: label(&config.url),
            relabel: relabel.checked()?,
            max_samples: config.max_samples,
        })
    }

    fn collect(&mut self) -> Result<Collection> {
        let response = self.request.send()?.check()?;
        let collection = take(&response, &self.relabel, self.max_samples - OWN)?;
        let taken: usize = collection
            .families
            .iter()
            .map(|family| family.points.len())
            .sum();
        let own =
            |metric, help, value| Family::gauge(metric, help).point([("url", &*self.label)], value);
        Ok(collection
            .with(own(
                "prometheus_scrape_duration_seconds",
                "Time from the request to the whole page",
                response.elapsed.as_secs_f64(),
            ))
            .with(own(
                "prometheus_scrape_samples",
                "Samples taken from the page",
                taken as f64,
            )))
    }

    fn wants() -> Vec<String> {
        vec!["http http://127.0.0.1:9100".to_owned()]
    }
}

/// The samples of a page, and what could not be read of it.
fn take(response: &Response, relabel: &Relabel, samples_max: usize) -> Result<Collection> {
    let kind = response.header("content-type").unwrap_or_default();
    let open = kind
        .trim_start()
        .starts_with("application/openmetrics-text");
    let page = page::read(&response.text(), open, relabel, samples_max)?;
    if page.seen == 0 && page.faulty > 0 {
        return Err(Error::unavailable(format!(
            "this is no page of metrics ({:?}): {}",
            kind.chars().take(60).collect::<String>(),
            page.faults.join("; ")
        )));
    }
    let mut collection = Collection::from(page.families);
    if page.faulty > 0 {
        collection.fail(Error::unavailable(format!(
            "lines that cannot be read and are left out: {} ({}{})",
            page.faulty,
            page.faults.join("; "),
            if page.faulty > page.faults.len() {
                "; …"
            } else {
                ""
            }
        )));
    }
    if page.merged > 0 {
        collection.fail(Error::unavailable(format!(
            "samples left out because they became the same series as another: {}; narrow drop_labels, rename_labels or \
             add_labels",
            page.merged
        )));
    }
    if page.taken == 0 && page.seen > 0 {
        collection.fail(Error::unavailable(format!(
            "none of the {} samples fits include, exclude and match",
            page.seen
        )));
    }
    Ok(collection)
}

/// The URL without query, fragment and user, which may hold what nobody should read.
fn label(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or(url);
    let Some((scheme, rest)) = bare.split_once("://") else {
        return bare.to_owned();
    };
    let host = rest.find('/').unwrap_or(rest.len());
    let user = rest[..host].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[user..])
}

watchfire_plugin_sdk::probe!(Prometheus);

#[cfg(test)]
mod tests;
