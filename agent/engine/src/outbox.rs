//! What is due to whom: at most one undelivered message for each subject and notifier.

use crate::effect::Notification;
use crate::model::{Fingerprint, Labels, Moment, NotificationId, NotifierId, RuleId, Severity};
use crate::policy::DeliveryPolicy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A service may not ask for a longer wait (alerting.md 1.3).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Cap of the back-off after a failed connection while few messages wait: a service that comes back is
/// told within seconds (decisions.md 24).
const QUICK_RETRY: Duration = Duration::from_secs(5);

/// How many waiting messages are few.
pub(crate) const FEW: usize = 20;

/// Longest `dedup_key` that services take (PagerDuty).
const DEDUP_KEY_MAX: usize = 255;

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Subject {
    Alert(Fingerprint),
    /// Key of the group.
    Group(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Alert(fingerprint) => write!(f, "{fingerprint}"),
            Subject::Group(key) => f.write_str(key),
        }
    }
}

/// One place of the outbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// To be sent next.
    pub(crate) waiting: Option<Item>,
    /// Handed to the notifier; its report is awaited.
    pub(crate) flying: Option<Item>,
}

impl Slot {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none() && self.flying.is_none()
    }
}

/// One message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) notification: Arc<Notification>,
    pub(crate) severity: Option<Severity>,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// Failures in a row of this place, inherited from what it took the place of: the back-off grows with them.
    pub(crate) failures: u32,
    /// Numbers the decisions, so that what is due together goes out in their order.
    pub(crate) order: u64,
    pub(crate) next_at: Moment,
    /// The alerts it tells about, and what it tells of each.
    pub(crate) covers: Vec<Cover>,
    /// The fallback has a copy, for the notifier's component is quarantined.
    #[serde(default)]
    pub(crate) stood_in: bool,
}

/// One alert of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cover {
    pub(crate) rule: RuleId,
    pub(crate) alert: Fingerprint,
    /// None: that it is over.
    pub(crate) content: Option<Severity>,
    /// In a group: counted as new.
    #[serde(default)]
    pub(crate) new: bool,
    /// What the notifier had been told before: it knows no more than that until this message arrives.
    #[serde(default)]
    pub(crate) before: Option<Severity>,
}

/// The id of a message: the same for the same decision, whatever happens to the process.
pub(crate) fn notification_id(
    subject: &Subject,
    episode: u64,
    sequence: u64,
    notifier: &NotifierId,
) -> NotificationId {
    let digest = Sha256::new()
        .chain_update(subject.to_string())
        .chain_update(format!("\0{episode}\0{sequence}\0{notifier}"))
        .finalize();
    let hex: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    NotificationId::new(hex)
}

/// Groups what services show as one incident: the same for the same alert, whatever is lost.
pub(crate) fn dedup_key(host: &str, subject: &Subject) -> String {
    let subject = match subject {
        Subject::Alert(fingerprint) => fingerprint.to_string(),
        Subject::Group(key) => {
            let rule = RuleId::new("group");
            let labels: BTreeMap<&str, &str> = [("key", key.as_str())].into();
            let labels = Labels::new(labels).unwrap_or_default();
            Fingerprint::of(&rule, &labels).to_string()
        }
    };
    let room = DEDUP_KEY_MAX - "wf1::".len() - subject.len();
    let host: String = host.chars().take(room / 4).collect();
    format!("wf1:{host}:{subject}")
}

/// The wait after the `failures`-th failure in a row.
pub(crate) fn back_off(
    policy: &DeliveryPolicy,
    seed: u64,
    id: &NotificationId,
    failures: u32,
    answered: bool,
    few_wait: bool,
    retry_after: Option<Duration>,
) -> Duration {
    let growth = policy
        .factor
        .powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
    let plain = policy.first_retry.as_secs_f64() * growth;
    let mut wait = plain.min(policy.max_retry.as_secs_f64());
    if !answered && few_wait {
        wait = wait.min(QUICK_RETRY.as_secs_f64());
    }
    wait *= 1.0 + policy.jitter * spread(seed, id, failures);
    let wait = Duration::from_secs_f64(wait.max(0.0));
    wait.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
}

/// Between -1 and 1; the same for the same seed, message and failure.
fn spread(seed: u64, id: &NotificationId, failures: u32) -> f64 {
    let digest = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(id.as_str())
        .chain_update(failures.to_be_bytes())
        .finalize();
    let mut first = [0; 4];
    first.copy_from_slice(&digest[..4]);
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX) * 2.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(attempts: u32, answered: bool, few: bool, retry_after: Option<u64>) -> u64 {
        let policy = DeliveryPolicy {
            jitter: 0.0,
            ..DeliveryPolicy::default()
        };
        let id = NotificationId::new("x");
        let after = retry_after.map(Duration::from_secs);
        back_off(&policy, 1, &id, attempts, answered, few, after).as_secs()
    }

    #[test]
    fn the_wait_doubles_to_its_cap_and_retry_after_is_a_minimum() {
        assert_eq!(
            [1, 2, 3, 7, 40].map(|n| wait(n, true, true, None)),
            [5, 10, 20, 300, 300]
        );
        assert_eq!(
            wait(4, false, true, None),
            5,
            "a connection comes back soon"
        );
        assert_eq!(wait(4, false, false, None), 40, "not where many wait");
        assert_eq!(wait(1, true, true, Some(30)), 30);
        assert_eq!(wait(7, true, true, Some(30)), 300);
        assert_eq!(wait(1, true, true, Some(999_999)), 3_600);
    }

    #[test]
    fn jitter_spreads_and_repeats_exactly() {
        let policy = DeliveryPolicy::default();
        let wait = |id: &str| back_off(&policy, 7, &NotificationId::new(id), 1, true, true, None);
        assert_eq!(wait("a"), wait("a"));
        assert_ne!(wait("a"), wait("b"));
        for id in ["a", "b", "c", "d", "e"] {
            let wait = wait(id).as_secs_f64();
            let spread = spread(7, &NotificationId::new(id), 1);
            assert!((-1.0..=1.0).contains(&spread), "{spread}");
            assert!((wait - 5.0 * (1.0 + 0.2 * spread)).abs() < 1e-6, "{wait}");
        }
        let all = (1..=100).map(|failure| spread(7, &NotificationId::new("a"), failure));
        let (low, high): (Vec<f64>, Vec<f64>) = all.partition(|spread| *spread < 0.0);
        assert!(low.iter().any(|s| *s < -0.5) && high.iter().any(|s| *s > 0.5));
        assert!(low.len() > 25 && high.len() > 25, "{}", low.len());
    }
}
