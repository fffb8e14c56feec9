//! Everything the engine remembers.

use crate::alert::Alert;
use crate::amnesia::Amnesia;
use crate::delivery::{Key, changes_what_is_told};
use crate::effect::{AlertView, Effects, Table};
use crate::gate;
use crate::group::Group;
use crate::input::Input;
use crate::model::{
    ByFingerprint, Fingerprint, Instance, Moment, NotifierId, Now, ProbeId, ProcedureId, RuleId,
    Severities,
};
use crate::outbox::{Slot, Subject};
use crate::persist::kept_whole;
use crate::policy::{Policy, ProcedurePolicy};
use crate::recovery::Ledger;
use crate::silence::KeptSilence;
use crate::turn::Turn;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Everything the engine remembers.
#[derive(Clone, Debug)]
pub struct State {
    /// Begin of the engine's life: buckets are aligned to it.
    pub(crate) born: Moment,
    /// Begin of this process: the boot's grace and what was never seen count from it.
    pub(crate) started: Moment,
    /// Begin of this process, or end of the last suspend: graces of probes count from it.
    pub(crate) boot: Moment,
    /// Time of the last step, for views.
    pub(crate) last: Moment,
    pub(crate) rules: BTreeMap<RuleId, RuleState>,
    pub(crate) probes: BTreeMap<ProbeId, ProbeState>,
    pub(crate) outbox: BTreeMap<(NotifierId, Subject), Slot>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) ledgers: BTreeMap<(ProcedureId, Fingerprint), Ledger>,
    pub(crate) silences: BTreeMap<Arc<str>, KeptSilence>,
    pub(crate) paused: bool,
    /// No round since the start, the restart or the resume: what came due meanwhile waits for its data.
    pub(crate) unjudged: bool,
    /// No round since the last reload: whom a route names anew hears from the next one on.
    pub(crate) reloaded: bool,
    /// The engine's own record is stored: the begin of its life outlives a restart.
    pub(crate) stored: bool,
    /// Numbers the messages in the order in which they were decided upon.
    pub(crate) decided: u64,
    /// Starts of attempts on this host within the last hour.
    pub(crate) host_starts: VecDeque<Moment>,
    /// `stale_after` of each rule as of its last round.
    pub(crate) stale_after: BTreeMap<RuleId, Duration>,
    /// The state before this one was lost, and what follows from it is under way.
    pub(crate) amnesia: Option<Amnesia>,
    /// Notifiers whose component is quarantined, and until when nothing is handed to them.
    pub(crate) gates: BTreeMap<NotifierId, Moment>,
    /// Procedures whose action may not be called for now; not stored, the agent says it anew.
    pub(crate) unfit: BTreeSet<ProcedureId>,
    /// Ids of the configured rules in the order of the file, so that a reload ends those that it removes in
    /// that order.
    pub(crate) file_order: Vec<RuleId>,
    /// Rules whose healthy instances have rows, too ([`crate::persist::kept_whole`]).
    pub(crate) kept_whole: BTreeSet<RuleId>,
}

/// All instances of one rule, or of one kind of meta-alert.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleState {
    pub(crate) alerts: ByFingerprint<Alert>,
    /// Instances that need a look beside their own observation, in the order of their labels.
    pub(crate) live: BTreeMap<crate::model::Labels, Fingerprint>,
    /// Failures of the component in a row.
    pub(crate) failures: u32,
    /// No round since the start or the last suspend: an absent series is unknown.
    pub(crate) fresh: bool,
    /// Instances that were restored and not observed since.
    pub(crate) unmet: BTreeSet<Fingerprint>,
    /// Its last round, as stored.
    pub(crate) observed: Option<Moment>,
    /// When a dead-man rule's round was last written.
    pub(crate) written: Option<Moment>,
    /// Instances whose memory changed since it was last written.
    pub(crate) unsaved: BTreeSet<Fingerprint>,
    /// When that was.
    pub(crate) saved: Option<Moment>,
}

/// One probe.
#[derive(Clone, Debug)]
pub(crate) struct ProbeState {
    pub(crate) every: Duration,
    /// Last success, or the start of the grace.
    pub(crate) good: Moment,
    pub(crate) error: Option<Arc<str>>,
}

/// A stored row that the engine cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreError {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: String,
    /// Why.
    pub message: String,
}

