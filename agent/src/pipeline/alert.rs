//! Third stage, the only owner of the engine: feeds it, commits what it decided, hands that out.
//!
//! ```text
//!   judged rounds ----+                    +--> answer to evaluate (at once)
//!   reports (first) --+--> engine::step ---+--> state.db: records + events, one transaction
//!   commands ---------+                    +--> then: sends to deliver, attempts to recover, views
//!   notices, timer ---+
//! ```
//!
//! Invariant: nothing leaves the process before the transaction that says so is durable. Where the
//! store fails, notifications go out all the same (a full disk is what we must report), but no action
//! is started without its record.

use super::collect::IDLE_EVERY;
use super::evaluate::Judged;
use super::judges::Active;
use super::note::note;
use super::report::{Report, together};
use super::shown::{Shown, count_by_state, procedures, raised_to};
use super::view::{AlertsView, CommandRequest, Order, PipelineView, RecoveryView};
use crate::clock::{Clock, SuspendWatch};
use crate::plugin::{Generation, Notice};
use crate::store::{Commit, EventType, NewEvent, StateStore};
use crate::telemetry::metrics::Metrics;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use watchfire_engine::input::{
    ActionOutcome, ActionReport, Command, CommandKind, Condition, DeliveryOutcome, DeliveryReport,
};
use watchfire_engine::model::{Instance, Labels, Now, RuleId, Severity};
use watchfire_engine::silence::SilenceStanding;
use watchfire_engine::{Effects, Input, Send, StartAttempt, State, step};

/// A longer sleep of the host is told to the engine; a shorter one is a late round like any other
/// (alerting.md 1.3).
const SUSPEND_MIN: Duration = Duration::from_secs(60);

/// The stage.
pub(super) struct Alert {
    pub(super) state: State,
    pub(super) clock: Clock,
    pub(super) store: StateStore,
    pub(super) generation: watch::Receiver<Arc<Generation>>,
    /// Bounded at one.
    pub(super) judged: mpsc::Receiver<Judged>,
    /// Bounded; always drained first, so that no cycle of full channels can block.
    pub(super) reports: mpsc::Receiver<Report>,
    /// Operators; bounded.
    pub(super) commands: mpsc::Receiver<CommandRequest>,
    /// Conditions and events of the reloader and others; bounded.
    pub(super) notices: mpsc::Receiver<Notice>,
    /// Bounded; a full channel comes back as a failed delivery, which the engine retries.
    pub(super) sends: mpsc::Sender<(Send, Arc<Generation>)>,
    /// Bounded at the engine's concurrency, which is far below the channel's room.
    pub(super) attempts: mpsc::Sender<(StartAttempt, Arc<Generation>)>,
    pub(super) alerts: watch::Sender<Arc<AlertsView>>,
    pub(super) recovery: watch::Sender<Arc<RecoveryView>>,
    pub(super) pipeline: watch::Sender<Arc<PipelineView>>,
    pub(super) metrics: Arc<Metrics>,
    /// Effects of the restart, to commit before anything else.
    pub(super) boot: Effects,
}

impl Alert {
    /// Runs until evaluate has ended, then takes in the reports of what is still under way.
    pub(super) async fn run(mut self) {
        let mut shown = Shown::default();
        let mut suspends = SuspendWatch::new();
        let mut current = self.generation.borrow_and_update().clone();
        shown.pipeline.longest_interval = longest_interval(&current);
        let boot = std::mem::take(&mut self.boot);
        self.carry_out(boot, &current, self.clock.now(), &mut shown)
            .await;
        self.publish(&current, &mut shown);
        loop {
            if let Some(report) = shown.own_reports.pop_front() {
                for input in together(report, || shown.own_reports.pop_front()) {
                    self.take(input, &current, &mut shown).await;
                }
                continue;
            }
            let due = self.state.next_due();
            let until_due = due.map(|at| at.since(self.clock.now().at));
            tokio::select! {
                biased;
                Some(report) = self.reports.recv() => {
                    for input in together(report, || self.reports.try_recv().ok()) {
                        self.take(input, &current, &mut shown).await;
                    }
                }
                Some(request) = self.commands.recv() => {
                    self.command(request, &current, &mut shown).await;
                }
                Some(notice) = self.notices.recv() => {
                    self.notice(notice, &current, &mut shown).await;
                }
                // An error would be ready for ever: at a stop the reloader ends before evaluate does.
                Ok(()) = self.generation.changed() => {
                    let next = self.generation.borrow_and_update().clone();
                    self.reload(next, &mut current, &mut shown).await;
                }
                judged = self.judged.recv() => {
                    let Some(judged) = judged else { break };
                    if judged.generation.number > current.number {
                        let next = judged.generation.clone();
                        self.reload(next, &mut current, &mut shown).await;
                    }
                    let lost = suspends.slept();
                    if lost > SUSPEND_MIN {
                        self.take(Input::Resumed { lost }, &current, &mut shown).await;
                    }
                    self.round(judged, &current, &mut shown).await;
                }
                () = sleep_for(until_due) => {
                    self.take(Input::Timer, &current, &mut shown).await;
                }
            }
        }
        // Evaluate has ended: what is under way may still report; what does not stays in the outbox.
        drop(std::mem::replace(&mut self.sends, mpsc::channel(1).0));
        drop(std::mem::replace(&mut self.attempts, mpsc::channel(1).0));
        while let Some(report) = self.reports.recv().await {
            for input in together(report, || self.reports.try_recv().ok()) {
                self.take(input, &current, &mut shown).await;
            }
        }
    }

