//! Series that go: their probe no longer mentions them, or is gone itself.

use super::{Entry, History, SWEEP_EVERY, SeriesId};
use std::collections::HashSet;
use watchfire_engine::model::ProbeId;

impl History {
    /// Forgets the series of all probes but these, after a reload.
    pub fn retain_probes(&mut self, keep: &HashSet<ProbeId>) {
        self.forget(|entry| !keep.contains(&entry.probe));
        self.probes.retain(|probe, _| keep.contains(probe));
    }

    /// Forgets what this probe no longer mentions.
    pub(super) fn sweep(&mut self, probe: &ProbeId) {
        let Some(state) = self.probes.get_mut(probe) else {
            return;
        };
        if state.ran_at.since(state.swept_at) < SWEEP_EVERY {
            return;
        }
        let now = state.ran_at;
        state.swept_at = now;
        let after = self.limits.forget_after;
        self.forget(|entry| entry.probe == *probe && now.since(entry.last.at) > after);
    }

    pub(super) fn forget(&mut self, gone: impl Fn(&Entry) -> bool) {
        let mut metrics = HashSet::new();
        let mut probes = HashSet::new();
        for (at, slot) in (0_u32..).zip(&mut self.entries) {
            let Some(entry) = slot.take_if(|entry| gone(entry)) else {
                continue;
            };
            self.free.push(at);
            self.ids.remove(&entry.series);
            self.counts.forgotten_total += 1;
            self.counts.long_bytes_reserved -= entry.long_bytes();
            if let Some(family) = self.families.get_mut(&entry.family) {
                family.series -= 1;
                if family.series == 0 {
                    self.families.remove(&entry.family);
                }
            }
            if let Some(probe) = self.probes.get_mut(&entry.probe) {
                probe.series -= 1;
                probes.insert(entry.probe);
            }
            metrics.insert(entry.series.metric);
        }
        // Once for each metric and probe, not once a series: thousands may go together.
        let entries = &self.entries;
        let lives = |id: SeriesId| entries[id.0 as usize].is_some();
        for name in metrics {
            if let Some(metric) = self.metrics.get_mut(&name) {
                metric.ids.retain(|id| lives(*id));
                metric.selections.clear();
                if metric.ids.is_empty() {
                    self.metrics.remove(&name);
                }
            }
        }
        for probe in probes {
            if let Some(probe) = self.probes.get_mut(&probe) {
                probe.order.retain(|(_, id)| lives(*id));
            }
        }
    }
}