impl State {
    /// An engine that has seen nothing: a first start, or one after the state was lost.
    pub fn new(policy: &Policy, now: Now) -> Self {
        State {
            born: now.at,
            started: now.at,
            boot: now.at,
            last: now.at,
            rules: BTreeMap::new(),
            probes: BTreeMap::new(),
            outbox: BTreeMap::new(),
            groups: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            silences: BTreeMap::new(),
            paused: false,
            unjudged: false,
            reloaded: false,
            stored: false,
            decided: 0,
            host_starts: VecDeque::new(),
            stale_after: BTreeMap::new(),
            amnesia: None,
            gates: BTreeMap::new(),
            unfit: BTreeSet::new(),
            file_order: policy.rules.iter().map(|rule| rule.id.clone()).collect(),
            kept_whole: kept_whole(policy),
        }
    }

    /// When [`Input::Timer`] is due: retries, group flushes. None: nothing waits.
    pub fn next_due(&self) -> Option<Moment> {
        let behind = self.behind_others();
        let retries = self.outbox.iter().filter_map(|(key, slot)| {
            let waiting = slot.waiting.as_ref()?;
            let due = gate::due_behind(self.gates.get(&key.0), waiting.next_at);
            (slot.flying.is_none() && !behind.contains(key)).then_some(due)
        });
        let retries = retries.chain(self.next_expiry());
        if self.unjudged {
            return retries.min();
        }
        let groups = self.groups.iter().filter_map(|(key, group)| {
            let due = group.due?;
            (!self.is_flying(key, group)).then_some(due)
        });
        let live = self.rules.values().flat_map(|rule| {
            let live = rule.live.values();
            live.filter_map(|fingerprint| rule.alerts.get(fingerprint)?.more.as_ref())
        });
        let waits = live.flat_map(|more| more.told.values().filter_map(|told| told.waits_until));
        retries.chain(groups).chain(waits).min()
    }

    /// The instances of `rule` that fire, and at which severities (recovering ones included): what a
    /// rule component needs to judge them by their clear thresholds.
    pub fn active(&self, rule: &RuleId) -> Vec<(Fingerprint, Severities)> {
        let Some(rule) = self.rules.get(rule) else {
            return Vec::new();
        };
        rule.live
            .values()
            .filter_map(|fingerprint| {
                let active = rule.alerts.get(fingerprint)?.active();
                (!active.is_empty()).then_some((*fingerprint, active))
            })
            .collect()
    }

    /// The instances of `rule` that wait for their next observation: those that are not plainly ok, and
    /// those that were not observed since the restart. A round in which one of them has no series any
    /// more has to say so, or it would fire, or keep its place, for ever.
    pub fn awaited(&self, rule: &RuleId) -> Vec<Arc<Instance>> {
        let Some(rule) = self.rules.get(rule) else {
            return Vec::new();
        };
        let waits = |f: &&Fingerprint| rule.alerts.get(f).is_some_and(|alert| !alert.is_quiet());
        let busy = rule.live.values().filter(waits);
        let unmet = rule.unmet.iter().filter(|f| !waits(f));
        let awaited = busy.chain(unmet).filter_map(|f| rule.alerts.get(f));
        awaited.map(|alert| alert.instance.clone()).collect()
    }

    /// The rules' own memory, per instance, for a start.
    pub fn memories(&self, rule: &RuleId) -> Vec<(Fingerprint, Arc<[u8]>)> {
        let Some(rule) = self.rules.get(rule) else {
            return Vec::new();
        };
        let alerts = rule.alerts.iter();
        alerts
            .filter_map(|(fingerprint, alert)| Some((*fingerprint, alert.memory.clone()?)))
            .collect()
    }

    /// Every alert that is not plainly ok, meta-alerts included; ordered by rule, then labels.
    pub fn alerts(&self) -> Vec<AlertView> {
        let live = self.rules.iter().flat_map(|(id, rule)| {
            let stale_after = self.stale_after.get(id).copied().unwrap_or(Duration::MAX);
            rule.live.values().filter_map(move |fingerprint| {
                let alert = rule.alerts.get(fingerprint)?;
                let flapping = alert.more.as_ref().is_some_and(|more| more.flapping);
                (!alert.is_quiet() || flapping).then(|| alert.view(self.last, stale_after))
            })
        });
        live.collect()
    }

    /// Rules with an alert that is not ok, pending ones included.
    pub fn not_ok(&self) -> BTreeSet<RuleId> {
        let rules = self.rules.iter().filter(|(_, rule)| {
            rule.live
                .values()
                .any(|fingerprint| rule.alerts.get(fingerprint).is_some_and(|a| !a.is_quiet()))
        });
        rules.map(|(id, _)| id.clone()).collect()
    }

    /// Undelivered notifications.
    pub fn outbox_pending(&self) -> usize {
        let slots = self.outbox.values();
        slots
            .map(|slot| usize::from(slot.waiting.is_some()) + usize::from(slot.flying.is_some()))
            .sum()
    }