    async fn round(&mut self, judged: Judged, current: &Arc<Generation>, shown: &mut Shown) {
        let started = Instant::now();
        let Judged {
            generation,
            mut round,
            conditions,
            at,
            closed,
            answer,
        } = judged;
        if generation.number != current.number {
            drop_changed_rules(&mut round.rules, &generation, current);
        }
        let missed = round.missed;
        self.tell_unfit(current, at, shown).await;
        let effects = step(
            &mut self.state,
            &current.config.policy,
            Input::Round(round),
            at,
        );
        // Evaluate went away only at shutdown.
        let _ = answer.send(Active::of(&self.state, &current.config.policy.rules));
        let changed = !effects.is_empty();
        let raised: Vec<Severity> = effects.events.iter().filter_map(raised_to).collect();
        self.carry_out(effects, current, at, shown).await;
        for severity in raised {
            let delay = self.clock.now().at.since(at.at);
            let histogram = self.metrics.detection_delay.with([severity.name()]);
            histogram.observe_time(delay);
        }
        self.metrics.rounds.inc();
        self.metrics.rounds_missed.add_count(u64::from(missed));
        self.metrics.round_duration.observe_time(closed.elapsed());
        self.metrics
            .stage_duration
            .with(["alert"])
            .observe_time(started.elapsed());
        shown.pipeline.rounds += 1;
        shown.pipeline.missed += u64::from(missed);
        shown.pipeline.last_round = Some(at.wall);
        shown.pipeline.last_latency = Some(closed.elapsed());
        for condition in conditions {
            self.take(Input::Condition(condition), current, shown).await;
        }
        self.pipeline.send_replace(Arc::new(shown.pipeline.clone()));
        if changed || !self.alerts.borrow().alerts.is_empty() {
            self.publish(current, shown);
        }
    }

    /// Says which actions are quarantined now, so that their procedures spend no attempt on them.
    async fn tell_unfit(&mut self, current: &Arc<Generation>, at: Now, shown: &mut Shown) {
        let actions = current.actions.iter();
        let unfit = actions.filter(|(_, live)| live.quarantine.wait().is_some());
        let unfit: BTreeSet<_> = unfit.map(|(id, _)| id.clone()).collect();
        if unfit != shown.unfit {
            shown.unfit.clone_from(&unfit);
            let policy = &current.config.policy;
            let effects = step(&mut self.state, policy, Input::Unfit(unfit), at);
            self.carry_out(effects, current, at, shown).await;
        }
    }

    /// One input other than a round: step, commit, hand out, show.
    async fn take(&mut self, input: Input, current: &Arc<Generation>, shown: &mut Shown) {
        let now = self.clock.now();
        let effects = step(&mut self.state, &current.config.policy, input, now);
        if !effects.is_empty() {
            self.carry_out(effects, current, now, shown).await;
            self.publish(current, shown);
        }
    }

    async fn reload(
        &mut self,
        next: Arc<Generation>,
        current: &mut Arc<Generation>,
        shown: &mut Shown,
    ) {
        if next.number == current.number {
            return;
        }
        *current = next;
        shown.pipeline.longest_interval = longest_interval(current);
        self.take(Input::Reload, current, shown).await;
        for condition in conditions_of_removed_probes(&self.state, current) {
            self.take(Input::Condition(condition), current, shown).await;
        }
        self.publish(current, shown);
    }

    async fn command(
        &mut self,
        request: CommandRequest,
        current: &Arc<Generation>,
        shown: &mut Shown,
    ) {
        let CommandRequest { by, what, reply } = request;
        let refusal = match &what {
            Order::Command(what) => self.refusal(what, current, shown),
            Order::Push(batch) => {
                let policy = &current.config.policy;
                let mut refusals = batch.iter().map(|p| self.state.refuses(policy, p));
                refusals.find_map(|refusal| refusal)
            }
        };
        if let Some(refusal) = refusal {
            // The caller may have gone; nothing was done.
            let _ = reply.send(Err(refusal));
            return;
        }
        let input = match what {
            Order::Command(what) => Input::Command(Command { by, what }),
            Order::Push(batch) => Input::Pushed(batch),
        };
        self.take(input, current, shown).await;
        // The caller may have gone; the command stands.
        let _ = reply.send(match &shown.store_error {
            None => Ok(()),
            Some(error) => Err(format!("done, but not durable: {error}")),
        });
    }

