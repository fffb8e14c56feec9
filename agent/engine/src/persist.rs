//! From changes to records, and back after a restart (alerting.md 1.4).
//!
//! Each record is a JSON object of its own; unknown keys are passed over and missing ones take their
//! default, so that a record of an older version can be read.

use crate::alert::{Alert, Counts, More, is_default};
use crate::amnesia::Amnesia;
use crate::composite;
use crate::effect::{Effects, Happening, Reason, RecordChange, Table};
use crate::group::Group;
use crate::machine::Phase;
use crate::metas::meta;
use crate::model::{Instance, Labels, Moment, NotifierId, Now, ProbeId, RuleId};
use crate::outbox::{Item, Slot, Subject};
use crate::policy::{AtLeast, Policy};
use crate::recovery::Ledger;
use crate::silence::KeptSilence;
use crate::state::{RestoreError, State};
use crate::turn::Turn;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Key of the engine's own record.
const ENGINE: &str = "engine";

/// Prefix of a rule's last round.
const ROUND: &str = "round/";

/// One alert as stored. The store keeps a copy of each in memory: what says nothing is left out.
#[derive(Serialize, Deserialize)]
struct AlertRecord {
    rule: RuleId,
    labels: Labels,
    #[serde(default, skip_serializing_if = "is_default")]
    probes: Arc<[ProbeId]>,
    phases: [Phase; 4],
    #[serde(default, skip_serializing_if = "is_default")]
    observed: Option<Moment>,
    #[serde(default, skip_serializing_if = "is_default")]
    absences: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    memory: Option<Arc<[u8]>>,
    #[serde(default, skip_serializing_if = "is_default")]
    counts: Counts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<Box<More>>,
}

/// One place of the outbox as stored.
#[derive(Serialize, Deserialize)]
struct SlotRecord {
    notifier: NotifierId,
    subject: Subject,
    slot: Slot,
}

/// A message that was under way when the process ended, and the reason of the newer one that goes out
/// in its place.
type Overtaken = (NotifierId, Item, Reason);

/// The engine's own memory as stored.
#[derive(Serialize, Deserialize)]
struct EngineRecord {
    born: Moment,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    host_starts: VecDeque<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amnesia: Option<Amnesia>,
}

/// Rules whose healthy instances have rows, too: those that composites stand on, and dead-man rules, of which a
/// restart must know when each instance was last seen.
pub(crate) fn kept_whole(policy: &Policy) -> BTreeSet<RuleId> {
    let dead_man = policy.rules.iter().filter(|rule| rule.absent.is_some());
    let dead_man = dead_man.map(|rule| &rule.id);
    composite::children(policy)
        .chain(dead_man)
        .cloned()
        .collect()
}

