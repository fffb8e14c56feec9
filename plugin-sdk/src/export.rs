//! Between the contract's calls and the traits: one generic export a kind, and the one instance of the plugin.

#![expect(
    missing_docs,
    reason = "public for the macros only, hidden from the documentation"
)]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Once;
use std::thread::LocalKey;
use std::time::Duration;

use crate::bindings::imports::watchfire::plugin::types as wire;
use crate::bindings::{action, notifier, probe, rule};
use crate::error::parse_config;
use crate::host::log::{self, Level};
use crate::{
    Alert, Batch, Collection, Error, Needs, Notification, Outcome, Reason, Receipt, Result,
    Severities, Severity, Timestamp, Verdicts,
};

/// Name, version and summary of the plugin's own crate, taken where the macro expands.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    pub summary: &'static str,
}

/// Tells the kinds apart, so that one type can be exported as several.
#[derive(Debug)]
pub struct Probe;
#[derive(Debug)]
pub struct Rule;
#[derive(Debug)]
pub struct Notifier;
#[derive(Debug)]
pub struct Action;

/// What the macro implements for the plugin's type.
pub trait Hosted<Kind>: Sized + 'static {
    fn package() -> Package;
    fn slot() -> &'static LocalKey<Slot<Self>>;
}

/// The configured plugin, between `configure` and the call that uses it.
#[derive(Debug)]
pub struct Slot<T>(RefCell<Option<Configured<T>>>);

#[derive(Debug)]
struct Configured<T> {
    plugin: T,
    /// Of rules: names of the inputs, and what it needs.
    inputs: Rc<[String]>,
    needs: Needs,
}

impl<T> Slot<T> {
    pub const fn empty() -> Self {
        Slot(RefCell::new(None))
    }
}

fn put<K, T: Hosted<K>>(plugin: T, inputs: Vec<String>, needs: Needs) {
    T::slot().with(|slot| {
        *slot.0.borrow_mut() = Some(Configured {
            plugin,
            inputs: inputs.into(),
            needs,
        });
    });
}

fn with<K, T: Hosted<K>, R>(
    call: impl FnOnce(&mut Configured<T>) -> Result<R>,
) -> Result<R, wire::Error> {
    T::slot().with(|slot| match slot.0.borrow_mut().as_mut() {
        Some(configured) => call(configured).map_err(wire::Error::from),
        None => Err(wire::Error::Internal(
            "called before it was configured".into(),
        )),
    })
}

/// Panics abort here: the message goes to the log first, then where it always goes, the standard error that the host
/// attaches to the trap.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            log::emit(Level::Error, &panic.to_string().replace('\n', " "), &[]);
            default(panic);
        }));
    });
}

fn description(
    package: Package,
    config_schema: Option<String>,
    wants: Vec<String>,
) -> wire::Description {
    wire::Description {
        name: package.name.into(),
        version: package.version.into(),
        summary: package.summary.into(),
        config_schema,
        wants,
        extra: vec![("sdk".into(), env!("CARGO_PKG_VERSION").into())],
    }
}

#[derive(Debug)]
pub struct ProbeExport<T>(PhantomData<T>);

impl<T: crate::Probe + Hosted<Probe>> probe::exports::watchfire::plugin::probe::Guest
    for ProbeExport<T>
{
    fn describe() -> wire::Description {
        description(T::package(), T::config_schema(), T::wants())
    }

    fn configure(config: String) -> Result<(), wire::Error> {
        report_panics();
        put::<Probe, T>(
            T::new(parse_config(&config)?)?,
            Vec::new(),
            Needs::default(),
        );
        Ok(())
    }

    fn collect() -> Result<probe::exports::watchfire::plugin::probe::Collection, wire::Error> {
        with::<Probe, T, _>(|configured| configured.plugin.collect().map(Into::into))
    }
}

#[derive(Debug)]
pub struct RuleExport<T>(PhantomData<T>);

