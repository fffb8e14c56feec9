//! The four severities and sets of them.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// How bad a breach is. Ordered: `Low < Warning < High < Critical` (P4, P3, P2, P1).
///
/// In configuration it is its lower-case name, or an alias: `medium` for warning, `P1` to `P4`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// P4.
    #[serde(alias = "P4")]
    Low,
    /// P3, alias `medium`.
    #[serde(alias = "medium", alias = "P3")]
    Warning,
    /// P2.
    #[serde(alias = "P2")]
    High,
    /// P1.
    #[serde(alias = "P1")]
    Critical,
}

impl Severity {
    /// All severities, lowest first.
    pub const ALL: [Severity; 4] = [
        Severity::Low,
        Severity::Warning,
        Severity::High,
        Severity::Critical,
    ];

    /// The lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Warning => "warning",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// 0 for `Low` to 3 for `Critical`.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Severity {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        Ok(match word {
            "low" | "P4" => Severity::Low,
            "warning" | "medium" | "P3" => Severity::Warning,
            "high" | "P2" => Severity::High,
            "critical" | "P1" => Severity::Critical,
            _ => {
                return Err(Error::config(format!(
                    "unknown severity {word:?}: write low, warning, high or critical"
                )));
            }
        })
    }
}

/// A set of severities.
///
/// ```
/// use watchfire_plugin_sdk::{Severities, Severity};
///
/// let breached = Severities::NONE.with(Severity::Warning).with(Severity::Critical);
/// assert_eq!(breached.highest(), Some(Severity::Critical));
/// assert!(!breached.contains(Severity::High));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Severities(u8);

impl Severities {
    /// The empty set.
    pub const NONE: Severities = Severities(0);

    /// Whether `severity` is in the set.
    pub fn contains(self, severity: Severity) -> bool {
        self.0 & (1 << severity.index()) != 0
    }

    /// The set with `severity` added.
    #[must_use]
    pub fn with(self, severity: Severity) -> Severities {
        Severities(self.0 | (1 << severity.index()))
    }

    /// The set with `severity` removed.
    #[must_use]
    pub fn without(self, severity: Severity) -> Severities {
        Severities(self.0 & !(1 << severity.index()))
    }

    /// Whether nothing is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The highest severity in the set.
    pub fn highest(self) -> Option<Severity> {
        Severity::ALL
            .into_iter()
            .rev()
            .find(|severity| self.contains(*severity))
    }

    /// The members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Severity> {
        Severity::ALL
            .into_iter()
            .filter(move |severity| self.contains(*severity))
    }

    /// One bit a severity, `Low` the lowest: the layout of the contract's flags.
    #[cfg(any(target_family = "wasm", test))]
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits; what names no severity is dropped.
    #[cfg(any(target_family = "wasm", test))]
    pub(crate) fn from_bits(bits: u8) -> Self {
        Severities(bits & 0b1111)
    }
}

impl From<Severity> for Severities {
    fn from(severity: Severity) -> Self {
        Severities::NONE.with(severity)
    }
}

impl FromIterator<Severity> for Severities {
    fn from_iter<I: IntoIterator<Item = Severity>>(all: I) -> Self {
        all.into_iter().fold(Severities::NONE, Severities::with)
    }
}

impl fmt::Debug for Severities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_aliases() {
        for (word, severity) in [
            ("low", Severity::Low),
            ("medium", Severity::Warning),
            ("P2", Severity::High),
            ("critical", Severity::Critical),
        ] {
            assert_eq!(word.parse::<Severity>().unwrap(), severity);
            assert_eq!(
                serde_json::from_str::<Severity>(&format!("{word:?}")).unwrap(),
                severity
            );
        }
        assert!("urgent".parse::<Severity>().is_err());
    }

    #[test]
    fn a_set_is_its_bits() {
        let set: Severities = [Severity::Low, Severity::High].into_iter().collect();
        assert_eq!(set.bits(), 0b0101);
        assert_eq!(Severities::from_bits(0b1111_0101), set);
        assert_eq!(
            set.without(Severity::High).iter().collect::<Vec<_>>(),
            [Severity::Low]
        );
        assert_eq!(format!("{set:?}"), "{Low, High}");
    }
}