impl Turn<'_> {
    /// Turns everything that changed into records.
    pub(crate) fn write(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        let mut records = Vec::new();
        let mut put = |table: Table, key: String, body: Option<String>| {
            records.push(RecordChange { table, key, body });
        };
        let all_kept: BTreeSet<&RuleId> = if dirty.alerts.is_empty() {
            BTreeSet::new()
        } else {
            let full = self.policy.rules.iter().filter(|rule| {
                let state = self.state.rules.get(&rule.id);
                state.is_some_and(|state| state.is_full(rule))
            });
            let full = full.map(|rule| &rule.id);
            let counting = self.policy.rules.iter();
            let counting = counting.filter(|rule| rule.at_least.is_some());
            let counting = counting.map(|rule| &rule.id);
            full.chain(&self.state.kept_whole).chain(counting).collect()
        };
        for (rule, fingerprint) in &dirty.alerts {
            let alert = self.state.alert(rule, fingerprint);
            let kept = alert.filter(|alert| alert.is_worth_a_row() || all_kept.contains(rule));
            put(
                Table::Alert,
                fingerprint.to_string(),
                kept.and_then(alert_record),
            );
        }
        for key in &dirty.slots {
            let slot = self.state.outbox.get(key).cloned();
            let record = slot.map(|slot| SlotRecord {
                notifier: key.0.clone(),
                subject: key.1.clone(),
                slot,
            });
            put(
                Table::Outbox,
                format!("{}/{}", key.0, key.1),
                record.as_ref().and_then(json),
            );
        }
        for key in &dirty.groups {
            put(
                Table::Group,
                key.clone(),
                self.state.groups.get(key).and_then(json),
            );
        }
        for key in &dirty.ledgers {
            let ledger = self.state.ledgers.get(key);
            put(
                Table::Attempt,
                format!("{}/{}", key.0, key.1),
                ledger.and_then(json),
            );
        }
        for id in &dirty.silences {
            put(
                Table::Silence,
                id.to_string(),
                self.state.silences.get(id).and_then(json),
            );
        }
        for rule in &dirty.rounds {
            let state = self.state.rules.get(rule);
            let busy = state.filter(|state| {
                let mut alerts = state.live.values().filter_map(|f| state.alerts.get(f));
                alerts.any(|alert| !alert.is_quiet())
            });
            // A round in which all is quiet needs no memory; the records of its alerts say so.
            let key = format!("{ROUND}{rule}");
            let mut rules = self.policy.rules.iter();
            let counts = rules.any(|policy| policy.id == *rule && policy.at_least.is_some())
                || self.state.kept_whole.contains(rule);
            let busy = busy.or(state.filter(|_| counts));
            if let Some(observed) = busy.and_then(|state| state.observed) {
                put(Table::Engine, key, json(&observed));
            } else if !self.policy.rules.iter().any(|policy| policy.id == *rule) {
                put(Table::Engine, key, None);
            }
        }
        // Once in a life: buckets are aligned to its begin. Beyond that an idle agent writes nothing.
        let first = !self.state.stored;
        if dirty.engine || first {
            self.state.stored = true;
            let record = EngineRecord {
                born: self.state.born,
                paused: self.state.paused,
                host_starts: self.state.host_starts.clone(),
                amnesia: self.state.amnesia.clone(),
            };
            records.push(RecordChange {
                table: Table::Engine,
                key: ENGINE.to_owned(),
                body: json(&record),
            });
        }
        self.effects.records = records;
    }
}

fn alert_record(alert: &Alert) -> Option<String> {
    json(&AlertRecord {
        rule: alert.instance.rule.clone(),
        labels: alert.instance.labels.clone(),
        probes: alert.instance.probes.clone(),
        phases: alert.phases,
        observed: alert.observed,
        absences: alert.absences,
        memory: alert.memory.clone(),
        counts: alert.counts,
        more: alert.more.clone(),
    })
}

/// None cannot happen: all records are plain maps, lists, texts and finite numbers; a value that is not
/// finite is stored as null.
fn json<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}

impl State {
    /// Takes up the committed rows after a restart at `now`. Rows that cannot be read are left out and
    /// named; the effects close what the outage left open (attempts that ran become lost, rules that
    /// are gone resolve).
    pub fn restore(
        rows: impl IntoIterator<Item = (Table, String, String)>,
        policy: &Policy,
        now: Now,
    ) -> (Self, Effects, Vec<RestoreError>) {
        let mut state = State::new(policy, now);
        let mut errors = Vec::new();
        let mut rounds: Vec<(RuleId, Moment)> = Vec::new();
        let mut overtaken: Vec<Overtaken> = Vec::new();
        for (table, key, body) in rows {
            let read = match table {
                Table::Alert => read(&body).map(|record| state.take_alert(record)),
                Table::Outbox => {
                    read(&body).map(|record| overtaken.extend(state.take_slot(record, now)))
                }
                Table::Group => read::<Group>(&body).map(|group| {
                    state.groups.insert(key.clone(), group);
                }),
                Table::Attempt => read::<Ledger>(&body).map(|ledger| {
                    let key = (ledger.procedure.clone(), ledger.alert);
                    state.ledgers.insert(key, ledger);
                }),
                Table::Silence => read::<KeptSilence>(&body).map(|mut kept| {
                    kept.prepare(policy);
                    state.silences.insert(kept.silence.id.clone(), kept);
                }),
                Table::Engine => match key.strip_prefix(ROUND) {
                    Some(rule) => read(&body).map(|at| rounds.push((RuleId::new(rule), at))),
                    None => read::<EngineRecord>(&body).map(|record| {
                        state.born = record.born;
                        state.paused = record.paused;
                        state.host_starts = record.host_starts;
                        state.amnesia = record.amnesia;
                    }),
                },
            };
            if let Err(message) = read {
                errors.push(RestoreError {
                    table,
                    key,
                    message,
                });
            }
        }
        for (rule, at) in rounds {
            let counts = policy.rules.iter().find(|policy| policy.id == rule);
            state.take_round(&rule, at, counts.and_then(|policy| policy.at_least));
        }
        for rule in &policy.rules {
            state.rules.entry(rule.id.clone()).or_default();
        }
        let mut turn = Turn::new(&mut state, policy, now);
        // What an operator did during the outage comes before the retries of this instant.
        turn.left_to_timer = turn.state.decided;
        turn.event(None, Happening::Back { from: "restart" });
        for (notifier, item, by) in &overtaken {
            turn.superseded(notifier, item, *by);
        }
        turn.begin_anew(true);
        turn.lose_attempts();
        turn.reload();
        turn.end_meta(meta::DEAD_LETTER);
        turn.dirty.engine = true;
        let effects = turn.finish();
        (state, effects, errors)
    }

