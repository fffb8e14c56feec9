//! How a use of each kind comes up: what is asked of its component before it serves.

use super::{Live, Refusal, Spec};
use crate::config::{NotifierConfig, ProbeConfig, RecoveryConfig, RuleConfig};
use crate::plugin::generation::{LiveAction, LiveNotifier, LiveProbe, LiveRule};
use crate::plugin::quarantine::Quarantine;
use crate::plugin::registry::Installed;
use crate::sandbox::LoadError;
use crate::sandbox::types::{CallError, Grants, Kind, Limits, Use};
use std::sync::Arc;

/// Of the wrong kind, or with grants that make no sense.
fn unusable(error: LoadError) -> Refusal {
    Refusal {
        reason: crate::plugin::plain(&crate::plugin::chain(&error)),
        about_table: true,
    }
}

impl Live for LiveProbe {
    type Table = ProbeConfig;
    const KIND: Kind = Kind::Probe;

    fn spec(table: &ProbeConfig) -> Option<Spec> {
        Some(Spec {
            id: table.id.as_str().into(),
            plugin: table.plugin.clone(),
            config: table.config.clone(),
            grants: table.grant.clone(),
            wall: Some(table.timeout),
        })
    }

    fn table(&self) -> &ProbeConfig {
        &self.config
    }

    fn is_same(a: &ProbeConfig, b: &ProbeConfig) -> bool {
        a == b
    }

    fn made_with(&self) -> (&[u8; 32], &Limits) {
        (&self.sha256, &self.limits)
    }

    async fn bring_up(
        table: ProbeConfig,
        installed: &Installed,
        used: Use,
        trial: bool,
        quarantine: Arc<Quarantine>,
    ) -> Result<Self, Refusal> {
        let limits = used.limits.clone();
        let probe = installed.component.probe(used).map_err(unusable)?;
        let configured = probe.configure().await;
        configured.map_err(|error| Refusal::of_call("configure", &error))?;
        if trial {
            let (result, _) = probe.trial().await;
            match result {
                // The other side's affair, and no slower than before: the plugin did its part.
                Ok(_)
                | Err(
                    CallError::Unavailable { .. }
                    | CallError::Rejected(_)
                    | CallError::WallLimit(_),
                ) => {}
                Err(error) => return Err(Refusal::of_call("a trial collection", &error)),
            }
        }
        Ok(LiveProbe {
            config: table,
            probe,
            sha256: installed.sha256,
            limits,
            quarantine,
        })
    }
}

impl Live for LiveRule {
    type Table = RuleConfig;
    const KIND: Kind = Kind::Rule;

    /// None for a composite, which no component judges.
    fn spec(table: &RuleConfig) -> Option<Spec> {
        Some(Spec {
            id: table.id.as_str().into(),
            plugin: table.plugin.clone()?,
            config: table.config.clone(),
            grants: Arc::new(Grants::default()),
            wall: None,
        })
    }

    fn table(&self) -> &RuleConfig {
        &self.config
    }

    /// The line it stands in may move.
    fn is_same(a: &RuleConfig, b: &RuleConfig) -> bool {
        let unplaced = |table: &RuleConfig| RuleConfig {
            origin: String::new(),
            ..table.clone()
        };
        unplaced(a) == unplaced(b)
    }

    fn made_with(&self) -> (&[u8; 32], &Limits) {
        (&self.sha256, &self.limits)
    }

    async fn bring_up(
        table: RuleConfig,
        installed: &Installed,
        used: Use,
        _trial: bool,
        quarantine: Arc<Quarantine>,
    ) -> Result<Self, Refusal> {
        let limits = used.limits.clone();
        let rule = installed.component.rule(used).map_err(unusable)?;
        let inputs = table.inputs.iter().map(|input| input.name.to_string());
        let configured = rule.configure(&inputs.collect::<Vec<_>>()).await;
        let needs = configured.map_err(|error| Refusal::of_call("configure", &error))?;
        Ok(LiveRule {
            config: table,
            rule,
            needs,
            sha256: installed.sha256,
            limits,
            quarantine,
        })
    }
}

/// Notifiers and actions come up alike: nothing is sent or done for proof.
macro_rules! live_without_trial {
    ($live:ident, $table:ident, $kind:ident, $component:ident) => {
        impl Live for $live {
            type Table = $table;
            const KIND: Kind = Kind::$kind;

            fn spec(table: &$table) -> Option<Spec> {
                Some(Spec {
                    id: table.id.as_str().into(),
                    plugin: table.plugin.clone(),
                    config: table.config.clone(),
                    grants: table.grant.clone(),
                    wall: Some(table.timeout),
                })
            }

            fn table(&self) -> &$table {
                &self.config
            }

            fn is_same(a: &$table, b: &$table) -> bool {
                a == b
            }

            fn made_with(&self) -> (&[u8; 32], &Limits) {
                (&self.sha256, &self.limits)
            }

            async fn bring_up(
                table: $table,
                installed: &Installed,
                used: Use,
                _trial: bool,
                quarantine: Arc<Quarantine>,
            ) -> Result<Self, Refusal> {
                let limits = used.limits.clone();
                let $component = installed.component.$component(used).map_err(unusable)?;
                let configured = $component.configure().await;
                configured.map_err(|error| Refusal::of_call("configure", &error))?;
                Ok($live {
                    config: table,
                    $component,
                    sha256: installed.sha256,
                    limits,
                    quarantine,
                })
            }
        }
    };
}

live_without_trial!(LiveNotifier, NotifierConfig, Notifier, notifier);
live_without_trial!(LiveAction, RecoveryConfig, Action, action);
