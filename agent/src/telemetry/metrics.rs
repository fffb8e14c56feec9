//! Every metric of our own, in one list.
//!
//! A metric is a field of [`Metrics`]; one without labels is used as it is, one with labels through
//! `with([values])`, in the order in which the list names the labels. Hot paths keep what `with` returns.

use super::accounts::Failures;
use super::exposition::Exposition;
use super::instrument::{Counter, Family, Gauge, Histogram, Info, Instrument};
use std::time::SystemTime;

/// Seconds: parts of a round. From what a pure step takes to what a slow disk or guest takes.
const ROUND: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Seconds: a probe's run; its usual deadline is 5 s.
const RUN: &[f64] = &[0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0];
/// Seconds: a run starts late by this much. The promise is p99 < 50 ms.
const LATENESS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];
/// Seconds: from a transition to the first attempt. The targets are 60 s, 5 min, 15 min, 60 min.
const DELAY: &[f64] = &[0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0];

macro_rules! metrics {
    ($($field:ident: $type:ty = $name:literal [$($label:literal)*] $buckets:expr, $help:literal;)*) => {
        /// The instruments, one field a metric. Shared in an `Arc`.
        #[derive(Debug)]
        pub struct Metrics {
            /// Seconds since 1970.
            started_secs: f64,
            /// The texts that belong to the counts of failures.
            pub(super) failures: Failures,
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $type,)*
        }

        /// The list: what every metric is called and what it means.
        pub const LIST: &[Info] = &[$(Info {
            name: $name,
            help: $help,
            kind: <$type as Instrument>::KIND,
            labels: &[$($label),*],
            buckets: $buckets,
        }),*];

        impl Metrics {
            fn zero(started_secs: f64) -> Self {
                let mut infos = LIST.iter();
                let mut next = || infos.next().expect("the list has an entry for each field");
                Metrics { started_secs, failures: Failures::default(), $($field: Instrument::new(next()),)* }
            }

            /// Writes all of them.
            pub fn write(&self, to: &mut Exposition) {
                // The log begins before the metrics, and keeps its count itself.
                self.log_lines_dropped.catch_up(super::log_writer::dropped());
                let mut infos = LIST.iter();
                $(
                    let info = infos.next().expect("the list has an entry for each field");
                    if to.family(info.name, info.kind, info.help) {
                        self.$field.write(info, &[], to);
                    }
                )*
                super::process::write(to, self.started_secs);
            }
        }
    };
}