impl<T: crate::Rule + Hosted<Rule>> rule::exports::watchfire::plugin::rule::Guest
    for RuleExport<T>
{
    fn describe() -> wire::Description {
        description(T::package(), T::config_schema(), Vec::new())
    }

    fn configure(
        config: String,
        inputs: Vec<String>,
    ) -> Result<rule::exports::watchfire::plugin::rule::Needs, wire::Error> {
        report_panics();
        let plugin = T::new(parse_config(&config)?, &inputs)?;
        let needs = plugin.needs();
        put::<Rule, T>(plugin, inputs, needs.clone());
        Ok(rule::exports::watchfire::plugin::rule::Needs {
            labels: needs.labels,
            memory: needs.memory,
            points_of: needs.points_of,
            back_ms: u64::try_from(needs.back.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn evaluate(
        batch: rule::exports::watchfire::plugin::rule::Batch,
    ) -> Result<rule::exports::watchfire::plugin::rule::Verdicts, wire::Error> {
        with::<Rule, T, _>(|configured| {
            let batch = Batch {
                now: Timestamp(batch.now),
                inputs: configured.inputs.clone(),
                points_of: configured.needs.points_of.as_slice().into(),
                columns: batch.columns,
                active: batch
                    .active
                    .into_iter()
                    .map(|set| Severities::from_bits(set.bits()))
                    .collect(),
                labels: batch.labels,
                memory: batch.memory,
                points: batch.points.into_iter().map(moments).collect(),
            };
            let mut verdicts = configured.plugin.evaluate(&batch)?;
            if verdicts.len() != batch.len() {
                return Err(Error::internal(format!(
                    "{} verdicts for {} instances",
                    verdicts.len(),
                    batch.len()
                )));
            }
            if configured.needs.memory {
                verdicts.memory.resize(batch.len(), Vec::new());
            } else {
                verdicts.memory.clear();
            }
            Ok(verdicts.into())
        })
    }
}

fn moments(
    instances: Vec<Vec<rule::exports::watchfire::plugin::rule::Moment>>,
) -> Vec<Vec<crate::rule::Moment>> {
    let moment = |moment: rule::exports::watchfire::plugin::rule::Moment| crate::rule::Moment {
        at: Timestamp(moment.at),
        value: moment.value,
    };
    instances
        .into_iter()
        .map(|points| points.into_iter().map(moment).collect())
        .collect()
}

#[derive(Debug)]
pub struct NotifierExport<T>(PhantomData<T>);

impl<T: crate::Notifier + Hosted<Notifier>> notifier::exports::watchfire::plugin::notifier::Guest
    for NotifierExport<T>
{
    fn describe() -> wire::Description {
        let mut all = description(T::package(), T::config_schema(), T::wants());
        if T::folds_by_dedup_key() {
            all.extra.push(("folds-by".into(), "dedup-key".into()));
        }
        all
    }

    fn configure(config: String) -> Result<(), wire::Error> {
        report_panics();
        put::<Notifier, T>(
            T::new(parse_config(&config)?)?,
            Vec::new(),
            Needs::default(),
        );
        Ok(())
    }

    fn notify(
        notification: notifier::exports::watchfire::plugin::notifier::Notification,
    ) -> Result<notifier::exports::watchfire::plugin::notifier::Receipt, wire::Error> {
        with::<Notifier, T, _>(|configured| {
            let Receipt { remote_id, extra } = configured.plugin.notify(&notification.into())?;
            Ok(notifier::exports::watchfire::plugin::notifier::Receipt { remote_id, extra })
        })
    }
}

#[derive(Debug)]
pub struct ActionExport<T>(PhantomData<T>);

impl<T: crate::Action + Hosted<Action>> action::exports::watchfire::plugin::action::Guest
    for ActionExport<T>
{
    fn describe() -> wire::Description {
        description(T::package(), T::config_schema(), T::wants())
    }

    fn configure(config: String) -> Result<(), wire::Error> {
        report_panics();
        put::<Action, T>(
            T::new(parse_config(&config)?)?,
            Vec::new(),
            Needs::default(),
        );
        Ok(())
    }

    fn act(
        alert: wire::Alert,
        attempt: u32,
        dry_run: bool,
    ) -> Result<action::exports::watchfire::plugin::action::Outcome, wire::Error> {
        with::<Action, T, _>(|configured| {
            let Outcome { did, changed } =
                configured.plugin.act(&alert.into(), attempt, dry_run)?;
            Ok(action::exports::watchfire::plugin::action::Outcome { did, changed })
        })
    }
}

impl From<Error> for wire::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Config(message) => wire::Error::Config(message),
            Error::Denied(message) => wire::Error::Denied(message),
            Error::Unavailable {
                message,
                retry_after,
            } => wire::Error::Unavailable(wire::Unavailability {
                message,
                retry_after_ms: retry_after
                    .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            }),
            Error::Rejected(message) => wire::Error::Rejected(message),
            Error::Internal(message) => wire::Error::Internal(message),
        }
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::Config(message) => Error::Config(message),
            wire::Error::Denied(message) => Error::Denied(message),
            wire::Error::Unavailable(wire::Unavailability {
                message,
                retry_after_ms,
            }) => Error::Unavailable {
                message,
                retry_after: retry_after_ms.map(Duration::from_millis),
            },
            wire::Error::Rejected(message) => Error::Rejected(message),
            wire::Error::Internal(message) => Error::Internal(message),
        }
    }
}

