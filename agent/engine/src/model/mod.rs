//! The words of the product as types. Plain data: no behaviour beyond parsing, ordering, printing.

mod duration;
mod id;
mod labels;
mod severity;
mod time;

pub use duration::{DurationError, format_duration, parse_duration};
pub use id::{
    ByFingerprint, Fingerprint, FingerprintHasher, Instance, NotificationId, NotifierId, ProbeId,
    ProcedureId, RuleId,
};
pub use labels::{LabelError, Labels, Series, is_label_name, is_metric_name};
pub use severity::{PerSeverity, Severities, Severity, SeverityError};
pub use time::{Moment, Now, WallTime};