metrics! {
    up: Gauge = "watchfire_up" [] &[], "1 while the agent runs.";
    build_info: Family<Gauge, 1> = "watchfire_build_info" ["version"] &[], "Always 1; the label is what matters.";
    start_time: Gauge = "watchfire_start_time_seconds" [] &[], "Start of the agent, seconds since 1970.";
    rounds: Counter = "watchfire_rounds_total" [] &[], "Rounds of the pipeline.";
    rounds_missed: Counter = "watchfire_rounds_missed_total" [] &[], "Rounds skipped because the one before was still busy.";
    round_duration: Histogram = "watchfire_round_duration_seconds" [] ROUND, "From the end of a collection to its decisions being durable.";
    stage_duration: Family<Histogram, 1> = "watchfire_stage_duration_seconds" ["stage"] ROUND, "Time one stage took for a round.";
    probe_runs: Family<Counter, 2> = "watchfire_probe_runs_total" ["probe" "outcome"] &[], "Runs of a probe by outcome.";
    probe_run_duration: Family<Histogram, 1> = "watchfire_probe_run_duration_seconds" ["probe"] RUN, "Time a run of the probe took.";
    probe_lateness: Histogram = "watchfire_probe_lateness_seconds" [] LATENESS, "How long after its due time a run began.";
    probe_skipped: Family<Counter, 1> = "watchfire_probe_skipped_total" ["probe"] &[], "Turns skipped because the run before was still busy.";
    samples: Family<Counter, 1> = "watchfire_samples_total" ["probe"] &[], "Samples taken in.";
    samples_refused: Family<Counter, 2> = "watchfire_samples_refused_total" ["probe" "reason"] &[], "Samples not taken in: the probe has too many series (over_limit), or another one has this series (duplicate).";
    series: Family<Gauge, 1> = "watchfire_series" ["probe"] &[], "Series that the probe yields.";
    families_hidden: Gauge = "watchfire_metrics_hidden" [] &[], "Metrics of plugins left out of this page because their name is taken.";
    rule_evaluations: Family<Counter, 2> = "watchfire_rule_evaluations_total" ["rule" "outcome"] &[], "Rounds of a rule by outcome.";
    transitions: Family<Counter, 1> = "watchfire_transitions_total" ["to"] &[], "Changes of an alert's state by the new state.";
    alerts: Family<Gauge, 2> = "watchfire_alerts" ["state" "severity"] &[], "Alerts that are not ok.";
    notifications: Family<Counter, 3> = "watchfire_notifications_total" ["notifier" "reason" "outcome"] &[], "Attempts to deliver by outcome.";
    suppressed: Family<Counter, 2> = "watchfire_notifications_suppressed_total" ["notifier" "reason"] &[], "Notifications that were due and not sent: silenced, inhibited, flapping, acknowledged, unrouted.";
    detection_delay: Family<Histogram, 1> = "watchfire_detection_delay_seconds" ["severity"] ROUND, "From the sample that raised an alert to its transition being durable.";
    delivery_delay: Family<Histogram, 1> = "watchfire_delivery_delay_seconds" ["severity"] DELAY, "From the transition to the first attempt to tell it; muted ones are not counted.";
    acceptance_delay: Family<Histogram, 1> = "watchfire_acceptance_delay_seconds" ["severity"] DELAY, "From the decision to send to its acceptance, retries included.";
    outbox_pending: Gauge = "watchfire_outbox_pending" [] &[], "Notifications not delivered yet.";
    recovery_attempts: Family<Counter, 2> = "watchfire_recovery_attempts_total" ["procedure" "step"] &[], "Steps of recovery attempts.";
    plugin_calls: Family<Counter, 4> = "watchfire_plugin_calls_total" ["plugin" "use" "kind" "outcome"] &[], "Calls into a component by outcome.";
    plugin_wall: Family<Counter, 2> = "watchfire_plugin_wall_seconds_total" ["plugin" "use"] &[], "Time from call to answer.";
    plugin_wall_max: Family<Gauge, 2> = "watchfire_plugin_wall_seconds_max" ["plugin" "use"] &[], "Longest call since the start.";
    plugin_cpu: Family<Counter, 2> = "watchfire_plugin_cpu_seconds_total" ["plugin" "use"] &[], "Part of the wall time in which calls held a thread: in the component, and in the host where it does not wait.";
    plugin_host: Family<Counter, 2> = "watchfire_plugin_host_seconds_total" ["plugin" "use"] &[], "Part of the wall time spent in calls to the host.";
    plugin_memory: Family<Gauge, 2> = "watchfire_plugin_memory_bytes_max" ["plugin" "use"] &[], "Largest memory of a call since the start.";
    plugin_bytes_out: Family<Counter, 2> = "watchfire_plugin_bytes_out_total" ["plugin" "use"] &[], "Bytes sent to the network.";
    plugin_requests: Family<Counter, 2> = "watchfire_plugin_requests_total" ["plugin" "use"] &[], "Requests and connections made.";
    plugin_refusals: Family<Counter, 2> = "watchfire_plugin_refusals_total" ["plugin" "use"] &[], "Host calls refused for want of a grant.";
    plugin_samples: Family<Counter, 2> = "watchfire_plugin_samples_total" ["plugin" "use"] &[], "Samples collected.";
    plugin_quarantined: Family<Gauge, 2> = "watchfire_plugin_quarantined" ["plugin" "use"] &[], "1 while the use is quarantined: not called for now.";
    plugin_quarantines: Family<Counter, 2> = "watchfire_plugin_quarantines_total" ["plugin" "use"] &[], "Times that the use was quarantined.";
    plugin_withheld: Family<Counter, 2> = "watchfire_plugin_withheld_total" ["plugin" "use"] &[], "Calls not made because the use was quarantined.";
    reloads: Family<Counter, 2> = "watchfire_reloads_total" ["what" "outcome"] &[], "Reloads of configuration and plugins by outcome.";
    config_valid: Gauge = "watchfire_config_valid" [] &[], "Whether the configuration on disk is the one that runs.";
    commit_duration: Histogram = "watchfire_commit_duration_seconds" [] ROUND, "Time of one commit to the state store.";
    heartbeats: Family<Counter, 1> = "watchfire_heartbeats_total" ["outcome"] &[], "Beats to the outside dead-man's switch by outcome: sent, failed, withheld.";
    heartbeat_sent_at: Gauge = "watchfire_heartbeat_last_success_timestamp_seconds" [] &[], "When the last one arrived, seconds since 1970; 0: none did.";
    store_degraded: Gauge = "watchfire_store_degraded" [] &[], "1 while the state is not durable.";
    window_bytes: Gauge = "watchfire_window_bytes" [] &[], "Memory set aside for windows longer than 2 h.";
    log_lines_dropped: Counter = "watchfire_log_lines_dropped_total" [] &[], "Lines of the log that nobody read in time: dropped, so that the agent does not wait.";
    history_degraded: Gauge = "watchfire_store_history_degraded" [] &[], "1 while samples are not written to disk.";
    history_bytes: Gauge = "watchfire_store_history_bytes" [] &[], "Size of the history of samples on disk.";
    history_series: Gauge = "watchfire_store_history_series" [] &[], "Series that are written to the history now.";
    history_oldest: Gauge = "watchfire_store_history_oldest_timestamp_seconds" [] &[], "Start of the oldest samples on disk; NaN: none.";
    history_samples: Counter = "watchfire_store_history_samples_total" [] &[], "Samples taken into the history.";
    history_dropped: Counter = "watchfire_store_history_dropped_total" [] &[], "Samples that the history lost: the disk or its thread did not keep up.";
    history_chunk_bytes: Counter = "watchfire_store_history_chunk_bytes_total" [] &[], "Bytes of compressed samples handed to the disk.";
}

