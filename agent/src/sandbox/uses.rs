//! Components in use: a configured probe, rule, notifier or action, ready to be called.

use super::calls::{Act, Collect, Configure, ConfigureRule, Evaluate, Notify, Settings};
use super::component::{Component, DESCRIBE_WALL, LoadError};
use super::host::{CallSettings, Using};
use super::types::{
    Alert, Batch, CallError, Collection, Cost, Kind, Message, Needs, Outcome, Receipt, Use,
    Verdicts,
};
use std::sync::{Arc, Mutex, PoisonError};

/// A configured probe. Clones share one place: one call at a time.
#[derive(Clone)]
pub struct Probe(Used);

/// A configured rule.
#[derive(Clone)]
pub struct Rule {
    used: Used,
    configured: Arc<Mutex<Option<Arc<Configured>>>>,
}

/// A configured notifier.
#[derive(Clone)]
pub struct Notifier(Used);

/// A configured action.
#[derive(Clone)]
pub struct Action(Used);

#[derive(Clone)]
struct Used {
    component: Component,
    using: Arc<Using>,
}

/// What a rule was last configured with.
struct Configured {
    inputs: Vec<String>,
    remembers: bool,
}

impl Component {
    /// As a probe.
    ///
    /// # Errors
    /// It is none, or the grants make no sense.
    pub fn probe(&self, settings: Use) -> Result<Probe, LoadError> {
        self.used(Kind::Probe, settings).map(Probe)
    }

    /// As a rule.
    ///
    /// # Errors
    /// It is none.
    pub fn rule(&self, settings: Use) -> Result<Rule, LoadError> {
        Ok(Rule {
            used: self.used(Kind::Rule, settings)?,
            configured: Arc::default(),
        })
    }

    /// As a notifier.
    ///
    /// # Errors
    /// It is none, or the grants make no sense.
    pub fn notifier(&self, settings: Use) -> Result<Notifier, LoadError> {
        self.used(Kind::Notifier, settings).map(Notifier)
    }

    /// As an action.
    ///
    /// # Errors
    /// It is none, or the grants make no sense.
    pub fn action(&self, settings: Use) -> Result<Action, LoadError> {
        self.used(Kind::Action, settings).map(Action)
    }

    fn used(&self, kind: Kind, settings: Use) -> Result<Used, LoadError> {
        if !self.kinds().contains(&kind) {
            return Err(self.wrong_kind(kind));
        }
        Ok(Used {
            component: self.clone(),
            using: Arc::new(self.using(kind, settings)?),
        })
    }
}

impl Used {
    async fn configure(&self) -> Result<(), CallError> {
        let configure = Configure {
            component: self.component.clone(),
            kind: self.using.kind,
            config: Arc::clone(&self.using.settings.config),
        };
        let (done, _) = self.call(quick(), configure).await;
        done
    }

    async fn call<V: super::calls::Verb>(
        &self,
        settings: Settings,
        verb: V,
    ) -> (Result<V::Answer, CallError>, Cost) {
        let sandbox = &self.component.0.sandbox;
        sandbox.call(&self.using, settings, verb).await
    }

    fn config(&self) -> Arc<str> {
        Arc::clone(&self.using.settings.config)
    }
}

/// Checking a configuration is quick or wrong.
fn quick() -> Settings {
    Settings {
        wall: Some(DESCRIBE_WALL),
        ..Settings::default()
    }
}

/// A use of another kind never gets here: `used` checked it.
fn no_such(kind: Kind) -> CallError {
    CallError::Internal(format!("the component is no {}", kind.name()))
}

impl Probe {
    /// Lets the plugin check its configuration.
    ///
    /// # Errors
    /// `Config` with its own words, or another failure of the call.
    pub async fn configure(&self) -> Result<(), CallError> {
        self.0.configure().await
    }

    /// Collects once. Dropping the future ends the guest.
    pub async fn collect(&self) -> (Result<Collection, CallError>, Cost) {
        self.run(Settings::default()).await
    }

    /// Collects once for proof: what it writes into `state` is dropped.
    pub async fn trial(&self) -> (Result<Collection, CallError>, Cost) {
        let discard = Settings {
            discard: true,
            ..Settings::default()
        };
        self.run(discard).await
    }

