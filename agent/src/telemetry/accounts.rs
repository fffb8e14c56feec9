//! What each use of a component did and cost since the start: read off the metrics, for people.

use super::metrics::Metrics;
use crate::sandbox::types::{CallError, Cost, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use watchfire_engine::model::WallTime;

/// Characters of a failure's text that are kept: a screenful.
const FAILURE_CHARS_MAX: usize = 2_000;

/// Uses whose last failure is kept. As many as a family of metrics keeps.
const FAILURES_KEPT: usize = 4_096;

/// Outcomes that are not the component's fault.
const OTHERS_FAULT: [&str; 5] = ["ok", "config", "denied", "unavailable", "rejected"];

/// What one use, or all uses of a component, did and cost since the start of the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Calls that were made.
    pub calls: u64,
    /// Those that failed by the component's own fault.
    pub failures: u64,
    /// Calls by outcome: `ok`, or the name of an error.
    pub outcomes: BTreeMap<String, u64>,
    /// Calls that were not made because it was quarantined.
    pub withheld: u64,
    /// Times that it was quarantined.
    pub quarantines: u64,
    /// From call to answer, all calls together.
    pub wall_seconds: f64,
    /// The longest call.
    pub wall_seconds_max: f64,
    /// Part of `wall_seconds` in which its calls held a thread.
    pub cpu_seconds: f64,
    /// Part of `wall_seconds` spent in calls to the host.
    pub host_seconds: f64,
    /// The largest memory of a call.
    pub memory_bytes_max: u64,
    /// Bytes sent to the network.
    pub bytes_out: u64,
    /// Requests and connections made.
    pub requests: u64,
    /// Host calls refused for want of a grant.
    pub refusals: u64,
    /// Samples collected.
    pub samples: u64,
    /// The newest failure of its own.
    pub last_failure: Option<LastFailure>,
}

/// A failure by a component's own fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastFailure {
    /// Which use: the id of its table.
    pub id: String,
    /// When.
    pub at: WallTime,
    /// The error's name, as in the label `outcome`.
    pub outcome: String,
    /// What happened; text of a stranger, without control characters.
    pub message: String,
}

/// Accounts by component, then by use.
pub type Accounts = BTreeMap<String, BTreeMap<String, Account>>;

impl Account {
    /// Takes in another one: sums, and the larger of two maxima.
    pub fn add(&mut self, other: &Account) {
        let Account {
            calls,
            failures,
            outcomes,
            withheld,
            quarantines,
            wall_seconds,
            wall_seconds_max,
            cpu_seconds,
            host_seconds,
            memory_bytes_max,
            bytes_out,
            requests,
            refusals,
            samples,
            last_failure,
        } = other;
        self.calls += calls;
        self.failures += failures;
        for (outcome, count) in outcomes {
            *self.outcomes.entry(outcome.clone()).or_default() += count;
        }
        self.withheld += withheld;
        self.quarantines += quarantines;
        self.wall_seconds += wall_seconds;
        self.wall_seconds_max = self.wall_seconds_max.max(*wall_seconds_max);
        self.cpu_seconds += cpu_seconds;
        self.host_seconds += host_seconds;
        self.memory_bytes_max = self.memory_bytes_max.max(*memory_bytes_max);
        self.bytes_out += bytes_out;
        self.requests += requests;
        self.refusals += refusals;
        self.samples += samples;
        let at = |failure: &Option<LastFailure>| failure.as_ref().map(|failure| failure.at);
        if at(last_failure) > at(&self.last_failure) {
            self.last_failure.clone_from(last_failure);
        }
    }
}

/// The last failure of each use of each component.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<BTreeMap<[Box<str>; 2], LastFailure>>);

impl Metrics {
    /// Counts one call into a component: `id` is that of its use.
    pub fn plugin_call(
        &self,
        plugin: &str,
        kind: Kind,
        id: &str,
        error: Option<&CallError>,
        cost: &Cost,
    ) {
        let used = [plugin, id];
        let outcome = error.map_or("ok", CallError::name);
        let calls = self.plugin_calls.with([plugin, id, kind.name(), outcome]);
        calls.inc();
        self.plugin_wall.with(used).add_time(cost.wall);
        let longest = self.plugin_wall_max.with(used);
        longest.raise(cost.wall.as_secs_f64());
        self.plugin_cpu.with(used).add_time(cost.busy);
        self.plugin_host.with(used).add_time(cost.host);
        #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
        let memory = cost.memory_bytes as f64;
        self.plugin_memory.with(used).raise(memory);
        self.plugin_bytes_out.with(used).add_count(cost.bytes_out);
        let requests = self.plugin_requests.with(used);
        requests.add_count(cost.requests.into());
        let refusals = self.plugin_refusals.with(used);
        refusals.add_count(cost.refusals.into());
        if let Some(error) = error.filter(|error| error.is_plugins_fault()) {
            self.keep_failure(used, error);
        }
    }