    /// Until when a procedure holds back after the state was lost; none: it does not.
    pub fn held_until(&self, procedure: &ProcedurePolicy) -> Option<Moment> {
        let until = self
            .amnesia
            .as_ref()?
            .held_until(&procedure.id, procedure.window)?;
        (self.last < until).then_some(until)
    }

    /// Whether an operator paused recovery.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Alerts (as `cpu{host="a"}`) for which the procedure waits for an approval.
    pub fn waiting_for_approval(&self, procedure: &ProcedureId) -> Vec<String> {
        self.ledgers
            .values()
            .filter(|ledger| ledger.procedure == *procedure && ledger.waits)
            .filter_map(|ledger| self.alert(&ledger.rule, &ledger.alert))
            .map(|alert| alert.instance.to_string())
            .collect()
    }

    /// Silences, by id; those that are over for [`crate::silence::KEPT`] at most, too.
    pub fn silences(&self) -> impl Iterator<Item = &KeptSilence> {
        self.silences.values()
    }

    /// The group's last message is under way: the next one waits for its report.
    pub(crate) fn is_flying(&self, key: &str, group: &Group) -> bool {
        let place = (group.notifier.clone(), Subject::Group(key.to_owned()));
        let slot = self.outbox.get(&place);
        slot.is_some_and(|slot| slot.flying.is_some())
    }

    /// Messages that wait for an older one in another place that speaks of the same alert to the same notifier:
    /// one alert's for a group's, a group's for one alert's that is under way. A resolve never precedes its fire.
    pub(crate) fn behind_others(&self) -> BTreeSet<Key> {
        let groups = self.outbox.iter().flat_map(|(key, slot)| {
            let of_group = matches!(key.1, Subject::Group(_));
            let items = slot.flying.iter().chain(&slot.waiting);
            let items = items.map(move |item| (key, item));
            items
                .filter(move |(_, item)| of_group && changes_what_is_told(item.notification.reason))
        });
        let mut groups = groups.peekable();
        if groups.peek().is_none() {
            return BTreeSet::new();
        }
        // Of a storm's groups thousands of alerts are told, and hardly one by itself.
        let alone = self
            .outbox
            .iter()
            .filter_map(|((notifier, subject), slot)| {
                let Subject::Alert(alert) = subject else {
                    return None;
                };
                Some(((notifier, *alert), slot))
            });
        let alone: HashMap<(&NotifierId, Fingerprint), &Slot> = alone.collect();
        let mut behind = BTreeSet::new();
        for (key, item) in groups.filter(|_| !alone.is_empty()) {
            for cover in &item.covers {
                let Some(slot) = alone.get(&(&key.0, cover.alert)) else {
                    continue;
                };
                if slot.waiting.as_ref().is_some_and(|w| item.order < w.order) {
                    behind.insert((key.0.clone(), Subject::Alert(cover.alert)));
                }
                if slot.flying.as_ref().is_some_and(|f| f.order < item.order) {
                    behind.insert(key.clone());
                }
            }
        }
        behind
    }

    pub(crate) fn alert(&self, rule: &RuleId, fingerprint: &Fingerprint) -> Option<&Alert> {
        self.rules.get(rule)?.alerts.get(fingerprint)
    }

    pub(crate) fn alert_mut(
        &mut self,
        rule: &RuleId,
        fingerprint: &Fingerprint,
    ) -> Option<&mut Alert> {
        self.rules.get_mut(rule)?.alerts.get_mut(fingerprint)
    }
}

/// Takes one input and decides. `now` never goes back; `policy` may differ from the last step's only
/// with [`Input::Reload`].
pub fn step(state: &mut State, policy: &Policy, input: Input, now: Now) -> Effects {
    let mut turn = Turn::new(state, policy, now);
    if matches!(
        input,
        Input::Command(_)
            | Input::Condition(_)
            | Input::Deliveries(_)
            | Input::Reload
            | Input::Resumed { .. }
    ) {
        turn.left_to_timer = turn.state.decided;
    }
    match input {
        Input::Round(round) => turn.round(round),
        Input::Timer => turn.timer(),
        Input::Deliveries(reports) => turn.deliveries(reports),
        Input::Action(report) => turn.action(report),
        Input::Command(command) => turn.command(command),
        Input::Pushed(batch) => turn.pushed(batch),
        Input::Condition(condition) => turn.condition(condition),
        Input::Lost { receivers } => turn.lost(receivers),
        Input::Unfit(procedures) => turn.state.unfit = procedures,
        Input::Reload => turn.reload(),
        Input::Resumed { lost } => turn.resumed(lost),
    }
    turn.finish()
}
