//! Durations and sizes as configuration writes them: `"90s"`, `"64MiB"`.
//!
//! ```
//! use std::time::Duration;
//! use watchfire_plugin_sdk::units::{Size, Span};
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     older_than: Span,
//!     keep: Option<Size>,
//! }
//!
//! let config: Config = serde_json::from_str(r#"{"older_than": "1h30m", "keep": "64MiB"}"#)?;
//! assert_eq!(config.older_than.0, Duration::from_secs(5400));
//! assert_eq!(config.keep, Some(Size(64 << 20)));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

use crate::{Error, Result};

/// A length of time: `90s`, `5m`, `1h30m`, `250ms`, `7d`, `2w`, `1.5s`. A unit must be given, except for `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(
    /// The same, to reckon with.
    pub Duration,
);

/// A number of bytes: `512B`, `64KiB`, `64MiB`, `2GiB`, `1TiB`. A unit must be given, except for `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(
    /// The same, to reckon with.
    pub u64,
);

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config(format!(
                "{text:?} is not a duration: write a number with a unit, such as \"250ms\", \"90s\", \"5m\", \"1h30m\" \
                 or \"7d\""
            ))
        };
        if text == "0" {
            return Ok(Span::default());
        }
        let (mut rest, mut total) = (text, Duration::ZERO);
        while !rest.is_empty() {
            let (number, unit, after) = split(rest).ok_or_else(wrong)?;
            let unit_secs = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                "w" => 604_800.0,
                _ => return Err(wrong()),
            };
            let part = Duration::try_from_secs_f64(number * unit_secs).map_err(|_| wrong())?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = after;
        }
        if text.is_empty() {
            Err(wrong())
        } else {
            Ok(Span(total))
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config(format!(
                "{text:?} is not a size: write a number with B, KiB, MiB, GiB or TiB"
            ))
        };
        if text == "0" {
            return Ok(Size(0));
        }
        let (number, unit, after) = split(text).ok_or_else(wrong)?;
        let unit_bytes = match unit {
            "B" => 1u64,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        let bytes = number * unit_bytes as f64;
        // 2^53: beyond it a float skips numbers, and no size of a configuration is 8 PiB.
        if !after.is_empty() || bytes > 9_007_199_254_740_992.0 {
            return Err(wrong());
        }
        Ok(Size(bytes as u64))
    }
}

/// A number without sign or exponent, the letters behind it, and what is left.
fn split(text: &str) -> Option<(f64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number = text[..digits].parse().ok()?;
    let rest = &text[digits..];
    let letters = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    Some((number, &rest[..letters], &rest[letters..]))
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl From<Size> for u64 {
    fn from(size: Size) -> Self {
        size.0
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text)?.parse().map_err(D::Error::custom)
    }
}

/// As configuration writes it, in the largest units: `1h30m`, `1m30s`, `0s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
            ("ms", 1),
        ] {
            if millis >= size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, millis, written) in [
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("250ms", 250, "250ms"),
            ("2w", 1_209_600_000, "14d"),
            ("1.5s", 1_500, "1s500ms"),
            ("0", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(
                (span.0.as_millis(), &*span.to_string()),
                (millis, written),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "-1s",
            "5 m",
            "5M",
            "s",
            "1e9s",
            "9999999999999999w",
        ] {
            assert!(
                matches!(text.parse::<Span>(), Err(Error::Config(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [
            ("0", 0),
            ("512B", 512),
            ("1.5KiB", 1536),
            ("64MiB", 64 << 20),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "5", "64MB", "64 MiB", "-1B", "1MiB2KiB", "99999999TiB"] {
            assert!(
                matches!(text.parse::<Size>(), Err(Error::Config(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_text_names_its_key() {
        #[derive(Debug, serde::Deserialize)]
        struct Table {
            #[expect(dead_code, reason = "only read")]
            every: Span,
        }
        let error = crate::error::parse_config::<Table>(r#"{"every": "5"}"#).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("config.every: \"5\" is not a duration: write"),
            "{error}"
        );
    }
}
