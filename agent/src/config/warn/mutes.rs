//! Two inhibitions that keep each other's alerts quiet.

use super::super::model::Config;
use super::super::raw::Raw;
use super::super::read::Reader;
use std::sync::Arc;
use watchfire_engine::model::{Labels, RuleId, Severity};
use watchfire_engine::policy::{AlertMatcher, InhibitPolicy};

pub(super) fn warn(config: &Config, raw: &Raw, to: &Reader<'_>) {
    let all = &config.policy.inhibitions;
    for (at, (one, written)) in all.iter().zip(&raw.inhibits).enumerate() {
        let Some(place) = written.source.first() else {
            continue;
        };
        let pair = all[..at]
            .iter()
            .find_map(|other| quiet_pair(config, other, one));
        if let Some((a, b)) = pair {
            to.mistake(
                place.at,
                "inhibit.source",
                format!("{a} and {b} mute each other: while both fire nobody hears of either"),
                "remove one of the two inhibitions",
            );
        }
    }
}

/// Two rules of which each mutes the other, the first by `one` and the second by `two`.
fn quiet_pair<'c>(
    config: &'c Config,
    one: &InhibitPolicy,
    two: &InhibitPolicy,
) -> Option<(&'c RuleId, &'c RuleId)> {
    let rules = || config.policy.rules.iter().map(|rule| &rule.id);
    // What stands on both sides of one inhibition is not muted by its like.
    let mutes = |by: &InhibitPolicy, source: &RuleId, target: &RuleId| {
        let alike = names(&by.target, source) && names(&by.source, target);
        names(&by.source, source) && names(&by.target, target) && !alike
    };
    let firsts = rules().filter(|a| names(&one.source, a) && names(&two.target, a));
    firsts
        .flat_map(|a| rules().map(move |b| (a, b)))
        .find(|(a, b)| a != b && mutes(one, a, b) && mutes(two, b, a))
}

fn names(patterns: &[Arc<str>], rule: &RuleId) -> bool {
    let matcher = AlertMatcher {
        rule: patterns.to_vec(),
        ..AlertMatcher::default()
    };
    !patterns.is_empty() && matcher.takes(rule, Severity::Critical, &Labels::default())
}
