//! What goes into a rule and what comes out.

use super::cut_owned;
use crate::sandbox::bindings::rule::exports::watchfire::plugin::rule as guest;
use crate::sandbox::bindings::wit::types as wit;
use crate::sandbox::types::{Batch, CallError, Needs, Verdicts};
use std::time::Duration;
use watchfire_engine::model::{Severities, Severity};

/// Bytes of memory that a rule may keep for one instance.
pub(crate) const MEMORY_BYTES_MAX: usize = 4 << 10;
/// Bytes of a note.
const NOTE_BYTES_MAX: usize = 1 << 10;

/// What a rule wants, checked against the inputs it was given.
pub(crate) fn needs(answer: guest::Needs, inputs: &[String]) -> Result<Needs, CallError> {
    if let Some(unknown) = answer.points_of.iter().find(|name| !inputs.contains(name)) {
        return Err(bad(format!(
            "it wants points of {unknown:?}, which is no input"
        )));
    }
    Ok(Needs {
        labels: answer.labels,
        memory: answer.memory,
        points_of: answer.points_of,
        back: Duration::from_millis(answer.back_ms),
    })
}

/// The batch as the guest gets it.
pub(crate) fn batch_to_wit(batch: Batch) -> guest::Batch {
    let moments = |points: Vec<(u64, f64)>| -> Vec<guest::Moment> {
        let moment = |(at, value)| guest::Moment { at, value };
        points.into_iter().map(moment).collect()
    };
    guest::Batch {
        now: batch.now_ms,
        columns: batch.columns,
        active: batch.active.into_iter().map(severities_to_wit).collect(),
        labels: batch.labels,
        memory: batch.memory,
        points: batch
            .points
            .into_iter()
            .map(|input| input.into_iter().map(moments).collect())
            .collect(),
    }
}

/// One verdict for each of `instances`; its memory only where the rule `remembers`.
///
/// # Errors
/// `BadResult` where lists have another length than the batch or a bound is broken.
pub(crate) fn verdicts(
    answer: guest::Verdicts,
    instances: usize,
    remembers: bool,
) -> Result<Verdicts, CallError> {
    let whole = |what: &str, length: usize, may_be_empty: bool| {
        if length == instances || (may_be_empty && length == 0) {
            return Ok(());
        }
        Err(bad(format!(
            "{what} has {length} entries for {instances} instances"
        )))
    };
    whole("breached", answer.breached.len(), false)?;
    whole("values", answer.values.len(), true)?;
    whole("limits", answer.limits.len(), true)?;
    whole("memory", answer.memory.len(), !remembers)?;
    if let Some((instance, _)) = answer
        .notes
        .iter()
        .find(|(instance, _)| *instance as usize >= instances)
    {
        return Err(bad(format!(
            "a note is about instance {instance} of {instances}"
        )));
    }
    if answer.notes.len() > instances {
        return Err(bad("it has more notes than instances".into()));
    }
    if answer
        .memory
        .iter()
        .any(|memory| memory.len() > MEMORY_BYTES_MAX)
    {
        return Err(bad(format!(
            "it wants to remember more than {MEMORY_BYTES_MAX} bytes of an instance"
        )));
    }
    let filled = |column: Vec<f64>| {
        if column.is_empty() {
            vec![f64::NAN; instances]
        } else {
            column
        }
    };
    Ok(Verdicts {
        breached: answer
            .breached
            .into_iter()
            .map(|breached| breached.map(severities))
            .collect(),
        values: filled(answer.values),
        limits: filled(answer.limits),
        notes: answer
            .notes
            .into_iter()
            .map(|(instance, note)| (instance, cut_owned(note, NOTE_BYTES_MAX)))
            .collect(),
        memory: if remembers { answer.memory } else { Vec::new() },
    })
}

const FLAGS: [(Severity, wit::Severities); 4] = [
    (Severity::Low, wit::Severities::LOW),
    (Severity::Warning, wit::Severities::WARNING),
    (Severity::High, wit::Severities::HIGH),
    (Severity::Critical, wit::Severities::CRITICAL),
];

fn severities_to_wit(set: Severities) -> wit::Severities {
    let mut flags = wit::Severities::empty();
    for (severity, flag) in FLAGS {
        if set.contains(severity) {
            flags |= flag;
        }
    }
    flags
}

fn severities(flags: wit::Severities) -> Severities {
    let set = FLAGS.into_iter().filter(|(_, flag)| flags.contains(*flag));
    set.map(|(severity, _)| severity).collect()
}

fn bad(text: String) -> CallError {
    CallError::BadResult(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(instances: usize) -> guest::Verdicts {
        guest::Verdicts {
            breached: vec![Some(wit::Severities::HIGH | wit::Severities::LOW); instances],
            values: Vec::new(),
            limits: vec![1.0; instances],
            notes: Vec::new(),
            memory: Vec::new(),
        }
    }

    #[test]
    fn columns_may_be_left_out() {
        let good = verdicts(answer(2), 2, false).unwrap();
        let both: Severities = [Severity::Low, Severity::High].into_iter().collect();
        assert_eq!(good.breached, vec![Some(both); 2]);
        assert!(good.values.iter().all(|value| value.is_nan()) && good.values.len() == 2);
        assert_eq!(
            severities_to_wit(both),
            wit::Severities::HIGH | wit::Severities::LOW
        );
    }

    #[test]
    fn lists_of_another_length_are_refused() {
        let refused = verdicts(answer(3), 2, false).unwrap_err();
        assert_eq!(
            refused,
            CallError::BadResult("breached has 3 entries for 2 instances".into())
        );
        let mut far = answer(2);
        far.notes.push((2, "x".into()));
        assert!(verdicts(far, 2, false).is_err());
        let mut long = answer(1);
        long.memory.push(vec![0; MEMORY_BYTES_MAX + 1]);
        assert!(verdicts(long, 1, true).is_err());
        // A rule that remembers says what for every instance.
        assert!(verdicts(answer(1), 1, true).is_err());
    }

    #[test]
    fn points_are_those_of_an_input() {
        let wanted = guest::Needs {
            labels: false,
            memory: false,
            points_of: vec!["b".into()],
            back_ms: 1000,
        };
        assert!(needs(wanted.clone(), &["a".into()]).is_err());
        let good = needs(wanted, &["a".into(), "b".into()]).unwrap();
        assert_eq!(good.back, Duration::from_secs(1));
    }
}
