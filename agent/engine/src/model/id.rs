//! Names that must not be mixed up, and the identity of an alert.

use super::Labels;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                $name(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.into())
            }
        }
    };
}

id!(
    /// `id` of a `[[probe]]`.
    ProbeId
);
id!(
    /// `id` of a `[[rule]]`, or the name of a meta-alert.
    RuleId
);
id!(
    /// `id` of a `[[notifier]]`.
    NotifierId
);
id!(
    /// `id` of a `[[recovery]]`.
    ProcedureId
);
id!(
    /// Identity of one message to one notifier: stable over retries and restarts, so that the
    /// receiving service can drop a duplicate. 32 hexadecimal digits.
    NotificationId
);

/// Identity of an alert: the first 128 bits of SHA-256 over `rule \0 key=value \0 …`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u128);

/// What is known of each of many alerts.
pub type ByFingerprint<T> = HashMap<Fingerprint, T, BuildHasherDefault<FingerprintHasher>>;

/// A fingerprint is a hash already: its low half serves as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is one number");
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Fingerprint {
    /// Computes the fingerprint; labels are taken in their sorted order.
    pub fn of(rule: &RuleId, labels: &Labels) -> Self {
        let mut hash = Sha256::new();
        hash.update(rule.as_str());
        hash.update([0]);
        for (key, value) in labels.iter() {
            hash.update(key);
            hash.update("=");
            hash.update(value);
            hash.update([0]);
        }
        let digest = hash.finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Fingerprint(u128::from_be_bytes(first))
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Fingerprint::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("not a fingerprint of 32 hexadecimal digits"))
    }
}

/// One alert's identity: a rule and the labels of the series it judges.
///
/// Labels that the rule adds, the value and the severity are no part of it: they change while the
/// alert stays the same.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The rule.
    pub rule: RuleId,
    /// The source series' labels, or those of the rule's `by`.
    pub labels: Labels,
    /// Computed once.
    pub fingerprint: Fingerprint,
    /// Probes that yield its series; no part of the identity. Who stays away can only be called
    /// absent after these have answered without it. Empty where it is not known.
    pub probes: Arc<[ProbeId]>,
}

impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Instance {}

impl Instance {
    /// Computes the fingerprint.
    pub fn new(rule: RuleId, labels: Labels) -> Self {
        let fingerprint = Fingerprint::of(&rule, &labels);
        Instance {
            rule,
            labels,
            fingerprint,
            probes: Arc::default(),
        }
    }

    /// The same instance, and who yields its series.
    #[must_use]
    pub fn yielded_by(self, probes: impl Into<Arc<[ProbeId]>>) -> Self {
        Instance {
            probes: probes.into(),
            ..self
        }
    }
}

/// `cpu` or `disk{mountpoint="/"}`.
impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.rule, self.labels)
    }
}
