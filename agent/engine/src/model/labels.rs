//! Metrics, labels, series. Names follow the Prometheus data model.

use std::fmt;
use std::sync::Arc;

/// Sorted `key=value` pairs with distinct keys. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

/// A label set that is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelError {
    /// The key does not follow `[a-zA-Z_][a-zA-Z0-9_]*`.
    Name(String),
    /// The key stands twice.
    Twice(String),
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LabelError::Name(name) => write!(
                f,
                "label name {name:?} does not follow [a-zA-Z_][a-zA-Z0-9_]*"
            ),
            LabelError::Twice(name) => write!(f, "label {name:?} is given twice"),
        }
    }
}

impl std::error::Error for LabelError {}

impl Labels {
    /// Sorts and checks the pairs.
    pub fn new<K: Into<Arc<str>>, V: Into<Arc<str>>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, LabelError> {
        let mut all: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        all.sort();
        for (key, _) in &all {
            if !is_label_name(key) {
                return Err(LabelError::Name(key.to_string()));
            }
        }
        for pair in all.windows(2) {
            if pair[0].0 == pair[1].0 {
                return Err(LabelError::Twice(pair[0].0.to_string()));
            }
        }
        Ok(Labels(all.into()))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .binary_search_by(|(k, _)| (**k).cmp(key))
            .ok()
            .map(|at| &*self.0[at].1)
    }

    /// The pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// These labels and `more`; where a key is in both, the value of `more` holds.
    #[must_use]
    pub fn with(&self, more: &Labels) -> Labels {
        if more.is_empty() {
            return self.clone();
        }
        let mut all: Vec<_> = self
            .0
            .iter()
            .filter(|(key, _)| more.get(key).is_none())
            .cloned()
            .collect();
        all.extend(more.0.iter().cloned());
        all.sort();
        Labels(all.into())
    }

    /// Only the labels named in `keys`.
    #[must_use]
    pub fn only(&self, keys: &[impl AsRef<str>]) -> Labels {
        Labels(
            self.0
                .iter()
                .filter(|(key, _)| keys.iter().any(|k| k.as_ref() == &**key))
                .cloned()
                .collect(),
        )
    }

    /// Without the labels named in `keys`.
    #[must_use]
    pub fn without(&self, keys: &[impl AsRef<str>]) -> Labels {
        Labels(
            self.0
                .iter()
                .filter(|(key, _)| !keys.iter().any(|k| k.as_ref() == &**key))
                .cloned()
                .collect(),
        )
    }
}

/// `{a="1",b="2"}` with `\`, `"` and newline escaped as in the Prometheus text format; nothing for no labels.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, (key, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            write!(f, "{comma}{key}=\"{value}\"")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl serde::Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

impl<'de> serde::Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<String, String>::deserialize(from)?;
        Labels::new(map).map_err(serde::de::Error::custom)
    }
}

/// A metric name with a label set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// Follows `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    pub metric: Arc<str>,
    /// What tells this series from others of the metric.
    pub labels: Labels,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.metric, self.labels)
    }
}

/// Whether `name` follows `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_metric_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Whether `name` follows `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':')
}