    async fn run(&self, settings: Settings) -> (Result<Collection, CallError>, Cost) {
        let Some(pre) = self.0.component.0.probe.clone() else {
            return (Err(no_such(Kind::Probe)), Cost::default());
        };
        let collect = Collect {
            pre,
            config: self.0.config(),
            limits: self.0.using.limits().clone(),
        };
        self.0.call(settings, collect).await
    }
}

impl Rule {
    /// Hands over configuration and the names of the inputs; what the rule needs comes back.
    /// The inputs hold for every [`Rule::evaluate`] that follows.
    ///
    /// # Errors
    /// `Config` with the plugin's own words, or another failure of the call.
    pub async fn configure(&self, inputs: &[String]) -> Result<Needs, CallError> {
        let Some(pre) = self.used.component.0.rule.clone() else {
            return Err(no_such(Kind::Rule));
        };
        let configure = ConfigureRule {
            pre,
            config: self.used.config(),
            inputs: inputs.to_vec(),
        };
        let (needs, _) = self.used.call(quick(), configure).await;
        let needs = needs?;
        let configured = Configured {
            inputs: inputs.to_vec(),
            remembers: needs.memory,
        };
        *self
            .configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(configured));
        Ok(needs)
    }

    /// Judges one round. The clock of the guest stands at `batch.now_ms` and its randomness follows
    /// from it: the same batch gives the same verdicts. A batch that is too large for one transfer is
    /// cut, and the parts are judged by one instance of the component.
    ///
    /// Invariant: the lists of `batch` are as long as `active`, or empty where the rule did not ask.
    pub async fn evaluate(&self, batch: Batch) -> (Result<Verdicts, CallError>, Cost) {
        let configured = self
            .configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (Some(configured), Some(pre)) = (configured, self.used.component.0.rule.clone()) else {
            let error = CallError::Internal("the rule was not configured".into());
            return (Err(error), Cost::default());
        };
        let settings = Settings {
            host: CallSettings {
                fixed_ms: Some(batch.now_ms),
                ..CallSettings::default()
            },
            wall: None,
            discard: false,
        };
        let evaluate = Evaluate {
            pre,
            config: self.used.config(),
            inputs: configured.inputs.clone(),
            remembers: configured.remembers,
            batch,
        };
        self.used.call(settings, evaluate).await
    }
}

impl Notifier {
    /// Lets the plugin check its configuration.
    ///
    /// # Errors
    /// `Config` with its own words, or another failure of the call.
    pub async fn configure(&self) -> Result<(), CallError> {
        self.0.configure().await
    }

    /// Sends once; retrying is the caller's affair.
    pub async fn notify(&self, message: Message) -> (Result<Receipt, CallError>, Cost) {
        let Some(pre) = self.0.component.0.notifier.clone() else {
            return (Err(no_such(Kind::Notifier)), Cost::default());
        };
        let notify = Notify {
            pre,
            config: self.0.config(),
            message,
        };
        self.0.call(Settings::default(), notify).await
    }
}

impl Action {
    /// Lets the plugin check its configuration.
    ///
    /// # Errors
    /// `Config` with its own words, or another failure of the call.
    pub async fn configure(&self) -> Result<(), CallError> {
        self.0.configure().await
    }

    /// Acts once. With `dry_run` every host call that would change something answers `denied`.
    pub async fn act(
        &self,
        alert: Alert,
        attempt: u32,
        dry_run: bool,
    ) -> (Result<Outcome, CallError>, Cost) {
        let Some(pre) = self.0.component.0.action.clone() else {
            return (Err(no_such(Kind::Action)), Cost::default());
        };
        let act = Act {
            pre,
            config: self.0.config(),
            alert,
            attempt,
            dry_run,
        };
        let settings = Settings {
            host: CallSettings {
                dry_run,
                ..CallSettings::default()
            },
            wall: None,
            discard: false,
        };
        self.0.call(settings, act).await
    }
}

macro_rules! debug_by_id {
    ($($name:ident: $used:tt),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("id", &self.$used.using.settings.id)
                    .field("component", &self.$used.component)
                    .finish_non_exhaustive()
            }
        }
    )*};
}

debug_by_id!(Probe: 0, Rule: used, Notifier: 0, Action: 0);
