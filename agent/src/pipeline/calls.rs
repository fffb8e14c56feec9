//! One rule's component is asked: its columns in chunks that fit into a call, and what it answered as
//! observations.

use super::inputs::Columns;
use super::remembered::Remembered;
use crate::plugin::LiveRule;
use crate::sandbox::types::{self, CallError, Needs, Verdicts};
use watchfire_engine::input::Observation;
use watchfire_engine::model::{ByFingerprint, Now, Severities};

/// Instances in one guest call. Bounds what crosses the boundary at once (4 MiB of hostcall fuel)
/// with room for labels of 400 bytes an instance.
const INSTANCES_A_CALL: usize = 5_000;

/// As [`INSTANCES_A_CALL`] where the rule remembers: with 4 KiB of each, half of the 4 MiB.
const REMEMBERING_A_CALL: usize = 500;

/// Raw points in one guest call, 16 bytes each: 2 MiB.
const POINTS_A_CALL: usize = 128 << 10;

/// Who calls a rule's component.
pub(crate) trait Ask {
    /// One call; `batch` holds at most [`INSTANCES_A_CALL`] instances.
    fn ask(
        &self,
        live: &LiveRule,
        batch: types::Batch,
    ) -> impl Future<Output = Result<Verdicts, CallError>> + Send;
}

/// Asks the component, in chunks; one failed chunk fails the rule.
pub(super) async fn all_of(
    ask: &impl Ask,
    live: &LiveRule,
    memory: &Remembered,
    columns: &Columns,
    firing: Option<&ByFingerprint<Severities>>,
    at: Now,
) -> Result<Verdicts, CallError> {
    let a_call = instances_a_call(&live.needs, columns);
    let mut all = Verdicts::default();
    let mut from = 0;
    while from < columns.instances.len() {
        let to = columns.instances.len().min(from + a_call);
        let batch = batch_of(&live.needs, memory, columns, firing, at, from..to);
        let mut part = ask.ask(live, batch).await?;
        let first = u32::try_from(from).unwrap_or(u32::MAX);
        part.notes.iter_mut().for_each(|(at, _)| *at += first);
        all.breached.append(&mut part.breached);
        all.values.append(&mut part.values);
        all.limits.append(&mut part.limits);
        all.notes.append(&mut part.notes);
        all.memory.append(&mut part.memory);
        from = to;
    }
    Ok(all)
}

/// How many instances fit into one call, by what the rule wants of each.
fn instances_a_call(needs: &Needs, columns: &Columns) -> usize {
    let most = if needs.memory {
        REMEMBERING_A_CALL
    } else {
        INSTANCES_A_CALL
    };
    // Of each input that with the most points: usually all instances have as many.
    let longest = |input: &Vec<Vec<(u64, f64)>>| input.iter().map(Vec::len).max().unwrap_or(0);
    let points: usize = columns.points.iter().map(longest).sum();
    most.min(POINTS_A_CALL / points.max(1)).max(1)
}

fn batch_of(
    needs: &Needs,
    memory: &Remembered,
    columns: &Columns,
    firing: Option<&ByFingerprint<Severities>>,
    at: Now,
    part: std::ops::Range<usize>,
) -> types::Batch {
    let instances = &columns.instances[part.clone()];
    types::Batch {
        now_ms: at.wall.0,
        columns: columns
            .values
            .iter()
            .map(|column| column[part.clone()].to_vec())
            .collect(),
        active: instances
            .iter()
            .map(|instance| {
                firing
                    .and_then(|all| all.get(&instance.fingerprint))
                    .copied()
                    .unwrap_or_default()
            })
            .collect(),
        labels: if needs.labels {
            instances
                .iter()
                .map(|instance| {
                    let labels = instance.labels.iter();
                    labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
                })
                .collect()
        } else {
            Vec::new()
        },
        memory: if needs.memory {
            instances
                .iter()
                .map(|i| {
                    memory
                        .get(&i.fingerprint)
                        .map_or_else(Vec::new, |m| m.to_vec())
                })
                .collect()
        } else {
            Vec::new()
        },
        points: columns
            .points
            .iter()
            .map(|input| input[part.clone()].to_vec())
            .collect(),
    }
}

pub(super) fn observations(columns: Columns, verdicts: Verdicts) -> Vec<Observation> {
    let mut notes = vec![None; columns.instances.len()];
    for (at, note) in verdicts.notes {
        if let Some(place) = notes.get_mut(at as usize) {
            *place = Some(note.into());
        }
    }
    let mut notes = notes.into_iter();
    let mut memory = verdicts.memory.into_iter();
    columns
        .instances
        .into_iter()
        .zip(columns.seen)
        .enumerate()
        .map(|(at, (instance, seen))| Observation {
            instance,
            seen,
            breached: verdicts.breached.get(at).copied().flatten(),
            value: verdicts.values.get(at).copied().unwrap_or(f64::NAN),
            limit: verdicts.limits.get(at).copied().unwrap_or(f64::NAN),
            note: notes.next().flatten(),
            memory: memory.next().filter(|m| !m.is_empty()).map(Into::into),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_wants_bounds_a_call() {
        let fit = |memory: bool, points: usize| {
            let needs = Needs {
                memory,
                ..Needs::default()
            };
            let columns = Columns {
                points: vec![vec![vec![(0, 0.0); points]; 2]],
                ..Columns::default()
            };
            instances_a_call(&needs, &columns)
        };
        assert_eq!(fit(false, 0), INSTANCES_A_CALL);
        assert_eq!(fit(true, 0), REMEMBERING_A_CALL);
        assert_eq!(fit(false, 720), 182);
        assert_eq!(fit(true, POINTS_A_CALL * 2), 1, "never none");
    }
}
