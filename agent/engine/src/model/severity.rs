//! The four severities and sets of them.

use std::fmt;
use std::str::FromStr;

/// How bad a breach is. Ordered: `Low < Warning < High < Critical` (P4, P3, P2, P1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// P4.
    Low,
    /// P3, alias `medium`.
    Warning,
    /// P2.
    High,
    /// P1.
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

    /// The lower-case name used in configuration, metrics and messages.
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

/// A word that names no severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeverityError(pub String);

impl fmt::Display for SeverityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown severity {:?}: write low, warning, high or critical",
            self.0
        )
    }
}

impl std::error::Error for SeverityError {}

impl FromStr for Severity {
    type Err = SeverityError;

    /// Accepts the names and the aliases `medium` and `P1` to `P4`.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "low" | "P4" => Severity::Low,
            "warning" | "medium" | "P3" => Severity::Warning,
            "high" | "P2" => Severity::High,
            "critical" | "P1" => Severity::Critical,
            _ => return Err(SeverityError(word.to_owned())),
        })
    }
}

/// A set of severities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
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
        self.iter().last()
    }

    /// The members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Severity> {
        Severity::ALL.into_iter().filter(move |s| self.contains(*s))
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

/// One value for each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PerSeverity<T>(pub [T; 4]);

impl<T: Copy> PerSeverity<T> {
    /// The same value for every severity.
    pub fn all(value: T) -> Self {
        PerSeverity([value; 4])
    }
}

impl<T> std::ops::Index<Severity> for PerSeverity<T> {
    type Output = T;
    fn index(&self, severity: Severity) -> &T {
        &self.0[severity.index()]
    }
}

impl<T> std::ops::IndexMut<Severity> for PerSeverity<T> {
    fn index_mut(&mut self, severity: Severity) -> &mut T {
        &mut self.0[severity.index()]
    }
}