    /// Why a command cannot be done, for people.
    fn refusal(&self, what: &CommandKind, current: &Generation, shown: &Shown) -> Option<String> {
        let known = |id: &watchfire_engine::model::ProcedureId| {
            let procedures = &current.config.policy.procedures;
            procedures.iter().any(|procedure| procedure.id == *id)
        };
        match what {
            CommandKind::Approve { procedure } if !known(procedure) => Some(format!(
                "no [[recovery]] has the id {:?}",
                procedure.as_str()
            )),
            CommandKind::Reset { procedure } if !known(procedure) => Some(format!(
                "no [[recovery]] has the id {:?}",
                procedure.as_str()
            )),
            CommandKind::Approve { procedure } => {
                let waits = shown
                    .recovery
                    .procedures
                    .iter()
                    .any(|view| view.id == *procedure && !view.waiting_for_approval.is_empty());
                (!waits)
                    .then(|| format!("{:?} does not wait for an approval now", procedure.as_str()))
            }
            CommandKind::Silence(silence) => {
                let refused = silence.check(&current.config.policy).err();
                refused.map(|refusal| refusal.to_string())
            }
            CommandKind::Unsilence { id } => {
                let wall = self.clock.now().wall;
                let mut silences = self.state.silences();
                match silences.find(|kept| kept.silence.id == *id) {
                    None => Some(format!("no silence has the id {:?}", &**id)),
                    Some(kept) if kept.standing(wall) == SilenceStanding::Expired => {
                        Some(format!("silence {id} is over already"))
                    }
                    Some(_) => None,
                }
            }
            CommandKind::Acknowledge { alert, .. } => {
                let alerts = self.state.alerts();
                let found = alerts
                    .iter()
                    .find(|view| view.instance.fingerprint == *alert);
                match found {
                    None => Some(format!(
                        "no alert that is not ok has the fingerprint {alert}"
                    )),
                    Some(view) if view.severity.is_none() => Some(format!(
                        "{} is {}: only what fires can be acknowledged",
                        view.instance, view.state
                    )),
                    Some(_) => None,
                }
            }
            _ => None,
        }
    }

    async fn notice(&mut self, notice: Notice, current: &Arc<Generation>, shown: &mut Shown) {
        match notice {
            Notice::Condition(condition) => {
                self.take(Input::Condition(condition), current, shown).await;
            }
            Notice::Event {
                kind,
                subject,
                body,
            } => {
                let now = self.clock.now();
                // `plugin_rejected` is what was reloaded and how it ended.
                if let Some((what, outcome)) = kind.split_once('_') {
                    self.metrics.reloads.with([what, outcome]).inc();
                }
                let of_config = kind.starts_with("config");
                let event_type = if of_config {
                    EventType::Reload
                } else {
                    EventType::Plugin
                };
                let body = json!({ "event": kind, "subject": &*subject, "details": body });
                let event = NewEvent::of_agent(event_type, now.at, now.wall, &body);
                self.commit(Vec::new(), vec![event], now, shown).await;
            }
        }
    }

    /// Commits, then hands out.
    async fn carry_out(
        &mut self,
        effects: Effects,
        current: &Arc<Generation>,
        now: Now,
        shown: &mut Shown,
    ) {
        let Effects {
            records,
            events,
            sends,
            attempts,
        } = effects;
        for event in &events {
            note(event, &self.metrics, shown);
        }
        let durable = if records.is_empty() && events.is_empty() {
            true
        } else {
            let rows = events.iter().map(NewEvent::from_engine).collect();
            self.commit(records, rows, now, shown).await
        };
        for send in sends {
            for (severity, delay) in shown.untold.told(&send, self.clock.now()) {
                let histogram = self.metrics.delivery_delay.with([severity.name()]);
                histogram.observe_time(delay);
            }
            let id = send.notification.id.clone();
            let attempt = send.attempt;
            if self.sends.try_send((send, current.clone())).is_err() {
                shown
                    .own_reports
                    .push_back(Report::Delivery(DeliveryReport {
                        id,
                        attempt,
                        outcome: DeliveryOutcome::Failed {
                            message: "too many deliveries are under way".to_owned(),
                            retry_after: None,
                            answered: false,
                        },
                    }));
            }
        }
        for start in attempts {
            let refused = ActionReport {
                procedure: start.procedure.clone(),
                alert: start.alert.fingerprint,
                attempt: start.attempt,
                outcome: ActionOutcome::Failed {
                    message: "not started: the attempt could not be written down first".to_owned(),
                },
            };
            if !durable || self.attempts.try_send((start, current.clone())).is_err() {
                shown.own_reports.push_back(Report::Action(refused));
            }
        }
    }

