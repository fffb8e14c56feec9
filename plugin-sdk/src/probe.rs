//! Probes: they look at something and answer with numbers.
//!
//! ```
//! use watchfire_plugin_sdk::prelude::*;
//!
//! /// Age of the newest backup.
//! struct Backup {
//!     folder: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     folder: String,
//! }
//!
//! impl Probe for Backup {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self> {
//!         Ok(Backup { folder: config.folder })
//!     }
//!
//!     fn collect(&mut self) -> Result<Collection> {
//!         let mut sizes = Family::gauge("backup_size_bytes", "Size of each backup");
//!         let mut newest = None;
//!         let mut collection = Collection::new();
//!         for path in host::files::listing(&format!("{}/*.tar", self.folder))? {
//!             match host::files::stat(&path) {
//!                 Ok(Some(file)) => {
//!                     newest = newest.max(Some(file.modified_at));
//!                     sizes.push([("path", &*path)], file.size as f64);
//!                 }
//!                 Ok(None) => {} // deleted since the listing
//!                 Err(error) => collection.fail(error), // the others still count
//!             }
//!         }
//!         collection.push(sizes);
//!         if let Some(newest) = newest {
//!             let age = host::clock::now().seconds().saturating_sub(newest);
//!             collection.push(Family::gauge("backup_age_seconds", "Age of the newest backup").value(age as f64));
//!         }
//!         Ok(collection)
//!     }
//!
//!     fn wants() -> Vec<String> {
//!         vec!["files /var/backups/*.tar".into()]
//!     }
//! }
//!
//! probe!(Backup);
//!
//! // What follows would stand in the tests of the plugin.
//! let host = mock::Host::new();
//! host.now(Timestamp(10_000_000));
//! host.file("/var/backups/monday.tar", b"0123").modified_at(9_400);
//!
//! let collection = Backup::configure(r#"{"folder": "/var/backups"}"#)?.collect()?;
//! assert_eq!(collection.value("backup_age_seconds", &[]), Some(600.0));
//! assert_eq!(collection.value("backup_size_bytes", &[("path", "/var/backups/monday.tar")]), Some(4.0));
//! # Ok::<(), Error>(())
//! ```

use serde::de::DeserializeOwned;

use crate::alert::pairs;
use crate::error::parse_config;
use crate::{Error, Pairs, Result};

/// A probe: see the [module](self) for a whole one.
///
/// Each call finds a fresh instance: [`new`](Probe::new), then [`collect`](Probe::collect) once. What must survive goes
/// into [`host::state`](crate::host::state).
pub trait Probe: Sized + 'static {
    /// The plugin's table, read by serde. Put `deny_unknown_fields` on it, so that a misspelt key is an error.
    type Config: DeserializeOwned;

    /// Takes the configuration. An error here refuses the plugin before anything changes: check everything.
    ///
    /// # Errors
    /// [`Error::Config`], naming the key and what to write instead.
    fn new(config: Self::Config) -> Result<Self>;

    /// Looks once. A partial answer is an answer: what failed on the way goes into [`Collection::fail`].
    ///
    /// # Errors
    /// Where there is no answer at all. A probe that fails is not a healthy host: its series become unknown.
    fn collect(&mut self) -> Result<Collection>;

    /// The grants the plugin asks for, as lines for the operator: `http https://example.com:443`, `files /var/log/*`.
    fn wants() -> Vec<String> {
        Vec::new()
    }

    /// JSON Schema of the table, so that the host can check it and print documentation.
    fn config_schema() -> Option<String> {
        None
    }

    /// Reads a table written as JSON and calls [`new`](Probe::new), as the host does. Meant for tests.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    fn configure(config: &str) -> Result<Self> {
        Self::new(parse_config(config)?)
    }
}

/// Exports a [`Probe`](crate::Probe) from the component; natively it only checks the type.
#[macro_export]
macro_rules! probe {
    ($plugin:ty) => {
        $crate::__export!($plugin, Probe, ProbeExport, probe, __export_probe);
    };
}

