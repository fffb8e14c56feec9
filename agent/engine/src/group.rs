//! Groups of alerts that share one message (decisions.md 12).

use crate::alert::Alert;
use crate::model::{Labels, Moment, NotifierId};
use crate::policy::RoutePolicy;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Alerts in one message at most; the rest is counted.
pub(crate) const LISTED_MAX: usize = 20;

/// One group towards one notifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) notifier: NotifierId,
    /// The route's place in the file when it was made.
    pub(crate) route: usize,
    /// Values of `group_by`; `rule` among them where the route groups by it.
    pub(crate) labels: Labels,
    /// When the next message goes out.
    pub(crate) due: Option<Moment>,
    pub(crate) last_sent: Option<Moment>,
    /// Numbers the messages.
    pub(crate) sequence: u64,
}

/// The values by which an alert is grouped.
pub(crate) fn labels_of(route: &RoutePolicy, alert: &Alert) -> Labels {
    let more = alert.more.as_deref();
    let labels = more.map_or_else(
        || alert.instance.labels.clone(),
        |more| alert.instance.labels.with(&more.added),
    );
    let rule: (Arc<str>, Arc<str>) = ("rule".into(), alert.instance.rule.as_str().into());
    let by_rule = route.group_by.iter().any(|name| &**name == "rule");
    let only = labels.only(&route.group_by);
    // Both are valid label sets, and `rule` stands once.
    Labels::new(by_rule.then_some(rule)).map_or_else(|_| only.clone(), |rule| only.with(&rule))
}

/// The group's key in the outbox and in the store.
pub(crate) fn key(route: usize, labels: &Labels, notifier: &NotifierId) -> String {
    format!("{route}/{labels}/{notifier}")
}