impl Metrics {
    /// All at zero, but for those that describe the process.
    pub fn new(version: &str) -> Self {
        let started = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let metrics = Metrics::zero(started.as_secs_f64());
        metrics.up.set(1.0);
        metrics.start_time.set(started.as_secs_f64());
        metrics.build_info.with([version]).set(1.0);
        metrics.config_valid.set(1.0);
        metrics
    }

    /// Seconds since 1970 when this process began to count.
    pub fn started_secs(&self) -> f64 {
        self.started_secs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_follow_the_conventions_and_stand_once() {
        let mut seen = HashSet::new();
        for info in LIST {
            let counter = info.kind == crate::sandbox::types::FamilyKind::Counter;
            assert!(seen.insert(info.name), "{} stands twice", info.name);
            assert!(info.name.starts_with("watchfire_"), "{}", info.name);
            assert_eq!(info.name.ends_with("_total"), counter, "{}", info.name);
            assert!(info.help.ends_with('.'), "{}", info.name);
            assert!(info.buckets.is_sorted(), "{}", info.name);
            for label in info.labels {
                assert!(watchfire_engine::model::is_label_name(label), "{label}");
            }
        }
    }

    #[test]
    fn the_process_is_described_too() {
        let metrics = Metrics::new("1.2.3");
        let mut out = Exposition::default();
        metrics.write(&mut out);
        let text = out.finish();
        assert!(text.contains("watchfire_build_info{version=\"1.2.3\"} 1\n"));
        assert!(text.contains("\nprocess_resident_memory_bytes "));
    }
}