/// Type of a metric, as Prometheus has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up; resets to zero.
    Counter,
    /// `_bucket`, `_sum`, `_count`.
    Histogram,
    /// Quantiles, `_sum`, `_count`.
    Summary,
    /// Not told.
    Untyped,
}

/// One value of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Appended to the family's name: empty, `_bucket`, `_sum`, `_count` or `_total`.
    pub suffix: String,
    /// Labels that tell this series from the others of the metric.
    pub labels: Pairs,
    /// The value; the host drops what is not finite.
    pub value: f64,
}

/// One metric with its points.
///
/// ```
/// use watchfire_plugin_sdk::probe::Family;
///
/// let up = Family::gauge("redis_up", "Whether the server answers").value(1.0);
/// let keys = Family::gauge("redis_keys", "Keys of each database")
///     .point([("db", "0")], 120.0)
///     .point([("db", "1")], 3.0);
/// let seconds = Family::histogram("redis_call_seconds", "Time of a call")
///     .distribution([("command", "get")], &[(0.1, 7), (f64::INFINITY, 9)], 1.5);
/// assert_eq!(seconds.points.len(), 4); // two buckets, the sum, the count
/// # assert_eq!((up.points.len(), keys.points.len()), (1, 2));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Name without suffix: `[a-zA-Z_:][a-zA-Z0-9_:]*`, base units (`_seconds`, `_bytes`, `_ratio`).
    pub metric: String,
    /// Its type.
    pub kind: Kind,
    /// One line for people.
    pub help: String,
    /// Its values.
    pub points: Vec<Point>,
}

impl Family {
    /// A family without points.
    pub fn new(kind: Kind, metric: impl Into<String>, help: impl Into<String>) -> Self {
        Family {
            metric: metric.into(),
            kind,
            help: help.into(),
            points: Vec::new(),
        }
    }

    /// Something that goes up and down.
    pub fn gauge(metric: impl Into<String>, help: impl Into<String>) -> Self {
        Family::new(Kind::Gauge, metric, help)
    }

    /// Something that only goes up; end its name in `_total`. The host computes rates, resets included.
    pub fn counter(metric: impl Into<String>, help: impl Into<String>) -> Self {
        Family::new(Kind::Counter, metric, help)
    }

    /// A distribution in buckets; see [`distribution`](Family::distribution).
    pub fn histogram(metric: impl Into<String>, help: impl Into<String>) -> Self {
        Family::new(Kind::Histogram, metric, help)
    }

    /// A distribution in quantiles: points with a label `quantile`, then `_sum` and `_count`.
    pub fn summary(metric: impl Into<String>, help: impl Into<String>) -> Self {
        Family::new(Kind::Summary, metric, help)
    }

    /// Something whose type the source does not tell.
    pub fn untyped(metric: impl Into<String>, help: impl Into<String>) -> Self {
        Family::new(Kind::Untyped, metric, help)
    }

    /// With one more value.
    #[must_use]
    pub fn point<K: Into<String>, V: Into<String>>(
        mut self,
        labels: impl IntoIterator<Item = (K, V)>,
        value: f64,
    ) -> Self {
        self.push(labels, value);
        self
    }

    /// With one more value that has no labels.
    #[must_use]
    pub fn value(self, value: f64) -> Self {
        self.point([("", ""); 0], value)
    }

    /// With one bucket a pair `(upper bound, how many at or below it)`, the sum of all values and their count, which is
    /// that of the last bucket. Bounds ascend and end in infinity.
    #[must_use]
    pub fn distribution<K: Into<String>, V: Into<String>>(
        mut self,
        labels: impl IntoIterator<Item = (K, V)>,
        buckets: &[(f64, u64)],
        sum: f64,
    ) -> Self {
        let labels = pairs(labels);
        for (bound, count) in buckets {
            let mut labels = labels.clone();
            let bound = if *bound == f64::INFINITY {
                "+Inf".into()
            } else {
                bound.to_string()
            };
            labels.push(("le".into(), bound));
            self.push_suffixed("_bucket", labels, *count as f64);
        }
        self.push_suffixed("_sum", labels.clone(), sum);
        self.push_suffixed(
            "_count",
            labels,
            buckets.last().map_or(0, |(_, count)| *count) as f64,
        );
        self
    }

