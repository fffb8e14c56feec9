//! Which samples of a page are taken, and under which names and labels.

use std::collections::BTreeMap;

use watchfire_plugin_sdk::{Error, Pairs, Result};

use crate::parse::{Label, is_name};

/// Wishes of the table, checked.
#[derive(Debug, Default)]
pub(crate) struct Relabel {
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    /// All of these labels must match one of their patterns.
    pub(crate) matches: BTreeMap<String, Vec<String>>,
    pub(crate) drop_labels: Vec<String>,
    pub(crate) rename_labels: BTreeMap<String, String>,
    pub(crate) add_labels: BTreeMap<String, String>,
    pub(crate) prefix: String,
}

impl Relabel {
    /// Checks that every name given stays a name.
    ///
    /// # Errors
    /// [`Error::Config`], naming the key.
    pub(crate) fn checked(self) -> Result<Self> {
        if !self.prefix.is_empty() && !is_name(&self.prefix) {
            return Err(Error::config(format!(
                "config.prefix: {:?} cannot begin a name: write letters, digits and _, like \"shop_\"",
                self.prefix
            )));
        }
        let renamed = self.rename_labels.values().map(|to| ("rename_labels", to));
        let added = self.add_labels.keys().map(|name| ("add_labels", name));
        for (key, name) in renamed.chain(added) {
            if !is_name(name) || name.contains(':') {
                return Err(Error::config(format!(
                    "config.{key}: {name:?} is no name of a label: write letters, digits and _"
                )));
            }
        }
        Ok(self)
    }

    /// Whether samples of this name are taken: the name of the sample, or that of its family.
    pub(crate) fn wants(&self, sample: &str, family: &str) -> bool {
        let among = |patterns: &[String]| {
            patterns
                .iter()
                .any(|pattern| glob(pattern, sample) || glob(pattern, family))
        };
        (self.include.is_empty() || among(&self.include)) && !among(&self.exclude)
    }

    /// The labels that a sample is taken with; `None` where it is not. A missing label is an empty one.
    pub(crate) fn labels(&self, found: &[Label<'_>]) -> Option<Pairs> {
        let fits = |(name, patterns): (&String, &Vec<String>)| {
            let value = found.iter().find(|(key, _)| key == name);
            let value = value.map_or("", |(_, value)| value);
            patterns.iter().any(|pattern| glob(pattern, value))
        };
        if !self.matches.iter().all(fits) {
            return None;
        }
        let mut labels = Pairs::with_capacity(found.len() + self.add_labels.len());
        for (name, value) in found {
            if !self.drop_labels.iter().any(|pattern| glob(pattern, name)) {
                let name = self.rename_labels.get(*name).map_or(*name, String::as_str);
                put(&mut labels, name, value);
            }
        }
        for (name, value) in &self.add_labels {
            put(&mut labels, name, value);
        }
        Some(labels)
    }

    /// Whether two series of the page may become one.
    pub(crate) fn merges(&self) -> bool {
        !(self.drop_labels.is_empty()
            && self.rename_labels.is_empty()
            && self.add_labels.is_empty())
    }
}

/// A later label of the same name replaces the earlier one.
fn put(labels: &mut Pairs, name: &str, value: &str) {
    match labels.iter_mut().find(|(key, _)| key == name) {
        Some((_, old)) => value.clone_into(old),
        None => labels.push((name.to_owned(), value.to_owned())),
    }
}

/// `*` for any text, `?` for one byte. Goes back to the last `*` only, so that it takes no more than the product of both
/// lengths.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else {
                    return false;
                };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("go_*", "go_threads", true),
            ("go_*", "gox", false),
            ("*_total", "a_total_total", true),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xaxcxb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "a", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        let (pattern, text) = ("a*".repeat(50) + "b", "a".repeat(5_000));
        assert!(!glob(&pattern, &text));
    }

    #[test]
    fn labels_are_matched_then_dropped_renamed_and_added() {
        let relabel = Relabel {
            matches: [("code".into(), vec!["5*".into(), "404".into()])].into(),
            drop_labels: vec!["pod*".into()],
            rename_labels: [("srv".into(), "service".into())].into(),
            add_labels: [("env".into(), "live".into())].into(),
            ..Relabel::default()
        };
        let label = |name: &'static str, value: &'static str| (name, Cow::Borrowed(value));
        let taken = relabel.labels(&[
            label("code", "503"),
            label("pod_name", "x"),
            label("srv", "shop"),
            label("env", "test"),
        ]);
        let expected = [("code", "503"), ("service", "shop"), ("env", "live")];
        assert_eq!(
            taken,
            Some(expected.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec())
        );
        assert_eq!(relabel.labels(&[label("code", "200")]), None);
        assert_eq!(relabel.labels(&[]), None);
    }

    #[test]
    fn a_family_is_meant_by_its_name_and_its_parts_by_theirs() {
        let relabel = |include: &str, exclude: &str| Relabel {
            include: vec![include.into()],
            exclude: vec![exclude.into()],
            ..Relabel::default()
        };
        assert!(relabel("rpc_seconds", "").wants("rpc_seconds_bucket", "rpc_seconds"));
        assert!(!relabel("rpc_seconds", "*_bucket").wants("rpc_seconds_bucket", "rpc_seconds"));
        assert!(relabel("rpc_seconds", "*_bucket").wants("rpc_seconds_sum", "rpc_seconds"));
        assert!(!relabel("other", "").wants("rpc_seconds_sum", "rpc_seconds"));
    }
}