    /// One transaction. False: it is not durable; the store keeps trying and says so by a meta-alert.
    async fn commit(
        &mut self,
        records: Vec<watchfire_engine::effect::RecordChange>,
        events: Vec<NewEvent>,
        now: Now,
        shown: &mut Shown,
    ) -> bool {
        let started = Instant::now();
        let commit = Commit {
            records,
            events,
            clock: self.clock.saved(now),
            plugin_state: Vec::new(),
        };
        let result = self.store.commit(commit).await;
        self.metrics.commit_duration.observe_time(started.elapsed());
        let error = match result {
            Ok(committed) => {
                shown.last_seq = shown.last_seq.max(committed.last_seq);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let durable = error.is_none();
        if error.is_some() != shown.store_error.is_some() {
            self.metrics.store_degraded.set_flag(!durable);
            self.store_condition(error.as_deref(), shown);
        }
        shown.store_error = error;
        durable
    }

    /// Raises or clears `watchfire_store_degraded`. Its own records ride with the next commit that works.
    fn store_condition(&mut self, error: Option<&str>, shown: &mut Shown) {
        match error {
            Some(error) => tracing::error!(
                error,
                "state is not durable: monitoring goes on from memory"
            ),
            None => tracing::info!("state is durable again"),
        }
        let condition = Condition {
            alert: Arc::new(Instance::new(
                RuleId::new("watchfire_store_degraded"),
                Labels::default(),
            )),
            severity: Severity::High,
            active: error.is_some(),
            summary: error.unwrap_or("state is durable again").into(),
        };
        shown.own_reports.push_front(Report::Condition(condition));
    }

    fn publish(&mut self, current: &Generation, shown: &mut Shown) {
        let alerts = self.state.alerts();
        let outbox_pending = self.state.outbox_pending();
        self.metrics.alerts.replace(count_by_state(&alerts));
        self.metrics.outbox_pending.set_count(outbox_pending);
        self.alerts.send_replace(Arc::new(AlertsView {
            alerts,
            silences: self.state.silences().cloned().collect(),
            outbox_pending,
            last_seq: shown.last_seq,
            store_error: shown.store_error.clone(),
        }));
        shown.recovery.paused = self.state.is_paused() || current.config.policy.recover.paused;
        let now = self.clock.now();
        shown.recovery.procedures = procedures(&self.state, current, now);
        self.recovery.send_replace(Arc::new(shown.recovery.clone()));
    }
}

/// Rules whose meaning differs between the generation that judged them and the current one are not
/// heard this round: they hold, and the next round judges them anew.
fn drop_changed_rules(
    rules: &mut Vec<watchfire_engine::input::RuleRound>,
    judged_under: &Generation,
    current: &Generation,
) {
    let digest = |generation: &Generation, id: &RuleId| {
        let rules = &generation.config.policy.rules;
        rules
            .iter()
            .find(|rule| rule.id == *id)
            .map(|rule| rule.digest)
    };
    rules.retain(|rule| digest(judged_under, &rule.rule) == digest(current, &rule.rule));
}

/// What the agent says of probes that were removed (they fail, their series are refused) is over: nobody runs
/// them, so nobody would see them succeed.
pub(crate) fn conditions_of_removed_probes(
    state: &State,
    generation: &Generation,
) -> Vec<Condition> {
    let configured = |id: &str| {
        let tables = generation.config.probes.iter().any(|p| p.id.as_str() == id);
        tables
            || generation
                .probes
                .iter()
                .any(|live| live.config.id.as_str() == id)
    };
    let alerts = state.alerts();
    let gone = alerts.iter().filter(|view| {
        let probe = view.instance.labels.get("probe");
        view.instance.rule.as_str().starts_with("watchfire_")
            && probe.is_some_and(|probe| !configured(probe))
    });
    gone.map(|view| Condition {
        alert: view.instance.clone(),
        severity: view.snapshot.severity,
        active: false,
        summary: "the probe was removed".into(),
    })
    .collect()
}

fn longest_interval(generation: &Generation) -> Duration {
    let intervals = generation.probes.iter().map(|live| {
        let adaptive = live
            .config
            .adaptive
            .map_or(Duration::ZERO, |adaptive| adaptive.max);
        live.config.every.max(adaptive)
    });
    intervals.max().unwrap_or(IDLE_EVERY)
}

async fn sleep_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