    fn keep_failure(&self, used: [&str; 2], error: &CallError) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let text = error.to_string();
        let letters = text.chars().take(FAILURE_CHARS_MAX);
        let failure = LastFailure {
            id: used[1].to_owned(),
            at: WallTime(millis),
            outcome: error.name().to_owned(),
            message: letters
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        };
        let mut failures = self
            .failures
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = used.map(Box::from);
        if failures.len() < FAILURES_KEPT || failures.contains_key(&key) {
            failures.insert(key, failure);
        }
    }

    /// The accounts of all components that were ever called.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are whole and not negative"
    )]
    pub fn accounts(&self) -> Accounts {
        let mut all = Accounts::new();
        for ([plugin, id, _, outcome], count) in self.plugin_calls.all() {
            let account = entry(&mut all, &plugin, &id);
            let count = count.get() as u64;
            account.calls += count;
            if !OTHERS_FAULT.contains(&&*outcome) {
                account.failures += count;
            }
            *account.outcomes.entry(outcome.into()).or_default() += count;
        }
        macro_rules! take {
            ($($family:ident => $field:ident as $type:ty),* $(,)?) => {$(
                for ([plugin, id], value) in self.$family.all() {
                    entry(&mut all, &plugin, &id).$field = value.get() as $type;
                }
            )*};
        }
        take! {
            plugin_withheld => withheld as u64,
            plugin_quarantines => quarantines as u64,
            plugin_wall => wall_seconds as f64,
            plugin_wall_max => wall_seconds_max as f64,
            plugin_cpu => cpu_seconds as f64,
            plugin_host => host_seconds as f64,
            plugin_memory => memory_bytes_max as u64,
            plugin_bytes_out => bytes_out as u64,
            plugin_requests => requests as u64,
            plugin_refusals => refusals as u64,
            plugin_samples => samples as u64,
        }
        let failures = self
            .failures
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ([plugin, id], failure) in failures.iter() {
            entry(&mut all, plugin, id).last_failure = Some(failure.clone());
        }
        all
    }
}

fn entry<'a>(all: &'a mut Accounts, plugin: &str, id: &str) -> &'a mut Account {
    let of_plugin = all.entry(plugin.to_owned()).or_default();
    of_plugin.entry(id.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::exposition::Exposition;
    use std::time::Duration;

    fn cost() -> Cost {
        Cost {
            wall: Duration::from_millis(250),
            cpu_ticks: 3,
            busy: Duration::from_millis(40),
            host: Duration::from_millis(125),
            host_calls: 2,
            memory_bytes: 1 << 20,
            bytes_out: 77,
            requests: 1,
            answers: 0,
            refusals: 4,
        }
    }

    #[test]
    fn a_call_is_counted_in_every_figure() {
        let metrics = Metrics::new("1.2.3");
        metrics.plugin_call("probe-host", Kind::Probe, "host", None, &cost());
        let mut out = Exposition::default();
        metrics.write(&mut out);
        let text = out.finish();
        let of_use = r#"{plugin="probe-host",use="host"}"#;
        for (name, value) in [
            ("wall_seconds_total", "0.25"),
            ("wall_seconds_max", "0.25"),
            ("cpu_seconds_total", "0.04"),
            ("host_seconds_total", "0.125"),
            ("memory_bytes_max", "1048576"),
            ("bytes_out_total", "77"),
            ("requests_total", "1"),
            ("refusals_total", "4"),
        ] {
            let line = format!("watchfire_plugin_{name}{of_use} {value}");
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        let calls = r#"watchfire_plugin_calls_total{plugin="probe-host",use="host",kind="probe",outcome="ok"} 1"#;
        assert!(text.lines().any(|l| l == calls), "{calls} in\n{text}");
    }

    #[test]
    fn an_account_holds_all_of_it_and_sums_over_uses() {
        let metrics = Metrics::new("1.2.3");
        let trap = CallError::Trapped("a\nb".into());
        let away = CallError::Rejected("no".into());
        metrics.plugin_call("p", Kind::Probe, "a", None, &cost());
        metrics.plugin_call("p", Kind::Probe, "a", Some(&trap), &cost());
        metrics.plugin_call("p", Kind::Probe, "b", Some(&away), &cost());
        metrics.plugin_samples.with(["p", "a"]).add_count(12);
        metrics.plugin_withheld.with(["p", "a"]).inc();
        metrics.plugin_quarantines.with(["p", "a"]).inc();
        let accounts = metrics.accounts();
        let mut all = Account::default();
        accounts["p"].values().for_each(|one| all.add(one));
        assert_eq!((all.calls, all.failures, all.samples), (3, 1, 12));
        assert_eq!((all.withheld, all.quarantines), (1, 1));
        assert_eq!((all.wall_seconds, all.wall_seconds_max), (0.75, 0.25));
        assert_eq!((all.bytes_out, all.requests, all.refusals), (231, 3, 12));
        assert_eq!(all.memory_bytes_max, 1 << 20);
        let outcomes = [("ok", 1), ("rejected", 1), ("trapped", 1)];
        let outcomes = outcomes.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(all.outcomes, outcomes.into());
        let failure = all.last_failure.expect("the trap");
        assert_eq!(
            (&*failure.id, &*failure.outcome, &*failure.message),
            ("a", "trapped", "the plugin trapped: a b")
        );
        assert_eq!(accounts["p"]["b"].failures, 0);
    }
}