    /// Adds a value.
    pub fn push<K: Into<String>, V: Into<String>>(
        &mut self,
        labels: impl IntoIterator<Item = (K, V)>,
        value: f64,
    ) {
        self.push_suffixed("", labels, value);
    }

    /// Adds a value of a histogram or summary: `_bucket`, `_sum`, `_count`, `_total`, or nothing.
    pub fn push_suffixed<K: Into<String>, V: Into<String>>(
        &mut self,
        suffix: impl Into<String>,
        labels: impl IntoIterator<Item = (K, V)>,
        value: f64,
    ) {
        self.points.push(Point {
            suffix: suffix.into(),
            labels: pairs(labels),
            value,
        });
    }
}

/// What one look found: samples, and what went wrong on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collection {
    /// The metrics.
    pub families: Vec<Family>,
    /// What could not be read. The series of these stay unknown; the others count.
    pub failures: Vec<Error>,
}

impl Collection {
    /// Nothing found yet.
    pub fn new() -> Self {
        Collection::default()
    }

    /// Adds a metric.
    pub fn push(&mut self, family: Family) {
        self.families.push(family);
    }

    /// Adds what went wrong on the way.
    pub fn fail(&mut self, error: Error) {
        self.failures.push(error);
    }

    /// With one more metric.
    #[must_use]
    pub fn with(mut self, family: Family) -> Self {
        self.push(family);
        self
    }

    /// With one more thing that went wrong.
    #[must_use]
    pub fn failure(mut self, error: Error) -> Self {
        self.fail(error);
        self
    }

    /// The value of the series `metric` (suffix included) with exactly these labels, in any order. Meant for tests.
    pub fn value(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.families.iter().find_map(|family| {
            let suffix = metric.strip_prefix(&*family.metric)?;
            let point = family.points.iter().find(|point| {
                point.suffix == suffix
                    && point.labels.len() == labels.len()
                    && labels.iter().all(|(key, value)| {
                        point.labels.iter().any(|(k, v)| k == key && v == value)
                    })
            })?;
            Some(point.value)
        })
    }
}

impl From<Family> for Collection {
    fn from(family: Family) -> Self {
        Collection::from_iter([family])
    }
}

impl From<Vec<Family>> for Collection {
    fn from(families: Vec<Family>) -> Self {
        Collection {
            families,
            failures: Vec::new(),
        }
    }
}

impl<const N: usize> From<[Family; N]> for Collection {
    fn from(families: [Family; N]) -> Self {
        Collection::from_iter(families)
    }
}

impl FromIterator<Family> for Collection {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        Collection::from(Vec::from_iter(families))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_buckets_sum_and_count() {
        let family = Family::histogram("t", "").distribution(
            [("a", "b")],
            &[(0.5, 1), (f64::INFINITY, 4)],
            2.5,
        );
        let found = Collection::from(family);
        assert_eq!(
            found.value("t_bucket", &[("le", "0.5"), ("a", "b")]),
            Some(1.0)
        );
        assert_eq!(
            found.value("t_bucket", &[("a", "b"), ("le", "+Inf")]),
            Some(4.0)
        );
        assert_eq!(found.value("t_sum", &[("a", "b")]), Some(2.5));
        assert_eq!(found.value("t_count", &[("a", "b")]), Some(4.0));
        assert_eq!(found.value("t_count", &[]), None);
    }

    #[test]
    fn values_and_failures_stand_side_by_side() {
        let found = Collection::from([
            Family::gauge("up", "").value(1.0),
            Family::counter("calls_total", "").value(7.0),
        ])
        .failure(Error::unavailable("no answer"));
        assert_eq!(found.value("calls_total", &[]), Some(7.0));
        assert_eq!(found.failures, [Error::unavailable("no answer")]);
    }
}