impl From<wire::Severity> for Severity {
    fn from(severity: wire::Severity) -> Self {
        match severity {
            wire::Severity::Low => Severity::Low,
            wire::Severity::Warning => Severity::Warning,
            wire::Severity::High => Severity::High,
            wire::Severity::Critical => Severity::Critical,
        }
    }
}

impl From<wire::Alert> for Alert {
    fn from(alert: wire::Alert) -> Self {
        Alert {
            fingerprint: alert.fingerprint,
            episode: alert.episode,
            rule: alert.rule,
            severity: alert.severity.into(),
            labels: alert.labels,
            value: alert.value,
            limit: alert.limit,
            summary: alert.summary,
            started_at: Timestamp(alert.started_at),
            ended_at: alert.ended_at.map(Timestamp),
            extra: alert.extra,
        }
    }
}

impl From<notifier::exports::watchfire::plugin::notifier::Notification> for Notification {
    fn from(sent: notifier::exports::watchfire::plugin::notifier::Notification) -> Self {
        Notification {
            id: sent.id,
            dedup_key: sent.dedup_key,
            reason: Reason::from(&*sent.reason),
            alerts: sent.alerts.into_iter().map(Alert::from).collect(),
            title: sent.title,
            text: sent.text,
            extra: sent.extra,
        }
    }
}

impl From<Verdicts> for rule::exports::watchfire::plugin::rule::Verdicts {
    fn from(verdicts: Verdicts) -> Self {
        let flags = |set: Severities| wire::Severities::from_bits_truncate(set.bits());
        rule::exports::watchfire::plugin::rule::Verdicts {
            breached: verdicts
                .breached
                .into_iter()
                .map(|breached| breached.map(flags))
                .collect(),
            values: verdicts.values,
            limits: verdicts.limits,
            notes: verdicts.notes,
            memory: verdicts.memory,
        }
    }
}

impl From<Collection> for probe::exports::watchfire::plugin::probe::Collection {
    fn from(collection: Collection) -> Self {
        use crate::probe::Kind;
        use probe::exports::watchfire::plugin::probe as wire;

        let family = |family: crate::probe::Family| wire::Family {
            metric: family.metric,
            kind: match family.kind {
                Kind::Gauge => wire::Kind::Gauge,
                Kind::Counter => wire::Kind::Counter,
                Kind::Histogram => wire::Kind::Histogram,
                Kind::Summary => wire::Kind::Summary,
                Kind::Untyped => wire::Kind::Untyped,
            },
            help: family.help,
            points: family
                .points
                .into_iter()
                .map(|point| wire::Point {
                    suffix: point.suffix,
                    labels: point.labels,
                    value: point.value,
                })
                .collect(),
        };
        wire::Collection {
            families: collection.families.into_iter().map(family).collect(),
            failures: collection.failures.into_iter().map(Into::into).collect(),
        }
    }
}
