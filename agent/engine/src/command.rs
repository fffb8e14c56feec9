//! What operators want (decisions.md 15): taken in at once, acted upon at the next round.

use crate::effect::Happening;
use crate::input::{Command, CommandKind};
use crate::model::{Fingerprint, ProcedureId, RuleId, format_duration};
use crate::reconcile::Named;
use crate::silence::LENGTH_MAX;
use crate::turn::{Turn, is_due};
use std::sync::Arc;
use std::time::Duration;

impl Turn<'_> {
    pub(crate) fn command(&mut self, command: Command) {
        let Command { by, what } = command;
        let about = match &what {
            CommandKind::Acknowledge { alert, .. } => {
                self.rule_of(alert).map(|rule| (rule, *alert))
            }
            _ => None,
        };
        let did = match what {
            CommandKind::Acknowledge { alert, lasts } => self.acknowledge(&alert, &by, lasts),
            CommandKind::Silence(silence) => self.silence(silence),
            CommandKind::Unsilence { id } => match self.end_silence(&id, format!("by {by}").into())
            {
                true => format!("ended silence {id}"),
                false => format!("ended silence {id}, which is not there or over"),
            },
            CommandKind::Pause => {
                self.state.paused = true;
                self.dirty.engine = true;
                "paused recovery".to_owned()
            }
            CommandKind::Resume => {
                self.state.paused = false;
                self.dirty.engine = true;
                "resumed recovery".to_owned()
            }
            CommandKind::Approve { procedure } => {
                self.ledgers_of(&procedure, |ledger| {
                    ledger.approved |= ledger.waits;
                    ledger.waits = false;
                });
                format!("approved {procedure}")
            }
            CommandKind::Reset { procedure } => {
                self.ledgers_of(&procedure, |ledger| {
                    ledger.exhausted = false;
                    ledger.starts.clear();
                });
                self.release(&procedure);
                format!("reset {procedure}")
            }
        };
        self.event(
            about.as_ref().map(|(rule, alert)| (rule, alert)),
            Happening::Operator {
                by: by.to_string(),
                did,
            },
        );
    }

    fn rule_of(&self, alert: &Fingerprint) -> Option<RuleId> {
        let mut rules = self.state.rules.iter();
        let (id, _) = rules.find(|(_, rule)| rule.alerts.contains_key(alert))?;
        Some(id.clone())
    }

    fn acknowledge(
        &mut self,
        alert: &Fingerprint,
        by: &Arc<str>,
        lasts: Option<Duration>,
    ) -> String {
        let until = lasts.map(|lasts| self.now.at + lasts.min(LENGTH_MAX));
        let rule = self.rule_of(alert);
        let found = rule.and_then(|rule| {
            let name = self.state.alert(&rule, alert)?.instance.to_string();
            Some((rule, name))
        });
        let Some((rule, name)) = found else {
            return format!("acknowledged {alert}, which is not there");
        };
        if let Some(found) = self.state.alert_mut(&rule, alert)
            && found.standing().severity().is_some()
        {
            let more = found.more();
            more.acknowledged_by = Some(by.clone());
            more.acknowledged_until = until;
            self.dirty.alerts.insert((rule, *alert));
        }
        match lasts {
            Some(lasts) => format!("acknowledged {name} for {}", format_duration(lasts)),
            None => format!("acknowledged {name}"),
        }
    }

    /// In every round: acknowledgements that ran out.
    pub(crate) fn end_acknowledgements(&mut self, live: &[Named]) {
        for (rule, fingerprint) in live {
            let now = self.now.at;
            let alert = self.state.alert_mut(rule, fingerprint);
            let Some(more) = alert.and_then(|alert| alert.more.as_mut()) else {
                continue;
            };
            if !is_due(more.acknowledged_until, now) {
                continue;
            }
            let by = more.acknowledged_by.take();
            more.unacknowledge();
            self.dirty.alerts.insert((rule.clone(), *fingerprint));
            let what = Happening::Operator {
                by: by.as_deref().unwrap_or_default().to_owned(),
                did: "the acknowledgement ran out".to_owned(),
            };
            self.event(Some((rule, fingerprint)), what);
        }
    }

    fn ledgers_of(
        &mut self,
        procedure: &ProcedureId,
        mut change: impl FnMut(&mut crate::recovery::Ledger),
    ) {
        for (key, ledger) in &mut self.state.ledgers {
            if key.0 == *procedure {
                change(ledger);
                self.dirty.ledgers.insert(key.clone());
            }
        }
    }
}
