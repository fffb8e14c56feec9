//! Finds nothing wrong with what is there: for dead-man rules, which are about what is not.

use serde::Deserialize;
use watchfire_plugin_sdk::prelude::*;

/// Nothing can be configured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The rule: no limits.
pub struct Presence;

impl Rule for Presence {
    type Config = Nothing;

    fn new(_: Nothing, _: &[String]) -> Result<Self> {
        Ok(Presence)
    }

    fn judge(&self, instance: &Instance<'_>) -> Verdict {
        let value = instance.at(0);
        if value.is_nan() {
            Verdict::unknown()
        } else {
            Verdict::healthy().value(value)
        }
    }
}

watchfire_plugin_sdk::rule!(Presence);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn testdata_is_judged_as_expected() {
        mock::judges_testdata::<Presence>(env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn it_wants_nothing_beside_the_values() {
        let rule = Presence::configure("{}", &["cpu"]).unwrap();
        assert_eq!(rule.needs(), Needs::default());
    }
}
