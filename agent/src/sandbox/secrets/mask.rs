//! How values of secrets stay out of texts.

use super::find;
use crate::sandbox::types::CallError;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Replaces values of secrets by `***`. Clones share what they know.
#[derive(Clone, Default)]
pub struct Mask {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// Number in the order of learning, and the value. Longest first, so that a secret inside another does not
    /// break it up.
    values: Vec<(u64, Vec<u8>)>,
    /// The next number.
    next: u64,
}

/// Forms of values remembered for masking, the newest: some five a value, so a hundred secrets or weeks of a daily
/// rotated one.
pub(super) const MASKED_MAX: u64 = 512;
/// Shorter pieces of a value (a line, a path of a URL) are masked only as part of the whole.
const PIECE_BYTES_MIN: usize = 8;
/// Shorter texts were not cut on the way here: the least bound of a text from a guest is that of a log line's field.
const CUT_BYTES_MIN: usize = 1_000;
/// What stands in the place of a masked value.
const STARS: &str = "***";

impl Mask {
    /// Remembers a value and the forms in which it shows up: inside a URL, inside JSON, line by line, and where it is
    /// a URL itself, its path.
    pub fn learn(&self, value: &str) {
        let json = serde_json::to_string(value).unwrap_or_default();
        let mut forms = vec![value.to_owned(), json.trim_matches('"').to_owned()];
        forms.extend(in_url(value));
        forms.extend(
            value
                .lines()
                .filter(|l| l.len() >= PIECE_BYTES_MIN)
                .map(str::to_owned),
        );
        if let Ok(url) = reqwest::Url::parse(value) {
            forms.push(url.as_str().to_owned());
            let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
            let path = format!("{}{query}", url.path());
            forms.extend((path.len() >= PIECE_BYTES_MIN).then_some(path));
        }
        forms.retain(|form| !form.is_empty());
        forms.sort();
        forms.dedup();
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            forms.retain(|form| !known.values.iter().any(|(_, v)| v == form.as_bytes()));
        }
        if forms.is_empty() {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        for form in forms {
            known.values.push((known.next, form.into_bytes()));
            known.next += 1;
        }
        let oldest_kept = known.next.saturating_sub(MASKED_MAX);
        known.values.retain(|(number, _)| *number >= oldest_kept);
        known
            .values
            .sort_by_key(|(_, v)| std::cmp::Reverse(v.len()));
    }

    /// The text with every known value replaced by `***`.
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.apply_bytes(text.as_bytes()) {
            None => Cow::Borrowed(text),
            Some(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }

    /// The same for bytes; none: nothing had to be replaced.
    pub fn apply_bytes(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut masked = self.whole(text);
        if text.len() >= CUT_BYTES_MIN {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            for (_, value) in &known.values {
                let current = masked.as_deref().unwrap_or(text);
                if let Some(without) = without_cut(current, value) {
                    masked = Some(without);
                }
            }
        }
        masked
    }

    /// Replaces whole values only: for texts whose ends a guest can choose, who would learn by what becomes of an end
    /// how far it is the beginning of a value. None: nothing had to be replaced.
    pub fn whole(&self, text: &[u8]) -> Option<Vec<u8>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut masked: Option<Vec<u8>> = None;
        for (_, value) in &known.values {
            let current = masked.as_deref().unwrap_or(text);
            if find(current, value).is_some() {
                masked = Some(replace(current, value));
            }
        }
        masked
    }

    /// Bytes of the longest value, in whatever form.
    pub fn longest(&self) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values.first().map_or(0, |(_, value)| value.len())
    }

    /// An error with its texts masked.
    pub fn error(&self, error: CallError) -> CallError {
        let own = |text: String| match self.apply(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(masked) => masked,
        };
        match error {
            CallError::Config(t) => CallError::Config(own(t)),
            CallError::Denied(t) => CallError::Denied(own(t)),
            CallError::Unavailable {
                message,
                retry_after,
            } => CallError::Unavailable {
                message: own(message),
                retry_after,
            },
            CallError::Rejected(t) => CallError::Rejected(own(t)),
            CallError::Internal(t) => CallError::Internal(own(t)),
            CallError::Trapped(t) => CallError::Trapped(own(t)),
            CallError::BadResult(t) => CallError::BadResult(own(t)),
            CallError::Quarantined {
                message,
                retry_after,
            } => CallError::Quarantined {
                message: own(message),
                retry_after,
            },
            other @ (CallError::Exited(_)
            | CallError::CpuLimit(_)
            | CallError::WallLimit(_)
            | CallError::MemoryLimit(_)
            | CallError::HostCallLimit(_)) => other,
        }
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask")
    }
}

/// A value as it looks inside a URL.
fn in_url(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_ascii_lowercase()];
    if let Ok(mut url) = reqwest::Url::parse("http://h/") {
        url.set_path(value);
        forms.push(url.path().trim_start_matches('/').to_owned());
        url.set_query(Some(value));
        forms.extend(url.query().map(str::to_owned));
        url.query_pairs_mut().clear().append_key_only(value);
        forms.extend(url.query().map(str::to_owned));
    }
    forms
}

/// A text that ends with the begin of a value, or begins with the end of one, was cut in the middle of it; none: it
/// does neither.
fn without_cut(text: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let lengths = || (PIECE_BYTES_MIN..value.len()).rev();
    if let Some(length) = lengths().find(|length| text.ends_with(&value[..*length])) {
        return Some([&text[..text.len() - length], STARS.as_bytes()].concat());
    }
    let length = lengths().find(|length| text.starts_with(&value[value.len() - length..]))?;
    Some([STARS.as_bytes(), &text[length..]].concat())
}

fn replace(mut text: &[u8], piece: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let Some(at) = find(text, piece) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(STARS.as_bytes());
        text = &text[at + piece.len()..];
    }
    out.extend_from_slice(text);
    out
}