    fn take_alert(&mut self, record: AlertRecord) {
        let instance = Instance::new(record.rule, record.labels);
        let instance = Arc::new(instance.yielded_by(record.probes));
        let mut alert = Alert::new(instance.clone());
        alert.phases = record.phases;
        alert.observed = record.observed;
        alert.absences = record.absences;
        alert.memory = record.memory;
        alert.counts = record.counts;
        alert.more = record.more;
        let rule = self.rules.entry(instance.rule.clone()).or_default();
        // What is gone is among those looked at: the message of its end may be under way.
        if !alert.is_idle() || alert.is_gone() {
            rule.live
                .insert(instance.labels.clone(), instance.fingerprint);
        }
        let own = alert
            .more
            .as_ref()
            .is_none_or(|more| !more.meta && more.external.is_none());
        if own && alert.is_quiet() && alert.observed.is_some() {
            rule.unmet.insert(instance.fingerprint);
        }
        rule.alerts.insert(instance.fingerprint, alert);
    }

    /// What was under way may not have arrived: it is sent again, with the same id, unless something
    /// newer waits behind it already.
    fn take_slot(&mut self, record: SlotRecord, now: Now) -> Option<Overtaken> {
        let SlotRecord {
            notifier,
            subject,
            mut slot,
        } = record;
        let mut overtaken = None;
        if let Some(flying) = slot.flying.take() {
            match &slot.waiting {
                None => slot.waiting = Some(flying),
                Some(newer) => {
                    overtaken = Some((notifier.clone(), flying, newer.notification.reason));
                }
            }
        }
        if let Some(waiting) = &mut slot.waiting {
            waiting.next_at = waiting
                .next_at
                .min(now.at + std::time::Duration::from_secs(3_600));
        }
        let items = slot.waiting.iter().map(|item| item.order);
        self.decided = items.fold(self.decided, u64::max);
        self.outbox.insert((notifier, subject), slot);
        overtaken
    }

    /// Alerts that were observed in their rule's last round have no row of their own for it.
    fn take_round(&mut self, rule: &RuleId, at: Moment, at_least: Option<AtLeast>) {
        let whole = self.kept_whole.contains(rule);
        let Some(state) = self.rules.get_mut(rule) else {
            return;
        };
        for alert in state.alerts.values_mut() {
            if let (Some(at_least), Some(more)) = (at_least, &mut alert.more) {
                more.buckets.recall(at_least, self.born, at);
            }
            let lagging = alert.more.as_ref().is_some_and(|more| more.lagging);
            if !lagging && (whole || !alert.is_quiet()) {
                alert.observed = alert.observed.max(Some(at));
            }
        }
    }
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| error.to_string())
}
